"""Data and settings of any kind: a clear error that tells what was given and expected, and nothing changed."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from helpers import refused

import tintin
from tintin import Conv2d, Flatten, Linear, ReLU, Sequential


def mlp(bias: bool = True) -> Sequential:
    layers = [Flatten(), Linear(6, bias=bias), ReLU(), Linear(3, bias=bias)]
    return Sequential(layers, input_shape=(4, 4, 1), seed=1)


X = np.random.default_rng(0).integers(0, 256, (10, 4, 4)).astype(np.uint8)
Y = np.arange(10) % 3


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


def test_targets_beyond_the_range_of_squared_error() -> None:
    net = mlp()
    wide = np.full((10, 3), 64, np.int8)
    for y, peak in ((tintin.Quantized(wide + 1, 0), "65"), (tintin.Quantized(-wide, 1), "128")):
        for call in (
            lambda y=y: net.fit(X, y, batch_size=2, loss="squared_error"),
            lambda y=y: net.partial_fit(X, y, loss="squared_error"),
            lambda y=y: net.evaluate(X, y, loss="squared_error"),
            lambda y=y: net.fit(X, wide, batch_size=2, loss="squared_error", validation_data=(X, y)),
        ):
            refused(ValueError, f"up to {peak},", "beyond 64", "scale the targets down", call=call)
    assert net.step == 0
    net.partial_fit(X, tintin.Quantized(wide, 0), loss="squared_error")
    net.partial_fit(X, tintin.Quantized(np.full((10, 3), -128, np.int8), -1), loss="squared_error")


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
                y = tintin.Quantized(mantissas[:, :4], min(-1 - exponent, -1)) if loss else [0, 1, 2, 3, 0]
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
