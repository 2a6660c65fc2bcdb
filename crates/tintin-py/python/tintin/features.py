"""From what a sensor gives to what a net takes, in integers alone, with the same bits as on a microcontroller.

Formulas and bounds are in `docs/applications.md`; the device's side is `crates/tintin-mcu/src/features.rs`.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

#: samples of a window of vibration, bands of its spectrum
WINDOW, BANDS = 1024, 64
#: most blocks that a noise level is learned from
BLOCKS = 1024

Integers = NDArray[np.int64]

_POINTS = WINDOW // 2
#: largest part of a point before a stage of the transform, so that i16 holds what comes out
_ROOM = 13_500
#: energy that becomes 0, in eighths of an octave
_MIDDLE = 240
_HALF = 1 << 14
#: windows transformed at once
_CHUNK = 512


def _turns() -> tuple[Integers, Integers]:
    """Cosine and sine of k / 1024 turns in 1/32767, turned step by step in 2^-62."""
    turn = 4_611_599_204_741_358_747, 28_296_773_447_188_932
    c, s = 1 << 62, 0
    table = []
    for _ in range(_POINTS):
        table.append([(v * 32_767 + (1 << 61)) >> 62 for v in (c, s)])
        c, s = (c * turn[0] - s * turn[1]) >> 62, (c * turn[1] + s * turn[0]) >> 62
    cosine, sine = np.array(table, np.int64).T
    return cosine, sine


_COSINE, _SINE = _turns()
_REVERSED = np.array([int(f"{i:09b}"[::-1], 2) for i in range(_POINTS)])


def log_bands(windows: Any) -> NDArray[np.int8]:
    """Logarithms of the energy in 64 equal bands from 0 to half the sampling rate: (n, 64) int8.

    windows: (n, 1024) int16 samples. One step is an eighth of an octave of energy (0.38 dB), 0 is 2^30 squared units of
    the samples; a band without energy gives -127. The constant part of a window does not count. Raises TypeError for
    what is not int16 and ValueError for another shape.
    """
    windows = _int16("windows", windows, WINDOW)
    parts = [_log_bands(windows[i : i + _CHUNK].astype(np.int64)) for i in range(0, len(windows), _CHUNK)]
    return np.concatenate(parts) if parts else np.zeros((0, BANDS), np.int8)


def _log_bands(x: Integers) -> NDArray[np.int8]:
    n = len(x)
    x, exponent = _fill(x)
    z = np.stack([x[:, 0::2][:, _REVERSED], x[:, 1::2][:, _REVERSED]])  # real and imaginary parts
    half = 1
    while half < _POINTS:
        for _ in range(2):
            down = (np.abs(z).max(axis=(0, 2)) > _ROOM).astype(np.int64)
            z, exponent = (z + down[:, None]) >> down[:, None], exponent + down
        low, high = np.moveaxis(z.reshape(2, n, -1, 2, half), 3, 0)
        (re, im), cosine, sine = high, _COSINE[:: _POINTS // half], _SINE[:: _POINTS // half]
        turned = (np.stack([re * cosine + im * sine, im * cosine - re * sine]) + _HALF) >> 15
        z = np.stack([low + turned, low - turned], axis=3).reshape(2, n, _POINTS)
        half *= 2
    (a, b), (c, d) = z, z[:, :, -np.arange(_POINTS)]
    even = np.stack([a + c, b - d]) >> 1
    re, im = (a - c) >> 1, (b + d) >> 1
    odd = (np.stack([im * _COSINE - re * _SINE, -im * _SINE - re * _COSINE]) + _HALF) >> 15
    energy = (((even + odd) >> 1) ** 2).sum(axis=0)
    energy[:, 0] = 0  # the constant part
    bands = energy.reshape(n, BANDS, -1).sum(axis=2)
    octave = _bits(bands) - 1
    eighths = 8 * octave + (((bands << 3) >> np.maximum(octave, 0)) & 7)
    value = np.clip(eighths + 16 * (exponent[:, None] + 1) - _MIDDLE, -127, 127)
    return np.where(bands == 0, -127, value).astype(np.int8)


def _fill(x: Integers) -> tuple[Integers, Integers]:
    """Quiet windows shifted up as far as there is room, and minus the shifts."""
    top = np.abs(x).max(axis=1)
    up = np.zeros(len(x), np.int64)
    for _ in range(15):
        up += (top > 0) & (top << (up + 1) <= _ROOM)
    return x << up[:, None], -up


def _bits(v: Integers) -> Integers:
    """Bit lengths of numbers below 2^53: what frexp finds is exact."""
    return np.frexp(v.astype(np.float64))[1].astype(np.int64)


@dataclass(frozen=True, eq=False)
class NoiseLevel:
    """How statistics behave in noise alone: means and standard deviations, both in sixteenths, (features,) int64."""

    mean: Integers
    deviation: Integers

    @classmethod
    def of(cls, blocks: Any) -> NoiseLevel:
        """Learned from blocks without a signal, (n, features) int16, at most 1,024 of them.

        Raises TypeError for what is not int16 and ValueError for none or too many.
        """
        blocks = _int16("blocks", blocks)
        n = len(blocks)
        if not 1 <= n <= BLOCKS:
            raise ValueError(f"a noise level needs 1 to {BLOCKS} blocks, got {n}")
        wide = blocks.astype(np.int64)
        total, squares = wide.sum(axis=0), (wide * wide).sum(axis=0)
        deviation = [isqrt(int(spread) << 8) // n for spread in n * squares - total * total]
        return cls((16 * total + n // 2) // n, np.array(deviation, np.int64))

    def measure(self, blocks: Any) -> NDArray[np.int8]:
        """Values in 1/32 of the noise's standard deviation from its mean, cut off at 4 of them: (n, features) int8.

        blocks: (n, features) int16. Raises TypeError for what is not int16 and ValueError for another shape.
        """
        blocks = _int16("blocks", blocks, len(self.mean))
        deviation = np.maximum(self.deviation, 1)  # a constant has none
        limit = 4 * deviation
        distance = np.clip(16 * blocks.astype(np.int64) - self.mean, -limit, limit)
        scaled = (distance * ((1 << 21) // deviation) + (1 << 15)) >> 16
        values: NDArray[np.int8] = np.clip(scaled, -127, 127).astype(np.int8)
        return values


def _int16(name: str, values: Any, width: int | None = None) -> NDArray[np.int16]:
    array = np.asarray(values)
    if array.dtype != np.int16:
        raise TypeError(f"{name} must be int16, got {array.dtype}")
    if array.ndim != 2 or width not in (None, array.shape[1]):
        raise ValueError(f"{name} must have the shape (n, {width or 'features'}), got {array.shape}")
    return array
