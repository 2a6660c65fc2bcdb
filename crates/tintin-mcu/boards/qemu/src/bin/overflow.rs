//! Recurses until its stack overflows, beside a net that learns: must end in the fault handler with the weights untouched.
#![no_std]
#![no_main]

use core::hint::black_box;
use cortex_m_rt::entry;

fn deeper(n: u32) -> u32 {
    let room = black_box([n; 32]);
    if n == u32::MAX { 0 } else { deeper(black_box(n + 1)) + black_box(room[7]) }
}

#[entry]
fn main() -> ! {
    let (_, _) = qemu::start();
    let depth = deeper(0);
    panic!("no overflow: came back with {depth}");
}
