//! Raspberry Pi Pico 2 at 150 MHz, on an Arm core. An LSM303AGR breakout, if there is one, hangs at GP4 (SDA) and GP5 (SCL).
#![no_std]

use cortex_m::Peripherals;
use rp235x_hal::block::ImageDef;
use rp235x_hal::clocks::{Clock, init_clocks_and_plls};
use rp235x_hal::fugit::RateExtU32;
use rp235x_hal::gpio::bank0::{Gpio4, Gpio5};
use rp235x_hal::gpio::{FunctionI2C, Pin, PullUp};
use rp235x_hal::{I2C, Sio, Watchdog, gpio, pac};
use tintin_board_support::SysTickClock;

/// Tells the boot ROM what this image is.
#[unsafe(link_section = ".start_block")]
#[used]
static IMAGE: ImageDef = ImageDef::secure_exe();

const CRYSTAL_HZ: u32 = 12_000_000;

/// I2C bus of the accelerometer.
pub type Bus = I2C<pac::I2C0, (Pin<Gpio4, FunctionI2C, PullUp>, Pin<Gpio5, FunctionI2C, PullUp>)>;

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
/// When called twice, or if a clock does not start.
pub fn start() -> Board {
    let (core, mut chip) = (Peripherals::take().unwrap(), pac::Peripherals::take().unwrap());
    let mut watchdog = Watchdog::new(chip.WATCHDOG);
    let clocks = init_clocks_and_plls(
        CRYSTAL_HZ,
        chip.XOSC,
        chip.CLOCKS,
        chip.PLL_SYS,
        chip.PLL_USB,
        &mut chip.RESETS,
        &mut watchdog,
    )
    .ok()
    .unwrap();
    let core_hz = clocks.system_clock.freq().to_Hz();
    let pins = gpio::Pins::new(chip.IO_BANK0, chip.PADS_BANK0, Sio::new(chip.SIO).gpio_bank0, &mut chip.RESETS);
    let (sda, scl) = (pins.gpio4.reconfigure(), pins.gpio5.reconfigure());
    let bus = I2C::i2c0(chip.I2C0, sda, scl, 400.kHz(), &mut chip.RESETS, &clocks.system_clock);
    Board { clock: SysTickClock::start(core.SYST, core_hz), bus }
}
