"""The boards, and what fits them: `tintin boards`."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from test_cli import answer, refused, tintin

import tintin as package
from tintin import boards, models

FIRMWARE = Path(__file__).resolve().parents[2] / "crates" / "tintin-mcu" / "boards"


@pytest.fixture(scope="module")
def lenet5(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("boards") / "m.tin"
    models.build("lenet5", (28, 28, 1), 10, 0).save(path)
    return path


def test_the_boards_without_a_model() -> None:
    found = answer("boards")["boards"]
    assert [board["name"] for board in found] == [board.name for board in boards.boards()]
    assert all(board["title"] in tintin("boards").stdout for board in found)
    assert "fits" not in found[0]


def test_lenet5_fits_all_but_the_feather(lenet5: Path) -> None:
    found = {board["name"]: board for board in answer("boards", lenet5)["boards"]}
    memory = package.load(lenet5).memory(batch_size=1, training=True)
    for board in found.values():
        assert board["model_ram"] == memory.total
        assert board["model_flash"] == lenet5.stat().st_size
        assert board["ram_left"] == board["ram"] - board["stack"] - board["program_ram"] - memory.total
        assert board["flash_left"] == board["flash"] - board["program_flash"] - board["model_flash"]
        assert board["fits"] == (board["ram_left"] >= 0 and board["flash_left"] >= 0)
    assert not found["feather-m0"]["fits"]
    assert found["pico"]["fits"] and found["microbit-v2"]["fits"]
    text = tintin("boards", lenet5).stdout
    missing = f"{-found['feather-m0']['ram_left']:,} missing"
    line = next(line for line in text.splitlines() if line.startswith("Adafruit Feather M0"))
    assert missing in line and line.endswith("DOES NOT FIT")


def test_batches_take_more_and_prediction_less(lenet5: Path) -> None:
    one, many, use = (
        answer("boards", lenet5, *more)["boards"][0]["model_ram"]
        for more in ((), ("--batch-size", 16), ("--inference",))
    )
    assert use < one < many


def test_bad_input(tmp_path: Path) -> None:
    assert "name its file" in refused("boards", "--batch-size", 4)
    assert "name its file" in refused("boards", "--inference")
    assert "no.tin" in refused("boards", tmp_path / "no.tin")
    broken = tmp_path / "broken.tin"
    broken.write_bytes(b"not a model")
    assert ".tin" in refused("boards", broken)


def test_the_memory_maps_say_the_same() -> None:
    """`memory.x` of every board gives the RAM, stack and flash that `boards.toml` tells."""
    for board in boards.boards():
        text = (FIRMWARE / board.name / "memory.x").read_text(encoding="utf-8")
        regions = dict(re.findall(r"^ *(\w+) *: ORIGIN = \w+, LENGTH = ([\w -]+?) *(?:/\*.*)?$", text, re.MULTILINE))
        size = {name: eval(re.sub(r"(\d+)K", r"(\1*1024)", length)) for name, length in regions.items()}
        assert size["STACK"] == board.stack, board.name
        assert size["STACK"] + size["RAM"] == board.ram, board.name
        assert size["FLASH"] == board.flash, board.name
    folders = {path.parent.name for path in FIRMWARE.glob("*/Embed.toml")}
    assert folders == {board.name for board in boards.boards()}
