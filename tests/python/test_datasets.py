"""Finding, fetching and checking data sets, against a server on loopback and tiny made-up sets."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from tintin import datasets

SHAPES = {"train-images": (5, 4, 3), "train-labels": (5,), "t10k-images": (2, 4, 3), "t10k-labels": (2,)}


def idx(array: np.ndarray) -> bytes:
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return head + array.tobytes()


@dataclass
class Tiny:
    """The made-up set: its arrays and its files as they would be on a server."""

    arrays: list[np.ndarray]
    files: dict[str, bytes]

    def put(self, folder: Path, *, unpacked: bool = False) -> Path:
        folder = folder / "tiny"
        folder.mkdir(parents=True)
        for name, data in self.files.items():
            target = folder / (name.removesuffix(".gz") if unpacked else name)
            target.write_bytes(gzip.decompress(data) if unpacked else data)
        return folder

    def equals(self, data: datasets.Dataset) -> bool:
        return all(np.array_equal(a, b) for a, b in zip(self.arrays, data.arrays, strict=True))


@dataclass
class Server:
    """What the loopback server answers, and what it was asked for."""

    url: str
    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    told_length: int | None = None


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tiny:
    for variable in (datasets.DATA_VARIABLE, datasets.MIRROR_VARIABLE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path / "cache"))
    rng = np.random.default_rng(1)
    arrays, files, described = [], {}, []
    for name, shape in SHAPES.items():
        array = rng.integers(0, 2 if len(shape) == 1 else 256, shape, dtype=np.uint8)
        data = idx(array)
        arrays.append(array)
        files[f"{name}.gz"] = gzip.compress(data)
        described.append(datasets.IdxFile(name, shape, hashlib.sha256(data).hexdigest()))
    # Port 9 (discard) has no server: a test that forgets to choose a mirror fails at once, without a network.
    source = datasets.IdxSet(tuple(described), ("http://127.0.0.1:9/none",), ("no", "yes"))
    monkeypatch.setitem(datasets.IDX_SETS, "tiny", source)
    return Tiny(arrays, files)


@pytest.fixture
def server(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.asked.append(self.path)
            data = state.files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(state.told_length or len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state = Server(f"http://127.0.0.1:{http.server_port}", {f"/tiny/{n}": d for n, d in tiny.files.items()})
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, state.url)
    for variable in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(variable, raising=False)
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield state
    http.shutdown()
    thread.join()
    http.server_close()


def cached() -> list[str]:
    folder = datasets.cache_folder() / "tiny"
    return sorted(p.name for p in folder.iterdir()) if folder.exists() else []


@pytest.mark.parametrize("unpacked", [False, True])
def test_found_in_own_folder(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unpacked: bool) -> None:
    tiny.put(tmp_path / "own", unpacked=unpacked)
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "own"))
    data = datasets.load("tiny", download=False)
    assert tiny.equals(data)
    assert (data.name, data.classes, data.input_shape) == ("tiny", ("no", "yes"), (4, 3, 1))
    assert data.x_train.dtype == data.y_train.dtype == np.uint8
    assert cached() == []


def test_root_comes_before_the_variable(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.put(tmp_path / "root")
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "nothing-here"))
    assert tiny.equals(datasets.load("tiny", root=tmp_path / "root", download=False))


def test_found_in_cache(tiny: Tiny, server: Server) -> None:
    tiny.put(datasets.cache_folder())
    assert tiny.equals(datasets.load("tiny"))
    assert server.asked == []


def test_packed_again_by_someone_else_counts(tiny: Tiny, tmp_path: Path) -> None:
    folder = tiny.put(tmp_path / "own")
    for name, data in tiny.files.items():
        (folder / name).write_bytes(gzip.compress(gzip.decompress(data), compresslevel=1, mtime=7))
    assert tiny.equals(datasets.load("tiny", root=tmp_path / "own", download=False))


def test_download_fills_the_cache_once(tiny: Tiny, server: Server) -> None:
    assert datasets.find("tiny") is None
    assert tiny.equals(datasets.load("tiny", progress=False))
    assert len(server.asked) == 4
    assert cached() == sorted(tiny.files)
    assert tiny.equals(datasets.load("tiny", progress=False))
    assert len(server.asked) == 4
    assert datasets.find("tiny") is not None


def test_download_shows_a_bar(tiny: Tiny, server: Server, capfd: pytest.CaptureFixture[str]) -> None:
    datasets.load("tiny", progress=True)
    out, err = capfd.readouterr()
    assert "train-images" in err and out == ""


def test_second_mirror_is_tried(tiny: Tiny, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(datasets.MIRROR_VARIABLE)
    source = datasets.IDX_SETS["tiny"]
    mirrors = (f"{server.url}/gone", f"{server.url}/tiny")
    monkeypatch.setitem(datasets.IDX_SETS, "tiny", datasets.IdxSet(source.files, mirrors, source.classes))
    assert tiny.equals(datasets.load("tiny", progress=False))
    assert server.asked[0] == "/gone/train-images.gz"


def altered(data: bytes) -> bytes:
    plain = bytearray(gzip.decompress(data))
    plain[-1] ^= 1
    return gzip.compress(bytes(plain))


BAD = {
    "altered": (altered, "SHA-256"),
    "truncated gzip": (lambda data: data[:-12], "truncated"),
    "truncated data": (lambda data: gzip.compress(gzip.decompress(data)[:-2]), "truncated"),
    "truncated header": (lambda data: gzip.compress(gzip.decompress(data)[:6]), "truncated"),
    "too long": (lambda data: gzip.compress(gzip.decompress(data) + b"x"), "longer"),
    "wrong magic": (lambda data: gzip.compress(b"\0\0\x0d\3" + gzip.decompress(data)[4:]), "magic 00000d03"),
    "wrong count": (lambda data: gzip.compress(idx(np.zeros((6, 4, 3), np.uint8))), r"\(6, 4, 3\)"),
    "no gzip": (lambda data: b"<html>not found</html>", "not a valid gzip"),
    "empty": (lambda data: b"", "magic"),
    "bomb": (lambda data: gzip.compress(bytes(10_000_000)), "magic|longer"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_own_file_is_reported_and_kept(tiny: Tiny, tmp_path: Path, kind: str) -> None:
    spoil, message = BAD[kind]
    path = tiny.put(tmp_path / "own") / "train-images.gz"
    path.write_bytes(spoil(path.read_bytes()))
    with pytest.raises(datasets.DataError, match=message) as caught:
        datasets.load("tiny", root=tmp_path / "own")
    assert str(path) in str(caught.value)
    assert path.exists()


def test_bad_cached_file_is_removed_and_fetched_again(tiny: Tiny, server: Server) -> None:
    path = tiny.put(datasets.cache_folder()) / "train-images.gz"
    path.write_bytes(altered(path.read_bytes()))
    with pytest.warns(UserWarning, match="removed a bad file"):
        data = datasets.load("tiny", progress=False)
    assert tiny.equals(data)
    assert server.asked == ["/tiny/train-images.gz"]


def test_bad_cached_file_is_refused_when_offline(tiny: Tiny) -> None:
    path = tiny.put(datasets.cache_folder()) / "train-images.gz"
    path.write_bytes(altered(path.read_bytes()))
    with pytest.warns(UserWarning), pytest.raises(FileNotFoundError, match="SHA-256"):
        datasets.load("tiny", download=False)
    assert not path.exists()


@pytest.mark.parametrize("kind", BAD)
def test_bad_download_is_refused(tiny: Tiny, server: Server, kind: str) -> None:
    spoil, _ = BAD[kind]
    server.files["/tiny/train-images.gz"] = spoil(tiny.files["train-images.gz"])
    with pytest.raises(FileNotFoundError, match=r"train-images\.gz") as caught:
        datasets.load("tiny", progress=False)
    assert server.url in str(caught.value)
    assert cached() == []


def test_connection_cut_leaves_nothing(tiny: Tiny, server: Server) -> None:
    server.told_length = 10_000
    with pytest.raises(FileNotFoundError, match="10000 bytes"):
        datasets.load("tiny", progress=False)
    assert cached() == []


def test_endless_answer_is_cut(tiny: Tiny, server: Server) -> None:
    server.files["/tiny/train-images.gz"] = bytes(1_000_000)
    with pytest.raises(FileNotFoundError, match="more than the"):
        datasets.load("tiny", progress=False)
    assert cached() == []


def test_interrupted_download_leaves_nothing(tiny: Tiny, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(datasets, "_read", interrupt)
    with pytest.raises(KeyboardInterrupt):
        datasets.load("tiny", progress=False)
    assert cached() == []


def test_server_down_says_what_to_do(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "own"))
    with pytest.raises(FileNotFoundError) as caught:
        datasets.load("tiny", progress=False)
    text = str(caught.value)
    for part in (str(tmp_path / "own" / "tiny"), str(tmp_path / "cache" / "tiny"), "TINTIN_DATA", "127.0.0.1:9"):
        assert part in text
    assert cached() == []


def test_only_http(tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.put(tmp_path)
    monkeypatch.setenv(datasets.MIRROR_VARIABLE, tmp_path.as_uri())
    with pytest.raises(FileNotFoundError, match="only http"):
        datasets.load("tiny", progress=False)


@pytest.mark.parametrize("name", ["imagenet", "", "../mnist", 3, None, ["mnist"]])
def test_unknown_name(tiny: Tiny, name: object) -> None:
    with pytest.raises(ValueError, match="digits, fashion_mnist, mnist, tiny"):
        datasets.load(name)  # type: ignore[arg-type]


def test_cache_folder_follows_the_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(datasets.CACHE_VARIABLE, str(tmp_path / "a"))
    assert datasets.cache_folder() == tmp_path / "a"
    monkeypatch.delenv(datasets.CACHE_VARIABLE)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert datasets.cache_folder() == tmp_path / "b" / "tintin"


def test_digits() -> None:
    data = datasets.load("digits")
    assert data.x_train.shape[1:] == data.x_test.shape[1:] == (8, 8)
    assert len(data.x_train) + len(data.x_test) == 1797
    assert (data.x_train.min(), data.x_train.max()) == (0, 255)
    assert data.x_train.dtype == data.y_test.dtype == np.uint8
    # every class gives a fifth of its samples to the test
    test, train = np.bincount(data.y_test), np.bincount(data.y_train)
    assert (test == (test + train) // 5).all()


# label counts 0..9 of the test part, as published with each set
@pytest.mark.skipif("TINTIN_DATA" not in os.environ, reason="TINTIN_DATA is not set")
@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("mnist", [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]),
        ("fashion_mnist", [1000] * 10),
    ],
)
def test_real_data(name: str, counts: list[int]) -> None:
    data = datasets.load(name, download=False)
    assert data.x_train.shape == (60_000, 28, 28) and data.x_test.shape == (10_000, 28, 28)
    assert np.bincount(data.y_test).tolist() == counts
    assert len(data.classes) == 10
