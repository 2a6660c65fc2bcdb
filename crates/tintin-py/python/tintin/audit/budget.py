"""Limits per firmware and target, from a TOML file, and what of an image exceeds them."""

from __future__ import annotations

import os
import tomllib
from pathlib import Path
from typing import Any

#: key in the file -> (key of the audit's result, what it is called)
LIMITS = {
    "trainer_flash": "flash of the trainer's code and constants",
    "flash": "flash of the whole image",
    "static_ram": "static RAM",
    "stack": "worst-case stack",
    "panic_calls": "calls that end in a panic, in the trainer",
}


def load(path: str | os.PathLike[str], firmware: str, target: str | None) -> dict[str, int]:
    """The limits for one firmware and target.

    Raises OSError for a file that cannot be read, and ValueError for one that is not TOML, has other keys or values
    than it may have, or says nothing about this firmware.
    """
    try:
        tables = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}") from None
    for name, targets in tables.items():
        for key, limits in targets.items() if isinstance(targets, dict) else [("", None)]:
            if not isinstance(limits, dict):
                raise ValueError(f"{path}: {name} should hold a table per target, as in [{name}.thumbv7em-none-eabihf]")
            for limit, value in limits.items():
                if limit not in LIMITS:
                    raise ValueError(
                        f"{path}: [{name}.{key}] has the unknown limit {limit}; there are: {', '.join(LIMITS)}"
                    )
                if not isinstance(value, int) or isinstance(value, bool) or value < 0:
                    raise ValueError(
                        f"{path}: {limit} of [{name}.{key}] is {value!r}; expected a whole number of at least 0"
                    )
    try:
        limits = tables[firmware][target or ""]
    except KeyError:
        there = ", ".join(f"{name}.{key}" for name, targets in tables.items() for key in targets) or "nothing"
        raise ValueError(f"{path} has no limits for {firmware}.{target}; it has: {there}") from None
    return dict(limits)


def exceeded(limits: dict[str, int], result: dict[str, Any]) -> list[dict[str, Any]]:
    """A finding for every limit that is passed, or that cannot be shown to hold."""
    stack, trainer = result["stack"], result["trainer"]
    values: dict[str, int | None] = {
        "trainer_flash": trainer and trainer["flash"],
        "flash": result["flash"],
        "static_ram": result["static_ram"],
        "stack": None if stack["unknown"] else stack["total"],
        "panic_calls": trainer and sum(trainer["panic_calls"].values()),
    }
    findings = []
    for limit, allowed in limits.items():
        value = values[limit]
        if value is None:
            findings.append(
                {"kind": "budget", "function": limit, "where": f"{LIMITS[limit]} is not known; the budget is {allowed}"}
            )
        elif value > allowed:
            findings.append(
                {"kind": "budget", "function": limit, "where": f"{LIMITS[limit]}: {value:,}, the budget is {allowed:,}"}
            )
    return findings
