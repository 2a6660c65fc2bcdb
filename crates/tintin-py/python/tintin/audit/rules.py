"""Which names and encodings give away float arithmetic, a heap, formatting or a panic."""

from __future__ import annotations

import re
from collections.abc import Iterable

#: crate whose code the rules are about
TRAINER = "tintin_core"

#: Run-time ABI for the Arm architecture, 4.1.2 (floating-point library), and the names of libgcc and compiler-rt for
#: the same. Integer helpers (__aeabi_uldivmod, __aeabi_lmul, __aeabi_memcpy ...) are not among them.
_SOFT_FLOAT = re.compile(
    r"__aeabi_(?:"
    r"[df](?:add|sub|rsub|mul|div|neg|cmpeq|cmplt|cmple|cmpge|cmpgt|cmpun|2iz|2uiz|2lz|2ulz|2h|2h_alt|2f|2d)"
    r"|c[df](?:cmpeq|cmple|rcmple)|(?:i|ui|l|ul|h)2[df]|h2f_alt)"
    r"|__(?:add|sub|mul|div|neg|pow|eq|ne|lt|le|gt|ge|cmp|unord)[hsdtx]f(?:[23]|i2)"
    r"|__(?:fix|fixuns)[hsdtx]f[sdt]i|__(?:float|floatun|floatuns)[sdt]i[hsdtx]f"
    r"|__(?:extend|trunc)[hsdtx]f[hsdtx]f2|__gnu_[fh]2[fh]_ieee"
    r"|compiler_builtins::(?:float|math|libm_math)::.*"
    r"|(?:a?(?:sin|cos|tan)h?|atan2|exp[2m]?1?|exp2|log(?:1p|2|10)?|pow|sqrt|cbrt|hypot|fmod|fma|floor|ceil|trunc|round|rint"
    r"|fabs|ldexp|frexp|scalbn|tgamma|lgamma)f?"
)

_ALLOCATOR = re.compile(
    r"(?:__rustc::)?__(?:rust|rg|rdl)_(?:alloc|dealloc|realloc|alloc_zeroed|oom|alloc_error_handler)"
    r"|_?(?:malloc|free|calloc|realloc|memalign|aligned_alloc)(?:_r)?|_?sbrk(?:_r)?|_Zn[wa][jm].*|_Zd[la]P.*"
    r"|pvPortMalloc|vPortFree|k_(?:malloc|free)"
    r"|<?(?:alloc::(?:alloc|raw_vec|vec|boxed|string|collections)::|linked_list_allocator::|embedded_alloc::|talc::|rlsf::"
    r"|buddy_system_allocator::|wee_alloc::).*"
)

#: The machinery behind `{}`: implementations of core::fmt's traits, the writers, numbers to digits; and C's printf.
_FORMATTING = re.compile(
    r"core::fmt::.*|core::num::(?:flt2dec|fmt)::.*|alloc::fmt::.*"
    r"|<.* as (?:core::fmt::\w+|core::num::flt2dec::\w+)(?:<.*)?>::.*"
    r"|_?v?s?n?i?printf(?:_r)?|_dtoa_r"
)

#: Where a bounds check, an unwrap or an assert ends. None of them formats by itself.
_PANIC = re.compile(
    r"core::panicking::.*|(?:core|alloc)::.*(?:_fail|_failed|_overflow)(?:::\w+)?"
    r"|(?:__rustc::)?rust_begin_unwind|abort|__assert_func"
)

#: The compiler's own run-time library, linked on demand and shared with all other code.
_RUNTIME = re.compile(
    r"__(?:aeabi|gnu|u?div|u?mod|mul|ashl|ashr|lshr|clz|ctz|popcount)\w*|mem(?:cpy|set|move|cmp)|compiler_builtins::.*"
)

KINDS = {"soft float": _SOFT_FLOAT, "allocator": _ALLOCATOR, "panic formatting": _FORMATTING}


def kind(names: Iterable[str]) -> str | None:
    """What a function with these names (demangled, one per alias) is evidence of, None when of nothing forbidden."""
    for name in names:
        for found, pattern in KINDS.items():
            if pattern.fullmatch(name):
                return found
    return None


def is_trainer(name: str) -> bool:
    """Whether the trainer's crate has this function or constant; its assembly kernels are called tintin_ something."""
    return crate(name) == TRAINER or re.fullmatch(r"tintin_\w+", name) is not None


def is_panic(name: str) -> bool:
    """Whether a call of this function is the end of a failed check."""
    return _PANIC.fullmatch(name) is not None


def is_runtime(name: str) -> bool:
    """Whether the function belongs to the compiler's run-time library."""
    return _RUNTIME.fullmatch(name) is not None


def crate(name: str) -> str:
    """First component of a demangled path: the crate a function was written in; for an implementation, the type's."""
    return re.sub(r"^[<&\[(*]*(?:(?:mut|const|dyn|unsafe|extern|fn) ?)*", "", name).partition("::")[0]


def is_float_encoding(first: int, second: int) -> bool:
    """Whether the 32-bit Thumb instruction of these two halfwords belongs to the FPU or the vector unit.

    From the bits, not from a disassembler's opinion: Armv7-M A5.3.18 and Armv8-M C2.4. Coprocessors 10 and 11 are the
    FPU, 8 and 9 the vector extension; a first byte of 0xEF or 0xFF is vector data processing.
    """
    if first & 0xEC00 != 0xEC00:
        return False
    return first & 0x0300 == 0x0300 or 8 <= (second >> 8) & 15 <= 11


#: mnemonics by what they cost or prove; the first class that matches counts, widths and conditions are cut off before
CLASSES = {
    "dual multiply (DSP)": re.compile(r"sml[as]l?dx?|smu[as]dx?"),
    "halfword multiply (DSP)": re.compile(
        r"sml?a[bt][bt]|smlal[bt][bt]|smla[bt][bt]|smul[bt][bt]|sm(?:la|ul)w[bt]|smm(?:la|ls|ul)r?"
    ),
    "other DSP": re.compile(
        r"[suq]h?(?:add|sub)(?:8|16)|uh(?:add|sub)(?:8|16)|sh(?:add|sub)(?:8|16)|uq(?:add|sub)(?:8|16)|q(?:d)?(?:add|sub)|sxta?b16"
        r"|uxta?b16|[su]xtab|[su]xtah|pkh(?:bt|tb)|sel|usada?8|[su]sat16|umaal"
    ),
    "multiply": re.compile(r"muls?|mla|mls|[su]mull|[su]mlal"),
    "divide": re.compile(r"[su]div"),
    "load": re.compile(r"ld(?:r|m|a|c)\w*|pop"),
    "store": re.compile(r"st(?:r|m|l|c)\w*|push"),
    "call": re.compile(r"blx?|blxns"),
    "branch": re.compile(r"b|bx|bxns|cbn?z|tb[bh]"),
    "conditional block": re.compile(r"it[te]*"),
}
OTHER = "other"


def mnemonic_class(mnemonic: str) -> str:
    """The class of an instruction, by its mnemonic without width and condition."""
    for name, pattern in CLASSES.items():
        if pattern.fullmatch(mnemonic):
            return name
    return OTHER
