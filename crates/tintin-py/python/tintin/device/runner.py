"""`Runner`: the client of a runner, the program on a microcontroller (or its emulator) that trains what it is sent.

Works over any byte stream: an emulator's pipes (`tintin.device.Emulator`), or the serial port of a board. The protocol
is described in `docs/protocol.md`.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import _tintin
from ..model import Sequential
from . import frames

PROTOCOL = 1
#: requests, by their codes
HELLO, STAGE, LOAD, RECIPE, STEP, PREDICT, DIGEST, SAVE, FORGET, BYE = range(1, 11)
#: refusals, by their codes
DAMAGED, TOO_LONG, UNKNOWN, BODY, FILE, FORMAT, NUMERICS, PLAN, LAYERS, MEMORY, ROOM, ORDER, VALUE = range(1, 14)

_HELLO = struct.Struct("<4H3I")
_LOADED = struct.Struct("<4IQ")
_STEPPED = struct.Struct("<IQIQ")
_DIGEST = struct.Struct("<IQ")
#: bytes of a message before and after a piece of a file
_STAGE_HEAD = 6
#: largest piece of a file in one message
_PIECE = 1 << 14


class Stream(Protocol):
    """What a runner talks over: bytes in both directions."""

    def read(self, size: int, /) -> bytes:
        """At least one byte and at most `size`, as soon as there are any; none at the end of the stream."""

    def write(self, data: bytes, /) -> object:
        """Send all of `data`."""


class LinkError(OSError):
    """The link to a runner broke, or what came over it was no answer."""


class Refused(ValueError):
    """A request the runner refused, which left it as it was. code: see `docs/protocol.md`; numbers: what it tells."""

    def __init__(self, text: str, code: int, numbers: tuple[int, ...] = ()) -> None:
        super().__init__(text)
        self.code, self.numbers = code, numbers


class DoesNotFit(ValueError):
    """A net larger than the memory of a runner. table: what it needs by role, and what there is."""

    def __init__(self, text: str, table: str) -> None:
        super().__init__(text)
        self.table = table


@dataclass(frozen=True)
class Hello:
    """What a runner says of itself.

    numerics, format: versions, as `tintin.NUMERICS` and `tintin.FORMAT`. part: part number of the core (0xC24 is a
    Cortex-M4), 0 on a host. layers: most layers of a net. pool: bytes for weights and all a step works in. message:
    most bytes of one message, such as the samples of a step. target: what the firmware was compiled for. kernels: the
    instructions its products use. version: of the firmware.
    """

    protocol: int
    numerics: int
    format: int
    part: int
    layers: int
    pool: int
    message: int
    target: str
    kernels: str
    version: str


@dataclass(frozen=True)
class Loaded:
    """A net as the runner planned it. weights, buffers (activations, errors), sums (32-bit): bytes. step, digest."""

    weights: int
    buffers: int
    sums: int
    step: int
    digest: int


@dataclass(frozen=True)
class Stepped:
    """What came of a training step: the steps so far, the loss (2^-16 bits), the right answers, the digest (N24)."""

    step: int
    loss: int
    correct: int
    digest: int


class Runner:
    """A runner at the other end of `stream`. Raises LinkError when it does not answer or speaks another protocol."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._pending = b""
        self._tag = 0
        self._weights = 0
        self._stream.write(b"\0")  # whatever was on the line before is no part of the first frame
        self.hello = self._hello()

    def _hello(self) -> Hello:
        body = self._ask(HELLO)
        if len(body) >= 2 and body[:2] != PROTOCOL.to_bytes(2, "little"):
            raise LinkError(f"the runner speaks protocol {body[0] | body[1] << 8}, this tintin speaks {PROTOCOL}")
        words = body[_HELLO.size :].split(b"\0")
        if len(body) < _HELLO.size or len(words) != 3:
            raise LinkError("the runner's greeting is not that of protocol 1")
        return Hello(*_HELLO.unpack_from(body), *(word.decode(errors="replace") for word in words))

    def _ask(self, request: int, *fields: bytes) -> bytes:
        """Body of the answer to a request."""
        self._tag = self._tag % 255 + 1
        self._stream.write(frames.encode(bytes([request, self._tag]) + b"".join(fields)))
        code, tag, body = self._answer()
        while request == HELLO and tag == 0:
            code, tag, body = self._answer()  # that was about what a client before us left half-sent
        if code != 0:
            count = body[0] if body else 0
            if len(body) < 1 + 4 * count:
                raise LinkError("the runner's refusal was not understood")
            text = body[1 + 4 * count :].decode(errors="replace")
            raise Refused(text, code, struct.unpack_from(f"<{count}I", body, 1))
        if tag != self._tag:
            raise LinkError(f"the runner answered another request (tag {tag}, expected {self._tag})")
        return body

    def _answer(self) -> tuple[int, int, bytes]:
        """Code, tag and body of the next answer."""
        try:
            message = frames.decode(self._frame())
        except frames.DamagedFrame as error:
            raise LinkError(f"the runner's answer was damaged on its way: {error}") from None
        if len(message) < 2:
            raise LinkError("the runner's answer has no head")
        return message[0], message[1], message[2:]

    def _frame(self) -> bytes:
        """The next frame that is not empty, without its zero."""
        parts = [self._pending]
        while True:
            last, found, rest = parts[-1].partition(b"\0")
            if found:
                self._pending = rest
                frame = b"".join([*parts[:-1], last])
                if frame:
                    return frame
                parts = [rest]
                continue
            more = self._stream.read(1 << 16)
            if not more:
                raise LinkError("the link to the runner ended before its answer came")
            parts.append(more)

    def load(
        self, net: Sequential | bytes, batch_size: int = 1, *, train_from: int = 0, training: bool = True
    ) -> Loaded:
        """Send a net, or the bytes of a .tin file, in place of the one that was there.

        batch_size: most samples of a step. train_from: index of the first layer to train. training: False plans for
        prediction alone. Raises DoesNotFit for a net larger than the runner's memory, and Refused for a file it cannot
        read. The net that was there stays then, unless its weights left no room for the file.
        """
        if isinstance(net, Sequential):
            self._check_room(net, batch_size, train_from, training)
            net = net.to_bytes()
        if len(net) <= self.hello.pool < self._weights + len(net):
            self.forget()  # its weights are in the way
        piece = min(self.hello.message - _STAGE_HEAD, _PIECE)
        for at in range(0, len(net), piece):
            self._ask(STAGE, struct.pack("<I", at), net[at : at + piece])
        body = self._ask(LOAD, struct.pack("<IIIB", len(net), batch_size, train_from, training))
        loaded = Loaded(*self._unpack(_LOADED, body))
        self._weights = loaded.weights
        return loaded

    def _check_room(self, net: Sequential, batch_size: int, train_from: int, training: bool) -> None:
        """Refuse a net that is too large before any of it is sent."""
        if len(net.layers) > self.hello.layers:
            raise Refused(f"the net has {len(net.layers)} layers, the runner takes {self.hello.layers}", LAYERS)
        memory = net.memory(batch_size, training, train_from=train_from)
        roles = {role: size for role, size in memory.by_role.items() if role not in ("scales", "seed and step")}
        roles = {"weights": memory.weights} | roles  # those that are not trained are sent too
        roles["labels, alignment"] = 2 * batch_size + 5
        needed = sum(roles.values())
        if needed <= self.hello.pool:
            return
        rows = [
            *roles.items(),
            ("needed", needed),
            ("available", self.hello.pool),
            ("missing", needed - self.hello.pool),
        ]
        width = max(len(role) for role, _ in rows)
        table = "\n".join(f"{role:<{width}}  {size:>13,} bytes" for role, size in rows)
        raise DoesNotFit(
            f"the net needs {needed:,} bytes ({memory.purpose}), the runner has {self.hello.pool:,}: take a smaller net"
            + (" or a smaller batch" if batch_size > 1 else ""),
            table,
        )

    def set_recipe(self, recipe: _tintin.Recipe) -> None:
        """How to learn from now on; a net that was trained before comes with its own."""
        self._ask(RECIPE, recipe.to_bytes())

    def step(self, x: NDArray[np.int8], exponent: int, y: NDArray[Any], target_exponent: int | None = None) -> Stepped:
        """One training step on all samples of `x`.

        x: int8 mantissas (n, ...), -127..127, with scale 2^exponent. y: uint16 labels (n,), or with a `target_exponent`
        int8 mantissas (n, outputs) for the squared error. Raises Refused for what the net does not take, or ValueError
        for more samples than a message of the runner holds.
        """
        x = np.ascontiguousarray(x, dtype=np.int8)
        body = struct.pack("<Ih", len(x), exponent)
        if target_exponent is None:
            body += b"\0" + x.tobytes() + np.ascontiguousarray(y, dtype="<u2").tobytes()
        else:
            body += b"\1" + x.tobytes() + struct.pack("<h", target_exponent)
            body += np.ascontiguousarray(y, dtype=np.int8).tobytes()
        if len(body) + 2 > self.hello.message:
            raise ValueError(
                f"{len(x)} samples make a message of {len(body) + 2:,} bytes, the runner takes "
                f"{self.hello.message:,}: take a smaller batch"
            )
        return Stepped(*self._unpack(_STEPPED, self._ask(STEP, body)))

    def predict(self, x: NDArray[np.int8], exponent: int) -> tuple[NDArray[np.int8], tuple[int, int, int]]:
        """Outputs of one sample of int8 mantissas: mantissas (outputs,) and their scale (s, u, d)."""
        body = self._ask(PREDICT, struct.pack("<h", exponent), np.ascontiguousarray(x, dtype=np.int8).tobytes())
        if len(body) < 6:
            raise LinkError("the runner's answer is too short")
        return np.frombuffer(body, dtype=np.int8, offset=6), struct.unpack_from("<3h", body)

    def digest(self) -> tuple[int, int]:
        """Steps so far, and the digest of all weights and scales (N24)."""
        step, digest = self._unpack(_DIGEST, self._ask(DIGEST))
        return step, digest

    def save(self) -> bytes:
        """The runner's net as the bytes of a .tin file."""
        return self._ask(SAVE)

    def forget(self) -> None:
        """Drop the net, so that all of the runner's memory is free."""
        self._ask(FORGET)
        self._weights = 0

    def bye(self) -> None:
        """End the session: an emulated runner stops."""
        self._ask(BYE)

    @staticmethod
    def _unpack(form: struct.Struct, body: bytes) -> tuple[Any, ...]:
        if len(body) != form.size:
            raise LinkError(f"the runner's answer has {len(body)} bytes, expected {form.size}")
        return form.unpack(body)
