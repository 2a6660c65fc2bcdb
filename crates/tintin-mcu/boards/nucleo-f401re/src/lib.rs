//! Nucleo-F401RE at 84 MHz. An LSM303AGR breakout, if there is one, hangs at D14 (PB9, SDA) and D15 (PB8, SCL).
#![no_std]

use cortex_m::Peripherals;
use stm32f4xx_hal::i2c::I2c;
use stm32f4xx_hal::pac;
use stm32f4xx_hal::prelude::*;
use stm32f4xx_hal::rcc::Config;
use tintin_board_support::SysTickClock;

/// I2C bus of the accelerometer.
pub type Bus = I2c<pac::I2C1>;

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
    let (core, chip) = (Peripherals::take().unwrap(), pac::Peripherals::take().unwrap());
    let mut rcc = chip.RCC.freeze(Config::hsi().sysclk(84.MHz()));
    let pins = chip.GPIOB.split(&mut rcc);
    let bus = I2c::new(chip.I2C1, (pins.pb8, pins.pb9), 400.kHz(), &mut rcc);
    Board { clock: SysTickClock::start(core.SYST, rcc.clocks.sysclk().raw()), bus }
}
