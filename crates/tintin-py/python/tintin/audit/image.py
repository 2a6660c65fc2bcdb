"""Reading an ELF file: sections, functions, which bytes are code, and which of them came from the trainer."""

from __future__ import annotations

import bisect
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from .. import _extras
from . import rules

#: Tag_CPU_arch of the Arm ABI's build attributes (Addenda to the ABI, 3.3.5.2) -> Rust target without the float ABI
_TARGETS = {
    "v6-M": "thumbv6m-none-eabi",
    "v6S-M": "thumbv6m-none-eabi",
    "v7": "thumbv7m-none-eabi",
    "v7E-M": "thumbv7em-none-eabi",
    "v8-M.baseline": "thumbv8m.base-none-eabi",
    "v8-M.mainline": "thumbv8m.main-none-eabi",
    "v8.1-M.mainline": "thumbv8m.main-none-eabi",
}
_ARCHITECTURES = {
    10: "v7", 11: "v6-M", 12: "v6S-M", 13: "v7E-M", 16: "v8-M.baseline", 17: "v8-M.mainline", 21: "v8.1-M.mainline",
}  # fmt: skip
_VECTOR_TABLES = (".vector_table", ".isr_vector", ".vectors")
_ALLOCATED, _WRITABLE, _EXECUTABLE = 2, 1, 4


@dataclass(frozen=True)
class Section:
    """One section that takes memory; `flash` and `ram` in bytes."""

    name: str
    address: int
    size: int
    flash: int
    ram: int


@dataclass
class Function:
    """A function: its bytes and every name it goes by, demangled."""

    address: int
    size: int
    names: list[str]

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def end(self) -> int:
        return self.address + self.size


@dataclass(frozen=True)
class Constant:
    """A named object in flash."""

    address: int
    size: int
    name: str


@dataclass
class Image:
    """What the file says, before any judgement."""

    path: str
    architecture: str
    target: str | None
    entry: int
    sections: list[Section]
    functions: list[Function] = field(default_factory=list)
    constants: list[Constant] = field(default_factory=list)
    #: runs of instructions, (start, end); what lies between is data in code
    code: list[tuple[int, int]] = field(default_factory=list)
    #: address of every halfword of the trainer -> the trainer's function it was written in
    trainer: dict[int, str] = field(default_factory=dict)
    has_debug: bool = False
    contents: list[tuple[int, bytes]] = field(default_factory=list)

    def bytes_at(self, address: int, size: int) -> bytes | None:
        """Initialised contents at an address, None outside."""
        for start, data in self.contents:
            if start <= address and address + size <= start + len(data):
                return data[address - start : address - start + size]
        return None

    def word(self, address: int) -> int | None:
        """Little-endian 32 bits at an address, None outside."""
        data = self.bytes_at(address, 4)
        return None if data is None else int.from_bytes(data, "little")

    def function_at(self, address: int) -> Function | None:
        """The function that covers an address."""
        place = bisect.bisect_right(self.functions, address, key=lambda function: function.address) - 1
        if place >= 0 and address < max(self.functions[place].end, self.functions[place].address + 1):
            return self.functions[place]
        return None

    def vector_table(self) -> Section | None:
        """The table of handlers, by the names that linker scripts give its section."""
        return next((section for section in self.sections if section.name in _VECTOR_TABLES), None)

    def handlers(self) -> list[int]:
        """Addresses the vector table names behind the stack pointer: reset first, then exceptions and interrupts."""
        table = self.vector_table()
        if table is None:
            return [self.entry & ~1]
        words = (self.word(table.address + at) for at in range(4, table.size, 4))
        return list(dict.fromkeys(word & ~1 for word in words if word))


class _OtherProfile(ValueError):
    """A processor that is no microcontroller."""


def read(path: str | os.PathLike[str]) -> Image:
    """Read a Cortex-M ELF file.

    Raises OSError for a file that cannot be read, and ValueError, in words, for one that is no whole 32-bit
    little-endian ELF file for Arm's M profile. A stripped file is read; then `functions` is empty.
    """
    elffile = _extras.require("elftools.elf.elffile", "tintin audit")
    data = Path(path).read_bytes()
    if data[:4] != b"\x7fELF":
        raise ValueError(f"{path} is not an ELF file: give the image that the linker wrote, not a .bin, .hex or .uf2")
    if len(data) < 52:
        raise ValueError(f"{path} is cut short: {len(data)} bytes, an ELF header alone has 52")
    if data[4] != 1 or data[5] != 1:
        width, order = {1: "32", 2: "64"}.get(data[4], "?"), {1: "little", 2: "big"}.get(data[5], "?")
        raise ValueError(f"{path} is a {width}-bit {order}-endian ELF file; a Cortex-M's is 32-bit little-endian")
    machine = int.from_bytes(data[18:20], "little")
    if machine != 40:
        raise ValueError(f"{path} is for another machine (e_machine {machine}); expected 40, Arm")
    if int.from_bytes(data[16:18], "little") != 2:
        raise ValueError(
            f"{path} is not linked to an executable: give the firmware itself, not an object file or library"
        )
    _check_whole(path, data)
    try:
        with Path(path).open("rb") as stream:
            return _read(str(path), elffile.ELFFile(stream))
    except (OSError, MemoryError):
        raise
    except _OtherProfile as error:
        raise ValueError(f"{path} {error}") from None
    except Exception as error:  # the library meets damage with whatever it trips over
        raise ValueError(f"{path} is a damaged ELF file: {type(error).__name__}: {error}") from error


def _check_whole(path: str | os.PathLike[str], data: bytes) -> None:
    """Refuse a file whose headers point behind its end."""
    for what, offset_at, size_at in (("program headers", 28, 42), ("section headers", 32, 46)):
        offset = int.from_bytes(data[offset_at : offset_at + 4], "little")
        size, count = (int.from_bytes(data[at : at + 2], "little") for at in (size_at, size_at + 2))
        if offset + size * count > len(data):
            raise ValueError(f"{path} is cut short: its {what} end at byte {offset + size * count}, it has {len(data)}")
        for header in range(offset, offset + size * count, max(size, 1)):
            place, length = (4, 16) if what == "program headers" else (16, 20)
            if what == "section headers" and int.from_bytes(data[header + 4 : header + 8], "little") in (0, 8):
                continue  # takes no place in the file
            end = sum(int.from_bytes(data[header + at : header + at + 4], "little") for at in (place, length))
            if end > len(data):
                raise ValueError(f"{path} is cut short: a part of it ends at byte {end}, it has {len(data)}")


def _read(path: str, elf: Any) -> Image:
    architecture, hard_float = _attributes(elf)
    target = _TARGETS.get(architecture)
    if target is not None and hard_float:
        target += "hf"
    image = Image(path, architecture, target, elf["e_entry"], list(_sections(elf)))
    for section in elf.iter_sections():
        if section["sh_flags"] & _ALLOCATED and section["sh_type"] != "SHT_NOBITS" and section["sh_size"]:
            image.contents.append((section["sh_addr"], section.data()))
    _symbols(elf, image)
    if image.functions:
        _trainer(elf, image)
    return image


def _attributes(elf: Any) -> tuple[str, bool]:
    """Architecture, and whether floats are passed in the FPU's registers; refuses an A or R profile."""
    architecture, profile, hard_float = "unknown", "M", False
    section = elf.get_section_by_name(".ARM.attributes")
    if section is not None and hasattr(section, "iter_subsections"):
        for subsection in section.iter_subsections():
            for part in subsection.iter_subsubsections():
                for attribute in part.iter_attributes():
                    if attribute.tag == "TAG_CPU_ARCH":
                        architecture = _ARCHITECTURES.get(attribute.value, f"number {attribute.value}")
                    elif attribute.tag == "TAG_CPU_ARCH_PROFILE":
                        profile = chr(attribute.value) if attribute.value else "M"
                    elif attribute.tag == "TAG_ABI_VFP_ARGS":
                        hard_float = attribute.value == 1
    if profile != "M":
        raise _OtherProfile(f"is built for Arm's {profile} profile; only M (Cortex-M) is audited")
    return architecture, hard_float


def _sections(elf: Any) -> Iterator[Section]:
    """Flash holds what has contents; RAM what is writable or copied elsewhere before it is used."""
    loads = [segment for segment in elf.iter_segments() if segment["p_type"] == "PT_LOAD"]
    for section in elf.iter_sections():
        if not section["sh_flags"] & _ALLOCATED or not section["sh_size"]:
            continue
        address, size = section["sh_addr"], section["sh_size"]
        copied = any(
            segment["p_vaddr"] <= address < segment["p_vaddr"] + segment["p_memsz"]
            and segment["p_vaddr"] != segment["p_paddr"]
            for segment in loads
        )
        flash = 0 if section["sh_type"] == "SHT_NOBITS" else size
        yield Section(section.name, address, size, flash, size if copied or section["sh_flags"] & _WRITABLE else 0)


def _symbols(elf: Any, image: Image) -> None:
    """Functions, named constants, and the mapping symbols ($t, $d) that tell code from data (ELF for Arm, 4.5.5)."""
    symbols = elf.get_section_by_name(".symtab")
    if symbols is None or not hasattr(symbols, "iter_symbols"):
        return
    demangle = _extras.require("rust_demangler", "tintin audit").demangle
    headers = [elf.get_section(number) for number in range(elf.num_sections())]
    functions: dict[int, Function] = {}
    marks: dict[int, str] = {}
    for symbol in symbols.iter_symbols():
        place, address, size = symbol["st_shndx"], symbol["st_value"], symbol["st_size"]
        if not isinstance(place, int) or place >= len(headers) or not headers[place]["sh_flags"] & _ALLOCATED:
            continue
        executable = headers[place]["sh_flags"] & _EXECUTABLE
        if symbol.name[:2] in ("$t", "$d", "$a"):
            if executable:
                marks[address] = symbol.name[1]
            continue
        if executable and symbol["st_info"]["type"] == "STT_FUNC":
            start, name = address & ~1, _demangled(symbol.name, demangle)
            known = functions.setdefault(start, Function(start, size, []))
            known.size = max(known.size, size)
            # A function's own name before the generic ones the linker gives it, such as a default handler's.
            known.names.insert(0 if size and known.names and "::" in name else len(known.names), name)
        elif not executable and size and headers[place]["sh_type"] != "SHT_NOBITS" and symbol.name:
            image.constants.append(Constant(address, size, _demangled(symbol.name, demangle)))
    if "t" not in marks.values():
        return
    # Small numbers would be taken for addresses in a vector table at 0.
    table = image.vector_table()
    if table is not None:
        end = table.address + table.size
        image.constants = [each for each in image.constants if not table.address <= each.address < end]
    ends = sorted(
        (header["sh_addr"], header["sh_addr"] + header["sh_size"])
        for header in headers
        if header["sh_flags"] & _EXECUTABLE
    )
    image.code = list(_runs(marks, ends))
    image.functions = _closed(functions, image.code, ends)


def _demangled(name: str, demangle: Any) -> str:
    """Rust's names as they are written in the source, without the hash; others as they are."""
    if not name.startswith(("_ZN", "_R")):
        return name
    try:
        text = str(demangle(name.partition(".llvm.")[0]))
    except Exception:  # a name that only looks like Rust's
        return name
    head, _, last = text.rpartition("::")
    return head if len(last) == 17 and last[0] == "h" and not set(last[1:]) - set("0123456789abcdef") else text


def _runs(marks: dict[int, str], sections: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    for start, end in sections:
        inside = sorted(address for address in marks if start <= address < end)
        for address, following in pairwise([*inside, end]):
            if marks[address] == "t":
                yield address, following


def _closed(
    functions: dict[int, Function], code: list[tuple[int, int]], sections: list[tuple[int, int]]
) -> list[Function]:
    """Functions in order; one without a size ends where the next begins, and code without a symbol gets a name."""
    ordered = [functions[address] for address in sorted(functions)]
    for function, following in zip(ordered, [*ordered[1:], None], strict=True):
        end = next((end for start, end in sections if start <= function.address < end), function.address)
        if function.size == 0 and following is not None:
            end = min(end, following.address)
        function.size = min(function.size or end, end - function.address)
    covered = ordered[:]
    for start, end in code:
        at = start
        for function in ordered:
            if function.end <= at or function.address >= end:
                continue
            if function.address > at:
                covered.append(Function(at, function.address - at, [f"(no symbol at {at:#x})"]))
            at = max(at, function.end)
        if at < end:
            covered.append(Function(at, end - at, [f"(no symbol at {at:#x})"]))
    return sorted(covered, key=lambda function: function.address)


def _trainer(elf: Any, image: Image) -> None:
    """Mark the trainer's halfwords: functions by their names, by debug information what was inlined elsewhere."""
    for function in image.functions:
        if rules.is_trainer(function.name):
            for at in range(function.address, function.end, 2):
                image.trainer[at] = function.name
    if not elf.has_dwarf_info():
        return
    try:
        first, last = image.code[0][0], image.code[-1][1]
        for start, end, name in list(_inlined(elf.get_dwarf_info())):
            for at in range(max(start & ~1, first), min(end, last), 2):
                image.trainer[at] = name
        image.has_debug = True
    except Exception:  # debug information is a help, not the image: without it the symbols decide
        image.has_debug = False


def _inlined(dwarf: Any) -> Iterator[tuple[int, int, str]]:
    """(start, end, function) of everything the trainer's functions were compiled to, outer before inner."""
    units = list(dwarf.iter_CUs())
    paths: dict[int, str] = {}
    links: dict[int, int] = {}
    for unit in units:
        _paths(unit.get_top_DIE(), unit, "", paths, links)
    lists = dwarf.range_lists()

    def walk(die: Any, unit: Any, inside: str | None) -> Iterator[tuple[int, int, str]]:
        if die.tag in ("DW_TAG_subprogram", "DW_TAG_inlined_subroutine"):
            offset = die.offset
            while offset in links:
                offset = links[offset]
            name = paths.get(offset, "")
            if rules.is_trainer(name):
                inside = name
            if inside is not None:
                for start, end in _ranges(die, unit, lists):
                    yield start, end, inside
        for child in die.iter_children():
            yield from walk(child, unit, inside)

    for unit in units:
        yield from walk(unit.get_top_DIE(), unit, None)


def _paths(die: Any, unit: Any, path: str, paths: dict[int, str], links: dict[int, int]) -> None:
    """Collect the full name of every function, and which entries only refer to another."""
    attributes = die.attributes
    if "DW_AT_name" in attributes and die.tag != "DW_TAG_compile_unit":
        name = attributes["DW_AT_name"].value.decode("utf-8", "replace")
        path = f"{path}::{name}" if path else name
        paths[die.offset] = path
    else:
        for link in ("DW_AT_abstract_origin", "DW_AT_specification"):
            if link in attributes:
                value = attributes[link].value
                links[die.offset] = value if attributes[link].form == "DW_FORM_ref_addr" else value + unit.cu_offset
                path = ""
    for child in die.iter_children():
        _paths(child, unit, path, paths, links)


def _ranges(die: Any, unit: Any, lists: Any) -> Iterable[tuple[int, int]]:
    attributes = die.attributes
    if "DW_AT_ranges" in attributes:
        low = unit.get_top_DIE().attributes.get("DW_AT_low_pc")
        base = low.value if low is not None else 0
        for entry in lists.get_range_list_at_offset(attributes["DW_AT_ranges"].value, unit):
            if hasattr(entry, "base_address"):
                base = entry.base_address
            else:
                offset = 0 if getattr(entry, "is_absolute", False) else base
                yield offset + entry.begin_offset, offset + entry.end_offset
    elif "DW_AT_low_pc" in attributes and "DW_AT_high_pc" in attributes:
        low, high = attributes["DW_AT_low_pc"].value, attributes["DW_AT_high_pc"]
        yield low, high.value if high.form == "DW_FORM_addr" else low + high.value
