"""Writing files: whole or not at all, with the mode the user expects."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from tintin._files import write_atomically


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_modes(tmp_path: Path) -> None:
    path = tmp_path / "f"
    before = os.umask(0o027)
    try:
        assert write_atomically(path, lambda stream: stream.write(b"one")) == 3
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
        path.chmod(0o604)
        write_atomically(path, lambda stream: stream.write(b"two"))
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o604
    assert path.read_bytes() == b"two" and list(tmp_path.iterdir()) == [path]


def test_bytes_are_on_the_disk_before_the_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda file: (done.append("fsync"), sync(file)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("replace"), replace(a, b)))
    write_atomically(tmp_path / "f", lambda stream: stream.write(b"x"))
    assert done == ["fsync", "replace"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "f", lambda stream: stream.write(b"x" * (1 // 0)))
    for path in (tmp_path, tmp_path / "gone" / "f"):
        with pytest.raises(OSError):
            write_atomically(path, lambda stream: stream.write(b"x"))
    assert list(tmp_path.iterdir()) == []
