"""Ready-made nets, by name: functions that return an untrained `Sequential`. Those of the literature: `tintin.zoo`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from . import zoo
from .layers import Conv2d, Flatten, Linear, MaxPool2d, ReLU
from .model import Sequential

Shape = tuple[int, int, int]


def lenet5(input_shape: Shape = (28, 28, 1), classes: int = 10, seed: int = 0) -> Sequential:
    """LeNet-5 with ReLU and max-pooling and without biases: 61,470 weights for 28 x 28 x 1 and 10 classes."""
    return Sequential(
        [
            Conv2d(6, kernel_size=5, padding=2), ReLU(), MaxPool2d(2),
            Conv2d(16, kernel_size=5), ReLU(), MaxPool2d(2),
            Flatten(), Linear(120), ReLU(), Linear(84), ReLU(), Linear(classes),
        ],
        input_shape=input_shape,
        seed=seed,
    )  # fmt: skip


def mlp(
    input_shape: Shape = (28, 28, 1), classes: int = 10, seed: int = 0, hidden: Sequence[int] = (64,)
) -> Sequential:
    """Dense layers with ReLU between them, `hidden` wide."""
    layers = [layer for width in hidden for layer in (Linear(width), ReLU())]
    return Sequential([Flatten(), *layers, Linear(classes)], input_shape=input_shape, seed=seed)


def small(input_shape: Shape = (8, 8, 1), classes: int = 10, seed: int = 0) -> Sequential:
    """Two small convolutions and a dense layer, made for 8 x 8 digits: 1,864 weights for 10 classes."""
    return Sequential(
        [
            Conv2d(8, kernel_size=3, padding=1), ReLU(), MaxPool2d(2),
            Conv2d(16, kernel_size=3, padding=1), ReLU(), MaxPool2d(2),
            Flatten(), Linear(classes),
        ],
        input_shape=input_shape,
        seed=seed,
    )  # fmt: skip


#: those for any data set, and the classifiers of `tintin.zoo`, which want images of some size
MODELS: dict[str, Callable[..., Sequential]] = {
    "lenet5": lenet5,
    "mlp": mlp,
    "small": small,
    "ds_cnn": zoo.ds_cnn,
    "mcunet": zoo.mcunet,
    "mobilenet_v1": zoo.mobilenet_v1,
    "mobilenet_v2": zoo.mobilenet_v2,
    "resnet8": zoo.resnet8,
}


def build(name: str, input_shape: Shape, classes: int, seed: int = 0) -> Sequential:
    """The net of that name for the given input and number of classes."""
    try:
        make = MODELS[name]
    except KeyError:
        raise ValueError(f"unknown model {name!r}; known are {', '.join(sorted(MODELS))}") from None
    return make(input_shape, classes, seed=seed)
