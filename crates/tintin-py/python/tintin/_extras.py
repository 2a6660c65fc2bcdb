"""Optional packages: imported when first needed, with a message that names the extra to install."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

#: import name -> (name on the package index, extra of this wheel that brings it)
OPTIONAL = {
    "tqdm": ("tqdm", "progress"),
    "matplotlib": ("matplotlib", "plot"),
    "sklearn": ("scikit-learn", "data"),
}


def require(module: str, what: str) -> Any:
    """Import `module`, or say that `what` needs it and which extra brings it."""
    top = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != top:
            raise
        package, extra = OPTIONAL[top]
        raise ModuleNotFoundError(
            f'{what} needs {package}, which is not installed: pip install "tintin[{extra}]"',
            name=error.name,
        ) from None


def installed(module: str) -> bool:
    """Whether an optional package is there, without importing it."""
    return importlib.util.find_spec(module) is not None


def bar(*, total: int, label: str, unit: str, show: bool | None, binary: bool = True) -> Any:
    """A tqdm bar on stderr, or None when it is not wanted, not installed or stderr is no terminal."""
    if show is False or (show is None and not sys.stderr.isatty()):
        return None
    if not installed("tqdm"):
        print(f"{label} ...", file=sys.stderr)
        return None
    tqdm = importlib.import_module("tqdm.auto").tqdm
    return tqdm(total=total, desc=label, unit=unit, unit_scale=True, unit_divisor=1024 if binary else 1000)
