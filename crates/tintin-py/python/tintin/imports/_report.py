"""Running a brought net in integers and in floats over the calibration samples, and telling how far they are apart."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .. import memory as _memory
from ._float import FloatNet, Floats, kind
from ._integers import Mantissas, Tensor, forward

#: samples at a time, so that maps of many layers fit memory
CHUNK = 16


@dataclass(frozen=True)
class LayerReport:
    """One layer with what works inside it. snr: signal to noise in dB, infinity where both agree fully.

    layer: index of its last layer. peak: largest float magnitude. clamped: biases that were too large for their sums
    (N12), counted over samples.
    """

    layer: int
    name: str
    snr: float
    peak: float
    clamped: int


@dataclass(frozen=True)
class ImportReport:
    """How well the integers keep to the float net on the calibration samples. `str()` gives a table.

    layers: one `LayerReport` for each layer that computes. snr: that of the outputs, in dB; 20 dB are one tenth of
    noise. agreement: share of samples whose largest output is the same. equalised: whether channels were scaled to like
    sizes. notes: what the import left out or changed.
    """

    layers: tuple[LayerReport, ...]
    snr: float
    agreement: float
    samples: int
    equalised: bool
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        rows = [("layer", "snr", "largest", "clamped")]
        for row in self.layers:
            clamped = f"{row.clamped:,}" if row.clamped else "-"
            rows.append((f"{row.layer} {row.name}", _decibel(row.snr), f"{row.peak:.4g}", clamped))
        lines = _memory.table(rows)
        lines.append(
            f"outputs {_decibel(self.snr)}, the floats' class in {self.agreement:.1%} of {self.samples:,} samples"
        )
        return "\n".join([*lines, *self.notes])


def check(
    net: FloatNet, tensors: dict[tuple[int, bool], Mantissas], x: NDArray[np.int8], exponent: int, equalised: bool
) -> ImportReport:
    """The report over mantissas `x` (n, height, width, channels) of scale 2^exponent."""
    signal: dict[int, float] = {}
    noise: dict[int, float] = {}
    peaks: dict[int, float] = {}
    clamped: dict[int, int] = {}
    names: dict[int, str] = {}
    same = 0
    for part in chunks(x):
        wanted = net.forward(part * 2.0**exponent)
        found = forward(net, tensors, Tensor(part, np.full(len(part), exponent, np.int64), 0, 0))
        for i, output in found.items():
            names[i] = " + ".join(map(kind, net.layers[output.first : i + 1]))
            real = output.tensor.real()
            signal[i] = signal.get(i, 0.0) + float((wanted[i] ** 2).sum())
            noise[i] = noise.get(i, 0.0) + float(((wanted[i] - real) ** 2).sum())
            peaks[i] = max(peaks.get(i, 0.0), float(np.abs(wanted[i]).max()))
            clamped[i] = clamped.get(i, 0) + output.clamped
        same += int((real.reshape(len(part), -1).argmax(1) == wanted[-1].reshape(len(part), -1).argmax(1)).sum())
    rows = tuple(LayerReport(i, names[i], _ratio(signal[i], noise[i]), peaks[i], clamped[i]) for i in sorted(signal))
    notes = list(net.notes)
    for row in rows:
        if row.clamped:
            notes.append(
                f"layer {row.layer}: biases were clamped {row.clamped} times: beside them the products of some samples "
                "are so small that 32 bits do not hold both"
            )
    last = rows[-1]
    return ImportReport(rows, last.snr, same / len(x), len(x), equalised, tuple(notes))


def check_limits(net: FloatNet, x: NDArray[np.int8], exponent: int) -> None:
    """Refuses a Clip(0, v) that the calibration samples reach."""
    if not net.limits:
        return
    reached = dict.fromkeys(net.limits, 0.0)
    for part in chunks(x):
        wanted = net.forward(part * 2.0**exponent)
        for i in reached:
            reached[i] = max(reached[i], float(wanted[i].max()))
    for i, (node, limit) in net.limits.items():
        if reached[i] > limit:
            raise ValueError(
                f"{node} clips at {limit:g}, and the calibration samples reach {reached[i]:.4g} there; the engine has "
                "no upper bound: train the float net with ReLU in place of ReLU6, or pass clip_as_relu=True to leave "
                "the bound out and test what it costs"
            )


def chunks(x: NDArray[np.int8]) -> Iterator[Floats]:
    """The samples as float64, some at a time."""
    for start in range(0, len(x), CHUNK):
        yield x[start : start + CHUNK].astype(np.float64)


def _ratio(signal: float, noise: float) -> float:
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _decibel(value: float) -> str:
    return f"{value:.1f} dB" if math.isfinite(value) else ("exact" if value > 0 else "lost")
