"""Classes of Thumb instructions, read from objdump's text, and what one costs in the model of cycles.toml."""

import re
from dataclasses import dataclass

CONDITIONS = "eq|ne|cs|hs|cc|lo|mi|pl|vs|vc|hi|ls|ge|lt|gt|le"

# The first that matches the whole mnemonic counts, without width and types; a condition may stand at its end.
CLASSES = tuple(
    (name, re.compile(f"(?:{pattern})(?:{CONDITIONS})?"))
    for name, pattern in (
        ("call", "blx?"),
        ("branch", "b|cbn?z"),
        ("jump", "bx|tb[bh]"),
        ("float_multiply_accumulate", "vf?n?ml[as]|vfm[as]|vfnm[as]"),
        ("float_divide", "vdiv|vsqrt"),
        ("multiple", "ldm(?:ia|db|fd|ea)?|stm(?:ia|db|fd|ea)?|push|pop|vldm(?:ia|db)?|vstm(?:ia|db)?|vpush|vpop"),
        ("double", "ldrd|strd"),
        ("load", "ldr(?:s?[bh])?t?|ldrex[bh]?|vldr"),
        ("store", "str[bh]?t?|strex[bh]?|vstr"),
        ("float", "v[a-z0-9]+"),
        ("divide", "[su]div"),
        ("long_multiply_accumulate", "[su]mlal|umaal|smlal[bt][bt]|smls?ld?x?d?x?(?!.)|smlald?x?|smlsldx?"),
        ("long_multiply", "[su]mull"),
        ("multiply_accumulate", "ml[as]|smla[bt][bt]|smlaw[bt]|sml[as]dx?|smml[as]r?|usada8"),
        ("multiply", "muls?|smul[bt][bt]|smulw[bt]|smu[as]dx?|smmulr?|usad8"),
        ("system", "mrs|msr|dsb|dmb|isb|svc|bkpt|cps(?:ie|id)?|wf[ei]|sev"),
    )
)

CORE_REGISTER = r"\b(?:r\d+|sb|sl|fp|ip|lr)\b"


@dataclass(frozen=True)
class Instruction:
    """An instruction: address, class, registers a multiple transfer moves, whether it loads the program counter."""

    address: int
    kind: str
    registers: int = 0
    to_pc: bool = False


def registers_in(operands: str) -> int:
    """Number of registers in the braces of `operands`, ranges counted out."""
    listed = re.search(r"\{(.*?)\}", operands)
    if not listed:
        return 0
    count = 0
    for part in listed[1].split(","):
        names = part.strip().split("-")
        numbers = [int(re.sub(r"\D", "", name) or 0) for name in names]
        count += numbers[-1] - numbers[0] + 1 if len(names) == 2 else 1
    return count


def classify(address: int, mnemonic: str, operands: str) -> Instruction:
    """The class of an instruction; what no class names is `arithmetic`."""
    stem = mnemonic.split(".")[0]
    kind = next((name for name, pattern in CLASSES if pattern.fullmatch(stem)), "arithmetic")
    target = operands.split(",")[0].strip()
    if kind == "multiple":
        return Instruction(address, kind, registers_in(operands), stem.startswith(("ldm", "pop")) and "pc" in operands)
    if kind == "double":
        return Instruction(address, kind, 2)
    if kind == "arithmetic" and target == "pc":
        return Instruction(address, "jump")
    if kind == "float" and stem.startswith("vmov") and re.search(CORE_REGISTER, operands):
        return Instruction(address, "float_move")
    return Instruction(address, kind, to_pc=kind == "load" and target == "pc")


def parse_disassembly(text: str) -> dict[int, Instruction]:
    """Instructions by address from `objdump -d --no-show-raw-insn`; data between them is left out.

    A `bl` into the function it stands in is a far branch: ARMv6-M has no other that reaches further than 2 KB.
    """
    found, function = {}, ""
    for line in text.splitlines():
        if label := re.match(r"[0-9a-f]+ <(.*)>:$", line):
            function = label[1]
        match = re.match(r"\s+([0-9a-f]+):\s+([a-z][a-z0-9.]*)(?:\s+(.*))?$", line)
        if match:
            address, operands = int(match[1], 16), match[3] or ""
            found[address] = classify(address, match[2], operands.split("@")[0])
            if found[address].kind == "call" and f"<{function}+0x" in operands:
                found[address] = Instruction(address, "far_branch")
    return found


def cycles(instruction: Instruction, previous: Instruction | None, table: dict[str, float]) -> float:
    """Cycles of an instruction that runs behind `previous`; a branch that is taken costs `taken` on top."""
    kind, single = instruction.kind, ("load", "store")
    if kind in ("multiple", "double"):
        cost = table["multiple"] + table["per_register"] * instruction.registers
    elif kind in single and previous is not None and previous.kind in single and "pipelined" in table:
        cost = table["pipelined"]
    else:
        if kind not in table:
            raise ValueError(
                f"{table['name']}: no cycles for class {kind}, at {instruction.address:#x}; see cycles.toml"
            )
        cost = table[kind]
    return cost + (table["to_pc"] if instruction.to_pc else 0)
