"""Update rules: how weights follow their gradient, and how fast.

Rates are powers of two, so an optimizer names shifts. Milestones are shares of the steps one `fit` will take.
"""

from __future__ import annotations

import operator
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

from ._tintin import Recipe

#: largest step number a schedule can name
_LAST_STEP = 2**32 - 2


@dataclass(frozen=True)
class TinTin:
    """The rule of Tin-Tin (arXiv 2504.09405): the gradient aligned to the weights' scale, a step capped by their range.

    learning_shift: the learning rate is 2^-learning_shift, 0 to 24. None picks by batch size and loss.
    margin: a step is at most 2^-margin of the weight range, 0 to 6.
    rounding: of the update: "stochastic" (unbiased, the default), "nearest" or "pseudo".
    milestones: shares of the steps after which `decay` is added to the learning shift, at most 4.
    Rules N19, N20 and N22 of `docs/numerics.md`.
    """

    learning_shift: int | None = None
    margin: int = 2
    rounding: str = "stochastic"
    milestones: Sequence[float] = (0.5, 0.75)
    decay: int = 2

    #: loss when `fit` is not told one
    default_loss = "cross_entropy"

    def __post_init__(self) -> None:
        if self.learning_shift is not None:
            _within("learning_shift", self.learning_shift, 0, 24)
        _within("margin", self.margin, 0, 6)
        _within("decay", self.decay, 0, 24)
        _check_rounding(self.rounding)
        _check_milestones(self.milestones)

    def recipe(self, loss: str, batch_size: int, first: int = 0, steps: int = 0) -> Recipe:
        """The engine's recipe for `steps` steps from step `first` on; without `steps` the rate is constant."""
        shift = self.learning_shift
        if shift is None:
            shift = default_learning_shift(batch_size, loss)
        marks = _steps(self.milestones, first, steps)
        return Recipe("tintin", self.rounding, loss, shift, self.decay, marks, self.margin)


@dataclass(frozen=True)
class Niti:
    """The rule of NITI (arXiv 2009.13108): every gradient tensor shifted to a width of `mu` bits, scales ignored.

    mu: -5 to 7; None picks by batch size.
    rounding: of the update: "pseudo" (NITI's own, the default), "stochastic" or "nearest".
    milestones: shares of the steps after which `decay` is taken from mu, at most 4.
    Rules N16, N21 and N22 of `docs/numerics.md`.
    """

    mu: int | None = None
    rounding: str = "pseudo"
    milestones: Sequence[float] = (0.5, 0.75)
    decay: int = 1

    #: loss when `fit` is not told one
    default_loss = "niti_cross_entropy"

    def __post_init__(self) -> None:
        if self.mu is not None:
            _within("mu", self.mu, -5, 7)
        _within("decay", self.decay, 0, 12)
        _check_rounding(self.rounding)
        _check_milestones(self.milestones)

    def recipe(self, loss: str, batch_size: int, first: int = 0, steps: int = 0) -> Recipe:
        """The engine's recipe for `steps` steps from step `first` on; without `steps` mu is constant."""
        mu = self.mu
        if mu is None:
            mu = 5 if batch_size >= 16 else 2
        marks = _steps(self.milestones, first, steps)
        return Recipe("niti", self.rounding, loss, mu, -self.decay, marks, 0)


def default_learning_shift(batch_size: int, loss: str = "cross_entropy") -> int:
    """Learning shift of `TinTin()`: chosen on validation data at batch 64 and 1 (`docs/results.md`), filled in between.

    Squared error gets 1 more: its gradients grow with the error, and deep auto-encoders diverge at the rates of
    cross-entropy.
    """
    shift = 2 if batch_size >= 32 else 3 if batch_size >= 16 else 4 if batch_size >= 8 else 5 if batch_size >= 3 else 6
    return shift + 1 if loss == "squared_error" else shift


def _steps(milestones: Sequence[float], first: int, steps: int) -> list[int]:
    return [min(first + int(share * steps), _LAST_STEP) for share in milestones] if steps else []


def _within(name: str, value: Any, least: int, most: int) -> None:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or not least <= number <= most:
        raise ValueError(f"{name} must be a whole number, {least} to {most}, got {value!r}")


def _check_rounding(rounding: Any) -> None:
    if rounding not in ("nearest", "pseudo", "stochastic"):
        raise ValueError(f"rounding must be 'nearest', 'pseudo' or 'stochastic', got {rounding!r}")


def _check_milestones(milestones: Sequence[float]) -> None:
    if isinstance(milestones, str) or not isinstance(milestones, Sequence):
        raise TypeError(f"milestones must be a list of shares of the training, got {milestones!r}")
    if len(milestones) > 4:
        raise ValueError(f"at most 4 milestones, got {len(milestones)}")
    for share in milestones:
        if not isinstance(share, Real) or not 0 <= share <= 1:
            raise ValueError(f"milestones are shares of the training, 0 to 1, got {share!r}")
