//! Adafruit Feather M0 at 48 MHz. An LSM303AGR breakout, if there is one, hangs at SDA (PA22) and SCL (PA23).
#![no_std]

use atsamd_hal::clock::GenericClockController;
use atsamd_hal::fugit::RateExtU32;
use atsamd_hal::gpio::{AlternateC, PA22, PA23, Pin, Pins};
use atsamd_hal::pac;
use atsamd_hal::sercom::{Sercom3, i2c};
use cortex_m::Peripherals;
use tintin_board_support::SysTickClock;

/// I2C bus of the accelerometer.
pub type Bus = i2c::I2c<i2c::Config<i2c::Pads<Sercom3, Pin<PA22, AlternateC>, Pin<PA23, AlternateC>>>>;

/// What this board lends.
pub struct Board {
    /// Time.
    pub clock: SysTickClock,
    /// 400 kHz.
    pub bus: Bus,
}

/// Sets clocks and pins up.
///
/// # Panics
/// When called twice.
pub fn start() -> Board {
    let (core, mut chip) = (Peripherals::take().unwrap(), pac::Peripherals::take().unwrap());
    let mut clocks =
        GenericClockController::with_internal_32kosc(chip.gclk, &mut chip.pm, &mut chip.sysctrl, &mut chip.nvmctrl);
    let core_clock = clocks.gclk0();
    let bus_clock = clocks.sercom3_core(&core_clock).unwrap();
    let pins = Pins::new(chip.port);
    let pads = i2c::Pads::new(pins.pa22, pins.pa23);
    let bus = i2c::Config::new(&chip.pm, chip.sercom3, pads, bus_clock.freq()).baud(400.kHz()).enable();
    Board { clock: SysTickClock::start(core.SYST, 48_000_000), bus }
}
