"""What `tintin doctor` tells: versions, optional packages, the machine, data sets and tools, found or missing."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

from . import _extras, datasets

#: command -> what it is for
TOOLS = {
    "cargo": "building tintin and firmware",
    "rustc": "building tintin and firmware",
    "arm-none-eabi-gcc": "linking tintin into C firmware",
    "qemu-system-arm": "running firmware without a board",
    "probe-rs": "running firmware on a board",
}
TARGETS = ("thumbv6m-none-eabi", "thumbv7m-none-eabi", "thumbv7em-none-eabihf")


def facts() -> dict[str, Any]:
    """Everything the doctor knows, as plain values; None stands for missing."""
    import tintin

    return {
        "tintin": tintin.__version__,
        "numerics": tintin.NUMERICS,
        "format": tintin.FORMAT,
        "kernels": tintin.kernels(),
        "python": platform.python_version(),
        "numpy": _version("numpy"),
        "extras": {package: _version(package) for package, _ in _extras.OPTIONAL.values()},
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": _cpu(),
        "cpus": os.cpu_count(),
        "cache": str(datasets.cache_folder()),
        "datasets": {name: _place(name) for name in datasets.names()},
        "tools": {tool: _tool(tool) for tool in TOOLS},
        "rust_targets": {target: _has_target(target) for target in TARGETS},
    }


def text(found: dict[str, Any]) -> str:
    """The same for reading, with what to do about what is missing."""
    extra = dict(_extras.OPTIONAL.values())
    lines = [
        f"tintin {found['tintin']}, numerics {found['numerics']}, file format {found['format']}",
        _row("kernels", found["kernels"]),
        _row("Python", found["python"]),
        _row("numpy", found["numpy"]),
        _row("system", f"{found['system']}, {found['machine']}"),
        _row("CPU", f"{found['cpu']} ({found['cpus']} threads)"),
        "",
        "optional packages",
    ]
    for package, version in found["extras"].items():
        lines.append(_row(package, version or f'missing: pip install "tintin[{extra[package]}]"'))
    lines += ["", f"data sets (cache: {found['cache']})"]
    for name, place in found["datasets"].items():
        absent = "missing: needs scikit-learn" if name == "digits" else "not here; downloaded when first loaded"
        lines.append(_row(name, place or absent))
    lines += ["", "tools for firmware (not needed for training in Python)"]
    for tool, version in found["tools"].items():
        lines.append(_row(tool, version or f"missing: {TOOLS[tool]}"))
    for target, there in found["rust_targets"].items():
        lines.append(_row(target, "installed" if there else "missing in this Rust toolchain"))
    return "\n".join(lines)


def _row(name: str, value: Any) -> str:
    return f"  {name:<22}{value}"


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown"


def _place(name: str) -> str | None:
    found = datasets.find(name)
    if found is None:
        return None
    return str(found[0].parent) if found else "inside scikit-learn"


def _run(*command: str) -> str | None:
    """First line of a command's output, or None when it is missing or fails."""
    program = shutil.which(command[0])
    if program is None:
        return None
    try:
        done = subprocess.run(
            [program, *command[1:]], capture_output=True, text=True, timeout=10, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.splitlines()), "").strip()


def _tool(name: str) -> str | None:
    return _run(name, "--version")


def _has_target(target: str) -> bool:
    libraries = _run("rustc", "--print", "target-libdir", "--target", target)
    return bool(libraries) and any(Path(libraries or "").glob("libcore-*.rlib"))
