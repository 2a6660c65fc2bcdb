"""Nets trained in floats elsewhere, as integers: ONNX files, PyTorch's state dicts, safetensors.

All ways end in `_bring`: the input convention is folded into the first layer, weights become int8 mantissas with the
scale of N1, and the result is held against the floats on calibration samples.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .. import _checks, _extras
from ..layers import Layer
from ..model import Samples, Sequential
from ._float import FloatNet
from ._quantise import equalised, fold_input, tensors
from ._report import ImportReport, LayerReport, check, check_limits
from ._state import float_net, natural

__all__ = ["ImportReport", "Imported", "LayerReport", "from_onnx", "load_safetensors", "load_state_dict"]

#: what uint8 samples are worth to the engine (pixel / 256) as what float nets mostly take (pixel / 255)
PIXELS = 256 / 255


class Imported(NamedTuple):
    """A net that was brought, and how well it keeps to its floats."""

    net: Sequential
    report: ImportReport


def from_onnx(
    model: str | os.PathLike[str] | bytes | Any,
    calibration: Samples,
    *,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    input_scale: float | None = None,
    equalise: bool = True,
    clip_as_relu: bool = False,
    seed: int = 0,
) -> Imported:
    """The net of an ONNX file (path, bytes or ModelProto) in integers, ready to predict and to be trained on.

    net, report = tintin.from_onnx("net.onnx", x_train[:100], mean=0.1307, std=0.3081)

    calibration: some samples as the net will get them (uint8, int8 or quantised, channels last whatever the file has),
    at least one, some dozens tell more. The float net is taken to have been trained on (v * input_scale - mean) / std,
    v the engine's value of a sample; input_scale is 256 / 255 unless told for uint8, so that a pixel is worth
    pixel / 255, and 1 for the others; give 256 for nets that took pixels of 0 to 255. mean and std: numbers or one per
    channel; they are folded into the first layer, which is exact, and refused where it is not: behind a mean, a first
    convolution must not pad. equalise: scale channels to like sizes where that gives outputs nearer to the floats.
    clip_as_relu: take ReLU6 for ReLU although the samples reach 6. seed: that of the net.

    Taken are chains and residual branches of Conv (1-D, 2-D; group 1 or depthwise), Gemm, MatMul, Add, Relu, Clip from
    0, MaxPool, AveragePool, GlobalAveragePool, ReduceMean over space, BatchNormalization, Flatten, Reshape to flat,
    Dropout, Identity, Transpose between the two orders, and constants. A Softmax at the end is left out. Everything
    else raises ValueError with the operator and the node, as do weights and ranges that no tensor can hold.
    Needs the package onnx: pip install tintin[onnx].
    """
    from ._onnx import read

    _extras.require("onnx", "tintin.from_onnx")
    found = read(model, _sample_shape(calibration), clip_as_relu)
    net, report = _bring(found, calibration, mean, std, input_scale, equalise, None, seed)
    return Imported(net, report)


def load_state_dict(
    net: Sequential,
    state_dict: Mapping[str, Any],
    calibration: Samples,
    *,
    order: Sequence[str] | None = None,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    input_scale: float | None = None,
    equalise: bool = True,
    eps: float = 1e-5,
) -> ImportReport:
    """Put PyTorch's weights (`model.state_dict()`) into `net`; PyTorch itself is not needed.

    Modules with weights go to the layers with weights in order; weights (out, in, height, width) become channels last,
    those of a Linear behind a flattened map too. A module with running_mean and running_var is a batch norm, of epsilon
    `eps`, and is folded into the one before it, whose layer then needs bias=True. order: names of the modules in the
    order of the layers, where the state dict has another one; names without tensors are passed over, so that
    [name for name, _ in model.named_modules()] will do where modules were made in the order in which they run.
    calibration and the others: see `from_onnx`.

    Raises ValueError where modules and layers do not match, with both, and changes nothing then.
    """
    _require_net(net)
    _, report = _bring(float_net(net, state_dict, order, eps), calibration, mean, std, input_scale, equalise, net, 0)
    return report


def load_safetensors(
    net: Sequential,
    path: str | os.PathLike[str],
    calibration: Samples,
    *,
    order: Sequence[str] | None = None,
    mean: ArrayLike = 0.0,
    std: ArrayLike = 1.0,
    input_scale: float | None = None,
    equalise: bool = True,
    eps: float = 1e-5,
) -> ImportReport:
    """`load_state_dict` from a .safetensors file. Needs the package safetensors: pip install tintin[safetensors].

    Such files do not keep the order of modules. Without `order` names that differ in their numbers alone ("0.weight",
    "2.weight", "10.weight") are taken by number, other names where shapes leave one way only; else ValueError asks for
    `order`.
    """
    _require_net(net)
    load = _extras.require("safetensors.numpy", "tintin.load_safetensors").load_file
    state: dict[str, NDArray[Any]] = load(os.fspath(path))
    order = natural(net, state) if order is None else order
    _, report = _bring(float_net(net, state, order, eps), calibration, mean, std, input_scale, equalise, net, 0)
    return report


def _bring(
    found: FloatNet,
    calibration: Samples,
    mean: ArrayLike,
    std: ArrayLike,
    input_scale: float | None,
    equalise: bool,
    net: Sequential | None,
    seed: int,
) -> tuple[Sequential, ImportReport]:
    """Fold, quantise, compare, and only then set the tensors of `net`, or of a new one."""
    if not found.weights:
        raise ValueError("the net has no layer with weights: there is nothing to bring")
    array, exponent = _checks.samples(found.input_shape, calibration, "calibration")
    pixels = array.dtype == np.uint8
    x = (array >> 1).astype(np.int8) if pixels else np.maximum(array, -127)  # N10
    x = x.reshape(-1, *found.input_shape)
    factor = (PIXELS if pixels else 1.0) if input_scale is None else float(input_scale)
    found = fold_input(found, mean, std, factor, may_add_bias=net is None)
    plain = tensors(found)
    if net is None:
        net = _planned(found, seed)
    check_limits(found, x, exponent)
    report = check(found, plain, x, exponent, equalised=False)
    best = plain
    other = equalised(found) if equalise else None
    if other is not None:
        moved = tensors(other)
        second = check(other, moved, x, exponent, equalised=True)
        if second.snr > report.snr:
            best, report = moved, second
    for (i, bias), tensor in best.items():
        net.set_tensor(i, tensor.values.reshape(-1), tensor.scale, bias=bias)
    return net, report


def _planned(found: FloatNet, seed: int) -> Sequential:
    """An untrained net of the layers; the planner's refusal with the node that asked for the layer."""
    layers: list[Layer] = found.layers
    try:
        return Sequential(layers, found.input_shape, seed=seed)
    except ValueError as error:
        for i, node in enumerate(found.nodes):
            if str(error).startswith(f"layer {i} "):
                raise ValueError(f"{error}; made of {node}") from None
        raise


def _sample_shape(calibration: Any) -> tuple[int, ...]:
    """Shape of one sample, () where it is no array (which is refused later)."""
    return tuple(getattr(calibration, "shape", ()))[1:]


def _require_net(net: Any) -> None:
    if not isinstance(net, Sequential):
        raise TypeError(f"net must be a tintin.Sequential, got {type(net).__name__}")
