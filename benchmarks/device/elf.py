"""What is asked of a firmware's ELF file: its size, its code, its functions. Uses binutils for Arm."""

import re
import struct
import subprocess
from collections.abc import Iterable
from functools import cache
from itertools import pairwise
from pathlib import Path

from instructions import Instruction, parse_disassembly

BSS = 8  # section type NOBITS
ALLOCATED, WRITABLE = 2, 1


def weigh(path: Path) -> tuple[int, int]:
    """Bytes of flash and of static RAM of a 32-bit little-endian ELF file, from its section headers."""
    elf = path.read_bytes()
    (start,) = struct.unpack_from("<I", elf, 32)
    size, count = struct.unpack_from("<HH", elf, 46)
    flash = ram = 0
    for i in range(count):
        _, kind, flags, _, _, length = struct.unpack_from("<6I", elf, start + i * size)
        if flags & ALLOCATED:
            flash += length if kind != BSS else 0  # .data lies in flash too
            ram += length if flags & WRITABLE else 0
    return flash, ram


def binutil(name: str, *arguments: str, feed: str | None = None) -> str:
    """Output of one of Arm's binutils."""
    return subprocess.run(
        [f"arm-none-eabi-{name}", *arguments], input=feed, capture_output=True, text=True, check=True
    ).stdout


def disassemble(path: Path) -> dict[int, Instruction]:
    """Instructions by address."""
    return parse_disassembly(binutil("objdump", "-d", "--no-show-raw-insn", str(path)))


def returns(code: dict[int, Instruction]) -> list[int]:
    """Addresses behind call instructions."""
    addresses = sorted(code)
    return [behind for address, behind in pairwise(addresses) if code[address].kind == "call"]


@cache
def symbols(path: Path) -> dict[str, int]:
    """Addresses of functions by demangled name."""
    found = {}
    for line in binutil("nm", "-C", str(path)).splitlines():
        match = re.match(r"([0-9a-f]+) [tTwW] (.*)", line)
        if match:
            found[match[2]] = int(match[1], 16) & ~1
    return found


def function(path: Path, name: str) -> int:
    """Address of the one function whose last path component is `name`."""
    matches = [
        address
        for symbol, address in symbols(path).items()
        if re.sub(r"::h[0-9a-f]{16}$", "", symbol).split("::")[-1] == name
    ]
    if len(matches) != 1:
        raise LookupError(f"{path} has {len(matches)} functions called {name}, expected one that is not inlined")
    return matches[0]


def inline_stacks(path: Path, addresses: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Functions at each address, outermost first: the physical one and those the compiler inlined there (DWARF)."""
    text = binutil("addr2line", "-a", "-i", "-f", "-C", "-e", str(path), feed="\n".join(f"{a:#x}" for a in addresses))
    stacks: dict[int, tuple[str, ...]] = {}
    names: list[str] = []
    lines = iter(text.splitlines())
    address = None
    for line in lines:
        if re.fullmatch(r"0x[0-9a-f]+", line):
            if address is not None:
                stacks[address] = tuple(reversed(names))
            address, names = int(line, 16), []
        else:
            names.append(line)
            next(lines)  # the place in the source
    if address is not None:
        stacks[address] = tuple(reversed(names))
    # Without debugging information (libgcc, newlib) the symbol table still tells the function.
    starts = sorted((start, name) for name, start in symbols(path).items())
    for address, stack in stacks.items():
        if stack == ("??",):
            stacks[address] = (max((s for s in starts if s[0] <= address), default=(0, "??"))[1],)
    return stacks
