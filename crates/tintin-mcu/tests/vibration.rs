//! The vibration application on the host: the real driver on a bus with a script.

#[path = "../boards/qemu/src/shaker.rs"]
mod shaker;

use embedded_hal::delay::DelayNs;
use embedded_hal::i2c::{ErrorKind, NoAcknowledgeSource};
use embedded_hal_mock::eh1::i2c::{Mock, Transaction};
use tintin_mcu::apps::vibration::{
    FEATURES, LEARN, Lsm303, MEASURE, Monitor, SensorError, Tally, Verdict, WINDOW, Window, features, net, run,
};
use tintin_mcu::board::{Accelerometer, Clock};

const ACCELEROMETER: u8 = 0x19;
const MAGNETOMETER: u8 = 0x1E;
const STATUS: u8 = 0x27;
const OUT_X_L_AND_ON: u8 = 0x28 | 0x80;
const NEW_DATA: u8 = 0x0F;
const NACK: ErrorKind = ErrorKind::NoAcknowledge(NoAcknowledgeSource::Address);

#[derive(Default)]
struct Time {
    microseconds: u32,
    waited: u64,
}

impl Clock for Time {
    fn microseconds(&mut self) -> u32 {
        self.microseconds += 1;
        self.microseconds
    }
}

impl DelayNs for Time {
    fn delay_ns(&mut self, ns: u32) {
        self.waited += u64::from(ns);
    }
}

/// What the driver writes first: block data update, temperature, magnetometer, 400 Hz, high resolution.
fn set_up() -> Vec<Transaction> {
    let write = |register, value| Transaction::write(ACCELEROMETER, vec![register, value]);
    vec![
        write(0x23, 0x80),
        write(0x1F, 0xC0),
        Transaction::write(MAGNETOMETER, vec![0x62, 0x10]),
        write(0x20, 0x77),
        write(0x23, 0x88),
    ]
}

/// A look at the status and the reading of a sample, left-aligned in 16 bits.
fn sample(values: [i16; 3]) -> [Transaction; 2] {
    let bytes = values.iter().flat_map(|v| (v << 4).to_le_bytes()).collect();
    [
        Transaction::write_read(ACCELEROMETER, vec![STATUS], vec![NEW_DATA]),
        Transaction::write_read(ACCELEROMETER, vec![OUT_X_L_AND_ON], bytes),
    ]
}

/// `windows` windows from sample number `start` on.
fn windows(windows: u32, start: u32, worn: bool) -> impl Iterator<Item = Transaction> {
    (start..start + windows * WINDOW as u32).flat_map(move |n| sample(shaker::acceleration(n, worn)))
}

fn window(start: u32, worn: bool) -> Window {
    std::array::from_fn(|i| shaker::acceleration(start + i as u32, worn))
}

#[test]
fn learns_normal_flags_a_change_and_survives_a_sensor_that_does_not_answer() {
    let known = LEARN + MEASURE as u32;
    let mut script = set_up();
    script.extend(windows(known + 100, 0, false));
    script.extend(sample([1, 2, 3])); // a window that breaks off
    script.push(Transaction::write_read(ACCELEROMETER, vec![STATUS], vec![0]).with_error(NACK));
    script.push(Transaction::write(ACCELEROMETER, vec![0x23, 0x88]).with_error(NACK)); // still away
    let mut again = set_up();
    again[0] = Transaction::write(ACCELEROMETER, vec![0x23, 0x88]); // the driver remembers the mode it set
    script.extend(again);
    script.extend(windows(40, 1_000_000, true));
    script.extend(windows(20, 2_000_000, false));

    let mut bus = Mock::new(&script);
    let (mut memory, mut time, mut text) = (net::Memory::new(), Time::default(), String::new());
    let mut monitor = Monitor::new(&mut memory);
    let mut sensor = Lsm303::new(bus.clone());
    let tally = run(&mut monitor, &mut sensor, &mut time, &mut text, known + 162).unwrap();
    print!("{text}");
    bus.done();

    assert_eq!(tally.lost, 2);
    assert_eq!(time.waited, 2 * 100_000_000, "each lost window is followed by 100 ms");
    assert_eq!(text.matches("sensor: Bus(NoAcknowledge(Address)); window thrown away").count(), 2);
    assert_eq!(tally.changed + tally.normal, 160);
    assert!((40..=42).contains(&tally.changed), "40 of the watched windows are changed, it says {}", tally.changed);
    assert!(text.contains("watching: an error above"));
    assert!(text.contains("NOT NORMAL"));
    assert!(text.trim_end().lines().last().unwrap().starts_with("normal again"));
}

#[test]
fn a_sensor_that_never_has_a_sample_is_an_error() {
    let mut script = set_up();
    script.extend((0..1000).map(|_| Transaction::write_read(ACCELEROMETER, vec![STATUS], vec![0])));
    let mut bus = Mock::new(&script);
    assert_eq!(Lsm303::new(bus.clone()).sample(), Err(SensorError::NoSample));
    bus.done();
}

#[test]
fn every_worn_window_is_flagged_and_every_normal_one_passes() {
    let mut memory = net::Memory::new();
    let mut monitor = Monitor::new(&mut memory);
    let mut last = 0;
    for n in 0..LEARN {
        let Verdict::Learned(error) = monitor.window(&window(64 * n, false)) else { panic!("learning ended early") };
        last = error;
    }
    for n in 0..MEASURE as u32 {
        assert_eq!(monitor.limit(), None);
        assert!(matches!(monitor.window(&window(64 * (LEARN + n), false)), Verdict::Measured(_)));
    }
    assert!(last < monitor.limit().unwrap(), "the last learned window would not pass");
    for n in 0..200 {
        assert!(matches!(monitor.window(&window(5_000_000 + 61 * n, true)), Verdict::Changed(_)), "worn window {n}");
    }
    let passed = (0..200).filter(|n| matches!(monitor.window(&window(9_000_000 + 61 * n, false)), Verdict::Normal(_)));
    assert!(passed.count() >= 196);
    assert_eq!(Tally::default(), Tally { normal: 0, changed: 0, lost: 0 });
}

#[test]
fn features_stay_in_range_and_grow_by_16_when_the_motion_doubles() {
    assert_eq!(features(&[[0; 3]; WINDOW]), [-127; FEATURES]);
    let wild: Window = std::array::from_fn(|i| [if i % 2 == 0 { i16::MAX } else { i16::MIN }; 3]);
    assert!(features(&wild).iter().all(|f| (-127..=127).contains(f)));
    let (once, twice) = (window(0, false), window(0, false).map(|s| s.map(|v| v * 2)));
    for (a, b) in features(&once).iter().zip(features(&twice)) {
        assert!((15..=17).contains(&(b - a)), "{a} {b}");
    }
}
