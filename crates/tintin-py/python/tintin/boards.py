"""The boards there is firmware for, and which of them a model fits: told before anything is flashed."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .model import Sequential


@dataclass(frozen=True)
class Board:
    """One board; sizes in bytes, `stack` is the part of `ram` that the memory map keeps for it."""

    name: str
    title: str
    chip: str
    core: str
    mhz: int
    ram: int
    stack: int
    flash: int

    @property
    def folder(self) -> str:
        """Where its firmware is, in a checkout."""
        return f"crates/tintin-mcu/boards/{self.name}"

    @property
    def command(self) -> str:
        """Builds, flashes and runs its digits firmware and shows the text."""
        return f"(cd {self.folder} && cargo embed --release --bin digits)"


@dataclass(frozen=True)
class Fit:
    """What a program with a model takes of a board, in bytes."""

    board: Board
    model_ram: int
    model_flash: int
    program_ram: int
    program_flash: int

    @property
    def ram_left(self) -> int:
        """RAM left over; below zero, what is missing."""
        return self.board.ram - self.board.stack - self.program_ram - self.model_ram

    @property
    def flash_left(self) -> int:
        """Flash left over; below zero, what is missing."""
        return self.board.flash - self.program_flash - self.model_flash

    @property
    def fits(self) -> bool:
        """Whether both are enough."""
        return self.ram_left >= 0 and self.flash_left >= 0


@cache
def _table() -> dict[str, Any]:
    text = resources.files(__package__).joinpath("boards.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


def boards() -> tuple[Board, ...]:
    """All boards, in the order of the README."""
    return tuple(Board(**row) for row in _table()["board"])


def fit(model: Sequential, *, batch_size: int = 1, training: bool = True) -> list[Fit]:
    """How `model` fits each board, trained there with `batch_size` or (`training=False`) only used there.

    The model's file lies in flash in both cases. Raises `ValueError` for a batch size that cannot be planned.
    """
    memory = model.memory(batch_size=batch_size, training=training)
    program, file = _table()["program"], len(model.to_bytes())
    ram = memory.total
    return [Fit(board, ram, file, program["ram"], program["flash"]) for board in boards()]


def facts(fits: list[Fit] | None) -> list[dict[str, Any]]:
    """The boards as plain values; with `fits` also what is left or missing on each."""
    rows = []
    for at, board in enumerate(boards()):
        row: dict[str, Any] = {**vars(board), "command": board.command}
        if fits is not None:
            found = fits[at]
            row |= {
                "model_ram": found.model_ram, "model_flash": found.model_flash, "program_ram": found.program_ram,
                "program_flash": found.program_flash, "ram_left": found.ram_left, "flash_left": found.flash_left,
                "fits": found.fits,
            }  # fmt: skip
        rows.append(row)
    return rows


def text(fits: list[Fit] | None) -> str:
    """A table: the boards and their commands, or with `fits` what each has left for the model, or misses."""
    if fits is None:
        rows = [("board", "chip", "core", "MHz", "RAM", "flash", "")]
        rows += [(b.title, b.chip, b.core, str(b.mhz), _kb(b.ram), _kb(b.flash), b.command) for b in boards()]
        return _columns(rows, left=(0, 1, 2, 6))
    one = fits[0]
    rows = [("board", "RAM", "stack", "left for all else", "RAM left", "flash left", "")]
    for found in fits:
        board = found.board
        rows.append((
            board.title, f"{board.ram:,}", f"{board.stack:,}", f"{board.ram - board.stack:,}", _left(found.ram_left),
            _left(found.flash_left), "fits" if found.fits else "DOES NOT FIT",
        ))  # fmt: skip
    lines = [
        f"RAM: {one.model_ram:,} bytes for the model, {one.program_ram:,} for the program, and the stack",
        f"flash: {one.model_flash:,} bytes for the model, {one.program_flash:,} for the program",
        "",
        _columns(rows, left=(0, 6)),
    ]
    if not all(found.fits for found in fits):
        lines += ["", "less RAM: batch size 1, fewer or narrower layers, early layers frozen (train_from)"]
    return "\n".join(lines)


def _left(count: int) -> str:
    return f"{count:,}" if count >= 0 else f"{-count:,} missing"


def _kb(count: int) -> str:
    return f"{count // 1024} KB"


def _columns(rows: Sequence[tuple[str, ...]], left: tuple[int, ...]) -> str:
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = enumerate(zip(row, widths, strict=True))
        lines.append("  ".join(cell.ljust(width) if k in left else cell.rjust(width) for k, (cell, width) in cells))
    return "\n".join(line.rstrip() for line in lines)
