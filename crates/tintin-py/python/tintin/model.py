"""`Sequential`: a net in Python. Checks what it is given, loops over epochs, leaves all arithmetic to the engine."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import _checks, _episodes, _extras, _tintin
from . import adapt as _adapt
from . import layers as _layers
from . import memory as _memory
from ._data import Data, chunk
from ._files import write_atomically
from .adapt import Adapted
from .history import History, Record, figures
from .layers import Layer
from .memory import Memory
from .optimizers import Niti, TinTin
from .quantize import Quantized

Callback = Callable[["Sequential", Record], Any]
Samples = NDArray[Any] | Quantized


class Sequential:
    """A chain of layers trained in integers.

    layers: the layers in order. input_shape: (height, width, channels) of one sample; (n,) for a flat vector of n.
    seed: 0 to 2^32 - 1, decides initial weights, shuffling and rounding, on every machine alike.

    Samples `x` are uint8 pixels 0..255 (taken as x / 2 with scale 2^-7), int8 mantissas with scale 2^-7 (-128 is taken
    as -127), or the result of `tintin.quantize`. Their shape is (n, height, width, channels), flat (n, height * width *
    channels), (n, height, width) where there is one channel, or (n, width, channels) where the height is 1.

    Raises ValueError for layers that cannot follow each other, with the layer and the reason, and TypeError for what is
    no layer. All methods raise TypeError for a wrong type and ValueError for a wrong value, and then change nothing.
    """

    _engine: _tintin.Engine

    def __init__(self, layers: Sequence[Layer], input_shape: Sequence[int], seed: int = 0) -> None:
        if isinstance(layers, Layer):
            raise TypeError(f"layers must be a list of layers, got {layers!r}")
        layers = list(layers)
        for i, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{i}] must be a tintin layer such as tintin.Linear(10), got {layer!r}")
        self._engine = _tintin.Engine(
            [layer.spec() for layer in layers], _checks.input_shape(input_shape), _checks.count("seed", seed, 0)
        )

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
        self._engine.set_tensor(_checks.count("layer", layer, 0), bool(bias), flat, _checks.scale(scale))

    def memory(
        self,
        batch_size: int = 1,
        training: bool = True,
        *,
        train_from: int = 0,
        limit: int | None = None,
        policy: str | None = None,
        choices: _adapt.Choices | None = None,
        inspect: float | int = _adapt.INSPECT,
    ) -> Memory:
        """RAM and flash on a microcontroller, byte by byte, from the plan; nothing runs.

        train_from: index of the first layer that is trained; those before stay in flash. limit: bytes of RAM; a plan
        above it raises ValueError with the words the compiler uses.

        policy: the plan of an adaptation that trains by this policy (see `adapt`); those that choose by the samples
        ("tinytrain", "random_channels") need `choices`, [(layer, number of rows), ...], such as `Adapted.choices`, and
        stay below their memory_budget whatever they choose. Of a layer of which some rows learn these rows alone lie in
        RAM, but all of them where the policy changes them as it learns: tell it beside the choices of "random_channels"
        and "dynamic". inspect: as in `adapt`.
        """
        batch_size = _checks.count("batch_size", batch_size)
        if limit is not None:
            limit = _checks.count("limit", limit, 0)
        if policy is not None or choices is not None:
            if train_from != 0 or not training:
                raise ValueError("policy and choices tell what is trained: leave out train_from and training=False")
            named = _adapt.planned(self, policy, choices, batch_size, inspect)
            if not named and policy in ("none", *_adapt.CHOSEN_BY_SAMPLES):
                return _memory.from_plan(self._engine.plan(1, 0, False, limit), 1, False)
            plan = self._engine.plan_choice(batch_size, named, limit, policy in _adapt.REDRAWN)
            return _memory.from_plan(plan, batch_size, True)
        plan = self._engine.plan(batch_size, _checks.count("train_from", train_from, 0), bool(training), limit)
        return _memory.from_plan(plan, batch_size, training)

    def summary(self) -> str:
        """Table of layers with output shapes and weights, and RAM and flash by role of training and inference."""
        infer = self.memory(training=False)
        rows = [("layer", "output", "weights", "products")]
        counts = {row["layer"]: row for row in infer.by_layer}
        for i, (layer, shape) in enumerate(zip(self.layers, self._engine.shapes(), strict=True)):
            row = counts.get(i, {"weights": 0, "products": 0})
            size = f"{shape[2]}" if shape[:2] == (1, 1) else " x ".join(map(str, shape))
            rows.append((f"{i} {layer}", size, f"{row['weights']:,}", f"{row['products']:,}"))
        lines = _memory.table(rows)
        rule = "-" * max(map(len, lines))
        lines.insert(1, rule)
        plans, note = [infer], _memory.NOT_COUNTED
        try:
            plans.insert(0, self.memory())
        except ValueError as error:  # a net can be good for prediction alone
            note = f"Training is not possible ({error}). {note}"
        lines += [
            rule,
            f"input {' x '.join(map(str, self.input_shape))}, {infer.weights:,} weights of one byte, step {self.step}",
            "",
            *_memory.side_by_side(plans),
            note,
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

        y: integer labels (n,), or for loss "squared_error" int8, uint8 or quantised targets of (n, outputs) within -64
        to 64, where that loss saturates. An epoch is cut into ceil(n / batch_size) batches whose sizes differ by one at
        most, so none is a small rest. optimizer: `TinTin()` unless told; its milestones are shares of this one fit.
        loss: "cross_entropy" (TinTin's default), "niti_cross_entropy" (Niti's) or "squared_error" (half the squared
        distance, summed over outputs). validation_data: (x, y), told after every epoch. shuffle: by the seed and the
        step. callbacks: called as f(net, record) after each epoch; one that returns True ends the training there.
        progress: a bar; None shows one on a terminal. train_from: index of the first layer to train, those before stay
        as they are. Ctrl-C stops between batches; the net then holds all steps done so far.

        The history tells the mean loss, in nats per sample (for "squared_error" half the squared distance per sample),
        and for labels the accuracy, both as the net was when it met each batch.
        Raises TypeError or ValueError, before anything is trained, for samples, targets and settings that do not fit
        the net, each other or the ranges told here, and for a batch whose sums could overflow.
        """
        epochs, optimizer = _checks.count("epochs", epochs), _checks.optimizer(optimizer)
        loss = _checks.loss(optimizer.default_loss if loss is None else loss)
        functions = _checks.callbacks(callbacks)
        data = Data(self, x, y, loss)
        held_out = None
        if validation_data is not None:
            held_out = Data(self, *_checks.pair(validation_data), loss, "validation ")
        n = len(data)
        batch_size = _checks.count("batch_size", batch_size)
        if batch_size > n:
            raise ValueError(f"batch_size {batch_size} is larger than the {n} samples given")
        train_from = _checks.count("train_from", train_from, 0)
        batches = -(-n // batch_size)
        ends = [(i + 1) * n // batches for i in range(batches)]
        largest = -(-n // batches)
        recipe = optimizer.recipe(loss, batch_size, self.step, epochs * batches)
        history = History()
        order = np.arange(n, dtype=np.uint32)
        for epoch in range(1, epochs + 1):
            start = time.perf_counter()
            if shuffle:
                order = _tintin.shuffle(self.seed, self.step, n)
            bar = _extras.bar(n, f"epoch {epoch}/{epochs}", progress, _extras.FIGURES)
            record: Record = {"epoch": epoch}
            total = correct = at = done = 0
            try:
                while at < batches:
                    until = batches if bar is None else chunk(ends, at)
                    part = order[done : ends[until - 1]]
                    own = [end - done for end in ends[at:until]]
                    added, right = data.train(part, own, largest, recipe, train_from)
                    total, correct, at, done = total + added, correct + right, until, ends[until - 1]
                    record |= data.record(total, correct, done)
                    if bar is not None:
                        bar.set_postfix_str(figures(record), refresh=False)
                        bar.update(len(part))
                if held_out is not None:
                    record |= {f"val_{key}": value for key, value in held_out.evaluate().items()}
                if bar is not None:
                    bar.set_postfix_str(figures(record))
            finally:
                if bar is not None:
                    bar.close()
            record["mu" if recipe.rule == "niti" else "learning_shift"] = recipe.at(max(self.step, 1) - 1)
            record["loss_name"] = loss
            record["seconds"] = time.perf_counter() - start
            history.append(record)
            # all are called; numpy's True counts too
            answers = [function(self, dict(record)) for function in functions]
            if any(isinstance(answer, (bool, np.bool_)) and answer for answer in answers):
                break
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
        """One training step on all of `x` as one batch; returns its mean loss and accuracy before the step.

        The rate is constant: the optimizer's start, without its milestones, because how long the training will be is
        not known here; pass another optimizer to change it. Arguments, units and errors are those of `fit`; for
        "squared_error" the accuracy is 0.0.
        """
        optimizer = _checks.optimizer(optimizer)
        loss = _checks.loss(optimizer.default_loss if loss is None else loss)
        data = Data(self, x, y, loss)
        n = len(data)
        train_from = _checks.count("train_from", train_from, 0)
        recipe = optimizer.recipe(loss, n)
        total, correct = data.train(np.arange(n, dtype=np.uint32), [n], n, recipe, train_from)
        return data.mean(total, n), correct / n

    def adapt(
        self,
        x_support: Samples,
        y_support: Any,
        *,
        memory_budget: int | None = None,
        compute_budget: float = 0.15,
        steps: int = 40,
        policy: str = "tinytrain",
        batch_size: int = 5,
        optimizer: TinTin | Niti | None = None,
        temperature: int = _adapt.TEMPERATURE,
        shift: int | tuple[int, int] = 1,
        ratio: float = 0.5,
        inspect: float | int = _adapt.INSPECT,
        choices: _adapt.Choices | None = None,
        rows: tuple[float, float] = (0.1, 0.9),
    ) -> Adapted:
        """Learn new classes from a few samples within a budget; the net stays as it is, an `Adapted` is returned.

        The net's outputs are taken as features, so it should end in them, not in classes (`tintin.zoo`, outputs=None):
        1 to 1024 of them. x_support: samples; y_support: integer labels (n,), any numbers, at least 2 classes of at
        least 2 samples. Prototypes of the classes are made of the samples; the same samples moved by up to `shift`
        places (0 to 255, or a pair down, right) are the queries it learns from.

        policy: what learns. "none": nothing, the prototypes are those of the net as it is.
        "tinytrain": layers by Fisher information over their cost while both budgets hold, in them the rows with most
        information (arXiv 2307.09988). memory_budget: bytes of RAM of the training plan; None: any. compute_budget:
        share of the multiply-accumulates of a full backward pass. ratio: most of a layer's rows that learn.
        "random_channels": the same layers, rows drawn anew for every pass (TraDy, arXiv 2510.19675).
        "full": all. "last_layer": the last with weights (TinyOL). "bias_only": the biases of the inspected layers.
        "sparse": `choices`, [(layer, number of rows), ...], rows by the size of their weights (arXiv 2206.15472).
        "layers": `choices`, rows by information; the inspection begins with the first of them, if not before.
        "dynamic": the inspected layers, the share of their rows between the two of `rows` by the size of the error
        (arXiv 2407.10734).

        steps: passes over the support set, batch_size queries at a time. optimizer: `TinTin` at a constant rate unless
        told; milestones are shares of all steps. temperature: of the softmax over cosines, a power of two up to 64.
        inspect: index of the first layer that may learn, or as a float the share of the layers with weights, from the
        last. Ctrl-C stops it. Where no sample has any error to choose by, nothing learns.

        Raises TypeError or ValueError for samples and settings out of range, and for a budget too small for any layer,
        with the smallest that would do; a policy that does not choose must fit memory_budget as it is. Rules N29 to
        N37 of `docs/numerics.md`; the same bits as on a microcontroller.
        """
        told = _adapt.settings(
            self, policy=policy, memory_budget=memory_budget, compute_budget=compute_budget, steps=steps,
            batch_size=batch_size, optimizer=optimizer, temperature=temperature, shift=shift, ratio=ratio,
            inspect=inspect, choices=choices, rows=rows, samples=np.size(y_support),
        )  # fmt: skip
        return _adapt.adapt(self, x_support, y_support, told, batch_size)

    def fit_episodes(
        self,
        x: Samples,
        y: Any,
        episodes: int = 1000,
        *,
        ways: int = 5,
        shots: int = 5,
        queries: int = 5,
        optimizer: TinTin | Niti | None = None,
        temperature: int = _adapt.TEMPERATURE,
        shift: int | tuple[int, int] = 0,
        seed: int = 0,
        progress: bool | None = None,
    ) -> History:
        """Pre-train on episodes: prototypes of `shots` samples of each of `ways` classes, `queries` more to learn from.

        For nets that end in features and are to be adapted: prototypical networks (arXiv 1703.05175) with the cosine.
        One episode is one training step on ways * queries samples. y: integer labels (n,), any numbers. seed: of the
        draws of episodes. optimizer: small steps unless told, learning shift 1 and margin 6. temperature, shift (of
        support and queries), progress: as `fit` and `adapt`. Returns ten records or fewer, each of
        a tenth of the episodes: mean loss in nats per query, accuracy. Raises TypeError or ValueError for samples and
        settings out of range, and for too few classes or samples.
        """
        return _episodes.fit(
            self, x, y, episodes, (ways, shots, queries), optimizer=optimizer, temperature=temperature, shift=shift,
            seed=seed, progress=progress,
        )  # fmt: skip

    def initialise(self, seed: int) -> None:
        """Draw new initial weights from `seed` and start again at step 0."""
        self._engine.initialise(_checks.count("seed", seed, 0))

    # Using

    def predict(self, x: Samples) -> NDArray[np.int64]:
        """Class of each sample, (n,) int64: the index of its first largest output. Independent of how `x` is split.

        Raises TypeError or ValueError for samples that are not those of the net, see there.
        """
        array, exponent = _checks.samples(self.input_shape, x, "x")
        classes: NDArray[np.int64] = np.argmax(self._engine.predict(array, exponent)[0], axis=1)
        return classes

    def nearest(self, x: Samples, prototypes: NDArray[np.int16]) -> NDArray[np.int64]:
        """Number of the prototype with the smallest angle to each sample's features, (n,) int64 (N30).

        prototypes: (k, outputs) int16, as those of an `Adapted`, whose `predict` this is but for the names of the
        classes. Raises TypeError or ValueError for samples and prototypes that are not those of the net.
        """
        array, exponent = _checks.samples(self.input_shape, x, "x")
        if not isinstance(prototypes, np.ndarray) or prototypes.dtype != np.int16:
            raise TypeError(f"prototypes must be an int16 array, got {getattr(prototypes, 'dtype', prototypes)!r}")
        if prototypes.ndim != 2 or not len(prototypes) or prototypes.shape[1] != self.outputs:
            raise ValueError(f"prototypes must have shape (classes, {self.outputs}), got {prototypes.shape}")
        _adapt.features(self)
        features = self._engine.predict(array, exponent)[0]
        return _tintin.nearest(features, np.ascontiguousarray(prototypes).reshape(-1))

    def logits(self, x: Samples) -> NDArray[np.float32]:
        """Real outputs of each sample, (n, outputs) float32: before any softmax; infinity beyond float32.

        Raises TypeError or ValueError for samples that are not those of the net, see there.
        """
        array, exponent = _checks.samples(self.input_shape, x, "x")
        mantissas, scales = self._engine.predict(array, exponent)
        s, u, d = scales.astype(np.float64).T[:, :, None]
        with np.errstate(over="ignore", invalid="ignore"):  # beyond float32 is infinity
            real: NDArray[np.float32] = (mantissas * 2.0**s * 0.8**u * (4 / 3) ** d).astype(np.float32)
        real[mantissas == 0] = 0  # also where the scale itself is beyond float64
        return real

    def evaluate(self, x: Samples, y: Any, loss: str | None = None) -> tuple[float, float]:
        """Mean loss and accuracy without learning.

        loss: that of the last training unless told, "cross_entropy" before any. The mean is in nats per sample; for
        "squared_error" it is half the squared distance per sample, and the accuracy is 0.0. Raises TypeError or
        ValueError for samples and targets that do not fit the net, as `fit`.
        """
        data = Data(self, x, y, _checks.loss(self._loss() if loss is None else loss))
        found = data.evaluate()
        return found["loss"], found.get("accuracy", 0.0)

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
        """Write a .tin file (`docs/format.md`), whole or not at all.

        Raises OSError where it cannot be written; a file that was there is then as it was.
        """
        data = self._engine.to_bytes()
        write_atomically(path, lambda stream: stream.write(data))

    def __reduce__(self) -> tuple[Any, ...]:
        return _from_bytes, (self._engine.to_bytes(),)

    def __deepcopy__(self, memo: Any) -> Sequential:
        return type(self).from_bytes(self._engine.to_bytes())

    __copy__ = lambda self: self.__deepcopy__(None)  # noqa: E731 (a shared engine would be no copy)


def load(path: str | os.PathLike[str]) -> Sequential:
    """Read a .tin file.

    Raises OSError if it cannot be read, and ValueError if it is no .tin file, was altered, or belongs to another
    version.
    """
    path = Path(path)
    data = path.read_bytes()
    try:
        return Sequential.from_bytes(data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _from_bytes(data: bytes) -> Sequential:
    return Sequential.from_bytes(data)
