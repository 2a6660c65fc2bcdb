//! Learns handwritten digits on the board.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use tintin_board_support::{digits, digits_file};
use tintin_mcu::apps::digits::net;

#[entry]
fn main() -> ! {
    static mut MEMORY: net::Memory = net::Memory::new(); // lent by `entry`, once
    digits(MEMORY, digits_file!(), microbit_v2::start().clock)
}
