//! Text, panics and faults over RTT: memory that the debug probe reads while the program runs.

use crate::SysTickClock;
use core::fmt::{self, Write};
use core::panic::PanicInfo;
use cortex_m::asm;
use embedded_hal::i2c::I2c;
use rtt_target::{ChannelMode, rprint, rtt_init, set_print_channel};
use tintin_mcu::apps::digits::{self, Digits};
use tintin_mcu::apps::vibration::{self, Lsm303, Monitor};
use tintin_mcu::fault::{Fault, guard_stack};

struct Text;

impl Text {
    /// Call it once. What the probe does not fetch in time is cut off, so that the program runs without a probe too; `Embed.toml`
    /// makes it wait for one.
    fn start() -> Self {
        let channels = rtt_init! { up: { 0: { size: 1024, mode: ChannelMode::NoBlockTrim, name: "Terminal" } } };
        set_print_channel(channels.up.0);
        Self
    }
}

impl Write for Text {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        rprint!("{}", text);
        Ok(())
    }
}

/// Runs [`digits::run`] and stays.
pub fn digits(memory: &mut digits::net::Memory, file: &[u8], mut clock: SysTickClock) -> ! {
    guard_stack();
    let mut text = Text::start();
    match Digits::read(file) {
        Ok(data) => _ = digits::run(memory, &data, &mut clock, &mut text),
        Err(error) => _ = writeln!(text, "{error}"),
    }
    rest()
}

/// Runs [`vibration::run`] on an LSM303AGR, on and on.
pub fn vibration(memory: &mut vibration::net::Memory, bus: impl I2c, mut clock: SysTickClock) -> ! {
    guard_stack();
    let mut text = Text::start();
    let (mut monitor, mut sensor) = (Monitor::new(memory), Lsm303::new(bus));
    loop {
        let _ = vibration::run(&mut monitor, &mut sensor, &mut clock, &mut text, u32::MAX);
    }
}

/// Not asleep: some chips shut the probe out of their memory then.
fn rest() -> ! {
    loop {
        asm::nop();
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    cortex_m::interrupt::disable();
    let _ = writeln!(Text, "{info}");
    loop {
        asm::bkpt(); // a debugger stops here; without one it is a fault that stops the core
    }
}

fn report(fault: Fault) -> ! {
    panic!("{fault}");
}

tintin_mcu::hard_fault!(report);
