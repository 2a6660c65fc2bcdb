"""History, confusion matrix and pictures, without a trained net."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tintin import Memory, datasets, models, report
from tintin.history import History

PNG = b"\x89PNG\r\n"


def history(epochs: int = 3) -> History:
    return History(
        {
            "epoch": i, "loss": 1.0 / i, "accuracy": 1 - 0.5 / i, "val_loss": 1.1 / i, "val_accuracy": 1 - 0.6 / i,
            "seconds": 0.5, "learning_shift": 0,
        }
        for i in range(1, epochs + 1)
    )  # fmt: skip


def test_history_by_name() -> None:
    made = history()
    assert len(made) == 3
    assert made.loss == made["loss"] == [1.0, 0.5, 1 / 3]
    assert "val_loss" in made and "momentum" not in made
    with pytest.raises(KeyError, match="val_accuracy"):
        made["momentum"]
    with pytest.raises(AttributeError):
        made.momentum  # noqa: B018
    assert json.loads(json.dumps(made.to_dict()))["epoch"] == [1, 2, 3]


def test_history_table_leaves_out_what_is_not_there() -> None:
    made = History([{"epoch": 1, "loss": 0.25, "accuracy": 0.9, "val_loss": None, "seconds": 1.0}])
    assert repr(made).split("\n")[1].split() == ["1", "0.2500", "90.00%", "1.0"]
    assert "val" not in repr(made)
    assert repr(History()) == "History (no epochs)"


def test_history_tells_mu_and_the_loss() -> None:
    made = History([{"epoch": 1, "loss": 0.25, "mu": 3, "loss_name": "squared_error"}])
    assert repr(made).split() == ["epoch", "loss", "mu", "1", "0.2500", "3"]
    assert made.plot(io.BytesIO()).axes[0].get_ylabel() == "half the squared distance"
    assert history().plot(io.BytesIO()).axes[0].get_ylabel() == "loss (nats)"


@pytest.mark.parametrize("epochs", [0, 1, 40])
def test_history_plot(tmp_path: Path, epochs: int) -> None:
    figure = history(epochs).plot(tmp_path / "h.png")
    assert (tmp_path / "h.png").read_bytes().startswith(PNG)
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch", "epoch"]
    with pytest.raises(ValueError, match="pair of axes"):
        history().plot(ax=figure.axes[0])


def test_confusion_matrix_by_hand() -> None:
    made = report.confusion_matrix([0, 0, 1, 2, 2, 2], [0, 1, 1, 2, 2, 0], ("a", "b", "c"))
    assert made.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 2]]
    assert report.confusion_matrix(np.array([], int), np.array([], int), 2).tolist() == [[0, 0], [0, 0]]


@pytest.mark.parametrize(
    ("true", "predicted", "message"),
    [
        ([0, 1], [0], "same length"),
        ([0, 3], [0, 1], r"y_true must be in 0\.\.2"),
        ([0, 1], [0, -1], r"y_pred must be in 0\.\.2"),
        ([0.0, 1.0], [0, 1], "integers"),
    ],
)
def test_confusion_matrix_refuses(true: list[Any], predicted: list[Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        report.confusion_matrix(true, predicted, 3)


@pytest.mark.parametrize("count", [2, 10, 20, 26])
def test_picture(tmp_path: Path, count: int) -> None:
    labels = np.arange(100) % count
    matrix = report.confusion_matrix(labels, labels, count)
    report.plot_training(history(), matrix, [str(i) for i in range(count)], tmp_path / "t.png", "title")
    assert (tmp_path / "t.png").read_bytes().startswith(PNG)
    assert [p.name for p in tmp_path.iterdir()] == ["t.png"]


def test_failed_picture_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ValueError):
        report.plot_training(history(), np.eye(2, dtype=int), "ab", tmp_path / "t.nonsense")
    assert list(tmp_path.iterdir()) == []


class Net:
    """Only what a report asks of a net."""

    def predict(self, x: np.ndarray) -> np.ndarray:
        return np.zeros(len(x), np.int64)

    def evaluate(self, x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
        return 2.3, 0.1

    def memory(self, **arguments: Any) -> Memory:
        return models.lenet5().memory(**arguments)

    def digest(self) -> int:
        return 0xABC

    def summary(self) -> str:
        return "Conv2d <1>"


@pytest.mark.parametrize("with_history", [True, False])
def test_report_page(tmp_path: Path, with_history: bool) -> None:
    data = datasets.load("digits")
    found = report.write_report(Net(), history() if with_history else None, data, tmp_path / "r.html")
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert found["test_accuracy"] == 0.1 and found["digest"] == "0x0000000000000abc"
    for part in (
        "10.00%",
        "61,470",
        "3 Conv2d",
        "Shared buffer",
        "layer records",
        "data:image/png;base64,",
        "Conv2d &lt;1&gt;",
        "0x0000000000000abc",
    ):
        assert part in page
    assert "http" not in page  # self-contained
