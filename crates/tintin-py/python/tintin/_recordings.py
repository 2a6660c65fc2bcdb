"""Data of the two applications: bearing vibration and spectrum sensing, as int16 in files of the user's own.

Neither is fetched: the first has no published licence and the second is under the GPL, so both are only read, from
`$TINTIN_DATA/<name>/` or `root/<name>/`.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._sources import DATA_VARIABLE, DataError

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Recordings:
    """Measured signals split into training and test part: int16 samples `(n, width)`, uint8 labels `(n,)`.

    `about` holds what else is known of each sample, by name; see the function that made it.
    """

    x_train: NDArray[np.int16]
    y_train: NDArray[np.uint8]
    x_test: NDArray[np.int16]
    y_test: NDArray[np.uint8]
    classes: tuple[str, ...]
    name: str
    about: dict[str, Array]

    def __repr__(self) -> str:
        return (
            f"Recordings({self.name!r}: {len(self.x_train)} training and {len(self.x_test)} test samples "
            f"of {self.x_train.shape[1]}, {len(self.classes)} classes)"
        )


@dataclass(frozen=True)
class _Source:
    file: str
    sha256: str
    origin: str
    columns: tuple[str, ...]


_SOURCES = {
    "cwru": _Source(
        "cwru12k_de.npz",
        "6e1a3e75c4da4586a1613550a8b2a5b6ddc0cfe22ce9f61a54ed13683465366a",
        "the drive-end recordings of the Case Western Reserve University Bearing Data Center, which offers them openly "
        "but names no licence, packed from the GitHub repository srigas/CWRU_Bearing_NumPy (commit b1179d28)",
        ("signal_lo", "signal_hi", "offset", "load_hp", "label10", "scale_g", "fs", "names10"),
    ),
    "spectrum_sensing": _Source(
        "usrp_sensing_stats.npz",
        "c20a7a882896267b951045bc0df0e7dff0e45f5201dc5b16786cdbedc2944bfb",
        "measurements of T. Solc, Jozef Stefan Institute, under the GPL 3.0 or later, packed from measurements/pd/usrp "
        "of the GitHub repository avian2/spectrum-sensing-methods (commit e4bdf12e)",
        ("x", "power_dbm", "campaign", "block", "role"),
    ),
}

#: what one int16 step of a window means: 1 / 4096 g
_STEPS_PER_G = 4096
#: share of the healthy recording that is for training, in percent
_HEALTHY_TRAINING = 60


def cwru(*, test_load: int = 3, window: int = 1024, root: str | os.PathLike[str] | None = None) -> Recordings:
    """Bearing vibration of the Case Western Reserve University, drive end, 12,000 samples a second, 1/4096 g a step.

    Ten classes: healthy; ball, inner or outer race damaged by 0.007, 0.014 or 0.021 inch. Fault recordings at the motor
    load `test_load` (0 to 3 hp) are the test part, those of the other loads the training part. There is one healthy
    recording, at load 0: its first 60 % are for training, the rest for the test, less a gap of one window. `window`
    samples a window, none overlap. `about`: `load_train`, `load_test` (hp), `start_train`, `start_test`
    (first sample of the window in its recording). Integers only, so the same on every machine.

    Raises FileNotFoundError where the file is absent, with its origin, and `DataError` (a ValueError) where it is not
    the one expected.
    """
    if test_load not in range(4):
        raise ValueError(f"test_load must be 0, 1, 2 or 3 (hp), got {test_load!r}")
    if window < 1:
        raise ValueError(f"window must be at least 1 sample, got {window!r}")
    data = _read("cwru", root)
    samples = (data["signal_lo"].astype(np.uint16) | (data["signal_hi"].astype(np.uint16) << 8)).view(np.int16)
    windows, labels, loads, starts, tests = [], [], [], [], []
    for i, label in enumerate(data["label10"]):
        recorded = samples[data["offset"][i] : data["offset"][i + 1]].astype(np.int64)
        signal = _common(recorded, float(data["scale_g"][i]), int(data["fs"][i]))
        border = len(signal) * _HEALTHY_TRAINING // 100
        for start in range(0, len(signal) - window + 1, window):
            if label == 0 and border - window < start < border + window:
                continue
            windows.append(signal[start : start + window])
            labels.append(label)
            loads.append(data["load_hp"][i])
            starts.append(start)
            tests.append(start >= border if label == 0 else data["load_hp"][i] == test_load)
    if not windows:
        raise ValueError(f"no recording has {window} samples")
    about: dict[str, Array] = {"load": np.array(loads, np.uint8), "start": np.array(starts, np.int32)}
    return _split(np.stack(windows), np.array(labels), np.array(tests), tuple(map(str, data["names10"])), "cwru", about)


def _common(signal: NDArray[np.int64], scale: float, rate: int) -> NDArray[np.int16]:
    """A recording at 12,000 samples a second and 1/4096 g a step; `scale` is its own step in g.

    The healthy recording has four times the rate: a low-pass of 65 taps (sinc at 5,400 Hz, Hamming) goes before.
    """
    factor, shift = round(scale * _STEPS_PER_G * 2**24), 24
    if rate == 48_000:
        n = np.arange(65) - 32
        taps = np.sinc(2 * 5400 / 48_000 * n) * np.hamming(65)
        signal = np.convolve(signal, np.rint(taps / taps.sum() * 2**15).astype(np.int64), "same")[::4]
        shift += 15
    common: NDArray[np.int16] = np.clip((signal * factor + (1 << (shift - 1))) >> shift, -32768, 32767).astype(np.int16)
    return common


def spectrum_sensing(*, root: str | os.PathLike[str] | None = None) -> Recordings:
    """Is a transmitter on? 59 detector statistics of blocks that a USRP receiver took at 864 MHz, logarithms as int16.

    Two classes: noise alone, and a signal (BPSK or a wireless microphone) of -100 to -71 dBm. Four campaigns (signal
    and sampling rate) drift against each other, so each is to be measured by its own noise. Noise blocks 0 to 299 of a
    campaign are `noise` in `about`, with `noise_campaign`; blocks 300 to 649 and the signals of even powers are the
    training part, blocks 650 to 999 and odd powers the test part: no capture is on both sides. `about` has further
    `campaign_train`, `campaign_test`, `power_train`, `power_test` (dBm, -128 without signal), `block_train` and
    `block_test` (order in time).

    Raises FileNotFoundError where the file is absent, with its origin, and `DataError` (a ValueError) where it is not
    the one expected.
    """
    data = _read("spectrum_sensing", root)
    role = data["role"]
    power = data["power_dbm"]
    used = role != 0
    about = {"campaign": data["campaign"][used], "power": power[used], "block": data["block"][used]}
    split = _split(
        data["x"][used], power[used] != -128, role[used] == 2, ("noise", "signal"), "spectrum_sensing", about
    )
    split.about.update(noise=data["x"][~used], noise_campaign=data["campaign"][~used])
    return split


def _split(x: Array, y: Array, test: Array, classes: tuple[str, ...], name: str, about: dict[str, Array]) -> Recordings:
    y = y.astype(np.uint8)
    parts = {"train": ~test, "test": test}
    known = {f"{key}_{part}": values[mask] for key, values in about.items() for part, mask in parts.items()}
    return Recordings(x[~test], y[~test], x[test], y[test], classes, name, known)


def _read(name: str, root: str | os.PathLike[str] | None) -> dict[str, Array]:
    source = _SOURCES[name]
    folder = root if root is not None else os.environ.get(DATA_VARIABLE)
    path = Path(folder, name, source.file) if folder else None
    if path is None or not path.is_file():
        where = f"{path} is not there" if path else f"{DATA_VARIABLE} is not set"
        raise FileNotFoundError(
            f"data set {name!r}: {where}; set {DATA_VARIABLE} to a folder that holds {name}/{source.file}. It holds "
            f"{source.origin}. tintin neither ships nor fetches it"
        )
    import hashlib

    raw = path.read_bytes()
    digest = hashlib.sha256(raw).hexdigest()
    if digest != source.sha256:
        raise DataError(f"{path} is not the file expected: its SHA-256 is {digest}, not {source.sha256}")
    with np.load(io.BytesIO(raw), allow_pickle=False) as arrays:
        return {column: arrays[column] for column in source.columns}
