"""`tintin.zoo`: shapes, weights and products of the nets as they were published."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import refused

import tintin
from tintin import Add, Branch, Conv2d, DepthwiseConv2d, Linear, Sequential, models, zoo


def weights(net: Sequential) -> int:
    return net.memory(training=False).weights


def products(net: Sequential) -> int:
    return sum(row["products"] for row in net.memory(training=False).by_layer)


def normed(net: Sequential) -> int:
    """Channels behind a batch norm in the float nets: those of all layers with weights but the last and shortcuts."""
    by_layer = {tensor["layer"]: len(tensor["mantissas"]) for tensor in net.tensors() if tensor["bias"]}
    after_branch = {i + 1 for i, layer in enumerate(net.layers) if isinstance(layer, Branch)}
    return sum(rows for i, rows in by_layer.items() if i not in after_branch and i != len(net.layers) - 1)


# Totals of the Keras models in github.com/mlcommons/tiny (MLPerf Tiny, arXiv 2106.07597): biases and four numbers for
# each normed channel; ResNet-8's shortcuts have no norm.
@pytest.mark.parametrize(
    ("make", "total", "macs"),
    [
        (zoo.ds_cnn, 24_908, 2_656_768),
        (zoo.resnet8, 78_666, 12_501_632),
        (zoo.mobilenet_v1, 221_794, 7_489_664),
        (zoo.autoencoder, 269_992, 264_192),
    ],
    ids=["keyword spotting", "image classification", "person detection", "anomaly detection"],
)
def test_mlperf_tiny(make: Callable[..., Sequential], total: int, macs: int) -> None:
    net = make()
    assert weights(net) + 4 * normed(net) == total
    assert products(net) == macs


def test_mobilenet_v2_as_published() -> None:
    """Totals of torchvision, whose norms have two numbers where there is one bias here, and of arXiv 1801.04381."""
    net = zoo.mobilenet_v2((224, 224, 3), 1000, width=1.0, last=1280)
    assert weights(net) + normed(net) == 3_504_872
    assert products(net) == 300_774_272
    net = zoo.mobilenet_v2((96, 96, 3), 1001, width=0.35, last=1280)
    # the authors' list in tensorflow/models: 1.66 million weights and 11 million products
    assert 1_655_000 <= weights(net) <= 1_675_000 and 11_000_000 <= products(net) < 12_000_000
    assert net._engine.shapes()[-2] == (1, 1, 1280)


def test_lenet5_as_published() -> None:
    """61,706: LeNet-5 with fully connected C3, as it is mostly built."""
    assert weights(zoo.lenet5()) == 61_706 and products(zoo.lenet5()) == 416_520
    assert weights(zoo.lenet5(bias=False)) == weights(models.lenet5()) == 61_470


SMALL: dict[str, tuple[Callable[..., Sequential], dict[str, Any]]] = {
    "lenet5": (zoo.lenet5, {"input_shape": (16, 16, 1)}),
    "ds_cnn": (zoo.ds_cnn, {"input_shape": (16, 16, 1), "width": 8}),
    "resnet8": (zoo.resnet8, {"input_shape": (16, 16, 1), "width": 8}),
    "mobilenet_v1": (zoo.mobilenet_v1, {"input_shape": (16, 16, 1), "width": 0.125}),
    "mobilenet_v2": (zoo.mobilenet_v2, {"input_shape": (16, 16, 1), "width": 0.1}),
    "mcunet": (zoo.mcunet, {"input_shape": (32, 32, 1), "width": 0.25}),
}


@pytest.mark.parametrize("name", SMALL)
def test_features_biases_seed_and_learning(name: str) -> None:
    make, given = SMALL[name]
    net = make(**given, outputs=None)
    assert not isinstance(net.layers[-1], Linear) and net.outputs > 3
    x = np.random.default_rng(0).integers(0, 256, (24, *given["input_shape"])).astype(np.uint8)
    assert net.logits(x).shape == (24, net.outputs)
    one = make(**given, outputs=3, seed=4)
    assert one.outputs == 3 and one.seed == 4
    assert all(layer.bias for layer in one.layers if isinstance(layer, (Conv2d, DepthwiseConv2d, Linear)))
    assert not any(tensor["bias"] for tensor in make(**given, bias=False).tensors())
    before = one.digest()
    one.fit(x, np.arange(24) % 3, epochs=1, batch_size=8)
    assert one.digest() != before
    assert Sequential.from_bytes(one.to_bytes()) == one


def test_residuals_are_where_shapes_agree() -> None:
    net = zoo.mobilenet_v2()
    assert sum(isinstance(layer, Add) for layer in net.layers) == 10  # of 17 blocks, as in the paper
    assert sum(isinstance(layer, DepthwiseConv2d) for layer in net.layers) == 17
    kernels = {layer.kernel_size for layer in zoo.mcunet().layers if isinstance(layer, DepthwiseConv2d)}
    assert kernels == {(3, 3), (5, 5), (7, 7)}
    assert sum(isinstance(layer, Branch) for layer in zoo.resnet8().layers) == 2


def test_auto_encoder_gives_what_it_was_given() -> None:
    net = zoo.autoencoder((8, 8, 1), hidden=16, code=4)
    assert net.outputs == 64 and net.input_shape == (8, 8, 1)
    assert zoo.autoencoder().outputs == 640


def test_models_know_them() -> None:
    net = models.build("ds_cnn", (49, 10, 1), 5, seed=2)
    assert net.outputs == 5 and net.seed == 2 and net.layers[:-1] == zoo.ds_cnn().layers[:-1]
    refused(ValueError, "resnet9", "resnet8", call=lambda: models.build("resnet9", (1, 1, 1), 2))


def least(net: Sequential, training: bool) -> int:
    """The least bytes of RAM that a plan can do with: a plan of a single byte is refused, and told what it takes."""
    with pytest.raises(ValueError, match="bytes needed, 1 allowed") as caught:
        net.memory(training=training, limit=1)
    found = int(str(caught.value).split(" bytes needed")[0].split()[-1])
    assert net.memory(training=training, limit=found).total == found
    return found


@pytest.mark.parametrize("name", zoo.__all__)
def test_figures_told_are_those_of_memory(name: str) -> None:
    make = getattr(zoo, name)
    net = make()
    found = re.search(r"([\d,]+) weights, ([\d,]+) products; RAM (\d+) KB, training (\d+) KB\.", make.__doc__)
    assert found is not None
    told = [int(figure.replace(",", "")) for figure in found.groups()]
    assert told[:2] == [weights(net), products(net)]
    for kilobytes, training in zip(told[2:], (False, True), strict=True):
        # a planner that saves more makes no docstring wrong
        assert 500 * kilobytes < least(net, training) <= 1000 * kilobytes


def test_trained_floats_fit() -> None:
    """The whole way: a float net of the zoo's layers, written as a state dict, is the zoo's net."""
    net = zoo.ds_cnn((12, 8, 1), 4, width=8)
    rng = np.random.default_rng(0)
    state: dict[str, Any] = {}
    channels = 1
    for i, layer in enumerate(net.layers):
        if isinstance(layer, (Conv2d, DepthwiseConv2d)):
            out = layer.out_channels if isinstance(layer, Conv2d) else channels
            into = channels if isinstance(layer, Conv2d) else 1
            fan_in = into * layer.kernel_size[0] * layer.kernel_size[1]
            state[f"{i}.weight"] = rng.normal(size=(out, into, *layer.kernel_size)) * (2 / fan_in) ** 0.5
            for key in ("weight", "bias", "running_mean", "running_var"):
                state[f"{i}n.{key}"] = rng.uniform(0.5, 1, out)
            channels = out
    state["head.weight"], state["head.bias"] = rng.normal(size=(4, channels)), rng.normal(size=4)
    x = tintin.quantize(rng.normal(size=(20, 12, 8, 1)))
    assert tintin.load_state_dict(net, state, x).snr > 20
