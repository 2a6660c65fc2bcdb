"""Nets of the literature at microcontroller size: functions that return an untrained `Sequential`.

All have biases unless told, as the batch norms of the float nets are folded into them, so that weights from elsewhere
fit: `tintin.load_state_dict(tintin.zoo.resnet8(), weights, samples, order=...)`. `outputs` None leaves the last Linear
out, and the net ends in features, for prototypes. Weights (biases counted), products of one forward pass and RAM are
what `memory()` says of the defaults. RAM is the least, in thousands of bytes: of inference, and of training all layers
on one sample at a time, with a `limit` that makes the plan compute sums twice instead of holding them.

The MLPerf Tiny nets are those of arXiv 2106.07597 and github.com/mlcommons/tiny, whose Keras models count four numbers
more for each channel of a batch norm. Keras pads a stride of 2 on one side, the engine on both: shapes, weights and
products are the same, trained weights of Keras see maps moved by one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from .layers import Add, Branch, Conv2d, DepthwiseConv2d, Flatten, GlobalAvgPool2d, Layer, Linear, MaxPool2d, ReLU
from .model import Sequential

__all__ = ["autoencoder", "ds_cnn", "lenet5", "mcunet", "mobilenet_v1", "mobilenet_v2", "resnet8"]

Shape = tuple[int, int, int]

#: MobileNetV1 (arXiv 1704.04861, table 1): outputs and stride of the depthwise-separable blocks
MOBILENET_V1 = ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5, (1024, 2), (1024, 1))
#: MobileNetV2 (arXiv 1801.04381, table 2): expansion, channels, repetitions, stride of the first
MOBILENET_V2 = (
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
)  # fmt: skip
#: kernel, expansion, channels, stride: the sizes between which MCUNet's search chooses, this choice is ours
MCUNET = (
    (3, 1, 8, 1),
    (7, 3, 16, 2), (3, 3, 16, 1), (3, 3, 16, 1),
    (7, 3, 24, 2), (5, 4, 24, 1), (5, 4, 24, 1),
    (5, 5, 40, 2), (7, 4, 40, 1), (5, 4, 40, 1),
    (5, 4, 48, 1), (5, 4, 48, 1),
    (5, 5, 96, 2), (7, 4, 96, 1), (5, 4, 96, 1),
    (7, 4, 160, 1),
)  # fmt: skip


def lenet5(
    input_shape: Shape = (28, 28, 1), outputs: int | None = 10, *, bias: bool = True, seed: int = 0
) -> Sequential:
    """LeNet-5 with ReLU and max-pooling.

    61,706 weights, 416,520 products; RAM 7 KB, training 72 KB.
    """
    layers = [
        Conv2d(6, 5, padding=2, bias=bias), ReLU(), MaxPool2d(2),
        Conv2d(16, 5, bias=bias), ReLU(), MaxPool2d(2),
        Flatten(), Linear(120, bias), ReLU(), Linear(84, bias), ReLU(),
        *_head(outputs, bias),
    ]  # fmt: skip
    return Sequential(layers, input_shape, seed=seed)


def ds_cnn(
    input_shape: Shape = (49, 10, 1), outputs: int | None = 12, *, width: int = 64, bias: bool = True, seed: int = 0
) -> Sequential:
    """DS-CNN, the keyword spotting of MLPerf Tiny: 49 frames of 10 cepstral coefficients, `width` channels.

    22,604 weights, 2,656,768 products; RAM 19 KB, training 115 KB.
    """
    layers: list[Layer] = [Conv2d(width, (10, 4), stride=2, padding=(5, 1), bias=bias), ReLU()]
    for _ in range(4):
        layers += _separable(width, 1, bias)
    return Sequential([*layers, GlobalAvgPool2d(), *_head(outputs, bias)], input_shape, seed=seed)


def resnet8(
    input_shape: Shape = (32, 32, 3), outputs: int | None = 10, *, width: int = 16, bias: bool = True, seed: int = 0
) -> Sequential:
    """ResNet-8, the image classification of MLPerf Tiny: `width`, 2 and 4 times that many channels.

    77,706 weights, 12,501,632 products; RAM 61 KB, training 241 KB.
    """
    layers: list[Layer] = [Conv2d(width, 3, padding=1, bias=bias), ReLU()]
    for channels, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
        start = len(layers) - 1
        layers += [Conv2d(channels, 3, stride, 1, bias), ReLU(), Conv2d(channels, 3, padding=1, bias=bias)]
        if stride == 1:
            layers += [Add(start), ReLU()]
        else:
            end = len(layers) - 1
            layers += [Branch(start), Conv2d(channels, 1, stride, bias=bias), Add(end), ReLU()]
    return Sequential([*layers, GlobalAvgPool2d(), *_head(outputs, bias)], input_shape, seed=seed)


def mobilenet_v1(
    input_shape: Shape = (96, 96, 3), outputs: int | None = 2, *, width: float = 0.25, bias: bool = True, seed: int = 0
) -> Sequential:
    """MobileNetV1, by default the person detection of MLPerf Tiny. width: factor of all channels.

    210,850 weights, 7,489,664 products; RAM 73 KB, training 534 KB.
    """
    layers: list[Layer] = [Conv2d(int(32 * width), 3, 2, 1, bias), ReLU()]
    for channels, stride in MOBILENET_V1:
        layers += _separable(int(channels * width), stride, bias)
    return Sequential([*layers, GlobalAvgPool2d(), *_head(outputs, bias)], input_shape, seed=seed)


def mobilenet_v2(
    input_shape: Shape = (96, 96, 3),
    outputs: int | None = 10,
    *,
    width: float = 0.35,
    last: int | None = None,
    bias: bool = True,
    seed: int = 0,
) -> Sequential:
    """MobileNetV2 with ReLU in place of ReLU6.

    245,578 weights, 9,365,008 products; RAM 155 KB, training 947 KB.

    width: factor of all channels, which are then multiples of 8. last: channels of a last 1 x 1 convolution, 1280 in
    the paper; without it the features are the channels of the last block.
    """
    blocks = [
        (3, expansion, _multiple_of_8(channels * width), stride if i == 0 else 1)
        for expansion, channels, count, stride in MOBILENET_V2
        for i in range(count)
    ]
    return _inverted(blocks, _multiple_of_8(32 * width), last, input_shape, outputs, bias, seed)


def mcunet(
    input_shape: Shape = (128, 128, 3),
    outputs: int | None = 10,
    *,
    width: float = 1.0,
    bias: bool = True,
    seed: int = 0,
) -> Sequential:
    """Inverted residuals with kernels of 3, 5 and 7 in the manner of MCUNet (arXiv 2007.10319).

    455,186 weights, 26,737,472 products; RAM 180 KB, training 1613 KB.

    Not one of its searched nets, whose tables are not in the paper. width: factor of all channels, which are then
    multiples of 8.
    """
    blocks = [(kernel, expansion, _multiple_of_8(c * width), stride) for kernel, expansion, c, stride in MCUNET]
    return _inverted(blocks, _multiple_of_8(16 * width), None, input_shape, outputs, bias, seed)


def autoencoder(
    input_shape: Sequence[int] = (640,), *, hidden: int = 128, code: int = 8, bias: bool = True, seed: int = 0
) -> Sequential:
    """The auto-encoder of MLPerf Tiny's anomaly detection: four layers of `hidden`, `code`, four of `hidden`.

    265,864 weights, 264,192 products; RAM 5 KB, training 273 KB.

    As many outputs as inputs; train it with loss="squared_error" on its own input.
    """
    inputs = 1
    for size in input_shape:
        inputs *= size
    layers: list[Layer] = []
    for features in (*[hidden] * 4, code, *[hidden] * 4):
        layers += [Linear(features, bias), ReLU()]
    return Sequential([*layers, Linear(inputs, bias)], input_shape, seed=seed)


def _head(outputs: int | None, bias: bool) -> list[Layer]:
    return [] if outputs is None else [Linear(outputs, bias)]


def _separable(channels: int, stride: int, bias: bool) -> list[Layer]:
    """A depthwise-separable block of `channels` outputs."""
    return [DepthwiseConv2d(3, stride, 1, bias), ReLU(), Conv2d(channels, 1, bias=bias), ReLU()]


def _inverted(
    blocks: Iterable[tuple[int, int, int, int]],
    stem: int,
    last: int | None,
    input_shape: Shape,
    outputs: int | None,
    bias: bool,
    seed: int,
) -> Sequential:
    """A stem of stride 2, then inverted residuals (kernel, expansion, channels, stride) that end without ReLU."""
    layers: list[Layer] = [Conv2d(stem, 3, 2, 1, bias), ReLU()]
    before = stem
    for kernel, expansion, channels, stride in blocks:
        start = len(layers) - 1
        if expansion > 1:
            layers += [Conv2d(expansion * before, 1, bias=bias), ReLU()]
        layers += [DepthwiseConv2d(kernel, stride, kernel // 2, bias), ReLU(), Conv2d(channels, 1, bias=bias)]
        if stride == 1 and channels == before:
            layers.append(Add(start))
        before = channels
    if last is not None:
        layers += [Conv2d(last, 1, bias=bias), ReLU()]
    return Sequential([*layers, GlobalAvgPool2d(), *_head(outputs, bias)], input_shape, seed=seed)


def _multiple_of_8(channels: float) -> int:
    """The nearest multiple of 8, no less than 8 and than nine tenths of `channels`, as the MobileNets have it."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest
