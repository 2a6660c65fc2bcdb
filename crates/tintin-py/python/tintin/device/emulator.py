"""Emulated microcontrollers: QEMU's machines, the firmware images for them, and where both are found."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO

from .. import FORMAT, NUMERICS
from .runner import PROTOCOL, LinkError, Runner

PROGRAM = "qemu-system-arm"
FIRMWARE_VARIABLE = "TINTIN_FIRMWARE"
#: seconds until a runner that does not answer is stopped; a step takes milliseconds
PATIENCE = 120.0
#: what a firmware file holds of its versions: this, then numerics, format, protocol as u16
_LABEL = b"tintin runner:"


class NotInstalled(OSError):
    """What is needed for emulation is missing; the message says what to do."""

    #: of the command line, apart from mistakes in the command
    exit_code = 3


@dataclass(frozen=True)
class Core:
    """One kind of processor: what its code is compiled for, where it runs. part: what the CPUID register there says."""

    name: str
    target: str
    machine: str
    part: int
    note: str = ""


#: by the name the command line takes
CORES: dict[str, Core] = {
    "m0": Core(
        "Cortex-M0+", "thumbv6m-none-eabi", "mps2-an385", 0xC23, "M0+ code on QEMU's Cortex-M3 machine"
    ),
    "m3": Core("Cortex-M3", "thumbv7m-none-eabi", "mps2-an385", 0xC23),
    "m4": Core("Cortex-M4F", "thumbv7em-none-eabihf", "mps2-an386", 0xC24),
    "m7": Core("Cortex-M7", "thumbv7em-none-eabihf", "mps2-an500", 0xC27),
    "m33": Core("Cortex-M33", "thumbv8m.main-none-eabihf", "mps2-an505", 0xD21),
}  # fmt: skip


def core(name: str) -> Core:
    """The core of that name; raises ValueError with the names there are."""
    if name not in CORES:
        raise ValueError(f"unknown core {name!r}; known are {', '.join(CORES)} and all")
    return CORES[name]


def image_name(target: str, portable: bool) -> str:
    """File name of the image for a target; `portable` is the one without kernels written for it."""
    return f"runner-{target}{'-portable' if portable else ''}.elf"


def image_folders() -> list[Path]:
    """Where images are looked for, in this order: $TINTIN_FIRMWARE alone if it is set, this package, a checkout."""
    given = os.environ.get(FIRMWARE_VARIABLE)
    if given:
        return [Path(given)]
    package = Path(__file__).resolve().parent
    folders = [package / "images"]
    for place in (package, Path.cwd()):
        for folder in (place, *place.parents):
            built = folder / "target" / "firmware"
            if (folder / "crates" / "tintin-mcu" / "Cargo.toml").is_file() and built not in folders:
                folders.append(built)
    return folders


def find_image(target: str, portable: bool = False) -> Path | None:
    """The first image for a target, or None."""
    name = image_name(target, portable)
    return next((folder / name for folder in image_folders() if (folder / name).is_file()), None)


def image_versions(path: Path) -> tuple[int, int, int] | None:
    """Numerics, format and protocol of an image, read from the file; None if it is no image of a runner."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    at = data.find(_LABEL)
    end = at + len(_LABEL)
    return None if at < 0 or len(data) < end + 6 else struct.unpack_from("<3H", data, end)


def image(target: str, portable: bool = False) -> Path:
    """The image for a target, if it computes as this package does; else raises NotInstalled with what to do."""
    found = find_image(target, portable)
    if found is None:
        places = ", ".join(map(str, image_folders()))
        raise NotInstalled(
            f"there is no firmware image {image_name(target, portable)} in {places}: run `make firmware` in a checkout "
            f"of tintin, or set {FIRMWARE_VARIABLE} to the folder it made"
        )
    versions = image_versions(found)
    if versions is None:
        raise NotInstalled(f"{found} is no image of tintin's runner: run `make firmware` to make it anew")
    for what, its, ours in zip(
        ("numerics", "file format", "protocol"), versions, (NUMERICS, FORMAT, PROTOCOL), strict=True
    ):
        if its != ours:
            raise NotInstalled(
                f"{found} was built for {what} {its}, this tintin has {ours}: run `make firmware` in a checkout of "
                f"this version"
            )
    return found


def program() -> str:
    """Path of the emulator; raises NotInstalled."""
    found = shutil.which(PROGRAM)
    if found is None:
        raise NotInstalled(
            f"{PROGRAM} is not installed: on Debian and Ubuntu run `apt-get install qemu-system-arm`, with Homebrew "
            f"`brew install qemu`; then `tintin doctor` shows it"
        )
    return found


class Process:
    """A runner as a process whose standard input and output are the link: a `Stream`.

    `with Process(command) as runner:` starts it and gives its `Runner`. patience: seconds until one that does not
    answer is stopped.
    """

    _process: subprocess.Popen[bytes]

    def __init__(self, command: list[str], patience: float = PATIENCE) -> None:
        self._command, self._patience = command, patience
        self._late = False

    def __enter__(self) -> Runner:
        # A session of its own: Ctrl-C is ours to hear, and the runner ends with the link.
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
            start_new_session=sys.platform != "win32",
        )  # fmt: skip
        try:
            return Runner(self)
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def read(self, size: int) -> bytes:
        """Bytes of an answer; raises LinkError with what the runner said last when there are none to come."""
        watch = threading.Timer(self._patience, self._give_up)
        watch.daemon = True
        watch.start()
        try:
            data = self._pipe(self._process.stdout).read(size)
        finally:
            watch.cancel()
        if not data:
            raise LinkError(self._last_words())
        return data

    def write(self, data: bytes) -> None:
        """Send all of `data`."""
        view = memoryview(data)
        try:
            while view:
                view = view[self._pipe(self._process.stdin).write(view) :]
        except OSError:
            raise LinkError(self._last_words()) from None

    def close(self) -> None:
        """End the process: the end of its input is the end of its work."""
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            self._pipe(pipe).close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @staticmethod
    def _pipe(pipe: IO[bytes] | None) -> IO[bytes]:
        assert pipe is not None  # asked for above
        return pipe

    def _give_up(self) -> None:
        self._late = True
        self._process.kill()

    def _last_words(self) -> str:
        if self._late:
            return f"the runner did not answer within {self._patience:g} seconds and was stopped"
        self._process.kill()
        said = " ".join(self._pipe(self._process.stderr).read().decode(errors="replace").split())
        return f"the runner stopped before its answer came{f'; it said: {said}' if said else ''}"


class Emulator(Process):
    """A runner on an emulated core; `with Emulator("m4") as runner:` gives its `Runner`.

    name: m0, m3, m4, m7 or m33. portable: the image without kernels written for the core.
    Raises ValueError for an unknown core and NotInstalled when emulator or image are missing.
    """

    def __init__(self, name: str, portable: bool = False, patience: float = PATIENCE) -> None:
        super().__init__([], patience)
        self.core = core(name)
        emulator = program()
        self.image = image(self.core.target, portable)
        self._command = [
            emulator, "-machine", self.core.machine, "-display", "none", "-monitor", "none", "-serial", "none",
            "-semihosting-config", "enable=on,target=native", "-kernel", str(self.image),
        ]  # fmt: skip

    def __enter__(self) -> Runner:
        runner = super().__enter__()
        if (runner.hello.part, runner.hello.target) != (self.core.part, self.core.target):
            self.close()
            raise LinkError(
                f"{self.core.machine} is core {runner.hello.part:#x} with firmware for {runner.hello.target}, expected "
                f"{self.core.part:#x} and {self.core.target}"
            )
        return runner
