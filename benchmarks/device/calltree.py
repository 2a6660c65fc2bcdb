"""What calltree_plugin.c recorded, and which phase of a training step each instruction of it belongs to."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from instructions import Instruction, cycles

PHASES = ("forward", "dX", "dW", "update", "rest")


@dataclass
class Tree:
    """One recorded call: paths (node to parent and call site) and blocks (node, start, instructions, runs, taken)."""

    paths: dict[int, tuple[int, int] | None] = field(default_factory=dict)
    blocks: list[tuple[int, int, int, int, int]] = field(default_factory=list)

    def sites(self, node: int) -> tuple[int, ...]:
        """Addresses of the call instructions that lead to `node`, outermost first."""
        step = self.paths[node]
        return () if step is None else (*self.sites(step[0]), step[1])

    def instructions(self) -> int:
        """Instructions executed."""
        return sum(count * runs for _, _, count, runs, _ in self.blocks)


def parse(text: str) -> list[Tree]:
    """The recorded calls, in order."""
    trees: list[Tree] = []
    of: dict[int, Tree] = {}
    for line in text.splitlines():
        match line.split():
            case ["call", node]:
                trees.append(Tree({int(node): None}))
                of[int(node)] = trees[-1]
            case ["node", node, parent, site]:
                of[int(node)] = of[int(parent)]
                of[int(node)].paths[int(node)] = (int(parent), int(site, 16))
            case ["block", node, start, count, runs, taken]:
                of[int(node)].blocks.append((int(node), int(start, 16), int(count), int(runs), int(taken)))
            case words:
                raise ValueError(f"not a line of calltree_plugin.c: {' '.join(words)}")
    return trees


def engine_phase(functions: Iterable[str]) -> str:
    """The phase of tintin's step for code whose logical call stack, outermost first, is `functions`.

    Keyed on the engine's stable names: everything in `Net::forward`; in `Net::backward` what is in `Update`, which is
    dW in a `gradient` and update elsewhere; all else in `Net::backward` (`Layer::backward`, masks, `narrow`) is dX.
    """
    backward = updating = False
    for name in functions:
        if re.search(r"\bNet\b.*::forward\b", name):
            return "forward"
        backward = backward or bool(re.search(r"\bNet\b.*::backward\b", name))
        updating = updating or bool(re.search(r"\bUpdate\b", name))
        if updating and re.search(r"::gradient\b|\bUpdate\b.*::(rows|bias_row)\b", name):
            return "dW"
    return "update" if updating else "dX" if backward else "rest"


def rival_phase(functions: Iterable[str]) -> str:
    """The same for the float32 rival, whose dX, dW and update are fused: all of its backward pass counts as dX."""
    for name in functions:
        if name == "forward":
            return "forward"
        if name == "backward":
            return "dX"
    return "rest"


def stack_of(tree: Tree, node: int, address: int, inlined: Callable[[int], tuple[str, ...]]) -> tuple[str, ...]:
    """Logical call stack at `address` on the path `node`, outermost first; `inlined` tells it within one function."""
    return tuple(name for place in (*tree.sites(node), address) for name in inlined(place))


@dataclass
class Profile:
    """Instructions and modelled cycles by phase."""

    instructions: dict[str, int]
    cycles: dict[str, dict[str, float]]  # by table, then phase


def profile(
    tree: Tree,
    code: dict[int, Instruction],
    inlined: Callable[[int], tuple[str, ...]],
    phase: Callable[[Iterable[str]], str],
    tables: dict[str, dict[str, float]],
) -> Profile:
    """Sums a recorded call up by phase. An instruction is charged to the phase of its own logical call stack."""
    addresses = sorted(code)
    place = {address: i for i, address in enumerate(addresses)}
    executed: dict[str, int] = defaultdict(int)
    spent: dict[str, dict[str, float]] = {name: defaultdict(float) for name in tables}
    known: dict[tuple[int, tuple[str, ...]], str] = {}
    for node, start, count, runs, taken in tree.blocks:
        previous = None
        for address in addresses[place[start] : place[start] + count]:
            instruction = code[address]
            key = node, inlined(address)
            if key not in known:
                known[key] = phase(stack_of(tree, node, address, inlined))
            where = known[key]
            executed[where] += runs
            for name, table in tables.items():
                spent[name][where] += runs * cycles(instruction, previous, table)
            previous = instruction
        if previous is not None and previous.kind == "branch":
            for name, table in tables.items():
                spent[name][where] += taken * table["taken"]
    return Profile(dict(executed), {name: dict(phases) for name, phases in spent.items()})
