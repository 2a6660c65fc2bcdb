"""Train a small convolutional net on 8 x 8 digits in integers only, see what it needs on a device, save it."""

import sys
import tempfile
from pathlib import Path

import tintin
from tintin import Conv2d, Flatten, Linear, MaxPool2d, ReLU

data = tintin.datasets.load("digits")
net = tintin.Sequential(
    [
        Conv2d(8, kernel_size=3, padding=1), ReLU(), MaxPool2d(2),
        Conv2d(16, kernel_size=3, padding=1), ReLU(), MaxPool2d(2),
        Flatten(), Linear(10),
    ],
    input_shape=(8, 8, 1),
    seed=0,
)  # fmt: skip
history = net.fit(data.x_train, data.y_train, epochs=2 if "--quick" in sys.argv else 15, batch_size=16)
print(history)
print(f"\n{net.score(data.x_test, data.y_test):.1%} of {len(data.x_test)} test digits right")
print(f"first ten: {net.predict(data.x_test[:10])}, really {data.y_test[:10]}\n")
print(net.summary(), "\n")
print(net.memory(batch_size=1))
path = Path(tempfile.gettempdir()) / "quickstart.tin"
net.save(path)
assert tintin.load(path) == net
print(f"\nsaved as {path}, digest 0x{net.digest():016x}: the same on every machine")
