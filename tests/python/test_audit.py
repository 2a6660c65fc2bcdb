"""`tintin audit` on images put together here, instruction by instruction: no Arm toolchain is needed."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import capstone
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tintin.audit import NotProvable, audit, rules, text

FLASH, CODE, RAM = 0x0, 0x100, 0x2000_0000
RUST = {  # as rustc writes them
    "train_step": "_ZN11tintin_core3net3Net10train_step17h36659976f64c6356E",
    "forward": "_ZN11tintin_core3net3Net7forward17h362a88f1480e0f5dE",
    "fmt": "_RNvXs8_NtNtNtCs7ldSeZOOJos_4core3fmt3num3impmNtB9_7Display3fmt",
    "panic": "_RNvNtCs7ldSeZOOJos_4core9panicking18panic_bounds_check",
}

#: halfwords by what they do; `test_the_instructions_are_what_their_names_say` asks the disassembler
WORDS = {
    "nop": [0xBF00],
    "bx lr": [0x4770],
    "push {lr}": [0xB500],
    "pop {pc}": [0xBD00],
    "push {r4, r5, r6, r7, lr}": [0xB5F0],
    "pop {r4, r5, r6, r7, pc}": [0xBDF0],
    "sub sp, #0x64": [0xB099],
    "add sp, #0x64": [0xB019],
    "blx r3": [0x4798],
    "bx r3": [0x4718],
    "sub.w sp, sp, r0": [0xEBAD, 0x0D00],
    "sub.w sp, sp, #0x1000": [0xF5AD, 0x5D80],
    "add.w sp, sp, #0x1000": [0xF50D, 0x5D80],
    "vpush {d8, d9}": [0xED2D, 0x8B04],
    "vadd.f32 s0, s0, s1": [0xEE30, 0x0A20],
    "smlad r0, r1, r2, r3": [0xFB21, 0x3002],
    "cmp r0, #0": [0x2800],
    "beq #4": [0xD000],
    "udf #0": [0xDE00],
    "str lr, [sp, #-0x4]!": [0xF84D, 0xED04],
    "ldr pc, [sp], #4": [0xF85D, 0xFB04],
    "ldr.w pc, [r0]": [0xF8D0, 0xF000],
    "push {r4, r6, r7, lr}": [0xB5D0],
    "pop {r4, r6, r7, pc}": [0xBDD0],
    "add r7, sp, #8": [0xAF02],
    "mov r4, sp": [0x466C],
    "bfc r4, #0, #4": [0xF36F, 0x0403],
    "lsrs r4, r4, #4": [0x0924],
    "lsls r4, r4, #4": [0x0124],
    "mov sp, r4": [0x46A5],
    "sub.w r4, r7, #8": [0xF1A7, 0x0408],
    "movs r4, #1": [0x2401],
    "lsls r4, r4, #0xc": [0x0324],
    "rsbs r4, r4, #0": [0x4264],
    "add sp, r4": [0x44A5],
    "beq #8": [0xD002],
    "stm.w sp, {r1, r4, sb}": [0xE88D, 0x0212],
    "tbb [pc, r0]": [0xE8DF, 0xF000],
    "movs r0, r1": [0x0008],
    "bne #0xfffffffe": [0xD1FD],
}

Part = str | tuple[str, str]


def link(parts: list[Part], at: int, places: dict[str, int]) -> list[int]:
    """Halfwords of a function at an address; ("bl", name), ("b.w", name) and ("mov r3", name) are resolved."""
    words: list[int] = []
    for part in parts:
        here = at + 2 * len(words)
        if isinstance(part, str):
            words += WORDS[part]
            continue
        what, name = part
        name, _, more = name.partition("+")
        target = places.get(name, 0) + int(more or 0)
        if what == "mov r3":
            for opcode, value in ((0xF240, target | 1), (0xF2C0, (target | 1) >> 16)):
                i, imm4, imm3, imm8 = value >> 11 & 1, value >> 12 & 15, value >> 8 & 7, value & 255
                words += [opcode | i << 10 | imm4, imm3 << 12 | 3 << 8 | imm8]
        else:
            offset = target - (here + 4)
            s, i1, i2 = offset >> 24 & 1, offset >> 23 & 1, offset >> 22 & 1
            second = 0xD000 if what == "bl" else 0x9000
            words += [
                0xF000 | s << 10 | offset >> 12 & 0x3FF,
                second | (1 - (i1 ^ s)) << 13 | (1 - (i2 ^ s)) << 11 | offset >> 1 & 0x7FF,
            ]
    return words


def dwarf(place: int, size: int, inlined: int, inlined_size: int) -> tuple[bytes, bytes]:
    """Abbreviations and entries (DWARF 4) of a function with one of the trainer's inlined."""
    name, low, high, origin = (3, 8), (0x11, 1), (0x12, 6), (0x31, 0x13)  # string, address, data4, ref4
    abbreviations = b""
    for code, (tag, children, attributes) in enumerate(
        [
            (0x11, 1, []),  # compile unit
            (0x39, 1, [name]),  # namespace
            (0x2E, 0, [name]),  # subprogram, as written
            (0x2E, 1, [name, low, high]),  # subprogram, as compiled
            (0x1D, 0, [origin, low, high]),  # inlined
        ],
        start=1,
    ):
        abbreviations += bytes([code, tag, children]) + bytes(byte for pair in attributes for byte in pair) + b"\0\0"
    header = 11
    entries = b"\1" + b"\2tintin_core\0"
    written = header + len(entries)
    entries += b"\3train_step\0" + b"\0"
    entries += b"\4main\0" + struct.pack("<II", place, size)
    entries += b"\5" + struct.pack("<III", written, inlined, inlined_size) + b"\0" + b"\0"
    return abbreviations + b"\0", struct.pack("<IHIB", 7 + len(entries), 4, 0, 4) + entries


def image(
    functions: dict[str, list[Part]],
    handlers: tuple[str, ...] = (),
    *,
    data: int = 0,
    bss: int = 64,
    symbols: bool = True,
    architecture: int = 13,
    profile: str = "M",
    inlined: tuple[int, int] = (0, 0),
    debug: bool = True,
) -> bytes:
    """An ELF file: vector table, code, .data and .bss. The first function is the reset handler.

    Debug information says that of the first function the bytes `inlined` (from, to) came from the trainer.
    """
    places: dict[str, int] = {}
    at = CODE
    for name, parts in functions.items():
        places[name] = at
        at += 2 * len(link(parts, at, {}))
    code = b""
    sizes = {}
    for name, parts in functions.items():
        words = link(parts, places[name], places)
        sizes[name] = 2 * len(words)
        code += struct.pack(f"<{len(words)}H", *words)
    reset = next(iter(functions))
    entries = [RAM + 0x1000, places[reset] | 1, *(places[name] | 1 for name in handlers)]
    table = struct.pack(f"<{len(entries)}I", *entries)

    strings, syms = b"\0", b"\0" * 16
    for name, place, size, info in [
        ("$t", CODE, 0, 0),
        *((RUST.get(name, name), places[name] | 1, sizes[name], 0x12) for name in functions),
    ]:
        syms += struct.pack("<IIIBBH", len(strings), place, size, info, 0, 2)
        strings += name.encode() + b"\0"
    tags = bytes([6, architecture, 7, ord(profile)])
    vendor = b"aeabi\0" + b"\x01" + struct.pack("<I", 5 + len(tags)) + tags
    attributes = b"A" + struct.pack("<I", 4 + len(vendor)) + vendor

    allocated, writable, executable = 2, 1, 4
    sections: list[tuple[str, int, int, int, bytes, int, int, int]] = [
        (".vector_table", 1, allocated, FLASH, table, len(table), 0, 0),
        (".text", 1, allocated | executable, CODE, code, len(code), 0, 0),
        (".data", 1, allocated | writable, RAM, b"\1" * data, data, 0, 0),
        (".bss", 8, allocated | writable, RAM + data, b"", bss, 0, 0),
        (".ARM.attributes", 0x7000_0003, 0, 0, attributes, len(attributes), 0, 0),
    ]
    if debug:
        names = (".debug_abbrev", ".debug_info")
        parts = dwarf(places[reset], sizes[reset], places[reset] + inlined[0], inlined[1] - inlined[0])
        sections += [(name, 1, 0, 0, part, len(part), 0, 0) for name, part in zip(names, parts, strict=True)]
    if symbols:
        sections.append((".symtab", 2, 0, 0, syms, len(syms), len(sections) + 2, 16))
        sections.append((".strtab", 3, 0, 0, strings, len(strings), 0, 0))
    titles = b"\0" + b"".join(section[0].encode() + b"\0" for section in sections) + b".shstrtab\0"
    sections.append((".shstrtab", 3, 0, 0, titles, len(titles), 0, 0))

    body, headers = b"", b"\0" * 40
    start = 52 + 32
    for name, kind, flags, address, contents, size, linked, entry in sections:
        named = titles.index(b"\0" + name.encode() + b"\0") + 1
        headers += struct.pack(
            "<10I", named, kind, flags, address, start + len(body), size, linked, 1 if linked else 0, 4, entry
        )
        body += contents
    first = len(table)
    segment = struct.pack("<8I", 1, start + first, CODE, CODE, len(code), len(code), 5, 4)
    header = b"\x7fELF" + bytes([1, 1, 1]) + b"\0" * 9
    header += struct.pack("<HHIIII", 2, 40, 1, places[reset] | 1, 52, start + len(body))
    header += struct.pack("<IHHHHHH", 0x0500_0000, 52, 32, 1, 40, len(sections) + 1, len(sections))
    return header + segment + body + headers


@pytest.fixture
def judged(tmp_path: Path) -> Any:
    """Audits an image of these functions."""

    def run(functions: dict[str, list[Part]], handlers: tuple[str, ...] = (), **options: Any) -> dict[str, Any]:
        arguments = {key: options.pop(key) for key in ("whole", "budgets", "firmware") if key in options}
        path = tmp_path / "firmware.elf"
        path.write_bytes(image(functions, handlers, **options))
        return audit(path, **arguments)

    return run


CLEAN: dict[str, list[Part]] = {
    "Reset": ["push {lr}", ("bl", "train_step"), "pop {pc}"],
    "train_step": ["push {r4, r5, r6, r7, lr}", ("bl", "forward"), "pop {r4, r5, r6, r7, pc}"],
    "forward": ["smlad r0, r1, r2, r3", "bx lr"],
}
FLOAT: list[Part] = ["vadd.f32 s0, s0, s1", "bx lr"]
LEAF: list[Part] = ["bx lr"]


def kinds(result: dict[str, Any]) -> list[tuple[str, str]]:
    return [(finding["kind"], finding["function"]) for finding in result["findings"]]


def test_assembly_kernels_belong_to_the_trainer(judged: Any) -> None:
    result = judged({"Reset": [("b.w", "tintin_dot")], "tintin_dot": FLOAT, "tintin": FLOAT})
    assert kinds(result) == [("FPU instruction", "tintin_dot")]
    assert result["trainer"]["functions"] == {"tintin_dot": 6}


def test_the_instructions_are_what_their_names_say() -> None:
    engine = capstone.Cs(capstone.CS_ARCH_ARM, capstone.CS_MODE_THUMB | capstone.CS_MODE_MCLASS)
    for name, words in WORDS.items():
        (instruction,) = engine.disasm(struct.pack(f"<{len(words)}H", *words), 0)
        assert f"{instruction.mnemonic} {instruction.op_str}".strip() == name


def test_a_clean_image(judged: Any) -> None:
    result = judged(CLEAN, data=12, bss=100)
    assert result["findings"] == []
    assert (result["architecture"], result["target"]) == ("v7E-M", "thumbv7em-none-eabi")
    sizes = {section["name"]: (section["flash"], section["ram"]) for section in result["sections"]}
    assert sizes == {".vector_table": (8, 0), ".text": (22, 0), ".data": (12, 12), ".bss": (0, 100)}
    assert (result["flash"], result["static_ram"]) == (8 + 22 + 12, 112)
    assert result["stack"]["unknown"] == []
    assert result["stack"]["thread"]["path"] == ["Reset", "tintin_core::net::Net::train_step"]
    assert result["stack"]["total"] == 4 + 20
    assert result["trainer"]["flash"] == 8 + 6
    assert result["instructions"]["dual_multiply"] == {"smlad": 1}
    assert result["instructions"]["dual_multiply_in"] == ["tintin_core::net::Net::forward"]
    assert "clean" in text(result)


def test_float_instructions_the_trainer_can_reach(judged: Any) -> None:
    functions = CLEAN | {"forward": [("b.w", "helper")], "helper": FLOAT}
    assert kinds(judged(functions)) == [("FPU instruction", "helper")]


def test_without_debug_information_the_rules_hold_for_everything(judged: Any) -> None:
    """What was inlined from the trainer could be anywhere."""
    result = judged(CLEAN | {"application": FLOAT}, debug=False)
    assert kinds(result) == [("FPU instruction", "application")]
    assert "no readable debug information" in text(result)


def test_float_instructions_elsewhere_count_for_the_whole_image_alone(judged: Any) -> None:
    functions = CLEAN | {"application": FLOAT}
    assert judged(functions)["findings"] == []
    assert kinds(judged(functions, whole=True)) == [("FPU instruction", "application")]


def test_what_was_inlined_counts_as_the_trainer(judged: Any) -> None:
    """The first float instruction and the first call belong to the trainer, the second ones to the application."""
    add = "vadd.f32 s0, s0, s1"
    functions: dict[str, list[Part]] = {
        "Reset": ["push {lr}", ("bl", "malloc"), add, ("bl", "free"), add, "pop {pc}"],
        "malloc": LEAF,
        "free": LEAF,
    }
    result = judged(functions, inlined=(2, 10))
    assert kinds(result) == [("FPU instruction", "Reset"), ("allocator", "malloc")]
    assert result["findings"][0]["where"].startswith("1, the first at 0x106")
    assert result["trainer"]["parts"] == {"tintin_core::train_step": 8}
    assert result["trainer"]["inlined_elsewhere"] == result["trainer"]["flash"] == 8


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("__aeabi_fadd", "soft float"), ("__aeabi_dcmplt", "soft float"), ("__addsf3", "soft float"),
        ("__aeabi_i2f", "soft float"), ("__floatunsisf", "soft float"), ("sqrtf", "soft float"),
        ("__rust_alloc", "allocator"), ("__rdl_realloc", "allocator"), ("malloc", "allocator"),
        ("_ZN21linked_list_allocator4hole8HoleList17h36659976f64c6356E", "allocator"),
        (RUST["fmt"], "panic formatting"), ("_ZN4core3fmt5write17h36659976f64c6356E", "panic formatting"),
        ("_ZN4core3fmt5float29float_to_decimal_common_exact17h36659976f64c6356E", "panic formatting"),
    ],
)  # fmt: skip
def test_a_forbidden_function(judged: Any, name: str, kind: str) -> None:
    functions = CLEAN | {"forward": ["push {lr}", ("bl", name), "pop {pc}"], name: LEAF}
    found = judged(functions)
    assert [finding["kind"] for finding in found["findings"]] == [kind]
    assert found["linked"][kind] != []


@pytest.mark.parametrize(
    "name",
    ["__aeabi_uldivmod", "__aeabi_ldivmod", "__aeabi_lmul", "__aeabi_uidiv", "__aeabi_memcpy4", "__udivmoddi4",
     "memset", "__aeabi_llsl", RUST["panic"], "FaultHandler", "fadd", "allocate"],
)  # fmt: skip
def test_integer_helpers_and_bare_panics_are_no_findings(judged: Any, name: str) -> None:
    functions = CLEAN | {"forward": ["push {lr}", ("bl", name), "pop {pc}"], name: LEAF}
    assert judged(functions, whole=True)["findings"] == []


def test_panics_are_counted(judged: Any) -> None:
    functions = CLEAN | {"forward": ["push {lr}", ("bl", "panic"), ("bl", "panic")], "panic": ["udf #0"]}
    assert judged(functions)["trainer"]["panic_calls"] == {"tintin_core::net::Net::forward": 2}


@pytest.mark.parametrize(
    ("first", "second", "is_float"),
    [
        (0xEE30, 0x0A20, True),  # vadd.f32
        (0xED9F, 0x0A01, True),  # vldr
        (0xEEF1, 0xFA10, True),  # vmrs
        (0xEC20, 0x0A00, True),  # vlstm
        (0xEF00, 0x0150, True),  # vand, vectors
        (0xEE00, 0x0F10, False),  # mcr p15
        (0xE8BD, 0x8010, False),  # pop.w
        (0xE97F, 0xE97F, False),  # sg
        (0xF8C0, 0x1D88, False),  # str.w r1, [r0, #0xd88]: the start-up code's write to CPACR
        (0xFB21, 0x3002, False),  # smlad
    ],
)
def test_float_encodings(first: int, second: int, is_float: bool) -> None:
    assert rules.is_float_encoding(first, second) == is_float


def test_stack_of_the_deepest_path(judged: Any) -> None:
    result = judged({
        "Reset": ["push {lr}", ("bl", "a"), ("bl", "b"), "pop {pc}"],
        "a": ["push {r4, r5, r6, r7, lr}", ("bl", "leaf"), "pop {r4, r5, r6, r7, pc}"],
        "b": ["push {lr}", "sub sp, #0x64", ("bl", "leaf"), "add sp, #0x64", "pop {pc}"],
        "leaf": ["vpush {d8, d9}", "bx lr"],
    })  # fmt: skip
    assert result["stack"]["thread"]["path"] == ["Reset", "b", "leaf"]
    assert result["stack"]["thread"]["bytes"] == 4 + 104 + 16
    assert result["stack"]["unknown"] == []


def test_stack_after_a_way_out_in_the_middle(judged: Any) -> None:
    """What follows a return runs at the depth it is branched to, not at that of the return."""
    result = judged({
        "Reset": ["push {lr}", "cmp r0, #0", "beq #4", "pop {pc}", "nop", ("bl", "leaf"), "pop {pc}"],
        "leaf": LEAF,
    })  # fmt: skip
    assert result["stack"]["thread"]["bytes"] == 4


@pytest.mark.parametrize(
    ("parts", "frame"),
    [
        (["str lr, [sp, #-0x4]!", "sub sp, #0x64", "add sp, #0x64", "ldr pc, [sp], #4"], 4 + 100),
        # Aligned to 16 bytes, and back from the frame pointer.
        (["push {r4, r6, r7, lr}", "add r7, sp, #8", "mov r4, sp", "bfc r4, #0, #4", "mov sp, r4", "sub sp, #0x64",
          "sub.w r4, r7, #8", "mov sp, r4", "pop {r4, r6, r7, pc}"], 16 + 12 + 100),
        # The same on Armv6-M.
        (["push {r4, r6, r7, lr}", "mov r4, sp", "lsrs r4, r4, #4", "lsls r4, r4, #4", "mov sp, r4", "sub sp, #0x64",
          "bx lr"], 16 + 12 + 100),
        # A frame too large for an immediate.
        (["movs r4, #1", "lsls r4, r4, #0xc", "rsbs r4, r4, #0", "add sp, r4", "bx lr"], 4096),
        # Arguments put on the stack.
        (["push {lr}", "sub sp, #0x64", "stm.w sp, {r1, r4, sb}", "add sp, #0x64", "pop {pc}"], 4 + 100),
        # The way on is in a table, here of two bytes: what follows runs at the depth of the jump.
        (["push {lr}", "sub sp, #0x64", "tbb [pc, r0]", "movs r0, r1", "push {lr}", "bx lr"], 4 + 100 + 4),
        # So does what nothing known leads to.
        (["push {lr}", "sub sp, #0x64", "udf #0", "push {lr}", "bx lr"], 4 + 100 + 4),
        # A far jump of Armv6-M is no call.
        (["push {lr}", ("bl", "Reset+8"), "udf #0", "pop {pc}"], 4),
        # A loop that leaves the stack as it was.
        (["push {lr}", "nop", "bne #0xfffffffe", "pop {pc}"], 4),
    ],
)  # fmt: skip
def test_frames(judged: Any, parts: list[Part], frame: int) -> None:
    stack = judged({"Reset": parts})["stack"]
    assert (stack["total"], stack["unknown"]) == (frame, [])


def test_nothing_follows_a_panic(judged: Any) -> None:
    parts: list[Part] = ["cmp r0, #0", "beq #8", "sub sp, #0x64", ("bl", "panic"), "push {lr}", "pop {pc}"]
    assert judged({"Reset": parts, "panic": ["udf #0"]})["stack"]["total"] == 100


def test_a_stack_that_grows_in_a_loop_is_named(judged: Any) -> None:
    (reason,) = judged({"Reset": ["nop", "push {lr}", "bne #0xfffffffe", "bx lr"]})["stack"]["unknown"]
    assert "grows in a loop" in reason


def test_a_jump_through_memory_is_named(judged: Any) -> None:
    (reason,) = judged({"Reset": ["ldr.w pc, [r0]"]})["stack"]["unknown"]
    assert "ldr.w pc, [r0]" in reason


def test_a_call_at_the_end_leaves_the_frame_behind(judged: Any) -> None:
    result = judged({
        "Reset": ["push {lr}", ("bl", "a"), "pop {pc}"],
        "a": ["sub sp, #0x64", "add sp, #0x64", ("b.w", "leaf")],
        "leaf": ["sub.w sp, sp, #0x1000", "add.w sp, sp, #0x1000", "bx lr"],
    })  # fmt: skip
    assert result["stack"]["thread"]["bytes"] == 4 + 4096


def test_handlers_come_on_top(judged: Any) -> None:
    functions = CLEAN | {"HardFault": ["sub sp, #0x64", "udf #0"], "SysTick": LEAF}
    stack = judged(functions, handlers=("HardFault", "SysTick"))["stack"]
    assert [(handler["name"], handler["bytes"]) for handler in stack["handlers"]] == [
        ("HardFault", 100),
        ("SysTick", 0),
    ]
    assert stack["total"] == 24 + 36 + 100


@pytest.mark.parametrize("there", ["a", "b"])
def test_recursion_is_named(judged: Any, there: str) -> None:
    result = judged({
        "Reset": ["push {lr}", ("bl", "a"), "pop {pc}"],
        "a": ["push {lr}", ("bl", there), "pop {pc}"],
        "b": ["push {lr}", ("bl", "a"), "pop {pc}"],
    })  # fmt: skip
    names = "a" if there == "a" else "a, b"
    assert result["stack"]["unknown"] == [f"recursion: {names}"]
    assert "not bounded" in text(result)


def test_a_call_through_a_register_is_named(judged: Any) -> None:
    functions = CLEAN | {"forward": ["push {lr}", "blx r3", "pop {pc}"], "application": FLOAT}
    result = judged(functions)
    (reason,) = result["stack"]["unknown"]
    assert "tintin_core::net::Net::forward" in reason and "blx r3" in reason
    # It could call the application, so the trainer cannot be called free of what that has.
    assert kinds(result) == [("FPU instruction", "application")]
    assert len(result["unresolved"]) == 1


def test_a_call_forgets_what_registers_held(judged: Any) -> None:
    parts: list[Part] = [("mov r3", "deep"), ("bl", "leaf"), "blx r3", "bx lr"]
    (reason,) = judged({"Reset": parts, "deep": LEAF, "leaf": LEAF})["stack"]["unknown"]
    assert "blx r3" in reason


@pytest.mark.parametrize("call", ["blx r3", "bx r3"])
def test_a_register_with_a_known_address_is_a_direct_call(judged: Any, call: str) -> None:
    functions = CLEAN | {"forward": ["push {lr}", ("mov r3", "deep"), call], "deep": ["sub sp, #0x64", "bx lr"]}
    result = judged(functions | {"application": FLOAT})
    assert result["stack"]["unknown"] == [] and result["findings"] == []
    assert result["stack"]["total"] == 4 + 20 + 4 + 100


def test_a_frame_of_unknown_size_is_named(judged: Any) -> None:
    (reason,) = judged(CLEAN | {"forward": ["sub.w sp, sp, r0", "bx lr"]})["stack"]["unknown"]
    assert "known only at run time" in reason


def test_an_image_without_the_trainer_is_held_to_the_rules_as_a_whole(judged: Any) -> None:
    result = judged({"Reset": [("b.w", "helper")], "helper": FLOAT})
    assert result["trainer"] is None
    assert kinds(result) == [("FPU instruction", "helper")]


def test_budgets(judged: Any, tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(
        "[net.thumbv7em-none-eabi]\nstack = 24\nstatic_ram = 64\ntrainer_flash = 14\nflash = 30\npanic_calls = 0\n"
    )
    assert judged(CLEAN, budgets=file, firmware="net")["findings"] == []
    file.write_text("[firmware.thumbv7em-none-eabi]\nstack = 23\nstatic_ram = 63\ntrainer_flash = 13\nflash = 29\n")
    result = judged(CLEAN, budgets=file)
    assert kinds(result) == [("budget", limit) for limit in ("stack", "static_ram", "trainer_flash", "flash")]


def test_a_budget_that_cannot_be_shown_to_hold_fails(judged: Any, tmp_path: Path) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text("[firmware.thumbv7em-none-eabi]\nstack = 100000\n")
    assert kinds(judged(CLEAN | {"forward": ["blx r3", "bx lr"]}, budgets=file)) == [("budget", "stack")]


@pytest.mark.parametrize(
    ("toml", "told"),
    [
        ("[firmware.thumbv6m-none-eabi]\nstack = 1\n", "no limits .*; it has: firmware.thumbv6m"),
        ("[firmware.thumbv7em-none-eabi]\nheap = 1\n", "unknown limit heap; there are: trainer_flash"),
        ("[firmware.thumbv7em-none-eabi]\nstack = -1\n", "stack of .* is -1; expected"),
        ("[firmware.thumbv7em-none-eabi]\nstack = true\n", "is True; expected"),
        ("[firmware]\nstack = 1\n", "a table per target"),
        ("firmware = 1\n", "a table per target"),
        ("[firmware", "not a TOML file"),
    ],
)  # fmt: skip
def test_bad_budgets(judged: Any, tmp_path: Path, toml: str, told: str) -> None:
    file = tmp_path / "budgets.toml"
    file.write_text(toml)
    with pytest.raises(ValueError, match=told):
        judged(CLEAN, budgets=file)


def test_a_stripped_image_still_tells_its_sizes(tmp_path: Path) -> None:
    path = tmp_path / "firmware.elf"
    path.write_bytes(image(CLEAN, data=12, symbols=False))
    with pytest.raises(NotProvable, match="is stripped") as refusal:
        audit(path)
    assert refusal.value.result["flash"] == 42
    assert ".vector_table" in text(refusal.value.result)


#: where the section header of .text, the third, holds its size
TEXT_SIZE_AT = int.from_bytes(image(CLEAN)[32:36], "little") + 2 * 40 + 20


def patched(at: int, *values: int) -> bytes:
    data = bytearray(image(CLEAN))
    data[at : at + len(values)] = bytes(values)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        (b"", "not an ELF file"),
        (b"UF2\n" * 200, "not an ELF file"),
        (patched(4, 2), "64-bit"),
        (patched(5, 2), "big-endian"),
        (patched(18, 62, 0), "another machine"),
        (patched(16, 1, 0), "not linked"),
        (image(CLEAN, architecture=10, profile="A"), "A profile"),
        (patched(32, 0xFF, 0xFF, 0xFF, 0x7F), "cut short"),
        (patched(TEXT_SIZE_AT, 0xFF, 0xFF, 0xFF, 0x7F), "cut short"),
    ],
)  # fmt: skip
def test_bad_files(tmp_path: Path, data: bytes, told: str) -> None:
    path = tmp_path / "firmware.elf"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=told):
        audit(path)


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    whole = image(CLEAN)
    path = tmp_path / "firmware.elf"
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"not an ELF file|cut short"):
            audit(path)


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(st.tuples(st.integers(0, len(image(CLEAN)) - 1), st.integers(0, 255)), min_size=1, max_size=8))
def test_a_damaged_file_is_judged_or_refused(tmp_path: Path, changes: list[tuple[int, int]]) -> None:
    data = bytearray(image(CLEAN))
    for at, value in changes:
        data[at] = value
    path = tmp_path / "firmware.elf"
    path.write_bytes(data)
    try:
        result = audit(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert result["flash"] >= 0
        assert text(result)


def test_missing_libraries_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "capstone", None)
    with pytest.raises(ImportError, match=r"audit needs capstone, .*pip install capstone"):
        audit(tmp_path / "firmware.elf")


def command(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tintin", "audit", *map(str, arguments)], capture_output=True, text=True, timeout=60
    )


def test_the_command(tmp_path: Path) -> None:
    clean, found, stripped = (tmp_path / name for name in ("clean.elf", "found.elf", "stripped.elf"))
    clean.write_bytes(image(CLEAN))
    found.write_bytes(image(CLEAN | {"forward": FLOAT}))
    stripped.write_bytes(image(CLEAN, symbols=False))
    done = command(clean)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1].startswith("clean")
    done = command(found, "--json")
    assert done.returncode == 1
    assert [finding["kind"] for finding in json.loads(done.stdout)["findings"]] == ["FPU instruction"]
    done = command(stripped)
    assert done.returncode == 2
    assert ".text" in done.stdout
    assert done.stderr.startswith("tintin: ") and "stripped" in done.stderr
    assert command(tmp_path / "none.elf").returncode == 2
