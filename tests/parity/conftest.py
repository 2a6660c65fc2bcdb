"""Runners that are there for a whole session: the same program on this machine and on every emulated core.

Needs what `make firmware` builds and an emulator. Nothing is skipped for want of them: this folder is what proves that
all cores compute the same.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tintin import device

ROOT = Path(__file__).resolve().parents[2]
os.environ.setdefault("TINTIN_FIRMWARE", str(ROOT / "target" / "firmware"))

#: core, and whether without the kernels written for it; M7 runs the files of M4
EMULATED = {
    "m0": ("m0", False),
    "m3": ("m3", False),
    "m4": ("m4", False),
    "m7": ("m7", False),
    "m33": ("m33", False),
    "m0-portable": ("m0", True),
    "m3-portable": ("m3", True),
    "m4-portable": ("m4", True),
    "m33-portable": ("m33", True),
}


def start(name: str) -> device.Process:
    """A runner by its name here, not yet running."""
    if name == "host":
        return device.Process([str(Path(os.environ["TINTIN_FIRMWARE"]) / "runner-host")])
    return device.Emulator(*EMULATED[name])


@pytest.fixture(scope="session", params=["host", *EMULATED])
def runner(request: pytest.FixtureRequest) -> Iterator[device.Runner]:
    with start(request.param) as running:
        yield running
