"""What a net needs on a microcontroller, byte by byte, from the engine's plan: not measured, not estimated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Memory:
    """RAM and flash of one plan, in bytes. `str()` gives the table.

    total: RAM in all, without stack and code. weights: all weights and biases. by_role: RAM by what it is for; sums to
    `total`. by_layer: one dict per layer that computes: layer (index), name, weights, output, indices, products
    (multiply-accumulates of one forward pass). flash: the model as stored, which is the size of its .tin file.
    """

    batch_size: int
    training: bool
    total: int
    weights: int
    flash: int
    by_role: dict[str, int]
    by_layer: list[dict[str, Any]]

    def __str__(self) -> str:
        what = f"training, batch {self.batch_size}" if self.training else "inference"
        rows = [(role, f"{size:,}") for role, size in self.by_role.items()]
        rows += [(f"RAM for {what}", f"{self.total:,}"), ("flash (the model as stored)", f"{self.flash:,}")]
        left, right = max(len(a) for a, _ in rows), max(len(b) for _, b in rows)
        lines = [f"{a:<{left}}  {b:>{right}} bytes" for a, b in rows]
        lines.insert(len(self.by_role), "-" * len(lines[0]))
        head = ("layer", "weights", "output", "indices", "products")
        table = [head] + [
            (f"{row['layer']} {row['name']}", *(f"{row[key]:,}" for key in head[1:])) for row in self.by_layer
        ]
        widths = [max(map(len, column)) for column in zip(*table, strict=True)]
        lines += [""] + [
            "  ".join([cells[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(cells[1:], widths[1:], strict=True))])
            for cells in table
        ]
        return "\n".join(lines)


def from_plan(plan: dict[str, Any], batch_size: int, training: bool) -> Memory:
    """The engine's plan in words."""
    roles = {
        "weights": plan["trained_weights"] if training else plan["weights"],
        "activations": plan["activations"],
        "pool indices": plan["indices"],
        "errors": sum(plan["errors"]),
        "patches": plan["scratch"],
        "32-bit sums": 4 * plan["words"],
        "scales, seed and step": plan["ram"] - _rest(plan),
    }
    if not training:
        # weights are only read, so they stay in flash
        roles["weights"] = 0
    layers = [
        {
            "layer": slot["layer"],
            "name": slot["name"],
            "weights": slot["weights"] + slot["biases"],
            "output": slot["output"],
            "indices": slot["indices"],
            "products": slot["products"],
        }
        for slot in plan["slots_used"]
    ]
    return Memory(
        batch_size=batch_size,
        training=training,
        total=sum(roles.values()),
        weights=plan["weights"],
        flash=plan["file"],
        by_role={role: size for role, size in roles.items() if size},
        by_layer=layers,
    )


def _rest(plan: dict[str, Any]) -> int:
    buffers = plan["activations"] + plan["indices"] + sum(plan["errors"]) + plan["scratch"]
    return int(plan["trained_weights"] + buffers + 4 * plan["words"])
