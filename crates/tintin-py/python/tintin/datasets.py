"""Data sets as integers: MNIST and Fashion-MNIST in their original files, scikit-learn's digits; recordings.

`load(name)` looks for each of a set's four files in three places:

1. `$TINTIN_DATA/<name>/` (or `root/<name>/`), a folder of yours that is only ever read;
2. the cache: `$TINTIN_CACHE/<name>/`, else the user's cache folder of the system;
3. the original servers, unless `download=False`; what arrives is checked and then put into the cache.

The SHA-256 is that of the unpacked file, so a file that was packed again by someone else still counts as
the original, and so does an unpacked one. Nothing that fails a check is ever handed out or left in the cache.

`cwru()`, `spectrum_sensing()`, `har()` and `wisdm_watch()` read recordings that no net takes as they are;
`tintin.features` goes between. `omniglot()` and `speech_commands()` give uint8 that nets take.
"""

from __future__ import annotations

# what only loading needs is imported there: `import tintin` is to take no time
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from . import _extras
from ._files import write_atomically
from ._recordings import Recordings, cwru, har, omniglot, spectrum_sensing, speech_commands, wisdm_watch
from ._sources import DATA_VARIABLE, DataError

__all__ = [
    "CACHE_VARIABLE", "DATA_VARIABLE", "MIRROR_VARIABLE", "DataError", "Dataset", "Recordings",
    "cache_folder", "cwru", "find", "har", "load", "names", "omniglot", "spectrum_sensing", "speech_commands",
    "wisdm_watch",
]  # fmt: skip

Bytes = NDArray[np.uint8]

CACHE_VARIABLE = "TINTIN_CACHE"
MIRROR_VARIABLE = "TINTIN_MIRROR"
TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set split into training and test part: uint8 images `(n, height, width)`, uint8 labels `(n,)`."""

    x_train: Bytes
    y_train: Bytes
    x_test: Bytes
    y_test: Bytes
    classes: tuple[str, ...]
    name: str

    @property
    def arrays(self) -> tuple[Bytes, Bytes, Bytes, Bytes]:
        """`x_train, y_train, x_test, y_test`, for unpacking."""
        return self.x_train, self.y_train, self.x_test, self.y_test

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of one sample, as `Sequential` wants them."""
        _, height, width = self.x_train.shape
        return height, width, 1

    def __repr__(self) -> str:
        height, width, _ = self.input_shape
        return (
            f"Dataset({self.name!r}: {len(self.x_train)} training and {len(self.x_test)} test samples "
            f"of {height} x {width}, {len(self.classes)} classes)"
        )


@dataclass(frozen=True)
class IdxFile:
    """One idx file: its name without `.gz`, its shape, and the SHA-256 of the unpacked bytes."""

    name: str
    shape: tuple[int, ...]
    sha256: str

    @property
    def header(self) -> bytes:
        """Two zero bytes, 8 for uint8, the number of dimensions, then each as a big-endian u32."""
        head = bytes([0, 0, 8, len(self.shape)])
        return head + b"".join(n.to_bytes(4, "big") for n in self.shape)

    @property
    def size(self) -> int:
        """Length of the unpacked file in bytes."""
        size = 1
        for n in self.shape:
            size *= n
        return len(self.header) + size


@dataclass(frozen=True)
class IdxSet:
    """Where a data set of four idx files comes from: images and labels for training, then for the test."""

    files: tuple[IdxFile, IdxFile, IdxFile, IdxFile]
    mirrors: tuple[str, ...]
    classes: tuple[str, ...]


def _original(*sums: str) -> tuple[IdxFile, IdxFile, IdxFile, IdxFile]:
    """MNIST and Fashion-MNIST share names and shapes; only the sums differ."""
    return (
        IdxFile("train-images-idx3-ubyte", (60_000, 28, 28), sums[0]),
        IdxFile("train-labels-idx1-ubyte", (60_000,), sums[1]),
        IdxFile("t10k-images-idx3-ubyte", (10_000, 28, 28), sums[2]),
        IdxFile("t10k-labels-idx1-ubyte", (10_000,), sums[3]),
    )


IDX_SETS: dict[str, IdxSet] = {
    "mnist": IdxSet(
        files=_original(
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        mirrors=(
            "https://ossci-datasets.s3.amazonaws.com/mnist",
            "https://storage.googleapis.com/cvdf-datasets/mnist",
        ),
        classes=tuple("0123456789"),
    ),
    "fashion_mnist": IdxSet(
        files=_original(
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        mirrors=(
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion",
        ),
        classes=(
            "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
            "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
        ),
    ),
}  # fmt: skip


#: data sets that have a function of their own
_FUNCTIONS = {
    "cwru": "cwru", "har": "har", "kws_speech_commands": "speech_commands", "omniglot": "omniglot",
    "spectrum_sensing": "spectrum_sensing", "speech_commands": "speech_commands", "wisdm51_watch": "wisdm_watch",
    "wisdm_watch": "wisdm_watch",
}  # fmt: skip


def names() -> tuple[str, ...]:
    """The data sets `load` knows."""
    return (*IDX_SETS, "digits")


def load(
    name: str,
    *,
    root: str | os.PathLike[str] | None = None,
    progress: bool | None = None,
    download: bool = True,
) -> Dataset:
    """Load a data set by name; see the head of this module for where it is looked for.

    `root` is looked into instead of `$TINTIN_DATA`. `progress` shows a bar while downloading: `None` means
    on a terminal only. Raises `ValueError` for an unknown name, `DataError` (a `ValueError`) for a file of
    yours that is truncated or altered, and `FileNotFoundError` when a file can be neither found nor fetched.
    """
    if name == "digits":
        return _digits()
    source = _source(name)
    train_images, train_labels, test_images, test_labels = (
        _find_or_fetch(name, source, file, root, progress, download) for file in source.files
    )
    return Dataset(train_images, train_labels, test_images, test_labels, source.classes, name)


def find(name: str, *, root: str | os.PathLike[str] | None = None) -> tuple[Path, ...] | None:
    """The files `load` would read without the network (unchecked), or None when one is missing.

    An empty tuple means that the set needs no files.
    """
    if name == "digits":
        return () if _extras.installed("sklearn") else None
    found = []
    for file in _source(name).files:
        path = next(_present(_folders(name, root), file), None)
        if path is None:
            return None
        found.append(path)
    return tuple(found)


def cache_folder() -> Path:
    """`$TINTIN_CACHE`, else `tintin` in the cache folder of the system."""
    if own := os.environ.get(CACHE_VARIABLE):
        return Path(own)
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "tintin"


def _source(name: str) -> IdxSet:
    try:
        return IDX_SETS[name]
    except (KeyError, TypeError):
        if name in _FUNCTIONS:
            raise ValueError(f"{name!r} is not loaded by name: call tintin.datasets.{_FUNCTIONS[name]}()") from None
        known = ", ".join(sorted(names()))
        raise ValueError(f"unknown data set {name!r}; known are {known}") from None


def _folders(name: str, root: str | os.PathLike[str] | None) -> list[Path]:
    """The user's own folder if there is one, then the cache."""
    own = root if root is not None else os.environ.get(DATA_VARIABLE)
    return ([Path(own) / name] if own else []) + [cache_folder() / name]


def _present(folders: list[Path], file: IdxFile) -> Iterator[Path]:
    for folder in folders:
        for path in (folder / f"{file.name}.gz", folder / file.name):
            if path.is_file():
                yield path


def _find_or_fetch(
    name: str,
    source: IdxSet,
    file: IdxFile,
    root: str | os.PathLike[str] | None,
    progress: bool | None,
    download: bool,
) -> Bytes:
    folders = _folders(name, root)
    cache = folders[-1]
    removed = ""
    for path in _present(folders, file):
        try:
            return _read(path, file)
        except DataError as error:
            if path.parent != cache:
                raise
            path.unlink(missing_ok=True)
            removed = f"; a bad file was removed from the cache ({error})"
            warnings.warn(f"removed a bad file from the cache: {error}", stacklevel=3)
    failures = []
    if download:
        from http.client import HTTPException

        own = os.environ.get(MIRROR_VARIABLE)
        for mirror in (f"{own.rstrip('/')}/{name}",) if own else source.mirrors:
            url = f"{mirror}/{file.name}.gz"
            try:
                return _fetch(url, cache / f"{file.name}.gz", file, progress)
            except (OSError, HTTPException, ValueError) as error:
                failures.append(f"{url} ({error})")
    looked = ", ".join(str(folder) for folder in folders)
    tried = f"; download failed from {', '.join(failures)}" if failures else "; download was not allowed"
    raise FileNotFoundError(
        f"data set {name!r}: {file.name}.gz not found in {looked}{tried}{removed}; set {DATA_VARIABLE} to a "
        f"folder that holds {name}/{file.name}.gz, or put the file into {cache} by hand"
    )


def _read(path: Path, file: IdxFile) -> Bytes:
    """Unpack, check and parse one file."""
    import gzip
    import zlib

    limit = file.size + 1  # one byte more shows that a file is too long, without unpacking all of it
    try:
        if path.suffix in (".gz", ".part"):
            with gzip.open(path) as stream:
                data = stream.read(limit)
        else:
            with path.open("rb") as stream:
                data = stream.read(limit)
    except EOFError:
        raise DataError(f"{path} is truncated: the gzip data end early") from None
    except (gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path} is not a valid gzip file: {error}") from None
    return _parse(data, path, file)


def _parse(data: bytes, path: Path, file: IdxFile) -> Bytes:
    header = file.header
    if data[:4] != header[:4]:
        raise DataError(f"{path} is not the idx file expected: magic {data[:4].hex()}, not {header[:4].hex()}")
    if len(data) < len(header):
        raise DataError(f"{path} is truncated: {len(data)} bytes, less than its header of {len(header)}")
    if data[4 : len(header)] != header[4:]:
        counts = tuple(int.from_bytes(data[i : i + 4], "big") for i in range(4, len(header), 4))
        raise DataError(f"{path} holds an array of shape {counts}, expected {file.shape}")
    if len(data) < file.size:
        raise DataError(f"{path} is truncated: {len(data)} of {file.size} bytes")
    if len(data) > file.size:
        raise DataError(f"{path} is longer than the {file.size} bytes its header tells")
    import hashlib

    digest = hashlib.sha256(data).hexdigest()
    if digest != file.sha256:
        raise DataError(f"{path} was altered: SHA-256 of the unpacked bytes is {digest}, expected {file.sha256}")
    return np.frombuffer(data, np.uint8, offset=len(header)).reshape(file.shape)


def _fetch(url: str, target: Path, file: IdxFile, progress: bool | None) -> Bytes:
    """Download to a temporary file beside `target`, check it, and only then give it its name."""
    if not url.startswith(("http://", "https://")):
        raise DataError("only http and https are allowed")
    import urllib.request

    target.parent.mkdir(parents=True, exist_ok=True)

    def write(out: BinaryIO) -> Bytes:
        with urllib.request.urlopen(url, timeout=TIMEOUT_SECONDS) as answer:
            told = int(answer.headers.get("Content-Length") or 0)
            # gzip never adds more than a little: a longer answer is not our file
            limit = file.size + file.size // 100 + 4096
            received = 0
            bar = _extras.bar(told, target.name, progress, _extras.BYTES)
            try:
                while block := answer.read(1 << 16):
                    received += len(block)
                    if received > limit:
                        raise DataError(f"more than the {limit} bytes the file can have")
                    out.write(block)
                    if bar is not None:
                        bar.update(len(block))
            finally:
                if bar is not None:
                    bar.close()
        if received < told:
            raise DataError(f"the connection ended after {received} of {told} bytes")
        out.flush()
        part = Path(out.name)
        try:
            return _read(part, file)
        except DataError as error:
            raise DataError(str(error).replace(str(part), "what arrived")) from None

    return write_atomically(target, write)


def _digits() -> Dataset:
    """scikit-learn's 8 x 8 digits, 0..16 stretched to 0..255; of each class every fifth sample is for the test."""
    bunch = _extras.require("sklearn.datasets", "the data set 'digits'").load_digits()
    images = (bunch.images.astype(np.int64) * 255 // 16).astype(np.uint8)
    labels = bunch.target.astype(np.uint8)
    test = np.zeros(len(labels), bool)
    for label in range(10):
        test[np.flatnonzero(labels == label)[4::5]] = True
    return Dataset(
        np.ascontiguousarray(images[~test]), labels[~test], np.ascontiguousarray(images[test]), labels[test],
        tuple("0123456789"), "digits",
    )  # fmt: skip
