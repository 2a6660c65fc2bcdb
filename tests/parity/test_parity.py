"""The wheel and a runner take the same steps: on this machine, on five emulated cores, with and without DSP."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
import pytest
from helpers import at_step, layer, resealed
from test_vectors import TRACES, recipe_of

import tintin
from tintin import (
    AvgPool2d,
    Conv2d,
    DepthwiseConv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    datasets,
    device,
    models,
)
from tintin.device import frames
from tintin.device.runner import DAMAGED, STEP

#: random nets per runner, and nets of one test
RANDOM, GROUP = 80, 10
#: past the look at the range of the weights after 64 (N20)
STEPS = 67

NETS: dict[str, tuple[list[tintin.Layer], tuple[int, ...]]] = {
    "linear": ([Linear(19, bias=True), ReLU(), Linear(5)], (23,)),
    "conv": (
        [
            Conv2d(5, 3, padding=1, bias=True), ReLU(), MaxPool2d(2),
            Conv2d(7, (2, 3), stride=(1, 2)), ReLU(), Flatten(), Linear(4, bias=True),
        ],
        (9, 8, 2),
    ),
}  # fmt: skip


def check(runner: device.Runner, net: tintin.Sequential, given: Any, recipe: Any, steps: int, batch: int) -> None:
    outcome = device.compare(runner, net, given, recipe, steps, batch)
    assert outcome.equal, str(outcome.difference)
    assert outcome.steps == steps


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("rounding", ["nearest", "pseudo", "stochastic"])
@pytest.mark.parametrize("rule", [tintin.TinTin, tintin.Niti])
@pytest.mark.parametrize("kind", NETS)
def test_rules(runner: device.Runner, kind: str, rule: Any, rounding: str, batch: int) -> None:
    layers, shape = NETS[kind]
    for loss in (rule.default_loss, "squared_error"):
        net = tintin.Sequential(layers, input_shape=shape, seed=batch)
        recipe = rule(rounding=rounding).recipe(loss, batch, 0, STEPS)
        check(runner, net, device.random_samples(net, loss, 3), recipe, STEPS, batch)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem.removeprefix("trace_"))
def test_golden_traces(runner: device.Runner, path: Any) -> None:
    """The digests that the oracle wrote down, without the wheel in between."""
    trace = json.loads(path.read_text())
    net = tintin.Sequential([layer(w) for w in trace["layers"]], input_shape=trace["input"], seed=trace["seed"])
    largest = max(len(step["samples"]) for step in trace["steps"])
    loaded = runner.load(net, largest, train_from=trace["train_from"])
    assert loaded.digest == int(trace["initial_digest"], 16)
    runner.set_recipe(recipe_of(trace["recipe"]))
    samples, exponent = np.array(trace["samples"], np.int8), trace["input_exponent"]
    for step in trace["steps"]:
        x = samples[step["samples"]]
        if "labels" in step:
            done = runner.step(x, exponent, np.array(step["labels"]))
        else:
            done = runner.step(x, exponent, np.array(step["targets"], np.int8), trace["recipe"]["target_exponent"])
        assert (done.loss, done.correct, done.digest) == (step["loss"], step["correct"], int(step["digest"], 16))
    for sample in trace["predict"]:
        mantissas, scale = runner.predict(np.array(sample["x"], np.int8), exponent)
        assert (mantissas.tolist(), list(scale)) == (sample["q"], sample["scale"])


def random_layers(draw: np.random.Generator) -> tuple[list[tintin.Layer], tuple[int, int, int]]:
    """Any layers that follow each other, sizes odd and even, and something to train at the end."""

    def pair(least: int, most: int) -> tuple[int, int]:
        low, high = draw.integers(least, most + 1, 2)
        return int(low), int(high)

    shape = (int(draw.integers(1, 14)), int(draw.integers(1, 14)), int(draw.integers(1, 9)))
    layers: list[tintin.Layer] = []
    kinds = ("conv", "conv", "conv", "depthwise", "relu", "max", "average", "global", "linear")
    for kind in draw.choice(kinds, draw.integers(0, 6)):
        bias, kernel, stride = bool(draw.integers(2)), pair(1, 5), pair(1, 3)
        if kind in ("conv", "depthwise"):
            padding = (int(draw.integers(kernel[0])), int(draw.integers(kernel[1])))
            if kind == "depthwise":
                layers.append(DepthwiseConv2d(kernel, stride, padding, bias))
            else:
                layers.append(Conv2d(int(draw.integers(1, 18)), kernel, stride, padding, bias))
        elif kind in ("max", "average"):
            layers.append((MaxPool2d if kind == "max" else AvgPool2d)(pair(1, 3), stride))
        elif kind == "linear":
            layers.append(Linear(int(draw.integers(1, 50)), bias))
        else:
            layers.append(ReLU() if kind == "relu" else GlobalAvgPool2d())
        try:
            tintin.Sequential(layers, input_shape=shape)
        except ValueError:
            layers.pop()  # too large a window, for one
    return [*layers, Linear(int(draw.integers(1, 40)), bool(draw.integers(2)))], shape


def random_case(seed: int) -> tuple[tintin.Sequential, Any, Any, int]:
    """A net, samples, a recipe and a batch size."""
    draw = np.random.default_rng(seed)
    layers, shape = random_layers(draw)
    net = tintin.Sequential(layers, input_shape=shape, seed=seed)
    net = at_step(net, int(draw.choice([0, 62])))
    batch = int(draw.integers(1, 6))
    rounding, decay = str(draw.choice(["nearest", "pseudo", "stochastic"])), int(draw.integers(4))
    loss = str(draw.choice(["cross_entropy", "niti_cross_entropy", "squared_error"]))
    rule: Any
    if draw.integers(2):
        rule = tintin.TinTin(int(draw.integers(9)), int(draw.integers(7)), rounding, decay=decay)
    else:
        rule = tintin.Niti(int(draw.integers(-5, 8)), rounding, decay=decay)
    return net, device.random_samples(net, loss, seed), rule.recipe(loss, batch, net.step, 4), batch


@pytest.mark.parametrize("first", range(0, RANDOM, GROUP))
def test_random_nets(runner: device.Runner, first: int) -> None:
    for seed in range(first, first + GROUP):
        net, given, recipe, batch = random_case(seed)
        outcome = device.compare(runner, net, given, recipe, 4, batch)
        assert outcome.equal, f"seed {seed}, {net!r}: {outcome.difference}"
        after = tintin.Sequential.from_bytes(runner.save())
        assert after.digest() == outcome.digest and after.step == net.step + 4
        mantissas, scales = after._engine.predict(given.x[:1], given.exponent)
        there, scale = runner.predict(given.x[0], given.exponent)
        assert there.tolist() == mantissas[0].tolist() and list(scale) == scales[0].tolist()


def test_lenet5_on_mnist(runner: device.Runner) -> None:
    if datasets.find("mnist") is None:
        try:
            datasets.load("mnist")
        except OSError as error:
            pytest.skip(f"MNIST is not here and cannot be had: {error}")
    net = models.lenet5(seed=1)
    given = device.choose_samples(net, "cross_entropy", "mnist", 0)
    check(runner, net, given, tintin.TinTin().recipe("cross_entropy", 1, 0, 110), 110, 1)


def test_lenet5_on_noise_in_batches(runner: device.Runner) -> None:
    net = models.lenet5(seed=2)
    given = device.random_samples(net, "niti_cross_entropy", 0)
    check(runner, net, given, tintin.Niti().recipe("niti_cross_entropy", 4), 5, 4)


def test_frozen_layers_stay(runner: device.Runner) -> None:
    layers, shape = NETS["conv"]
    net = tintin.Sequential(layers, input_shape=shape, seed=5)
    given = device.random_samples(net, "cross_entropy", 0)
    outcome = device.compare(runner, net, given, device.recipe_of(net, 2), 10, 2, train_from=6)
    assert outcome.equal, str(outcome.difference)
    after = tintin.Sequential.from_bytes(runner.save())
    assert device.verify.differing_tensors(net, after.to_bytes()) == [
        "layer 6 (Linear) weights",
        "layer 6 (Linear) bias",
    ]


def test_what_is_refused_harms_nothing(runner: device.Runner) -> None:
    layers, shape = NETS["linear"]
    net = tintin.Sequential(layers, input_shape=shape, seed=6)
    runner.load(net)
    runner.set_recipe(device.recipe_of(net, 1))
    data = bytearray(net.to_bytes())
    for at in range(0, len(data), 97):
        bad = bytes(data[:at]) + bytes([data[at] ^ 4]) + bytes(data[at + 1 :])
        with pytest.raises(device.Refused):
            runner.load(bad)
        with pytest.raises(device.Refused):
            runner.load(bytes(data[:at]) or b"?")
    struct.pack_into("<H", data, 10, tintin.NUMERICS + 1)
    with pytest.raises(device.Refused, match="numerics version") as caught:
        runner.load(resealed(data))
    assert caught.value.numbers == (tintin.NUMERICS + 1, tintin.NUMERICS)
    large = tintin.Sequential([Linear(4000), Linear(10)], input_shape=(1000,))
    with pytest.raises(device.DoesNotFit, match="take a smaller net") as unfit:
        runner.load(large)
    assert "missing" in unfit.value.table and "4,040,000" in unfit.value.table
    with pytest.raises(device.Refused, match="does not fit"):
        runner.load(large.to_bytes())
    x = np.zeros((1, 23), np.int8)
    with pytest.raises(device.Refused, match="label"):
        runner.step(x, -7, np.array([5]))
    with pytest.raises(device.Refused, match="number of samples"):
        runner.step(np.zeros((2, 23), np.int8), -7, np.array([0, 0]))
    with pytest.raises(ValueError, match="smaller batch"):
        runner.step(np.zeros((1 << 14, 23), np.int8), -7, np.zeros(1 << 14))


def test_frames_cut_short_or_altered(runner: device.Runner) -> None:
    net = tintin.Sequential([Linear(3)], input_shape=(4,), seed=8)
    runner.load(net)
    runner.set_recipe(device.recipe_of(net, 1))
    frame = frames.encode(bytes([STEP, 9]) + struct.pack("<IhB", 1, -7, 0) + bytes([9, 8, 7, 6, 2, 0]))
    for at in range(len(frame) - 1):
        for bad in (frame[:at] + b"\0", frame[:at] + bytes([frame[at] ^ 0x40]) + frame[at + 1 :]):
            if bad.strip(b"\0"):
                runner._stream.write(bad)
                # a byte that became a zero makes two frames of one
                for _ in filter(None, bad.split(b"\0")):
                    code, tag, _ = runner._answer()
                    assert (code, tag) == (DAMAGED, 0)
    assert runner.digest() == (0, net.digest())


def test_a_net_refused_leaves_the_one_that_was_there(runner: device.Runner) -> None:
    net = tintin.Sequential([Linear(3)], input_shape=(4,), seed=8)
    runner.load(net)
    for bad in (b"no model", net.to_bytes()[:-1]):
        with pytest.raises(device.Refused):
            runner.load(bad)
    assert runner.digest() == (0, net.digest())
    assert runner.save() == net.to_bytes()


def test_a_net_that_fills_the_memory(runner: device.Runner) -> None:
    inputs, outputs = 1500, 3
    hidden = (runner.hello.pool - 20_000) // (inputs + outputs)
    net = tintin.Sequential([Linear(hidden), ReLU(), Linear(outputs)], input_shape=(inputs,), seed=9)
    check(runner, net, device.random_samples(net, "cross_entropy", 1), device.recipe_of(net, 1), 1, 1)
