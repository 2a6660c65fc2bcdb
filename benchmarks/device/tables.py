"""Markdown tables and the arithmetic behind them."""

from collections.abc import Iterable, Sequence


def grouped(n: float) -> str:
    """A whole number with its thousands apart."""
    return f"{round(n):,}"


def ratio(ours: float, theirs: float) -> str:
    """How many times `ours` goes into `theirs`."""
    return f"{theirs / ours:.2f}"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table; the first column is text, the others are figures."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    for line in lines:
        if len(line) != len(head):
            raise ValueError(f"a row of {len(line)} cells in a table of {len(head)}: {line}")
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def milliseconds(cycles: float, megahertz: float) -> float:
    """Time of `cycles` at a clock."""
    return cycles / megahertz / 1000


def millijoules(cycles: float, microamperes_per_megahertz: float, volts: float) -> float:
    """Energy of `cycles`: a microampere per megahertz is a picocoulomb a cycle."""
    return cycles * microamperes_per_megahertz * volts * 1e-9
