"""Names and arrays, as PyTorch saves them, to the layers of a `Sequential`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..model import Sequential
from ._float import WEIGHTED, FloatNet, Floats, Shape, Weights, channels_last, kind, output_shape, window

#: tensors of a module that are read, and those that mean nothing here
READ = ("weight", "bias", "running_mean", "running_var")
IGNORED = ("num_batches_tracked",)
Module = dict[str, Floats]


def float_net(net: Sequential, state: Mapping[str, Any], order: Sequence[str] | None, eps: float) -> FloatNet:
    """The layers of `net` with the weights of `state`."""
    modules = grouped(state)
    if order is not None:
        if isinstance(order, str):
            raise TypeError(f"order must be a list of module names, got {order!r}")
        left = [name for name in modules if name not in set(order)]
        if left:
            raise ValueError(f"order leaves out {', '.join(map(repr, left))} of the modules with tensors")
        modules = {name: modules[name] for name in order if name in modules}
    found = FloatNet(net.layers, net.input_shape, {})
    inputs = _inputs(found)
    todo = [i for i, layer in enumerate(found.layers) if kind(layer) in WEIGHTED]
    count = sum("running_mean" not in module for module in modules.values())
    if count != len(todo):
        raise ValueError(
            f"{count} modules with weights for {len(todo)} layers with weights: "
            f"{', '.join(name for name, module in modules.items() if 'running_mean' not in module)} for "
            f"{', '.join(found.name(i) for i in todo)}"
        )
    folded: dict[int, list[str]] = {}
    last = None
    for name, module in modules.items():
        if "running_mean" in module:
            if last is None:
                raise ValueError(f"batch norm {name!r} comes before every layer with weights: fold it by hand")
            fold(found.weights[last], module, name, found.name(last), eps)
            folded.setdefault(last, []).append(name)
            continue
        last = todo.pop(0)
        found.weights[last] = _weights(found, last, inputs[last], name, module)
    for i, weights in found.weights.items():
        wanted = bool(getattr(found.layers[i], "bias", False))
        if weights.bias is not None and not wanted:
            why = f"batch norm {folded[i][0]!r} is folded into it" if i in folded else "its module has biases"
            raise ValueError(f"{found.name(i)} needs bias=True: {why}")
        if wanted:
            weights.bias = weights.biases()
    return found


def grouped(state: Mapping[str, Any]) -> dict[str, Module]:
    """Tensors by module, in order."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state_dict must be a dict of names and arrays, got {type(state).__name__}")
    modules: dict[str, Module] = {}
    for key, value in state.items():
        name, _, what = str(key).rpartition(".")
        if what in IGNORED:
            continue
        if what not in READ:
            raise ValueError(f"{key!r}: a tensor of this kind is not known; known are {', '.join(READ)}")
        modules.setdefault(name, {})[what] = array(key, value)
    for name, module in modules.items():
        if ("running_mean" in module) != ("running_var" in module):
            raise ValueError(f"batch norm {name!r} lacks running_mean or running_var")
        if "running_mean" not in module and "weight" not in module:
            raise ValueError(f"module {name!r} has a bias and no weight")
        if "running_mean" not in module and module["weight"].ndim < 2:
            raise ValueError(
                f"module {name!r} has a weight of shape {module['weight'].shape} and no running_mean: it is no Linear, "
                "convolution or batch norm with statistics (layer and group norms have no counterpart in the engine)"
            )
    return modules


def array(key: str, value: Any) -> Floats:
    """float64 of a tensor, which need not be numpy's."""
    for step in ("detach", "cpu", "float"):  # PyTorch: off the graph, off the GPU, out of bfloat16
        value = getattr(value, step)() if callable(getattr(value, step, None)) else value
    try:
        return np.asarray(value).astype(np.float64)
    except (TypeError, ValueError):
        raise TypeError(f"{key!r} must be an array of numbers, got {type(value).__name__}") from None


def _weights(net: FloatNet, i: int, shape: Shape, name: str, module: Module) -> Weights:
    """The module's weights in the order of layer `i`, whose input has `shape`."""
    layer, weight = net.layers[i], module["weight"]
    h, w, c = shape
    if kind(layer) == "Linear":
        wanted: tuple[int, ...] = (layer.out_features, h * w * c)  # type: ignore[attr-defined]
    elif kind(layer) == "Conv2d":
        wanted = (layer.out_channels, c, *window(layer)[0])  # type: ignore[attr-defined]
    else:
        wanted = (c, 1, *window(layer)[0])
    given = weight
    if weight.ndim == 3 and len(wanted) == 4 and wanted[2] == 1:  # Conv1d
        given = weight[:, :, None]
    if given.shape != wanted:
        raise ValueError(f"{name}.weight has shape {weight.shape}, and {net.name(i)} takes {wanted}")
    bias = module.get("bias")
    if bias is not None and bias.shape != wanted[:1]:
        raise ValueError(f"{name}.bias has shape {bias.shape}, and {net.name(i)} takes {wanted[:1]}")
    if kind(layer) == "Linear":
        given = channels_last(given, shape)
    elif kind(layer) == "Conv2d":
        given = given.transpose(0, 2, 3, 1)
    else:
        given = given[:, 0]
    return Weights(np.ascontiguousarray(given), bias)


def fold(weights: Weights, norm: Module, name: str, into: str, eps: float) -> None:
    """A batch norm into the layer before it: (w·x + b - mean) · g / sqrt(var + eps) + beta."""
    rows = len(weights.weight)
    if any(values.shape != (rows,) for values in norm.values()):
        shapes = {key: values.shape for key, values in norm.items()}
        raise ValueError(f"batch norm {name!r} has {shapes}, and {into} before it has {rows} channels")
    gain = norm.get("weight", np.ones(rows)) / np.sqrt(norm["running_var"] + eps)
    weights.bias = (weights.biases() - norm["running_mean"]) * gain + norm.get("bias", np.zeros(rows))
    weights.weight = weights.weight * gain.reshape(-1, *[1] * (weights.weight.ndim - 1))


def natural(net: Sequential, state: Mapping[str, Any]) -> list[str]:
    """The order of modules that have none: by number, or by shape where only one way is left."""
    names = list(grouped(state))
    layers = FloatNet(net.layers, net.input_shape, {})
    if len({re.sub(r"\d+", "#", name) for name in names}) == 1:
        return sorted(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    modules = grouped(state)
    inputs = _inputs(layers)
    order = []
    for i, layer in enumerate(layers.layers):
        if kind(layer) not in WEIGHTED:
            continue
        fits = [name for name, module in modules.items() if _fits(layers, i, inputs[i], name, module)]
        if len(fits) != 1 or fits[0] in order or any("running_mean" in module for module in modules.values()):
            raise ValueError(
                "a .safetensors file does not keep the order of modules, and names and shapes do not tell it: pass "
                f"order=[...] with the names in the order of the layers; the file has {', '.join(sorted(names))}"
            )
        order += fits
    return order


def _fits(net: FloatNet, i: int, shape: Shape, name: str, module: Module) -> bool:
    if "running_mean" in module:
        return False
    try:
        _weights(net, i, shape, name, module)
    except ValueError:
        return False
    return True


def _inputs(net: FloatNet) -> list[Shape]:
    """Input shapes of all layers; for a Linear that of the map before it was flattened."""
    outputs: list[tuple[Shape, Shape]] = []  # the shape, and that of the map it is made of
    inputs = []
    for i, layer in enumerate(net.layers):
        source = net.source(i)
        shape, unflat = (net.input_shape, net.input_shape) if source < 0 else outputs[source]
        inputs.append(unflat if kind(layer) == "Linear" else shape)
        shape = output_shape(layer, shape)
        follows = net.follow(i)
        outputs.append(
            outputs[follows] if follows != i else (shape, unflat if kind(layer) in ("Flatten", "ReLU") else shape)
        )
    return inputs
