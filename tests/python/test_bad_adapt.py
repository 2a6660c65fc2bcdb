"""Support sets, settings and nets that cannot be adapted: an error that says what would do, and nothing changed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from few import X, Y, adapted, net
from helpers import refused

import tintin
from tintin import Conv2d, Flatten, GlobalAvgPool2d, Linear, Sequential, TinTin, _tintin


@pytest.mark.parametrize(
    ("x", "y", "kind", "parts"),
    [
        (X[:3], Y[:3], ValueError, ["at least 2 support samples", "classes 0, 1, 2 have 1"]),
        (X[:7], [5, 5, 5, 5, 5, 5, -9], ValueError, ["class -9 has 1"]),
        (np.zeros((14, 8, 8), np.uint8), range(14), ValueError, ["classes 0, 1, 2, 3, 4 and others have 1"]),
        (X, Y * 0 + 7, ValueError, ["at least 2 classes", "class 7 alone"]),
        (X, Y[:11], ValueError, ["12 samples", "11 labels"]),
        (X[:11], Y, ValueError, ["11 samples", "12 labels"]),
        (X[:0], Y[:0], ValueError, ["at least one sample"]),
        (X, Y * 1.0, TypeError, ["integer labels of shape (12,)", "float64"]),
        (X, Y[:, None], TypeError, ["shape (12,)", "(12, 1)"]),
        (X, Y.astype(str), TypeError, ["integer labels", "<U"]),
        (X, None, TypeError, ["integer labels", "object"]),
        (X, Y.astype(np.uint64) + np.uint64(2**63), ValueError, ["below 2^63", str(2**63 + 2)]),
        (X * 1.0, Y, TypeError, ["float64", "tintin.quantize"]),
        (X[:, :7], Y, ValueError, ["(n, 8, 8, 1)", "(12, 7, 8)"]),
        (X.tolist(), Y, TypeError, ["numpy array", "list"]),
    ],
)
def test_support_sets(x: Any, y: Any, kind: type[Exception], parts: list[str]) -> None:
    base = net()
    before = base.to_bytes()
    for policy in ("tinytrain", "full"):
        refused(kind, *parts, call=lambda policy=policy: base.adapt(x, y, policy=policy))
    assert base.to_bytes() == before


@pytest.mark.parametrize(
    ("told", "kind", "parts"),
    [
        ({"policy": "tiny"}, ValueError, ["'full'", "'tinytrain'", "got 'tiny'"]),
        ({"policy": None}, ValueError, ["'full'", "got None"]),
        ({"policy": ["full"]}, ValueError, ["got ['full']"]),
        ({"policy": "full", "choices": [(8, 1)]}, ValueError, ["'full' takes no choices"]),
        ({"choices": []}, ValueError, ["'tinytrain' takes no choices"]),
        ({"policy": "sparse"}, ValueError, ["'sparse' needs choices", "(layer, number of rows)"]),
        ({"policy": "layers", "choices": []}, ValueError, ["no layer"]),
        ({"policy": "layers", "choices": 3}, TypeError, ["list of (layer, number of rows)", "got 3"]),
        ({"policy": "layers", "choices": [8]}, TypeError, ["list of (layer, number of rows)", "got [8]"]),
        ({"policy": "layers", "choices": [(8, 1, 1)]}, TypeError, ["(8, 1, 1)"]),
        ({"policy": "layers", "choices": [(8, 1.5)]}, TypeError, ["rows", "1.5"]),
        ({"policy": "layers", "choices": [(8, -1)]}, ValueError, ["rows", "-1"]),
        ({"policy": "layers", "choices": [(-1, 1)]}, ValueError, ["layer", "-1"]),
        ({"policy": "layers", "choices": [(9, 1)]}, ValueError, ["layer 9", "only 0, 2, 5, 8"]),
        ({"policy": "sparse", "choices": [(8, 1), (7, 1)]}, ValueError, ["layer 7", "only 0, 2, 5, 8"]),
        ({"policy": "sparse", "choices": [(8, 10)]}, ValueError, ["10 rows of layer 8", "has 9"]),
        ({"policy": "sparse", "choices": [(8, 1), (8, 2)]}, ValueError, ["a layer twice"]),
        ({"inspect": 9}, ValueError, ["at most 8", "got 9"]),
        ({"inspect": -1}, ValueError, ["inspect", "-1"]),
        ({"inspect": 0.0}, ValueError, ["above 0 and at most 1", "0.0"]),
        ({"inspect": 1.01}, ValueError, ["above 0 and at most 1", "1.01"]),
        ({"inspect": "a"}, TypeError, ["inspect", "'a'"]),
        ({"memory_budget": 0}, ValueError, ["memory_budget", "got 0"]),
        ({"memory_budget": 1e5}, TypeError, ["memory_budget", "100000.0"]),
        ({"compute_budget": 0}, ValueError, ["compute_budget", "above 0 and at most 1"]),
        ({"compute_budget": 1.5}, ValueError, ["compute_budget", "1.5"]),
        ({"compute_budget": float("nan")}, ValueError, ["compute_budget", "nan"]),
        ({"compute_budget": True}, ValueError, ["compute_budget", "True"]),
        ({"ratio": 0}, ValueError, ["ratio", "above 0"]),
        ({"ratio": None}, ValueError, ["ratio", "None"]),
        ({"steps": 0}, ValueError, ["steps", "at least 1"]),
        ({"steps": 1.0}, TypeError, ["steps", "1.0"]),
        ({"batch_size": 0}, ValueError, ["batch_size", "at least 1"]),
        ({"batch_size": 2**21}, ValueError, ["batch size", "1 to 1048576"]),
        ({"temperature": 3}, ValueError, ["power of two, 1 to 64", "3"]),
        ({"temperature": 128}, ValueError, ["power of two, 1 to 64", "128"]),
        ({"temperature": 0.5}, TypeError, ["temperature", "0.5"]),
        ({"shift": -1}, ValueError, ["shift", "-1"]),
        ({"shift": 256}, ValueError, ["0 to 255", "256"]),
        ({"shift": (1, 2, 3)}, ValueError, ["(down, right)", "(1, 2, 3)"]),
        ({"shift": 0.5}, TypeError, ["shift", "0.5"]),
        ({"optimizer": "sgd"}, TypeError, ["tintin.TinTin(...)", "'sgd'"]),
        ({"policy": "dynamic", "rows": 0.5}, ValueError, ["pair of shares", "0.5"]),
        ({"policy": "dynamic", "rows": (0.5,)}, ValueError, ["pair of shares", "(0.5,)"]),
        ({"policy": "dynamic", "rows": (0, 0.5)}, ValueError, ["rows", "above 0"]),
        ({"policy": "dynamic", "rows": (0.5, 0.2)}, ValueError, ["must rise"]),
    ],
)
def test_settings(told: dict[str, Any], kind: type[Exception], parts: list[str]) -> None:
    base = net()
    before = base.to_bytes()
    refused(kind, *parts, call=lambda: base.adapt(X, Y, **told))
    assert base.to_bytes() == before


def test_features_classes_and_nets_out_of_range() -> None:
    flat = X.reshape(12, 64)
    wide = Sequential([Linear(1025)], (64,))
    said = ("1025 features", "1 to 1024")
    refused(ValueError, *said, call=lambda: wide.adapt(flat, Y))
    refused(ValueError, *said, call=lambda: wide.adapt(flat, Y, policy="full"))
    refused(ValueError, *said, call=lambda: wide.fit_episodes(flat, Y, ways=2, shots=1, queries=1))
    at_most = Sequential([Linear(1024)], (64,)).adapt(flat, Y, steps=1, compute_budget=1.0)
    assert at_most.prototypes.shape == (3, 1024)
    many = np.zeros((2 * 4097, 1), np.uint8)
    dot = Sequential([Linear(2)], (1,))
    refused(ValueError, "2 to 4096 classes", "4097", call=lambda: dot.adapt(many, np.arange(len(many)) // 2))
    refused(ValueError, "65537", call=lambda: dot.adapt(np.zeros((2 * 65537, 1), np.uint8), np.arange(131_074) // 2))
    refused(ValueError, "at most 32768", call=lambda: dot.adapt(np.zeros((32_769, 1), np.uint8), np.arange(32_769) % 2))
    refused(ValueError, call=lambda: Sequential([Flatten()], (8, 8, 1)).adapt(X, Y))
    refused(ValueError, "left to train", call=lambda: Sequential([GlobalAvgPool2d()], (8, 8, 1)).adapt(X, Y))
    refused(ValueError, "left to train", call=lambda: adapted("bias_only", net(bias=False)))
    refused(ValueError, "0 rows of layer 8", call=lambda: adapted("sparse", net(bias=False), choices=[(8, 0)]))
    # nothing is to be learned where there is no signal
    still = net(bias=False).adapt(X * 0, Y)
    assert (still.trained, still.digests, still.net.digest()) == ([], [], net(bias=False).digest())
    told = still.net.memory(policy="tinytrain", choices=still.choices)
    assert told.total == still.memory == still.net.memory(policy="none").total
    refused(ValueError, "left to train", call=lambda: net(bias=False).memory(policy="bias_only"))


@pytest.mark.parametrize(
    ("told", "kind", "parts"),
    [
        ({"policy": "tinytrain"}, ValueError, ["depends on the samples", "choices"]),
        ({"policy": "random_channels"}, ValueError, ["depends on the samples"]),
        ({"policy": "layers"}, ValueError, ["'layers' needs choices"]),
        ({"policy": "all"}, ValueError, ["'full'", "got 'all'"]),
        ({"policy": "all", "choices": [(8, 1)]}, ValueError, ["'all' takes no choices"]),
        ({"policy": "full", "choices": [(8, 1)]}, ValueError, ["'full' takes no choices"]),
        ({"policy": "full", "train_from": 2}, ValueError, ["train_from"]),
        ({"choices": [(8, 1)], "training": False}, ValueError, ["training=False"]),
        ({"choices": []}, ValueError, ["no layer"]),
        ({"choices": 8}, TypeError, ["list of (layer, number of rows)", "got 8"]),
        ({"choices": [(8, 99)]}, ValueError, ["99 rows of layer 8", "has 9"]),
        ({"choices": [(1, 1)]}, ValueError, ["layer 1", "only 0, 2, 5, 8"]),
        ({"choices": [(8, 4)], "limit": 100}, ValueError, ["100 allowed"]),
        ({"policy": "bias_only", "inspect": 9}, ValueError, ["at most 8"]),
    ],
)
def test_memory_settings(told: dict[str, Any], kind: type[Exception], parts: list[str]) -> None:
    refused(kind, *parts, call=lambda: net().memory(5, **told))


def test_score_and_predict_of_the_adapted() -> None:
    found = adapted("tinytrain")
    assert found.predict(X).dtype == np.int64
    refused(ValueError, "12 samples", "(11,)", call=lambda: found.score(X, Y[:11]))
    refused(ValueError, "(n, 8, 8, 1)", call=lambda: found.predict(X[:, :7]))
    refused(TypeError, "float64", call=lambda: found.score(X * 1.0, Y))


@pytest.mark.parametrize(
    ("prototypes", "kind", "parts"),
    [
        (np.zeros((3, 8), np.int16), ValueError, ["(classes, 9)", "(3, 8)"]),
        (np.zeros((0, 9), np.int16), ValueError, ["(classes, 9)", "(0, 9)"]),
        (np.zeros(9, np.int16), ValueError, ["(classes, 9)", "(9,)"]),
        (np.zeros((3, 9)), TypeError, ["int16", "float64"]),
        ([[0] * 9], TypeError, ["int16", "[[0,"]),
    ],
)
def test_prototypes(prototypes: Any, kind: type[Exception], parts: list[str]) -> None:
    refused(kind, *parts, call=lambda: net().nearest(X, prototypes))


@pytest.mark.parametrize(
    ("told", "kind", "parts"),
    [
        ({"ways": 4}, ValueError, ["4 ways", "of 3 classes"]),
        ({"ways": 1}, ValueError, ["ways must be at least 2"]),
        ({"shots": 4}, ValueError, ["4 shots", "at least 5 samples", "of 3 classes 0"]),
        ({"queries": 4}, ValueError, ["4 queries", "at least 5 samples"]),
        ({"shots": 0}, ValueError, ["shots", "got 0"]),
        ({"queries": 1.5}, TypeError, ["queries", "1.5"]),
        ({"episodes": 0}, ValueError, ["episodes", "got 0"]),
        ({"temperature": 12}, ValueError, ["power of two", "12"]),
        ({"shift": (1, 2, 3)}, ValueError, ["(down, right)", "(1, 2, 3)"]),
        ({"shift": 256}, ValueError, ["0 to 255", "256"]),
        ({"ways": 4097}, ValueError, ["at most 4096", "4097"]),
        ({"shots": 2**15}, ValueError, ["ways * shots", "at most 32768", "65536"]),
        ({"seed": -1}, ValueError, ["seed", "-1"]),
        ({"optimizer": 3}, TypeError, ["tintin.TinTin(...)", "3"]),
        ({"y": Y[:11]}, ValueError, ["12 samples", "11 labels"]),
        ({"y": Y * 1.0}, TypeError, ["integer labels", "float64"]),
        ({"x": X * 1.0}, TypeError, ["float64", "tintin.quantize"]),
    ],
)
def test_episodes(told: dict[str, Any], kind: type[Exception], parts: list[str]) -> None:
    base = net()
    before = base.to_bytes()
    given_settings = {"x": X, "y": Y, "episodes": 3, "ways": 2, "shots": 1, "queries": 1, **told}
    refused(kind, *parts, call=lambda: base.fit_episodes(**given_settings))
    assert base.to_bytes() == before


def test_labels_a_headed_net_cannot_learn() -> None:
    """Classes that were not there in pre-training: the message says what would do."""
    headed = tintin.zoo.resnet8((8, 8, 1), 2, width=8)
    refused(ValueError, "0 to 1", "2 outputs", "got 2", "more outputs", "net.adapt", call=lambda: headed.fit(X, Y))
    with pytest.raises(ValueError) as caught:
        headed.partial_fit(X, Y - 1)
    assert "adapt" not in str(caught.value)


# The private engine

ONE = 1 << 15


def settings(policy: str = "tinytrain", choices: Any = (), inspect: int = 0, **other: Any) -> _tintin.Adaptation:
    told = {
        "policy": policy, "choices": list(choices), "memory": 2**63, "compute": ONE, "ratio": ONE // 2,
        "inspect": inspect, "temperature": 4, "limits": (1, 1), "batch": 5, "passes": 1, "rows": (3000, 30000),
        "recipe": TinTin(4, milestones=()).recipe("cross_entropy", 5),
    }  # fmt: skip
    return _tintin.Adaptation(**{**told, **other})


LABELS = Y.astype(np.uint16)


@pytest.mark.parametrize(
    ("told", "y", "classes", "part"),
    [
        ({}, LABELS[:5], 3, "5 labels for 12 samples"),
        ({}, LABELS, 2, "label 2"),
        ({}, LABELS, 0, "2 to 4096 classes"),
        ({}, LABELS, 5, "class 3 has 0 support samples"),
        ({}, LABELS, 2**40, "memory"),
        ({"temperature": 7}, LABELS, 3, "temperature"),
        ({"ratio": 0}, LABELS, 3, "ratio"),
        ({"ratio": 2**31}, LABELS, 3, "ratio"),
        ({"compute": 2**31}, LABELS, 3, "compute budget"),
        ({"batch": 0}, LABELS, 3, "batch size"),
        ({"batch": 2**32 - 1}, LABELS, 3, "batch size"),
        ({"batch": 2**20}, LABELS, 3, "use a smaller batch"),
        ({"passes": 0}, LABELS, 3, "passes"),
        ({"inspect": 2**63}, LABELS, 3, "left to train"),
        ({"policy": "layers", "choices": [(99, 1)]}, LABELS, 3, "not there"),
        ({"policy": "sparse", "choices": [(5, 99)]}, LABELS, 3, "not so many rows"),
    ],
)
def test_the_private_engine_checks_too(told: dict[str, Any], y: Any, classes: int, part: str) -> None:
    engine = net()._engine
    refused(ValueError, part, call=lambda: engine.adapt(X, -7, y, classes, settings(**told)))


def test_the_private_engine_survives() -> None:
    engine = net()._engine
    refused(ValueError, "unknown policy 'x'", call=lambda: settings("x"))
    for exponent in (-(2**15), 2**15 - 1):
        assert engine.adapt(X, exponent, LABELS, 3, settings())[1]["digests"]
    engine.adapt(X, -7, LABELS, 3, settings(limits=(65535, 65535)))
    engine.adapt(X, -7, LABELS, 3, settings("dynamic", rows=(0, 0)))
    for shape, values in (((2, 3), 7), ((2, 0), 7), ((2, 3), 0)):
        features, prototypes = np.zeros(shape, np.int8), np.zeros(values, np.int16)
        refused(ValueError, "prototypes", call=lambda f=features, p=prototypes: _tintin.nearest(f, p))
    rails = np.full((2, 1024), -128, np.int8), np.full(2048, -(2**15), np.int16)
    assert _tintin.nearest(*rails).tolist() == [0, 0]


def episode(support: Any = ((0, 1),), labels: Any = ((0, 1),), **given: Any) -> tuple[int, int]:
    engine = given.get("engine", net()._engine)
    shown = np.array(support, np.uint32), np.array(labels, np.uint16)
    asked = np.array([[3, 4]], np.uint32), np.array([[0, 1]], np.uint16)
    recipe = TinTin(4, milestones=()).recipe("cross_entropy", 2)
    return engine.episodes(given.get("x", X), -7, *shown, *asked, given.get("j", 4), (0, 0), recipe)


def test_the_private_engine_checks_episodes() -> None:
    refused(ValueError, "not there", call=lambda: episode([[0, 12]]))
    refused(ValueError, "below 4096", call=lambda: episode(labels=[[0, 4096]]))
    refused(ValueError, "label for every sample", call=lambda: episode([[0, 1, 2]]))
    assert episode(labels=[[0, 2]])[1] <= 2  # a class that nobody shows is nowhere near


def test_the_engine_chooses_rows_of_what_it_did_not_inspect() -> None:
    told = [settings("layers", [(0, 2)], inspect=inspect) for inspect in (0, 5)]
    first, second = [net()._engine.adapt(X, -7, LABELS, 3, one)[1]["choices"] for one in told]
    assert first == second


def test_the_engine_refuses_a_layer_named_twice() -> None:
    with pytest.raises(ValueError):
        net()._engine.adapt(X, -7, LABELS, 3, settings("layers", [(5, 1), (5, 2)]))


def test_no_budget_is_not_told_as_a_number() -> None:
    with pytest.raises(ValueError) as caught:
        net().adapt(X, Y, compute_budget=1e-6)
    assert str(2**63) not in str(caught.value)


def test_an_unused_output_is_named() -> None:
    layers = [Conv2d(3, 1), Conv2d(3, 1), tintin.Branch(0), Conv2d(3, 1)]
    refused(ValueError, "layer 1", call=lambda: Sequential(layers, (4, 4, 1)))


def test_as_many_supports_as_queries() -> None:
    refused(ValueError, call=lambda: episode([[0, 1], [2, 3]], [[0, 1], [0, 1]]))


def test_episodes_within_the_bounds_of_the_rules() -> None:
    wide = Sequential([Linear(1025)], (64,))
    refused(ValueError, "temperature", call=lambda: episode(j=7))
    refused(ValueError, "1024", call=lambda: episode(engine=wide._engine, x=X.reshape(12, 64)))


def test_nearest_of_features_in_any_order() -> None:
    features, prototypes = np.array([[99, 0], [0, 99], [99, 0]], np.int8), np.array([99, 0, 0, 99], np.int16)
    assert _tintin.nearest(features, prototypes).tolist() == [0, 1, 0]
    assert _tintin.nearest(np.asfortranarray(features), prototypes).tolist() == [0, 1, 0]
