"""Adaptation to a new task from a few labelled samples: settings, and what comes of it.

TinyTrain (arXiv 2307.09988) and its peers, in integers: rules N29 to N37 of `docs/numerics.md`, guide in
`docs/adapt.md`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _checks, _tintin
from .optimizers import Niti, TinTin

if TYPE_CHECKING:
    from .model import Samples, Sequential

#: what `Sequential.adapt` may train
POLICIES = (
    "none", "full", "last_layer", "bias_only", "sparse", "tinytrain", "layers", "random_channels", "dynamic",
)  # fmt: skip
#: of these, those told what to train, and those that choose by the samples
CHOSEN_BY_HAND, CHOSEN_BY_SAMPLES = ("sparse", "layers"), ("tinytrain", "random_channels")
#: those that train now these rows and now those, and so copy whole layers to RAM
REDRAWN = ("random_channels", "dynamic")
#: a share of one, as the engine counts it
_ONE = 1 << 15
#: learning shift of an adaptation, chosen on validation classes (`docs/results.md`)
LEARNING_SHIFT = 4
#: the same of its cap
MARGIN = 5
#: the same as `temperature`, chosen alike
TEMPERATURE = 16
#: values of a prototype, support samples (N30), classes (N31)
MOST_FEATURES, MOST_SAMPLES, MOST_CLASSES = 1024, 1 << 15, 4096
#: share of the layers with weights, counted from the last, that may learn unless told
INSPECT = 0.5

Choices = Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Trained:
    """A layer that learned: its index, its rows in number, and which (of "random_channels" and "dynamic" the first)."""

    layer: int
    count: int
    rows: tuple[int, ...]


class Adapted:
    """A net adapted to the classes of a support set. The net it came from stays as it was.

    net: the adapted net. classes: the labels of the support set, rising. prototypes: (classes, features) int16, each of
    length 2^14: a sample belongs to the class whose prototype has the smallest angle to its features.
    trained: the layers that learned; none under "none", or where no sample had any error. memory: bytes of RAM of the
    plan that learned; products: multiply-accumulates of one sample's backward pass, full_products: of that of full
    training. losses: mean loss of every step in nats; accuracies: share of its queries that were right; digests: of
    the net after every step.
    """

    net: Sequential
    classes: NDArray[np.int64]
    prototypes: NDArray[np.int16]
    trained: list[Trained]
    memory: int
    products: int
    full_products: int
    losses: list[float]
    accuracies: list[float]
    digests: list[int]

    def __init__(self, net: Sequential, classes: NDArray[np.int64], told: dict[str, Any], sizes: Sequence[int]) -> None:
        self.net, self.classes = net, classes
        self.prototypes = told["prototypes"].reshape(len(classes), -1)
        self.trained = [Trained(layer, count, tuple(rows)) for layer, count, rows in told["choices"]]
        self.memory, self.products, self.full_products = told["memory"], told["products"], told["full_products"]
        unit = math.log(2.0) * 2.0**-16
        steps = list(zip(told["losses"], sizes, strict=True))
        self.losses = [loss * unit / size for (loss, _), size in steps]
        self.accuracies = [correct / size for (_, correct), size in steps]
        self.digests = told["digests"]

    @property
    def choices(self) -> list[tuple[int, int]]:
        """(layer, number of rows) of the layers that learned: what `memory` and `adapt` take as `choices`."""
        return [(trained.layer, trained.count) for trained in self.trained]

    def predict(self, x: Samples) -> NDArray[np.int64]:
        """Class of each sample, (n,) int64, one of `classes`. Raises as `Sequential.predict`."""
        found: NDArray[np.int64] = self.classes[self.net.nearest(x, self.prototypes)]
        return found

    def score(self, x: Samples, y: Any) -> float:
        """Share of samples whose class is right."""
        y = np.asarray(y)
        found = self.predict(x)
        if y.shape != found.shape:
            raise ValueError(f"y must hold one label per sample: {len(found)} samples, got shape {y.shape}")
        return float(np.mean(found == y))

    def __repr__(self) -> str:
        parts = (f"{t.layer} ({t.count} rows)" if t.count else f"{t.layer} (bias)" for t in self.trained)
        layers = ", ".join(parts) or "none"
        share = self.products / self.full_products
        return (
            f"Adapted({len(self.classes)} classes, {len(self.losses)} steps; layers {layers}; {self.memory:,} bytes of "
            f"RAM, {share:.3f} of the full backward products)"
        )


def settings(
    net: Sequential,
    *,
    policy: str,
    memory_budget: int | None,
    compute_budget: float,
    steps: int,
    batch_size: int,
    optimizer: TinTin | Niti | None,
    temperature: int,
    shift: int | tuple[int, int],
    ratio: float,
    inspect: float | int,
    choices: Choices | None,
    rows: tuple[float, float],
    samples: int = 0,
) -> _tintin.Adaptation:
    """The engine's settings, checked. samples: of the support set, for milestones to be steps; 0 leaves them out."""
    if policy not in POLICIES:
        raise ValueError(f"policy must be one of {', '.join(map(repr, POLICIES))}, got {policy!r}")
    if (choices is None) == (policy in CHOSEN_BY_HAND):
        need = "needs" if choices is None else "takes no"
        raise ValueError(f"policy {policy!r} {need} choices: a list of (layer, number of rows)")
    named = [] if choices is None else checked(net, choices)
    batch_size, steps = _checks.count("batch_size", batch_size), _checks.count("steps", steps)
    exponent = power_of_two(temperature)
    optimizer = small_steps(LEARNING_SHIFT, MARGIN) if optimizer is None else optimizer
    total = steps * -(-samples // batch_size)
    recipe = _checks.optimizer(optimizer).recipe("cross_entropy", batch_size, net.step, total)
    if not isinstance(rows, (tuple, list)) or len(rows) != 2:
        raise ValueError(f"rows must be a pair of shares (least, most), got {rows!r}")
    first = _first(net, inspect)
    if policy == "layers":  # no rows are told apart that were not inspected
        first = min(first, *(layer for layer, _ in named))
    return _tintin.Adaptation(
        policy,
        named,
        2**63 if memory_budget is None else _checks.count("memory_budget", memory_budget),
        _share("compute_budget", compute_budget),
        _share("ratio", ratio),
        first,
        exponent,
        limits(net, shift),
        batch_size,
        steps,
        (_share("rows", rows[0]), min(_share("rows", rows[1]), _ONE - 1)),
        recipe,
    )


def adapt(net: Sequential, x: Samples, y: Any, told: _tintin.Adaptation, batch_size: int) -> Adapted:
    """Runs it."""
    from .model import Sequential

    array, exponent = _checks.samples(net.input_shape, x, "x")
    classes, labels = np.unique(_checks.integers(y, len(array), "y"), return_inverse=True)
    if classes[-1] > np.iinfo(np.int64).max:
        raise ValueError(f"y must be labels below 2^63, got {classes[-1]}")
    counts = np.bincount(labels)
    if len(classes) < 2:
        raise ValueError(f"adaptation needs at least 2 classes, got support samples of class {classes[0]} alone")
    if counts.min() < 2:
        few = classes[counts < 2]
        names = f"{', '.join(map(str, few[:5]))}{' and others' if len(few) > 5 else ''}"
        raise ValueError(
            f"every class needs at least 2 support samples, one to compare with and one to learn from; "
            f"{f'class {names} has' if len(few) == 1 else f'classes {names} have'} 1"
        )
    if told.policy not in CHOSEN_BY_SAMPLES:
        net._engine.foresee(told)  # a budget that does not hold is told before anything is trained
    engine, found = net._engine.adapt(array, exponent, labels.astype(np.uint16), len(classes), told)
    batches = -(-len(labels) // batch_size)
    sizes = [(i + 1) * len(labels) // batches - i * len(labels) // batches for i in range(batches)]
    sizes *= len(found["losses"]) // batches  # no step where nothing is to be learned
    return Adapted(Sequential._of(engine), classes.astype(np.int64), found, sizes)


def planned(
    net: Sequential, policy: str | None, choices: Choices | None, batch_size: int, inspect: float | int
) -> list[tuple[int, int]]:
    """What a policy will train, as far as it is known without samples."""
    if choices is not None:
        if policy not in (None, *CHOSEN_BY_HAND, *CHOSEN_BY_SAMPLES, *REDRAWN):
            raise ValueError(f"policy {policy!r} takes no choices")
        if policy in CHOSEN_BY_SAMPLES and len(choices) == 0:
            return []  # of an adaptation that found nothing to learn
        return checked(net, choices)
    if policy in CHOSEN_BY_SAMPLES:
        raise ValueError(f"what {policy!r} trains depends on the samples: pass choices, as of an adaptation")
    told = settings(
        net, policy=policy or "full", memory_budget=None, compute_budget=1.0, steps=1, batch_size=batch_size,
        optimizer=None, temperature=1, shift=0, ratio=1.0, inspect=inspect, choices=None, rows=(0.1, 0.9),
    )  # fmt: skip
    found: list[tuple[int, int]] = net._engine.foresee(told)["choices"]
    return found


def checked(net: Sequential, choices: Any) -> list[tuple[int, int]]:
    """Choices of layers that are there, none twice, with no more rows than they have."""
    try:
        pairs = [(layer, count) for layer, count in choices]
    except (TypeError, ValueError):
        raise TypeError(f"choices must be a list of (layer, number of rows), got {choices!r}") from None
    pairs = [(_checks.count("layer", layer, 0), _checks.count("number of rows", count, 0)) for layer, count in pairs]
    tensors = net.tensors()
    rows = {tensor["layer"]: len(tensor["mantissas"]) for tensor in tensors if not tensor["bias"]}
    biased = {tensor["layer"] for tensor in tensors if tensor["bias"]}
    if not pairs:
        raise ValueError("choices name no layer")
    for layer, count in pairs:
        if layer not in rows:
            raise ValueError(f"choices name layer {layer}, but weights have only {', '.join(map(str, rows))}")
        if count > rows[layer]:
            raise ValueError(f"choices name {count} rows of layer {layer}, which has {rows[layer]}")
        if count == 0 and layer not in biased:
            raise ValueError(f"choices name 0 rows of layer {layer}, which is its bias alone, but it has none")
    if len({layer for layer, _ in pairs}) < len(pairs):
        raise ValueError(f"choices name a layer twice: {pairs}")
    return pairs


def features(net: Sequential) -> None:
    """Refuses a net with more outputs than a prototype may have."""
    if net.outputs > MOST_FEATURES:
        raise ValueError(f"the net yields {net.outputs} features, prototypes take 1 to {MOST_FEATURES}")


def small_steps(learning_shift: int, margin: int, milestones: Sequence[float] = ()) -> TinTin:
    """Tin-Tin with a small cap: the loss of prototypes has small, steady gradients (`docs/results.md`)."""
    return TinTin(learning_shift=learning_shift, margin=margin, milestones=milestones)


def limits(net: Sequential, shift: int | tuple[int, int]) -> tuple[int, int]:
    """Most places a sample is moved, down and right; a signal of height 1 moves to the right alone."""
    pair = tuple(shift) if isinstance(shift, (tuple, list)) else (shift if net.input_shape[0] > 1 else 0, shift)
    if len(pair) != 2 or any(_checks.count("shift", v, 0) > 255 for v in pair):
        raise ValueError(f"shift must be 0 to 255 places, or a pair (down, right), got {shift!r}")
    return pair[0], pair[1]


def power_of_two(temperature: Any) -> int:
    """The exponent of a temperature."""
    number = _checks.count("temperature", temperature)
    if number > 64 or number & (number - 1):
        raise ValueError(f"temperature must be a power of two, 1 to 64, got {temperature}")
    return number.bit_length() - 1


def _share(name: str, value: Any) -> int:
    """A share of one in the engine's units."""
    if isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating)) or not 0 < value <= 1:
        raise ValueError(f"{name} must be above 0 and at most 1, got {value!r}")
    return max(1, round(float(value) * _ONE))


def _first(net: Sequential, inspect: float | int) -> int:
    """Index of the first layer that may learn: given, or so that a share of the layers with weights may."""
    weighted = [tensor["layer"] for tensor in net.tensors() if not tensor["bias"]]
    if not isinstance(inspect, (float, np.floating)):
        first = _checks.count("inspect", inspect, 0)
        if weighted and first > weighted[-1]:
            raise ValueError(f"inspect must be at most {weighted[-1]}, the last layer with weights, got {first}")
        return first
    if not 0 < inspect <= 1:
        raise ValueError(f"inspect must be a layer's index, or a share above 0 and at most 1 of them, got {inspect!r}")
    return int(weighted[-max(1, math.ceil(inspect * len(weighted)))]) if weighted else 0
