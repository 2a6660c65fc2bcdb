"""The call graph: worst-case stack, and what can be reached from the trainer."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .code import Code
from .image import Function, Image

#: Bytes the core pushes itself when it enters a handler (Armv7-M B1.5.6): eight words, and one to align the stack.
EXCEPTION_FRAME = 36
#: the same once the FPU is used: 26 words and one to align
EXCEPTION_FRAME_FLOAT = 108


@dataclass
class Stack:
    """Bytes of stack from one entry down. With `unknown`, `bytes` is only a lower bound and the reasons tell why."""

    bytes: int
    path: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


class Graph:
    """Which function calls which, by address."""

    def __init__(self, image: Image, codes: dict[int, Code]) -> None:
        self.image, self.codes = image, codes
        self.component: dict[int, int] = {}
        self.members: list[list[int]] = []
        self._components()
        self._stacks: dict[int, Stack] = {}

    def callee(self, target: int | None) -> Function | None:
        """The function a call goes to: its begin, or for a jump into its middle the whole of it."""
        return None if target is None else self.image.function_at(target)

    def callees(self, address: int) -> list[int]:
        """Addresses of the functions that this one calls or jumps to."""
        found = (self.callee(call.target) for call in self.codes[address].calls)
        return list(dict.fromkeys(function.address for function in found if function is not None))

    def reach(self, roots: Iterable[int]) -> set[int]:
        """Everything that can be called from these functions, themselves included."""
        seen: set[int] = set()
        work = [root for root in roots if root in self.codes]
        while work:
            address = work.pop()
            if address not in seen:
                seen.add(address)
                work += self.callees(address)
        return seen

    def _components(self) -> None:
        """Tarjan's strongly connected components, without recursion: callees come before callers."""
        index: dict[int, int] = {}
        low: dict[int, int] = {}
        path: list[int] = []
        for root in self.codes:
            if root in index:
                continue
            work = [(root, iter(self.callees(root)))]
            index[root] = low[root] = len(index)
            path.append(root)
            while work:
                node, edges = work[-1]
                following = next((edge for edge in edges if edge not in index or edge in path), None)
                if following is None:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[node])
                    if low[node] == index[node]:
                        at = path.index(node)
                        for member in path[at:]:
                            self.component[member] = len(self.members)
                        self.members.append(path[at:])
                        del path[at:]
                elif following not in index:
                    index[following] = low[following] = len(index)
                    path.append(following)
                    work.append((following, iter(self.callees(following))))
                else:
                    low[node] = min(low[node], index[following])

    def cycle(self, address: int) -> list[int]:
        """The functions that call each other in a circle with this one; empty without recursion."""
        members = self.members[self.component[address]]
        return members if len(members) > 1 or address in self.callees(address) else []

    def stack(self, address: int) -> Stack:
        """Worst case from the call of a function, its own frame included."""
        for members in self.members:
            if members[0] in self._stacks:
                continue
            for member, stack in zip(members, self._component_stacks(members), strict=True):
                self._stacks[member] = stack
        return self._stacks[address]

    def _component_stacks(self, members: list[int]) -> list[Stack]:
        """Stacks of one component; those of its callees are known."""
        cycle = self.cycle(members[0])
        inside = sum(self.codes[member].frame for member in members) if cycle else 0
        stacks = []
        for member in members:
            code = self.codes[member]
            name = code.function.name
            deepest = Stack(code.frame, [name])
            unknown = [f"{name}: {why}" for why in code.unknown]
            if code.undecoded:
                unknown.append(f"{name}: {len(code.undecoded)} unknown instructions, from {code.undecoded[0]:#x}")
            for call in code.calls:
                callee = self.callee(call.target)
                if callee is None:
                    where = (
                        "through a register" if call.target is None else f"to {call.target:#x}, where no function is"
                    )
                    unknown.append(f"{name}: call {where} at {call.address:#x} ({call.text})")
                elif callee.address not in members:
                    below = self._stacks[callee.address]
                    if call.depth + below.bytes > deepest.bytes:
                        deepest = Stack(call.depth + below.bytes, [name, *below.path])
                    unknown += below.unknown
            if cycle:
                names = ", ".join(sorted(self.codes[at].function.name for at in cycle))
                unknown.append(f"recursion: {names}")
            deepest.unknown = list(dict.fromkeys(unknown))
            stacks.append(deepest)
        if cycle:
            # Once around the circle, then the deepest way out of it.
            reasons = list(dict.fromkeys(reason for stack in stacks for reason in stack.unknown))
            out = max(stacks, key=lambda stack: stack.bytes)
            stacks = [Stack(inside + out.bytes, out.path, reasons) for _ in members]
        return stacks
