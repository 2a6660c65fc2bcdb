//! Learns handwritten digits and fails unless it learnt them.
#![no_std]
#![no_main]

#[path = "../../../../src/faults.rs"]
mod faults;

use cortex_m_rt::entry;
use tintin_mcu::apps::digits::{Digits, net, run};

#[entry]
fn main() -> ! {
    static mut MEMORY: net::Memory = net::Memory::new(); // lent by `entry`, once
    let (mut clock, mut text) = qemu::start();
    let data = Digits::read(tintin_board_support::digits_file!()).unwrap();
    let outcome = run(MEMORY, &data, &mut clock, &mut text).unwrap();
    assert!(outcome.after * 100 >= outcome.of * 95, "{} of {} held-out digits right", outcome.after, outcome.of);
    qemu::done()
}
