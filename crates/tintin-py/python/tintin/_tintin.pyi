from typing import Any, final

import numpy as np
from numpy.typing import NDArray

from .layers import Spec

__all__ = [
    "FORMAT",
    "NUMERICS",
    "Adaptation",
    "Engine",
    "Recipe",
    "__version__",
    "get_num_threads",
    "kernels",
    "nearest",
    "set_num_threads",
    "shuffle",
]

__version__: str
NUMERICS: int
FORMAT: int

@final
class Recipe:
    def __new__(
        cls,
        rule: str,
        rounding: str,
        loss: str,
        start: int,
        change: int,
        milestones: list[int],
        margin: int,
    ) -> Recipe: ...
    @property
    def rule(self) -> str: ...
    @property
    def rounding(self) -> str: ...
    @property
    def loss(self) -> str: ...
    def to_bytes(self) -> bytes: ...
    def at(self, step: int) -> int: ...
    def __eq__(self, value: object, /) -> bool: ...
    def __ne__(self, value: object, /) -> bool: ...

@final
class Adaptation:
    def __new__(
        cls,
        policy: str,
        choices: list[tuple[int, int]],
        memory: int,
        compute: int,
        ratio: int,
        inspect: int,
        temperature: int,
        limits: tuple[int, int],
        batch: int,
        passes: int,
        rows: tuple[int, int],
        recipe: Recipe,
    ) -> Adaptation: ...

@final
class Engine:
    def __new__(cls, layers: list[Spec], input_shape: tuple[int, int, int], seed: int) -> Engine: ...
    @staticmethod
    def from_bytes(bytes: bytes) -> Engine: ...
    def to_bytes(self) -> bytes: ...
    def layers(self) -> list[Spec]: ...
    def shapes(self) -> list[tuple[int, int, int]]: ...
    @property
    def input_shape(self) -> tuple[int, int, int]: ...
    @property
    def outputs(self) -> int: ...
    @property
    def seed(self) -> int: ...
    @property
    def step(self) -> int: ...
    @property
    def recipe(self) -> Recipe | None: ...
    def digest(self) -> int: ...
    def initialise(self, seed: int) -> None: ...
    def tensors(self) -> list[dict[str, Any]]: ...
    def set_tensor(self, layer: int, bias: bool, mantissas: NDArray[np.int8], scale: tuple[int, int, int]) -> None: ...
    def train(
        self,
        x: NDArray[Any],
        exponent: int,
        y: NDArray[Any],
        target_exponent: int | None,
        order: NDArray[np.uint32],
        batch_size: int,
        plan_batch: int,
        recipe: Recipe,
        train_from: int,
    ) -> tuple[int, int]: ...
    def predict(self, x: NDArray[Any], exponent: int) -> tuple[NDArray[np.int8], NDArray[np.int16]]: ...
    def evaluate(
        self, x: NDArray[Any], exponent: int, y: NDArray[Any], target_exponent: int | None, loss: str
    ) -> tuple[int, int]: ...
    def plan(self, batch_size: int, train_from: int, training: bool, limit: int | None) -> dict[str, Any]: ...
    def plan_choice(self, batch_size: int, choices: list[tuple[int, int]], limit: int | None) -> dict[str, Any]: ...
    def foresee(self, adaptation: Adaptation) -> dict[str, Any]: ...
    def adapt(
        self, x: NDArray[Any], exponent: int, y: NDArray[np.uint16], classes: int, adaptation: Adaptation
    ) -> tuple[Engine, dict[str, Any]]: ...
    def episodes(
        self,
        x: NDArray[Any],
        exponent: int,
        support: NDArray[np.uint32],
        support_labels: NDArray[np.uint16],
        queries: NDArray[np.uint32],
        query_labels: NDArray[np.uint16],
        temperature: int,
        recipe: Recipe,
    ) -> tuple[int, int]: ...

def get_num_threads() -> int: ...
def kernels() -> str: ...
def nearest(features: NDArray[np.int8], prototypes: NDArray[np.int16]) -> NDArray[np.int64]: ...
def set_num_threads(n: int) -> None: ...
def shuffle(seed: int, epoch: int, n: int) -> NDArray[np.uint32]: ...
