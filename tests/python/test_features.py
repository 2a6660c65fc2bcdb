"""`tintin.features` against float transforms, against the device's formulas (by a pinned sum), and bad input."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import refused

from tintin import features

# Also in crates/tintin-mcu/src/features.rs, whose tests make the same numbers.
PINNED_BANDS, PINNED_MEASURES = 2648295670, 3669316841


def noise(n: int, width: int) -> np.ndarray:
    """int16 rows from N8's generator, the later ones quieter: row r is shifted by r mod 16."""
    state, values = 1, []
    for i in range(n * width):
        state = (state * 0x93D765DD + 0x9E3779B9) % 2**32
        values.append(((state >> 16) ^ 0x8000) - 0x8000 >> i // width % 16)
    return np.array(values).astype(np.int16).reshape(n, width)


def pinned(values: np.ndarray) -> int:
    total = 0
    for value in values.reshape(-1).tolist():
        total = (total * 31 + value) % 2**32
    return total


def test_bands_are_those_of_the_device() -> None:
    assert pinned(features.log_bands(noise(32, 1024))) == PINNED_BANDS


def test_measures_are_those_of_the_device() -> None:
    blocks = noise(48, 59)
    level = features.NoiseLevel.of(blocks[16:32])
    assert pinned(level.measure(blocks)) == PINNED_MEASURES


def test_bands_are_the_logarithm_of_the_energy() -> None:
    windows = np.random.default_rng(0).normal(0, 900, (50, 1024)).astype(np.int16)
    power = np.abs(np.fft.rfft(windows.astype(np.float64), axis=1)[:, :512]) ** 2
    power[:, 0] = 0
    exact = 8 * np.log2(power.reshape(50, 64, 8).sum(axis=2)) - 240
    # Rounded down by less than 1, the straight line for the logarithm takes up to 0.69 more, the transform the rest.
    difference = exact - features.log_bands(windows)
    assert difference.min() > -0.1 and difference.max() < 1.8


def test_bands_do_not_depend_on_the_neighbours() -> None:
    windows = noise(32, 1024)
    one_by_one = np.concatenate([features.log_bands(windows[i : i + 1]) for i in range(32)])
    assert np.array_equal(features.log_bands(windows), one_by_one)
    assert np.array_equal(features.log_bands(np.tile(windows, (20, 1))), np.tile(one_by_one, (20, 1)))


@pytest.mark.parametrize("value", [0, 5, -32768, 32767])
def test_a_constant_window_has_no_energy(value: int) -> None:
    bands = features.log_bands(np.full((1, 1024), value, np.int16))
    assert (bands[0, 1:] < -100).all() if value else (bands == -127).all()


def test_no_windows_give_no_bands() -> None:
    assert features.log_bands(np.zeros((0, 1024), np.int16)).shape == (0, 64)


def test_noise_is_measured_by_its_own_mean_and_deviation() -> None:
    blocks = np.random.default_rng(1).normal((100, -3000), (20, 700), (1000, 2)).astype(np.int16)
    level = features.NoiseLevel.of(blocks)
    assert np.abs(level.mean / 16 - blocks.mean(axis=0)).max() <= 1 / 32
    difference = blocks.std(axis=0) - level.deviation / 16
    assert (difference >= 0).all() and (difference < 0.07).all()
    exact = np.clip((blocks - blocks.mean(axis=0)) / blocks.std(axis=0) * 32, -127, 127)
    assert np.abs(level.measure(blocks) - exact).max() < 1


def test_a_constant_statistic_is_measured_in_steps() -> None:
    level = features.NoiseLevel.of(np.full((4, 1), 7, np.int16))
    assert level.measure(np.array([[6], [7], [8]], np.int16)).tolist() == [[-127], [0], [127]]


def test_bad_input_is_told() -> None:
    windows = np.zeros((2, 1024), np.int16)
    refused(TypeError, "windows", "int16", "float64", call=lambda: features.log_bands(windows.astype(float)))
    refused(ValueError, "windows", "1024", "(2, 512)", call=lambda: features.log_bands(windows[:, :512]))
    refused(ValueError, "(1024,)", call=lambda: features.log_bands(windows[0]))
    refused(ValueError, "1 to 1024 blocks", "0", call=lambda: features.NoiseLevel.of(windows[:0]))
    refused(ValueError, "1025", call=lambda: features.NoiseLevel.of(np.zeros((1025, 2), np.int16)))
    level = features.NoiseLevel.of(windows[:, :3])
    refused(ValueError, "(n, 3)", call=lambda: level.measure(windows))
