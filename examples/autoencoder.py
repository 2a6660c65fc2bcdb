"""Anomaly detection: an auto-encoder learns how a healthy machine vibrates, and finds what it cannot rebuild."""

import sys

import numpy as np

import tintin
from tintin import Linear, ReLU

QUICK = "--quick" in sys.argv
WINDOW = 64


def vibration(rng: np.random.Generator, windows: int, *, fault: bool) -> np.ndarray:
    """Windows of a shaft's vibration: its turn and two overtones, and with a fault the ringing of a damaged bearing."""
    t = np.arange(WINDOW)
    phase = rng.uniform(0, 2 * np.pi, (windows, 1))
    signal = sum(a * np.sin(2 * np.pi * k * t / 32 + k * phase) for k, a in ((1, 1.0), (2, 0.5), (3, 0.25)))
    if fault:
        since = (t + rng.integers(0, 16, (windows, 1))) % 16
        signal = signal + 0.8 * np.exp(-since / 4) * np.sin(2 * np.pi * since / 4.5)
    return signal + rng.normal(0, 0.05, (windows, WINDOW))


rng = np.random.default_rng(0)
x = tintin.quantize(vibration(rng, 500 if QUICK else 4000, fault=False))
held_out = tintin.quantize(vibration(rng, 500, fault=False), exponent=x.exponent)
broken = tintin.quantize(vibration(rng, 500, fault=True), exponent=x.exponent)

net = tintin.Sequential(
    [Linear(32, bias=True), ReLU(), Linear(8, bias=True), Linear(32, bias=True), ReLU(), Linear(WINDOW, bias=True)],
    input_shape=(WINDOW,),
)
history = net.fit(
    x, x, epochs=4 if QUICK else 40, batch_size=16, loss="squared_error",
    optimizer=tintin.TinTin(learning_shift=5),  # four layers: the default, 3 at this batch size, can diverge
)  # fmt: skip
print(f"loss {history.loss[0]:.3f} after the first epoch, {history.loss[-1]:.3f} after the last")


def anomaly(samples: tintin.Quantized) -> np.ndarray:
    """How far each window is from what the net makes of it."""
    return np.sqrt(((net.logits(samples) - samples.dequantize()) ** 2).mean(axis=1))


well, ill = anomaly(held_out), anomaly(broken)
limit = np.quantile(anomaly(x), 0.99)
print(f"anomaly score {np.median(well):.3f} when all is well, {np.median(ill):.3f} with a damaged bearing (medians)")
print(
    f"alarm above {limit:.3f}: {(well > limit).mean():.1%} false alarms, {(ill > limit).mean():.1%} of the faults found"
)
print(f"RAM to go on learning on the device: {net.memory(batch_size=1).total:,} bytes")
