//! BBC micro:bit v2 at 64 MHz, with its accelerometer.
#![no_std]

use cortex_m::Peripherals;
use nrf52833_hal::gpio::p0;
use nrf52833_hal::twim::{Frequency, Pins, Twim};
use nrf52833_hal::{Clocks, pac};
use tintin_board_support::SysTickClock;

/// I2C bus of the accelerometer.
pub type Bus = Twim<pac::TWIM0>;

/// What this board lends.
pub struct Board {
    /// Time.
    pub clock: SysTickClock,
    /// 400 kHz, the internal bus.
    pub bus: Bus,
}

/// Sets clocks and pins up.
///
/// # Panics
/// When called twice.
pub fn start() -> Board {
    let (core, chip) = (Peripherals::take().unwrap(), pac::Peripherals::take().unwrap());
    Clocks::new(chip.CLOCK).enable_ext_hfosc();
    let pins = p0::Parts::new(chip.P0);
    let pins =
        Pins { scl: pins.p0_08.into_floating_input().degrade(), sda: pins.p0_16.into_floating_input().degrade() };
    let bus = Twim::new(chip.TWIM0, pins, Frequency::K400);
    Board { clock: SysTickClock::start(core.SYST, 64_000_000), bus }
}
