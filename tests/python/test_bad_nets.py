"""Nets that cannot be, and the private engine under bad arguments: a clear error, never a panic."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused, run

import tintin
from tintin import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential, _tintin, datasets

COMPILE_FAIL = Path(__file__).resolve().parents[2] / "crates" / "tintin-core" / "tests" / "compile_fail.rs"


def mlp(bias: bool = True) -> Sequential:
    layers = [Flatten(), Linear(6, bias=bias), ReLU(), Linear(3, bias=bias)]
    return Sequential(layers, input_shape=(4, 4, 1), seed=1)


X = np.random.default_rng(0).integers(0, 256, (10, 4, 4)).astype(np.uint8)
Y = np.arange(10) % 3


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
        (lambda: tintin.DepthwiseConv2d(0), ValueError, ["DepthwiseConv2d: kernel_size", "got 0"]),
        (lambda: tintin.Conv1d(3, (1, 2)), TypeError, ["Conv1d: kernel_size", "(1, 2)"]),
        (lambda: tintin.Conv1d(3, 2, stride=0), ValueError, ["Conv1d: stride", "got 0"]),
        (lambda: tintin.DepthwiseConv1d(3, padding=-1), ValueError, ["DepthwiseConv1d: padding", "got -1"]),
        (lambda: tintin.MaxPool1d(0), ValueError, ["MaxPool1d: kernel_size", "got 0"]),
        (lambda: tintin.AvgPool1d(2, 0), ValueError, ["AvgPool1d: stride", "got 0"]),
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
    """A row of this has 2^33 values of patches, but four of its patches are held at a time."""
    net = Sequential([Conv2d(1, kernel_size=(1, 8192))], input_shape=(1, 2**20, 1))
    assert net.memory(training=False).by_role["workspace"] == 4 * 4 * 8192


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
    # a byte less, and the largest sums are computed twice instead of held
    assert needed - 4000 < net.memory(limit=needed - 1).total < needed
    # where all of them are, it takes the least; less than that is refused
    with pytest.raises(ValueError) as caught:
        net.memory(limit=1)
    said = r"layer 7 \(Linear\): the net does not fit, and this layer needs most: (\d+) bytes needed, (\d+) allowed"
    found = re.fullmatch(said, str(caught.value))
    assert found is not None and found[2] == "1"
    least = int(found[1])
    assert net.memory(limit=least).total == least < needed - 4000
    with pytest.raises(ValueError, match=f"{least} bytes needed, {least - 1} allowed"):
        net.memory(limit=least - 1)
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


# Data sets, and the private engine


def test_unknown_data_set() -> None:
    refused(ValueError, "imagenet", "digits, fashion_mnist, mnist", call=lambda: datasets.load("imagenet"))


def test_the_private_engine_checks_too() -> None:
    engine = mlp()._engine
    recipe = _tintin.Recipe("tintin", "nearest", "cross_entropy", 0, 0, [], 2)
    y = Y.astype(np.uint16)
    order = np.arange(10, dtype=np.uint32)

    def train(
        x: Any = X, y: Any = y, order: Any = order, batch: int = 5, plan: int | None = None, train_from: int = 0
    ) -> Any:
        return engine.train(x, -7, y, None, order, batch, batch if plan is None else plan, recipe, train_from)

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
    refused(ValueError, "batch_size", "plan_batch", "4", "5", call=lambda: train(plan=4))
    refused(ValueError, "batch_size", "got 0", call=lambda: train(batch=0, plan=4))
    refused(ValueError, "left to train", call=lambda: train(train_from=2**63))
    for ends, told in [
        ([5], "10 samples"),
        ([5, 5, 10], "at 5"),
        ([6, 10], "at 6"),
        ([4, 9, 11], "10 samples"),
        ([5, 2], "at 2"),
    ]:
        places = np.array(ends, np.uint32)
        call = partial(engine.train, X, -7, y, None, order, 5, 5, recipe, 0, places)
        refused(ValueError, "batch", told, call=call)
    for wrong in (order.astype(np.int64), order.astype(">u4"), order[:, None], order.tolist(), None):
        refused(TypeError, call=lambda wrong=wrong: train(order=wrong))
    assert train(order=order[:0]) == (0, 0)
    assert engine.step == 0
    assert train(order=np.repeat(order, 3), batch=30)[1] <= 30
    refused(ValueError, "targets", "(10, 3)", call=lambda: engine.evaluate(X, -7, y, 0, "squared_error"))
    assert [len(part) for part in engine.predict(np.zeros((0, 16), np.uint8), 0)] == [0, 0]
    for exponent in (-(2**15), 2**15 - 1):
        engine.train(X, exponent, y, None, order, 5, 5, recipe, 0)
        engine.predict(X, exponent)
    # targets beyond what `fit` allows saturate (N17), and do not panic
    squared = _tintin.Recipe("tintin", "nearest", "squared_error", 0, 0, [], 2)
    for exponent in (-(2**15), 0, 127, 2**15 - 1):
        engine.train(X, -7, np.full((10, 3), -127, np.int8), exponent, order, 5, 7, squared, 0)


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
