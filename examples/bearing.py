"""Motor bearings: learn from three motor loads which fault a bearing has, and tell it at a fourth, in integers only.

Reads the recordings of Case Western Reserve University from $TINTIN_DATA/cwru; without them it makes signals up.
"""

import sys

import numpy as np

import tintin
from tintin import Linear, ReLU, features

QUICK = "--quick" in sys.argv


def made_up(n: int, load: int) -> tuple[np.ndarray, np.ndarray]:
    """Windows of a shaft's hum and noise at 12 kHz; a damaged race rings whenever a ball rolls over it."""
    rng = np.random.default_rng(load)
    t = np.arange(features.WINDOW)
    y = np.arange(n) % 3
    rate, ring = np.array([0, 1 / 112, 1 / 74])[y, None] * (1 - load / 100), np.array([0, 0.27, 0.21])[y, None]
    since = (t + rng.integers(0, 112, (n, 1))) * rate % 1 / np.maximum(rate, 1e-9)
    knock = np.where(y[:, None] > 0, 900 * np.exp(-since / 12) * np.sin(2 * np.pi * ring * since), 0)
    x = 200 * np.sin(2 * np.pi * t * 30 / 12_000) + knock + rng.normal(0, 120, (n, features.WINDOW))
    return x.astype(np.int16), y.astype(np.uint8)


try:
    data = tintin.datasets.cwru(test_load=3)
    windows, y, test_windows, y_test, names = data.x_train, data.y_train, data.x_test, data.y_test, data.classes
except FileNotFoundError as error:
    print(f"these signals are made up: {error}\n")
    names = ("normal", "outer race", "inner race")
    (windows, y), (test_windows, y_test) = made_up(900, load=0), made_up(300, load=3)

# 1,024 samples of int16 become the logarithms of 64 band energies, int8: the same bits on the microcontroller.
x, x_test = features.log_bands(windows), features.log_bands(test_windows)

net = tintin.Sequential([Linear(32, bias=True), ReLU(), Linear(len(names), bias=True)], input_shape=(features.BANDS,))
net.fit(
    x, y, epochs=3 if QUICK else 10, batch_size=1,
    optimizer=tintin.TinTin(learning_shift=5),  # chosen on training recordings, see docs/applications.md
)  # fmt: skip

right = net.predict(x_test) == y_test
for label, name in enumerate(names):
    print(f"{name:<12} {right[y_test == label].mean():7.1%} of {np.count_nonzero(y_test == label)} test windows right")
print(f"{'all':<12} {right.mean():7.1%}\n")
print(net.memory(batch_size=1))
print(
    "\nBesides, the device holds a window (2,048 bytes), its 64 features and a stack: scripts/applications.py runs it"
)
