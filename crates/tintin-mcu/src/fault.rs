//! A hard fault that tells what happened, also when the stack is what broke.
//!
//! Memory maps here put the stack below everything else in RAM (`_stack_end` is where it ends, at the start of RAM), so an
//! overflow leaves RAM and never reaches a weight; [`guard_stack`] sees to it that it faults at once. The processor cannot save
//! its registers there, and a handler in Rust would fault again on its first push: [`hard_fault!`](crate::hard_fault) starts the
//! stack anew before it calls one.

use core::fmt;

/// What the processor was at when it faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The stack went below its end.
    StackOverflow {
        /// Where it got to.
        pointer: u32,
        /// Where it ends.
        end: u32,
    },
    /// Anything else: an address that is not there, an unknown instruction, an unaligned access.
    Other {
        /// Address of the instruction.
        pc: u32,
        /// Return address of the function it is in.
        lr: u32,
    },
}

impl Fault {
    /// From the main stack pointer on entry.
    ///
    /// # Safety
    /// `pointer` is the main stack pointer as a hard fault left it.
    pub unsafe fn new(pointer: u32) -> Self {
        let end = (&raw const _stack_end).addr() as u32;
        if pointer <= end || limit_violated() {
            return Self::StackOverflow { pointer, end };
        }
        // The processor pushed r0 to r3, r12, lr, pc and the flags.
        let word = |n: usize| {
            // SAFETY: the frame lies above the end of the stack, so in RAM.
            unsafe { core::ptr::with_exposed_provenance::<u32>(pointer as usize).add(n).read_volatile() }
        };
        Self::Other { pc: word(6), lr: word(5) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::StackOverflow { pointer, end } => write!(
                f,
                "hard fault: stack overflow, down to {pointer:#010x} where the stack ends at {end:#010x}: give it more room in memory.x"
            ),
            Self::Other { pc, lr } => write!(f, "hard fault at {pc:#010x}, called from {lr:#010x}"),
        }
    }
}

unsafe extern "C" {
    static _stack_end: u32;
}

/// Makes every access below the stack's end fault, also where the chip has something there or ignores what is not: by the limit
/// of the stack pointer on Armv8-M, else by region 0 of the memory protection unit. A core without either (SAMD21) relies on the
/// bus, which faults where there is no memory. Call it once, first.
pub fn guard_stack() {
    let end = (&raw const _stack_end).addr();
    // SAFETY: nothing lies below the stack that the program could want.
    unsafe {
        #[cfg(armv8m)]
        core::arch::asm!("msr msplim, {}", in(reg) end, options(nomem, nostack, preserves_flags));
        #[cfg(not(armv8m))]
        guard_below(end);
    }
}

/// Whether the fault is the stack limit's: bit STKOF of the fault status.
fn limit_violated() -> bool {
    const STATUS: *const u32 = 0xE000_ED28 as *const u32;
    const STKOF: u32 = 1 << 20;
    // SAFETY: a register of every Armv8-M mainline core.
    cfg!(armv8m) && unsafe { STATUS.read_volatile() } & STKOF != 0
}

/// No access to the 8 KB below `end`, which is a multiple of that (Armv6-M and Armv7-M Architecture Reference Manual, B3.5).
#[cfg(not(armv8m))]
unsafe fn guard_below(end: usize) {
    const TYPE: *const u32 = 0xE000_ED90 as *const u32;
    const CONTROL: *mut u32 = 0xE000_ED94 as *mut u32;
    const BASE: *mut u32 = 0xE000_ED9C as *mut u32;
    const SIZE: *mut u32 = 0xE000_EDA0 as *mut u32;
    const GUARD: usize = 8 << 10;
    const REGION_0: u32 = 1 << 4;
    const NEVER_EXECUTE: u32 = 1 << 28; // and no access, by zeros
    const ENABLE: u32 = 1;
    const AS_WITHOUT_ELSEWHERE: u32 = 1 << 2;
    assert!(end.is_multiple_of(GUARD), "the stack must end at a multiple of 8 KB");
    // SAFETY: registers of the memory protection unit, which every Armv6-M and Armv7-M core has; without regions it does nothing.
    unsafe {
        if TYPE.read_volatile() >> 8 == 0 {
            return;
        }
        BASE.write_volatile((end - GUARD) as u32 | REGION_0);
        SIZE.write_volatile(NEVER_EXECUTE | (GUARD.ilog2() - 1) << 1 | ENABLE);
        CONTROL.write_volatile(AS_WITHOUT_ELSEWHERE | ENABLE);
        core::arch::asm!("dsb", "isb", options(nostack, preserves_flags));
    }
}

/// Defines the `HardFault` handler: it calls `$report`, a `fn(Fault) -> !`, on a stack that works.
///
/// Needs the symbols `_stack_start` and `_stack_end` of the linker script.
#[macro_export]
macro_rules! hard_fault {
    ($report:path) => {
        const _: () = {
            unsafe extern "C" {
                static _stack_start: u32;
                static _stack_end: u32;
            }

            unsafe extern "C" fn tell(pointer: u32) -> ! {
                let report: fn($crate::fault::Fault) -> ! = $report;
                // SAFETY: called by the handler below alone.
                report(unsafe { $crate::fault::Fault::new(pointer) })
            }

            // Nothing returns from here, so what a stack held that overflowed, or has too little room to report, may be
            // overwritten; any other stack is kept for the debugger.
            #[unsafe(naked)]
            #[unsafe(no_mangle)]
            unsafe extern "C" fn HardFault() -> ! {
                core::arch::naked_asm!(
                    "mrs r0, msp",
                    "ldr r1, 3f",
                    "cmp r0, r1",
                    "bhi 2f",
                    "ldr r2, 4f",
                    "mov sp, r2",
                    "2:",
                    "ldr r2, 5f",
                    "bx r2",
                    ".p2align 2",
                    "3: .word {end} + 1024",
                    "4: .word {start}",
                    "5: .word {tell}",
                    end = sym _stack_end,
                    start = sym _stack_start,
                    tell = sym tell,
                )
            }
        };
    };
}
