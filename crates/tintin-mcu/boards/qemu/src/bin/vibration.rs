//! Learns what normal is from a simulated sensor behind the real driver; fails unless a worn bearing is noticed.
#![no_std]
#![no_main]

#[path = "../../../../src/faults.rs"]
mod faults;

use cortex_m_rt::entry;
use qemu::sensor::Simulated;
use tintin_mcu::apps::vibration::{LEARN, Lsm303, MEASURE, Monitor, net, run};

#[entry]
fn main() -> ! {
    static mut MEMORY: net::Memory = net::Memory::new(); // lent by `entry`, once
    let (mut clock, mut text) = qemu::start();
    let mut monitor = Monitor::new(MEMORY);
    let mut sensor = Lsm303::new(Simulated::default());
    let normal = run(&mut monitor, &mut sensor, &mut clock, &mut text, LEARN + MEASURE as u32 + 100).unwrap();
    assert!(normal.normal >= 98, "{normal:?}");
    let mut machine = sensor.release();
    machine.worn = true;
    let mut sensor = Lsm303::new(machine);
    let worn = run(&mut monitor, &mut sensor, &mut clock, &mut text, 50).unwrap();
    assert!(worn.changed == 50, "{worn:?}");
    qemu::done()
}
