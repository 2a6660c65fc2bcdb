"""A picture and a page about a trained net: curves, confusion matrix, memory, all in one file each."""

from __future__ import annotations

import base64
import html
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import _extras, _plot
from ._files import write_atomically
from .memory import NOT_COUNTED, Memory, layer_table

if TYPE_CHECKING:
    from .datasets import Dataset
    from .history import History


def confusion_matrix(y_true: ArrayLike, y_pred: ArrayLike, classes: int | Sequence[str]) -> NDArray[np.int64]:
    """Counts by true class (row) and predicted class (column). `classes` is their number or their names."""
    count = classes if isinstance(classes, int) else len(classes)
    true, predicted = np.asarray(y_true), np.asarray(y_pred)
    if true.ndim != 1 or true.shape != predicted.shape:
        raise ValueError(
            f"y_true and y_pred must be two lists of the same length, got {true.shape} and {predicted.shape}"
        )
    for name, labels in (("y_true", true), ("y_pred", predicted)):
        if labels.size and not np.issubdtype(labels.dtype, np.integer):
            raise ValueError(f"{name} must hold integers, got {labels.dtype}")
        if labels.size and (labels.min() < 0 or labels.max() >= count):
            raise ValueError(f"{name} must be in 0..{count - 1}, got {labels.min()}..{labels.max()}")
    pairs = true.astype(np.int64) * count + predicted.astype(np.int64)
    return np.bincount(pairs, minlength=count * count).reshape(count, count).astype(np.int64)


def plot_training(
    history: History | None,
    confusion: NDArray[np.int64],
    classes: Sequence[str],
    path: str | os.PathLike[str],
    title: str = "",
) -> Any:
    """Write one picture: learning curves on the left, the confusion matrix on the right; return the figure."""
    figure = _training_figure(history, confusion, classes, title)
    kind = Path(path).suffix.lstrip(".").lower() or "png"
    write_atomically(path, lambda stream: _plot.save(figure, stream, kind))
    return figure


def _training_figure(history: History | None, confusion: NDArray[np.int64], classes: Sequence[str], title: str) -> Any:
    if history is None or not len(history):
        figure = _plot.figure(6.4, 5.8)
        _plot.draw_confusion(figure.subplots(), confusion, classes)
    else:
        figure = _plot.figure(11.5, 5.6)
        left, right = figure.subfigures(1, 2, width_ratios=(1, 1.25), wspace=0.04)
        loss, accuracy = left.subplots(2, 1, sharex=True)
        _plot.draw_accuracy(accuracy, history)
        _plot.draw_loss(loss, history)
        loss.set_xlabel("")
        _plot.draw_confusion(right.subplots(), confusion, classes)
    if title:
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold", color=_plot.INK)
    return figure


def write_report(
    net: Any, history: History | None, dataset: Dataset, path: str | os.PathLike[str], *, batch_size: int = 1
) -> dict[str, Any]:
    """Test `net` on the data set's test part and write one self-contained HTML page; return its figures.

    The page needs no network: pictures are inside. `batch_size` is that of the training memory told.
    """
    _extras.require("matplotlib", "a report")
    predicted = net.predict(dataset.x_test)
    confusion = confusion_matrix(dataset.y_test, predicted, dataset.classes)
    loss, accuracy = net.evaluate(dataset.x_test, dataset.y_test)
    training = net.memory(batch_size=batch_size, training=True)
    inference = net.memory(batch_size=1, training=False)
    facts = {
        "data": dataset.name,
        "test_samples": len(dataset.x_test),
        "test_loss": float(loss),
        "test_accuracy": float(accuracy),
        "training_bytes": int(training.total),
        "inference_bytes": int(inference.total),
        "weight_bytes": int(training.weights),
        "digest": f"0x{net.digest():016x}",
    }
    picture = io.BytesIO()
    _plot.save(_training_figure(history, confusion, dataset.classes, ""), picture, "png")
    page = _page(
        f"tintin: {dataset.name}",
        [
            ("Result", _facts_table(facts, batch_size)),
            ("Learning curves and confusion matrix", _image(picture.getvalue())),
            ("Classes", _classes_table(confusion, dataset.classes)),
            ("Training", _history_table(history)),
            (f"Memory while training, batch {batch_size}", _memory_tables(training)),
            ("Memory while predicting", _memory_tables(inference)),
            ("Model", f"<pre>{html.escape(net.summary())}</pre>"),
        ],
    )
    write_atomically(path, lambda stream: stream.write(page.encode()))
    return facts


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    cells = "".join(f"<th>{html.escape(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f"<div class=wide><table><thead><tr>{cells}</tr></thead><tbody>{body}</tbody></table></div>"


def _facts_table(facts: Mapping[str, Any], batch_size: int) -> str:
    rows = [
        ("Test accuracy", f"{facts['test_accuracy']:.2%}"),
        ("Test loss", f"{facts['test_loss']:.4f} nats"),
        ("Test samples", f"{facts['test_samples']:,}"),
        ("Weights", f"{facts['weight_bytes']:,} bytes"),
        (f"RAM to train, batch {batch_size}", f"{facts['training_bytes']:,} bytes"),
        ("RAM to predict", f"{facts['inference_bytes']:,} bytes"),
        ("Digest of weights and scales", facts["digest"]),
    ]
    return _table(("Figure", "Value"), rows)


def _classes_table(confusion: NDArray[np.int64], classes: Sequence[str]) -> str:
    rows = []
    for i, name in enumerate(classes):
        right, true, predicted = confusion[i, i], confusion[i].sum(), confusion[:, i].sum()
        others = confusion[i].copy()
        others[i] = 0
        worst = int(others.argmax())
        rows.append((
            name,
            f"{true:,}",
            f"{right / true:.1%}" if true else "-",
            f"{right / predicted:.1%}" if predicted else "-",
            f"{classes[worst]} ({others[worst]})" if others[worst] else "-",
        ))  # fmt: skip
    return _table(("Class", "Samples", "Recall", "Precision", "Most taken for"), rows)


def _history_table(history: History | None) -> str:
    if history is None or not len(history):
        return "<p>No record of the training was given with this model.</p>"
    head, *rows = history.table()
    return _table(head, rows)


def _memory_tables(memory: Memory) -> str:
    roles = [(role, f"{size:,}") for role, size in memory.by_role.items()]
    flash = [(role, f"{size:,}") for role, size in memory.flash_by_role.items()]
    users = [(buffer["role"], f"{buffer['bytes']:,}", buffer["user"]) for buffer in memory.shared]
    head, *rows = layer_table(memory)
    return "".join([
        _table(("RAM", "Bytes"), [*roles, ("total", f"{memory.total:,}")]),
        _table(("Flash", "Bytes"), [*flash, ("total", f"{memory.flash:,}")]),
        _table(("Shared buffer", "Bytes", "Largest user"), users),
        _table(head, rows),
        f"<p>In parentheses: what a layer needs of a shared buffer. Products are no bytes. {NOT_COUNTED}</p>",
    ])  # fmt: skip


def _image(png: bytes) -> str:
    data = base64.b64encode(png).decode()
    return f'<img alt="Learning curves and confusion matrix" src="data:image/png;base64,{data}">'


_STYLE = """
:root { color-scheme: light }
body { font: 15px/1.5 system-ui, sans-serif; color: #22262b; background: #fff; max-width: 62rem;
       margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem } h2 { font-size: 1.1rem; margin-top: 2rem }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-variant-numeric: tabular-nums }
th, td { padding: .25rem .9rem .25rem 0; border-bottom: 1px solid #e5e7eb; text-align: right }
th { color: #6b7280; font-weight: 600 } th:first-child, td:first-child { text-align: left }
img { max-width: 100% } .wide, pre { overflow-x: auto } pre { font-size: 13px; line-height: 1.35 }
"""


def _page(title: str, sections: Sequence[tuple[str, str]]) -> str:
    body = "".join(f"<h2>{html.escape(head)}</h2>\n{text}\n" for head, text in sections)
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    view = '<meta name="viewport" content="width=device-width">'
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}{view}</head>\n'
        f"<body><h1>{html.escape(title)}</h1>\n{body}</body></html>\n"
    )
