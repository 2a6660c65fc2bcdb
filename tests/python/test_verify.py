"""Runners and `tintin verify` without an emulator: frames, answers that are none, and what is missing or wrong.

What needs an emulator is in tests/parity.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers import refused, resealed
from hypothesis import given
from hypothesis import strategies as st
from test_cli import answer, tintin

from tintin import FORMAT, NUMERICS, Linear, Niti, Sequential, TinTin, device
from tintin.device import emulator, frames, verify
from tintin.device.runner import PROTOCOL, STEP

#: of docs/protocol.md: a hello, tag 1
HELLO_FRAME = bytes.fromhex("07 01 01 28 13 C5 2F 00")
HELLO = struct.pack("<4H3I", PROTOCOL, NUMERICS, FORMAT, 0, 8, 4096, 1024) + b"here\0portable\0000.1.0"


@given(st.lists(st.one_of(st.just(b"\0"), st.binary(max_size=5), st.binary(min_size=250, max_size=260))))
def test_frames_come_back(parts: list[bytes]) -> None:
    message = b"".join(parts)
    frame = frames.encode(message)
    assert frame.endswith(b"\0") and frame.count(0) == 1
    assert frames.decode(frame[:-1]) == message


def test_frames_are_those_of_the_document() -> None:
    assert frames.encode(b"\1\1") == HELLO_FRAME
    # runs of 253, 254 and 255 bytes without a zero: a block ends at 254
    for n in (253, 254, 255):
        assert frames.decode(frames.encode(b"x" * n)[:-1]) == b"x" * n


@given(st.binary(max_size=600), st.integers(1, 255), st.data())
def test_frames_cut_or_altered_are_refused(message: bytes, flip: int, data: st.DataObject) -> None:
    frame = frames.encode(message)[:-1]
    at = data.draw(st.integers(0, len(frame) - 1))
    for bad in (frame[:at], frame[:at] + frame[at + 1 :], frame[:at] + bytes([frame[at] ^ flip]) + frame[at + 1 :]):
        if bad == frame:
            continue
        try:
            assert frames.decode(bad) == message  # only another way to write the same: a last block of 254
        except frames.DamagedFrame:
            continue
        assert frames.encode(message)[:-1].endswith(b"\1")


class Fake:
    """A stream whose other end answers what it is told to, whatever is asked."""

    def __init__(self, *answers: bytes) -> None:
        self.answers = [frames.encode(b"\0\1" + HELLO), *answers]
        self.sent: list[bytes] = []

    def read(self, size: int) -> bytes:
        return self.answers.pop(0) if self.answers else b""

    def write(self, data: bytes) -> None:
        self.sent.append(data)


def test_a_runner_says_hello() -> None:
    stream = Fake()
    hello = device.Runner(stream).hello
    assert (hello.numerics, hello.pool, hello.target, hello.kernels) == (NUMERICS, 4096, "here", "portable")
    assert stream.sent == [b"\0", HELLO_FRAME]


def test_what_a_client_before_left_half_sent_is_no_concern() -> None:
    stream = Fake()
    stream.answers.insert(0, frames.encode(b"\1\0\0the frame was damaged"))
    assert device.Runner(stream).hello.pool == 4096


@pytest.mark.parametrize(
    ("first", "says"),
    [
        (b"", "ended before its answer"),
        (b"garbage\0", "damaged"),
        (frames.encode(b"\0"), "no head"),
        (frames.encode(b"\0\2" + HELLO), "another request"),
        (frames.encode(b"\0\1" + HELLO[:10]), "greeting"),
        (frames.encode(b"\0\1" + struct.pack("<H", PROTOCOL + 1) + HELLO[2:]), f"protocol {PROTOCOL + 1}"),
        (frames.encode(b"\5\1\7"), "not understood"),
    ],
)
def test_what_is_no_hello(first: bytes, says: str) -> None:
    stream = Fake()
    stream.answers = [first]
    refused(device.LinkError, says, call=lambda: device.Runner(stream))


def test_answers_in_pieces_and_refusals() -> None:
    said = frames.encode(b"\x0a\2" + struct.pack("<B4I", 4, 1, 2, 3, 4) + b"too large")
    runner = device.Runner(Fake(b"\0\0", *(said[i : i + 1] for i in range(len(said)))))
    with pytest.raises(device.Refused, match="too large") as caught:
        runner.digest()
    assert (caught.value.code, caught.value.numbers) == (10, (1, 2, 3, 4))


def test_answers_of_a_wrong_length() -> None:
    runner = device.Runner(Fake(frames.encode(b"\0\2abc"), frames.encode(b"\0\3abc")))
    refused(device.LinkError, "3 bytes, expected 12", call=runner.digest)
    refused(device.LinkError, "too short", call=lambda: runner.predict(np.zeros(2, np.int8), 0))


def test_a_net_too_large_is_told_by_role_before_anything_is_sent() -> None:
    stream = Fake()
    runner = device.Runner(stream)
    net = Sequential([Linear(60), Linear(50)], input_shape=(40,))
    with pytest.raises(device.DoesNotFit, match=r"training, batch 2.*4,096.*smaller batch") as caught:
        runner.load(net, 2)
    rows = dict(line.rsplit("  ", 1) for line in caught.value.table.splitlines())
    sizes = {role.strip(): int(size.split()[0].replace(",", "")) for role, size in rows.items()}
    assert sizes["weights"] == 40 * 60 + 60 * 50 and sizes["available"] == 4096
    assert sizes["missing"] == sizes["needed"] - 4096
    own = {role: size for role, size in sizes.items() if role not in ("needed", "available", "missing")}
    assert sum(own.values()) == sizes["needed"]
    refused(device.Refused, "10 layers", "takes 8", call=lambda: runner.load(Sequential([Linear(1)] * 10, (1,))))
    assert len(stream.sent) == 2  # the hello alone


def test_more_samples_than_a_message_holds() -> None:
    runner = device.Runner(Fake())
    refused(ValueError, "smaller batch", "1,024", call=lambda: runner.step(np.zeros((9, 200), np.int8), 0, np.zeros(9)))


class Elsewhere:
    """A runner in this process that learns another way: what a wrong kernel would look like."""

    def __init__(self, net: Sequential, wrong_from: int) -> None:
        self.hello = device.Runner(Fake()).hello
        self.net, self.wrong_from = net, wrong_from

    def load(self, net: Sequential, batch_size: int, *, train_from: int) -> device.Loaded:
        self.net = Sequential.from_bytes(net.to_bytes())
        if self.wrong_from == 0:
            self.spoil()
        return device.Loaded(0, 0, 0, self.net.step, self.net.digest())

    def spoil(self) -> None:
        tensor = self.net.tensors()[-1]
        tensor["mantissas"][0] ^= 1
        self.net.set_tensor(tensor["layer"], tensor["mantissas"], tensor["scale"], bias=True)

    def set_recipe(self, recipe: object) -> None:
        self.recipe = recipe

    def step(self, x: np.ndarray, exponent: int, y: np.ndarray, target_exponent: int | None) -> device.Stepped:
        order = np.arange(len(x), dtype=np.uint32)
        score = self.net._engine.train(x, exponent, y, target_exponent, order, len(x), len(x), self.recipe, 0)
        if self.net.step == self.wrong_from:
            self.spoil()
        return device.Stepped(self.net.step, *score, self.net.digest())

    def save(self) -> bytes:
        return self.net.to_bytes()


@pytest.mark.parametrize("wrong_from", [0, 1, 7])
def test_the_first_step_that_differs_is_named_with_its_layer(wrong_from: int) -> None:
    net = Sequential([Linear(6), Linear(3, bias=True)], input_shape=(4,), seed=1)
    before = net.digest()
    given = device.random_samples(net, "cross_entropy", 0)
    there = Elsewhere(net, wrong_from)
    outcome = device.compare(there, net, given, device.recipe_of(net, 2), 20, 2)
    assert not outcome.equal and outcome.steps == max(wrong_from - 1, 0) and net.digest() == before
    assert outcome.difference.step == wrong_from and outcome.difference.tensors == ["layer 1 (Linear) bias"]
    assert str(outcome.difference).startswith(f"step {wrong_from} in layer 1 (Linear) bias: digest 0x")


def test_samples_for_every_net(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for variable in ("TINTIN_DATA", "TINTIN_CACHE"):
        monkeypatch.setenv(variable, str(tmp_path))
    digits = device.default(3)
    assert digits.input_shape == (8, 8, 1) and digits.seed == 3
    assert "digits" in device.choose_samples(digits, "cross_entropy", None, 0).source
    auto = Sequential([Linear(64)], input_shape=(8, 8, 1))
    found = device.choose_samples(auto, "squared_error", None, 0)
    assert found.target_exponent == -7 and np.array_equal(found.x, found.y)
    other = Sequential([Linear(3)], input_shape=(5,))
    noise = device.choose_samples(other, "squared_error", None, 4)
    assert noise.source == "random samples" and noise.y.shape == (len(noise.x), 3) and noise.x.min() >= -127
    assert np.array_equal(noise.x, device.random_samples(other, "squared_error", 4).x)
    refused(ValueError, "values of its own", call=lambda: device.choose_samples(digits, "squared_error", "digits", 0))
    batches = noise.batches(100)
    first, _ = next(batches)
    again = [next(batches)[0] for _ in range(2)][-1]  # samples 200 to 255, then the first ones
    assert np.array_equal(again[56:], first[:44])


def test_recipes_have_the_bytes_of_a_file() -> None:
    for optimizer in (TinTin(4, milestones=(0.25,)), Niti(3, "nearest")):
        net = Sequential([Linear(2)], input_shape=(3,))
        net.partial_fit(np.zeros((1, 3), np.int8), np.array([1]), optimizer)
        recipe = verify.recipe_of(net, 1)
        assert recipe == optimizer.recipe(optimizer.default_loss, 1)
        assert net.to_bytes()[40:64] == recipe.to_bytes()


def speaks(code: str, patience: float = 20.0) -> device.Process:
    """A process that is no runner."""
    return device.Process([sys.executable, "-c", code], patience)


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("import sys; sys.exit('board on fire')", "board on fire"),
        ("import sys; print('boot loader 1.0', flush=True); sys.stdin.read(1)", "stopped before its answer"),
        ("import sys; sys.stdout.buffer.write(b'boot loader\\0'); sys.stdout.flush(); sys.stdin.read()", "damaged"),
    ],
)
def test_processes_that_are_no_runner(code: str, says: str) -> None:
    refused(device.LinkError, says, call=speaks(code).__enter__)


def test_a_runner_that_does_not_answer_is_stopped() -> None:
    process = speaks("import time; time.sleep(100)", patience=0.2)
    refused(device.LinkError, "did not answer within 0.2 seconds", call=process.__enter__)
    assert process._process.returncode is not None


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder for images, and something that is found as the emulator."""
    program = tmp_path / "bin" / emulator.PROGRAM
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setenv("TINTIN_FIRMWARE", str(tmp_path / "images"))
    (tmp_path / "images").mkdir()
    yield tmp_path / "images"


def image(folder: Path, *versions: int) -> None:
    (folder / emulator.image_name("thumbv7em-none-eabihf", False)).write_bytes(
        b"elf" + emulator._LABEL + struct.pack("<3H", *versions)
    )


def stopped(code: int, *arguments: object, **variables: str) -> str:
    """The last line on stderr of a `tintin verify` that must end with this code."""
    done = tintin("verify", *arguments, **variables)
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    assert "Traceback" not in done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith("tintin: ")
    return line


def test_no_emulator(tmp_path: Path) -> None:
    assert "apt-get install qemu-system-arm" in stopped(3, "--core", "m4", PATH=str(tmp_path))
    done = tintin("verify", "--json", PATH=str(tmp_path))
    assert done.returncode == 3 and '{"error": "qemu-system-arm is not installed' in done.stdout


def test_no_images(tools: Path) -> None:
    said = stopped(3, "--core", "m4")
    assert "runner-thumbv7em-none-eabihf.elf" in said and "make firmware" in said and str(tools) in said
    assert "portable" in stopped(3, "--core", "m33", "--portable")


def test_images_of_other_versions(tools: Path) -> None:
    own = (NUMERICS, FORMAT, PROTOCOL)
    for at, what in enumerate(("numerics", "file format", "protocol")):
        versions = list(own)
        versions[at] += 1
        image(tools, *versions)
        said = stopped(3, "--core", "m7")
        assert f"{what} {versions[at]}" in said and "make firmware" in said
    (tools / emulator.image_name("thumbv7em-none-eabihf", False)).write_bytes(b"\x7fELF")
    assert "no image of tintin's runner" in stopped(3, "--core", "m4")
    image(tools, *own)
    assert "stopped before its answer" in stopped(2, "--core", "m4")  # the emulator of this test does nothing


def test_where_images_are_found(tools: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    image(tools, NUMERICS, FORMAT, PROTOCOL)
    assert emulator.find_image("thumbv7em-none-eabihf") == tools / "runner-thumbv7em-none-eabihf.elf"
    assert emulator.find_image("thumbv7em-none-eabihf", True) is None
    found = answer("doctor")["firmware"]
    assert found["m4, m7"] == {"path": str(tools / "runner-thumbv7em-none-eabihf.elf"), "numerics": 1, "usable": True}
    assert found["m0"] is None
    assert "make firmware" in tintin("doctor").stdout
    monkeypatch.delenv("TINTIN_FIRMWARE")
    checkout = tmp_path / "checkout"
    (checkout / "crates" / "tintin-mcu").mkdir(parents=True)
    (checkout / "crates" / "tintin-mcu" / "Cargo.toml").touch()
    monkeypatch.chdir(checkout)
    folders = emulator.image_folders()
    assert folders[0].parts[-2:] == ("device", "images") and folders[-1] == checkout / "target" / "firmware"


def test_mistakes(tmp_path: Path) -> None:
    assert "known are m0, m3, m4, m7, m33 and all" in stopped(2, "--core", "m5")
    for wrong in (("--steps", "0"), ("--batch-size", "x"), ("--seed", "-1"), ("--seed", str(2**32))):
        assert tintin("verify", *wrong).returncode == 2
    path = tmp_path / "m.tin"
    assert "m.tin" in stopped(2, path)
    data = bytearray(Sequential([Linear(3)], input_shape=(4,)).to_bytes())
    path.write_bytes(data[:-1])
    assert "cut short" in stopped(2, path)
    data[90] ^= 1
    path.write_bytes(data)
    assert "check sum" in stopped(2, path)
    struct.pack_into("<H", data, 10, NUMERICS + 1)
    path.write_bytes(resealed(data))
    assert f"numerics version {NUMERICS + 1}" in stopped(2, path)


def test_step_codes_are_those_of_the_document() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "protocol.md").read_text(encoding="utf-8")
    assert f"| {STEP} | step |" in page
    assert HELLO_FRAME.hex(" ").upper() in page
