//! Recurses until its stack overflows: must end in the fault handler, which looks whether the weights of a net are untouched.
#![no_std]
#![no_main]

use core::fmt::Write;
use core::hint::black_box;
use core::panic::PanicInfo;
use cortex_m_rt::entry;
use cortex_m_semihosting::debug::{EXIT_FAILURE, exit};
use cortex_m_semihosting::hio;
use tintin_mcu::apps::digits::net;
use tintin_mcu::fault::Fault;

static mut MEMORY: net::Memory = net::Memory::new();
static mut DIGEST: u64 = 0;

fn deeper(n: u32) -> u32 {
    let room = black_box([n; 32]);
    if n == u32::MAX { 0 } else { deeper(black_box(n + 1)) + black_box(room[7]) }
}

/// Digest of the net as it is.
fn digest() -> u64 {
    // SAFETY: one core without interrupts that look here; no other reference lives.
    net::net(unsafe { &mut *(&raw mut MEMORY) }).digest()
}

#[entry]
fn main() -> ! {
    let _ = qemu::start();
    // SAFETY: as in `digest`.
    unsafe {
        net::net(&mut *(&raw mut MEMORY)).initialise(1);
        DIGEST = digest();
    }
    let depth = deeper(0);
    panic!("no overflow: came back with {depth}");
}

fn report(fault: Fault) -> ! {
    // SAFETY: as in `digest`.
    let before = unsafe { DIGEST };
    let weights = if before != 0 && digest() == before { "untouched" } else { "CHANGED" };
    fail(format_args!("{fault}; weights {weights}"))
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    fail(format_args!("{info}"))
}

fn fail(why: core::fmt::Arguments<'_>) -> ! {
    if let Ok(mut out) = hio::hstderr() {
        let _ = writeln!(out, "{why}");
    }
    loop {
        exit(EXIT_FAILURE);
    }
}

tintin_mcu::hard_fault!(report);
