"""`Sequential`: a net in Python. Checks what it is given, loops over epochs, leaves all arithmetic to the engine."""

from __future__ import annotations

import operator
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _extras, _tintin
from . import layers as _layers
from . import memory as _memory
from .history import History, Record
from .layers import Layer
from .memory import Memory
from .optimizers import Niti, TinTin
from .quantize import Quantized

#: units of the engine's loss: 2^-16 bits, and nats per bit
_LOSS_UNIT = 2.0**-16
_NATS = float(np.log(2.0))
#: samples between two looks at the bar
_CHUNK = 4096
#: losses by name, as the engine knows them
_LOSSES = ("cross_entropy", "niti_cross_entropy", "squared_error")

Callback = Callable[["Sequential", Record], Any]
Samples = NDArray[Any] | Quantized


class Sequential:
    """A chain of layers trained in integers.

    layers: the layers in order. input_shape: (height, width, channels) of one sample; (n,) for a flat vector of n.
    seed: 0 to 2^32 - 1, decides initial weights, shuffling and rounding, on every machine alike.

    Samples `x` are uint8 pixels 0..255 (taken as x / 2 with scale 2^-7), int8 mantissas with scale 2^-7, or the result
    of `tintin.quantize`; shape (n, height, width, channels), with channels left out where there is one, or any shape of
    as many values a sample.
    """

    _engine: _tintin.Engine

    def __init__(self, layers: Sequence[Layer], input_shape: Sequence[int], seed: int = 0) -> None:
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list of layers, got {layers!r}")
        layers = list(layers)
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{i}] must be a tintin layer such as tintin.Linear(10), got {layer!r}")
        self._engine = _tintin.Engine([layer.spec() for layer in layers], _shape(input_shape), _count("seed", seed, 0))

    @classmethod
    def _of(cls, engine: _tintin.Engine) -> Sequential:
        net = cls.__new__(cls)
        net._engine = engine
        return net

    # What it is

    @property
    def layers(self) -> list[Layer]:
        """The layers in order."""
        return [_layers.from_spec(spec) for spec in self._engine.layers()]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(height, width, channels) of one sample."""
        return self._engine.input_shape

    @property
    def outputs(self) -> int:
        """Number of outputs."""
        return self._engine.outputs

    @property
    def seed(self) -> int:
        """Seed of all random draws."""
        return self._engine.seed

    @property
    def step(self) -> int:
        """Training steps so far."""
        return self._engine.step

    def digest(self) -> int:
        """64-bit hash over all weights and scales (N24): equal digests, equal nets, on every machine."""
        return self._engine.digest()

    def tensors(self) -> list[dict[str, Any]]:
        """Weights and biases: dicts of layer (index), bias (bool), mantissas (int8 array) and scale (s, u, d).

        Real value = mantissa * 2**s * (4/5)**u * (4/3)**d (N1).
        """
        return self._engine.tensors()

    def set_tensor(self, layer: int, mantissas: NDArray[np.int8], scale: Sequence[int], *, bias: bool = False) -> None:
        """Replace the mantissas (int8, -127..127, in the order of `tensors`) and scale of one weight or bias tensor."""
        array = np.asarray(mantissas)
        if array.dtype != np.int8:
            raise TypeError(f"mantissas must be int8, got {array.dtype}")
        flat = np.ascontiguousarray(array).reshape(-1)
        self._engine.set_tensor(_count("layer", layer, 0), bool(bias), flat, _scale(scale))

    def memory(
        self, batch_size: int = 1, training: bool = True, *, train_from: int = 0, limit: int | None = None
    ) -> Memory:
        """RAM and flash on a microcontroller, byte by byte, from the plan; nothing runs.

        train_from: index of the first layer that is trained; those before stay in flash. limit: bytes of RAM; a plan
        above it raises ValueError with the words the compiler uses.
        """
        batch_size = _count("batch_size", batch_size)
        if limit is not None:
            limit = _count("limit", limit, 0)
        plan = self._engine.plan(batch_size, _count("train_from", train_from, 0), bool(training), limit)
        return _memory.from_plan(plan, batch_size, training)

    def summary(self) -> str:
        """Table of layers with output shapes and weights, and RAM and flash of training and inference."""
        rows = [("layer", "output", "weights", "products")]
        counts = {row["layer"]: row for row in self.memory(training=False).by_layer}
        for i, (layer, shape) in enumerate(zip(self.layers, self._engine.shapes(), strict=True)):
            row = counts.get(i, {"weights": 0, "products": 0})
            size = f"{shape[2]}" if shape[:2] == (1, 1) else " x ".join(map(str, shape))
            rows.append((f"{i} {layer}", size, f"{row['weights']:,}", f"{row['products']:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            f"{a:<{widths[0]}}  {b:>{widths[1]}}  {c:>{widths[2]}}  {d:>{widths[3]}}".rstrip() for a, b, c, d in rows
        ]
        lines.insert(1, "-" * (sum(widths) + 6))
        infer = self.memory(training=False)
        try:
            train = f"{self.memory().total:,} bytes"
        except ValueError as error:  # a net can be good for prediction alone
            train = f"not possible ({error})"
        lines += [
            "-" * (sum(widths) + 6),
            f"input {' x '.join(map(str, self.input_shape))}, {infer.weights:,} weights of one byte, step {self.step}",
            f"RAM    training, batch 1: {train}   inference: {infer.total:,} bytes",
            f"flash  model as stored: {infer.flash:,} bytes (training keeps its weights in RAM)",
        ]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"Sequential({self.layers!r}, input_shape={self.input_shape}, seed={self.seed})"

    def __eq__(self, other: object) -> bool:
        """Equal layers, weights, scales, seed, step and recipe: all that a file holds."""
        return self._engine.to_bytes() == other._engine.to_bytes() if isinstance(other, Sequential) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it changes

    # Learning

    def fit(
        self,
        x: Samples,
        y: Any,
        epochs: int = 1,
        batch_size: int = 32,
        optimizer: TinTin | Niti | None = None,
        *,
        loss: str | None = None,
        validation_data: tuple[Any, Any] | None = None,
        shuffle: bool = True,
        callbacks: Sequence[Callback] = (),
        progress: bool | None = None,
        train_from: int = 0,
    ) -> History:
        """Train for `epochs` passes over the samples and return one record per epoch.

        y: integer labels (n,), or for loss "squared_error" int8 or quantised targets of (n, outputs).
        An epoch is cut into ceil(n / batch_size) batches whose sizes differ by one at most, so none is a small rest.
        optimizer: `TinTin()` unless told. loss: "cross_entropy" (TinTin's default), "niti_cross_entropy" (Niti's) or
        "squared_error" (half the squared distance, summed over outputs). validation_data: (x, y), told after every
        epoch. shuffle: by the seed and the step. callbacks: called as f(net, record) after each epoch. progress: a bar;
        None shows one on a terminal. train_from: index of the first layer to train, those before stay as they are.
        Ctrl-C stops between batches; the net then holds all steps done so far.
        """
        epochs, optimizer = _count("epochs", epochs), _optimizer(optimizer)
        loss = _known(optimizer.default_loss if loss is None else loss)
        callbacks = _callbacks(callbacks)
        data = _Data(self, x, y, loss, "x", "y")
        held_out = None if validation_data is None else _validation(self, validation_data, loss)
        n = len(data)
        batch_size = _count("batch_size", batch_size)
        if batch_size > n:
            raise ValueError(f"batch_size {batch_size} is larger than the {n} samples given")
        batches = -(-n // batch_size)
        ends = [(i + 1) * n // batches for i in range(batches)]
        recipe = optimizer.recipe(loss, batch_size, self.step, epochs * batches)
        history = History()
        order = np.arange(n, dtype=np.uint32)
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            if shuffle:
                order = _tintin.shuffle(self.seed, self.step, n)
            bar = _extras.bar(total=n, label=f"epoch {epoch}/{epochs}", unit=" samples", show=progress, binary=False)
            total = correct = 0
            at = 0
            try:
                while at < batches:
                    # all batches of one chunk in one call: those of equal size
                    until = _chunk(ends, at)
                    first = ends[at - 1] if at else 0
                    size = ends[at] - first
                    part = order[first : ends[until - 1]]
                    added, right = data.train(part, size, recipe, train_from)
                    total, correct, at = total + added, correct + right, until
                    if bar is not None:
                        bar.update(len(part))
            finally:
                if bar is not None:
                    bar.close()
            record: Record = {"epoch": epoch, "loss": data.mean(total)}
            if data.labels:
                record["accuracy"] = correct / n
            if held_out is not None:
                record["val_loss"], accuracy = held_out.evaluate()
                if held_out.labels:
                    record["val_accuracy"] = accuracy
            key = "mu" if recipe.rule == "niti" else "learning_shift"
            record[key] = recipe.at(max(self.step, 1) - 1)
            record["seconds"] = time.perf_counter() - start
            history.append(record)
            for callback in callbacks:
                callback(self, dict(record))
        return history

    def partial_fit(
        self,
        x: Samples,
        y: Any,
        optimizer: TinTin | Niti | None = None,
        *,
        loss: str | None = None,
        train_from: int = 0,
    ) -> tuple[float, float]:
        """One training step on all of `x` as one batch; returns its mean loss and accuracy before the step."""
        optimizer = _optimizer(optimizer)
        loss = _known(optimizer.default_loss if loss is None else loss)
        data = _Data(self, x, y, loss, "x", "y")
        n = len(data)
        total, correct = data.train(np.arange(n, dtype=np.uint32), n, optimizer.recipe(loss, n), train_from)
        return data.mean(total), correct / n

    def initialise(self, seed: int) -> None:
        """Draw new initial weights from `seed` and start again at step 0."""
        self._engine.initialise(_count("seed", seed, 0))

    # Using

    def predict(self, x: Samples) -> NDArray[np.int64]:
        """Class of each sample, (n,) int64: the index of its first largest output. Independent of how `x` is split."""
        array, exponent = _samples(self, x, "x")
        classes: NDArray[np.int64] = np.argmax(self._engine.predict(array, exponent)[0], axis=1)
        return classes

    def logits(self, x: Samples) -> NDArray[np.float32]:
        """Real outputs of each sample, (n, outputs) float32."""
        array, exponent = _samples(self, x, "x")
        mantissas, scales = self._engine.predict(array, exponent)
        s, u, d = scales.astype(np.float64).T[:, :, None]
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinity
            real: NDArray[np.float32] = (mantissas * 2.0**s * 0.8**u * (4 / 3) ** d).astype(np.float32)
        real[mantissas == 0] = 0  # also where the scale itself is beyond float64
        return real

    def evaluate(self, x: Samples, y: Any, loss: str | None = None) -> tuple[float, float]:
        """Mean loss and accuracy without learning. The loss is that of the last training unless told."""
        data = _Data(self, x, y, _known(self._loss() if loss is None else loss), "x", "y")
        return data.evaluate()

    def score(self, x: Samples, y: Any) -> float:
        """Share of samples whose class is right; for a net trained on squared error minus the mean loss."""
        loss, accuracy = self.evaluate(x, y)
        return -loss if self._loss() == "squared_error" else accuracy

    def _loss(self) -> str:
        recipe = self._engine.recipe
        return "cross_entropy" if recipe is None else recipe.loss

    # Keeping

    def to_bytes(self) -> bytes:
        """The net as the bytes of a .tin file."""
        return self._engine.to_bytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Sequential:
        """The net in the bytes of a .tin file."""
        return cls._of(_tintin.Engine.from_bytes(data))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a .tin file (`docs/format.md`), whole or not at all."""
        from .report import write_atomically

        data = self._engine.to_bytes()
        write_atomically(path, lambda stream: stream.write(data))

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self._engine.to_bytes(),)

    def __deepcopy__(self, memo: Any) -> Sequential:
        return type(self).from_bytes(self._engine.to_bytes())

    __copy__ = lambda self: self.__deepcopy__(None)  # noqa: E731 (a shared engine would be no copy)


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a .tin file. ValueError if it is not one, was altered, or belongs to another version."""
    path = Path(path)
    data = path.read_bytes()
    try:
        return Sequential.from_bytes(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _from_bytes(data: bytes) -> Sequential:
    return Sequential.from_bytes(data)


class _Data:
    """Samples and targets as the engine takes them, checked."""

    def __init__(self, net: Sequential, x: Any, y: Any, loss: str, x_name: str, y_name: str) -> None:
        self.engine, self.loss = net._engine, loss
        self.x, self.exponent = _samples(net, x, x_name)
        self.labels = loss != "squared_error"
        self.y: NDArray[Any]
        self.y_exponent: int | None
        if self.labels:
            self.y, self.y_exponent = _labels(net, y, len(self.x), y_name), None
        else:
            self.y, self.y_exponent = _values(net, y, len(self.x), y_name)

    def __len__(self) -> int:
        return len(self.x)

    def mean(self, total: int) -> float:
        """Mean loss per sample: nats, or half the squared distance."""
        return total * _LOSS_UNIT / len(self) * (_NATS if self.labels else 1.0)

    def train(self, order: NDArray[np.uint32], size: int, recipe: _tintin.Recipe, train_from: int) -> tuple[int, int]:
        return self.engine.train(
            self.x, self.exponent, self.y, self.y_exponent, order, size, recipe, _count("train_from", train_from, 0)
        )

    def evaluate(self) -> tuple[float, float]:
        total, correct = self.engine.evaluate(self.x, self.exponent, self.y, self.y_exponent, self.loss)
        return self.mean(total), correct / len(self)


def _chunk(ends: list[int], at: int) -> int:
    """Index behind the last batch from `at` on that has the same size, within about `_CHUNK` samples."""
    start = ends[at - 1] if at else 0
    size = ends[at] - start
    until = at + 1
    while until < len(ends) and ends[until] - ends[until - 1] == size and ends[until] - start <= _CHUNK:
        until += 1
    return until


def _validation(net: Sequential, data: Any, loss: str) -> _Data:
    try:
        x, y = data
    except (TypeError, ValueError):
        raise ValueError("validation_data must be a pair (x, y)") from None
    return _Data(net, x, y, loss, "validation x", "validation y")


def _samples(net: Sequential, x: Any, name: str) -> tuple[NDArray[Any], int]:
    """Contiguous uint8 or int8 samples and their exponent."""
    exponent = -7
    if isinstance(x, Quantized):
        x, exponent = x.mantissas, x.exponent
    if not isinstance(x, np.ndarray):
        raise TypeError(f"{name} must be a numpy array or the result of tintin.quantize, got {type(x).__name__}")
    if x.dtype not in (np.uint8, np.int8):
        hint = "pass it through tintin.quantize first" if x.dtype.kind == "f" else "convert it, or use tintin.quantize"
        raise TypeError(f"{name} must be uint8, int8 or quantised, got {x.dtype}: {hint}")
    h, w, c = shape = net.input_shape
    if x.ndim < 1 or len(x) == 0:
        raise ValueError(f"{name} must hold at least one sample, got shape {x.shape}")
    allowed = {shape, (h * w * c,)} | ({(h, w)} if c == 1 else set()) | ({(w, c)} if h == 1 else set())
    if x.shape[1:] not in allowed:
        wanted = f"(n, {c})" if (h, w) == (1, 1) else f"(n, {h}, {w}, {c}), channels last"
        raise ValueError(f"{name} must have shape {wanted}; got {x.shape}")
    return np.ascontiguousarray(x), exponent


def _labels(net: Sequential, y: Any, n: int, name: str) -> NDArray[np.uint16]:
    y = np.asarray(y)
    if y.dtype.kind not in "iub" or y.ndim != 1:
        raise TypeError(f"{name} must be integer labels of shape ({n},), got {y.dtype} of shape {y.shape}")
    if len(y) != n:
        raise ValueError(f"{name} must hold one label per sample: {n} samples, {len(y)} labels")
    low, high = int(y.min()), int(y.max())
    if low < 0 or high >= net.outputs:
        bad = low if low < 0 else high
        raise ValueError(f"{name} must be 0 to {net.outputs - 1} for a net with {net.outputs} outputs, got {bad}")
    return np.ascontiguousarray(y, dtype=np.uint16)


def _values(net: Sequential, y: Any, n: int, name: str) -> tuple[NDArray[np.int8], int]:
    exponent = -7
    if isinstance(y, Quantized):
        y, exponent = y.mantissas, y.exponent
    y = np.asarray(y)
    if y.dtype == np.uint8:
        y = (y >> 1).astype(np.int8)  # like samples, so that an auto-encoder's target is its input
    if y.dtype != np.int8:
        raise TypeError(f"{name} must be int8, uint8 or quantised for squared_error, got {y.dtype}")
    if y.ndim < 1 or len(y) != n or y.size != n * net.outputs:
        raise ValueError(f"{name} must have shape ({n}, {net.outputs}), got {y.shape}")
    return np.ascontiguousarray(y.reshape(n, net.outputs)), exponent


def _optimizer(optimizer: Any) -> TinTin | Niti:
    if optimizer is None:
        return TinTin()
    if not isinstance(optimizer, (TinTin, Niti)):
        raise TypeError(f"optimizer must be tintin.TinTin(...) or tintin.Niti(...), got {optimizer!r}")
    return optimizer


def _shape(input_shape: Any) -> tuple[int, int, int]:
    try:
        shape = tuple(operator.index(v) for v in input_shape)
    except TypeError:
        raise TypeError(f"input_shape must be (height, width, channels), got {input_shape!r}") from None
    if len(shape) == 1:
        shape = (1, 1, *shape)
    if len(shape) != 3 or any(not 1 <= v < 2**32 for v in shape):
        raise ValueError(f"input_shape must be (height, width, channels), each at least 1, got {input_shape!r}")
    return shape


def _scale(scale: Any) -> tuple[int, int, int]:
    try:
        s, u, d = (operator.index(v) for v in scale)
    except (TypeError, ValueError):
        raise TypeError(f"scale must be three whole numbers (s, u, d), got {scale!r}") from None
    if not all(-128 <= v <= 127 for v in (s, u, d)):
        raise ValueError(f"scale must be (s, u, d), each -128 to 127, got {scale!r}")
    return s, u, d


def _known(loss: Any) -> str:
    if not isinstance(loss, str) or loss not in _LOSSES:
        raise ValueError(f"unknown loss {loss!r}; known are {', '.join(_LOSSES)}")
    return loss


def _callbacks(callbacks: Any) -> list[Callback]:
    if callable(callbacks):
        raise TypeError(f"callbacks must be a list of functions, got {callbacks!r} alone")
    functions: list[Callback] = list(callbacks)
    for function in functions:
        if not callable(function):
            raise TypeError(f"callbacks must be functions f(net, record), got {function!r}")
    return functions


def _count(name: str, value: Any, least: int = 1) -> int:
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be a whole number, got {value!r}") from None
    if isinstance(value, bool) or number < least:
        raise ValueError(f"{name} must be a whole number of at least {least}, got {value!r}")
    if number >= 2**32:
        raise ValueError(f"{name} must be below 2^32, got {value!r}")
    return number
