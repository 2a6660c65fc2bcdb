"""Every slot's output in the engine's integers, which the engine itself only shows of the last (N5, N10 to N14, N28).

Sums are float64 arrays of whole numbers below 2^53, so numpy's products are exact. What comes out last is what
`Sequential.predict` gives, mantissa by mantissa; tests hold it to that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..layers import Layer
from ._float import SUMS, FloatNet, Floats, kind, places, plain, pool_sums, products, reference

Ints = NDArray[np.int64]
Scale = tuple[int, int, int]

LIMIT = 1 << 30  # N12


@dataclass(frozen=True)
class Mantissas:
    """int8 mantissas of one tensor and its scale (N1)."""

    values: NDArray[np.int8]
    scale: Scale


@dataclass(frozen=True)
class Tensor:
    """Whole numbers (n, height, width, channels); scale: s for each sample, u and d for all."""

    values: Floats
    s: Ints
    u: int
    d: int

    def real(self) -> Floats:
        """The real values."""
        exponent = self.s + self.u * np.log2(0.8) + self.d * np.log2(4 / 3)
        values: Floats = self.values * np.exp2(exponent)[:, None, None, None]
        values[self.values == 0] = 0  # also where the scale is beyond float64
        return values


@dataclass(frozen=True)
class Output:
    """What a slot leaves, its first layer, and how many of its biases were clamped on the way (N12)."""

    first: int
    tensor: Tensor
    clamped: int


def forward(net: FloatNet, tensors: dict[tuple[int, bool], Mantissas], x: Tensor) -> dict[int, Output]:
    """Outputs by the index of the last layer of every slot. `tensors`: (layer, whether bias) -> mantissas."""
    found: dict[int, Output] = {}
    named = net.named()
    at: dict[int, int] = {}  # layer -> last layer of its slot
    i = 0
    while i < len(net.layers):
        layer, source = net.layers[i], net.source(i)
        given = x if source < 0 else found[at[source]].tensor
        first, clamped = i, 0
        if kind(layer) == "Branch":
            at[i] = at[reference(layer)]
            i += 1
            continue
        if kind(layer) in SUMS:
            if kind(layer) == "Add":
                sums = add(given, found[at[reference(layer)]].tensor)
            elif kind(layer) in ("AvgPool2d", "GlobalAvgPool2d"):
                m, e = factor(0, 0, places(layer, given.values))
                while m % 2 == 0:
                    m, e = m // 2, e + 1
                sums = Tensor(m * pool_sums(layer, given.values), given.s + e, given.u, given.d)
            else:
                sums, clamped = with_weights(i, layer, given, tensors)
            pooled = flat = False
            while i + 1 < len(net.layers) and i not in named:
                following = kind(net.layers[i + 1])
                pools = following == "MaxPool2d" and not (pooled or flat) and kind(layer) != "Add"
                if following not in ("Flatten", "ReLU") and not pools:
                    break
                i += 1
                pooled, flat = pooled or pools, flat or following == "Flatten"
                sums = Tensor(plain(net.layers[i], sums.values), sums.s, sums.u, sums.d)
            tensor = narrow(sums)
        else:
            tensor = Tensor(plain(layer, given.values), given.s, given.u, given.d)
        found[i] = Output(first, tensor, clamped)
        at |= dict.fromkeys(range(first, i + 1), i)
        i += 1
    return found


def with_weights(i: int, layer: Layer, x: Tensor, tensors: dict[tuple[int, bool], Mantissas]) -> tuple[Tensor, int]:
    """Product sums and biases, and how many biases were clamped."""
    weight = tensors[i, False]
    s, u, d = weight.scale
    sums = Tensor(products(layer, x.values, weight.values.astype(np.float64)), x.s + s, x.u + u, x.d + d)
    if (i, True) not in tensors:
        return sums, 0
    bias = tensors[i, True]
    m, e = factor(bias.scale[1] - sums.u, bias.scale[2] - sums.d, 1)
    start = bias.values.astype(np.int64)[None] * m
    right = (sums.s - bias.scale[0] - e)[:, None]
    aligned = align(start, right, LIMIT)
    clamped = int(np.count_nonzero((np.abs(aligned) == LIMIT) & (align(start, right, 2 * LIMIT) != aligned)))
    return Tensor(sums.values + aligned[:, None, None, :], sums.s, sums.u, sums.d), clamped


def narrow(sums: Tensor) -> Tensor:
    """N5, each sample with the peak of its own."""
    peak = np.abs(sums.values).max((1, 2, 3)).astype(np.int64)
    k = np.maximum(0, bits(peak) - 7)
    half = np.where(k > 0, np.exp2(k - 1.0), 0)
    values = np.floor((sums.values + half[:, None, None, None]) * np.exp2(-1.0 * k)[:, None, None, None])
    return Tensor(np.clip(values, -127, 127), sums.s + k, sums.u, sums.d)


def add(a: Tensor, b: Tensor) -> Tensor:
    """N28."""
    parts = []
    for given in (a, b):
        m, e = factor(given.u, given.d, 1)
        peak = np.abs(given.values).max((1, 2, 3)).astype(np.int64)
        parts.append((m, given.s + e, peak, given.values))
    (m_a, x_a, peak_a, _), (m_b, x_b, peak_b, _) = parts
    far = -(1 << 40)
    reach = np.maximum(
        np.where(peak_a > 0, x_a + bits(peak_a * m_a), far), np.where(peak_b > 0, x_b + bits(peak_b * m_b), far)
    )
    lowest: Ints = np.where(reach == far, x_a, reach) - 24
    values = np.zeros_like(a.values)
    for m, exponent, _, mantissas in parts:
        aligned = align(mantissas.astype(np.int64) * m, (lowest - exponent)[:, None, None, None], 1 << 24)
        values += aligned
    return Tensor(values, lowest, 0, 0)


def bits(v: Ints) -> Ints:
    """Bit lengths; 0 for 0."""
    return np.frexp(v.astype(np.float64))[1].astype(np.int64)


def align(v: Ints, s: Ints, limit: int) -> Ints:
    """N7: v · 2^-s, rounded to the nearest and clamped to ±limit; |v| < 2^16."""
    right = np.clip(s, 1, 32)
    rounded = np.where(s > 31, 0, (v + (1 << (right - 1))) >> right)
    shifted = v << np.clip(-s, 0, 46)  # 2^46 is beyond every limit, and leaves 63 bits
    return np.clip(np.where(s >= 1, rounded, shifted), -limit, limit)


def factor(u: int, d: int, n: int) -> tuple[int, int]:
    """N6: (4/5)^u · (4/3)^d / n as m · 2^e with 128 <= m <= 255."""
    v, e = 1 << 28, -28

    def normalised(v: int, e: int) -> tuple[int, int]:
        while v >= 1 << 29:
            v, e = v >> 1, e + 1
        while v < 1 << 28:
            v, e = v << 1, e - 1
        return v, e

    for count, up, down in ((u, (4, 5), (5, 4)), (d, (4, 3), (3, 4))):
        times, over = up if count > 0 else down
        for _ in range(abs(count)):
            v, e = normalised(v * times // over, e)
    if n > 1:
        v, e = normalised((v << 2) // n, e - 2)
    m, e = (v + (1 << 20)) >> 21, e + 21
    return (128, e + 1) if m == 256 else (m, e)
