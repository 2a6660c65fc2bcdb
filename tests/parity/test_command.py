"""`tintin verify` as its users run it, with an emulator."""

from __future__ import annotations

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_cli import answer, tintin

from tintin import Linear, ReLU, Sequential, TinTin, cli, device
from tintin.device import emulator

CORES = ["m0", "m3", "m4", "m7", "m33"]


@pytest.fixture
def model(tmp_path: Path) -> tuple[Path, Sequential]:
    """A net that was trained a little, with a milestone yet to come."""
    net = Sequential([Linear(12, bias=True), ReLU(), Linear(4)], input_shape=(9,), seed=2)
    draw = np.random.default_rng(0)
    x, y = draw.integers(-127, 128, (40, 9), dtype=np.int8), draw.integers(0, 4, 40)
    net.fit(x, y, epochs=1, batch_size=4, optimizer=TinTin(3, rounding="nearest", milestones=(1.0,)))
    path = tmp_path / "m.tin"
    net.save(path)
    return path, net


def test_every_core_agrees_with_training_here(model: tuple[Path, Sequential]) -> None:
    path, net = model
    found = answer("verify", path, "--steps", 20, "--batch-size", 3, "--seed", 5)
    assert found["equal"] and [core["core"] for core in found["cores"]] == CORES
    assert (found["rule"], found["rounding"], found["samples"]) == ("tintin", "nearest", "random samples")
    given = device.random_samples(net, "cross_entropy", 5)
    batches = given.batches(3)
    order = np.arange(3, dtype=np.uint32)
    for _ in range(20):
        x, y = next(batches)
        net._engine.train(x, given.exponent, y, None, order, 3, 3, net._engine.recipe, 0)
    assert {core["digest"] for core in found["cores"]} == {f"{net.digest():#018x}"}
    assert {core["steps"] for core in found["cores"]} == {20}


def test_a_line_for_each_core(model: tuple[Path, Sequential]) -> None:
    done = tintin("verify", model[0], "--steps", 2)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split(":")[0] for line in lines] == CORES
    assert all("2 steps, equal, digest 0x" in line for line in lines)
    assert "M0+ code on QEMU's Cortex-M3 machine" in lines[0]
    # each runs the kernels written for it, or this would prove nothing about them
    names = ("ARMv6-M", "ARMv7-M", "ARM DSP", "ARM DSP", "ARM DSP")
    assert all(f", {name} kernels" in line for name, line in zip(names, lines, strict=False))
    assert ", portable kernels" not in lines[4]
    done = tintin("verify", model[0], "--steps", 2, "--portable")
    assert [line.split(":")[0] for line in done.stdout.splitlines()] == CORES
    assert [", portable kernels" in line for line in done.stdout.splitlines()] == [True] * 5


def test_without_a_model() -> None:
    found = answer("verify", "--core", "m4", "--steps", 3, "--data", "digits", TINTIN_DATA="/nonexistent")
    assert found["equal"] and found["model"] is None and "digits" in found["samples"]


def test_a_difference_ends_in_exit_code_1(
    model: tuple[Path, Sequential], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_recipe = device.Runner.set_recipe
    monkeypatch.setattr(
        device.Runner, "set_recipe", lambda self, recipe: set_recipe(self, TinTin(9).recipe("cross_entropy", 1))
    )
    assert cli.main(["verify", str(model[0]), "--core", "m4"]) == 1
    line = capsys.readouterr().out
    assert line.startswith("m4: DIFFERS after 0 equal steps at step 1 in layer 0 (Linear) weights")
    assert cli.main(["verify", str(model[0]), "--core", "m4", "--json"]) == 1
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    assert not found["equal"] and found["cores"][0]["difference"]["step"] == 1


def test_a_net_too_large_for_a_core(tmp_path: Path) -> None:
    path = tmp_path / "large.tin"
    Sequential([Linear(2000), Linear(3)], input_shape=(1000,)).save(path)
    done = tintin("verify", path, "--core", "m33", "--steps", 1)
    assert done.returncode == 2
    *table, last = done.stderr.splitlines()
    assert last.startswith("tintin: the net needs 2,0") and "1,572,864" in last
    assert [line.split()[0] for line in table[-3:]] == ["needed", "available", "missing"]
    assert any(line.startswith("weights") and "2,006,000 bytes" in line for line in table)


def test_an_image_for_another_core(tmp_path: Path) -> None:
    mine = emulator.image("thumbv6m-none-eabi")
    shutil.copy(mine, tmp_path / emulator.image_name("thumbv7em-none-eabihf", False))
    done = tintin("verify", "--core", "m4", TINTIN_FIRMWARE=str(tmp_path))
    assert done.returncode == 2 and "firmware for thumbv6m-none-eabi, expected" in done.stderr


def test_firmware_that_stops_says_why(tmp_path: Path) -> None:
    """Without its vectors the core locks up, and QEMU says so."""
    data = bytearray(emulator.image("thumbv7em-none-eabihf").read_bytes())
    headers = struct.unpack_from("<I", data, 28)[0]  # where the ELF file tells its segments
    vectors = struct.unpack_from("<I", data, headers + 4)[0]  # the first one
    data[vectors + 4 : vectors + 64] = bytes(60)
    (tmp_path / emulator.image_name("thumbv7em-none-eabihf", False)).write_bytes(data)
    done = tintin("verify", "--core", "m4", TINTIN_FIRMWARE=str(tmp_path))
    assert done.returncode == 2 and "stopped before its answer came; it said:" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_data_set_that_does_not_fit(model: tuple[Path, Sequential]) -> None:
    done = tintin("verify", model[0], "--data", "digits")
    assert done.returncode == 2 and "must have shape" in done.stderr


def test_interrupted_and_no_emulator_left_behind(model: tuple[Path, Sequential]) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "tintin", "verify", str(model[0]), "--core", "m3", "--steps", "1000000"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ, start_new_session=True,
    )  # fmt: skip
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
    for _ in range(200):
        if children.read_text():
            break
        time.sleep(0.05)
    child = int(children.read_text().split()[0])
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    try:
        _, said = process.communicate(timeout=30)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # the emulator, too
    assert process.returncode == 130 and "interrupted" in said and "Traceback" not in said
    assert not Path(f"/proc/{child}").exists()
