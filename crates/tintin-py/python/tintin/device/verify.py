"""Train here and on a runner, and compare after every step: the same bits, or the first step that differs."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks, _tintin, datasets, models
from .._data import Data
from ..model import Sequential
from ..optimizers import TinTin
from .runner import Hello, LinkError, Runner, Stepped

if TYPE_CHECKING:
    from ..datasets import Dataset

#: nets trained when none is given, by data set; random samples are those of the first
_DEFAULTS = {"mnist": models.lenet5, "digits": models.small}
#: random samples drawn when there are no others
_RANDOM = 256


@dataclass(frozen=True)
class Difference:
    """The first step that differs: what came out here and there, and which tensors do not agree.

    A `step` of 0 is the net as it was loaded.
    """

    step: int
    here: Stepped
    there: Stepped
    tensors: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        said = [
            f"{what} {form.format(a)} here, {form.format(b)} there"
            for what, form, a, b in (
                ("digest", "{:#018x}", self.here.digest, self.there.digest),
                ("loss", "{}", self.here.loss, self.there.loss),
                ("right answers", "{}", self.here.correct, self.there.correct),
                ("step", "{}", self.here.step, self.there.step),
            )
            if a != b
        ]
        where = f" in {', '.join(self.tensors)}" if self.tensors else ""
        return f"step {self.step}{where}: {'; '.join(said)}"


@dataclass(frozen=True)
class Outcome:
    """What comparing came to: steps that agreed, the last digest here, and the difference if there was one."""

    hello: Hello
    steps: int
    digest: int
    loss: int
    difference: Difference | None

    @property
    def equal(self) -> bool:
        """Every step had the same digest, loss and right answers on both sides."""
        return self.difference is None


@dataclass(frozen=True)
class Samples:
    """Checked samples for a net: int8 mantissas (n, values), labels or values, and where they came from."""

    x: NDArray[np.int8]
    exponent: int
    y: NDArray[Any]
    target_exponent: int | None
    source: str

    def batches(self, batch_size: int) -> Iterator[tuple[NDArray[np.int8], NDArray[Any]]]:
        """Batches in order, again and again; all of `batch_size` samples."""
        order = np.arange(batch_size)
        while True:
            yield self.x[order % len(self.x)], self.y[order % len(self.x)]
            order = order + batch_size


def samples(net: Sequential, x: Any, y: Any, loss: str, source: str = "given") -> Samples:
    """Samples as `Sequential.fit` takes them. Raises what it raises."""
    data = Data(net, x, y, loss)
    values = np.maximum(data.x, -127) if data.x.dtype == np.int8 else (data.x >> 1).astype(np.int8)
    target = data.y if data.labels else np.maximum(data.y, -127)
    return Samples(values.reshape(len(values), -1), data.exponent, target, data.y_exponent, source)


def random_samples(net: Sequential, loss: str, seed: int) -> Samples:
    """Noise: mantissas -127..127, and labels or values, drawn from `seed`."""
    draw = np.random.Generator(np.random.PCG64(seed))
    x = draw.integers(-127, 128, (_RANDOM, int(np.prod(net.input_shape))), dtype=np.int8)
    if loss == "squared_error":
        y: NDArray[Any] = draw.integers(-127, 128, (_RANDOM, net.outputs), dtype=np.int8)
    else:
        y = draw.integers(0, net.outputs, _RANDOM)
    return samples(net, x, y, loss, "random samples")


def data_samples(net: Sequential, data: Dataset, loss: str) -> Samples:
    """The training part of a data set, whose targets are the samples themselves where the loss wants values."""
    if loss == "squared_error" and net.outputs != int(np.prod(net.input_shape)):
        raise ValueError(
            f"the net was trained with squared_error on values of its own, which {data.name} does not have: leave out "
            f"the data set, then random samples and values are taken"
        )
    y = data.x_train.reshape(len(data.x_train), -1) if loss == "squared_error" else data.y_train
    return samples(net, data.x_train, y, loss, f"{len(data.x_train)} training samples of {data.name}")


def default(seed: int) -> Sequential:
    """LeNet-5 where MNIST is at hand, a small net where digits are, else LeNet-5 for random samples."""
    name = next((name for name in _DEFAULTS if datasets.find(name) is not None), "mnist")
    if name == "digits":
        return models.small(seed=seed)
    return models.lenet5(seed=seed)


def choose_samples(net: Sequential, loss: str, name: str | None, seed: int) -> Samples:
    """The samples of the data set `name`; without a name those of one that is at hand and fits, else random ones."""
    if name is not None:
        return data_samples(net, datasets.load(name), loss)
    for name in _DEFAULTS:
        if datasets.find(name) is not None:
            data = datasets.load(name, download=False)
            inputs = int(np.prod(data.input_shape))
            if data.input_shape == net.input_shape and net.outputs == (
                inputs if loss == "squared_error" else len(data.classes)
            ):
                return data_samples(net, data, loss)
    return random_samples(net, loss, seed)


def recipe_of(net: Sequential, batch_size: int) -> _tintin.Recipe:
    """How the net was trained last, or TinTin's defaults for a net that never was."""
    return net._engine.recipe or TinTin().recipe("cross_entropy", batch_size)


def compare(
    runner: Runner,
    net: Sequential,
    given: Samples,
    recipe: _tintin.Recipe,
    steps: int = 100,
    batch_size: int = 1,
    *,
    train_from: int = 0,
) -> Outcome:
    """Train `steps` steps on both sides from the state of `net`, which stays as it is, until one differs.

    Compares digest, loss, right answers and step number after every step. Raises LinkError when the runner does not
    answer, DoesNotFit and Refused as `Runner.load` and `Runner.step`, ValueError where `Sequential.fit` does.
    """
    steps, batch_size = _checks.count("steps", steps), _checks.count("batch_size", batch_size)
    here = copy.copy(net)
    engine = here._engine
    order = np.arange(batch_size, dtype=np.uint32)
    loaded = runner.load(here, batch_size, train_from=train_from)
    runner.set_recipe(recipe)
    own, other = Stepped(here.step, 0, 0, here.digest()), Stepped(loaded.step, 0, 0, loaded.digest)
    done, batches = 0, given.batches(batch_size)
    while own == other and done < steps:
        x, y = next(batches)
        score = engine.train(
            x, given.exponent, y, given.target_exponent, order, batch_size, batch_size, recipe, train_from
        )
        own, other = Stepped(here.step, *score, here.digest()), runner.step(x, given.exponent, y, given.target_exponent)
        done += 1
    difference = None if own == other else Difference(done, own, other, differing_tensors(here, runner.save()))
    return Outcome(runner.hello, done if difference is None else max(done - 1, 0), own.digest, own.loss, difference)


def differing_tensors(net: Sequential, saved: bytes) -> list[str]:
    """The tensors of `net` that are others in a .tin file of the same layers: "layer 3 (Linear) bias"."""
    try:
        there = Sequential.from_bytes(saved)
    except ValueError as error:
        raise LinkError(f"the runner's net cannot be read back: {error}") from None
    return [
        f"layer {a['layer']} ({type(net.layers[a['layer']]).__name__}) {'bias' if a['bias'] else 'weights'}"
        for a, b in zip(net.tensors(), there.tensors(), strict=True)
        if a["scale"] != b["scale"] or not np.array_equal(a["mantissas"], b["mantissas"])
    ]
