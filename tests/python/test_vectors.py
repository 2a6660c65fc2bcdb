"""The wheel against the independent oracle: its golden traces, and runs drawn at random, bit for bit."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import at_step, layer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tintin
from tintin import _tintin

TESTS = Path(__file__).resolve().parents[1]
#: adaptations are replayed in test_adapt.py; chosen rows are told by an adaptation alone, so the crate replays those
OTHERS = ("trace_adapt", "trace_chosen")
TRACES = sorted(path for path in (TESTS / "vectors").glob("trace_*.json") if not path.name.startswith(OTHERS))
LOSSES = {"CrossEntropy": "cross_entropy", "NitiCrossEntropy": "niti_cross_entropy", "SquaredError": "squared_error"}


def the_oracle() -> Any:
    # by its path: it is no package, and nothing of it is in the wheel
    spec = importlib.util.spec_from_file_location("oracle", TESTS / "reference" / "oracle.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


oracle = the_oracle()


def recipe_of(words: dict[str, Any]) -> _tintin.Recipe:
    return _tintin.Recipe(
        words["rule"].lower(), words["rounding"].lower(), LOSSES[words["loss"]],
        words["start"], words["change"], words["milestones"], words.get("margin", 0),
    )  # fmt: skip


def train_step(
    net: tintin.Sequential, x: Any, exponent: int, wanted: Any, recipe: dict[str, Any], train_from: int
) -> tuple[int, int]:
    """One step of the private engine, which takes any recipe and tells the loss as an integer."""
    of_values = recipe["loss"] == "SquaredError"
    x = np.array(x, np.int8)
    y = np.array(wanted, np.int8 if of_values else np.uint16)
    order = np.arange(len(x), dtype=np.uint32)
    target_exponent = recipe["target_exponent"] if of_values else None
    return net._engine.train(x, exponent, y, target_exponent, order, len(x), len(x), recipe_of(recipe), train_from)


def test_there_are_traces() -> None:
    assert len(TRACES) >= 20


@pytest.mark.parametrize("path", TRACES, ids=lambda path: path.stem.removeprefix("trace_"))
def test_trace(path: Path) -> None:
    trace = json.loads(path.read_text())
    assert trace["numerics"] == tintin.NUMERICS
    layers = [layer(words) for words in trace["layers"]]
    net = tintin.Sequential(layers, input_shape=trace["input"], seed=trace["seed"])
    assert net.layers == layers
    assert net.digest() == int(trace["initial_digest"], 16)
    exponent, recipe = trace["input_exponent"], trace["recipe"]
    for number, step in enumerate(trace["steps"]):
        x = [trace["samples"][i] for i in step["samples"]]
        wanted = step.get("labels", step.get("targets"))
        found = train_step(net, x, exponent, wanted, recipe, trace["train_from"])
        assert found == (step["loss"], step["correct"]), f"step {number}"
        assert net.digest() == int(step["digest"], 16), f"step {number}"
    assert net.step == len(trace["steps"])
    check_tensors(net, {entry["layer"]: entry for entry in trace["final"]})
    x = np.array([sample["x"] for sample in trace["predict"]], np.int8)
    mantissas, scales = net._engine.predict(x, exponent)
    assert mantissas.tolist() == [sample["q"] for sample in trace["predict"]]
    assert scales.tolist() == [sample["scale"] for sample in trace["predict"]]
    classes = net.predict(tintin.Quantized(x, exponent))
    assert classes.tolist() == [oracle.first_largest(sample["q"]) for sample in trace["predict"]]


def check_tensors(net: tintin.Sequential, final: dict[int, dict[str, Any]]) -> None:
    tensors = net.tensors()
    assert {tensor["layer"] for tensor in tensors} == set(final)
    for tensor in tensors:
        entry, key = final[tensor["layer"]], "b" if tensor["bias"] else "w"
        assert tensor["mantissas"].reshape(-1).tolist() == entry[key]
        assert list(tensor["scale"]) == entry[f"{key}_scale"]


def windows(draw: Any, shape: tuple[int, int, int]) -> dict[str, list[int]]:
    """Kernel and stride that fit."""
    sizes = [draw(st.integers(1, min(3, extent))) for extent in shape[:2]]
    return {"kernel": sizes, "stride": [draw(st.integers(1, 3)), draw(st.integers(1, 3))]}


@st.composite
def nets(draw: Any) -> tuple[list[dict[str, Any]], tuple[int, int, int]]:
    """A small chain of any layers with something to train, and its input shape."""
    shape = first = (draw(st.integers(1, 5)), draw(st.integers(1, 5)), draw(st.integers(1, 2)))
    layers: list[dict[str, Any]] = []
    kinds = ["Conv2d", "DepthwiseConv2d", "Linear", "ReLU", "ReLU", "MaxPool2d", "AvgPool2d", "GlobalAvgPool2d"]
    kinds.append("Flatten")
    for _ in range(draw(st.integers(0, 5))):
        for layer_words in one(draw, draw(st.sampled_from(kinds)), shape):
            layers.append(layer_words)
            shape = oracle.output_shape(layer_words, shape)
    if not any(map(oracle.is_weighted, layers)) or draw(st.booleans()):
        layers += one(draw, "Linear", shape)
    return layers, first


def one(draw: Any, kind: str, shape: tuple[int, int, int]) -> list[dict[str, Any]]:
    bias = draw(st.booleans())
    if kind == "Linear":
        # the oracle's Linear reads flat arrays only
        flatten = [{"kind": "Flatten"}] if shape[:2] != (1, 1) or draw(st.booleans()) else []
        return [*flatten, {"kind": kind, "out_features": draw(st.integers(1, 6)), "bias": bias}]
    if kind in ("Conv2d", "DepthwiseConv2d"):
        kernel = [draw(st.integers(1, 3)), draw(st.integers(1, 3))]
        # as much padding as a kernel may have, where the map alone is too small for it
        least = [max(0, -(-(k - extent) // 2)) for k, extent in zip(kernel, shape[:2], strict=True)]
        channels = {"out_channels": draw(st.integers(1, 4))} if kind == "Conv2d" else {}
        return [{
            "kind": kind, **channels, "kernel": kernel, "bias": bias,
            "stride": [draw(st.integers(1, 2)), draw(st.integers(1, 2))],
            "padding": [draw(st.integers(low, k - 1)) for low, k in zip(least, kernel, strict=True)],
        }]  # fmt: skip
    return [{"kind": kind, **(windows(draw, shape) if kind in ("MaxPool2d", "AvgPool2d") else {})}]


def recipes(draw: Any, step: int) -> dict[str, Any]:
    rule = draw(st.sampled_from(["TinTin", "Niti"]))
    return {
        "rule": rule,
        "loss": draw(st.sampled_from(list(LOSSES))),
        "rounding": draw(st.sampled_from(["Nearest", "Pseudo", "Stochastic"])),
        "start": draw(st.integers(0, 8) if rule == "TinTin" else st.integers(-5, 7)),
        "change": draw(st.integers(0, 3) if rule == "TinTin" else st.integers(-3, 0)),
        "milestones": draw(st.lists(st.integers(0, step + 3), max_size=4)),
        "margin": draw(st.integers(0, 6)) if rule == "TinTin" else 0,
        "target_exponent": draw(st.integers(-9, -4)),
    }


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.data())
def test_random_runs_agree_with_the_oracle(data: Any) -> None:
    draw = data.draw
    words, shape = draw(nets())
    seed, exponent = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([-7, -7, -12, 3]))
    start = draw(st.sampled_from([0, 62]))  # from 62 on the weights are adjusted on the way
    other = oracle.Model(words, shape, seed, exponent)
    net = tintin.Sequential([layer(one) for one in words], input_shape=shape, seed=seed)
    other.step, net = start, at_step(net, start)
    assert net.digest() == other.digest()
    if draw(st.booleans()):
        strange_scales(draw, net, other)
    recipe = recipes(draw, start)
    weighted = [i for i, one in enumerate(words) if oracle.is_weighted(one)]
    train_from = draw(st.integers(0, weighted[-1]))
    outputs = int(np.prod(other.output_shape))
    # not drawn one by one: too many draws for Hypothesis, and none of them worth shrinking
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    for _ in range(draw(st.integers(1, 3))):
        batch = draw(st.integers(1, 4))
        x = rng.integers(-127, 128, (batch, int(np.prod(shape)))).tolist()
        if recipe["loss"] == "SquaredError":
            wanted = rng.integers(-127, 128, (batch, outputs)).tolist()
        else:
            wanted = rng.integers(0, outputs, batch).tolist()
        expected = other.train_step(x, wanted, recipe, train_from)
        assert train_step(net, x, exponent, wanted, recipe, train_from) == expected
        assert net.digest() == other.digest()
        mantissas, scales = net._engine.predict(np.array(x, np.int8), exponent)
        for sample, z, scale in zip(x, mantissas.tolist(), scales.tolist(), strict=True):
            assert (z, tuple(scale)) == other.predict(sample)
    assert net.step == other.step


def strange_scales(draw: Any, net: tintin.Sequential, other: Any) -> None:
    """Scales no training starts from, in both models, and mantissas at the rails."""
    for block in other.blocks:
        if not block.w:
            continue
        for bias in [False, True][: 1 + bool(block.b)]:
            scale = tuple(draw(st.integers(low, high)) for low, high in [(-40, 20), (0, 125), (0, 125)])
            values = [draw(st.sampled_from([-127, 127, 1])) for _ in (block.b if bias else block.w)]
            if bias:
                block.b, block.b_scale = values, scale
            else:
                block.w, block.w_scale = [[v] * len(row) for v, row in zip(values, block.w, strict=True)], scale
            flat = values if bias else [q for row in block.w for q in row]
            net.set_tensor(block.index, np.array(flat, np.int8), scale, bias=bias)
