"""The `tintin` command as its users run it: a process, its output, its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tintin import models

TRAIN = ("train", "--data", "digits", "--epochs", "2", "--batch-size", "32", "--seed", "1")


def tintin(*arguments: object, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tintin", *map(str, arguments)],
        capture_output=True, text=True, timeout=300, cwd=cwd, env={**os.environ, **variables},
    )  # fmt: skip


def answer(*arguments: object, cwd: Path | None = None, **variables: str) -> dict[str, Any]:
    """The JSON object of a command that must succeed: all of stdout, and nothing else on it."""
    done = tintin(*arguments, "--json", cwd=cwd, **variables)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("\n") == 1
    return json.loads(done.stdout)


def refused(*arguments: object, **variables: str) -> str:
    """The one line on stderr of a command that must fail with exit code 2."""
    done = tintin(*arguments, **variables)
    assert done.returncode == 2, (done.stdout, done.stderr)
    assert done.stdout == "" and "Traceback" not in done.stderr
    assert done.stderr.count("\n") == 1 and done.stderr.startswith("tintin: ")
    return done.stderr


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    path = tmp_path_factory.mktemp("cli") / "m.tin"
    return path, answer(*TRAIN, "--validation-fraction", "0.1", "--out", path)


def test_train(trained: tuple[Path, dict[str, Any]]) -> None:
    path, result = trained
    assert path.is_file()
    assert sorted(p.name for p in path.parent.iterdir()) == ["m.tin", "m.tin.history.json"]
    assert (result["model"], result["data"], result["epochs"]) == ("small", "digits", 2)
    assert [record["epoch"] for record in result["history"]] == [1, 2]
    assert 0 <= result["history"][0]["val_accuracy"] <= 1
    # ten classes: chance is 10 %, and a net that learns at all is far beyond it after two epochs
    assert 0.3 < result["test_accuracy"] <= 1
    assert result["weight_bytes"] >= 1864
    assert result["training_bytes"] > result["weight_bytes"]


def test_train_repeats_itself(trained: tuple[Path, dict[str, Any]]) -> None:
    _, result = trained
    again = answer(*TRAIN, "--validation-fraction", "0.1")
    assert again["digest"] == result["digest"]
    assert answer(*TRAIN[:-1], "2", "--validation-fraction", "0.1")["digest"] != result["digest"]


@pytest.mark.parametrize("arguments", [("--model", "mlp"), ("--optimizer", "niti"), ("--learning-shift", 1)])
def test_train_other_ways(arguments: tuple[object, ...], trained: tuple[Path, dict[str, Any]]) -> None:
    result = answer("train", "--data", "digits", "--epochs", 1, *arguments)
    assert result["digest"] != trained[1]["digest"]


def test_train_for_reading() -> None:
    done = tintin("train", "--data", "digits", "--epochs", 1)
    assert done.returncode == 0
    assert "test samples right" in done.stdout
    assert "epoch 1" in done.stderr


def test_eval_agrees_with_train(trained: tuple[Path, dict[str, Any]]) -> None:
    path, result = trained
    found = answer("eval", path, "--data", "digits")
    for key in ("test_accuracy", "test_loss", "test_samples", "digest"):
        assert found[key] == result[key]


def test_report(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, result = trained
    found = answer("report", path, "--data", "digits", "--out", tmp_path / "r.html")
    assert found["digest"] == result["digest"]
    page = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "data:image/png;base64," in page and result["digest"] in page
    assert "No record of the training" not in page


def test_report_does_not_take_the_history_of_another_model(
    trained: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    answer("train", "--data", "digits", "--epochs", 1, "--seed", 5, "--out", tmp_path / "m.tin")
    history = trained[0].with_name("m.tin.history.json").read_bytes()
    (tmp_path / "m.tin.history.json").write_bytes(history)
    answer("report", tmp_path / "m.tin", "--data", "digits", "--out", tmp_path / "r.html")
    assert "No record of the training" in (tmp_path / "r.html").read_text(encoding="utf-8")


def test_demo(tmp_path: Path) -> None:
    result = answer("demo", "--data", "digits", "--epochs", 1, "--out-dir", tmp_path / "out")
    made = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert made == ["small-digits.tin", "small-digits.tin.history.json", "training.png"]
    assert (tmp_path / "out" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert answer("eval", result["out"], "--data", "digits")["digest"] == result["digest"]


def test_demo_without_mnist_takes_digits(tmp_path: Path) -> None:
    done = tintin(
        "demo", "--epochs", 1, cwd=tmp_path,
        TINTIN_DATA=str(tmp_path), TINTIN_CACHE=str(tmp_path / "cache"), TINTIN_MIRROR="http://127.0.0.1:9",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "MNIST is not at hand" in done.stderr
    assert "RAM to train" in done.stdout and "test samples right" in done.stdout
    assert (tmp_path / "tintin-demo" / "training.png").is_file()


def test_doctor(tmp_path: Path) -> None:
    found = answer("doctor", TINTIN_CACHE=str(tmp_path))
    for key in ("tintin", "numerics", "format", "kernels", "python", "numpy", "cpu"):
        assert found[key]
    assert found["cache"] == str(tmp_path)
    assert set(found["datasets"]) == {"mnist", "fashion_mnist", "digits"}
    done = tintin("doctor", PATH=str(tmp_path))
    assert done.returncode == 0 and "cargo" in done.stdout and "missing" in done.stdout


def test_mistakes_are_one_line(trained: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    path, _ = trained
    assert "digits, fashion_mnist, mnist" in refused("train", "--data", "imagenet")
    assert "lenet5, mcunet, mlp" in refused("train", "--data", "digits", "--model", "vgg")
    assert "no folder" in refused("train", "--data", "digits", "--out", tmp_path / "gone" / "m.tin")
    assert "is a folder" in refused("train", "--data", "digits", "--out", tmp_path)
    assert "--mu" in refused("train", "--data", "digits", "--mu", 1)
    assert "--learning-shift" in refused("train", "--data", "digits", "--optimizer", "niti", "--learning-shift", 1)
    assert "missing.tin" in refused("eval", tmp_path / "missing.tin", "--data", "digits")
    assert refused("train", "--data", "digits", "--model", "lenet5")  # 8 x 8 is too small for LeNet-5
    for name, data in {"truncated": path.read_bytes()[:-1], "empty": b"", "text": b"no model\n"}.items():
        (tmp_path / name).write_bytes(data)
        assert refused("eval", tmp_path / name, "--data", "digits")
    nowhere = {"TINTIN_DATA": str(tmp_path), "TINTIN_CACHE": str(tmp_path / "c"), "TINTIN_MIRROR": "http://127.0.0.1:9"}
    assert "TINTIN_DATA" in refused("train", "--data", "mnist", **nowhere)


def test_mistake_with_json_is_an_object() -> None:
    done = tintin("train", "--data", "imagenet", "--json")
    assert done.returncode == 2
    assert "imagenet" in json.loads(done.stdout)["error"]


def test_numbers_that_are_none() -> None:
    assert "must be a whole number of at least 1, got 'abc'" in tintin("train", "--epochs", "abc").stderr
    said = tintin("train", "--validation-fraction", "abc").stderr
    assert "must be a number of at least 0 and less than 1, got 'abc'" in said


def test_nets_of_squared_error_have_no_classes(tmp_path: Path) -> None:
    net = models.small()
    net.partial_fit(np.zeros((2, 8, 8), np.uint8), np.zeros((2, 10), np.int8), loss="squared_error")
    net.save(tmp_path / "m.tin")
    assert "squared_error" in refused("eval", tmp_path / "m.tin", "--data", "digits")
    assert "squared_error" in refused("report", tmp_path / "m.tin", "--data", "digits", "--out", tmp_path / "r.html")
    assert [p.name for p in tmp_path.iterdir()] == ["m.tin"]


def test_pictures_are_asked_for_before_the_training(tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ModuleNotFoundError('no', name='matplotlib')")
    for command in (
        ("demo", "--data", "digits", "--out-dir", tmp_path / "out"),
        ("report", "gone.tin", "--data", "digits", "--out", tmp_path / "r.html"),
    ):
        assert "pip install matplotlib" in refused(*command, PYTHONPATH=str(tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments",
    [(), ("fly",), ("train", "--epochs", "0"), ("train", "--batch-size", "x"), ("train", "--validation-fraction", "1")],
)
def test_usage(arguments: tuple[str, ...]) -> None:
    done = tintin(*arguments)
    assert done.returncode == 2
    assert "usage: tintin" in done.stderr and "Traceback" not in done.stderr


def test_version() -> None:
    assert tintin("--version").stdout.startswith("tintin ")


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
def test_interrupt(tmp_path: Path) -> None:
    command = ["train", "--data", "digits", "--epochs", "100000", "--out", str(tmp_path / "m.tin")]
    child = subprocess.Popen(
        [sys.executable, "-m", "tintin", *command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert child.stderr is not None
        assert "epoch 1" in child.stderr.readline()  # it trains
        time.sleep(0.1)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate(timeout=60)
    finally:
        child.kill()
    assert child.returncode == 130
    assert "interrupted; nothing was saved" in err and "Traceback" not in err
    assert list(tmp_path.iterdir()) == []
