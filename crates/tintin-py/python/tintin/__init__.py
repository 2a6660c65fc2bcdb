"""Train neural networks in integers only, with the same bits as on a microcontroller.

import tintin

data = tintin.datasets.load("digits")
net = tintin.Sequential([tintin.Flatten(), tintin.Linear(32), tintin.ReLU(), tintin.Linear(10)], input_shape=(8, 8, 1))
net.fit(data.x_train, data.y_train, epochs=10, batch_size=32)
net.score(data.x_test, data.y_test)
net.memory(batch_size=1)          # RAM and flash on the device, byte by byte
"""

from . import datasets, features, models, zoo
from ._tintin import FORMAT, NUMERICS, __version__, get_num_threads, kernels, set_num_threads
from .adapt import Adapted
from .history import History
from .imports import Imported, ImportReport, from_onnx, load_safetensors, load_state_dict
from .layers import (
    Add,
    AvgPool1d,
    AvgPool2d,
    Branch,
    Conv1d,
    Conv2d,
    DepthwiseConv1d,
    DepthwiseConv2d,
    Flatten,
    GlobalAvgPool2d,
    Layer,
    Linear,
    MaxPool1d,
    MaxPool2d,
    ReLU,
)
from .memory import Memory
from .model import Sequential, load
from .optimizers import Niti, TinTin
from .quantize import Quantized, quantize

__all__ = [
    "FORMAT",
    "NUMERICS",
    "Adapted",
    "Add",
    "AvgPool1d",
    "AvgPool2d",
    "Branch",
    "Conv1d",
    "Conv2d",
    "DepthwiseConv1d",
    "DepthwiseConv2d",
    "Flatten",
    "GlobalAvgPool2d",
    "History",
    "ImportReport",
    "Imported",
    "Layer",
    "Linear",
    "MaxPool1d",
    "MaxPool2d",
    "Memory",
    "Niti",
    "Quantized",
    "ReLU",
    "Sequential",
    "TinTin",
    "__version__",
    "datasets",
    "features",
    "from_onnx",
    "get_num_threads",
    "kernels",
    "load",
    "load_safetensors",
    "load_state_dict",
    "models",
    "quantize",
    "set_num_threads",
    "zoo",
]
