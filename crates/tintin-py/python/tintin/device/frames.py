"""Messages in frames, as `docs/protocol.md` says: CRC-32 behind the message, COBS around both, a zero at the end."""

from __future__ import annotations

import zlib

#: most bytes of a block without a zero
_BLOCK = 254
_CHECK = 4


class DamagedFrame(ValueError):
    """A frame that was cut short or altered."""


def encode(message: bytes) -> bytes:
    """The frame of a message, with the zero that ends it."""
    frame = bytearray()
    for run in (message + zlib.crc32(message).to_bytes(_CHECK, "little")).split(b"\0"):
        while len(run) >= _BLOCK:
            frame += b"\xff" + run[:_BLOCK]
            run = run[_BLOCK:]
        frame.append(len(run) + 1)
        frame += run
    return bytes(frame + b"\0")


def decode(frame: bytes) -> bytes:
    """The message in a frame, given without the zero that ends it.

    Raises DamagedFrame.
    """
    data = bytearray()
    at = 0
    while at < len(frame):
        code = frame[at]
        if code == 0 or at + code > len(frame):
            raise DamagedFrame("a frame ends before it should")
        data += frame[at + 1 : at + code]
        at += code
        if code <= _BLOCK and at < len(frame):
            data.append(0)
    message, check = bytes(data[:-_CHECK]), bytes(data[-_CHECK:])
    if len(data) < _CHECK or zlib.crc32(message).to_bytes(_CHECK, "little") != check:
        raise DamagedFrame("the check sum of a frame does not agree")
    return message
