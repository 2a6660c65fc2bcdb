"""Optional packages: imported when first needed, with a message that names what to install."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

#: import name -> (name on the package index, extra of this wheel that brings it)
OPTIONAL = {
    "matplotlib": ("matplotlib", "plot"),
    "sklearn": ("scikit-learn", "data"),
    "elftools": ("pyelftools", "audit"),
    "capstone": ("capstone", "audit"),
    "rust_demangler": ("rust-demangler", "audit"),
    "onnx": ("onnx", "onnx"),
    "safetensors": ("safetensors", "safetensors"),
}


def require(module: str, what: str) -> Any:
    """Import `module`, or say that `what` needs it and which extra brings it."""
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != top:
            raise
        package, _ = OPTIONAL[top]
        raise ModuleNotFoundError(
            f"{what} needs {package}, which is not installed: pip install {package}",
            name=error.name,
        ) from None


def installed(module: str) -> bool:
    """Whether an optional package is there, without importing it."""
    return importlib.util.find_spec(module) is not None


#: layouts of a bar: one whose postfix tells how training goes, short enough for 80 columns, and one for bytes
FIGURES = "{desc} {percentage:3.0f}% |{bar}| {elapsed}{postfix}"
BYTES = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_fmt}]"


def bar(total: int, label: str, show: bool | None, layout: str) -> Any:
    """A tqdm bar on stderr, or None when it is not wanted or, with `show` None, stderr is no terminal."""
    if show is False or (show is None and not sys.stderr.isatty()):
        return None
    tqdm = importlib.import_module("tqdm.auto").tqdm
    return tqdm(total=total, desc=label, unit="B", unit_scale=True, unit_divisor=1024, bar_format=layout)
