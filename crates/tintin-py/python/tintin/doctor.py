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
from .device import emulator

#: command -> what it is for
TOOLS = {
    "cargo": "building tintin and firmware",
    "rustc": "building tintin and firmware",
    "arm-none-eabi-gcc": "linking tintin into C firmware",
    "qemu-system-arm": "running firmware without a board",
    "probe-rs": "running firmware on a board",
}
#: what brings a missing one
INSTALL = {"qemu-system-arm": "; Debian, Ubuntu: apt-get install qemu-system-arm"}
TARGETS = ("thumbv6m-none-eabi", "thumbv7m-none-eabi", "thumbv7em-none-eabihf", "thumbv8m.main-none-eabihf")


def facts() -> dict[str, Any]:
    """Everything the doctor knows, as plain values; None stands for missing."""
    import tintin

    return {
        "tintin": tintin.__version__,
        "numerics": tintin.NUMERICS,
        "format": tintin.FORMAT,
        "kernels": tintin.kernels(),
        "threads": tintin.get_num_threads(),
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
        "debian_rust": _debian_rust(),
        "firmware": {name: _image(target, portable) for name, target, portable in _images()},
    }


def text(found: dict[str, Any]) -> str:
    """The same for reading, with what to do about what is missing."""
    lines = [
        f"tintin {found['tintin']}, numerics {found['numerics']}, file format {found['format']}",
        _row("kernels", f"{found['kernels']}, {found['threads']} threads (TINTIN_KERNELS, TINTIN_NUM_THREADS choose)"),
        _row("Python", found["python"]),
        _row("numpy", found["numpy"]),
        _row("system", f"{found['system']}, {found['machine']}"),
        _row("CPU", f"{found['cpu']} ({found['cpus']} threads)"),
        "",
        "optional packages",
    ]
    for package, version in found["extras"].items():
        lines.append(_row(package, version or f"missing: pip install {package}"))
    lines += ["", f"data sets (cache: {found['cache']})"]
    for name, place in found["datasets"].items():
        absent = "missing: needs scikit-learn" if name == "digits" else "not here; downloaded when first loaded"
        lines.append(_row(name, place or absent))
    lines += ["", "tools for firmware (not needed for training in Python)"]
    for tool, version in found["tools"].items():
        lines.append(_row(tool, version or f"missing: {TOOLS[tool]}{INSTALL.get(tool, '')}"))
    debian = found["debian_rust"]
    for target, there in found["rust_targets"].items():
        absent = "built from source by Debian's Rust" if debian else f"missing: rustup target add {target}"
        lines.append(_row(target, "installed" if there else absent))
    lines.append(
        _row("Debian's Rust", debian or "not there; needed only where there is no rustup: scripts/setup-arm.sh")
    )
    lines += ["", "firmware for emulated cores (tintin verify)"]
    for name, image in found["firmware"].items():
        lines.append(_row(name, _firmware(image)))
    return "\n".join(lines)


def _firmware(image: dict[str, Any] | None) -> str:
    if image is None:
        return "missing: run `make firmware` in a checkout of tintin"
    if not image["usable"]:
        return f"numerics {image['numerics']}, not usable here: run `make firmware` anew ({image['path']})"
    return f"numerics {image['numerics']} ({image['path']})"


def _row(name: str, value: Any) -> str:
    return f"  {name:<27}{value}"


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


def _images() -> list[tuple[str, str, bool]]:
    """Every image of the runner: a name for it, its target, and whether it does without kernels of its own."""
    cores: dict[tuple[str, bool], list[str]] = {}
    for name, core in emulator.CORES.items():
        for portable in (False, True):
            cores.setdefault((core.target, portable), []).append(name)
    return [
        (f"{', '.join(names)}{', portable' if portable else ''}", target, portable)
        for (target, portable), names in cores.items()
    ]


def _image(target: str, portable: bool) -> dict[str, Any] | None:
    path = emulator.find_image(target, portable)
    if path is None:
        return None
    versions = emulator.image_versions(path)
    try:
        usable = emulator.image(target, portable) == path
    except emulator.NotInstalled:
        usable = False
    return {"path": str(path), "numerics": versions[0] if versions else None, "usable": usable}


def _debian_rust() -> str | None:
    """Version of Debian's compiler, if its library source and linker for bare metal are there too."""
    version, sysroot = _run("/usr/bin/rustc", "--version"), _run("/usr/bin/rustc", "--print", "sysroot")
    source = Path(sysroot or "/nonexistent") / "lib/rustlib/src/rust/library/core/Cargo.toml"
    return version if version and source.is_file() and shutil.which("ld.lld") else None


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
