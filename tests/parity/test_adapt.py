"""The wheel and the firmware `adapt` learn a task from a few samples with the same bits, within 256 KB of RAM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tintin
from tintin import Add, Branch, Conv2d, DepthwiseConv2d, GlobalAvgPool2d, Linear, MaxPool2d, ReLU, device, zoo
from tintin.device.runner import LinkError

CORES = ("m0", "m3", "m4", "m33")
BUDGET = 100_000

#: branches, strides, pools, depthwise and dense layers, with biases and without
LAYERS = [
    Conv2d(8, 3, 2, 1, bias=True), ReLU(),
    Conv2d(24, 1, bias=True), ReLU(), DepthwiseConv2d(5, 1, 2, bias=True), ReLU(), Conv2d(8, 1), Add(1), ReLU(),
    Conv2d(12, 3, padding=1), ReLU(), MaxPool2d(2), Branch(8), Conv2d(12, 1, 2, bias=True), Add(11), ReLU(),
    GlobalAvgPool2d(), Linear(20, bias=True),
]  # fmt: skip

POLICIES: dict[str, dict[str, Any]] = {
    "last_layer": {},
    "full": {"batch_size": 3},
    "bias_only": {"optimizer": tintin.TinTin(5, rounding="nearest", milestones=())},
    "sparse": {"choices": [(13, 7), (17, 20), (9, 1)]},
    "tinytrain": {"optimizer": tintin.TinTin(4, milestones=())},
    "layers": {"choices": [(13, 7), (6, 8)], "inspect": 4},
    "random_channels": {"compute_budget": 0.5, "inspect": 0},
    "dynamic": {"rows": (0.2, 0.7)},
}


def samples(shape: tuple[int, ...], ways: int, each: int, seed: int) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """Noise on a pattern for each class."""
    patterns = np.random.default_rng(9).integers(-70, 71, (ways, *shape))
    draw = np.random.default_rng(seed)
    y = draw.permutation(np.repeat(np.arange(ways), each))
    return (patterns[y] + draw.integers(-50, 51, (len(y), *shape))).astype(np.int8), y


def check(core: str, net: tintin.Sequential, ways: int = 4, **settings: Any) -> device.OnDevice:
    """Adapts there and here, and compares choices, every step and the classes of other samples."""
    settings = {"memory_budget": BUDGET, "steps": 3} | settings
    (x, y), (queries, _) = samples(net.input_shape, ways, 4, 1), samples(net.input_shape, ways, 3, 2)
    there = device.adapt(core, device.task(net, x, y, queries, **settings))
    here = net.adapt(x, y, **settings)
    assert there.start == net.digest()
    assert there.choices == here.choices
    assert there.digests == here.digests
    assert there.classes == here.predict(queries).tolist()
    return there


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("policy", POLICIES)
def test_policies(core: str, policy: str) -> None:
    net = tintin.Sequential(LAYERS, (16, 16, 3), seed=5)
    there = check(core, net, policy=policy, **POLICIES[policy])
    assert len(set(there.digests)) > 1


@pytest.mark.parametrize("core", CORES)
def test_nothing_learns(core: str) -> None:
    net = tintin.Sequential(LAYERS, (16, 16, 3), seed=6)
    (x, y), (queries, _) = samples(net.input_shape, 3, 2, 1), samples(net.input_shape, 3, 3, 2)
    there = device.adapt(core, device.task(net, x, y, queries, policy="none"))
    assert (there.start, there.digests, there.choices) == (net.digest(), [], [])
    assert len(there.classes) == 9


@pytest.mark.parametrize("core", CORES)
@pytest.mark.parametrize("rule", [tintin.TinTin(4, rounding="stochastic", milestones=()), tintin.Niti(milestones=())])
def test_a_net_of_the_zoo(core: str, rule: Any) -> None:
    """50 layers with weights; the plan tells what the firmware takes, to the byte."""
    there = check(core, zoo.mcunet((32, 32, 3), None, seed=1), ways=3, optimizer=rule, batch_size=2, steps=1)
    ram = there.ram
    assert ram["plan"] <= BUDGET
    assert 0 <= ram["used"] - ram["plan"] <= 3  # a word begins on a multiple of 4
    assert ram["touched"] <= ram["pool"] <= max(ram["plan"], ram["inspection"])
    assert ram["static"] + ram["stack_room"] <= 256 * 1024


def test_prices_are_those_of_the_wheel() -> None:
    net = tintin.Sequential(LAYERS, (16, 16, 3), seed=5)
    x, y = samples(net.input_shape, 4, 4, 1)
    there = device.adapt("m4", device.task(net, x, y, x, memory_budget=BUDGET, steps=1))
    assert there.ram["plan"] == net.adapt(x, y, memory_budget=BUDGET, steps=1).memory


def test_refusals() -> None:
    net = tintin.Sequential(LAYERS, (16, 16, 3), seed=5)
    x, y = samples(net.input_shape, 4, 4, 1)
    with pytest.raises(LinkError, match="no layer fits into the budgets"):
        device.adapt("m4", device.task(net, x, y, x, compute_budget=1e-4))
    large = zoo.resnet8(outputs=None)
    more, labels = samples(large.input_shape, 2, 2, 1)
    with pytest.raises(LinkError, match="the plan needs"):
        device.adapt("m4", device.task(large, more, labels, more, policy="full"))
    good = bytearray(device.task(net, x, y, x))
    altered = ((0, 9, "not a task"), (28, 99, "policy"), (68, 7, "recipe"), (300, good[300] ^ 1, "the net of the"))
    for at, value, why in altered:
        bad = bytearray(good)
        bad[at] = value
        with pytest.raises(LinkError, match=why):
            device.adapt("m4", bytes(bad))
    with pytest.raises(ValueError, match="the flash behind the firmware"):
        device.adapt("m4", bytes(1 << 20))
    with pytest.raises(ValueError, match="bring both to one scale"):
        device.task(net, x, y, tintin.quantize(x.astype(np.float32)))
    with pytest.raises(TypeError, match="unknown settings: stepz"):
        device.task(net, x, y, x, stepz=1)
