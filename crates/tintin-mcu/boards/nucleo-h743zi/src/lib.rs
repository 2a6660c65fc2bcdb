//! Nucleo-H743ZI at 400 MHz. An LSM303AGR breakout, if there is one, hangs at PB9 (SDA) and PB8 (SCL).
#![no_std]

use cortex_m::Peripherals;
use embassy_stm32::i2c::{Config as BusConfig, I2c, Master};
use embassy_stm32::mode::Blocking;
use embassy_stm32::rcc::{
    AHBPrescaler, APBPrescaler, HSIPrescaler, Pll, PllDiv, PllMul, PllPreDiv, PllSource, Sysclk, VoltageScale,
};
use embassy_stm32::time::Hertz;
use tintin_board_support::SysTickClock;

/// I2C bus of the accelerometer.
pub type Bus = I2c<'static, Blocking, Master>;

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
    let mut core = Peripherals::take().unwrap();
    let mut config = embassy_stm32::Config::default();
    config.rcc.hsi = Some(HSIPrescaler::DIV1); // 64 MHz
    config.rcc.pll1 = Some(Pll {
        source: PllSource::HSI,
        prediv: PllPreDiv::DIV4,
        mul: PllMul::MUL50,
        fracn: None,
        divp: Some(PllDiv::DIV2), // 64 MHz / 4 · 50 / 2 = 400 MHz
        divq: None,
        divr: None,
    });
    config.rcc.sys = Sysclk::PLL1_P;
    config.rcc.ahb_pre = AHBPrescaler::DIV2;
    config.rcc.apb1_pre = APBPrescaler::DIV2;
    config.rcc.apb2_pre = APBPrescaler::DIV2;
    config.rcc.apb3_pre = APBPrescaler::DIV2;
    config.rcc.apb4_pre = APBPrescaler::DIV2;
    config.rcc.voltage_scale = VoltageScale::Scale1;
    let chip = embassy_stm32::init(config);
    core.SCB.enable_icache();
    core.SCB.enable_dcache(&mut core.CPUID);
    let mut bus = BusConfig::default();
    bus.frequency = Hertz::khz(400);
    let bus = I2c::new_blocking(chip.I2C1, chip.PB8, chip.PB9, bus);
    Board { clock: SysTickClock::start(core.SYST, 400_000_000), bus }
}
