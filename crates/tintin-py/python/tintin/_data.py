"""Samples and targets on their way to the engine, and its scores on their way back."""

from __future__ import annotations

import bisect
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _checks, _tintin

if TYPE_CHECKING:
    from .model import Sequential

#: units of the engine's loss: 2^-16 bits, and nats per bit
_LOSS_UNIT = 2.0**-16
_NATS = float(np.log(2.0))
#: samples between two looks at the bar
_CHUNK = 8192


class Data:
    """Samples and targets as the engine takes them, checked. `prefix` stands before their names in messages."""

    y: NDArray[Any]
    y_exponent: int | None

    def __init__(self, net: Sequential, x: Any, y: Any, loss: str, prefix: str = "") -> None:
        self.engine, self.loss = net._engine, loss
        self.x, self.exponent = _checks.samples(net.input_shape, x, f"{prefix}x")
        self.labels = loss != "squared_error"
        if self.labels:
            self.y, self.y_exponent = _checks.labels(net.outputs, y, len(self.x), f"{prefix}y"), None
        else:
            self.y, self.y_exponent = _checks.values(net.outputs, y, len(self.x), f"{prefix}y")

    def __len__(self) -> int:
        return len(self.x)

    def mean(self, total: int, count: int) -> float:
        """Mean loss per sample: nats, or half the squared distance."""
        return total * _LOSS_UNIT / count * (_NATS if self.labels else 1.0)

    def record(self, total: int, correct: int, count: int) -> dict[str, float]:
        """Mean loss, and for labels the accuracy, of `count` samples."""
        record = {"loss": self.mean(total, count)}
        return record | {"accuracy": correct / count} if self.labels else record

    def train(
        self, order: NDArray[np.uint32], ends: list[int], largest: int, recipe: _tintin.Recipe, train_from: int
    ) -> tuple[int, int]:
        """Loss sum and right answers of steps on the samples in `order`, in batches with these ends.

        Plans for `largest` samples a batch.
        """
        places = np.array(ends, np.uint32)
        return self.engine.train(
            self.x, self.exponent, self.y, self.y_exponent, order, largest, largest, recipe, train_from, places
        )

    def evaluate(self) -> dict[str, float]:
        """`record` of all samples, without learning."""
        total, correct = self.engine.evaluate(self.x, self.exponent, self.y, self.y_exponent, self.loss)
        return self.record(total, correct, len(self))


def chunk(ends: list[int], at: int) -> int:
    """Index behind the last batch from `at` on of about `_CHUNK` samples; `ends` are the ends of all batches."""
    start = ends[at - 1] if at else 0
    return max(bisect.bisect(ends, start + _CHUNK), at + 1)
