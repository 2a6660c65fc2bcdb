"""The drawing behind `History.plot` and the report: axes in, marks out. matplotlib is imported when used."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import _extras

if TYPE_CHECKING:
    from .history import History

TRAINING, VALIDATION = "#1f5fa8", "#d9662b"
INK, MUTED, GRID, BAD = "#22262b", "#6b7280", "#e5e7eb", "#b42318"

#: more classes than this and the counts no longer fit into the cells
ANNOTATED_CLASSES = 20


def figure(width: float, height: float, *, show: bool = False) -> Any:
    """A figure of pyplot's if it is to be shown, else one that needs neither a display nor closing."""
    if show:
        make = _extras.require("matplotlib.pyplot", "plotting").figure
    else:
        make = _extras.require("matplotlib.figure", "plotting").Figure
    return make(figsize=(width, height), layout="constrained", facecolor="white")


def save(figure: Any, target: str | os.PathLike[str] | BinaryIO, kind: str | None = None) -> None:
    """Write a figure to a path or an open binary file; `kind` is png, svg or pdf, else the path's ending."""
    figure.savefig(target, dpi=150, format=kind, bbox_inches="tight", pad_inches=0.15)


def draw_loss(ax: Any, history: History) -> None:
    """Mean loss over the epochs, in the units of the loss that the records name."""
    squared = any(record.get("loss_name") == "squared_error" for record in history.epochs)
    label = "half the squared distance" if squared else "loss (nats)"
    _curves(ax, history, "loss", "Loss", label, 1.0)
    ax.set_ylim(bottom=0)


def draw_accuracy(ax: Any, history: History) -> None:
    """Accuracy in percent over the epochs."""
    _curves(ax, history, "accuracy", "Accuracy", "accuracy (%)", 100.0)
    ax.set_ylim(top=min(ax.get_ylim()[1], 100.4))


def _curves(ax: Any, history: History, key: str, title: str, label: str, factor: float) -> None:
    for name, colour, style, legend in (
        (key, TRAINING, "-", "training"),
        (f"val_{key}", VALIDATION, "--", "validation"),
    ):
        points = [(r.get("epoch", i), r.get(name)) for i, r in enumerate(history.epochs, 1)]
        points = [(epoch, factor * value) for epoch, value in points if value is not None]
        if points:
            marker = "o" if len(points) <= 30 else ""
            ax.plot(*zip(*points, strict=True), style, marker=marker, ms=4, lw=2, color=colour, label=legend)
    _dress(ax, title)
    ax.set_xlabel("epoch", color=MUTED)
    ax.set_ylabel(label, color=MUTED)
    ax.grid(axis="y", color=GRID, lw=0.8)
    ticker = _extras.require("matplotlib.ticker", "plotting")
    ax.xaxis.set_major_locator(ticker.MaxNLocator(integer=True, min_n_ticks=1))
    if ax.lines:
        ax.legend(frameon=False, labelcolor=INK)
    else:
        ax.text(0.5, 0.5, "not recorded", ha="center", transform=ax.transAxes, color=MUTED)


def _dress(ax: Any, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold", color=INK)
    ax.set_axisbelow(True)
    ax.tick_params(colors=MUTED, labelsize=9, length=3)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        ax.spines[side].set_color(GRID)


def draw_confusion(ax: Any, matrix: NDArray[np.int64], classes: Sequence[str]) -> None:
    """Counts per true and predicted class, coloured by the share of the true class, and recall per class."""
    total = matrix.sum(axis=1, keepdims=True)
    share = matrix / np.maximum(total, 1)
    count = len(classes)
    # The square root lets rare confusions be seen beside a diagonal near 100 %.
    ax.imshow(np.sqrt(share), cmap="Blues", vmin=0, vmax=1.1, aspect="equal")
    _dress(ax, "Confusion matrix")
    for spine in ax.spines.values():
        spine.set_visible(False)
    ax.set_xlabel("predicted", color=MUTED)
    ax.set_ylabel("true", color=MUTED)
    annotated = count <= ANNOTATED_CLASSES
    ticks = range(0, count, 1 if annotated else -(-count // 10))
    labels = [classes[i] for i in ticks]
    long = max(map(len, labels)) > 3
    ax.set_xticks(ticks, labels, rotation=45 if long else 0, ha="right" if long else "center")
    ax.set_yticks(ticks, labels)
    ax.tick_params(length=0)
    if not annotated:
        return
    ax.set_xticks(np.arange(1, count) - 0.5, minor=True)
    ax.set_yticks(np.arange(1, count) - 0.5, minor=True)
    ax.grid(which="minor", color="white", lw=1.2)
    ax.tick_params(which="minor", length=0)
    size = 8.5 if count <= 12 else 6.5
    for row, column in zip(*np.nonzero(matrix), strict=True):
        dark = share[row, column] > 0.35
        ax.text(
            column, row, f"{matrix[row, column]}", ha="center", va="center", fontsize=size,
            color="white" if dark else INK,
        )  # fmt: skip
    ax.text(count - 0.3, -0.62, "recall", fontsize=8.5, color=MUTED, va="bottom")
    for row in range(count):
        if total[row, 0]:
            ax.text(count - 0.3, row, f"{share[row, row]:.1%}", fontsize=size, color=INK, va="center")
