"""The Python of README.md runs as it stands."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

import tintin

README = Path(__file__).resolve().parents[2] / "README.md"


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (160, 28, 28), dtype=np.uint8), np.arange(160, dtype=np.uint8) % 10
    data = tintin.datasets.Dataset(x[:128], y[:128], x[128:], y[128:], tuple("0123456789"), "mnist")
    monkeypatch.setattr(tintin.datasets, "load", lambda name: data)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert blocks
    for block in blocks:
        short = re.sub(r"\b(epochs|episodes)=\d+", r"\1=1", block)
        assert short != block
        exec(compile(short, str(README), "exec"), {})
    assert "RAM for training" in capsys.readouterr().out
    assert tintin.load(tmp_path / "m.tin").step == 2
