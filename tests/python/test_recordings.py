"""Recordings read from a folder of the user's own: checked, split, brought to one scale."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import refused

from tintin import _recordings, datasets


def put(root: Path, name: str, monkeypatch: pytest.MonkeyPatch, **arrays: Any) -> Path:
    """A small file of the same columns, taken for the original."""
    source = _recordings._SOURCES[name]
    path = root / name / source.file
    path.parent.mkdir(parents=True)
    np.savez(path, **arrays)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    monkeypatch.setitem(_recordings._SOURCES, name, replace(source, sha256=digest))
    return path


@pytest.fixture
def bearings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A healthy recording of 48,000 samples a second and a fault at each load, values 0, 1, 2, ..."""
    lengths = [4 * 100, 40, 50, 60, 70]
    signal = np.concatenate([np.arange(n) for n in lengths]).astype("<i2").view(np.uint8)
    return put(
        tmp_path, "cwru", monkeypatch,
        signal_lo=signal[0::2], signal_hi=signal[1::2], offset=np.cumsum([0, *lengths]),
        load_hp=[0, 0, 1, 2, 3], label10=[0, 4, 4, 5, 5], scale_g=[1 / 4096, 2 / 4096, 1 / 4096, 1 / 4096, 1 / 8192],
        fs=[48_000, 12_000, 12_000, 12_000, 12_000], names10=["normal", *"abcdefghi"],
    )  # fmt: skip


def test_bearings_are_split_by_load_and_time(bearings: Path, tmp_path: Path) -> None:
    data = datasets.cwru(window=10, root=tmp_path)
    # 100 healthy samples at the common rate: five windows end by 60 %, less the gap three begin 10 behind it
    assert data.y_train.tolist() == [0] * 6 + [4] * 9 + [5] * 6
    assert data.y_test.tolist() == [0] * 3 + [5] * 7
    assert data.about["load_train"].tolist() == [0] * 10 + [1] * 5 + [2] * 6
    assert set(data.about["load_test"][3:]) == {3}
    assert data.about["start_test"][:3].tolist() == [70, 80, 90]
    assert data.classes[0] == "normal" and len(data.classes) == 10
    assert "21 training and 10 test samples of 10" in repr(data)
    other = datasets.cwru(window=10, test_load=1, root=tmp_path)
    assert len(other.y_test) == 3 + 5 and set(other.about["load_train"]) == {0, 2, 3}


def test_bearings_have_one_scale(bearings: Path, tmp_path: Path) -> None:
    data = datasets.cwru(window=10, root=tmp_path)
    assert data.x_train.dtype == data.x_test.dtype == np.int16
    assert data.x_train[6].tolist() == list(range(0, 20, 2))  # 2/4096 g a step
    assert data.x_train[10].tolist() == list(range(10))
    assert data.x_test[3].tolist() == [0, 1, 1, 2, 2, 3, 3, 4, 4, 5]  # 1/8192 g a step, halves up
    # A low-pass leaves a ramp as it is, away from its ends, and every fourth sample is kept.
    assert np.abs(data.x_train[2].astype(int) - np.arange(80, 120, 4)).max() <= 1


@pytest.fixture
def spectra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    x = np.arange(12, dtype=np.int16).reshape(6, 2)
    return put(
        tmp_path, "spectrum_sensing", monkeypatch,
        x=x, power_dbm=np.array([-128, -128, -80, -128, -79, -128], np.int8), campaign=np.array([0, 1, 0, 1, 1, 0]),
        block=np.arange(6), role=np.array([0, 0, 1, 1, 2, 2]),
    )  # fmt: skip


def test_spectra_are_split_by_role(spectra: Path, tmp_path: Path) -> None:
    data = datasets.spectrum_sensing(root=tmp_path)
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([1, 0], [1, 0])
    assert data.x_train.tolist() == [[4, 5], [6, 7]]
    assert data.about["noise"].tolist() == [[0, 1], [2, 3]]
    assert data.about["noise_campaign"].tolist() == [0, 1]
    assert data.about["power_test"].tolist() == [-79, -128]
    assert data.about["block_train"].tolist() == [2, 3]


def test_drawings_are_split_by_alphabet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((3, 28, 28), np.uint8)
    images[1, 0, :2] = images[2, 27, 27] = 1
    put(
        tmp_path, "omniglot", monkeypatch,
        images=np.packbits(images.reshape(3, -1), axis=1), label=np.array([0, 300, 1], np.uint16),
        alphabet=np.array([0, 7, 0], np.uint8), drawer=np.array([1, 2, 3], np.uint8),
        is_evaluation=np.array([0, 1, 0], np.uint8), alphabet_names=[],
    )  # fmt: skip
    data = datasets.omniglot(root=tmp_path)
    assert data.x_train.shape == (2, 28, 28) and data.x_train.dtype == np.uint8
    assert np.array_equal(data.x_test[0], images[1] * 255) and np.array_equal(data.x_train[1], images[2] * 255)
    assert (data.y_train.tolist(), data.y_test.tolist(), data.y_train.dtype) == ([0, 1], [300], np.uint16)
    assert (data.about["alphabet_test"].tolist(), data.about["drawer_train"].tolist()) == ([7], [1, 3])
    assert len(data.classes) == 301


def test_words_are_summed_up_over_bands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bands = np.random.default_rng(0).integers(0, 256, (3, 49, 40)).astype(np.uint8)
    put(
        tmp_path, "kws_speech_commands", monkeypatch,
        logmel_fdelta=np.diff(bands, axis=2, prepend=np.uint8(0)), label=np.array([0, 1, 2]),
        speaker=np.array([-1, 4, 5]), word=np.array(["silence", "bed", "yes"]), is_test=np.array([0, 1, 0]),
        class_names=["silence", "unknown", "yes"],
    )  # fmt: skip
    data = datasets.speech_commands(root=tmp_path)
    assert np.array_equal(data.x_train, bands[[0, 2]]) and np.array_equal(data.x_test, bands[[1]])
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([0, 2], [1])
    assert (data.about["word_test"].tolist(), data.about["speaker_train"].tolist()) == (["bed"], [-1, 5])
    assert data.classes == ("silence", "unknown", "yes")


def test_activities_are_cut_into_windows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    signal = rng.integers(-(2**15), 2**15, (6, 600)).astype(np.int16)
    steps = np.diff(signal.view(np.uint16), axis=1, prepend=np.uint16(0))
    put(
        tmp_path, "har", monkeypatch,
        delta_lo=(steps & 255).astype(np.uint8), delta_hi=(steps >> 8).astype(np.uint8),
        offset=np.array([0, 300, 600]), experiment=np.array([1, 2]),
        # experiment, person, activity, first and last sample, both counted from 1: 200 samples have two windows
        segments=np.array([[1, 8, 3, 11, 210], [1, 8, 7, 211, 300], [2, 9, 6, 1, 128], [2, 9, 6, 129, 255]]),
        test_users=np.array([9]), activity_names=[f"activity {i}" for i in range(12)],
    )  # fmt: skip
    data = datasets.har(root=tmp_path)
    assert np.array_equal(data.x_train, [signal[:, 10:138].T, signal[:, 74:202].T])
    assert np.array_equal(data.x_test, [signal[:, 300:428].T])
    assert (data.y_train.tolist(), data.y_test.tolist()) == ([2, 2], [5])
    assert (data.about["user_train"].tolist(), data.about["start_train"].tolist()) == ([8, 8], [10, 74])
    assert data.classes == tuple(f"activity {i}" for i in range(6))


def test_watch_has_two_sensors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    x = {"accel": np.arange(6, dtype=np.int16).reshape(3, 2), "gyro": -np.arange(4, dtype=np.int16).reshape(2, 2)}
    columns: dict[str, Any] = {}
    for sensor, values in x.items():
        n = len(values)
        columns |= {f"{sensor}_x": values, f"{sensor}_y": np.arange(n), f"{sensor}_user": np.arange(n) + 1600}
        columns[f"{sensor}_is_test"] = np.arange(n) == n - 1
    put(tmp_path, "wisdm51_watch", monkeypatch, activity_names=["walking", "jogging", "stairs"], **columns)
    data = datasets.wisdm_watch(root=tmp_path)
    assert (data.x_train.tolist(), data.x_test.tolist()) == ([[0, 1], [2, 3]], [[4, 5]])
    assert (data.y_test.tolist(), data.about["user_test"].tolist()) == ([2], [1602])
    gyro = datasets.wisdm_watch(sensor="gyro", root=tmp_path)
    assert (gyro.x_train.tolist(), gyro.x_test.tolist()) == ([[0, -1]], [[-2, -3]])
    refused(ValueError, "accel", "magnet", call=lambda: datasets.wisdm_watch(sensor="magnet", root=tmp_path))


@pytest.mark.parametrize(
    ("load", "name", "licence"),
    [
        (datasets.cwru, "cwru", "names no licence"),
        (datasets.spectrum_sensing, "spectrum_sensing", "GPL"),
        (datasets.omniglot, "omniglot", "MIT"),
        (datasets.speech_commands, "kws_speech_commands", "CC BY"),
        (datasets.har, "har", "research only"),
        (datasets.wisdm_watch, "wisdm51_watch", "no licence"),
    ],
)
def test_absent_data_say_where_they_come_from(
    load: Any, name: str, licence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(FileNotFoundError, name, str(tmp_path), "GitHub", licence, call=lambda: load(root=tmp_path))
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    refused(FileNotFoundError, "TINTIN_DATA is not set", call=load)
    refused(ValueError, f"tintin.datasets.{load.__name__}()", call=lambda: datasets.load(load.__name__))


def test_altered_data_are_refused(bearings: Path, tmp_path: Path) -> None:
    bearings.write_bytes(bearings.read_bytes()[:-1])
    refused(datasets.DataError, str(bearings), "SHA-256", call=lambda: datasets.cwru(root=tmp_path))


def test_bad_arguments_are_told(bearings: Path, tmp_path: Path) -> None:
    refused(ValueError, "test_load", "4", call=lambda: datasets.cwru(test_load=4, root=tmp_path))
    refused(ValueError, "window", "0", call=lambda: datasets.cwru(window=0, root=tmp_path))
    refused(ValueError, "101", call=lambda: datasets.cwru(window=101, root=tmp_path))


HAVE_DATA = os.environ.get("TINTIN_DATA") and (Path(os.environ["TINTIN_DATA"]) / "cwru").is_dir()


@pytest.mark.skipif(not HAVE_DATA, reason="TINTIN_DATA does not hold the recordings, which nobody may ship")
def test_real_data() -> None:
    data = datasets.cwru()
    assert data.x_train.shape == (3235, 1024) and data.x_test.shape == (1092, 1024)
    assert np.bincount(data.y_test).tolist() == [22, 118, 119, 119, 120, 118, 119, 119, 119, 119]
    spectra = datasets.spectrum_sensing()
    assert np.bincount(spectra.y_train).tolist() == np.bincount(spectra.y_test).tolist() == [1400, 6000]
    assert spectra.about["noise"].shape == (1200, 59)
    drawings = datasets.omniglot()
    assert drawings.x_train.shape == (19_280, 28, 28) and drawings.x_test.shape == (13_180, 28, 28)
    assert len(drawings.classes) == 1623 and set(drawings.y_train).isdisjoint(drawings.y_test)
    words = datasets.speech_commands()
    assert words.x_train.shape == (3569, 49, 40) and words.x_test.shape == (1200, 49, 40)
    assert set(words.about["speaker_train"]) & set(words.about["speaker_test"]) <= {-1}
    activities = datasets.har()
    assert activities.x_train.shape == (7415, 128, 6) and activities.x_test.shape == (2996, 128, 6)
    watch = datasets.wisdm_watch()
    assert watch.x_train.shape == (11_170, 91) and watch.x_test.shape == (7041, 91)
    assert set(watch.about["user_train"]).isdisjoint(watch.about["user_test"]) and len(watch.classes) == 18
