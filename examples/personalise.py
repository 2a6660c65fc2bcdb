"""Personalise: train on eight digits at home, then teach the last layer two new ones on the device, from little."""

import sys

import numpy as np

import tintin
from tintin import Conv2d, Flatten, Linear, MaxPool2d, ReLU

QUICK = "--quick" in sys.argv
NEW = (8, 9)
SHOTS = 10  # samples of each new digit

data = tintin.datasets.load("digits")
is_new = np.isin(data.y_train, NEW)
test_new = np.isin(data.y_test, NEW)

# At home: everything is trained, on the digits that are known there.
net = tintin.Sequential(
    [
        Conv2d(8, kernel_size=3, padding=1), ReLU(), MaxPool2d(2),
        Conv2d(16, kernel_size=3, padding=1), ReLU(), MaxPool2d(2),
        Flatten(), Linear(10),
    ],
    input_shape=(8, 8, 1),
)  # fmt: skip
net.fit(data.x_train[~is_new], data.y_train[~is_new], epochs=3 if QUICK else 15, batch_size=16)


def tell(when: str) -> None:
    old = net.score(data.x_test[~test_new], data.y_test[~test_new])
    new = net.score(data.x_test[test_new], data.y_test[test_new])
    print(f"{when:<8} {old:6.1%} of the old digits right, {new:6.1%} of the new ones")


tell("before")

# On the device: the convolutions stay in flash, only the last layer learns. A few old samples keep it from forgetting.
last = len(net.layers) - 1
shown = np.concatenate([np.flatnonzero(data.y_train == digit)[:SHOTS] for digit in range(10)])
frozen = net.tensors()[:-1]
net.fit(data.x_train[shown], data.y_train[shown], epochs=5 if QUICK else 20, batch_size=1, train_from=last)
tell("after")

assert all(np.array_equal(a["mantissas"], b["mantissas"]) for a, b in zip(frozen, net.tensors(), strict=False))
whole, part = net.memory(batch_size=1), net.memory(batch_size=1, train_from=last)
print(f"RAM to train all layers {whole.total:,} bytes, the last alone {part.total:,} bytes")
