"""`tintin.from_onnx`: the function of onnx's own evaluator, in integers that are the engine's; refusals by name."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused
from onnx_graphs import Graph, onnx, samples

import tintin
from tintin.imports import _bring
from tintin.imports._float import FloatNet
from tintin.imports._integers import Tensor, forward
from tintin.imports._onnx import read
from tintin.imports._quantise import equalised, fold_input, tensors


def lenet(opset: int = 17) -> Graph:
    g = Graph(("n", 1, 12, 12), opset=opset)
    g.conv(4, 1, (5, 5), pads=[2, 2, 2, 2])
    g.node("Relu")
    g.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    g.conv(6, 4, (3, 3))
    g.node("Relu")
    g.node("Flatten")
    g.gemm(12, 96)
    g.node("Relu")
    g.gemm(5, 12)
    return g


def residual() -> Graph:
    """Both kinds of shortcut, batch norms everywhere."""
    g = Graph((1, 3, 8, 8), seed=1)
    g.conv(4, 3, (3, 3), pads=[1, 1, 1, 1])
    g.norm(4)
    start = g.node("Relu")
    g.conv(4, 4, (3, 3), pads=[1, 1, 1, 1])
    g.norm(4)
    g.node("Relu")
    g.conv(4, 4, (3, 3), pads=[1, 1, 1, 1])
    end = g.norm(4)
    g.node("Add", start, end)
    start = g.node("Relu")
    g.conv(8, 4, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    g.norm(8)
    g.node("Relu")
    g.conv(8, 8, (3, 3), pads=[1, 1, 1, 1])
    end = g.norm(8)
    g.conv(8, 4, (1, 1), source=start, strides=[2, 2])
    shortcut = g.norm(8)
    g.node("Add", end, shortcut)
    g.node("Relu")
    g.node("GlobalAveragePool")
    g.node("Flatten")
    g.gemm(5, 8)
    return g


def inverted() -> Graph:
    """Inverted residuals with a mean over space at the end and no Linear."""
    g = Graph(("n", 2, 8, 8), seed=2)
    g.conv(8, 2, (3, 3), pads=[1, 1, 1, 1], strides=[2, 2])
    start = g.last
    g.conv(24, 8, (1, 1))
    g.node("Relu")
    g.conv(24, 24, (3, 3), pads=[1, 1, 1, 1], group=24)
    g.norm(24)
    g.node("Relu")
    g.conv(8, 24, (1, 1))
    g.node("Add", g.last, start)
    g.node("ReduceMean", axes=[-1, -2], keepdims=0)
    return g


def norms_alone() -> Graph:
    """Batch norms with no layer before them that could take them in, one behind a flattened map."""
    g = Graph(("n", 2, 6, 6), seed=3)
    g.norm(2)
    g.conv(4, 2, (3, 3))
    g.node("Relu")
    g.norm(4)
    g.node("Relu")
    g.node("AveragePool", kernel_shape=[2, 2], strides=[2, 2])
    g.node("Flatten")
    g.norm(16)
    g.gemm(3, 16)
    g.norm(3)
    return g


def signal() -> Graph:
    """One dimension: (n, channels, width)."""
    g = Graph(("n", 2, 30), seed=4)
    g.conv(6, 2, (5,), strides=[2], pads=[2, 2])
    g.node("Relu")
    g.node("MaxPool", kernel_shape=[3], strides=[2])
    g.conv(8, 6, (3,))
    g.node("Relu")
    g.node("Reshape", g.last, np.array([0, -1]))
    g.gemm(4, 40)
    return g


def multi_layer() -> Graph:
    """A matrix product and a bias apart, BatchNorm1d, Identity, Dropout, Cast, a Softmax that is left out."""
    g = Graph(("n", 20), seed=5)
    g.node("MatMul", g.last, g.draw(16, 20).T.copy())
    g.node("Add", g.draw(16), g.last)
    g.norm(16)
    g.node("Relu")
    g.node("Identity")
    g.node("Dropout")
    g.node("Cast", to=onnx.TensorProto.FLOAT)
    g.node("Gemm", g.last, g.draw(16, 4), g.draw(1, 4), alpha=0.5, beta=2.0)
    return g


def tensorflow() -> Graph:
    """Channels last around channels first, as tf2onnx writes it; the shape of Reshape computed from constants."""
    g = Graph(("n", 6, 6, 2), seed=6)
    g.node("Transpose", perm=[0, 3, 1, 2])
    g.conv(4, 2, (3, 3), auto_pad="SAME_UPPER")
    g.node("Relu")
    g.node("Transpose", perm=[0, 2, 3, 1])
    x = g.last
    head = g.node("Constant", value=onnx.numpy_helper.from_array(np.array([-1])))
    shape = g.node("Concat", head, np.array([144]), axis=0)
    g.node("Reshape", x, shape)
    g.node("MatMul", g.last, g.draw(5, 144).T.copy())
    g.node("Add", g.last, g.draw(5))
    return g


def shapes() -> Graph:
    """What PyTorch writes for x.view(x.size(0), -1) where the batch is open, and two readers of one flat value."""
    g = Graph(("n", 2, 6, 6), seed=7)
    g.conv(3, 2, (3, 3))
    x = g.node("Relu")
    g.node("Shape", x)
    n = g.node("Gather", g.last, np.array(0), axis=0)
    n = g.node("Unsqueeze", n, np.array([0]))
    shape = g.node("Concat", n, np.array([-1]), axis=0)
    flat = g.node("Reshape", x, shape)
    one = g.gemm(5, 48)
    g.last = flat
    two = g.gemm(5, 48)
    g.node("Add", one, two)
    return g


def relu6() -> Graph:
    g = Graph(("n", 1, 6, 6), seed=8)
    g.conv(4, 1, (3, 3))
    g.node("Clip", g.last, np.float32(0), np.float32(100), name="bounded")
    g.node("GlobalAveragePool")
    g.node("Squeeze", g.last, np.array([2, 3]))
    g.gemm(3, 4)
    return g


GRAPHS: dict[str, tuple[Callable[[], Graph], tuple[int, ...], bool]] = {
    # graph, shape of a sample channels last, whether the file has channels first
    "lenet": (lenet, (12, 12, 1), True),
    "opset 9": (lambda: lenet(9), (12, 12, 1), True),
    "residual": (residual, (8, 8, 3), True),
    "inverted": (inverted, (8, 8, 2), True),
    "norms alone": (norms_alone, (6, 6, 2), True),
    "signal": (signal, (30, 2), True),
    "dense": (multi_layer, (20,), False),
    "tensorflow": (tensorflow, (6, 6, 2), False),
    "shapes": (shapes, (6, 6, 2), True),
    "relu6": (relu6, (6, 6, 1), True),
}


def as_file(x: np.ndarray[Any, Any], first: bool) -> np.ndarray[Any, Any]:
    return np.moveaxis(x, -1, 1) if first else x


def in_integers(found: FloatNet, x: tintin.Quantized) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """Output mantissas and scales of the importer's own integers."""
    given = np.maximum(x.mantissas, -127).reshape(-1, *found.input_shape).astype(np.float64)
    start = Tensor(given, np.full(len(given), x.exponent), 0, 0)
    y = forward(found, tensors(found), start)[len(found.layers) - 1].tensor
    return y.values.reshape(len(given), -1), np.stack([y.s, np.full_like(y.s, y.u), np.full_like(y.s, y.d)], 1)


@pytest.mark.parametrize("name", GRAPHS)
def test_same_function_as_the_file(name: str) -> None:
    make, shape, first = GRAPHS[name]
    graph = make()
    x = samples(12, *shape)
    found = read(graph.bytes(), shape, False)
    wanted = graph.reference(as_file(x.dequantize(), first))
    outputs = found.forward(x.dequantize().astype(np.float64).reshape(-1, *found.input_shape))[-1]
    np.testing.assert_allclose(outputs.reshape(12, -1), wanted, rtol=1e-4, atol=1e-4)
    moved = equalised(found)
    if moved is not None:
        outputs = moved.forward(x.dequantize().astype(np.float64).reshape(-1, *found.input_shape))[-1]
        np.testing.assert_allclose(outputs.reshape(12, -1), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", GRAPHS)
def test_the_engine_computes_it(name: str) -> None:
    """Its integers are those that the report is made of, and near the file's floats."""
    make, shape, first = GRAPHS[name]
    graph = make()
    x = samples(40, *shape)
    found = read(graph.bytes(), shape, False)
    net, plain = _bring(found, x, 0.0, 1.0, None, False, None, 0)
    values, scales = in_integers(found, x)
    mantissas, engine_scales = net._engine.predict(np.ascontiguousarray(x.mantissas), x.exponent)
    np.testing.assert_array_equal(mantissas, values)
    np.testing.assert_array_equal(engine_scales, scales)
    wanted = graph.reference(as_file(x.dequantize(), first))
    noise = ((net.logits(x) - wanted) ** 2).sum() / (wanted**2).sum()
    assert -10 * np.log10(noise) == pytest.approx(plain.snr, abs=0.1)
    # measured: 26 dB to 41 dB; a wrong scale or order is below 3
    assert plain.snr > 20 and plain.agreement > 0.8
    better, report = tintin.from_onnx(graph.bytes(), x)
    assert report.snr >= plain.snr and report.samples == 40
    assert better.layers == net.layers


def test_a_brought_net_trains_and_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(residual().bytes())
    x = samples(60, 8, 8, 3)
    net, report = tintin.from_onnx(path, x, seed=5)
    assert net.seed == 5 and net.step == 0 and "outputs" in str(report) and "Add + ReLU" in str(report)
    y = np.arange(60) % 5
    before = net.evaluate(x, y)[0]
    net.fit(x, y, epochs=8, batch_size=10)
    assert net.evaluate(x, y)[0] < before
    assert tintin.Sequential.from_bytes(net.to_bytes()) == net


def test_file_like_kinds_of_a_model() -> None:
    graph = lenet()
    x = samples(4, 12, 12, 1)
    one, _ = tintin.from_onnx(graph.model(), x)
    assert one == tintin.from_onnx(bytearray(graph.bytes()), x).net
    refused(ValueError, "no ONNX file", call=lambda: tintin.from_onnx(b"\xff" * 40, x))
    refused(ValueError, "no graph", call=lambda: tintin.from_onnx(b"", x))
    refused(FileNotFoundError, "nowhere.onnx", call=lambda: tintin.from_onnx("nowhere.onnx", x))
    refused(TypeError, "path, bytes or a ModelProto", call=lambda: tintin.from_onnx(io.BytesIO(), x))


def test_pixels_and_mean() -> None:
    """The net sees (pixel / 255 - mean) / std, for each channel its own."""
    g = Graph(("n", 3, 8, 8), seed=9)
    g.conv(6, 3, (3, 3))
    g.node("Relu")
    g.node("Flatten")
    g.gemm(4, 216)
    rng = np.random.default_rng(0)
    pixels = (rng.integers(0, 128, (50, 8, 8, 3)) * 2).astype(np.uint8)  # even: the engine halves them
    mean, std = np.array([0.48, 0.45, 0.4]), np.array([0.22, 0.23, 0.25])
    net, report = tintin.from_onnx(g.bytes(), pixels, mean=mean, std=std)
    wanted = g.reference(np.moveaxis((pixels / 255 - mean) / std, -1, 1))
    assert ((net.logits(pixels) - wanted) ** 2).sum() / (wanted**2).sum() < 0.002
    assert report.snr > 28
    net, _ = tintin.from_onnx(g.bytes(), pixels, input_scale=256)
    wanted = g.reference(np.moveaxis(pixels.astype(float), -1, 1))
    assert ((net.logits(pixels) - wanted) ** 2).sum() / (wanted**2).sum() < 0.002
    found = read(g.bytes(), (8, 8, 3), False)
    folded = fold_input(found, mean, std, 256 / 255, may_add_bias=True)
    outputs = folded.forward(pixels / 256)[-1].reshape(50, -1)
    wanted = g.reference(np.moveaxis((pixels / 255 - mean) / std, -1, 1))
    np.testing.assert_allclose(outputs, wanted, rtol=1e-4, atol=1e-4)


def test_uneven_channels_are_made_even() -> None:
    """One scale for all channels loses the small ones, unless their size is moved to the next layer."""
    g = Graph(("n", 2, 8, 8), seed=10)
    skew = np.exp(np.random.default_rng(1).normal(0, 2, 16)).astype(np.float32)
    first, second = g.draw(16, 2, 3, 3), g.draw(16, 16, 3, 3)
    g.node("Conv", g.last, first * skew[:, None, None, None], g.draw(16) * skew)
    g.node("Relu")
    g.node("Conv", g.last, second / skew[:, None, None], g.draw(16))
    g.node("GlobalAveragePool")
    g.node("Flatten")
    g.gemm(4, 16)
    x = samples(40, 8, 8, 2)
    plain = tintin.from_onnx(g.bytes(), x, equalise=False).report
    even = tintin.from_onnx(g.bytes(), x).report
    assert even.equalised and not plain.equalised
    assert even.snr > plain.snr + 10, (plain.snr, even.snr)  # measured: 13.3 and 32.6 dB


# Refusals


def graph(shape: tuple[int | str, ...] = ("n", 2, 8, 8)) -> Graph:
    g = Graph(shape)
    g.conv(4, 2, (3, 3))
    return g


def one(kind: str, *inputs: Any, **attributes: Any) -> Callable[[], Graph]:
    """A convolution, the node, and a Linear nobody gets to."""

    def make() -> Graph:
        g = graph()
        g.node(kind, *(g.last, *inputs), name="culprit", **attributes)
        return g

    return make


def conv(channels: int = 2, kernel: tuple[int, int] = (3, 3), **attributes: Any) -> Callable[[], Graph]:
    def make() -> Graph:
        g = Graph(("n", 4, 8, 8))
        g.node("Conv", g.last, g.draw(4, channels, *kernel), name="culprit", **attributes)
        return g

    return make


def two_inputs() -> Graph:
    g = graph()
    g.node("Add", "x", "x", name="culprit")
    return g


@pytest.mark.parametrize(
    ("make", "parts"),
    [
        (one("Sigmoid"), ["Sigmoid culprit", "no such layer", "Conv"]),
        (one("Resize", np.zeros(0, np.float32), np.ones(4, np.float32)), ["Resize culprit"]),
        (one("LeakyRelu"), ["LeakyRelu culprit"]),
        (conv(4, dilations=[2, 2]), ["Conv culprit", "dilations [2, 2]"]),
        (conv(4, pads=[0, 0, 1, 1]), ["Conv culprit", "pads [0, 0, 1, 1]", "alike on both sides"]),
        (conv(4, auto_pad="SAME_UPPER", strides=[2, 2]), ["Conv culprit", "pads [0, 0, 1, 1]"]),
        (conv(2, group=2), ["Conv culprit", "2 groups for 4 channels", "depthwise"]),
        (conv(4, (9, 9)), ["layer 0 (Conv2d)", "kernel larger", "Conv culprit"]),
        (one("MaxPool", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), ["MaxPool culprit", "take none"]),
        (one("MaxPool", kernel_shape=[4, 4], strides=[4, 4], ceil_mode=1), ["MaxPool culprit", "ceil_mode"]),
        (one("Clip", np.float32(-1), np.float32(1)), ["Clip culprit", "-1 and 1"]),
        (one("Clip", np.float32(0), np.float32(0.5)), ["Clip culprit", "0.5", "clip_as_relu=True"]),
        (one("Softmax"), ["Softmax culprit", "at the end"]),
        (one("ReduceMean", axes=[1]), ["ReduceMean culprit", "over space"]),
        (one("Transpose", perm=[0, 2, 1, 3]), ["Transpose culprit", "(0, 2, 1, 3)"]),
        (one("Reshape", np.array([2, -1])), ["Reshape culprit", "(1, 4, 6, 6)"]),
        (one("Squeeze"), ["Squeeze culprit", "one place"]),
        (one("Flatten", axis=2), ["Flatten culprit", "axis 2"]),
        (one("Cast", to=7), ["Cast culprit", "floating point"]),
        (one("MatMul", np.ones((6, 3), np.float32)), ["MatMul culprit", "flat"]),
        (one("Add", np.ones((6, 6), np.float32)), ["Add culprit", "(6, 6)"]),
        (one("Add", np.ones((1, 3, 1, 1), np.float32)), ["Add culprit"]),
        (one("BatchNormalization", *[np.ones(3, np.float32)] * 4), ["BatchNormalization culprit", "3 constants for 4"]),
        (two_inputs, ["Add culprit", "input of the net"]),
        (lambda: Graph(("n", 2, 3, 4, 5)), ["input x has 5 axes"]),
    ],
)
def test_what_is_refused(make: Callable[[], Graph], parts: list[str]) -> None:
    g = make()
    if g.nodes and not (g.nodes[-1].op_type == "Conv" and len(g.nodes) == 1):
        g.node("Relu", name="after")
    elif not g.nodes:
        g.node("Relu")
    channels = int(g.shape[1])
    refused(ValueError, *parts, call=lambda: tintin.from_onnx(g.bytes(), samples(4, 8, 8, channels)))


def test_ranges_are_refused() -> None:
    def net(factor: float, what: slice = slice(None)) -> bytes:
        g = Graph(("n", 4))
        weight = g.draw(3, 4)
        weight[what] *= np.float32(factor)
        g.node("Gemm", g.last, weight, g.draw(3), transB=1, name="dense")
        return g.bytes()

    x = samples(4, 4)
    refused(ValueError, "layer 0 (Linear), weights", "NaN or infinity in 4 of 12",
            call=lambda: tintin.from_onnx(net(np.nan, slice(1, 2)), x))  # fmt: skip
    refused(ValueError, "layer 0 (Linear), weights", "-128 to 127", "scale it",
            call=lambda: tintin.from_onnx(net(1e-38), x))  # fmt: skip
    assert not tintin.from_onnx(net(0.0), x).net.tensors()[0]["mantissas"].any()
    g = Graph(("n", 70_000))
    g.node("Gemm", g.last, np.ones((2, 70_000), np.float32), np.ones(2, np.float32), transB=1, name="wide")
    wide = g.bytes()
    refused(ValueError, "layer 0 (Linear)", "overflow", "Gemm wide",
            call=lambda: tintin.from_onnx(wide, samples(1, 70_000)))  # fmt: skip


def test_a_bias_beyond_its_sums_is_told() -> None:
    g = Graph(("n", 4))
    g.node("Gemm", g.last, g.draw(3, 4), np.float32([1e7, -1e7, 5e6]), transB=1)
    report = tintin.from_onnx(g.bytes(), samples(6, 4)).report
    assert report.layers[0].clamped == 18 and any("clamped 18 times" in note for note in report.notes)


def test_relu6_as_relu() -> None:
    g = graph()
    g.node("Clip", g.last, np.float32(0), np.float32(0.5), name="bounded")
    report = tintin.from_onnx(g.bytes(), samples(4, 8, 8, 2), clip_as_relu=True).report
    assert any("Clip bounded: its upper bound 0.5" in note for note in report.notes)


def test_softmax_and_flat_outputs_are_told() -> None:
    g = graph()
    g.node("Flatten")
    g.node("Softmax")
    net, report = tintin.from_onnx(g.bytes(), samples(4, 8, 8, 2))
    assert net.outputs == 144 and len(report.notes) == 2


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"mean": 0.5}, ["mean", "layer 0 (Conv2d)", "pads with zeros", "tintin.quantize"]),
        ({"mean": [1.0, 2.0]}, ["mean", "1 input channels", "[1.0, 2.0]"]),
        ({"std": 0.0}, ["std", "above 0"]),
        ({"input_scale": -1}, ["input_scale", "above 0"]),
    ],
)
def test_input_convention_is_checked(given: dict[str, Any], parts: list[str]) -> None:
    data = lenet().bytes()
    refused(ValueError, *parts, call=lambda: tintin.from_onnx(data, samples(2, 12, 12, 1), **given))
    refused(ValueError, "calibration", call=lambda: tintin.from_onnx(data, samples(2, 11, 12, 1)))


def test_open_shapes_come_from_the_samples() -> None:
    g = Graph(("n", 2, "h", "w"), seed=3)
    g.conv(4, 2, (3, 3))
    g.node("GlobalAveragePool")
    assert tintin.from_onnx(g.bytes(), samples(3, 7, 9, 2)).net.input_shape == (7, 9, 2)
    refused(ValueError, "leaves its shape open", "(n, height, width, channels)",
            call=lambda: tintin.from_onnx(g.bytes(), samples(3, 126)))  # fmt: skip
