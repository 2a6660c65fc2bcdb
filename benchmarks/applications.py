"""Bearing faults and spectrum sensing, trained in integers: the application rows of docs/results.md.

    TINTIN_DATA=... python benchmarks/applications.py bearing spectrum --seeds 0 1 2

What the nets take comes from `tintin.features`; docs/applications.md tells it all. The test parts are recordings that
were not trained on. `--validate` leaves the test part alone and reports on parts of the training recordings instead
(for bearings each motor load in turn, for the spectrum every second power): that is how settings were chosen.
`--export FOLDER` writes what the nets take, for float32_applications.py.
"""

import argparse
import statistics
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import tintin
from tintin import Linear, ReLU, features


@dataclass(frozen=True, eq=False)
class Part:
    """Samples: features int8, the same before rounding in float64, labels, and the rows of `raw` they come from."""

    x: np.ndarray
    fine: np.ndarray
    y: np.ndarray
    rows: np.ndarray


class Bearing:
    """Ten classes from 64 band energies of a window; loads 0 to 2 are trained on, load 3 is the test."""

    name, epochs, batch_size, learning_shift = "bearing", 10, 1, 5

    def __init__(self, data=None):
        self.data = data = data or tintin.datasets.cwru()
        self.raw = np.concatenate([data.x_train, data.x_test])
        self.labels = np.concatenate([data.y_train, data.y_test])
        self.features = features.log_bands(self.raw)

    @staticmethod
    def net(seed):
        return tintin.Sequential([Linear(32, bias=True), ReLU(), Linear(10, bias=True)], (features.BANDS,), seed)

    def test(self):
        n = len(self.data.x_train)
        return self._part(np.arange(n)), self._part(np.arange(n, len(self.raw)))

    def folds(self):
        """A motor load of the training part held out in turn; of the healthy recording the last third, less a gap."""
        load, start, y = self.data.about["load_train"], self.data.about["start_train"], self.data.y_train
        border = 2 * (start[y == 0].max() + features.WINDOW) // 3
        for held_out in range(3):
            test = np.where(y == 0, start >= border + features.WINDOW, load == held_out)
            train = np.where(y == 0, start + features.WINDOW <= border, load != held_out)
            yield self._part(np.flatnonzero(train)), self._part(np.flatnonzero(test))

    def _part(self, rows):
        energy = np.abs(np.fft.rfft(self.raw[rows].astype(np.float64), axis=1)[:, : features.WINDOW // 2]) ** 2
        energy[:, 0] = 0
        energy = energy.reshape(len(rows), features.BANDS, -1).sum(axis=2)
        fine = np.log2(np.maximum(energy, 1)) * 8 - 240
        return Part(self.features[rows], fine, self.labels[rows], rows)


class Spectrum:
    """Noise or signal from 59 statistics; odd powers and later noise are the test. Noise comes four times an epoch."""

    name, epochs, batch_size, learning_shift = "spectrum", 10, 8, 3
    repeats = 4  # 1,400 noise blocks against 6,000 with a signal

    def __init__(self, data=None):
        self.data = data = data or tintin.datasets.spectrum_sensing()
        self.raw = np.concatenate([data.x_train, data.x_test])
        self.labels = np.concatenate([data.y_train, data.y_test])
        self.campaign = np.concatenate([data.about["campaign_train"], data.about["campaign_test"]])
        self.noise = [data.about["noise"][data.about["noise_campaign"] == c] for c in range(4)]
        self.features = np.zeros(self.raw.shape, np.int8)
        self.fine = np.zeros(self.raw.shape)
        for campaign, noise in enumerate(self.noise):
            rows = self.campaign == campaign
            self.features[rows] = features.NoiseLevel.of(noise).measure(self.raw[rows])
            self.fine[rows] = np.clip((self.raw[rows] - noise.mean(axis=0)) / noise.std(axis=0), -20, 20) * 32

    @staticmethod
    def net(seed):
        hidden = [Linear(32, bias=True), ReLU(), Linear(16, bias=True), ReLU()]
        return tintin.Sequential([*hidden, Linear(2, bias=True)], (59,), seed)

    def test(self):
        n = len(self.data.x_train)
        return self._part(self._balanced(np.arange(n))), self._part(np.arange(n, len(self.raw)))

    def folds(self):
        """Every second of the powers held out, and of the noise the last or the first third of the blocks."""
        about = self.data.about
        noise = self.data.y_train == 0
        for power, blocks in ((2, about["block_train"] >= 533), (0, about["block_train"] < 417)):
            test = np.where(noise, blocks, about["power_train"] % 4 == power)
            yield self._part(self._balanced(np.flatnonzero(~test))), self._part(np.flatnonzero(test))

    def _balanced(self, rows):
        return np.concatenate([rows, np.tile(rows[self.labels[rows] == 0], self.repeats - 1)])

    def _part(self, rows):
        return Part(self.features[rows], self.fine[rows], self.labels[rows], rows)


APPLICATIONS = {"bearing": Bearing, "spectrum": Spectrum}


def optimizer(application, learning_shift=None):
    return tintin.TinTin(learning_shift=application.learning_shift if learning_shift is None else learning_shift)


def by_class(predicted, y):
    """Share of right answers in percent: of all samples, and the mean over the classes."""
    right = predicted == y
    return 100 * right.mean(), 100 * statistics.mean(right[y == c].mean() for c in np.unique(y))


def run(application, train, test, seed, epochs, rule):
    """Trains one net: accuracies as by `by_class`, and the digest."""
    net = application.net(seed)
    net.fit(train.x, train.y, epochs, application.batch_size, rule, progress=False)
    return *by_class(net.predict(test.x), test.y), f"0x{net.digest():016x}"


def spread(values):
    """Mean and standard deviation, as text."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2f} ± {deviation:.2f}"


def export(application, folder):
    """The test split as number 0 and the validation splits behind it, float32_applications.py reads them."""
    arrays = {}
    for i, parts in enumerate([application.test(), *application.folds()]):
        for part, name in zip(parts, ("train", "test"), strict=True):
            arrays |= {f"x_{name}_{i}": part.x, f"fine_{name}_{i}": part.fine, f"y_{name}_{i}": part.y}
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(folder / f"{application.name}.npz", **arrays)
    print(f"wrote {folder / application.name}.npz")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("applications", nargs="*", default=list(APPLICATIONS), metavar="bearing|spectrum")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--validate", action="store_true")
    parser.add_argument("--learning-shift", type=int)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--export", type=Path, metavar="FOLDER")
    args = parser.parse_args()
    unknown = set(args.applications) - set(APPLICATIONS)
    if unknown:
        parser.error(f"unknown application {', '.join(sorted(unknown))}; there are bearing and spectrum")
    for name in args.applications:
        try:
            application = APPLICATIONS[name]()
        except (FileNotFoundError, tintin.datasets.DataError) as error:
            parser.exit(1, f"{error}\n")
        if args.export:
            export(application, args.export)
            continue
        splits = list(application.folds()) if args.validate else [application.test()]
        rule, epochs = optimizer(application, args.learning_shift), args.epochs or application.epochs
        runs = [run(application, *split, seed, epochs, rule) for seed in args.seeds for split in splits]
        accuracy, balanced, digests = zip(*runs, strict=True)
        kind = "held-out training recordings" if args.validate else "test recordings"
        print(f"| {name}, {kind} | {spread(accuracy)} | {min(accuracy):.2f} | {spread(balanced)} |")
        if not args.validate:
            print(f"digests of seeds {args.seeds}: {', '.join(digests)}")
            print(application.net(0).memory(application.batch_size))


if __name__ == "__main__":
    main()
