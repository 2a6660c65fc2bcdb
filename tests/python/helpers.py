"""What several test files need: layers from words, .tin files put together by hand, refusals."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any

import pytest

import tintin

HEAD, RECORD = 64, 16  # bytes of a .tin header and of a layer record, docs/format.md
LAYERS_AT, STEP_AT = 16, 36


def layer(words: dict[str, Any]) -> tintin.Layer:
    """The layer of one entry of a golden trace or of the oracle."""
    names = {"kernel": "kernel_size", "from": "layer"}
    given = {names.get(key, key): value for key, value in words.items() if key != "kind"}
    return getattr(tintin, words["kind"])(**given)


def resealed(data: bytes | bytearray) -> bytes:
    """The same file with check sums that agree: what a bad writer, not a bad disk, leaves."""
    data = bytearray(data)
    end = HEAD + RECORD * struct.unpack_from("<H", data, LAYERS_AT)[0]
    if end + 8 <= len(data):
        struct.pack_into("<I", data, end, zlib.crc32(data[:end]))
    struct.pack_into("<I", data, len(data) - 4, zlib.crc32(data[:-4]))
    return bytes(data)


def at_step(net: tintin.Sequential, step: int) -> tintin.Sequential:
    """The net as if it had trained `step` steps."""
    data = bytearray(net.to_bytes())
    struct.pack_into("<I", data, STEP_AT, step)
    return tintin.Sequential.from_bytes(resealed(data))


def refused(kind: type[Exception], *parts: str, call: Callable[[], Any]) -> None:
    """The call raises exactly `kind`, and its message has all the parts."""
    with pytest.raises(kind) as caught:
        call()
    assert caught.type is kind, caught.value
    for part in parts:
        assert part in str(caught.value)


def run(source: str) -> subprocess.CompletedProcess[str]:
    """What a process of its own makes of indented Python."""
    lines = source.strip("\n").split("\n")
    indent = len(lines[0]) - len(lines[0].lstrip())
    code = "\n".join(line[indent:] for line in lines)
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
