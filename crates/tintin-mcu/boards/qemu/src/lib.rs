//! QEMU's MPS2 boards: text through semihosting, time from the 25 MHz that their SysTick counts.
#![no_std]

pub mod sensor;
pub mod shaker;

use cortex_m::Peripherals;
use cortex_m_semihosting::debug::{EXIT_SUCCESS, exit};
use cortex_m_semihosting::hio::{self, HostStream};
use tintin_board_support::SysTickClock;
use tintin_mcu::fault::guard_stack;

/// Time and text.
///
/// # Panics
/// When called twice, or without semihosting.
pub fn start() -> (SysTickClock, HostStream) {
    guard_stack();
    let core = Peripherals::take().unwrap();
    (SysTickClock::start(core.SYST, 25_000_000), hio::hstdout().unwrap())
}

/// Ends the emulation with success.
pub fn done() -> ! {
    loop {
        exit(EXIT_SUCCESS);
    }
}
