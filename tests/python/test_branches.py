"""Branch and Add: nets that cannot be, files, tables, and predictions that do not depend on their neighbours."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused

import tintin
from tintin import (
    Add,
    AvgPool2d,
    Branch,
    Conv2d,
    DepthwiseConv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)

SHAPE = (8, 8, 2)


def same(channels: int = 4) -> Conv2d:
    return Conv2d(channels, 3, padding=1, bias=True)


#: around one layer, around several by a convolution, a tensor with three users, an Add of a tensor to itself
NETS: dict[str, list[tintin.Layer]] = {
    "around": [same(), ReLU(), same(), Add(1), ReLU(), GlobalAvgPool2d(), Linear(3)],
    "stride": [
        same(), ReLU(), Conv2d(6, 3, stride=2, padding=1), ReLU(), same(6), Branch(1), Conv2d(6, 1, stride=2),
        Add(4), ReLU(), Flatten(), Linear(3, bias=True),
    ],
    "three": [
        same(), same(), Add(0), ReLU(), DepthwiseConv2d(3, padding=1), Add(0), MaxPool2d(2), Flatten(), Linear(3),
    ],
    "twice": [same(), ReLU(), MaxPool2d(2), Branch(2), Add(2), AvgPool2d(2), Flatten(), Linear(3)],
}  # fmt: skip
X = np.random.default_rng(3).integers(0, 256, (12, *SHAPE)).astype(np.uint8)
Y = np.arange(12) % 3


def net(name: str) -> Sequential:
    return Sequential(NETS[name], SHAPE, seed=5)


@pytest.mark.parametrize(
    ("layers", "parts"),
    [
        ([Add(0), Linear(3)], ["layer 0 (Add)", "does not come before it"]),
        ([Branch(0), Linear(3)], ["layer 0 (Branch)", "does not come before it"]),
        ([same(), Add(1), Flatten()], ["layer 1 (Add)", "does not come before it"]),
        ([same(), ReLU(), Branch(3), same()], ["layer 2 (Branch)", "does not come before it"]),
        ([same(), Add(65535)], ["layer 1 (Add)", "does not come before it"]),
        ([same(), Flatten(), Linear(3), Branch(1), Linear(3), Add(2)], ["layer 3 (Branch)", "Branch or a Flatten"]),
        ([same(), same(), Branch(0), same(), Add(2)], ["layer 4 (Add)", "Branch or a Flatten"]),
        ([same(), same(6), Add(0)], ["layer 2 (Add)", "different shapes", "input 8 x 8 x 6"]),
        ([same(), MaxPool2d(2), Add(0)], ["layer 2 (Add)", "different shapes", "input 4 x 4 x 4"]),
        ([same(), Flatten(), Add(0)], ["layer 2 (Add)", "different shapes", "input 1 x 1 x 256"]),
        ([same(), same(), Branch(0), same()], ["not used", "Branch or an Add"]),
        ([same(), same(), Branch(0), same(), same(), Add(0)], ["not used", "Branch or an Add"]),
        ([same(), same(), Branch(0)], ["ends in a Branch"]),
        ([same(), Branch(0), Linear(300), Add(0)], ["layer 3 (Add)", "different shapes"]),
    ],
)
def test_nets_that_cannot_be(layers: list[tintin.Layer], parts: list[str]) -> None:
    refused(ValueError, *parts, call=lambda: Sequential(layers, SHAPE))


@pytest.mark.parametrize("make", [Add, Branch])
def test_indices(make: Any) -> None:
    name = make.__name__
    refused(ValueError, f"{name}: layer", "0 to 65535", "-1", call=lambda: make(-1))
    refused(ValueError, f"{name}: layer", "65536", call=lambda: make(65536))
    refused(TypeError, f"{name}: layer", "1.5", call=lambda: make(1.5))
    refused(ValueError, f"{name}: layer", "True", call=lambda: make(True))
    assert make(np.int64(3)) == make(3) and str(make(3)) == f"{name}(3)"


@pytest.mark.parametrize("name", NETS)
def test_files_and_copies(name: str, tmp_path: Path) -> None:
    one = net(name)
    one.fit(X, Y, epochs=2, batch_size=4)
    one.save(tmp_path / "m.tin")
    for other in (tintin.load(tmp_path / "m.tin"), copy.deepcopy(one), pickle.loads(pickle.dumps(one))):
        assert other == one and other.layers == NETS[name] and other.digest() == one.digest()
        assert (other.logits(X) == one.logits(X)).all()
        other.partial_fit(X, Y)
        assert other.step == one.step + 1


@pytest.mark.parametrize("name", NETS)
def test_summary_and_memory(name: str) -> None:
    one = net(name)
    text = one.summary()
    for i, layer in enumerate(NETS[name]):
        assert f"{i} {layer}" in text
    for batch, limit in ((1, None), (5, None), (5, one.memory(5).total - 1)):
        try:
            memory = one.memory(batch, limit=limit)
        except ValueError:
            assert limit is not None
            continue
        assert sum(memory.by_role.values()) == memory.total and memory.flash == len(one.to_bytes())
        assert memory.weights == one.memory(training=False).weights


@pytest.mark.parametrize("name", NETS)
def test_predictions_do_not_depend_on_neighbours(name: str) -> None:
    one = net(name)
    one.fit(X, Y, epochs=2, batch_size=4)
    x = np.concatenate([X, X // 16, np.zeros_like(X[:1]), np.full_like(X[:1], 255)])  # peaks of their own
    logits = one.logits(x)
    for i in range(len(x)):
        assert (one.logits(x[i : i + 1]) == logits[i]).all()
    order = np.random.default_rng(0).permutation(len(x))
    assert (one.logits(x[order]) == logits[order]).all()


@pytest.mark.parametrize("name", NETS)
def test_learns_and_freezes(name: str) -> None:
    y = np.arange(12) % 2
    x = X // 4
    x[np.arange(12), :, :, y] += 128  # the brighter channel
    one = net(name)
    one.fit(x, y, epochs=40, batch_size=4, optimizer=tintin.TinTin(2))
    assert one.score(x, y) > 0.9
    frozen, last = one.tensors(), len(NETS[name]) - 1
    one.fit(x, 1 - y, epochs=2, batch_size=4, train_from=last)
    for old, new in zip(frozen, one.tensors(), strict=True):
        if old["layer"] < last:
            assert (old["mantissas"] == new["mantissas"]).all() and old["scale"] == new["scale"]


def test_shapes_right_behind_a_branch() -> None:
    shapes = net("stride")._engine.shapes()
    assert shapes[4] == (4, 4, 6) and shapes[5] == (8, 8, 4) and shapes[6] == shapes[7] == (4, 4, 6)
    first = Sequential([same(), ReLU(), MaxPool2d(2), Branch(1), MaxPool2d(2), Add(2)], SHAPE)._engine.shapes()
    assert first == [(8, 8, 4), (8, 8, 4), (4, 4, 4), (8, 8, 4), (4, 4, 4), (4, 4, 4)]


def test_a_branch_to_the_layer_before_changes_nothing() -> None:
    plain = Sequential([same(), ReLU(), GlobalAvgPool2d(), Linear(3)], SHAPE)
    # but for the names: initial weights hang on the index of a layer
    named = Sequential([same(), ReLU(), Branch(1), GlobalAvgPool2d(), Linear(3)], SHAPE)
    for tensor, index in zip(plain.tensors(), (0, 0, 4), strict=True):
        named.set_tensor(index, tensor["mantissas"], tensor["scale"], bias=tensor["bias"])
    assert named.digest() == plain.digest()
    assert (named.logits(X) == plain.logits(X)).all()
