"""Files that are none, and disks that do not take them: a clear error, never a panic, nothing half-written."""

from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import numpy as np
import pytest
from helpers import HEAD, LAYERS_AT, refused, resealed, run

import tintin
from tintin import Conv2d, Flatten, Linear, MaxPool2d, ReLU, Sequential


def mlp(bias: bool = True) -> Sequential:
    layers = [Flatten(), Linear(6, bias=bias), ReLU(), Linear(3, bias=bias)]
    return Sequential(layers, input_shape=(4, 4, 1), seed=1)


X = np.random.default_rng(0).integers(0, 256, (10, 4, 4)).astype(np.uint8)
Y = np.arange(10) % 3


# Files


@pytest.fixture(scope="module")
def sound() -> bytes:
    net = Sequential(
        [
            Conv2d(3, 3, padding=1, bias=True),
            ReLU(),
            MaxPool2d(2),
            tintin.AvgPool2d(2),
            Flatten(),
            Linear(3, bias=True),
        ],
        input_shape=(4, 4, 1),
        seed=1,
    )
    net.fit(X, Y, batch_size=5)
    return net.to_bytes()


def load(data: bytes, folder: Path) -> Sequential:
    (folder / "m.tin").write_bytes(data)
    return tintin.load(folder / "m.tin")


def test_every_truncation_is_refused(sound: bytes, tmp_path: Path) -> None:
    for length in range(len(sound)):
        with pytest.raises(ValueError):
            Sequential.from_bytes(sound[:length])
    refused(ValueError, "m.tin", "cut short", str(len(sound)), call=lambda: load(sound[:-1], tmp_path))
    refused(ValueError, "m.tin", "not a .tin file", call=lambda: load(b"", tmp_path))
    refused(ValueError, "m.tin", "extended", call=lambda: load(sound + b"\0", tmp_path))


def test_every_altered_byte_is_refused(sound: bytes) -> None:
    for place in range(len(sound)):
        altered = bytearray(sound)
        altered[place] ^= 1 << place % 8
        with pytest.raises(ValueError):
            Sequential.from_bytes(bytes(altered))


def test_altered_file_says_so(sound: bytes, tmp_path: Path) -> None:
    for place, part in ((HEAD - 20, "header"), (len(sound) - 10, "weights")):
        altered = bytearray(sound)
        altered[place] ^= 0x10
        refused(ValueError, "m.tin", "check sum", part, "altered", call=lambda a=altered: load(bytes(a), tmp_path))


def test_newer_file_says_so(sound: bytes, tmp_path: Path) -> None:
    newer = bytearray(sound)
    struct.pack_into("<H", newer, 8, tintin.FORMAT + 1)
    refused(ValueError, "file format 3", "reads format 1 to 2", call=lambda: load(resealed(newer), tmp_path))
    newer = bytearray(sound)
    struct.pack_into("<H", newer, 10, tintin.NUMERICS + 1)
    refused(ValueError, "numerics version 2", "numerics 1", call=lambda: load(resealed(newer), tmp_path))


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(99), b"no model\n" * 20, bytes(500), b"\x89TIN"])
def test_other_files_are_refused(data: bytes, tmp_path: Path) -> None:
    refused(ValueError, "m.tin", "not a .tin file", call=lambda: load(data, tmp_path))


def test_paths(tmp_path: Path, sound: bytes) -> None:
    refused(FileNotFoundError, "gone.tin", call=lambda: tintin.load(tmp_path / "gone.tin"))
    refused(IsADirectoryError, tmp_path.name, call=lambda: tintin.load(tmp_path))
    refused(TypeError, "int", call=lambda: tintin.load(3))
    for data in ("text", None, 3, [1]):
        refused(TypeError, "bytes", call=lambda data=data: Sequential.from_bytes(data))


def test_files_from_a_bad_writer(sound: bytes) -> None:
    """Files whose check sums agree but whose contents are anything: refused, or a net that works."""
    rng = random.Random(5)
    layers = struct.unpack_from("<H", sound, LAYERS_AT)[0]
    worked = 0
    for _ in range(4000):
        data = bytearray(sound)
        for _ in range(rng.choice([1, 1, 2, 3])):
            place = rng.randrange(16, HEAD + 16 * layers) if rng.random() < 0.8 else rng.randrange(len(data))
            data[place] = rng.choice([0, 1, 2, 3, 5, 127, 128, 255, rng.randrange(256)])
        try:
            net = Sequential.from_bytes(resealed(data))
        except ValueError:
            continue
        size = int(np.prod(net.input_shape))
        if size > 50_000:
            continue
        worked += 1
        x = np.full((2, size), rng.randrange(256), np.uint8)
        net.logits(x)
        net.summary()
        for optimizer in (tintin.TinTin(), tintin.Niti()):
            try:
                net.partial_fit(x, [0, 0], optimizer)
            except ValueError as error:
                assert "layer" in str(error) or "outputs" in str(error)
        assert Sequential.from_bytes(net.to_bytes()) == net
    assert worked > 100


# Writing


@pytest.mark.parametrize("where", ["gone/m.tin", "file/m.tin"])
def test_save_into_no_folder(where: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    folder = str((tmp_path / where).parent)
    refused(FileNotFoundError, folder, call=lambda: mlp().save(tmp_path / where))
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_save_over_a_folder(tmp_path: Path) -> None:
    (tmp_path / "m.tin").mkdir()
    with pytest.raises(OSError, match=r"m\.tin"):
        mlp().save(tmp_path / "m.tin")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert list((tmp_path / "m.tin").iterdir()) == []


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write everywhere")
def test_save_into_a_folder_of_others(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.tin")
    before = (tmp_path / "m.tin").read_bytes()
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(PermissionError):
            tintin.models.small().save(tmp_path / "m.tin")
    finally:
        tmp_path.chmod(0o700)
    assert (tmp_path / "m.tin").read_bytes() == before


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_save_on_a_full_disk_keeps_the_old_file(tmp_path: Path) -> None:
    mlp().save(tmp_path / "m.tin")
    before = (tmp_path / "m.tin").read_bytes()
    done = run(f"""
        import resource, tintin
        net = tintin.models.lenet5()
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            net.save({str(tmp_path / "m.tin")!r})
        except OSError as error:
            print("refused", error)
    """)
    assert done.stdout.startswith("refused"), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert (tmp_path / "m.tin").read_bytes() == before


def test_a_failed_rename_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError("no")

    mlp().save(tmp_path / "m.tin")
    before = (tmp_path / "m.tin").read_bytes()
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(OSError, match="no"):
        tintin.models.small().save(tmp_path / "m.tin")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]
    assert (tmp_path / "m.tin").read_bytes() == before
