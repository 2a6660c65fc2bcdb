"""Recordings in files of the user's own: bearing vibration, spectrum sensing, and what is learned from a few samples.

None is fetched: some have no published licence or a narrow one, and all are packed by hand. They are only read, from
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
    """Measured signals split into training and test part: integer samples `(n, ...)`, labels `(n,)`.

    Samples are as stored, int16 or uint8; the function that made it tells, and what `about` holds: what else is known
    of each sample, by name.
    """

    x_train: Array
    y_train: Array
    x_test: Array
    y_test: Array
    classes: tuple[str, ...]
    name: str
    about: dict[str, Array]

    def __repr__(self) -> str:
        return (
            f"Recordings({self.name!r}: {len(self.x_train)} training and {len(self.x_test)} test samples "
            f"of {' x '.join(map(str, self.x_train.shape[1:]))}, {len(self.classes)} classes)"
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
    "omniglot": _Source(
        "omniglot28.npz",
        "0cbfa88ac7fa67f83e1fdeb12dc2227aaea1d080ceb25c656b3913d5fa320c1f",
        "the drawings of the GitHub repository brendenlake/omniglot (commit 057f034b), under the MIT licence, averaged "
        "down to 28 x 28 and packed one bit a pixel",
        ("images", "label", "alphabet", "drawer", "is_evaluation", "alphabet_names"),
    ),
    "kws_speech_commands": _Source(
        "speech_commands_v2_test12.npz",
        "1e85972cabd9ebfe809c4655f93efcf1dff686c616e8db370562bd15bc391711",
        "log-mel features of the test set of twelve classes of Speech Commands 0.02 (P. Warden, Google), under CC BY "
        "4.0, packed from the GitHub repository thegtagamer/PICO-tinyML-benchmark (commit c66f6b0d)",
        ("logmel_fdelta", "label", "speaker", "word", "is_test", "class_names"),
    ),
    "har": _Source(
        "hapt_raw6.npz",
        "1dc48219249c7bea41e8fbcc6d749724d697934176079bdcfa29229ae8f537fa",
        "the raw signals of HAPT (Reyes-Ortiz et al.), for research only, packed from the GitHub repository "
        "Kingsley-opoku/Postural-Transitions-RNN (commit 0d6ea501)",
        ("delta_lo", "delta_hi", "offset", "experiment", "segments", "test_users", "activity_names"),
    ),
    "wisdm51_watch": _Source(
        "wisdm51_watch_features.npz",
        "67bfc7a0d2f96d2ceca74806817259d9d35012a8560b3480da496c6872e781dc",
        "the watch features of the WISDM study of 51 people (Weiss et al.), which state no licence, packed from the "
        "GitHub repository chunkybubble/wisdm-51-data-analysis (commit 06b32e6e)",
        ("accel_x", "accel_y", "accel_user", "accel_is_test", "gyro_x", "gyro_y", "gyro_user", "gyro_is_test",
         "activity_names"),
    ),
}  # fmt: skip

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


def omniglot(*, root: str | os.PathLike[str] | None = None) -> Recordings:
    """Drawn characters, uint8 0 or 255 (ink) of 28 x 28; labels uint16, 0 to 1622.

    The published split: 30 "background" alphabets are the training part, 20 others the test part; no class is in both,
    so it is for learning from few samples. 20 people drew each character. `about`: `alphabet_train`, `alphabet_test`,
    `drawer_train`, `drawer_test`.

    Raises as `cwru` does.
    """
    data = _read("omniglot", root)
    images = np.unpackbits(data["images"], axis=1).reshape(-1, 28, 28) * np.uint8(255)
    about = {key: data[key] for key in ("alphabet", "drawer")}
    classes = tuple(f"character {i}" for i in range(int(data["label"].max()) + 1))
    return _split(images, data["label"], data["is_evaluation"] == 1, classes, "omniglot", about)


def speech_commands(*, root: str | os.PathLike[str] | None = None) -> Recordings:
    """Twelve classes of spoken words as log-mel features, uint8 of 49 frames x 40 bands, 0.4 dB a step.

    Silence, unknown, yes, no, up, down, left, right, on, off, stop, go: the published test set only, split here so that
    no speaker is in both parts. `about`: `speaker_train`, `speaker_test` (-1 for silence), `word_train`, `word_test`,
    the word that was spoken, also where the class is unknown.

    Raises as `cwru` does.
    """
    data = _read("kws_speech_commands", root)
    bands = np.cumsum(data["logmel_fdelta"], axis=2, dtype=np.uint8)
    about = {key: data[key] for key in ("speaker", "word")}
    classes = tuple(map(str, data["class_names"]))
    return _split(bands, data["label"], data["is_test"] == 1, classes, "kws_speech_commands", about)


def har(*, root: str | os.PathLike[str] | None = None) -> Recordings:
    """Six activities from a smartphone at the waist, 50 Hz: int16 windows of 128 samples x 6 channels, hop 64.

    Acceleration in 1/720 g and turning rate in 0.0175 degrees a second, the sensor's own steps. The published split by
    person: 21 for training, 9 for the test. `about`: `user_train`, `user_test`, `start_train`, `start_test`.

    Raises as `cwru` does.
    """
    data = _read("har", root)
    steps = data["delta_lo"].astype(np.uint16) | (data["delta_hi"].astype(np.uint16) << 8)
    signal = np.cumsum(steps, axis=1, dtype=np.uint16).view(np.int16).T
    begins = dict(zip(data["experiment"].tolist(), data["offset"][:-1].tolist(), strict=True))
    windows, labels, users, starts = [], [], [], []
    for experiment, user, activity, first, last in data["segments"].tolist():
        if activity > 6:  # the rest are changes of posture, which are short
            continue
        for start in range(first - 1, last - 127, 64):
            at = begins[experiment] + start
            windows.append(signal[at : at + 128])
            labels.append(activity - 1)
            users.append(user)
            starts.append(start)
    person = np.array(users, np.uint8)
    about: dict[str, Array] = {"user": person, "start": np.array(starts, np.int32)}
    test = np.isin(person, data["test_users"])
    classes = tuple(map(str, data["activity_names"]))[:6]
    return _split(np.stack(windows), np.array(labels), test, classes, "har", about)


def wisdm_watch(*, sensor: str = "accel", root: str | os.PathLike[str] | None = None) -> Recordings:
    """18 activities of a watch on the wrist: int16 `(n, 91)`, features of windows of 10 s, 1/512 standard deviation.

    `sensor`: "accel" or "gyro". People 1600 to 1634 are the training part, 1635 to 1650 the test part; nobody is in
    both. `about`: `user_train`, `user_test`.

    Raises as `cwru` does.
    """
    if sensor not in ("accel", "gyro"):
        raise ValueError(f"sensor must be 'accel' or 'gyro', got {sensor!r}")
    data = _read("wisdm51_watch", root)
    x, y, user, test = (data[f"{sensor}_{column}"] for column in ("x", "y", "user", "is_test"))
    classes = tuple(map(str, data["activity_names"]))
    return _split(x, y, test == 1, classes, "wisdm51_watch", {"user": user})


def _split(x: Array, y: Array, test: Array, classes: tuple[str, ...], name: str, about: dict[str, Array]) -> Recordings:
    y = y if y.dtype == np.uint16 else y.astype(np.uint8)
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
