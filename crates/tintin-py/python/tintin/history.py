"""What `fit` returns: one record per epoch, as lists, as a table and as curves."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from . import _plot

Record = dict[str, Any]

#: columns of the table: key, heading, format
_COLUMNS = (
    ("epoch", "epoch", "d"),
    ("loss", "loss", ".4f"),
    ("accuracy", "accuracy", ".2%"),
    ("val_loss", "val loss", ".4f"),
    ("val_accuracy", "val accuracy", ".2%"),
    ("learning_shift", "shift", "d"),
    ("mu", "mu", "d"),
    ("seconds", "seconds", ".1f"),
)


def figures(record: Mapping[str, Any]) -> str:
    """Loss and accuracy of a record in a few words, those of validation data last."""
    parts = []
    for prefix, words in (("", "loss {:.4f}, accuracy {:.2%}"), ("val_", "val {:.4f}, {:.2%}")):
        values = [record[key] for key in (f"{prefix}loss", f"{prefix}accuracy") if key in record]
        if values:
            parts.append(", ".join(words.split(", ")[: len(values)]).format(*values))
    return "; ".join(parts)


class History:
    """Records of a training run, one dict per epoch in `epochs`.

    Each record has `epoch`, `loss` (mean per sample: nats, for squared error half the squared distance), `loss_name`
    (as `fit` knows it), `seconds` and, at the epoch's last step, `learning_shift` (`TinTin`) or `mu` (`Niti`); for
    labels `accuracy`; with validation data `val_loss` and, for labels, `val_accuracy`. `history["loss"]` and
    `history.loss` are the list over all epochs, with `None` where a record lacks the value.
    """

    epochs: list[Record]

    def __init__(self, epochs: Iterable[Mapping[str, Any]] = ()) -> None:
        self.epochs = [dict(record) for record in epochs]

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the record of one more epoch."""
        self.epochs.append(dict(record))

    def keys(self) -> tuple[str, ...]:
        """Names that at least one record has a value for, in the order of the records."""
        return tuple({k: None for record in self.epochs for k, v in record.items() if v is not None})

    def __getitem__(self, name: str) -> list[Any]:
        if name not in self.keys():
            raise KeyError(f"no {name!r} in this history; there is {', '.join(self.keys()) or 'nothing yet'}")
        return [record.get(name) for record in self.epochs]

    def __getattr__(self, name: str) -> list[Any]:
        if name.startswith("_") or name == "epochs":
            raise AttributeError(name)
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(error.args[0]) from None

    def __contains__(self, name: object) -> bool:
        return name in self.keys()

    def __iter__(self) -> Iterator[str]:
        return iter(self.keys())

    def __len__(self) -> int:
        return len(self.epochs)

    def to_dict(self) -> dict[str, list[Any]]:
        """All columns by name, ready for `json.dumps` or a data frame."""
        return {name: self[name] for name in self.keys()}

    def table(self) -> list[list[str]]:
        """Heading and rows as text; columns without any value are left out."""
        columns = [column for column in _COLUMNS if column[0] in self]
        rows = [[heading for _, heading, _ in columns]]
        for record in self.epochs:
            cells = [(record.get(key), form) for key, _, form in columns]
            rows.append(["-" if value is None else format(value, form) for value, form in cells])
        return rows

    def __repr__(self) -> str:
        if not self.epochs:
            return "History (no epochs)"
        rows = self.table()
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)

    def plot(self, path: str | os.PathLike[str] | None = None, ax: Any = None) -> Any:
        """Draw loss and accuracy over the epochs, and return the matplotlib figure.

        With `path` the figure is written there too. `ax` is a pair of axes (loss, accuracy) to draw into.
        """
        if ax is None:
            figure = _plot.figure(9.0, 3.6, show=path is None)
            ax = figure.subplots(1, 2)
        try:
            loss, accuracy = ax
        except (TypeError, ValueError):
            raise ValueError("ax must be a pair of axes: one for the loss, one for the accuracy") from None
        _plot.draw_loss(loss, self)
        _plot.draw_accuracy(accuracy, self)
        figure = loss.figure
        if path is not None:
            _plot.save(figure, path)
        return figure
