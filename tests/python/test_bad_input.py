"""Whatever is handed in: a clear error that tells what was given and expected, never a panic, nothing half-written."""

from __future__ import annotations

import os
import random
import re
import struct
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import HEAD, LAYERS_AT, resealed

import tintin
from tintin import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, _tintin, datasets

COMPILE_FAIL = Path(__file__).resolve().parents[2] / "crates" / "tintin-core" / "tests" / "compile_fail.rs"


def mlp(bias: bool = True) -> Sequential:
    layers = [Flatten(), Linear(6, bias=bias), ReLU(), Linear(3, bias=bias)]
    return Sequential(layers, input_shape=(4, 4, 1), seed=1)


X = np.random.default_rng(0).integers(0, 256, (10, 4, 4)).astype(np.uint8)
Y = np.arange(10) % 3


def refused(kind: type[Exception], *parts: str, call: Callable[[], Any]) -> None:
    """The call raises exactly `kind`, and its message has all the parts."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind, caught.value
    for part in parts:
        assert part in str(caught.value)


# Samples


class Odd(np.ndarray[Any, Any]):
    """A subclass, as many libraries have one."""


@pytest.mark.parametrize(
    ("x", "kind", "parts"),
    [
        (X.astype(np.float32), TypeError, ["float32", "tintin.quantize"]),
        (X.astype(np.float64) / 255, TypeError, ["float64", "tintin.quantize"]),
        (X.astype(np.int64), TypeError, ["int64", "uint8"]),
        (X.astype(">u2"), TypeError, [">u2", "uint8"]),
        (X > 9, TypeError, ["bool", "uint8"]),
        (X.astype(object), TypeError, ["object", "uint8"]),
        (X.astype(complex), TypeError, ["complex128"]),
        (X.astype(str), TypeError, ["<U", "uint8"]),
        (np.zeros(10, [("a", np.uint8)]), TypeError, ["uint8"]),
        (X.tolist(), TypeError, ["numpy array", "list"]),
        (None, TypeError, ["numpy array", "NoneType"]),
        ("x", TypeError, ["numpy array", "str"]),
        (np.uint8(3), TypeError, ["numpy array", "uint8"]),
        (memoryview(X.tobytes()), TypeError, ["numpy array", "memoryview"]),
        (np.array(3, np.uint8), ValueError, ["at least one sample", "()"]),
        (X[:0], ValueError, ["at least one sample", "(0, 4, 4)"]),
        (np.zeros((0,), np.uint8), ValueError, ["at least one sample", "(0,)"]),
        (np.zeros((10, 0), np.uint8), ValueError, ["(n, 4, 4, 1)", "(10, 0)"]),
        (X[0], ValueError, ["(n, 4, 4, 1)", "(4, 4)"]),
        (X[:, :3], ValueError, ["(n, 4, 4, 1)", "(10, 3, 4)"]),
        (X[:, None], ValueError, ["(n, 4, 4, 1)", "(10, 1, 4, 4)"]),
        (X.reshape(10, 2, 8), ValueError, ["(n, 4, 4, 1)", "(10, 2, 8)"]),
        (X.reshape(10, 4, 4, 1, 1), ValueError, ["(n, 4, 4, 1)", "(10, 4, 4, 1, 1)"]),
        (tintin.quantize(X[:, :3]), ValueError, ["(n, 4, 4, 1)", "(10, 3, 4)"]),
    ],
)
def test_samples(x: Any, kind: type[Exception], parts: list[str]) -> None:
    net = mlp()
    before = net.to_bytes()
    calls = [
        lambda: net.predict(x), lambda: net.logits(x), lambda: net.evaluate(x, Y), lambda: net.score(x, Y),
        lambda: net.fit(x, Y, batch_size=2), lambda: net.partial_fit(x, Y),
    ]  # fmt: skip
    for call in calls:
        refused(kind, *parts, call=call)
    held_out = (x, Y)
    refused(kind, "validation x", call=lambda: net.fit(X, Y, batch_size=2, validation_data=held_out))
    assert net.to_bytes() == before


def test_message_of_flat_and_one_dimensional_samples() -> None:
    flat = Sequential([Linear(2)], input_shape=(5,))
    refused(ValueError, "(n, 5)", "(3, 4)", call=lambda: flat.predict(np.zeros((3, 4), np.uint8)))
    signal = Sequential([Conv2d(2, kernel_size=(1, 3)), Flatten(), Linear(2)], input_shape=(1, 8, 3))
    assert signal.predict(np.zeros((3, 8, 3), np.int8)).shape == (3,)
    refused(ValueError, "(n, 1, 8, 3)", "(3, 8)", call=lambda: signal.predict(np.zeros((3, 8), np.int8)))


@pytest.mark.parametrize(
    "same",
    [
        np.asfortranarray(X),
        np.repeat(X, 2, axis=0)[::2],
        X[::-1][::-1],
        np.lib.stride_tricks.as_strided(X, X.shape, X.strides, writeable=False),
        X.view(Odd),
        np.frombuffer(b"\0" + X.tobytes(), np.uint8)[1:].reshape(X.shape),  # odd address, and read-only
        X.astype(">u1"),
        X[..., None],
        X.reshape(10, 16),
        np.ma.masked_array(X),
    ],
)
def test_same_samples_in_other_memory_give_the_same_bits(same: Any) -> None:
    net, other = mlp(), mlp()
    net.fit(X, Y, batch_size=3)
    other.fit(same, Y, batch_size=3)
    assert net.digest() == other.digest()
    assert (net.logits(X) == other.logits(same)).all()


def test_int8_minus_128_counts_as_minus_127() -> None:
    net = mlp()
    low = np.full((2, 4, 4), -128, np.int8)
    assert (net.logits(low) == net.logits(np.maximum(low, -127))).all()


# Targets


@pytest.mark.parametrize(
    ("y", "kind", "parts"),
    [
        (Y.astype(np.float64), TypeError, ["integer labels of shape (10,)", "float64"]),
        (Y.astype(str), TypeError, ["integer labels", "<U"]),
        (Y.astype(object), TypeError, ["integer labels", "object"]),
        (None, TypeError, ["integer labels", "object"]),
        (3, TypeError, ["integer labels", "shape ()"]),
        (Y[:, None], TypeError, ["shape (10,)", "(10, 1)"]),
        (np.eye(3, dtype=int)[Y], TypeError, ["shape (10,)", "(10, 3)"]),
        (Y[:9], ValueError, ["10 samples", "9 labels"]),
        ([], TypeError, ["integer labels of shape (10,)", "(0,)"]),
        (Y[:0], ValueError, ["10 samples", "0 labels"]),
        (Y + 1, ValueError, ["0 to 2", "3 outputs", "got 3"]),
        (Y - 1, ValueError, ["0 to 2", "got -1"]),
        (Y + 2**62, ValueError, ["0 to 2"]),
        (Y.astype(np.uint64) + np.uint64(2**64 - 9), ValueError, ["0 to 2", str(2**64 - 7)]),
        (Y.astype("M8[s]"), TypeError, ["datetime64"]),
    ],
)
def test_labels(y: Any, kind: type[Exception], parts: list[str]) -> None:
    net = mlp()
    before = net.to_bytes()
    for call in (
        lambda: net.fit(X, y, batch_size=2), lambda: net.partial_fit(X, y), lambda: net.evaluate(X, y),
        lambda: net.score(X, y),
    ):  # fmt: skip
        refused(kind, *parts, call=call)
    refused(kind, "validation y", call=lambda: net.fit(X, Y, batch_size=2, validation_data=(X, y)))
    assert net.to_bytes() == before


@pytest.mark.parametrize("y", [Y.tolist(), Y.astype(">i8"), Y.astype(np.uint8)[::-1][::-1], tuple(Y), Y.view(Odd)])
def test_same_labels_in_other_clothes(y: Any) -> None:
    net, other = mlp(), mlp()
    net.partial_fit(X, Y)
    other.partial_fit(X, y)
    assert net == other


@pytest.mark.parametrize(
    ("y", "kind", "parts"),
    [
        (np.zeros((10, 3)), TypeError, ["int8, uint8 or quantised", "float64"]),
        (np.zeros((10, 3), int), TypeError, ["int8, uint8 or quantised", "int64"]),
        (Y, TypeError, ["int64"]),
        (np.zeros((10, 4), np.int8), ValueError, ["(10, 3)", "(10, 4)"]),
        (np.zeros((9, 3), np.int8), ValueError, ["(10, 3)", "(9, 3)"]),
        (np.zeros((3, 10), np.int8), ValueError, ["(10, 3)", "(3, 10)"]),
        (np.array(1, np.int8), ValueError, ["(10, 3)", "()"]),
        (None, TypeError, ["object"]),
    ],
)
def test_target_values(y: Any, kind: type[Exception], parts: list[str]) -> None:
    net = mlp()
    for call in (
        lambda: net.fit(X, y, batch_size=2, loss="squared_error"),
        lambda: net.partial_fit(X, y, loss="squared_error"),
        lambda: net.evaluate(X, y, loss="squared_error"),
    ):
        refused(kind, *parts, call=call)
    assert net.step == 0


# Settings of training


@pytest.mark.parametrize(
    ("settings", "kind", "parts"),
    [
        ({"batch_size": 11}, ValueError, ["batch_size 11", "10 samples"]),
        ({"batch_size": 2**32 - 1}, ValueError, ["4294967295", "10 samples"]),
        ({"batch_size": 2**70}, ValueError, ["batch_size"]),
        ({"batch_size": 0}, ValueError, ["batch_size", "at least 1", "got 0"]),
        ({"batch_size": -1}, ValueError, ["batch_size", "got -1"]),
        ({"batch_size": True}, ValueError, ["batch_size", "True"]),
        ({"batch_size": 2.0}, TypeError, ["batch_size", "2.0"]),
        ({"epochs": 0}, ValueError, ["epochs", "got 0"]),
        ({"epochs": "3"}, TypeError, ["epochs", "'3'"]),
        ({"loss": "mse"}, ValueError, ["'mse'", "cross_entropy", "squared_error"]),
        ({"loss": ""}, ValueError, ["unknown loss ''"]),
        ({"loss": 3}, ValueError, ["unknown loss 3"]),
        ({"optimizer": "sgd"}, TypeError, ["tintin.TinTin(...)", "'sgd'"]),
        ({"optimizer": tintin.TinTin}, TypeError, ["tintin.TinTin(...)", "class"]),
        ({"callbacks": [3]}, TypeError, ["callbacks", "3"]),
        ({"callbacks": print}, TypeError, ["callbacks", "list"]),
        ({"validation_data": X}, ValueError, ["validation_data", "(x, y)"]),
        ({"validation_data": 3}, ValueError, ["validation_data", "(x, y)"]),
        ({"train_from": 4}, ValueError, ["no layer is left to train"]),
        ({"train_from": 2**32 - 1}, ValueError, ["no layer is left to train"]),
        ({"train_from": -1}, ValueError, ["train_from", "got -1"]),
        ({"train_from": None}, TypeError, ["train_from", "None"]),
    ],
)
def test_fit_settings(settings: dict[str, Any], kind: type[Exception], parts: list[str]) -> None:
    net = mlp()
    before = net.to_bytes()
    refused(kind, *parts, call=lambda: net.fit(X, Y, **{"batch_size": 2, **settings}))
    assert net.to_bytes() == before


@pytest.mark.parametrize(
    ("make", "settings", "kind", "parts"),
    [
        (tintin.TinTin, {"margin": 7}, ValueError, ["margin", "0 to 6", "7"]),
        (tintin.TinTin, {"margin": -1}, ValueError, ["margin", "0 to 6", "-1"]),
        (tintin.TinTin, {"margin": 1.5}, TypeError, ["margin", "1.5"]),
        (tintin.TinTin, {"margin": True}, ValueError, ["margin", "True"]),
        (tintin.TinTin, {"learning_shift": 25}, ValueError, ["learning_shift", "0 to 24"]),
        (tintin.TinTin, {"learning_shift": "1"}, TypeError, ["learning_shift", "'1'"]),
        (tintin.TinTin, {"decay": -1}, ValueError, ["decay", "0 to 24"]),
        (tintin.TinTin, {"decay": 10**30}, ValueError, ["decay", "0 to 24"]),
        (tintin.TinTin, {"rounding": "floor"}, ValueError, ["'floor'", "'stochastic'"]),
        (tintin.TinTin, {"milestones": (0.1, 0.2, 0.3, 0.4, 0.5)}, ValueError, ["at most 4", "5"]),
        (tintin.TinTin, {"milestones": (1.5,)}, ValueError, ["0 to 1", "1.5"]),
        (tintin.TinTin, {"milestones": (float("nan"),)}, ValueError, ["0 to 1", "nan"]),
        (tintin.TinTin, {"milestones": ("a",)}, ValueError, ["0 to 1", "'a'"]),
        (tintin.TinTin, {"milestones": 0.5}, TypeError, ["milestones", "0.5"]),
        (tintin.TinTin, {"milestones": "ab"}, TypeError, ["milestones", "'ab'"]),
        (tintin.Niti, {"mu": 8}, ValueError, ["mu", "-5 to 7", "8"]),
        (tintin.Niti, {"mu": -6}, ValueError, ["mu", "-5 to 7"]),
        (tintin.Niti, {"decay": 13}, ValueError, ["decay", "0 to 12"]),
        (tintin.Niti, {"rounding": None}, ValueError, ["rounding", "None"]),
    ],
)
def test_optimizer_settings(make: Any, settings: dict[str, Any], kind: type[Exception], parts: list[str]) -> None:
    refused(kind, *parts, call=lambda: make(**settings))


def test_numpy_integers_are_whole_numbers() -> None:
    net = Sequential([Linear(np.int64(3))], input_shape=np.array([16]), seed=np.uint32(7))
    net.fit(X.reshape(10, 16), Y, epochs=np.int8(1), batch_size=np.int16(5), optimizer=tintin.TinTin(np.int64(1)))
    assert net.memory(np.int64(3)).batch_size == 3


def test_loss_with_too_many_outputs() -> None:
    net = Sequential([Linear(1025)], input_shape=(4,))
    x = np.zeros((2, 4), np.uint8)
    said = ["1025 outputs", "niti_cross_entropy", "at most 1024"]
    refused(ValueError, *said, call=lambda: net.partial_fit(x, [0, 1], tintin.Niti()))
    refused(ValueError, *said, call=lambda: net.evaluate(x, [0, 1], loss="niti_cross_entropy"))
    assert net.evaluate(x, [0, 1])[1] <= 1
    # 2^17 equal outputs once made the softmax divide by zero
    wide = Sequential([Conv2d(8, 1), ReLU()], input_shape=(128, 128, 1))
    blank = np.zeros((1, 128, 128), np.uint8)
    refused(ValueError, "131072 outputs", "at most 65535", call=lambda: wide.evaluate(blank, [0]))
    refused(ValueError, "131072 outputs", "at most 65535", call=lambda: wide.partial_fit(blank, [0]))
    assert wide.evaluate(blank, blank.repeat(8, 0).reshape(1, -1), loss="squared_error")[0] == 0


def test_a_refused_plan_leaves_the_recipe_alone() -> None:
    net = mlp()
    refused(ValueError, "no layer is left", call=lambda: net.partial_fit(X, Y, tintin.Niti(), train_from=9))
    assert net == mlp()


# quantize


@pytest.mark.parametrize(
    ("values", "kind", "parts"),
    [
        ([1.0, float("nan")], ValueError, ["finite", "1 of 2"]),
        ([float("inf"), -float("inf"), 1], ValueError, ["finite", "2 of 3"]),
        (np.full(4, np.nan, np.float16), ValueError, ["finite", "4 of 4"]),
        ([], ValueError, ["empty", "(0,)"]),
        (np.zeros((3, 0)), ValueError, ["empty", "(3, 0)"]),
        (["a"], TypeError, ["real numbers", "<U1"]),
        ([1j], TypeError, ["real numbers", "complex128"]),
        ([None], TypeError, ["real numbers", "object"]),
        (np.array(["2020"], "M8[Y]"), TypeError, ["real numbers", "datetime64"]),
        ([1e300], ValueError, ["127 * 2^127", "1e+300"]),
    ],
)
def test_quantize(values: Any, kind: type[Exception], parts: list[str]) -> None:
    refused(kind, *parts, call=lambda: tintin.quantize(values))


@pytest.mark.parametrize("exponent", [128, -129, 10**30, True])
def test_quantize_exponent(exponent: Any) -> None:
    refused(ValueError, "-128 to 127", str(exponent), call=lambda: tintin.quantize([1.0], exponent))
    refused(ValueError, "-128 to 127", str(exponent), call=lambda: tintin.Quantized(np.zeros(3, np.int8), exponent))


@pytest.mark.parametrize("exponent", [1.0, "1", np.float32(1), [1]])
def test_quantize_exponent_type(exponent: Any) -> None:
    refused(TypeError, "whole number", call=lambda: tintin.quantize([1.0], exponent))
    refused(TypeError, "whole number", call=lambda: tintin.Quantized(np.zeros(3, np.int8), exponent))


def test_quantized_mantissas() -> None:
    refused(TypeError, "int8", "float64", call=lambda: tintin.Quantized(np.zeros(3), 0))
    refused(TypeError, "int8", "list", call=lambda: tintin.Quantized([1], 0))


@pytest.mark.parametrize(
    "peak", [5e-324, 1e-45, 2.0**-135, 0.1, 1, 127, 128, 255, 1e38, 127 * 2.0**127, 2.0**134 * 0.99]
)
def test_quantize_holds_the_peak(peak: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        made = tintin.quantize(np.array([peak, -peak, 0]))
    assert -128 <= made.exponent <= 127 and made.mantissas.min() >= -127
    # one unit, or half the smallest where nothing finer exists
    assert abs(int(made.mantissas[0]) * 2.0**made.exponent - peak) <= 2.0**made.exponent


def test_quantize_clips_what_does_not_fit_a_given_exponent() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tintin.quantize([1e300, -1e300, 0.3], -128).mantissas.tolist() == [127, -127, 127]
        assert tintin.quantize([1e300, -1.0], 127).mantissas.tolist() == [127, 0]


def test_extreme_scales_train_without_a_crash() -> None:
    """The ends of every exponent at once: arithmetic may saturate, but nothing panics, and files stay sound."""
    ends = (-128, 127)
    ways = [
        (tintin.TinTin(), None), (tintin.Niti(), None), (tintin.TinTin(rounding="nearest"), "squared_error"),
        (tintin.Niti(mu=7, rounding="stochastic"), "squared_error"),
    ]  # fmt: skip
    rng = np.random.default_rng(3)
    mantissas = rng.integers(-127, 128, (5, 6)).astype(np.int8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for scale in ((s, u, d) for s in ends for u in ends for d in ends):
            for exponent, (optimizer, loss) in ((e, way) for e in ends for way in ways):
                net = Sequential([Linear(8, bias=True), ReLU(), Linear(4, bias=True)], input_shape=(6,))
                for tensor in net.tensors():
                    flat = np.where(np.arange(tensor["mantissas"].size) % 3, 127, -127).astype(np.int8)
                    net.set_tensor(tensor["layer"], flat, scale, bias=tensor["bias"])
                x = tintin.Quantized(mantissas, exponent)
                y = tintin.Quantized(mantissas[:, :4], -1 - exponent) if loss else [0, 1, 2, 3, 0]
                for _ in range(66):  # past one adjustment of the scales
                    net.partial_fit(x, y, optimizer, loss=loss)
                assert not np.isnan(net.logits(x)).any()
                net.evaluate(x, y, loss)
                assert Sequential.from_bytes(net.to_bytes()) == net


def test_logits_beyond_every_float() -> None:
    net = Sequential([Linear(3, bias=False)] * 12, input_shape=(3,))
    for tensor in net.tensors():
        net.set_tensor(tensor["layer"], np.array([127, 127, 127, 0, 0, 0, -1, -1, -1], np.int8), (127, 0, 0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = net.logits(np.full((1, 3), 255, np.uint8))
    assert found.tolist() == [[np.inf, 0, -np.inf]]


# Nets


@pytest.mark.parametrize(
    ("make", "kind", "parts"),
    [
        (lambda: Linear(0), ValueError, ["Linear: out_features", "1 to 65535", "got 0"]),
        (lambda: Linear(65536), ValueError, ["1 to 65535", "65536"]),
        (lambda: Linear(10**40), ValueError, ["1 to 65535"]),
        (lambda: Linear(1.5), TypeError, ["whole number", "1.5"]),
        (lambda: Linear(3, bias=1), TypeError, ["bias", "True or False", "1"]),
        (lambda: Conv2d(3, (1, 2, 3)), ValueError, ["kernel_size", "pair", "(1, 2, 3)"]),
        (lambda: Conv2d(3, "33"), TypeError, ["kernel_size", "'33'"]),
        (lambda: Conv2d(3, 3, stride=0), ValueError, ["stride", "got 0"]),
        (lambda: Conv2d(3, 3, padding=-1), ValueError, ["padding", "got -1"]),
        (lambda: MaxPool2d((2, None)), TypeError, ["kernel_size", "None"]),
        (lambda: tintin.AvgPool2d(0), ValueError, ["AvgPool2d: kernel_size", "got 0"]),
        (lambda: Sequential([Linear], (3,)), TypeError, ["layers[0]", "Linear(10)"]),
        (lambda: Sequential(["Linear"], (3,)), TypeError, ["layers[0]", "'Linear'"]),
        (lambda: Sequential(Linear(3), (3,)), TypeError, ["list of layers", "Linear"]),
        (lambda: Sequential([Linear(3)], 3), TypeError, ["input_shape", "got 3"]),
        (lambda: Sequential([Linear(3)], (3.0,)), TypeError, ["input_shape", "(3.0,)"]),
        (lambda: Sequential([Linear(3)], (1, 2)), ValueError, ["height, width, channels", "(1, 2)"]),
        (lambda: Sequential([Linear(3)], ()), ValueError, ["height, width, channels", "()"]),
        (lambda: Sequential([Linear(3)], (0,)), ValueError, ["at least 1", "(0,)"]),
        (lambda: Sequential([Linear(3)], (-4,)), ValueError, ["at least 1", "(-4,)"]),
        (lambda: Sequential([Linear(3)], (10**30,)), ValueError, ["input_shape"]),
        (lambda: Sequential([Linear(3)], (3,), seed=-1), ValueError, ["seed", "-1"]),
        (lambda: Sequential([Linear(3)], (3,), seed=2**32), ValueError, ["seed", "2^32"]),
        (lambda: Sequential([Linear(3)], (3,), seed=0.5), TypeError, ["seed", "0.5"]),
        (lambda: Sequential([type("Linear", (tintin.Layer,), {})()], (3,)), ValueError, ["Linear"]),
        (lambda: Sequential([type("Dropout", (tintin.Layer,), {})()], (3,)), ValueError, ["Dropout"]),
    ],
)
def test_layers_and_shapes(make: Callable[[], Any], kind: type[Exception], parts: list[str]) -> None:
    refused(kind, *parts, call=make)


@pytest.mark.parametrize(
    ("layers", "shape", "message"),
    [
        ([], (3,), "a net needs at least one layer"),
        ([Flatten()], (3,), "no layer computes anything"),
        ([Linear(3)], (2**32 - 1,) * 3, "input shape is empty or has more than 2^24 values"),
        ([Linear(3)], (2**24 + 1,), "input shape is empty or has more than 2^24 values"),
        ([ReLU()] * 1001, (3,), "more than 1000 layers"),
        ([Linear(3)] * 70_000, (3,), "more than 1000 layers"),
        ([ReLU(), Conv2d(8, 5)], (4, 4, 1), "layer 1 (Conv2d): kernel larger than the padded input"),
        ([Conv2d(8, 3, padding=3)], (4, 4, 1),
         "layer 0 (Conv2d): padding must be smaller than the kernel"),
        ([Flatten(), MaxPool2d(2)], (4, 4, 1),
         "layer 1 (MaxPool2d): pooling window larger than the input"),
        ([MaxPool2d(17)], (17, 17, 1), "layer 0 (MaxPool2d): pooling window of more than 256 places"),
        ([tintin.GlobalAvgPool2d()], (4096, 4096, 1),
         "layer 0 (GlobalAvgPool2d): pooling window of more than 2^20 places"),
        ([tintin.AvgPool2d(7)], (6, 6, 1),
         "layer 0 (AvgPool2d): pooling window larger than the input"),
        ([Linear(3)], (132_625,), "layer 0 (Linear): sum of products could overflow 32 bits: fan-in too large"),
        ([Linear(3, bias=True)], (66_053,),
         "layer 0 (Linear): sum of products could overflow 32 bits: fan-in too large"),
        ([Conv2d(65_535, 2)], (2, 2, 1), "layer 0 (Conv2d): sum of products could overflow 32 bits: fan-out too large"),
        ([Conv2d(65_535, 1)], (512, 512, 1), "layer 0 (Conv2d): output too large"),
        ([Linear(65_535)] * 3, (1,), "layer 1 (Linear): more than 2^28 weights"),
    ],
)  # fmt: skip
def test_nets_that_cannot_be(layers: list[tintin.Layer], shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Sequential(layers, input_shape=shape)
    assert str(caught.value).partition(", input ")[0] == message


@pytest.mark.parametrize(
    ("layers", "shape"),
    [
        ([ReLU()] * 1000, (3,)),
        ([Linear(2, bias=True)] * 1000, (2,)),
        ([Linear(1)], (132_624,)),
        ([Linear(1, bias=True)], (66_052,)),
        ([Linear(65_535)], (1,)),
        ([Conv2d(65_535, 1, stride=65_535)], (4096, 4096, 1)),
        ([Conv2d(1, 65_535, padding=65_534, stride=65_535)], (1, 1, 2)),
        ([MaxPool2d((256, 1), stride=65_535)], (65_536, 16, 2)),
        ([tintin.GlobalAvgPool2d()], (1, 65_535, 3)),
        ([tintin.AvgPool2d((1, 65_535), stride=(1, 1))], (1, 65_540, 1)),
    ],
)
def test_at_the_limits_a_net_is_refused_or_works(layers: list[tintin.Layer], shape: tuple[int, ...]) -> None:
    try:
        net = Sequential(layers, input_shape=shape)
    except ValueError as error:
        assert "layer 0" in str(error)
        return
    x = np.random.default_rng(0).integers(0, 256, (2, int(np.prod(shape))), dtype=np.uint8)
    assert net.predict(x).shape == (2,)
    net.summary()
    before = net.digest()
    try:
        net.partial_fit(x, np.zeros((2, net.outputs), np.int8), loss="squared_error")
    except ValueError as error:
        assert re.search(r"no layer is left to train|overflow 32 bits", str(error))
        assert net.digest() == before


def test_patches_of_a_long_row() -> None:
    """2^33 values of patches once wrapped around 32 bits, and the forward pass panicked."""
    with pytest.raises(ValueError, match=r"layer 0 \(Conv2d\): "):
        Sequential([Conv2d(1, kernel_size=(1, 8192))], input_shape=(1, 2**20, 1))


def test_batch_too_large_for_the_sums() -> None:
    net = Sequential([Conv2d(1, 1), Flatten(), Linear(2)], input_shape=(100, 100, 1))
    said = ["layer 0 (Conv2d): gradient could overflow 32 bits", "132624", "smaller batch"]
    refused(ValueError, *said, call=lambda: net.memory(batch_size=14))
    x = np.zeros((14, 100, 100), np.uint8)
    refused(ValueError, *said, call=lambda: net.fit(x, [0] * 14, batch_size=14))
    net.fit(x, [0] * 14, batch_size=13)
    refused(ValueError, "1 to 1048576", call=lambda: net.memory(batch_size=2**20 + 1))


def test_memory_limit() -> None:
    net = tintin.models.lenet5()
    needed = net.memory().total
    assert net.memory(limit=needed).total == needed
    with pytest.raises(ValueError) as caught:
        net.memory(limit=needed - 1)
    said = r"layer 7 \(Linear\): the net does not fit, and this layer needs most: (\d+) bytes needed, (\d+) allowed"
    found = re.fullmatch(said, str(caught.value))
    assert found is not None and [int(n) for n in found.groups()] == [needed, needed - 1]
    for limit, kind in ((-1, ValueError), ("1k", TypeError), (1.5, TypeError)):
        refused(kind, "limit", call=lambda limit=limit: net.memory(limit=limit))
    refused(ValueError, "batch_size", call=lambda: net.memory(0))
    refused(ValueError, "no layer is left to train", call=lambda: net.memory(train_from=99))


@pytest.mark.parametrize(
    ("layers", "shape", "options"),
    [
        ([Conv2d(8, 5), ReLU(), Linear(2)], (4, 6, 1), {}),
        ([Flatten(), ReLU(), Linear(2, bias=True)], (258, 257, 1), {}),
        ([Conv2d(1, 1), ReLU(), Linear(2)], (100, 100, 1), {"batch_size": 14}),
        ([Linear(10), ReLU(), Linear(200)], (100,), {"limit": 2000}),
        ([Linear(2), ReLU(), MaxPool2d(1)], (4, 4, 1), {"train_from": 2}),
    ],
)
def test_python_says_what_the_compiler_says(
    layers: list[tintin.Layer], shape: tuple[int, ...], options: dict[str, int]
) -> None:
    """The models of the Rust side that must not compile: the words its test looks for in the compiler's output."""
    rust = re.sub(r"\\\n\s*", "", COMPILE_FAIL.read_text())
    with pytest.raises(ValueError) as caught:
        Sequential(layers, input_shape=shape).memory(**options)
    said = re.sub(r"\d+ bytes needed", "{needed} bytes needed", str(caught.value))
    assert f'"{said}"' in rust, said


@pytest.mark.parametrize(
    ("arguments", "kind", "parts"),
    [
        ((9, np.zeros(3, np.int8), (0, 0, 0)), ValueError, ["layer 9", "no weights"]),
        ((2, np.zeros(3, np.int8), (0, 0, 0)), ValueError, ["layer 2", "no weights"]),
        ((-1, np.zeros(3, np.int8), (0, 0, 0)), ValueError, ["layer", "-1"]),
        (("1", np.zeros(3, np.int8), (0, 0, 0)), TypeError, ["layer", "'1'"]),
        ((3, np.zeros(17, np.int8), (0, 0, 0)), ValueError, ["layer 3", "18 weights", "17"]),
        ((3, np.zeros(0, np.int8), (0, 0, 0)), ValueError, ["18 weights", "0"]),
        ((3, np.zeros(18), (0, 0, 0)), TypeError, ["int8", "float64"]),
        ((3, [0] * 18, (0, 0, 0)), TypeError, ["int8", "int64"]),
        ((3, np.full(18, -128, np.int8), (0, 0, 0)), ValueError, ["-127 to 127", "-128"]),
        ((3, np.zeros(18, np.int8), (128, 0, 0)), ValueError, ["-128 to 127", "(128, 0, 0)"]),
        ((3, np.zeros(18, np.int8), (0, 10**20, 0)), ValueError, ["-128 to 127"]),
        ((3, np.zeros(18, np.int8), (0, 0)), TypeError, ["three whole numbers", "(0, 0)"]),
        ((3, np.zeros(18, np.int8), (0, 0, 0.5)), TypeError, ["three whole numbers", "0.5"]),
        ((3, np.zeros(18, np.int8), None), TypeError, ["three whole numbers", "None"]),
    ],
)
def test_set_tensor(arguments: tuple[Any, ...], kind: type[Exception], parts: list[str]) -> None:
    net = mlp(bias=False)
    before = net.to_bytes()
    refused(kind, *parts, call=lambda: net.set_tensor(*arguments))
    assert net.to_bytes() == before
    refused(
        ValueError, "layer 3 has no biases", call=lambda: net.set_tensor(3, np.zeros(3, np.int8), (0, 0, 0), bias=True)
    )


# Files


@pytest.fixture(scope="module")
def sound() -> bytes:
    net = Sequential(
        [
            Conv2d(3, 3, padding=1, bias=True),
            ReLU(),
            MaxPool2d(2),
            tintin.AvgPool2d(2),
            Flatten(),
            Linear(3, bias=True),
        ],
        input_shape=(4, 4, 1),
        seed=1,
    )
    net.fit(X, Y, batch_size=5)
    return net.to_bytes()


def load(data: bytes, folder: Path) -> Sequential:
    (folder / "m.tin").write_bytes(data)
    return tintin.load(folder / "m.tin")


def test_every_truncation_is_refused(sound: bytes, tmp_path: Path) -> None:
    for length in range(len(sound)):
        with pytest.raises(ValueError):
            Sequential.from_bytes(sound[:length])
    refused(ValueError, "m.tin", "cut short", str(len(sound)), call=lambda: load(sound[:-1], tmp_path))
    refused(ValueError, "m.tin", "not a .tin file", call=lambda: load(b"", tmp_path))
    refused(ValueError, "m.tin", "extended", call=lambda: load(sound + b"\0", tmp_path))


def test_every_altered_byte_is_refused(sound: bytes) -> None:
    for place in range(len(sound)):
        altered = bytearray(sound)
        altered[place] ^= 1 << place % 8
        with pytest.raises(ValueError):
            Sequential.from_bytes(bytes(altered))


def test_altered_file_says_so(sound: bytes, tmp_path: Path) -> None:
    for place, part in ((HEAD - 20, "header"), (len(sound) - 10, "weights")):
        altered = bytearray(sound)
        altered[place] ^= 0x10
        refused(ValueError, "m.tin", "check sum", part, "altered", call=lambda a=altered: load(bytes(a), tmp_path))


def test_newer_file_says_so(sound: bytes, tmp_path: Path) -> None:
    newer = bytearray(sound)
    struct.pack_into("<H", newer, 8, tintin.FORMAT + 1)
    refused(ValueError, "file format 2", "reads format 1", call=lambda: load(resealed(newer), tmp_path))
    newer = bytearray(sound)
    struct.pack_into("<H", newer, 10, tintin.NUMERICS + 1)
    refused(ValueError, "numerics version 2", "numerics 1", call=lambda: load(resealed(newer), tmp_path))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(99), b"no model\n" * 20, bytes(500), b"\x89TIN"])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    refused(ValueError, "m.tin", "not a .tin file", call=lambda: load(data, tmp_path))


def test_paths(tmp_path: Path, sound: bytes) -> None:
    refused(FileNotFoundError, "gone.tin", call=lambda: tintin.load(tmp_path / "gone.tin"))
    refused(IsADirectoryError, tmp_path.name, call=lambda: tintin.load(tmp_path))
    refused(TypeError, "int", call=lambda: tintin.load(3))
    for data in ("text", None, 3, [1]):
        refused(TypeError, "bytes", call=lambda data=data: Sequential.from_bytes(data))


def test_files_from_a_bad_writer(sound: bytes) -> None:
    """Files whose check sums agree but whose contents are anything: refused, or a net that works."""
    rng = random.Random(5)
    layers = struct.unpack_from("<H", sound, LAYERS_AT)[0]
    worked = 0
    for _ in range(4000):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 3])):
            place = rng.randrange(16, HEAD + 16 * layers) if rng.random() < 0.8 else rng.randrange(len(data))
            data[place] = rng.choice([0, 1, 2, 3, 5, 127, 128, 255, rng.randrange(256)])
        try:
            net = Sequential.from_bytes(resealed(data))
        except ValueError:
            continue
        size = int(np.prod(net.input_shape))
        if size > 50_000:
            continue
        worked += 1
        x = np.full((2, size), rng.randrange(256), np.uint8)
        net.logits(x)
        net.summary()
        for optimizer in (tintin.TinTin(), tintin.Niti()):
            try:
                net.partial_fit(x, [0, 0], optimizer)
            except ValueError as error:
                assert "layer" in str(error) or "outputs" in str(error)
        assert Sequential.from_bytes(net.to_bytes()) == net
    assert worked > 100


# Writing


@pytest.mark.parametrize("where", ["gone/m.tin", "file/m.tin"])
def test_save_into_no_folder(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = str((tmp_path / where).parent)
    refused(FileNotFoundError, folder, call=lambda: mlp().save(tmp_path / where))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_save_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.tin").mkdir()
    with pytest.raises(OSError, match=r"m\.tin"):
        mlp().save(tmp_path / "m.tin")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert list((tmp_path / "m.tin").iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_save_into_a_folder_of_others(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.tin")
    before = (tmp_path / "m.tin").read_bytes()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            tintin.models.small().save(tmp_path / "m.tin")
    finally:
        tmp_path.chmod(0o700)
    assert (tmp_path / "m.tin").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_save_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.tin")
    before = (tmp_path / "m.tin").read_bytes()
    done = run(f"""
        import resource, tintin
        net = tintin.models.lenet5()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            net.save({str(tmp_path / "m.tin")!r})
        except OSError as error:
            print("refused", error)
    """)
    assert done.stdout.startswith("refused"), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert (tmp_path / "m.tin").read_bytes() == before


def test_a_failed_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no")

    mlp().save(tmp_path / "m.tin")
    before = (tmp_path / "m.tin").read_bytes()
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no"):
        tintin.models.small().save(tmp_path / "m.tin")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert (tmp_path / "m.tin").read_bytes() == before


# Data sets, and the private engine


def test_unknown_data_set() -> None:
    refused(ValueError, "imagenet", "digits, fashion_mnist, mnist", call=lambda: datasets.load("imagenet"))


def test_the_private_engine_checks_too() -> None:
    engine = mlp()._engine
    recipe = _tintin.Recipe("tintin", "nearest", "cross_entropy", 0, 0, [], 2)
    y = Y.astype(np.uint16)
    order = np.arange(10, dtype=np.uint32)

    def train(x: Any = X, y: Any = y, order: Any = order, batch: int = 5, train_from: int = 0) -> Any:
        return engine.train(x, -7, y, None, order, batch, recipe, train_from)

    refused(ValueError, "C-contiguous", call=lambda: train(np.asfortranarray(X)))
    refused(ValueError, "uint8 or int8", "float64", call=lambda: train(X * 1.0))
    refused(ValueError, "uint8 or int8", "list", call=lambda: train(X.tolist()))
    refused(ValueError, "16 values", call=lambda: train(X[:, :3].copy()))
    refused(ValueError, "16 values", call=lambda: train(np.array(3, np.uint8)))
    refused(ValueError, "10 samples but 9 labels", call=lambda: train(y=y[:9]))
    refused(ValueError, "uint16", "int64", call=lambda: train(y=Y))
    refused(ValueError, "uint16", call=lambda: train(y=y.astype(">u2")))
    refused(ValueError, "contiguous", call=lambda: train(y=np.repeat(y, 2)[::2]))
    refused(ValueError, "label 3 out of range", call=lambda: train(y=y + np.uint16(1)))
    refused(ValueError, "sample 10 of 10", call=lambda: train(order=order + np.uint32(1)))
    refused(ValueError, "contiguous", call=lambda: train(order=order[::2]))
    refused(ValueError, "1 to 1048576", call=lambda: train(batch=0))
    refused(ValueError, "1 to 1048576", call=lambda: train(batch=2**32 - 1))
    refused(ValueError, "left to train", call=lambda: train(train_from=2**63))
    for wrong in (order.astype(np.int64), order.astype(">u4"), order[:, None], order.tolist(), None):
        refused(TypeError, call=lambda wrong=wrong: train(order=wrong))
    assert train(order=order[:0]) == (0, 0)
    assert engine.step == 0
    assert train(order=np.repeat(order, 3), batch=30)[1] <= 30
    refused(ValueError, "targets", "(10, 3)", call=lambda: engine.evaluate(X, -7, y, 0, "squared_error"))
    assert [len(part) for part in engine.predict(np.zeros((0, 16), np.uint8), 0)] == [0, 0]
    for exponent in (-(2**15), 2**15 - 1):
        engine.train(X, exponent, y, None, order, 5, recipe, 0)
        engine.predict(X, exponent)


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        (("sgd", "nearest", "cross_entropy", 0, 0, [], 0), "tintin, niti"),
        (("tintin", "floor", "cross_entropy", 0, 0, [], 0), "nearest, pseudo, stochastic"),
        (("tintin", "nearest", "mse", 0, 0, [], 0), "cross_entropy, niti_cross_entropy, squared_error"),
        (("tintin", "nearest", "cross_entropy", 0, 0, [], 7), "0 to 6"),
        (("tintin", "nearest", "cross_entropy", 0, 0, [1] * 5, 0), "at most 4"),
    ],
)
def test_the_private_recipe_checks_too(settings: tuple[Any, ...], part: str) -> None:
    refused(ValueError, part, call=lambda: _tintin.Recipe(*settings))


# What the process must survive


def run(source: str) -> subprocess.CompletedProcess[str]:
    lines = source.strip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    code = "\n".join(line[indent:] for line in lines)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)


def test_more_memory_than_any_machine_has() -> None:
    """Terabytes of buffers: an error, where Rust's own allocation would abort the process."""
    done = run("""
        import numpy as np, tintin
        net = tintin.Sequential([tintin.Linear(65535)] + [tintin.AvgPool2d(1)] * 900, input_shape=(1,))
        x = np.zeros((130_000, 1), np.uint8)
        try:
            net.partial_fit(x, np.zeros(130_000, np.uint8))
        except (ValueError, MemoryError) as error:
            print("refused", error)
        assert net.step == 0 and len(net.predict(x[:2])) == 2
    """)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("refused")
