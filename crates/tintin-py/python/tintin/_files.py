"""Writing files whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar

Result = TypeVar("Result")


def write_atomically(path: str | os.PathLike[str], write: Callable[[BinaryIO], Result]) -> Result:
    """Let `write` fill a temporary file beside `path`, then give it the name: whole or not at all.

    What `write` raises leaves nothing behind. A new file gets the mode that the umask allows, one that replaces
    another keeps the mode of that one. The bytes are on the disk before the name is.
    """
    target = Path(path)
    if not target.parent.is_dir():
        raise FileNotFoundError(errno.ENOENT, "no such folder to write to", str(target.parent))
    if target.is_dir():
        raise IsADirectoryError(errno.EISDIR, "a folder, not a file name", str(target))
    part = target.with_name(f".{target.name}.{os.urandom(4).hex()}.part")
    try:
        with part.open("xb") as stream:
            result = write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        with contextlib.suppress(FileNotFoundError):
            part.chmod(stat.S_IMODE(target.stat().st_mode))
        os.replace(part, target)
        return result
    finally:
        part.unlink(missing_ok=True)
