"""Float weights made fit for int8: refusals, input convention, equal channels, mantissas with the scale of N1."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from ..layers import Layer
from ._float import WEIGHTED, FloatNet, Floats, Weights, kind, window
from ._integers import Mantissas, Scale

#: (4/5)^u · (4/3)^d for small u and d; beyond these they repeat nearly ((4/5)^9 · (4/3)^7 = 1.0055, N20)
FINE = sorted(((u, d) for u in range(9) for d in range(7)), key=sum)
#: a scale with fewer fine factors is taken if it is no more than this larger
SLACK = 1.01
#: a bias of 0 has the scale of N9
ZERO: Scale = (-7, 0, 0)
#: how far channels are moved at most, and how often
MOST, ROUNDS = 2.0**8, 20


def mantissas(values: Floats, what: str) -> Mantissas:
    """int8 mantissas: the smallest scale under which the largest magnitude is 127.

    Raises ValueError naming `what` where the values are not finite or the scale does not fit a file (N1: i8).
    """
    bad = int(np.count_nonzero(~np.isfinite(values)))
    if bad:
        raise ValueError(f"{what}: NaN or infinity in {bad} of {values.size} places; the float net is broken")
    peak = float(np.abs(values).max())
    if peak == 0:
        return Mantissas(np.zeros(values.shape, np.int8), ZERO)
    found = []
    for u, d in FINE:
        step = math.log2(0.8) * u + math.log2(4 / 3) * d
        s = math.ceil(math.log2(peak) - math.log2(127.49) - step)
        found.append((s + step, (s, u, d)))
    least = min(size for size, _ in found)
    scale = next(scale for size, scale in found if size <= least + math.log2(SLACK))
    if not -128 <= scale[0] <= 127:
        raise ValueError(
            f"{what}: a largest magnitude of {peak:g} needs an exponent of {scale[0]}, beyond the -128 to 127 of a "
            f"tensor: scale it to around 1, and the layer after it by the inverse"
        )
    size = 2.0 ** scale[0] * 0.8 ** scale[1] * (4 / 3) ** scale[2]
    return Mantissas(np.clip(np.rint(values / size), -127, 127).astype(np.int8), scale)


def tensors(net: FloatNet) -> dict[tuple[int, bool], Mantissas]:
    """All mantissas: (layer, whether bias) -> tensor."""
    found = {}
    for i, weights in net.weights.items():
        found[i, False] = mantissas(weights.weight, f"{net.name(i)}, weights")
        if weights.bias is not None:
            found[i, True] = mantissas(weights.bias, f"{net.name(i)}, biases")
    return found


def fold_input(net: FloatNet, mean: ArrayLike, std: ArrayLike, factor: float, *, may_add_bias: bool) -> FloatNet:
    """The net on the engine's values v where the float net took (v · factor - mean) / std, by channel.

    Exact but where a convolution pads with zeros, which are no longer the mean: refused.
    """
    channels = net.input_shape[2]
    means, stds = (_by_channel(name, given, channels) for name, given in (("mean", mean), ("std", std)))
    if not (np.isfinite(stds).all() and (stds > 0).all()):
        raise ValueError(f"std must be above 0, got {std!r}")
    if not (math.isfinite(factor) and factor > 0):
        raise ValueError(f"input_scale must be above 0, got {factor!r}")
    gain, offset = factor / stds, -means / stds
    if (gain == 1).all() and not offset.any():
        return net
    first = min(net.weights)
    layer, old = net.layers[first], net.weights[first]
    between = {kind(other) for other in net.layers[:first]}
    moved = between - {"Flatten", "MaxPool2d", "AvgPool2d", "GlobalAvgPool2d"}
    if moved and (moved != {"ReLU"} or offset.any()):
        raise ValueError(
            f"mean and std cannot be folded into {net.name(first)} past a {'/'.join(sorted(moved))}: normalise the "
            "samples instead, tintin.quantize((x / 255 - mean) / std), and leave mean and std out"
        )
    if offset.any() and any(window(layer)[2] if kind(layer) != "Linear" else ()):
        raise ValueError(
            f"mean cannot be folded into {net.name(first)}, which pads with zeros: the float net's zero is the mean, "
            "the engine's is black. Normalise the samples instead, tintin.quantize((x / 255 - mean) / std), and leave "
            "mean and std out"
        )
    if kind(layer) == "DepthwiseConv2d":
        weight = old.weight * gain[:, None, None]
        added = (old.weight * offset[:, None, None]).sum((1, 2))
    else:  # the channel is the last index, of a flat vector too
        by_channel = old.weight.reshape(len(old.weight), -1, channels)
        weight = (by_channel * gain).reshape(old.weight.shape)
        added = (by_channel * offset).sum((1, 2))
    bias = old.bias
    layers = list(net.layers)
    if offset.any():
        if bias is None and not may_add_bias:
            raise ValueError(f"{net.name(first)} needs bias=True to take mean in")
        bias = old.biases() + added
        layers[first] = replace(layer, bias=True)  # type: ignore[call-arg]
    return replace(net, layers=layers, weights=net.weights | {first: Weights(weight, bias)})


def _by_channel(name: str, given: ArrayLike, channels: int) -> Floats:
    values = np.asarray(given, dtype=np.float64).reshape(-1)
    if values.size not in (1, channels) or not np.isfinite(values).all():
        raise ValueError(f"{name} must be one number or one for each of the {channels} input channels, got {given!r}")
    return np.broadcast_to(values, (channels,)).copy()


def equalised(net: FloatNet) -> FloatNet | None:
    """The same function with output channels of like size, as one scale serves a tensor; None if nothing can move.

    A factor by channel passes ReLU, pools and Flatten, so what is taken from a channel's weights goes to the weights
    behind that read it. [Nagel et al., ICCV 2019, arXiv 1906.04721, eq. 11]
    """
    pairs = [pair for i in sorted(net.weights) if (pair := _reader(net, i)) is not None]
    weights = {i: Weights(w.weight.copy(), None if w.bias is None else w.bias.copy()) for i, w in net.weights.items()}
    changed = False
    for _ in range(ROUNDS):
        largest = 1.0
        for i, j in pairs:
            one, two = weights[i], weights[j]
            channels = len(one.weight)
            out = np.abs(one.weight.reshape(channels, -1)).max(1)
            spread = two.weight if _depthwise(net.layers[j]) else _columns(two.weight, channels)
            into = np.abs(spread).max(tuple(range(1, spread.ndim)))
            used = (out > 0) & (into > 0)
            gain = np.where(used, np.sqrt(np.divide(into, out, where=used, out=np.ones(channels))), 1)
            # the geometric mean is kept: only the ratios matter to one scale for all
            gain = np.clip(gain / np.exp(np.log(gain[used]).mean() if used.any() else 0), 1 / MOST, MOST)
            gain[~used] = 1
            largest = max(largest, float(gain.max()), 1 / float(gain.min()))
            one.weight *= gain.reshape(-1, *[1] * (one.weight.ndim - 1))
            if one.bias is not None:
                one.bias *= gain
            spread /= gain.reshape(-1, *[1] * (spread.ndim - 1))
        changed = changed or largest > 1.0
        if largest < 1.01:
            break
    return replace(net, weights=weights) if changed else None


def _depthwise(layer: Layer) -> bool:
    return kind(layer) == "DepthwiseConv2d"


def _columns(weight: Floats, channels: int) -> Floats:
    """A view of a Linear's or Conv2d's weights with the input channel first."""
    return weight.reshape(len(weight), -1, channels).transpose(2, 0, 1)


def _reader(net: FloatNet, i: int) -> tuple[int, int] | None:
    """Layers `i` and the only reader of its output with weights, if nothing but ReLU, pools and Flatten is between."""
    named = net.named()
    for j in range(i + 1, len(net.layers)):
        if j - 1 in named:
            return None
        name = kind(net.layers[j])
        if name in WEIGHTED:
            flat = any(kind(layer) == "Flatten" for layer in net.layers[i:j])
            return None if flat and name == "DepthwiseConv2d" else (i, j)  # flat, a channel is many
        if name not in ("ReLU", "Flatten", "MaxPool2d", "AvgPool2d", "GlobalAvgPool2d"):
            return None
    return None
