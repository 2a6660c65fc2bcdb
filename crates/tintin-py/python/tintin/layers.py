"""Layers, with the names and arguments of PyTorch. Input and output are (height, width, channels), channels last.

All are settings only; the arithmetic is the engine's (`docs/numerics.md`, N11 to N14, N27). Sizes given as one int
serve height and width. Signals are maps of height 1, (1, length, channels): `Conv1d` and its kin make layers for them.
Outputs, kernels and strides are 1 to 65535, paddings 0 to 65535: a layer raises ValueError beyond, and TypeError for
what is no whole number. Whether layers can follow each other is checked by `Sequential`.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass, fields
from typing import Any

Pair = tuple[int, int]
#: what the engine takes: name, outputs, kernel, stride, padding, bias
Spec = tuple[str, int, Pair, Pair, Pair, bool]


@dataclass(frozen=True)
class Layer:
    """One layer of a `Sequential`. Immutable and comparable."""

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("kernel_size", "stride", "padding"):
                if field.name == "stride" and value is None:
                    value = getattr(self, "kernel_size")  # noqa: B009 (not every layer has one)
                least = 0 if field.name == "padding" else 1
                value = _pair(type(self).__name__, field.name, value, least)
            elif field.name == "bias":
                if not isinstance(value, bool):
                    raise TypeError(f"{type(self).__name__}: bias must be True or False, got {value!r}")
            else:
                value = _whole(type(self).__name__, field.name, value, 0 if field.name == "layer" else 1)
            object.__setattr__(self, field.name, value)

    def __str__(self) -> str:
        """Name and the settings that differ from their defaults."""
        words = []
        for i, field in enumerate(fields(self)):
            value = getattr(self, field.name)
            if isinstance(value, tuple):
                value = value[0] if value[0] == value[1] else value
            default = getattr(self, "kernel_size", None) if field.default is None else field.default
            if value == default or (value, value) == default:
                continue
            words.append(str(value) if i == 0 else f"{field.name}={value}")
        return f"{type(self).__name__}({', '.join(words)})"

    def spec(self) -> Spec:
        """The layer as the engine takes it."""
        given: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        out = given.get("out_features", given.get("out_channels", given.get("layer", 0)))
        none = (0, 0)
        return (
            type(self).__name__,
            out,
            given.get("kernel_size", none),
            given.get("stride", none),
            given.get("padding", none),
            given.get("bias", False),
        )


@dataclass(frozen=True)
class Linear(Layer):
    """Dense layer of `out_features` outputs; a map counts as flat. Weights (out_features, inputs).

    out_features: 1 to 65535. bias: one per output.
    """

    out_features: int
    bias: bool = False


@dataclass(frozen=True)
class Conv2d(Layer):
    """Convolution of `out_channels` filters, zero padding. Weights (out_channels, kernel height, width, channels).

    out_channels: 1 to 65535. kernel_size, stride: 1 to 65535; the kernel is no larger than the padded input.
    padding: 0 up to kernel_size - 1, on both sides. bias: one per channel.
    """

    out_channels: int
    kernel_size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair = 0
    bias: bool = False


@dataclass(frozen=True)
class DepthwiseConv2d(Layer):
    """Convolution of every channel with a filter of its own, zero padding: `groups=channels` of PyTorch's Conv2d.

    Weights (channels, kernel height, width); as many channels come out as go in, and a Conv2d with kernel_size=1 behind
    mixes them. kernel_size, stride: 1 to 65535; the kernel is no larger than the padded input. padding: 0 up to
    kernel_size - 1, on both sides. bias: one per channel.
    """

    kernel_size: int | Pair
    stride: int | Pair = 1
    padding: int | Pair = 0
    bias: bool = False


@dataclass(frozen=True)
class ReLU(Layer):
    """max(x, 0)."""


@dataclass(frozen=True)
class MaxPool2d(Layer):
    """Maximum of windows without padding; `stride` defaults to `kernel_size`.

    kernel_size: no larger than the input and at most 256 places (height * width). stride: 1 to 65535.
    """

    kernel_size: int | Pair
    stride: int | Pair | None = None


@dataclass(frozen=True)
class AvgPool2d(Layer):
    """Mean of windows without padding; `stride` defaults to `kernel_size`.

    kernel_size: no larger than the input and at most 2^20 places (height * width). stride: 1 to 65535.
    """

    kernel_size: int | Pair
    stride: int | Pair | None = None


@dataclass(frozen=True)
class GlobalAvgPool2d(Layer):
    """Mean over height and width: (h, w, c) becomes (1, 1, c)."""


@dataclass(frozen=True)
class Flatten(Layer):
    """(h, w, c) becomes (1, 1, h * w * c); nothing moves."""


@dataclass(frozen=True)
class Branch(Layer):
    """What follows reads the output of an earlier layer, not that of the layer before.

    layer: its index in the list, 0-based; neither a Branch nor a Flatten. Rule N28 of `docs/numerics.md`.
    """

    layer: int


@dataclass(frozen=True)
class Add(Layer):
    """Adds the output of an earlier layer of the same shape: a residual connection.

    layer: its index in the list, 0-based; neither a Branch nor a Flatten. Rule N28 of `docs/numerics.md`.
    """

    layer: int


#: every layer, by the engine's name
LAYERS: dict[str, type[Layer]] = {
    layer.__name__: layer
    for layer in (
        Linear,
        Conv2d,
        ReLU,
        MaxPool2d,
        AvgPool2d,
        GlobalAvgPool2d,
        Flatten,
        DepthwiseConv2d,
        Branch,
        Add,
    )
}


# Signals: functions, so that a list of layers and the file made of it name the same layers.


def Conv1d(out_channels: int, kernel_size: int, stride: int = 1, padding: int = 0, bias: bool = False) -> Conv2d:
    """The `Conv2d` of height 1, for input of shape (1, length, channels)."""
    kernel, step, zeros = _along("Conv1d", kernel_size, stride, padding)
    return Conv2d(out_channels, kernel, step, zeros, bias)


def DepthwiseConv1d(kernel_size: int, stride: int = 1, padding: int = 0, bias: bool = False) -> DepthwiseConv2d:
    """The `DepthwiseConv2d` of height 1, for input of shape (1, length, channels)."""
    kernel, step, zeros = _along("DepthwiseConv1d", kernel_size, stride, padding)
    return DepthwiseConv2d(kernel, step, zeros, bias)


def MaxPool1d(kernel_size: int, stride: int | None = None) -> MaxPool2d:
    """The `MaxPool2d` of height 1; `stride` defaults to `kernel_size`."""
    kernel, step, _ = _along("MaxPool1d", kernel_size, kernel_size if stride is None else stride)
    return MaxPool2d(kernel, step)


def AvgPool1d(kernel_size: int, stride: int | None = None) -> AvgPool2d:
    """The `AvgPool2d` of height 1; `stride` defaults to `kernel_size`."""
    kernel, step, _ = _along("AvgPool1d", kernel_size, kernel_size if stride is None else stride)
    return AvgPool2d(kernel, step)


def from_spec(spec: Spec) -> Layer:
    """The layer of an engine's spec."""
    name, out, kernel, stride, padding, bias = spec
    given = {
        "out_features": out, "out_channels": out, "layer": out, "kernel_size": kernel, "stride": stride,
        "padding": padding, "bias": bias,
    }  # fmt: skip
    layer = LAYERS[name]
    return layer(**{field.name: given[field.name] for field in fields(layer)})


def _along(layer: str, kernel_size: int, stride: int, padding: int = 0) -> tuple[Pair, Pair, Pair]:
    """Kernel, stride and padding along a signal."""
    return (
        (1, _whole(layer, "kernel_size", kernel_size, 1)),
        (1, _whole(layer, "stride", stride, 1)),
        (0, _whole(layer, "padding", padding, 0)),
    )


def _whole(layer: str, name: str, value: Any, least: int) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{layer}: {name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or not least <= number <= 65_535:
        raise ValueError(f"{layer}: {name} must be {least} to 65535, got {value!r}")
    return number


def _pair(layer: str, name: str, value: Any, least: int) -> Pair:
    pair = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{layer}: {name} must be a whole number or a pair (height, width), got {value!r}")
    return _whole(layer, name, pair[0], least), _whole(layer, name, pair[1], least)
