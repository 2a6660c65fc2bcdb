"""What `Sequential` checks of its arguments before the engine sees them, with messages that tell given and expected."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .optimizers import Niti, TinTin
from .quantize import Quantized

#: losses by name, as the engine knows them
LOSSES = ("cross_entropy", "niti_cross_entropy", "squared_error")
#: squared error clamps outputs and targets there (N17)
TARGET_LIMIT = 64

Shape = tuple[int, int, int]


def samples(shape: Shape, x: Any, name: str) -> tuple[NDArray[Any], int]:
    """Contiguous uint8 or int8 samples of `shape` and their exponent."""
    exponent = -7
    if isinstance(x, Quantized):
        x, exponent = x.mantissas, x.exponent
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} must be a numpy array or the result of tintin.quantize, got {type(x).__name__}")
    if x.dtype not in (np.uint8, np.int8):
        hint = "pass it through tintin.quantize first" if x.dtype.kind == "f" else "convert it, or use tintin.quantize"
        raise TypeError(f"{name} must be uint8, int8 or quantised, got {x.dtype}: {hint}")
    h, w, c = shape
    if x.ndim < 1 or len(x) == 0:
        raise ValueError(f"{name} must hold at least one sample, got shape {x.shape}")
    allowed = {shape, (h * w * c,)} | ({(h, w)} if c == 1 else set()) | ({(w, c)} if h == 1 else set())
    if x.shape[1:] not in allowed:
        wanted = f"(n, {c})" if (h, w) == (1, 1) else f"(n, {h}, {w}, {c}), channels last"
        raise ValueError(f"{name} must have shape {wanted}; got {x.shape}")
    return np.ascontiguousarray(x), exponent


def labels(outputs: int, y: Any, n: int, name: str) -> NDArray[np.uint16]:
    """One class per sample."""
    y = integers(y, n, name)
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= outputs:
        bad = low if low < 0 else high
        # more classes than it was made for: what would do
        hint = "" if low < 0 else "; for more classes take more outputs, or a net that ends in features and net.adapt"
        raise ValueError(f"{name} must be 0 to {outputs - 1} for a net with {outputs} outputs, got {bad}{hint}")
    return np.ascontiguousarray(y, dtype=np.uint16)


def integers(y: Any, n: int, name: str) -> NDArray[Any]:
    """One whole number per sample."""
    found: NDArray[Any] = np.asarray(y)
    if found.dtype.kind not in "iub" or found.ndim != 1:
        raise TypeError(f"{name} must be integer labels of shape ({n},), got {found.dtype} of shape {found.shape}")
    if len(found) != n:
        raise ValueError(f"{name} must hold one label per sample: {n} samples, {len(found)} labels")
    return found


def values(outputs: int, y: Any, n: int, name: str) -> tuple[NDArray[np.int8], int]:
    """Target mantissas of squared error and their exponent."""
    exponent = -7
    if isinstance(y, Quantized):
        y, exponent = y.mantissas, y.exponent
    y = np.asarray(y)
    if y.dtype == np.uint8:
        y = (y >> 1).astype(np.int8)  # like samples, so that an auto-encoder's target is its input
    if y.dtype != np.int8:
        raise TypeError(f"{name} must be int8, uint8 or quantised for squared_error, got {y.dtype}")
    if y.ndim < 1 or len(y) != n or y.size != n * outputs:
        raise ValueError(f"{name} must have shape ({n}, {outputs}), got {y.shape}")
    peak = max(int(y.max()), -max(int(y.min()), -127)) * 2.0**exponent  # -128 is taken as -127
    if peak > TARGET_LIMIT:
        raise ValueError(
            f"{name} holds magnitudes up to {peak:g}, but squared_error saturates beyond {TARGET_LIMIT}: scale the "
            f"targets down before tintin.quantize, and what the net predicts up by the same factor"
        )
    return np.ascontiguousarray(y.reshape(n, outputs)), exponent


def optimizer(given: Any) -> TinTin | Niti:
    """TinTin unless told."""
    if given is None:
        return TinTin()
    if not isinstance(given, (TinTin, Niti)):
        raise TypeError(f"optimizer must be tintin.TinTin(...) or tintin.Niti(...), got {given!r}")
    return given


def input_shape(given: Any) -> Shape:
    """(height, width, channels); (n,) stands for (1, 1, n)."""
    try:
        shape = tuple(operator.index(v) for v in given)
    except TypeError:
        raise TypeError(f"input_shape must be (height, width, channels), got {given!r}") from None
    if len(shape) == 1:
        shape = (1, 1, *shape)
    if len(shape) != 3 or any(not 1 <= v < 2**32 for v in shape):
        raise ValueError(f"input_shape must be (height, width, channels), each at least 1, got {given!r}")
    return shape


def scale(given: Any) -> tuple[int, int, int]:
    """The three exponents of N1."""
    try:
        s, u, d = (operator.index(v) for v in given)
    except (TypeError, ValueError):
        raise TypeError(f"scale must be three whole numbers (s, u, d), got {given!r}") from None
    if not all(-128 <= v <= 127 for v in (s, u, d)):
        raise ValueError(f"scale must be (s, u, d), each -128 to 127, got {given!r}")
    return s, u, d


def loss(given: Any) -> str:
    """A loss the engine knows."""
    if not isinstance(given, str) or given not in LOSSES:
        raise ValueError(f"unknown loss {given!r}; known are {', '.join(LOSSES)}")
    return given


def callbacks(given: Any) -> list[Callable[..., Any]]:
    """A list of functions."""
    if callable(given):
        raise TypeError(f"callbacks must be a list of functions, got {given!r} alone")
    functions: list[Callable[..., Any]] = list(given)
    for function in functions:
        if not callable(function):
            raise TypeError(f"callbacks must be functions f(net, record), got {function!r}")
    return functions


def pair(given: Any) -> tuple[Any, Any]:
    """Validation data."""
    try:
        x, y = given
    except (TypeError, ValueError):
        raise ValueError("validation_data must be a pair (x, y)") from None
    return x, y


def count(name: str, value: Any, least: int = 1) -> int:
    """A whole number from `least` up, below 2^32."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if number >= 2**32:
        raise ValueError(f"{name} must be below 2^32, got {value!r}")
    return number
