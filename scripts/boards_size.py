"""Flash and RAM of firmware built for the boards, as a Markdown table; run by scripts/boards.sh.

    boards_size.py <folder of cargo's targets>

Fails where a program takes more than `boards.toml` promises, or its stack does not lie below all its data: an overflow
would reach them instead of leaving RAM. The model's share is what the symbol of its memory says.
"""

from __future__ import annotations

import struct
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BOARDS = ROOT / "crates/tintin-py/python/tintin/boards.toml"
FIRMWARE = ROOT / "crates/tintin-mcu/boards"
PROGRAMS = ("digits", "vibration")
NOTHING_IN_FILE, WRITABLE, IN_MEMORY = 8, 1, 2  # section type NOBITS, flags


class Elf:
    """Sections and symbols of a 32-bit little-endian ELF file."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        if self.data[:6] != b"\x7fELF\x01\x01":
            raise SystemExit(f"boards: {path} is not a 32-bit little-endian ELF file")
        (start,) = struct.unpack_from("<I", self.data, 32)
        size, count = struct.unpack_from("<HH", self.data, 46)
        self.sections = [struct.unpack_from("<10I", self.data, start + i * size) for i in range(count)]

    def flash_and_ram(self) -> tuple[int, int]:
        """Bytes of flash and of static RAM; `.data` counts in both."""
        flash = ram = 0
        for _, kind, flags, _, _, size, *_ in self.sections:
            if flags & IN_MEMORY:
                flash += size if kind != NOTHING_IN_FILE else 0
                ram += size if flags & WRITABLE else 0
        return flash, ram

    def lowest_data(self) -> int:
        """Lowest address of static RAM."""
        return min(s[3] for s in self.sections if s[2] & IN_MEMORY and s[2] & WRITABLE and s[5])

    def symbols(self) -> dict[str, tuple[int, int]]:
        """Value and size of every symbol."""
        found = {}
        for _, kind, _, _, offset, size, link, *_ in self.sections:
            if kind != 2:
                continue
            names = self.sections[link][4]
            for at in range(offset, offset + size, 16):
                name, value, length = struct.unpack_from("<3I", self.data, at)
                end = self.data.index(0, names + name)
                found[self.data[names + name : end].decode()] = (value, length)
        return found


def weigh(board: dict[str, int | str], program: str, elf: Elf, promise: dict[str, int]) -> str:
    """One row of the table; fails if a promise is broken."""
    name = f"{board['name']} {program}"
    symbols = elf.symbols()
    flash, ram = elf.flash_and_ram()
    start, end = symbols["_stack_start"][0], symbols["_stack_end"][0]
    if start - end != board["stack"]:
        raise SystemExit(f"boards: {name}: {start - end} bytes of stack, boards.toml tells {board['stack']}")
    if elf.lowest_data() < start:
        raise SystemExit(f"boards: {name}: data at {elf.lowest_data():#x}, below the top of the stack {start:#x}")
    models = [length for symbol, (_, length) in symbols.items() if "MEMORY" in symbol and "MILLI" not in symbol]
    if len(models) != 1:
        raise SystemExit(f"boards: {name}: {len(models)} model memories where 1 is expected")
    others = ram - models[0]
    if others > promise["ram"]:
        raise SystemExit(f"boards: {name}: {others} bytes of RAM besides the model, boards.toml tells {promise['ram']}")
    if program == "vibration" and flash > promise["flash"]:
        raise SystemExit(f"boards: {name}: {flash} bytes of flash, boards.toml tells at most {promise['flash']}")
    left = int(board["ram"]) - int(board["stack"]) - ram
    return f"| {board['title']} | {program} | {flash:,} | {models[0]:,} | {others:,} | {board['stack']:,} | {left:,} |"


def target(name: str) -> str:
    """The target that a board's cargo configuration names."""
    config = tomllib.loads((FIRMWARE / name / ".cargo/config.toml").read_text(encoding="utf-8"))
    return str(config["build"]["target"])


def main() -> None:
    """Print the table of all boards, or with `targets` each board and its target."""
    table = tomllib.loads(BOARDS.read_text(encoding="utf-8"))
    if sys.argv[1] == "targets":
        print("\n".join(f"{board['name']} {target(board['name'])}" for board in table["board"]))
        return
    print("| board | program | flash | RAM of the model | other RAM | stack kept | RAM left |")
    print("|---|---|---:|---:|---:|---:|---:|")
    for board in table["board"]:
        for program in PROGRAMS:
            path = Path(sys.argv[1]) / str(board["name"]) / program
            print(weigh(board, program, Elf(path), table["program"]))


if __name__ == "__main__":
    main()
