"""How many errors of tintin's bench are not zero, layer by layer, by the independent oracle: a device counts none.

`python benchmarks/device/nonzeros.py STEPS` trains as crates/tintin-core/tests/lenet5/bare.rs does and prints JSON:
over steps, the digest afterwards and the non-zero errors behind each pool and dense layer. Two seconds a step.
"""

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "reference"))
import oracle
from make_vectors import FLATTEN, RELU, conv, linear, max_pool

SEED, IMAGE_SEED, LEARNING_SHIFT = 5, 7, 4
LAYERS = [
    *(conv(6, (5, 5), padding=(2, 2)), RELU, max_pool()),
    *(conv(16, (5, 5)), RELU, max_pool()),
    *(FLATTEN, linear(120), RELU, linear(84), RELU, linear(10)),
]
NAMES = {0: "pool1", 3: "pool2", 7: "fc1", 9: "fc2", 11: "output"}  # by place in LAYERS
RECIPE = {
    "rule": "TinTin",
    "rounding": "Stochastic",
    "loss": "CrossEntropy",
    "margin": 2,
    "start": LEARNING_SHIFT,
    "change": 0,
    "milestones": [],
}


def image(n: int) -> tuple[list[int], int]:
    """Image `n` and its label: noise below 60 and a bar of 100 whose row tells the class."""
    label = n % 10
    bar = 2 + 2 * label
    draws = iter(oracle.draws(IMAGE_SEED, n, 0, 0, 28 * 28))
    return [100 if bar <= i // 28 < bar + 3 else (next(draws) * 60) >> 32 for i in range(28 * 28)], label


class Counting(oracle.Model):
    """The oracle, which counts the errors each update receives; unpooling moves errors and makes none."""

    def __init__(self) -> None:
        super().__init__(LAYERS, (28, 28, 1), SEED)
        self.counts: dict[str, int] = {}

    def update(self, block, dy, dy_scale, kept, recipe, rows):  # type: ignore[no-untyped-def]
        self.counts[NAMES[block.index]] = sum(v != 0 for sample in dy for v in sample)
        super().update(block, dy, dy_scale, kept, recipe, rows)


def count(steps: int) -> list[dict[str, int | str]]:
    """Digest and counts after each of `steps` steps."""
    model = Counting()
    found: list[dict[str, int | str]] = []
    for n in range(steps):
        x, label = image(n)
        model.train_step([x], [label], RECIPE)
        found.append({"digest": f"{model.digest():#018x}", **model.counts})
    return found


if __name__ == "__main__":
    json.dump(count(int(sys.argv[1])), sys.stdout)
