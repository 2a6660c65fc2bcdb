"""The Python of docs/adapt.md runs as it stands and prints what is shown below it.

`python tests/python/test_guide.py` writes what it prints now.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import tempfile
from pathlib import Path
from typing import Any

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adapt.md"
#: a block of Python and what it prints
BLOCK = re.compile(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", re.DOTALL | re.MULTILINE)


def printed(text: str, folder: Path) -> list[str]:
    """What the blocks print, one after the other in one namespace."""
    names: dict[str, Any] = {}
    found = []
    here = Path.cwd()
    os.chdir(folder)
    try:
        for match in BLOCK.finditer(text):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(match[1], str(GUIDE), "exec"), names)
            found.append(out.getvalue())
    finally:
        os.chdir(here)
    return found


def test_guide(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    shown = [match[2] for match in BLOCK.finditer(text)]
    assert len(shown) == text.count("```python\n") > 5
    assert printed(text, tmp_path) == shown


if __name__ == "__main__":
    guide = GUIDE.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        lines = iter(printed(guide, Path(folder)))
    GUIDE.write_text(BLOCK.sub(lambda m: f"```python\n{m[1]}```\n\n```text\n{next(lines)}```", guide), encoding="utf-8")
