"""`tintin.load_state_dict` and `load_safetensors`: names, orders and batch norms of PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused, run
from onnx_graphs import Graph, samples

import tintin
from tintin import (
    Conv1d,
    Conv2d,
    DepthwiseConv2d,
    Flatten,
    Layer,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)

State = dict[str, Any]


def with_norms() -> tuple[list[Layer], State, Graph]:
    """Convolutions with batch norms, one depthwise, a Linear behind a flattened map, thrice."""
    layers: list[Layer] = [
        Conv2d(4, 3, padding=1, bias=True), ReLU(), DepthwiseConv2d(3, stride=2, padding=1, bias=True), ReLU(),
        Conv2d(6, 1, bias=True), ReLU(), MaxPool2d(2), Flatten(), Linear(5, bias=True),
    ]  # fmt: skip
    g = Graph(("n", 2, 8, 8), seed=3)
    state: State = {}

    def conv(name: str, weight: Any, **attributes: Any) -> None:
        state[f"{name}.weight"] = weight
        g.node("Conv", g.last, weight, **attributes)

    def norm(name: str, channels: int) -> None:
        values = {
            "weight": g.rng.normal(1, 0.2, channels), "bias": g.draw(channels), "running_mean": g.draw(channels),
            "running_var": g.rng.uniform(0.5, 2, channels),
        }  # fmt: skip
        arrays = {key: np.asarray(value, dtype=np.float32) for key, value in values.items()}
        state.update({f"{name}.{key}": value for key, value in arrays.items()})
        state[f"{name}.num_batches_tracked"] = np.array(7)
        g.node("BatchNormalization", g.last, *arrays.values())

    conv("stem.0", g.draw(4, 2, 3, 3), pads=[1] * 4)
    norm("stem.1", 4)
    g.node("Relu")
    conv("dw.0", g.draw(4, 1, 3, 3), pads=[1] * 4, strides=[2, 2], group=4)
    norm("dw.1", 4)
    g.node("Relu")
    conv("mix.0", g.draw(6, 4, 1, 1))
    norm("mix.1", 6)
    g.node("Relu")
    g.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
    g.node("Flatten")
    state["head.weight"], state["head.bias"] = g.draw(5, 24), g.draw(5)
    g.node("Gemm", g.last, state["head.weight"], state["head.bias"], transB=1)
    return layers, state, g


def near(net: Sequential, graph: Graph, x: tintin.Quantized) -> float:
    """Signal to noise of the net against the graph, in dB."""
    wanted = graph.reference(np.moveaxis(x.dequantize(), -1, 1))
    return float(10 * np.log10((wanted**2).sum() / ((net.logits(x) - wanted) ** 2).sum()))


def test_batch_norms_are_folded() -> None:
    layers, state, graph = with_norms()
    net, x = Sequential(layers, (8, 8, 2)), samples(40, 8, 8, 2)
    report = tintin.load_state_dict(net, state, x)
    # measured 30 dB; an order that is wrong anywhere gives less than 3
    assert report.snr > 22 and report.agreement > 0.9
    assert near(net, graph, x) == pytest.approx(report.snr, abs=0.3)
    assert [row.name for row in report.layers][-2:] == ["Conv2d + ReLU + MaxPool2d + Flatten", "Linear"]
    same = Sequential(layers, (8, 8, 2))
    tintin.load_state_dict(same, dict(reversed(state.items())), x, order=[
        "", "stem", "stem.0", "stem.1", "dw.0", "dw.1", "mix.0", "mix.1", "head"])  # fmt: skip
    assert same == net
    brought, _ = tintin.from_onnx(graph.bytes(), x)
    assert brought == net


def test_what_looks_like_a_tensor_is_one() -> None:
    """Whatever has detach, cpu and float as PyTorch's tensors have."""

    class Tensor:
        def __init__(self, values: Any) -> None:
            self.values = values

        def detach(self) -> Tensor:
            return self

        cpu = float = detach

        def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
            return np.asarray(self.values, dtype=dtype)

    layers, state, _ = with_norms()
    x = samples(10, 8, 8, 2)
    one, two = Sequential(layers, (8, 8, 2)), Sequential(layers, (8, 8, 2))
    tintin.load_state_dict(one, state, x)
    tintin.load_state_dict(two, {key: Tensor(value) for key, value in state.items()}, x)
    assert one == two


def test_signals() -> None:
    g = Graph(("n", 3, 20), seed=1)
    state = {"0.weight": g.draw(4, 3, 5), "0.bias": g.draw(4), "3.weight": g.draw(2, 64)}
    g.node("Conv", g.last, state["0.weight"], state["0.bias"])
    g.node("Relu")
    g.node("Flatten")
    g.node("Gemm", g.last, state["3.weight"], transB=1)
    net = Sequential([Conv1d(4, 5, bias=True), ReLU(), Linear(2)], (1, 20, 3))
    x = samples(20, 20, 3)
    tintin.load_state_dict(net, state, x)
    assert near(net, g, x) > 25


def test_without_a_bias_it_is_zero() -> None:
    net = Sequential([Linear(3, bias=True)], (4,))
    net.set_tensor(0, np.full(3, 50, np.int8), (0, 0, 0), bias=True)
    tintin.load_state_dict(net, {"weight": np.eye(3, 4)}, samples(3, 4))
    assert not net.tensors()[1]["mantissas"].any()
    weight = net.tensors()[0]
    s, u, d = weight["scale"]
    assert weight["mantissas"].max() == 127 and 127 * 2.0**s * 0.8**u * (4 / 3) ** d == pytest.approx(1, rel=0.012)


def state_of(*shapes: tuple[int, ...], bias: bool = True) -> State:
    rng = np.random.default_rng(0)
    state: State = {}
    for i, shape in enumerate(shapes):
        state[f"{i}.weight"] = rng.normal(size=shape)
        if bias:
            state[f"{i}.bias"] = rng.normal(size=shape[0])
    return state


NORM = {f"norm.{key}": np.ones(4) for key in ("weight", "bias", "running_mean", "running_var")}
MLP = [Linear(4, bias=True), ReLU(), Linear(3, bias=True)]


@pytest.mark.parametrize(
    ("layers", "state", "given", "kind", "parts"),
    [
        (MLP, state_of((4, 5)), {}, ValueError, ["1 modules", "2 layers", "layer 2 (Linear)"]),
        (MLP, state_of((4, 5), (3, 5)), {}, ValueError, ["1.weight", "(3, 5)", "layer 2 (Linear) takes (3, 4)"]),
        (MLP, state_of((4, 5), (3, 4)) | {"1.bias": np.ones(2)}, {}, ValueError, ["1.bias", "(2,)", "(3,)"]),
        (MLP, state_of((4, 5), (3, 4)) | {"1.alpha": np.ones(2)}, {}, ValueError, ["'1.alpha'", "running_mean"]),
        (MLP, state_of((4, 5), (3, 4)) | {"2.bias": np.ones(2)}, {}, ValueError, ["'2'", "no weight"]),
        (MLP, state_of((4, 5), (3, 4)) | {"2.weight": np.ones(2)}, {}, ValueError, ["'2'", "layer and group norms"]),
        (MLP, state_of((4, 5), (3, 4)) | {"1.bias": "abc"}, {}, TypeError, ["'1.bias'", "str"]),
        (MLP, NORM | state_of((4, 5), (3, 4)), {}, ValueError, ["'norm'", "before every layer"]),
        (MLP, state_of((4, 5), (3, 4)) | NORM, {}, ValueError, ["'norm'", "(4,)", "layer 2 (Linear)", "3 channels"]),
        (MLP, state_of((4, 5), (3, 4)) | {"n.running_mean": np.ones(3)}, {}, ValueError, ["'n'", "running_var"]),
        (MLP, state_of((4, 5), (3, 4)), {"order": ["0"]}, ValueError, ["order leaves out '1'"]),
        (MLP, state_of((4, 5), (3, 4)), {"order": "01"}, TypeError, ["order", "list"]),
        (MLP, [1], {}, TypeError, ["state_dict", "list"]),
        ([Linear(4), ReLU(), Linear(3)], state_of((4, 5), (3, 4)), {}, ValueError, ["layer 0", "bias=True"]),
        ([Linear(4)], state_of((4, 5), bias=False) | NORM, {}, ValueError, ["layer 0", "bias=True", "'norm'"]),
        ([Linear(4)], state_of((4, 5), bias=False), {"mean": 1.0}, ValueError, ["layer 0", "bias=True", "mean"]),
        ([Linear(4)], {"weight": np.full((4, 5), 1e60)}, {}, ValueError, ["layer 0 (Linear), weights", "127"]),
        ([ReLU()], {}, {}, ValueError, ["nothing to bring"]),
        ([ReLU(), Linear(4)], state_of((4, 5), bias=False), {"mean": 1.0}, ValueError, ["past a ReLU"]),
    ],
)
def test_what_is_refused(layers: Any, state: Any, given: State, kind: type[Exception], parts: list[str]) -> None:
    net = Sequential(layers, (5,), seed=3)
    before = net.to_bytes()
    refused(kind, *parts, call=lambda: tintin.load_state_dict(net, state, samples(3, 5), **given))
    assert net.to_bytes() == before


def test_no_net() -> None:
    refused(TypeError, "tintin.Sequential", call=lambda: tintin.load_state_dict([], {}, samples(2, 3)))  # type: ignore[arg-type]


# safetensors


@pytest.fixture
def save(tmp_path: Path) -> Callable[[State], Path]:
    numpy = pytest.importorskip("safetensors.numpy")

    def write(state: State) -> Path:
        path = tmp_path / "net.safetensors"
        numpy.save_file({key: np.ascontiguousarray(value) for key, value in state.items()}, path)
        return path

    return write


def test_safetensors_by_order(save: Callable[[State], Path]) -> None:
    layers, state, _ = with_norms()
    net, other = Sequential(layers, (8, 8, 2)), Sequential(layers, (8, 8, 2))
    x = samples(10, 8, 8, 2)
    path = save(state)
    order = ["stem.0", "stem.1", "dw.0", "dw.1", "mix.0", "mix.1", "head"]
    report = tintin.load_safetensors(net, path, x, order=order)
    assert report == tintin.load_state_dict(other, state, x) and net == other
    refused(ValueError, "order=[...]", "dw.0, dw.1, head", call=lambda: tintin.load_safetensors(net, path, x))


def test_safetensors_by_number_and_by_shape(save: Callable[[State], Path]) -> None:
    """Names that sort otherwise: "10" before "2", "a" before "b"."""
    net = Sequential([Linear(4, bias=True), ReLU(), Linear(4, bias=True), ReLU(), Linear(4, bias=True)], (4,))
    other = Sequential(net.layers, (4,))
    state = state_of((4, 4), (4, 4), (4, 4))
    x = samples(10, 4)
    tintin.load_state_dict(other, state, x)
    numbers = {"0": "0", "1": "2", "2": "10"}
    tintin.load_safetensors(net, save({numbers[key[0]] + key[1:]: value for key, value in state.items()}), x)
    assert net == other
    names = {"0": "stem", "1": "body", "2": "head"}
    refused(ValueError, "order=[...]", "body, head, stem", call=lambda: tintin.load_safetensors(
        net, save({names[key[0]] + key[1:]: value for key, value in state.items()}), x))  # fmt: skip
    net = Sequential(MLP, (5,))
    other = Sequential(MLP, (5,))
    state = state_of((4, 5), (3, 4))
    names = {"0": "stem", "1": "body"}
    tintin.load_state_dict(other, state, samples(4, 5))
    path = save({names[key[0]] + key[1:]: value for key, value in state.items()})
    tintin.load_safetensors(net, path, samples(4, 5))
    assert net == other


def test_neither_package_is_imported_before_it_is_needed() -> None:
    done = run(
        """
        import sys, tintin
        found = {"onnx", "safetensors"} & set(sys.modules)
        sys.modules["onnx"] = None
        sys.modules["safetensors.numpy"] = sys.modules["safetensors"] = None
        try:
            tintin.from_onnx(b"", None)
        except ModuleNotFoundError as error:
            print(found, error)
        net = tintin.Sequential([tintin.Linear(3)], (3,))
        try:
            tintin.load_safetensors(net, "", None)
        except ModuleNotFoundError as error:
            print(error)
        """
    )
    assert done.stdout.splitlines() == [
        "set() tintin.from_onnx needs onnx, which is not installed: pip install onnx",
        "tintin.load_safetensors needs safetensors, which is not installed: pip install safetensors",
    ], done.stderr
