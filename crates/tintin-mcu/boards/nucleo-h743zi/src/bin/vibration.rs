//! Learns what the vibration of a machine is normally like, and tells when it is not.
#![no_std]
#![no_main]

use cortex_m_rt::entry;
use tintin_board_support::vibration;
use tintin_mcu::apps::vibration::net;

#[entry]
fn main() -> ! {
    static mut MEMORY: net::Memory = net::Memory::new(); // lent by `entry`, once
    let board = nucleo_h743zi::start();
    vibration(MEMORY, board.bus, board.clock)
}
