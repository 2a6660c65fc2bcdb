"""Nets with float weights and the layers of a `Sequential`: what is brought, and what the integers are held against."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers import Layer, Pair

Floats = NDArray[np.float64]
Shape = tuple[int, int, int]

#: layers with weights, and all whose outputs are sums that the engine narrows (N13)
WEIGHTED = frozenset({"Linear", "Conv2d", "DepthwiseConv2d"})
SUMS = WEIGHTED | {"AvgPool2d", "GlobalAvgPool2d", "Add"}
#: layers that name an earlier one
NAMING = frozenset({"Branch", "Add"})


def kind(layer: Layer) -> str:
    """Name of the layer's class."""
    return type(layer).__name__


@dataclass
class Weights:
    """Weights of one layer, the rows in the engine's order and shape, and one bias per row."""

    weight: Floats
    bias: Floats | None = None

    def biases(self) -> Floats:
        """The biases, 0 where there are none."""
        return np.zeros(len(self.weight)) if self.bias is None else self.bias


@dataclass
class FloatNet:
    """Layers and their float weights by index.

    limits: index -> (node, value) of layers that stand for Clip(0, value); nodes: what each layer was made of,
    where it has names of its own; notes: what is to be told.
    """

    layers: list[Layer]
    input_shape: Shape
    weights: dict[int, Weights]
    limits: dict[int, tuple[str, float]] = field(default_factory=dict)
    nodes: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def name(self, i: int) -> str:
        """Layer `i` as errors call it."""
        return f"layer {i} ({kind(self.layers[i])})"

    def named(self) -> set[int]:
        """Indices that a Branch or an Add names."""
        return {reference(layer) for layer in self.layers if kind(layer) in NAMING}

    def source(self, i: int) -> int:
        """Index of the layer whose output layer `i` takes; -1 is the input."""
        return self.follow(i - 1)

    def follow(self, i: int) -> int:
        """`i`, or the layer that it names if it is a Branch."""
        return reference(self.layers[i]) if i >= 0 and kind(self.layers[i]) == "Branch" else i

    def forward(self, x: Floats) -> list[Floats]:
        """Outputs of all layers for samples (n, height, width, channels)."""
        outputs: list[Floats] = []
        for i, layer in enumerate(self.layers):
            source = self.source(i)
            x_i = x if source < 0 else outputs[source]
            match kind(layer):
                case "Branch":
                    y = outputs[reference(layer)]
                case "Add":
                    y = x_i + outputs[reference(layer)]
                case "AvgPool2d" | "GlobalAvgPool2d":
                    y = pool_sums(layer, x_i) / places(layer, x_i)
                case _ if i in self.weights:
                    y = products(layer, x_i, self.weights[i].weight) + self.weights[i].biases()
                case _:
                    y = plain(layer, x_i)
            outputs.append(y)
        return outputs


def reference(layer: Layer) -> int:
    """Index that a Branch or an Add names."""
    index: int = getattr(layer, "layer")  # noqa: B009 (not every layer has one)
    return index


def output_shape(layer: Layer, shape: Shape) -> Shape:
    """Shape that a layer makes of `shape`; of Branch and Add the one they are given."""
    h, w, c = shape
    match kind(layer):
        case "Linear":
            return 1, 1, layer.out_features  # type: ignore[attr-defined]
        case "Flatten":
            return 1, 1, h * w * c
        case "GlobalAvgPool2d":
            return 1, 1, c
        case "Conv2d" | "DepthwiseConv2d" | "MaxPool2d" | "AvgPool2d":
            (kh, kw), (sh, sw), (ph, pw) = window(layer)
            out = getattr(layer, "out_channels", c)
            return (h + 2 * ph - kh) // sh + 1, (w + 2 * pw - kw) // sw + 1, out
        case _:
            return shape


def window(layer: Layer) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding."""
    any_layer: Any = layer
    return any_layer.kernel_size, any_layer.stride, getattr(layer, "padding", (0, 0))


def taps(layer: Layer, x: Floats) -> Iterator[tuple[int, int, Floats]]:
    """Row and column of every place of the window, and what lies under it for all positions."""
    (kh, kw), (sh, sw), (ph, pw) = window(layer)
    if ph or pw:
        x = np.pad(x, ((0, 0), (ph, ph), (pw, pw), (0, 0)))
    oh, ow = (x.shape[1] - kh) // sh + 1, (x.shape[2] - kw) // sw + 1
    for a in range(kh):
        for b in range(kw):
            yield a, b, x[:, a : a + sh * (oh - 1) + 1 : sh, b : b + sw * (ow - 1) + 1 : sw]


def products(layer: Layer, x: Floats, w: Floats) -> Floats:
    """Product sums of a layer with weights (N11, N27): exact for integers, whose sums stay far below 2^53."""
    match kind(layer):
        case "Linear":
            return (x.reshape(len(x), -1) @ w.reshape(len(w), -1).T)[:, None, None, :]
        case "Conv2d":
            w = w.reshape(len(w), *window(layer)[0], -1)
            return sum_of(view @ w[:, a, b].T for a, b, view in taps(layer, x))
        case _:
            w = w.reshape(len(w), *window(layer)[0])
            return sum_of(view * w[:, a, b] for a, b, view in taps(layer, x))


def sum_of(terms: Iterator[Floats]) -> Floats:
    """Their sum, in the memory of the first."""
    total = next(terms)
    for term in terms:
        total += term
    return total


def pool_sums(layer: Layer, x: Floats) -> Floats:
    """Sums over the windows of an average pool."""
    if kind(layer) == "GlobalAvgPool2d":
        total: Floats = x.sum((1, 2), keepdims=True)
        return total
    return sum_of(view.copy() for _, _, view in taps(layer, x))


def places(layer: Layer, x: Floats) -> int:
    """Places in a window of an average pool."""
    h, w = x.shape[1:3] if kind(layer) == "GlobalAvgPool2d" else window(layer)[0]
    return int(h * w)


def plain(layer: Layer, x: Floats) -> Floats:
    """Layers that choose or move values: the same on floats, sums and mantissas."""
    match kind(layer):
        case "ReLU":
            return np.maximum(x, 0)
        case "Flatten":
            return x.reshape(len(x), 1, 1, -1)
        case "MaxPool2d":
            best: Floats | None = None
            for _, _, view in taps(layer, x):
                best = view.copy() if best is None else np.maximum(best, view, out=best)
            assert best is not None
            return best
        case other:
            raise ValueError(f"imports cannot compute a {other} in floats")


def channels_last(weight: Floats, shape: Shape) -> Floats:
    """Columns of a Linear over a flattened (channels, height, width) as over (height, width, channels)."""
    h, w, c = shape
    return weight.reshape(-1, c, h, w).transpose(0, 2, 3, 1).reshape(len(weight), -1)
