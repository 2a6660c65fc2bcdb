"""A small residual net, a support set of three classes, and adaptations of every policy."""

from __future__ import annotations

from typing import Any

import numpy as np

from tintin import Adapted, Add, Conv2d, Flatten, Linear, ReLU, Sequential


def net(seed: int = 1, bias: bool = True) -> Sequential:
    layers = [
        Conv2d(4, 3, padding=1, bias=bias), ReLU(), Conv2d(4, 3, padding=1, bias=bias), Add(1), ReLU(),
        Conv2d(6, 3, stride=2, padding=1, bias=bias), ReLU(), Flatten(), Linear(9, bias=bias),
    ]  # fmt: skip
    return Sequential(layers, input_shape=(8, 8, 1), seed=seed)


WEIGHTED = (0, 2, 5, 8)
ROWS = dict(zip(WEIGHTED, (4, 4, 6, 9), strict=True))
X = np.random.default_rng(0).integers(0, 256, (12, 8, 8)).astype(np.uint8)
Y = np.arange(12) % 3
BY_HAND = [(8, 4), (2, 3), (5, 0)]
POLICIES: dict[str, dict[str, Any]] = {
    "full": {}, "last_layer": {}, "bias_only": {}, "sparse": {"choices": BY_HAND}, "tinytrain": {},
    "layers": {"choices": BY_HAND}, "random_channels": {}, "dynamic": {"rows": (0.2, 0.6)},
}  # fmt: skip


def adapted(policy: str, base: Sequential | None = None, **told: Any) -> Adapted:
    base = net() if base is None else base
    return base.adapt(X, Y, policy=policy, **{"steps": 3, "inspect": 0.75, **POLICIES[policy], **told})
