//! How much stack a program took, and how large its static memory is. Included by binaries for Cortex-M.

use core::arch::asm;
use core::ptr::{addr_of, read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile};

const UNTOUCHED: u32 = 0xA5C3_5A3C;

unsafe extern "C" {
    static _stack_start: u32;
    static _stack_end: u32;
    static __sdata: u32;
    static __ebss: u32;
}

/// Bytes left alone: the caller may push its registers only after its stack pointer was read.
const MARGIN: usize = 128;

/// Words of the stack's region below the caller's frame.
fn free_stack() -> core::ops::Range<usize> {
    let here: usize;
    // SAFETY: reads a register.
    unsafe { asm!("mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags)) };
    addr_of!(_stack_end).expose_provenance()..here - MARGIN
}

/// Marks all of the stack that is free.
#[inline(never)]
pub fn paint() {
    for at in free_stack().step_by(4) {
        // SAFETY: between the end of the stack and its pointer nothing lies.
        unsafe { write_volatile(with_exposed_provenance_mut(at), UNTOUCHED) };
    }
}

/// Most bytes of stack taken since [`paint`].
#[inline(never)]
pub fn stack() -> usize {
    // SAFETY: as in `paint`.
    let touched = |&at: &usize| unsafe { read_volatile(with_exposed_provenance::<u32>(at)) != UNTOUCHED };
    let free = free_stack();
    addr_of!(_stack_start).addr() - free.clone().step_by(4).find(touched).unwrap_or(free.end)
}

/// Bytes of static memory.
pub fn statics() -> usize {
    addr_of!(__ebss).addr() - addr_of!(__sdata).addr()
}

/// Bytes kept for the stack.
pub fn room() -> usize {
    addr_of!(_stack_start).addr() - addr_of!(_stack_end).addr()
}
