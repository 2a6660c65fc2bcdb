"""`Sequential.memory`: what the plan says, byte by byte, by role and by layer."""

from __future__ import annotations

from typing import Any

import pytest

from tintin import (
    AvgPool2d,
    Conv2d,
    Flatten,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
    models,
)


def test_memory_of_lenet5() -> None:
    net = models.lenet5()
    memory = net.memory(batch_size=1)
    assert memory.weights == 61_470
    assert memory.total <= 95_000
    assert memory.by_role["weights"] == 61_470
    assert memory.flash == len(net.to_bytes())
    inference = net.memory(training=False)
    assert "weights" not in inference.by_role and inference.total < 11_000
    text = str(memory)
    assert f"{memory.total:,} bytes" in text and "Conv2d" in text and "training, batch 1" in text
    assert "Not counted: code, stack" in text
    assert [(buffer["role"], buffer["bytes"], buffer["user"]) for buffer in memory.shared] == [
        ("errors", 962, "0 Conv2d"), ("workspace", 2432, "3 Conv2d"), ("32-bit sums", 6048, "0 Conv2d"),
    ]  # fmt: skip


@pytest.mark.parametrize("batch_size", [1, 3, 64])
@pytest.mark.parametrize("train_from", [0, 3, 11])
@pytest.mark.parametrize("training", [True, False])
def test_memory_is_the_plan(batch_size: int, train_from: int, training: bool) -> None:
    net = models.lenet5()
    memory = net.memory(batch_size, training, train_from=train_from)
    plan = net._engine.plan(batch_size, train_from, training, None)
    assert memory.total == sum(memory.by_role.values()) == plan["ram"]
    assert memory.weights == sum(row["weights"] for row in memory.by_layer) == plan["weights"]
    assert all(size > 0 for size in (*memory.by_role.values(), *memory.flash_by_role.values()))
    head, *rows = memory.by_layer
    assert (head["layer"], head["name"]) == (None, "input") and head["output"] + head[
        "output_shared"
    ] == 784 * batch_size
    assert [row["layer"] for row in rows] == [0, 3, 7, 9, 11]
    # multiply-accumulates: 28 x 28 places x 6 filters of 5 x 5, and so on
    assert [row["products"] for row in rows] == [117_600, 240_000, 48_000, 10_080, 840]


PLANNED = (
    (models.lenet5().layers, (28, 28, 1)),
    (models.mlp().layers, models.mlp().input_shape),
    (
        [
            MaxPool2d((1, 2)), Conv2d(3, (3, 2), stride=2, padding=1, bias=True), ReLU(), MaxPool2d(2, stride=1),
            AvgPool2d(2), MaxPool2d(1), Conv2d(40, 1), ReLU(), GlobalAvgPool2d(), Flatten(), Linear(3, bias=True),
        ],
        (9, 20, 2),
    ),
)  # fmt: skip


@pytest.mark.parametrize("case", range(len(PLANNED)))
def test_memory_by_layer_adds_up(case: int) -> None:
    layers, shape = PLANNED[case]
    net = Sequential(layers, input_shape=shape)
    weighted = sorted({tensor["layer"] for tensor in net.tensors()})
    for batch_size, train_from, training in ((b, f, t) for b in (1, 5) for f in weighted for t in (True, False)):
        memory = net.memory(batch_size, training, train_from=train_from)
        plan = net._engine.plan(batch_size, train_from, training, None)

        def alone(key: str, rows: list[dict[str, Any]] = memory.by_layer) -> int:
            return sum(row[key] for row in rows)

        roles = {
            "weights_ram": "weights", "output": "activations", "indices": "pool indices", "scales": "scales",
            "signs": "signs", "chosen": "chosen rows",
        }  # fmt: skip
        for key, role in roles.items():
            assert alone(key) == memory.by_role.get(role, 0)
        assert alone("weights_flash") == memory.flash_by_role.get("weights read where they lie", 0)
        assert alone("weights_flash") + alone("weights_ram") == alone("weights") == memory.weights
        # shared buffers are as large as their largest user, and then the plan's sizes come out to the byte
        common: dict[str, int] = {}
        for buffer in memory.shared:
            common[buffer["role"]] = common.get(buffer["role"], 0) + buffer["bytes"]
        for role, size in common.items():
            assert size == memory.by_role[role]
        assert common["32-bit sums"] == max(row["sums_shared"] for row in memory.by_layer) == 4 * plan["words"]
        assert common["workspace"] == max(row["workspace_shared"] for row in memory.by_layer) == 4 * plan["workspace"]
        assert common.get("errors", 0) == plan["errors"]
        assert alone("output") + common.get("activations in turn", 0) == plan["activations"] - plan["errors"]
        assert alone("indices") + common.get("pool indices, one row", 0) == plan["indices"]
        assert sum(memory.by_role.values()) == memory.total == plan["ram"]
        assert sum(memory.flash_by_role.values()) == memory.flash == len(net.to_bytes())
        assert memory.flash_by_role["scales"] == 4 * len(net.tensors())
