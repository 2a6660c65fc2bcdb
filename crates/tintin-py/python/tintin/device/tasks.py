"""Tasks for the firmware `adapt`: a net, the few samples it is to learn from, and how, as one block of flash.

flashed = device.task(net, x_support, y_support, x, memory_budget=128 * 1024)
print(device.adapt("m4", flashed).digests == net.adapt(x_support, y_support, memory_budget=128 * 1024).digests)
"""

from __future__ import annotations

import re
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import _checks
from .. import adapt as _adapt
from ..model import Samples, Sequential
from . import emulator
from .runner import LinkError

#: policies by their number in a task
POLICIES = (
    "none", "last_layer", "full", "bias_only", "sparse", "tinytrain", "layers", "random_channels", "dynamic",
)  # fmt: skip
_MAGIC = b"TTT1"
_ANY = 2**32 - 1
#: where the firmware looks for a task: this far behind the start of flash, of 1 MB in all
_OFFSET, _FLASH = 256 << 10, 1 << 20
#: start of flash of the machines that do not have it at 0
_BASE = {"mps2-an505": 0x10000000}
#: seconds for an adaptation
PATIENCE = 3600.0

#: what `Sequential.adapt` takes where nothing else is told
DEFAULTS: dict[str, Any] = {
    "policy": "tinytrain", "memory_budget": None, "compute_budget": 0.15, "steps": 40, "batch_size": 5,
    "optimizer": None, "temperature": _adapt.TEMPERATURE, "shift": 1, "ratio": 0.5, "inspect": _adapt.INSPECT,
    "choices": None, "rows": (0.1, 0.9),
}  # fmt: skip


def task(net: Sequential, x_support: Samples, y_support: Any, x: Samples, **settings: Any) -> bytes:
    """The bytes to flash behind the firmware `adapt` (`crates/tintin-mcu/src/adaptation.rs` has the layout).

    net, x_support, y_support and settings as of `Sequential.adapt`. x: samples to
    classify afterwards. The device numbers the classes by rising label. Raises as `adapt`, and ValueError where x and
    x_support have different scales.
    """
    unknown = settings.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
    settings = DEFAULTS | settings
    policy = settings["policy"]
    told = _adapt.settings(net, samples=np.size(y_support), **settings)
    support, exponent = _checks.samples(net.input_shape, x_support, "x_support")
    queries, other = _checks.samples(net.input_shape, x, "x")
    if exponent != other:
        raise ValueError(f"x_support has mantissas of scale 2^{exponent}, x of 2^{other}: bring both to one scale")
    classes, labels = np.unique(np.asarray(y_support), return_inverse=True)
    if labels.shape != (len(support),):
        raise TypeError(f"y_support must hold one label per sample: {len(support)} samples, got shape {labels.shape}")
    file = net._engine.to_bytes()
    head = struct.pack(
        "<iBBH2H5II2HI24s",
        exponent, POLICIES.index(policy), told.temperature, 0, *told.limits, told.batch, told.passes,
        min(told.memory, _ANY), told.compute, told.ratio, told.inspect, *told.rows, len(told.choices),
        told.recipe.to_bytes(),
    )  # fmt: skip
    parts = [
        np.array(told.choices, "<u4").tobytes(),
        labels.astype("<u2").tobytes(),
        file,
        _mantissas(support).tobytes(),
        _mantissas(queries).tobytes(),
    ]
    body = b"".join(part + bytes(-len(part) % 4) for part in parts)
    counts = (24 + len(head) + len(body), len(file), len(support), len(classes), len(queries))
    return _MAGIC + struct.pack("<5I", *counts) + head + body


def _mantissas(x: NDArray[Any]) -> NDArray[np.int8]:
    """As the engine takes samples: half of uint8, and -128 as -127."""
    return (x >> 1).astype(np.int8) if x.dtype == np.uint8 else np.maximum(x, -127)


@dataclass(frozen=True)
class OnDevice:
    """What the firmware `adapt` told. losses: sums of a step's queries in 2^-16 bits; digests: after every step.

    ram: bytes by name. plan, used: of the plan that learned, as planned and as taken; inspection: of the plan that
    looked at the samples; pool: what both had, touched: what of it was written; room: prototypes, a batch and sums of
    information; tables: of the layers; static, stack: of the firmware. instructions, if they were counted: selection,
    steps, queries, price.
    """

    choices: list[tuple[int, int]]
    losses: list[int]
    correct: list[int]
    digests: list[int]
    classes: list[int]
    start: int
    ram: dict[str, int]
    instructions: dict[str, int]

    @property
    def share(self) -> float:
        """Share of the instructions of the adaptation that chose what learns."""
        selection = self.instructions["selection"]
        return selection / (selection + self.instructions["steps"])


def image(target: str) -> Path:
    """The firmware `adapt` for a target of the compiler; raises NotInstalled."""
    name = f"adapt-{target}.elf"
    for folder in emulator.image_folders():
        if (folder / name).is_file():
            return folder / name
    raise emulator.NotInstalled(f"there is no firmware {name}: run `make firmware` in a checkout of tintin")


def adapt(name: str, flashed: bytes, *, count: bool = False, patience: float = PATIENCE) -> OnDevice:
    """Adapt on an emulated core with 256 KB of RAM and 1 MB of flash.

    name: m0, m3, m4 or m33. flashed: of `task`. count: count instructions, to within 1000. Raises ValueError for a task
    that does not fit, LinkError with what the firmware said when it refuses, NotInstalled without emulator or firmware.
    """
    core = emulator.core(name)
    if len(flashed) > _FLASH - _OFFSET:
        raise ValueError(f"the task has {len(flashed):,} bytes, the flash behind the firmware {_FLASH - _OFFSET:,}")
    command = [emulator.program(), "-machine", core.machine, "-display", "none", "-monitor", "none", "-serial", "none"]
    command += ["-semihosting-config", "enable=on,target=native", "-kernel", str(image(core.target))]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "task"
        path.write_bytes(flashed)
        at = _BASE.get(core.machine, 0) + _OFFSET
        command += ["-device", f"loader,file={path},addr={at:#x},force-raw=on"]
        if count:
            command += ["-icount", "shift=0,sleep=off"]
        try:
            done = subprocess.run(
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=patience, check=False
            )
        except subprocess.TimeoutExpired:
            raise LinkError(f"the adaptation did not end within {patience:g} seconds") from None
    if done.returncode != 0:
        raise LinkError(f"the firmware stopped; it said: {' '.join(done.stderr.split()) or 'nothing'}")
    return told(done.stdout, count)


def told(text: str, counted: bool = True) -> OnDevice:
    """Reads what the firmware printed."""

    def each(pattern: str) -> list[Any]:
        return re.findall(f"^{pattern}$", text, re.M)

    steps = [(int(d, 16), int(loss), int(n)) for d, loss, n in each(r"step \d+ (0x\w+) loss (\d+) correct (\d+)")]
    words = " ".join(each(r"# (?:ram )?((?:plan|static) .*)")).replace(" of ", " stack_room ").split()
    costs = each(r"# instructions (.*)")[0].split()
    return OnDevice(
        [(int(layer), int(rows)) for layer, rows in each(r"choice layer (\d+) rows (\d+)")],
        [loss for _, loss, _ in steps],
        [n for _, _, n in steps],
        [digest for digest, _, _ in steps],
        [int(found) for found in each(r"class (\d+)")],
        int(each(r"step 0 (0x\w+)")[0], 16),
        dict(zip(words[::2], map(int, words[1::2]), strict=True)),
        dict(zip(costs[::2], map(int, costs[1::2]), strict=True)) if counted else {},
    )
