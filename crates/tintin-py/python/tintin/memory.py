"""What a net needs on a microcontroller, byte by byte, from the engine's plan: not measured, not estimated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

#: of a .tin file, in bytes: header, check sum of header and records, check sum of all; scale of a tensor
_HEADER_AND_SUMS = 64 + 4 + 4
_SCALE = 4

#: columns of the table by layer: heading, key of the layer's own bytes, key of its share in a common buffer
_COLUMNS = (
    ("weights", "weights_ram", None),
    ("in flash", "weights_flash", None),
    ("output", "output", "output_shared"),
    ("signs", "signs", None),
    ("indices", "indices", "indices_shared"),
    ("rows", "chosen", None),
    ("scales", "scales", None),
    ("errors", None, "errors_shared"),
    ("sums", None, "sums_shared"),
    ("workspace", None, "workspace_shared"),
    ("products", "products", None),
)
_ORDER = (
    "weights", "activations", "activations in turn", "signs", "pool indices", "pool indices, one row", "errors",
    "chosen rows", "workspace", "32-bit sums", "weights read where they lie", "weights copied to RAM", "scales",
    "layer records", "header and check sums", "seed and step",
)  # fmt: skip
NOT_COUNTED = "Not counted: code, stack, and the table of slots (a constant in flash)."


@dataclass(frozen=True)
class Memory:
    """RAM and flash of one plan, in bytes. `str()` gives the tables. Code, stack and the slot table are not counted.

    total: RAM in all. by_role: RAM by what it is for; sums to `total`. weights: all weights and biases, in RAM or not.
    flash: the model as stored, which is the size of its .tin file. flash_by_role: the same by what it is for.

    by_layer: one dict for the input (its `layer` is None), then one per layer that computes; a layer that works inside
    the one before it (ReLU, MaxPool2d, Flatten) is counted there. Keys: layer (index), name, weights (in all),
    weights_ram, weights_flash (read where they lie), output, signs (of a ReLU's outputs, one bit each), indices (places
    of pooled maxima), chosen (which rows learn, one bit each), scales, products (multiply-accumulates of one forward
    pass; no bytes). These belong to the layer alone: their sums over layers are the roles "weights", "activations",
    "signs", "pool indices", "chosen rows" and "scales". Keys that end in _shared (output, indices, errors, sums,
    workspace) are what the layer needs of a buffer that all share. Outputs that no layer behind them learns from, and
    errors, take turns: two that are needed at the same time lie apart, others in the same bytes. The role "errors" is
    what errors need beyond the bytes that outputs leave free by then.

    shared: those buffers, dicts of role, bytes and user, the layer that needs it so large.
    """

    batch_size: int
    training: bool
    total: int
    weights: int
    flash: int
    by_role: dict[str, int]
    by_layer: list[dict[str, Any]]
    flash_by_role: dict[str, int]
    shared: list[dict[str, Any]]

    @property
    def purpose(self) -> str:
        """What the plan is for, in words."""
        return f"training, batch {self.batch_size}" if self.training else "inference"

    def __str__(self) -> str:
        users: dict[str, list[str]] = {}
        for buffer in self.shared:
            users.setdefault(buffer["role"], []).append(buffer["user"])
        rows = [
            (role, f"{size:,} bytes", f"shared; largest user: {', '.join(users[role])}" if role in users else "")
            for role, size in self.by_role.items()
        ]
        lines = table([*rows, (f"RAM for {self.purpose}", f"{self.total:,} bytes", "")], left=(0, 2))
        lines.insert(len(rows), "-" * max(map(len, lines)))
        flash = [(role, f"{size:,} bytes") for role, size in self.flash_by_role.items()]
        store = table([*flash, ("flash (the model as stored)", f"{self.flash:,} bytes")])
        store.insert(len(flash), "-" * max(map(len, store)))
        layers = table(layer_table(self))
        note = "A figure in parentheses is the layer's need of a shared buffer; products are no bytes."
        return "\n".join([*lines, "", *store, "", *layers, note, NOT_COUNTED])


def layer_table(memory: Memory) -> list[list[str]]:
    """Heading and rows of the table by layer, without columns that are empty; shared bytes in parentheses."""
    columns = [
        column
        for column in _COLUMNS
        if any(row[key] for row in memory.by_layer for key in column[1:] if key is not None)
    ]
    rows = [["layer", *(column[0] for column in columns)]]
    for row in memory.by_layer:
        name = row["name"] if row["layer"] is None else f"{row['layer']} {row['name']}"
        cells = []
        for _, own, shared in columns:
            if shared is not None and row[shared]:
                cells.append(f"({row[shared]:,})")
            else:
                cells.append(f"{row[own]:,}" if own is not None and row[own] else "-")
        rows.append([name, *cells])
    return rows


def side_by_side(memories: Sequence[Memory]) -> list[str]:
    """RAM and flash by role, a column for each plan."""
    rows = []
    for what, roles, total in (("RAM", "by_role", "total"), ("flash", "flash_by_role", "flash")):
        rows.append([what, *(memory.purpose for memory in memories)])
        found = {role for memory in memories for role in getattr(memory, roles)}
        for role in filter(found.__contains__, _ORDER):
            sizes = [getattr(memory, roles).get(role) for memory in memories]
            rows.append([f"  {role}", *("-" if size is None else f"{size:,}" for size in sizes)])
        rows.append(["  in all, bytes", *(f"{getattr(memory, total):,}" for memory in memories)])
    return table(rows)


def table(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> list[str]:
    """Rows as lines; columns in `left` are text, the others numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def from_plan(plan: dict[str, Any], batch_size: int, training: bool) -> Memory:
    """The engine's plan in words."""
    slots = plan["slots_used"]
    rows = [_row(None, "input", plan["input"], kept=plan["input_kept"])]
    for slot in slots:
        row = _row(slot["layer"], slot["name"], slot["output"], kept=slot["kept"])
        row |= {
            "weights": slot["weights"],
            "weights_ram": slot["resident"],
            "weights_flash": slot["weights"] - slot["resident"],
            "signs": slot["signs"],
            "chosen": slot["chosen"],
            "indices": slot["indices"],
            "indices_shared": 0 if slot["taped"] else slot["row_of_indices"],
            "scales": plan["scales"] // len(slots),
            "errors_shared": slot["errors"],
            "sums_shared": 4 * slot["words"],
            "workspace_shared": 4 * slot["workspace"],
            "products": slot["products"],
        }
        rows.append(row)
    buffers = [
        _buffer("activations in turn", "output_shared", rows)
        | {"bytes": plan["activations"] - plan["errors"] - sum(row["output"] for row in rows)},
        _buffer("pool indices, one row", "indices_shared", rows),
        _buffer("errors", "errors_shared", rows) | {"bytes": plan["errors"]},
        _buffer("workspace", "workspace_shared", rows),
        _buffer("32-bit sums", "sums_shared", rows),
    ]
    shared = [buffer for buffer in buffers if buffer["bytes"]]

    def alone(key: str) -> int:
        return sum(row[key] for row in rows)

    def common(role: str) -> int:
        return sum(buffer["bytes"] for buffer in shared if buffer["role"] == role)

    roles = {
        "weights": alone("weights_ram"),
        "activations": alone("output"),
        "activations in turn": common("activations in turn"),
        "signs": alone("signs"),
        "pool indices": alone("indices"),
        "pool indices, one row": common("pool indices, one row"),
        "errors": common("errors"),
        "chosen rows": alone("chosen"),
        "workspace": common("workspace"),
        "32-bit sums": common("32-bit sums"),
        "scales": alone("scales"),
        "seed and step": plan["state"],
    }
    flash = {
        "weights read where they lie": alone("weights_flash"),
        "weights copied to RAM": alone("weights") - alone("weights_flash"),
        "scales": _SCALE * sum(slot["tensors"] for slot in slots),
        "layer records": plan["records"],
        "header and check sums": _HEADER_AND_SUMS,
    }
    return Memory(
        batch_size=batch_size,
        training=training,
        total=plan["ram"],
        weights=plan["weights"],
        flash=plan["file"],
        by_role={role: size for role, size in roles.items() if size},
        by_layer=rows,
        flash_by_role={role: size for role, size in flash.items() if size},
        shared=shared,
    )


def _row(layer: int | None, name: str, output: int, *, kept: bool) -> dict[str, Any]:
    """A row of `by_layer` that only has an output yet."""
    keys = (
        "weights", "weights_ram", "weights_flash", "output", "output_shared", "signs", "indices", "indices_shared",
        "chosen", "scales", "errors_shared", "sums_shared", "workspace_shared", "products",
    )  # fmt: skip
    row: dict[str, Any] = {"layer": layer, "name": name} | dict.fromkeys(keys, 0)
    row["output" if kept else "output_shared"] = output
    return row


def _buffer(role: str, key: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A buffer that `rows` share, and the first of its largest users."""
    user = max(rows, key=lambda row: int(row[key]), default=None)
    if user is None:
        return {"role": role, "bytes": 0, "user": ""}
    name = user["name"] if user["layer"] is None else f"{user['layer']} {user['name']}"
    return {"role": role, "bytes": user[key], "user": name}
