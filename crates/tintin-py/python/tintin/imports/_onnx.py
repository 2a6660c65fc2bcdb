"""ONNX graphs to layers: one function for each operator, everything else refused by name.

The graph is walked in its order, which is topological. A value is the output of a layer, by index, with its shape
channels last, whatever the order of its axes in the file. A list of layers is a chain, so a node that reads anything
but the last output is preceded by a Branch, and an Add names its other side.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from .. import _extras
from .. import layers as _layers
from ..layers import AvgPool2d, Conv2d, Flatten, GlobalAvgPool2d, Layer, Linear, MaxPool2d, ReLU
from ._float import WEIGHTED, FloatNet, Floats, Shape, Weights, channels_last, kind, output_shape
from ._onnx_file import load, perm_of, title

INPUT = -1
#: of Transpose: channels first to last and back
TO_LAST, TO_FIRST = (0, 2, 3, 1), (0, 3, 1, 2)
#: what only renames a value, and what only asks for its shape
RENAMING = frozenset(
    {"Identity", "Dropout", "Cast", "Flatten", "Reshape", "Squeeze", "Transpose", "Softmax", "LogSoftmax"}
)
ASKING = "Shape"


@dataclass(frozen=True)
class Value:
    """Output of layer `index` (-1: the input) with its shape; rank and order of its axes as the file has them."""

    index: int
    shape: Shape
    rank: int
    last: bool = False  # (n, h, w, c), or flattened from that

    def dims(self) -> tuple[int, ...]:
        """The shape in the file, for one sample."""
        h, w, c = self.shape
        if self.rank == 2:
            return 1, h * w * c
        if self.rank == 3:
            return (1, w, c) if self.last else (1, c, w)
        return (1, h, w, c) if self.last else (1, c, h, w)


Known = Value | NDArray[Any]


def read(model: Any, sample: tuple[int, ...], clip_as_relu: bool) -> FloatNet:
    """Layers and float weights of a model; `sample` is the shape of one calibration sample."""
    onnx = _extras.require("onnx", "tintin.from_onnx")
    return _Reader(onnx, load(onnx, model), sample, clip_as_relu).net()


class _Reader:
    """One walk over one graph."""

    def __init__(self, onnx: Any, model: Any, sample: tuple[int, ...], clip_as_relu: bool) -> None:
        self.onnx, self.graph, self.clip_as_relu = onnx, model.graph, clip_as_relu
        self.opsets = {entry.domain: entry.version for entry in model.opset_import}
        self.known: dict[str, Known] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self.graph.initializer
        }
        inputs = [entry for entry in self.graph.input if entry.name not in self.known]
        if len(inputs) != 1 or len(self.graph.output) != 1:
            raise ValueError(
                f"the engine takes nets of one input and one output, the file has {len(inputs)} inputs "
                f"({', '.join(entry.name for entry in inputs)}) and {len(self.graph.output)} outputs "
                f"({', '.join(entry.name for entry in self.graph.output)})"
            )
        self.nodes = self._needed()
        self.uses = self._count()
        self.input = self._input(inputs[0], sample)
        batch = inputs[0].type.tensor_type.shape.dim
        self.batch = batch[0].dim_value or 1  # in case a Reshape repeats it
        self.known[inputs[0].name] = self.input
        self.found = FloatNet([], self.input.shape, {})
        types = onnx.TensorProto
        self.floats = (types.FLOAT, types.DOUBLE, types.FLOAT16, types.BFLOAT16)
        self.operators: dict[str, Callable[[Any, dict[str, Any], list[Any]], Known]] = {
            "Conv": self.conv, "Gemm": self.gemm, "MatMul": self.matmul, "Add": self.add, "Sum": self.add,
            "BatchNormalization": self.batch_norm, "Relu": self.relu, "Clip": self.clip,
            "MaxPool": self.pool, "AveragePool": self.pool, "GlobalAveragePool": self.mean, "ReduceMean": self.mean,
            "Flatten": self.flatten, "Reshape": self.reshape, "Squeeze": self.squeeze, "Transpose": self.transpose,
            "Identity": self.same, "Dropout": self.same, "Cast": self.same, "Softmax": self.softmax,
            "LogSoftmax": self.softmax, "Shape": self.shape,
        }  # fmt: skip

    def net(self) -> FloatNet:
        """All nodes in order."""
        for node in self.nodes:
            given = [self._value(node, name) for name in node.input]
            attributes = {entry.name: self.onnx.helper.get_attribute_value(entry) for entry in node.attribute}
            if node.domain not in ("", "ai.onnx"):
                self._refuse(node, f"operators of domain {node.domain!r} are not known")
            if node.op_type == "Constant" or (given and not any(isinstance(value, Value) for value in given)):
                self.known |= zip(node.output, self._constant(node, given), strict=False)
                continue
            operator = self.operators.get(node.op_type)
            if operator is None:
                self._refuse(
                    node, f"the engine has no such layer; taken are {', '.join(sorted(self.operators))} and constants"
                )
            self.known[node.output[0]] = operator(node, attributes, given)
        end = self.known[self.graph.output[0].name]
        if not isinstance(end, Value) or end.index == INPUT:
            raise ValueError("the output of the file does not depend on its input, or is the input")
        if end.rank == 2 and end.shape[:2] != (1, 1):
            end = self._flat(None, end)
            self.found.notes.append("the outputs are a flattened map, in the order height, width, channels")
        return self.found

    # the graph

    def _needed(self) -> list[Any]:
        """Nodes that the output depends on."""
        wanted, found = {self.graph.output[0].name}, []
        for node in reversed(self.graph.node):
            if wanted & set(node.output):
                found.append(node)
                wanted |= set(node.input)
        return found[::-1]

    def _count(self) -> Counter[str]:
        """How often each value is read, under whatever name."""
        names: dict[str, str] = {}
        uses: Counter[str] = Counter()
        for node in self.nodes:
            if node.op_type in RENAMING:
                names[node.output[0]] = names.get(node.input[0], node.input[0])
            elif node.op_type != ASKING:
                uses.update(names.get(name, name) for name in node.input)
        uses[names.get(end := self.graph.output[0].name, end)] += 1
        uses.update({name: uses[origin] for name, origin in names.items()})
        return uses

    def _input(self, entry: Any, sample: tuple[int, ...]) -> Value:
        """The input with the shape that the file or, where that leaves it open, the calibration samples tell."""
        dims = [dim.dim_value for dim in entry.type.tensor_type.shape.dim][1:]
        rank = len(dims) + 1
        if rank not in (2, 3, 4):
            raise ValueError(
                f"input {entry.name} has {rank} axes; the engine takes (n, values), (n, c, w), (n, c, h, w)"
            )
        readers = [node for node in self.nodes if entry.name in node.input]
        last = rank == 4 and all(node.op_type == "Transpose" and perm_of(node) == TO_FIRST for node in readers)
        sizes = [(dims[-1],) if rank == 2 else (*dims[1:], dims[0]) if not last else tuple(dims)][0]
        if not all(sizes):
            if len(sample) != len(sizes):
                axes = {2: "(n, values)", 3: "(n, width, channels)", 4: "(n, height, width, channels)"}[rank]
                raise ValueError(
                    f"input {entry.name} leaves its shape open, and calibration samples of shape "
                    f"{('n', *sample)} do not tell it: give them as {axes}"
                )
            sizes = tuple(size or given for size, given in zip(sizes, sample, strict=True))
        one, two, three = (1, 1, 1, *sizes)[-3:]
        return Value(INPUT, (one, two, three), rank, last)

    def _value(self, node: Any, name: str) -> Known | None:
        if not name:
            return None
        if name not in self.known:
            self._refuse(node, f"its input {name} is made by nothing that was read before")
        return self.known[name]

    def _constant(self, node: Any, given: list[Any]) -> Sequence[NDArray[Any]]:
        """A node of constants alone, computed by the package onnx."""
        helper = self.onnx.helper
        feeds = {name: value for name, value in zip(node.input, given, strict=True) if name}
        inputs = [
            helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
            for name, value in feeds.items()
        ]
        outputs = [helper.make_tensor_value_info(name, 0, None) for name in node.output]
        opsets = [helper.make_opsetid(domain, version) for domain, version in self.opsets.items()]
        model = helper.make_model(helper.make_graph([node], "constant", inputs, outputs), opset_imports=opsets)
        reference = _extras.require("onnx.reference", "tintin.from_onnx")
        try:
            found: Sequence[NDArray[Any]] = reference.ReferenceEvaluator(model).run(None, feeds)
        except Exception as error:
            self._refuse(node, f"it has constants alone and cannot be computed ({error})")
        return found

    def _refuse(self, node: Any, why: str) -> NoReturn:
        raise ValueError(f"{title(node)}: {why}")

    # layers

    def _emit(self, node: Any, layer: Layer, value: Value, weights: Weights | None = None) -> Value:
        """Append a layer that reads `value`; gives its output."""
        if value.index != len(self.found.layers) - 1:
            if value.index == INPUT:
                self._refuse(node, "it reads the input of the net a second time, which a list of layers cannot do")
            self._append(node, self._layer(node, "Branch")(value.index))
        if weights is not None:
            self.found.weights[len(self.found.layers)] = weights
        self._append(node, layer)
        return replace(value, index=len(self.found.layers) - 1, shape=output_shape(layer, value.shape))

    def _append(self, node: Any, layer: Layer) -> None:
        self.found.layers.append(layer)
        self.found.nodes.append("the output" if node is None else title(node))

    def _layer(self, node: Any, name: str) -> Callable[..., Layer]:
        if name not in _layers.LAYERS:
            self._refuse(node, f"this needs the layer {name}, which this version of tintin does not have")
        return _layers.LAYERS[name]

    def _map(self, node: Any, value: Value) -> Value:
        if value.rank == 2 or value.last:
            order = "flat" if value.rank == 2 else "channels last"
            self._refuse(node, f"it takes maps with channels first, and its input is {order}")
        return value

    def _own(self, name: str, value: Value) -> int | None:
        """Index of the layer with weights that alone makes `value`, and that nothing else reads."""
        if value.index < 0 or self.uses[name] > 1 or value.index != len(self.found.layers) - 1:
            return None
        flat = value.rank == 2 and value.shape[:2] != (1, 1)  # more constants than the layer has rows
        return value.index if kind(self.found.layers[value.index]) in WEIGHTED and not flat else None

    def _flat(self, node: Any, value: Value) -> Value:
        """The value behind a Flatten, if it is a flat one and was a map."""
        return self._emit(node, Flatten(), value) if value.rank == 2 and value.shape[:2] != (1, 1) else value

    def _spread(self, node: Any, values: Floats, value: Value) -> Floats:
        """One number per channel or flat element, as the engine orders them."""
        count = math.prod(value.shape) if value.rank == 2 else value.shape[2]
        values = np.asarray(values, dtype=np.float64)
        if values.size == 1:
            return np.full(count, values.item())
        if values.size != count:
            self._refuse(node, f"it has {values.size} constants for {count} channels")
        flat = values.reshape(1, -1)
        return (flat if value.rank != 2 or value.last else channels_last(flat, value.shape)).reshape(-1)

    def _affine(self, node: Any, name: str, value: Value, gain: Floats, offset: Floats) -> Value:
        """value · gain + offset by channel: into the layer before, or as a depthwise layer of one tap."""
        own = self._own(name, value)
        gain, offset = self._spread(node, gain, value), self._spread(node, offset, value)
        if own is None:
            layer = self._layer(node, "DepthwiseConv2d")(1, bias=True)
            made = self._emit(node, layer, self._flat(node, value), Weights(gain.reshape(-1, 1, 1), offset))
            return replace(made, shape=value.shape)  # a flat value stays one of its map: a Linear asks for its order
        weights = self.found.weights[own]
        weights.bias = weights.biases() * gain + offset
        weights.weight = weights.weight * gain.reshape(-1, *[1] * (weights.weight.ndim - 1))
        self.found.layers[own] = replace(self.found.layers[own], bias=True)  # type: ignore[call-arg]
        return value

    # operators: (node, attributes, inputs) -> output

    def conv(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        value, weight = self._map(node, given[0]), self._weight(node, given[1])
        bias = self._weight(node, given[2]) if len(given) > 2 and given[2] is not None else None
        _, stride, padding = self._window(node, attributes, weight.shape[2:], value)
        if weight.ndim == 3:
            weight = weight[:, :, None]
        kernel, group, channels = weight.shape[2:], attributes.get("group", 1), value.shape[2]
        if group == 1:
            layer: Layer = Conv2d(len(weight), kernel, stride, padding, bias is not None)
            weight = weight.transpose(0, 2, 3, 1)
        elif group == channels == len(weight):
            layer = self._layer(node, "DepthwiseConv2d")(kernel, stride, padding, bias is not None)
            weight = weight[:, 0]
        else:
            self._refuse(
                node, f"{group} groups for {channels} channels in and {len(weight)} out; taken are 1 group, or as many "
                "groups as channels in and out (depthwise)",
            )  # fmt: skip
        return self._emit(node, layer, value, Weights(np.ascontiguousarray(weight), bias))

    def gemm(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        if attributes.get("transA", 0):
            self._refuse(node, "transA is not taken")
        weight = self._weight(node, given[1]) * attributes.get("alpha", 1.0)
        bias = None
        if len(given) > 2 and given[2] is not None:
            bias = self._weight(node, given[2]) * attributes.get("beta", 1.0)
        return self._linear(node, given[0], weight if attributes.get("transB", 0) else weight.T, bias)

    def matmul(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        return self._linear(node, given[0], self._weight(node, given[1]).T, None)

    def _linear(self, node: Any, value: Any, weight: Floats, bias: Floats | None) -> Value:
        if not isinstance(value, Value) or value.rank != 2 or weight.ndim != 2:
            self._refuse(node, "it takes flat values (n, values) and a constant matrix")
        outputs = len(weight)
        if not value.last:
            weight = channels_last(weight, value.shape)
        value = self._flat(node, value)
        if bias is not None:
            bias = np.broadcast_to(bias.reshape(-1), (outputs,)).copy()
        layer = Linear(outputs, bias=bias is not None)
        return self._emit(node, layer, value, Weights(np.ascontiguousarray(weight), bias))

    def add(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        if len(given) != 2:
            self._refuse(node, f"it has {len(given)} terms, taken are 2")
        values = [(name, term) for name, term in zip(node.input, given, strict=True) if isinstance(term, Value)]
        if len(values) == 1:
            name, value = values[0]
            constant = next(self._weight(node, term) for term in given if not isinstance(term, Value))
            # along the channels and nothing else, as numpy would broadcast it
            axis = -1 if value.rank == 2 or value.last else 1 - value.rank
            along = constant.shape[axis] if constant.ndim >= -axis else 1
            if constant.size not in (1, along):
                self._refuse(node, f"a constant of shape {constant.shape} is not one number for each channel")
            return self._affine(node, name, value, np.ones(1), constant)
        (_, a), (_, b) = values
        if a.index != len(self.found.layers) - 1 and b.index == len(self.found.layers) - 1:
            a, b = b, a
        if (a.shape, a.rank, a.last) != (b.shape, b.rank, b.last):
            self._refuse(node, f"it adds maps of different shapes, {a.dims()} and {b.dims()}")
        if b.index == INPUT:
            self._refuse(node, "it adds the input of the net, and a list of layers cannot name that")
        return self._emit(node, self._layer(node, "Add")(b.index), a)

    def batch_norm(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        if attributes.get("training_mode", 0):
            self._refuse(node, "it is in training mode: export the net in evaluation mode")
        gain, beta, mean, var = (self._weight(node, term) for term in given[1:5])
        gain = gain / np.sqrt(var + attributes.get("epsilon", 1e-5))
        return self._affine(node, node.input[0], given[0], gain, beta - mean * gain)

    def relu(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        return self._emit(node, ReLU(), given[0])

    def clip(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        bounds = [given[k] if len(given) > k else None for k in (1, 2)]
        low, high = (
            float(attributes.get(name, otherwise) if bound is None else self._weight(node, bound).item())
            for name, bound, otherwise in zip(("min", "max"), bounds, (-math.inf, math.inf), strict=True)
        )
        if low != 0 or high <= 0:
            self._refuse(node, f"bounds {low:g} and {high:g} are not taken, only a lower one of 0")
        value = self._emit(node, ReLU(), given[0])
        if high < 3e38:  # float32's largest stands for no bound
            if self.clip_as_relu:
                self.found.notes.append(f"{title(node)}: its upper bound {high:g} is left out")
            else:
                self.found.limits[value.index] = title(node), high
        return value

    def pool(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        value = self._map(node, given[0])
        kernel, stride, padding = self._window(node, attributes, attributes["kernel_shape"], value)
        if padding != (0, 0):
            self._refuse(node, f"pads of {attributes.get('pads')}; the engine's pools take none: use a stride in the "
                         "convolution before, or a kernel without pads")  # fmt: skip
        if attributes.get("ceil_mode", 0):
            rest = [(size - k) % s for size, k, s in zip(value.shape, kernel, stride, strict=False)]
            if any(rest):
                self._refuse(node, "ceil_mode adds windows that reach beyond the map")
        make = MaxPool2d if node.op_type == "MaxPool" else AvgPool2d
        return self._emit(node, make(kernel, stride), value)

    def mean(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        value: Value = given[0]
        keep = True
        if node.op_type == "ReduceMean":
            axes = attributes.get("axes", given[1] if len(given) > 1 else None)
            axes = None if axes is None else sorted(int(axis) % value.rank for axis in np.asarray(axes).reshape(-1))
            space = [1, 2] if value.last else [2, 3]
            if value.rank == 2 or axes != space[: value.rank - 2]:
                self._refuse(node, f"a mean over axes {axes} of {value.rank}; taken is the one over space")
            keep = bool(attributes.get("keepdims", 1))
        value = self._emit(node, GlobalAvgPool2d(), value)
        return value if keep else replace(value, rank=2)

    def flatten(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        if attributes.get("axis", 1) not in (1, 1 - given[0].rank):
            self._refuse(node, f"axis {attributes['axis']} is not taken, only 1")
        value: Value = given[0]
        return replace(value, rank=2)

    def reshape(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        value: Value = given[0]
        before = value.dims()
        if isinstance(given[1], Value):
            self._refuse(node, "its shape is no constant")
        wanted = [before[k] if size == 0 and not attributes.get("allowzero", 0) else int(size)
                  for k, size in enumerate(np.asarray(given[1]).reshape(-1))]  # fmt: skip
        total = math.prod(before)
        if len(wanted) == len(before) and all(size in (-1, old) for size, old in zip(wanted, before, strict=True)):
            return value
        if len(wanted) == 2 and wanted[0] in (-1, 1, self.batch) and wanted[1] in (-1, total) and min(wanted) >= -1:
            return replace(value, rank=2)
        self._refuse(node, f"from {before} to {tuple(wanted)}; taken is (n, values)")

    def squeeze(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        value: Value = given[0]
        if value.shape[:2] != (1, 1):
            self._refuse(node, f"of {value.dims()}; taken is a map of one place")
        return replace(value, rank=2)

    def transpose(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Value:
        value: Value = given[0]
        perm = perm_of(node)
        if value.rank == 4 and perm == (TO_FIRST if value.last else TO_LAST):
            return replace(value, last=not value.last)
        self._refuse(node, f"{perm} is not taken, only channels first to last and back")

    def same(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Known:
        if node.op_type == "Cast" and attributes["to"] not in self.floats:
            self._refuse(node, "it leaves floating point")
        return given[0]  # type: ignore[no-any-return]

    def softmax(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> Known:
        if node.output[0] != self.graph.output[0].name:
            self._refuse(node, "it is taken at the end of a net only")
        self.found.notes.append(f"{title(node)} is left out: outputs are those before it")
        return given[0]  # type: ignore[no-any-return]

    def shape(self, node: Any, attributes: dict[str, Any], given: list[Any]) -> NDArray[np.int64]:
        dims = (self.batch, *given[0].dims()[1:])
        return np.asarray(dims[attributes.get("start", 0) : attributes.get("end", len(dims))], dtype=np.int64)

    # settings

    def _weight(self, node: Any, term: Any) -> Floats:
        if term is None or isinstance(term, Value):
            self._refuse(node, "its weights are no constants")
        return np.asarray(term).astype(np.float64)

    def _window(
        self, node: Any, attributes: dict[str, Any], kernel: Sequence[int], value: Value
    ) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
        """Kernel, stride and padding of two axes; in one dimension the height is 1."""
        axes = len(kernel)
        if axes not in (1, 2) or axes != value.rank - 2:
            self._refuse(node, f"a window of {axes} axes over {value.dims()}")
        stride = list(attributes.get("strides", [1] * axes))
        pads = list(attributes.get("pads", [0] * 2 * axes))
        if any(step != 1 for step in attributes.get("dilations", [])):
            self._refuse(node, f"dilations {attributes['dilations']} are not taken, only 1")
        auto = attributes.get("auto_pad", b"NOTSET").decode()
        sizes = value.shape[:2] if axes == 2 else value.shape[1:2]
        if auto.startswith("SAME"):
            whole = [max(0, (-(-n // s) - 1) * s + k - n) for n, s, k in zip(sizes, stride, kernel, strict=True)]
            half = [pad // 2 if auto == "SAME_UPPER" else pad - pad // 2 for pad in whole]
            pads = half + [pad - part for pad, part in zip(whole, half, strict=True)]
        if pads[:axes] != pads[axes:]:
            self._refuse(
                node, f"pads {pads} (before and after) differ, and the engine pads alike on both sides: train with "
                "symmetric padding, as PyTorch does, or on inputs whose size makes both alike",
            )  # fmt: skip
        one = [1] * (2 - axes)
        kernel_pair, stride_pair, pad_pair = (*one, *kernel), (*one, *stride), (*[0] * (2 - axes), *pads[:axes])
        return (
            (int(kernel_pair[0]), int(kernel_pair[1])),
            (int(stride_pair[0]), int(stride_pair[1])),
            (int(pad_pair[0]), int(pad_pair[1])),
        )
