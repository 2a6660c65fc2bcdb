"""From floats to mantissas with a power-of-two scale and back: the only floats besides what is printed."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray


class Quantized:
    """An int8 array whose real values are `mantissas * 2**exponent`; indexes and slices like an array.

    exponent: -128 to 127. A mantissa of -128 is taken as -127 by nets.
    """

    mantissas: NDArray[np.int8]
    exponent: int

    def __init__(self, mantissas: NDArray[np.int8], exponent: int) -> None:
        if not isinstance(mantissas, np.ndarray) or mantissas.dtype != np.int8:
            raise TypeError(
                f"mantissas must be an int8 array, got {getattr(mantissas, 'dtype', type(mantissas).__name__)}"
            )
        self.mantissas, self.exponent = mantissas, _exponent(exponent)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the mantissas."""
        return self.mantissas.shape

    def __len__(self) -> int:
        return len(self.mantissas)

    def __getitem__(self, index: Any) -> Quantized:
        return Quantized(np.asarray(self.mantissas[index]), self.exponent)

    def dequantize(self) -> NDArray[np.float32]:
        """The real values, float32."""
        return np.ldexp(self.mantissas.astype(np.float32), self.exponent).astype(np.float32)

    def __repr__(self) -> str:
        return f"Quantized(shape={self.shape}, exponent={self.exponent})"


def quantize(values: ArrayLike, exponent: int | None = None) -> Quantized:
    """Round real values to int8 mantissas times 2**exponent, an exponent of -128 to 127.

    Without `exponent` the smallest one that holds the largest magnitude is taken (7 bits, clipped to -127..127). Test
    data must get the exponent of the training data: `quantize(x_test, exponent=x.exponent)`; what does not fit then is
    clipped. Raises ValueError for NaN or infinity and for an array that is empty.
    """
    if exponent is not None:
        exponent = _exponent(exponent)
    array = np.asarray(values)
    if array.dtype.kind not in "fiub":
        raise TypeError(f"quantize takes real numbers, got an array of {array.dtype}")
    if array.size == 0:
        raise ValueError(f"quantize needs at least one value, got an empty array of shape {array.shape}")
    array = array.astype(np.float64)
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ValueError(f"quantize needs finite values, got NaN or infinity in {bad} of {array.size} places")
    if exponent is None:
        peak = float(np.abs(array).max())
        exponent = max(-128, int(np.frexp(peak)[1]) - 7) if peak > 0 else -7
        if exponent > 127:
            raise ValueError(f"quantize takes magnitudes up to 127 * 2^127, got {peak:g}: scale the values down first")
    with np.errstate(over="ignore"):  # what overflows is clipped like all that does not fit
        mantissas = np.clip(np.rint(np.ldexp(array, -exponent)), -127, 127)
    return Quantized(mantissas.astype(np.int8), exponent)


def _exponent(value: Any) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"exponent must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or not -128 <= number <= 127:
        raise ValueError(f"exponent must be a whole number, -128 to 127, got {value!r}")
    return number
