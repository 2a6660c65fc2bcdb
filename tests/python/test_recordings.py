"""Bearing and spectrum recordings: read from a folder of the user's own, checked, split, brought to one scale."""

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


@pytest.mark.parametrize(("load", "name"), [(datasets.cwru, "cwru"), (datasets.spectrum_sensing, "spectrum_sensing")])
def test_absent_data_say_where_they_come_from(
    load: Any, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    licence = {"cwru": "names no licence", "spectrum_sensing": "GPL"}[name]
    refused(FileNotFoundError, name, str(tmp_path), "GitHub", licence, call=lambda: load(root=tmp_path))
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    refused(FileNotFoundError, "TINTIN_DATA is not set", call=load)
    refused(ValueError, f"tintin.datasets.{name}()", call=lambda: datasets.load(name))


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
