"""`tintin audit`: what a linked firmware image proves about itself. See `docs/audit.md` for what it does not.

image.py reads the ELF file, code.py the instructions, graph.py puts functions together, rules.py says what is
forbidden, budget.py what is too much; here they become one result.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

from .. import _extras
from . import budget, rules
from .code import Code, Disassembler
from .graph import EXCEPTION_FRAME, EXCEPTION_FRAME_FLOAT, Graph
from .image import Constant, Function, Image, read

#: how many of the largest functions are told
LARGEST = 12


class NotProvable(ValueError):
    """An image that lacks what a proof needs. `result` tells what can be said of it all the same."""

    def __init__(self, message: str, result: dict[str, Any]) -> None:
        super().__init__(message)
        self.result = result


def audit(
    path: str | os.PathLike[str],
    *,
    whole: bool = False,
    budgets: str | os.PathLike[str] | None = None,
    firmware: str | None = None,
) -> dict[str, Any]:
    """Audit a Cortex-M ELF file; sizes in bytes.

    Args:
        path: the linked image, not stripped.
        whole: apply the rules to the whole image and not to the trainer alone.
        budgets: a TOML file of limits.
        firmware: name of the image in `budgets`; the file's name without its ending unless given.

    Returns:
        Plain values; `findings` is empty for a clean image.

    Raises:
        OSError: a file cannot be read.
        ValueError: not a whole ELF file of a Cortex-M, or no limits for it in `budgets`.
        NotProvable: no symbols, so nothing can be said about functions.
        ImportError: the libraries of the extra `audit` are missing.
    """
    for module in ("elftools", "capstone", "rust_demangler"):
        _extras.require(module, "tintin audit")
    image = read(path)
    limits = budget.load(budgets, firmware or Path(path).stem, image.target) if budgets is not None else {}
    result = _sizes(image)
    if not image.functions:
        raise NotProvable(
            f"{path} is stripped: without its symbols no function can be told from another; "
            "audit the image as the linker wrote it",
            result,
        )
    disassembler = Disassembler(image)
    codes = {function.address: disassembler.function(function) for function in image.functions}
    graph = Graph(image, codes)
    trainer = _Trainer(image, codes, graph)
    scope = "image" if whole or not trainer.present else "trainer"
    # Where the trainer's bounds cannot be shown, the rules hold for everything.
    unresolved = [] if scope == "image" else trainer.unresolved()
    if unresolved or not image.has_debug:
        scope = "image"
    reached = set(codes) if scope == "image" else trainer.reached
    result |= {
        "scope": scope,
        "unresolved": unresolved,
        "functions": [_function(codes[function.address], image) for function in _largest(image.functions)],
        "float_instructions": _floats(codes),
        "instructions": _instructions(codes),
        "linked": {kind: sorted(_linked(image, kind)) for kind in rules.KINDS},
        "stack": _stack(image, graph, codes),
        "trainer": trainer.result() if trainer.present else None,
        "debug_information": image.has_debug,
    }
    result["findings"] = [*_findings(codes, reached, trainer), *budget.exceeded(limits, result)]
    return result


def _sizes(image: Image) -> dict[str, Any]:
    return {
        "image": image.path,
        "architecture": image.architecture,
        "target": image.target,
        "flash": sum(section.flash for section in image.sections),
        "static_ram": sum(section.ram for section in image.sections),
        "sections": [
            {
                "name": section.name,
                "address": section.address,
                "size": section.size,
                "flash": section.flash,
                "ram": section.ram,
            }
            for section in image.sections
        ],
    }


def _largest(functions: list[Function]) -> list[Function]:
    return sorted(functions, key=lambda function: (-function.size, function.address))[:LARGEST]


def _function(code: Code, image: Image) -> dict[str, Any]:
    function = code.function
    return {
        "name": function.name,
        "address": function.address,
        "size": function.size,
        "frame": code.frame,
        "trainer": sum(2 for at in range(function.address, function.end, 2) if at in image.trainer),
    }


def _floats(codes: dict[int, Code]) -> list[dict[str, Any]]:
    return [
        {
            "function": code.function.name,
            "count": len(code.floats),
            "mnemonics": sorted({text for _, text in code.floats}),
        }
        for code in codes.values()
        if code.floats
    ]


def _instructions(codes: dict[int, Code]) -> dict[str, Any]:
    classes: Counter[str] = Counter()
    dual: Counter[str] = Counter()
    for code in codes.values():
        classes += code.classes
        for mnemonic, count in code.mnemonics.items():
            if rules.CLASSES["dual multiply (DSP)"].fullmatch(mnemonic):
                dual[mnemonic] += count
    return {
        "classes": dict(classes.most_common()),
        "dual_multiply": dict(dual),
        "dual_multiply_in": sorted(
            code.function.name for code in codes.values() if code.classes["dual multiply (DSP)"]
        ),
    }  # fmt: skip


def _linked(image: Image, kind: str) -> set[str]:
    return {name for function in image.functions for name in function.names if rules.kind([name]) == kind}


def _stack(image: Image, graph: Graph, codes: dict[int, Code]) -> dict[str, Any]:
    """Worst case of the thread and of the handlers, each from its entry in the vector table."""
    entries: list[dict[str, Any]] = []
    for address in image.handlers():
        function = image.function_at(address)
        if function is not None:
            stack = graph.stack(function.address)
            entries.append(
                {"name": function.name, "bytes": stack.bytes, "path": stack.path, "unknown": stack.unknown}
            )  # fmt: skip
    if not entries:
        entries = [{"name": "", "bytes": 0, "path": [], "unknown": ["no function at the entry point"]}]
    thread, handlers = entries[0], entries[1:]
    frame = EXCEPTION_FRAME_FLOAT if any(code.floats for code in codes.values()) else EXCEPTION_FRAME
    handlers.sort(key=lambda handler: -handler["bytes"])
    unknown = list(dict.fromkeys(reason for entry in [thread, *handlers] for reason in entry["unknown"]))
    return {
        "total": thread["bytes"] + (frame + handlers[0]["bytes"] if handlers else 0),
        "exception_frame": frame,
        "thread": thread,
        "handlers": handlers,
        "unknown": unknown,
    }


class _Trainer:
    """The trainer's part of an image: what was compiled from its crate, and what that calls."""

    def __init__(self, image: Image, codes: dict[int, Code], graph: Graph) -> None:
        self.image, self.codes, self.graph = image, codes, graph
        self.present = bool(image.trainer)
        self.own = {
            address for address, code in codes.items() if rules.is_trainer(code.function.name)
        }  # fmt: skip
        # The trainer's calls out of functions it was inlined into.
        called = {
            callee.address
            for address, code in codes.items()
            for call in code.calls
            if address not in self.own
            and call.address in image.trainer
            and (callee := graph.callee(call.target)) is not None
        }
        self.reached = graph.reach(self.own | called)

    def owns(self, address: int, function: int) -> bool:
        """Whether an instruction was compiled from the trainer's source."""
        return function in self.own or address in self.image.trainer

    def unresolved(self) -> list[str]:
        """Calls through registers, by which the trainer could reach anything."""
        return [
            f"{code.function.name} at {call.address:#x} ({call.text})"
            for address, code in self.codes.items()
            for call in code.calls
            if call.target is None and (address in self.reached or call.address in self.image.trainer)
        ]

    def result(self) -> dict[str, Any]:
        parts: Counter[str] = Counter()
        for name in self.image.trainer.values():
            parts[name] += 2
        code = sum(parts.values())
        helpers = self._helpers()
        constants, named = self._constants()
        runtime = [self.codes[at].function for at in self.reached if rules.is_runtime(self.codes[at].function.name)]
        return {
            "flash": code + sum(helpers.values()) + sum(constants.values()),
            "code": code,
            "helpers": helpers,
            "constants": constants,
            "named": named,
            "runtime": {function.name: function.size for function in runtime},
            "functions": {
                self.codes[address].function.name: self.codes[address].function.size
                for address in sorted(self.own, key=lambda address: -self.codes[address].function.size)
            },
            "inlined_elsewhere": code - sum(self.codes[address].function.size for address in self.own),
            "parts": dict(parts.most_common()),
            "panic_calls": self._panics(),
        }

    def _helpers(self) -> dict[str, int]:
        """Generic functions of Rust's core made for the trainer: all their callers are its own."""
        callers: dict[int, bool] = {}
        for address, code in self.codes.items():
            for call in code.calls:
                callee = self.graph.callee(call.target)
                if callee is not None and callee.address != address:
                    owned = self.owns(call.address, address)
                    callers[callee.address] = callers.get(callee.address, True) and owned
        return {
            self.codes[address].function.name: self.codes[address].function.size
            for address, owned in callers.items()
            if owned and address not in self.own and not self._has_trainer(address)
            and rules.crate(self.codes[address].function.name) in ("core", "alloc")
            and not rules.is_panic(self.codes[address].function.name)
        }  # fmt: skip

    def _has_trainer(self, address: int) -> bool:
        function = self.codes[address].function
        return any(at in self.image.trainer for at in range(function.address, function.end, 2))

    def _constants(self) -> tuple[dict[str, int], dict[str, int]]:
        """Constants of the trainer, and objects of others whose addresses its instructions hold.

        A constant without a name is the trainer's when one of its own functions holds the address; in a function it was
        inlined into, the compiler mixes the addresses of both.
        """
        own = {each for each in self.image.constants if rules.is_trainer(each.name)}
        named: set[Constant] = set()
        begins = {each.address: each for each in self.image.constants}  # a number inside an object is but a number
        for address, code in self.codes.items():
            for at, value in code.numbers:
                constant = begins.get(value)
                if constant is not None and self.owns(at, address):
                    (own if constant.name.startswith(".L") and address in self.own else named).add(constant)
        return (
            {constant.name: constant.size for constant in sorted(own, key=lambda each: each.address)},
            {constant.name: constant.size for constant in sorted(named - own, key=lambda each: each.address)},
        )

    def _panics(self) -> dict[str, int]:
        """Calls that end in a panic, by the function they stand in."""
        count: Counter[str] = Counter()
        for address, code in self.codes.items():
            for call in code.calls:
                callee = self.graph.callee(call.target)
                if callee is not None and rules.is_panic(callee.name) and self.owns(call.address, address):
                    count[code.function.name] += 1
        return dict(count.most_common())


def _findings(codes: dict[int, Code], reached: set[int], trainer: _Trainer) -> list[dict[str, Any]]:
    """What the rules forbid among the functions reached and in what was inlined from the trainer elsewhere."""
    findings = []
    for address in sorted(codes):
        code = codes[address]
        name, kind = code.function.name, rules.kind(code.function.names)
        if kind is not None and address in reached:
            findings.append({"kind": kind, "function": name, "where": f"{code.function.size} bytes at {address:#x}"})
        floats = [(at, text) for at, text in code.floats if address in reached or trainer.owns(at, address)]
        if floats:
            at, text = floats[0]
            where = f"{len(floats)}, the first at {at:#x}: {text}"
            findings.append({"kind": "FPU instruction", "function": name, "where": where})
    return findings


def text(result: dict[str, Any]) -> str:
    """The result for reading."""
    lines = [
        f"{result['image']}: {result['architecture']}" + (f" ({result['target']})" if result["target"] else ""),
        "",
    ]
    lines.append(f"{'section':<20}{'size':>10}{'flash':>10}{'RAM':>10}")
    for section in result["sections"]:
        lines.append(f"{section['name']:<20}{section['size']:>10,}{section['flash']:>10,}{section['ram']:>10,}")
    lines.append(f"{'total':<20}{'':>10}{result['flash']:>10,}{result['static_ram']:>10,}")
    if "findings" not in result:
        return "\n".join(lines)
    lines += ["", *_trainer_text(result), "", *_stack_text(result["stack"]), ""]
    lines.append(f"{'largest functions':<64}{'size':>8}{'frame':>8}")
    for function in result["functions"]:
        lines.append(f"  {_short(function['name'], 60):<62}{function['size']:>8,}{function['frame']:>8,}")
    classes = result["instructions"]["classes"]
    lines += ["", "instructions: " + ", ".join(f"{name} {count:,}" for name, count in classes.items())]
    dual = result["instructions"]["dual_multiply"]
    lines.append("dual multiply: " + (", ".join(f"{name} {count}" for name, count in dual.items()) or "none"))
    lines += ["", f"in the whole image: {_linked_text(result)}"]
    scope = {"image": "the whole image", "trainer": "the trainer and all it calls"}[result["scope"]]
    if result["unresolved"]:
        lines.append(
            f"the trainer reaches calls through registers ({len(result['unresolved'])}, the first in "
            f"{result['unresolved'][0]}), so it might reach anything: the rules hold for the whole image"
        )
    if result["trainer"] is None:
        lines.append(f"nothing of {rules.TRAINER} is in this image, so the rules hold for all of it")
    elif not result["debug_information"]:
        lines.append(
            "no readable debug information: what was inlined from the trainer into other functions is not seen, so the "
            "rules hold for the whole image"
        )
    lines.append("")
    for finding in result["findings"]:
        lines.append(f"FOUND {finding['kind']}: {_short(finding['function'], 80)}: {finding['where']}")
    if result["findings"]:
        count = len(result["findings"])
        lines.append(f"{count} finding{'s' if count > 1 else ''} in {scope}")
    else:
        lines.append(f"clean: no soft float, FPU instruction, allocator or formatting in {scope}")
    return "\n".join(lines)


def _trainer_text(result: dict[str, Any]) -> list[str]:
    trainer = result["trainer"]
    if trainer is None:
        return [f"trainer: none of its code ({rules.TRAINER})"]
    lines = [
        f"trainer: {trainer['flash']:,} bytes of flash: code {trainer['code']:,} "
        f"({trainer['inlined_elsewhere']:,} of it inlined into other functions), "
        f"helpers {sum(trainer['helpers'].values()):,}, constants {sum(trainer['constants'].values()):,}",
        f"  its instructions hold addresses of {sum(trainer['named'].values()):,} bytes of other constants "
        f"({_few(trainer['named'])})",
        f"  it calls the compiler's run-time library: {sum(trainer['runtime'].values()):,} bytes "
        f"({_few(trainer['runtime'])})",
        f"  calls that end in a panic: {sum(trainer['panic_calls'].values())}",
    ]
    for name, count in trainer["panic_calls"].items():
        lines.append(f"    {count:>6} {_short(name, 80)}")
    lines.append("  largest parts by source function")
    for name, size in list(trainer["parts"].items())[:LARGEST]:
        lines.append(f"    {size:>6,} {_short(name, 80)}")
    return lines


def _stack_text(stack: dict[str, Any]) -> list[str]:
    lines = [
        f"stack: {stack['total']:,} bytes at most"
        if not stack["unknown"]
        else f"stack: at least {stack['total']:,} bytes, not bounded"
    ]
    for entry in [stack["thread"], *stack["handlers"][:1]]:
        path = " > ".join(_short(name, 40) for name in entry["path"])
        lines.append(f"  {entry['bytes']:>6,} {path}")
    if stack["handlers"]:
        lines.append(
            f"  {stack['exception_frame']:>6,} pushed by the core on entry to a handler; one handler at a time"
        )
    lines += [f"  unknown beyond: {_short(reason, 110)}" for reason in stack["unknown"]]
    return lines


def _linked_text(result: dict[str, Any]) -> str:
    told = []
    for kind, names in result["linked"].items():
        told.append(
            f"{kind}: " + (f"{len(names)} ({', '.join(_short(name, 40) for name in names[:3])})" if names else "none")
        )
    floats = sum(entry["count"] for entry in result["float_instructions"])
    return "; ".join([*told, f"FPU instructions: {floats or 'none'}"])


def _few(sizes: dict[str, int]) -> str:
    """The largest of some objects, by name."""
    names = [_short(name, 60) for name in sorted(sizes, key=lambda name: -sizes[name])]
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "") or "none"


def _short(name: str, width: int) -> str:
    return name if len(name) <= width else name[: width - 3] + "..."
