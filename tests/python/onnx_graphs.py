"""ONNX files for tests, node by node, with the package's own evaluator as the reference."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import tintin

onnx = pytest.importorskip("onnx")
OPSET = 17


class Graph:
    """A graph under construction: `node` gives the name of its output, arrays become initializers."""

    def __init__(self, shape: tuple[int | str, ...], seed: int = 0, opset: int = OPSET) -> None:
        self.rng = np.random.default_rng(seed)
        self.shape, self.opset = shape, opset
        self.nodes: list[Any] = []
        self.initializers: list[Any] = []
        self.last = "x"

    def node(self, kind: str, *inputs: str | NDArray[Any], name: str | None = None, **attributes: Any) -> str:
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs or self._before(kind)]
        self.last = f"t{len(self.nodes)}"
        name = f"{kind.lower()}{len(self.nodes)}" if name is None else name
        self.nodes.append(onnx.helper.make_node(kind, names, [self.last], name=name, **attributes))
        return self.last

    def _before(self, kind: str) -> tuple[str, ...]:
        return () if kind == "Constant" else (self.last,)

    def constant(self, array: NDArray[Any]) -> str:
        name = f"c{len(self.initializers)}"
        self.initializers.append(onnx.numpy_helper.from_array(np.asarray(array), name))
        return name

    def draw(self, *shape: int) -> NDArray[np.float32]:
        """Weights of about the size a trained layer has."""
        fan_in = max(1, int(np.prod(shape[1:])))
        return (self.rng.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32)

    def conv(self, out: int, given: int, kernel: tuple[int, ...], source: str | None = None, **attributes: Any) -> str:
        bias = self.draw(out)
        return self.node(
            "Conv",
            source or self.last,
            self.draw(out, given // attributes.get("group", 1), *kernel),
            bias,
            **attributes,
        )

    def norm(self, channels: int, source: str | None = None) -> str:
        gain, beta, mean = (self.rng.normal(1, 0.2, channels), self.draw(channels), self.draw(channels))
        var = self.rng.uniform(0.5, 2, channels)
        arrays = [np.asarray(array, dtype=np.float32) for array in (gain, beta, mean, var)]
        return self.node("BatchNormalization", source or self.last, *arrays)

    def gemm(self, out: int, given: int) -> str:
        return self.node("Gemm", self.last, self.draw(out, given), self.draw(out), transB=1)

    def model(self) -> Any:
        helper, float32 = onnx.helper, onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self.nodes,
            "graph",
            [helper.make_tensor_value_info("x", float32, self.shape)],
            [helper.make_tensor_value_info(self.last, float32, None)],
            self.initializers,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)])

    def bytes(self) -> bytes:
        return bytes(self.model().SerializeToString())

    def reference(self, x: NDArray[np.float64]) -> NDArray[np.float64]:
        """Outputs (n, values) for inputs in the order of the file."""
        from onnx.reference import ReferenceEvaluator

        (y,) = ReferenceEvaluator(self.model()).run(None, {"x": x.astype(np.float32)})
        return np.asarray(y, dtype=np.float64).reshape(len(x), -1)


def samples(n: int, *shape: int, seed: int = 0, exponent: int = -6) -> tintin.Quantized:
    """Normalised images: about half of them below zero."""
    rng = np.random.default_rng(seed)
    return tintin.quantize(np.clip(rng.normal(size=(n, *shape)), -1.9, 1.9), exponent=exponent)
