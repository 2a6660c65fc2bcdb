"""Spectrum sensing: learn from measured statistics of radio blocks whether a transmitter is on, in integers only.

Reads the measurements of the Jozef Stefan Institute from $TINTIN_DATA/spectrum_sensing; without them it makes some up.
"""

import sys

import numpy as np

import tintin
from tintin import Linear, ReLU, features

QUICK = "--quick" in sys.argv


def made_up(n: int, seed: int, *, signal: bool) -> np.ndarray:
    """Blocks of 59 statistics around 100, which a signal raises, some more and some less."""
    rng = np.random.default_rng(seed)
    raised = rng.uniform(0, 3, (n, 1)) * np.linspace(0, 1, 59) if signal else 0
    return (100 + 50 * (raised + rng.normal(0, 1, (n, 59)))).astype(np.int16)


try:
    data = tintin.datasets.spectrum_sensing()
    blocks, y, test_blocks, y_test, about = data.x_train, data.y_train, data.x_test, data.y_test, data.about
except FileNotFoundError as error:
    print(f"these measurements are made up: {error}\n")
    blocks, test_blocks = (
        np.concatenate([made_up(500, seed, signal=False), made_up(500, seed + 1, signal=True)]) for seed in (1, 3)
    )
    y = y_test = np.repeat(np.array([0, 1], np.uint8), 500)
    about = {"noise": made_up(300, 0, signal=False), "noise_campaign": np.zeros(300, int)}
    about |= {f"campaign_{part}": np.zeros(1000, int) for part in ("train", "test")}

# A receiver first listens to noise alone; then every statistic is measured by how far it is from that noise.
x, x_test = np.zeros(blocks.shape, np.int8), np.zeros(test_blocks.shape, np.int8)
for campaign in np.unique(about["noise_campaign"]):
    level = features.NoiseLevel.of(about["noise"][about["noise_campaign"] == campaign])
    x[about["campaign_train"] == campaign] = level.measure(blocks[about["campaign_train"] == campaign])
    x_test[about["campaign_test"] == campaign] = level.measure(test_blocks[about["campaign_test"] == campaign])

net = tintin.Sequential(
    [Linear(32, bias=True), ReLU(), Linear(16, bias=True), ReLU(), Linear(2, bias=True)],
    input_shape=(x.shape[1],),
)
# Both classes should come about as often: noise several times in an epoch.
repeats = round((y == 1).sum() / (y == 0).sum())
rows = np.concatenate([np.flatnonzero(y == 1), np.tile(np.flatnonzero(y == 0), repeats)])
net.fit(
    x[rows], y[rows], epochs=3 if QUICK else 10, batch_size=8,
    optimizer=tintin.TinTin(learning_shift=3),  # chosen on training captures, see docs/applications.md
)  # fmt: skip

found = net.predict(x_test) == 1
print(f"false alarms {found[y_test == 0].mean():.1%} of {(y_test == 0).sum()} blocks of noise")
print(f"found        {found[y_test == 1].mean():.1%} of {(y_test == 1).sum()} blocks with a signal")
if "power_test" in about:
    for power in (-99, -95, -93, -91, -89, -87, -83):
        print(f"  at {power} dBm {found[about['power_test'] == power].mean():6.1%}")
print(f"\nRAM for training on the device: {net.memory(batch_size=8).total:,} bytes, and the noise levels")
