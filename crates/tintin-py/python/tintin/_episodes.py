"""Pre-training on episodes (arXiv 1703.05175): draws them, and loops over them."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from . import _checks, _extras
from . import adapt as _adapt
from .history import History, Record
from .optimizers import Niti, TinTin

if TYPE_CHECKING:
    from .model import Samples, Sequential

#: episodes a call of the engine takes
_CHUNK = 32


def fit(
    net: Sequential,
    x: Samples,
    y: Any,
    episodes: int,
    sizes: tuple[int, int, int],
    *,
    optimizer: TinTin | Niti | None,
    temperature: int,
    shift: int | tuple[int, int],
    seed: int,
    progress: bool | None,
) -> History:
    """`Sequential.fit_episodes`; `sizes` are ways, shots and queries."""
    episodes = _checks.count("episodes", episodes)
    names = ("ways", "shots", "queries")
    ways, shots, queries = (_checks.count(name, value) for name, value in zip(names, sizes, strict=True))
    if not 2 <= ways <= _adapt.MOST_CLASSES:
        raise ValueError(f"ways must be at least 2 and at most {_adapt.MOST_CLASSES}, got {ways}")
    if ways * shots > _adapt.MOST_SAMPLES:
        raise ValueError(f"ways * shots must be at most {_adapt.MOST_SAMPLES}, got {ways * shots}")
    array, exponent = _checks.samples(net.input_shape, x, "x")
    labels = _checks.integers(y, len(array), "y")
    _adapt.features(net)
    temperature = _adapt.power_of_two(temperature)
    limits, asked = _adapt.limits(net, shift), ways * queries
    optimizer = _adapt.small_steps(1, 6, (0.5, 0.75)) if optimizer is None else _checks.optimizer(optimizer)
    recipe = optimizer.recipe("cross_entropy", asked, net.step, episodes)
    rng = np.random.default_rng([_checks.count("seed", seed, 0), net.step])
    history, bar = History(), _extras.bar(episodes, "episodes", progress, _extras.FIGURES)
    try:
        for part in np.array_split(np.arange(episodes), min(10, episodes)):
            start, total, correct, done = time.perf_counter(), 0, 0, 0
            while done < len(part):
                n = min(_CHUNK, len(part) - done)
                drawn = draw(rng, labels, n, ways, shots, queries)
                added, right = net._engine.episodes(array, exponent, *drawn, temperature, limits, recipe)
                total, correct, done = total + added, correct + right, done + n
                if bar is not None:
                    bar.update(n)
            count = len(part) * asked
            record: Record = {"epoch": len(history) + 1, "loss": total * math.log(2.0) * 2.0**-16 / count}
            record |= {"accuracy": correct / count, "loss_name": "prototypes"}
            record["mu" if recipe.rule == "niti" else "learning_shift"] = recipe.at(max(net.step, 1) - 1)
            record["seconds"] = time.perf_counter() - start
            history.append(record)
    finally:
        if bar is not None:
            bar.close()
    return history


def draw(
    rng: np.random.Generator, y: NDArray[Any], count: int, ways: int, shots: int, queries: int
) -> tuple[NDArray[np.uint32], NDArray[np.uint16], NDArray[np.uint32], NDArray[np.uint16]]:
    """`count` episodes drawn from labels `y`: support and queries as sample numbers (count, n), and their classes."""
    order = np.argsort(y, kind="stable")
    classes, starts = np.unique(y[order], return_index=True)
    members = [group for group in np.split(order, starts[1:]) if len(group) >= shots + queries]
    if len(members) < ways:
        raise ValueError(
            f"episodes of {ways} ways, {shots} shots and {queries} queries need {ways} classes of at least "
            f"{shots + queries} samples; of {len(classes)} classes {len(members)} have so many"
        )
    support = np.empty((count, ways, shots), np.uint32)
    asked = np.empty((count, ways, queries), np.uint32)
    for e in range(count):
        for w, c in enumerate(rng.choice(len(members), ways, replace=False)):
            drawn = rng.choice(members[c], shots + queries, replace=False)
            support[e, w], asked[e, w] = drawn[:shots], drawn[shots:]
    labels = np.arange(ways, dtype=np.uint16)
    return (
        support.reshape(count, -1),
        np.tile(np.repeat(labels, shots), (count, 1)),
        asked.reshape(count, -1),
        np.tile(np.repeat(labels, queries), (count, 1)),
    )
