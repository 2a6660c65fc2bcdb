"""What one function does, from its instructions: its frame, its calls, its float instructions, the constants it names.

The stack pointer is followed along every path. Registers are followed as far as the compilers' prologues need it:
numbers (for frames too large for an immediate, and for calls through a register loaded with an address) and copies of
the stack pointer.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from .. import _extras
from . import rules
from .image import Function, Image

#: bytes of the deepest path through one function beyond which the frame is called unknown
_LARGEST_FRAME = 1 << 24


@dataclass(frozen=True)
class Call:
    """A call or a jump out of the function. `target` is None when it goes through a register nobody could resolve."""

    address: int
    target: int | None
    depth: int
    text: str


@dataclass
class Code:
    """Facts about one function; depths and frames in bytes."""

    function: Function
    frame: int = 0
    calls: list[Call] = field(default_factory=list)
    #: float and vector instructions: (address, text)
    floats: list[tuple[int, str]] = field(default_factory=list)
    classes: Counter[str] = field(default_factory=Counter)
    mnemonics: Counter[str] = field(default_factory=Counter)
    #: (address, value) of numbers put into registers: possible addresses of constants
    numbers: list[tuple[int, int]] = field(default_factory=list)
    #: why the frame is only a lower bound
    unknown: list[str] = field(default_factory=list)
    #: addresses of bytes marked as code that are no instruction known to the disassembler
    undecoded: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class _Value:
    """What a register holds: a number, or (`stack`) the stack pointer at entry minus a number of bytes."""

    stack: bool
    n: int
    #: low bits shifted out, to come back as zeros (an aligned frame on Armv6-M)
    cut: int = 0


class Disassembler:
    """Capstone for M-profile Thumb code, set up once for an image."""

    def __init__(self, image: Image) -> None:
        self.cs = _extras.require("capstone", "tintin audit")
        self.arm = _extras.require("capstone.arm", "tintin audit")
        mode = self.cs.CS_MODE_THUMB | self.cs.CS_MODE_MCLASS
        if image.architecture.startswith("v8"):
            mode |= self.cs.CS_MODE_V8
        self.engine = self.cs.Cs(self.cs.CS_ARCH_ARM, mode)
        self.engine.detail = True
        self.image = image

    def function(self, function: Function) -> Code:
        """Everything about one function."""
        code = Code(function)
        instructions: dict[int, Any] = {}
        for start, end in self.image.code:
            start, end = max(start, function.address), min(end, function.end)
            if start < end:
                self._decode(start, end, instructions, code)
        for instruction in instructions.values():
            name = _bare(instruction)
            code.mnemonics[name] += 1
            code.classes[rules.mnemonic_class(name)] += 1
        _Walk(self, code, instructions).run()
        code.calls.sort(key=lambda call: call.address)
        code.numbers.sort()
        return code

    def _decode(self, start: int, end: int, instructions: dict[int, Any], code: Code) -> None:
        data = self.image.bytes_at(start, end - start)
        if data is None:
            code.undecoded.append(start)
            return
        at = start
        while at + 2 <= end:
            for instruction in self.engine.disasm(data[at - start :], at):
                instructions[instruction.address] = instruction
                self._float(
                    instruction.address,
                    instruction.size,
                    data[instruction.address - start :],
                    str(instruction.mnemonic),
                    code,
                )
                at = instruction.address + instruction.size
            if at + 2 > end:
                break
            # Armv7-M A5.1: a first halfword of 0b11101, 0b11110 or 0b11111 begins a 32-bit instruction.
            size = 4 if int.from_bytes(data[at - start : at - start + 2], "little") >> 11 >= 0b11101 else 2
            if not self._float(at, size, data[at - start :], "", code):
                code.undecoded.append(at)
            at += size

    @staticmethod
    def _float(address: int, size: int, data: bytes, mnemonic: str, code: Code) -> bool:
        if size != 4 or len(data) < 4:
            return False
        first, second = int.from_bytes(data[:2], "little"), int.from_bytes(data[2:4], "little")
        if not rules.is_float_encoding(first, second):
            return False
        code.floats.append((address, mnemonic or f"{first:04x} {second:04x}"))
        return True


def _bare(instruction: Any) -> str:
    """The mnemonic without width, condition and flag suffix: `addseq.w` is `add`."""
    name = str(instruction.mnemonic).partition(".")[0]
    name = name.removesuffix(_CONDITIONS.get(instruction.cc, ""))
    if instruction.update_flags and len(name) > 3 and name.endswith("s") and name not in ("mrs", "vmrs"):
        name = name[:-1]
    return name


#: capstone's numbers of conditions; 0 and 15 are none and always
_CONDITIONS = dict(
    enumerate(("eq", "ne", "hs", "lo", "mi", "pl", "vs", "vc", "hi", "ls", "ge", "lt", "gt", "le"), start=1)
)
_WORD = 0xFFFF_FFFF


class _Walk:
    """Follows the stack pointer and what is known of the registers through one function."""

    def __init__(self, disassembler: Disassembler, code: Code, instructions: dict[int, Any]) -> None:
        self.arm, self.image = disassembler.arm, disassembler.image
        self.code, self.instructions = code, instructions
        self.states: dict[int, tuple[int, dict[int, _Value]]] = {}
        self.work: list[int] = []
        self.visits: Counter[int] = Counter()
        self.calls: dict[int, Call] = {}
        self.numbers: set[tuple[int, int]] = set()

    def run(self) -> None:
        if self.code.function.address in self.instructions:
            self._enter(self.code.function.address, 0, {})
        self._drain()
        # What no known branch reaches belongs to jump tables: it runs at the depth of the jump.
        for address in sorted(self.instructions):
            if address not in self.states:
                self._enter(address, *self._before(address))
                self._drain()
        self.code.calls = list(self.calls.values())
        self.code.numbers = list(self.numbers)

    def _before(self, address: int) -> tuple[int, dict[int, _Value]]:
        """Stack and registers at the jump table nearest before an address; the deepest stack where none is known."""
        jumps = [at for at in self.states if self._is_table_jump(self.instructions[at])]
        if jumps:
            return self.states[max((at for at in jumps if at < address), default=jumps[0])]
        return max((depth for depth, _ in self.states.values()), default=0), {}

    def _is_table_jump(self, instruction: Any) -> bool:
        """A jump that stays in the function: `tbb`, `add pc, r0`, `mov pc, r0`, `ldr pc, [r0, r1, lsl #2]`."""
        name = _bare(instruction)
        if name in ("tbb", "tbh"):
            return True
        if not self._writes_pc(instruction):
            return False
        last = instruction.operands[-1]
        if name == "ldr":
            return bool(last.type == self.arm.ARM_OP_MEM and last.mem.index)
        return name == "add" or (name == "mov" and last.reg != self.arm.ARM_REG_LR)

    def _writes_pc(self, instruction: Any) -> bool:
        operands = instruction.operands
        return bool(operands) and operands[0].type == self.arm.ARM_OP_REG and operands[0].reg == self.arm.ARM_REG_PC

    def _enter(self, address: int, depth: int, registers: dict[int, _Value]) -> None:
        """Merge a path into an instruction: the deepest stack, and only what all paths know of the registers."""
        known = self.states.get(address)
        if known is not None:
            same = {register: value for register, value in known[1].items() if registers.get(register) == value}
            merged = max(known[0], depth), same
            if merged == known:
                return
            depth, registers = merged
        self.visits[address] += 1
        if self.visits[address] > 64 or depth > _LARGEST_FRAME:
            self._doubt(f"the stack grows in a loop at {address:#x}")
            return
        self.states[address] = depth, registers
        self.work.append(address)

    def _drain(self) -> None:
        while self.work:
            address = self.work.pop()
            depth, registers = self.states[address]
            self._step(self.instructions[address], depth, dict(registers))

    def _doubt(self, why: str) -> None:
        if why not in self.code.unknown:
            self.code.unknown.append(why)

    def _step(self, instruction: Any, depth: int, registers: dict[int, _Value]) -> None:
        """One instruction, and on to those that may follow it."""
        name, operands = _bare(instruction), list(instruction.operands)
        address = instruction.address
        following: int | None = address + instruction.size
        always = instruction.cc in (0, 15)
        if name in ("b", "bl", "blx", "bx", "bxns", "blxns", "cbz", "cbnz"):
            following = self._branch(instruction, name, operands, depth, registers, always)
        elif name in ("tbb", "tbh", "udf"):
            following = None
        elif name in ("pop", "ldm", "ldr", "mov", "add") and self._leaves(name, instruction, operands):
            if name == "ldr" and not self._pops(instruction) and not self._is_table_jump(instruction):
                self._out(instruction, None, depth)
            following = address + instruction.size if not always else None
        else:
            after = self._effect(instruction, name, operands, depth, dict(registers))
            depth, registers = after if always else (max(depth, after[0]), self._common(registers, after[1]))
            self.code.frame = max(self.code.frame, depth)
        if following is not None and following in self.instructions:
            self._enter(following, depth, registers)

    @staticmethod
    def _common(a: dict[int, _Value], b: dict[int, _Value]) -> dict[int, _Value]:
        return {register: value for register, value in a.items() if b.get(register) == value}

    def _leaves(self, name: str, instruction: Any, operands: list[Any]) -> bool:
        """Whether the instruction sets the program counter."""
        pc = self.arm.ARM_REG_PC
        if name == "pop":
            return any(operand.reg == pc for operand in operands)
        if name == "ldm":
            return any(operand.reg == pc for operand in operands[1:])
        return self._writes_pc(instruction)

    def _pops(self, instruction: Any) -> bool:
        """`ldr pc, [sp], #n`: a return."""
        return any(
            operand.type == self.arm.ARM_OP_MEM and operand.mem.base == self.arm.ARM_REG_SP
            for operand in instruction.operands
        )

    def _target(self, instruction: Any, registers: dict[int, _Value]) -> int | None:
        operands = list(instruction.operands)
        if operands and operands[-1].type == self.arm.ARM_OP_REG:
            value = registers.get(operands[-1].reg)
            return value.n & ~1 if value is not None and not value.stack else None
        return None

    def _branch(
        self, instruction: Any, name: str, operands: list[Any], depth: int, registers: dict[int, _Value], always: bool
    ) -> int | None:
        after: int | None = instruction.address + instruction.size
        last = operands[-1]
        inside = self.code.function
        if last.type == self.arm.ARM_OP_REG:
            if name in ("bx", "bxns") and last.reg == self.arm.ARM_REG_LR and last.reg not in registers:
                return None if always else after
            self._out(instruction, self._target(instruction, registers), depth)
            if name in ("bx", "bxns"):
                return None if always else after
        else:
            target = last.imm & ~1
            # Armv6-M has no far jump: compilers use `bl` for one inside a function, after saving lr.
            jump = name in ("b", "cbz", "cbnz") or (name == "bl" and inside.address < target < inside.end)
            if inside.address < target < inside.end or (
                jump and target == inside.address and target in self.instructions
            ):
                if target in self.instructions:
                    self._enter(target, depth, registers)
            else:
                self._out(instruction, target, depth)
            if jump:
                return after if name in ("cbz", "cbnz") or not always else None
            callee = self.image.function_at(target)
            if callee is not None and rules.is_panic(callee.name):
                return None
        for register in self._clobbered():
            registers.pop(register, None)
        return after

    def _clobbered(self) -> list[int]:
        """Registers a call may change (AAPCS32, 6.1.1)."""
        arm = self.arm
        return [arm.ARM_REG_R0, arm.ARM_REG_R1, arm.ARM_REG_R2, arm.ARM_REG_R3, arm.ARM_REG_R12, arm.ARM_REG_LR]

    def _out(self, instruction: Any, target: int | None, depth: int) -> None:
        """Note a call; the last visit counts, which is the one that knows all paths to it."""
        text = f"{instruction.mnemonic} {instruction.op_str}"
        self.calls[instruction.address] = Call(instruction.address, target, depth, text)

    def _effect(
        self, instruction: Any, name: str, operands: list[Any], depth: int, registers: dict[int, _Value]
    ) -> tuple[int, dict[int, _Value]]:
        """The stack pointer and the registers after an instruction that goes on to the next."""
        arm = self.arm
        sp = arm.ARM_REG_SP
        if name in ("push", "vpush", "pop", "vpop"):
            size = sum(self._width(operand.reg) for operand in operands)
            grown = depth + size if name.endswith("push") else depth - size
            return max(grown, 0), self._without(instruction, registers)
        if name in ("stmdb", "ldm", "vstmdb", "vldmia") and operands[0].reg == sp and instruction.writeback:
            size = sum(self._width(operand.reg) for operand in operands[1:])
            grown = depth + size if name in ("stmdb", "vstmdb") else depth - size
            return max(grown, 0), self._without(instruction, registers)
        if instruction.writeback and self._pops(instruction):
            memory = next(operand.mem for operand in operands if operand.type == arm.ARM_OP_MEM)
            moved = memory.disp or next((operand.imm for operand in operands if operand.type == arm.ARM_OP_IMM), 0)
            return max(depth - moved, 0), self._without(instruction, registers)
        if not operands or operands[0].type != arm.ARM_OP_REG:
            return depth, self._without(instruction, registers)
        target = operands[0].reg
        value = self._value(instruction, name, operands, depth, registers)
        if target == sp:
            if name in ("cmp", "cmn", "tst", "teq", "msr", "str", "stm") or (
                name == "ldm" and not instruction.writeback
            ):
                return depth, self._without(instruction, registers)
            if value is not None and not value.stack:
                return 0, registers  # another stack begins, as in a handler that was entered by an overflow
            if value is None or value.cut:
                self._doubt(
                    f"the stack pointer is moved by an amount known only at run time, at {instruction.address:#x}"
                )
                return depth, registers
            return max(value.n, 0), registers
        registers = self._without(instruction, registers)
        if value is not None:
            registers[target] = value
            if not value.stack:
                self.numbers.add((instruction.address, value.n))
        return depth, registers

    def _width(self, register: int) -> int:
        arm = self.arm
        if arm.ARM_REG_D0 <= register <= arm.ARM_REG_D31:
            return 8
        return 4

    @staticmethod
    def _without(instruction: Any, registers: dict[int, _Value]) -> dict[int, _Value]:
        _, written = instruction.regs_access()
        for register in written:
            registers.pop(register, None)
        return registers

    def _value(
        self, instruction: Any, name: str, operands: list[Any], depth: int, registers: dict[int, _Value]
    ) -> _Value | None:
        """What the first operand holds afterwards, None when that is not followed."""
        arm = self.arm

        def read(operand: Any) -> _Value | None:
            if operand.type == arm.ARM_OP_IMM:
                return _Value(False, operand.imm & _WORD)
            if operand.type != arm.ARM_OP_REG or operand.shift.type:
                return None
            return _Value(True, depth) if operand.reg == arm.ARM_REG_SP else registers.get(operand.reg)

        if name == "ldr" and len(operands) == 2 and operands[1].type == arm.ARM_OP_MEM:
            memory = operands[1].mem
            if memory.base != arm.ARM_REG_PC or memory.index:
                return None
            word = self.image.word(((instruction.address + 4) & ~3) + memory.disp)
            return None if word is None else _Value(False, word)
        if name == "adr" and operands[-1].type == arm.ARM_OP_IMM:
            return _Value(False, ((instruction.address + 4) & ~3) + operands[-1].imm)
        if name == "movt":
            low = registers.get(operands[0].reg)
            if low is None or low.stack:
                return None
            return _Value(False, (low.n & 0xFFFF) | (operands[1].imm & 0xFFFF) << 16)
        if name in ("mov", "movw"):
            return read(operands[1])
        if name == "mvn":
            value = read(operands[1])
            return None if value is None or value.stack else _Value(False, ~value.n & _WORD)
        if name not in ("add", "addw", "sub", "subw", "rsb", "lsl", "lsr", "bic", "bfc"):
            return None
        if name == "bfc":
            value = read(operands[0])
            if value is None or not value.stack or operands[1].imm != 0:
                return None
            return _Value(True, value.n + self._lost(operands[2].imm))
        left, right = (read(operand) for operand in (operands if len(operands) == 2 else operands[1:3]))
        if left is None or right is None or (left.cut and name != "lsl"):
            return None
        return self._arithmetic(name, left, right)

    def _arithmetic(self, name: str, left: _Value, right: _Value) -> _Value | None:
        if left.stack:
            amount = right.n - (1 << 32) if right.n >> 31 else right.n
            if right.stack:
                return None
            if name in ("add", "addw"):
                return _Value(True, left.n - amount)
            if name in ("sub", "subw"):
                return _Value(True, left.n + amount)
            if name == "lsr":
                return _Value(True, left.n, right.n)
            if name == "lsl" and left.cut == right.n:
                return _Value(True, left.n + self._lost(left.cut))
            if name == "bic":
                return _Value(True, left.n + self._lost(right.n.bit_length()))
            return None
        if right.stack:
            amount = left.n - (1 << 32) if left.n >> 31 else left.n
            return _Value(True, right.n - amount) if name == "add" else None
        number = {
            "add": left.n + right.n, "addw": left.n + right.n, "sub": left.n - right.n, "subw": left.n - right.n,
            "rsb": right.n - left.n, "lsl": left.n << (right.n & 31), "lsr": left.n >> (right.n & 31),
            "bic": left.n & ~right.n, "bfc": 0,
        }[name]  # fmt: skip
        return _Value(False, number & _WORD)

    @staticmethod
    def _lost(bits: int) -> int:
        """Most bytes that rounding the stack pointer down to 2^bits takes; it is a multiple of 4 before."""
        return max((1 << bits) - 4, 0)
