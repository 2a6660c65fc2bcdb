//! The digits application on the host, on the real pictures.

use std::path::{Path, PathBuf};
use tintin_mcu::apps::digits::{DataError, Digits, net, run};
use tintin_mcu::board::Clock;

/// Three milliseconds pass between two looks.
struct Steady(u32);

impl Clock for Steady {
    fn microseconds(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(3_000_000);
        self.0
    }
}

fn pictures() -> Vec<u8> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/firmware/digits.bin");
    let path = std::env::var_os("TINTIN_DIGITS").map_or(built, PathBuf::from);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}; run: make firmware-data", path.display()))
}

#[test]
fn learns_the_held_out_digits() {
    let file = pictures();
    let data = Digits::read(&file).unwrap();
    assert_eq!(data.len(), (1442, 355));
    let (mut memory, mut text) = (net::Memory::new(), String::new());
    let outcome = run(&mut memory, &data, &mut Steady(u32::MAX - 1_000_000), &mut text).unwrap();
    print!("{text}");
    assert!(outcome.before < 100, "drawn weights know {} of 355", outcome.before);
    assert!(outcome.after >= 335, "trained weights know {} of 355", outcome.after);
    assert!(text.contains("2080 us a step"), "the clock wraps around in the first epoch: {text}");
    assert!(text.contains(&format!("{:#018X}", outcome.digest)));
}

#[test]
fn refuses_what_is_not_a_file_of_digits() {
    let mut file = pictures();
    assert_eq!(Digits::read(&file[..7]).unwrap_err(), DataError::NotDigits);
    let whole = file.len();
    assert_eq!(Digits::read(&file[..whole - 1]).unwrap_err(), DataError::Length { found: whole - 1, expected: whole });
    file[8 + 65 + 3] = 17;
    assert_eq!(Digits::read(&file).unwrap_err(), DataError::Value(1));
    assert!(Digits::read(&file).unwrap_err().to_string().ends_with("make firmware-data writes it anew"));
    file[8 + 65 + 3] = 16;
    file[8 + 2 * 65 + 64] = 10;
    assert_eq!(Digits::read(&file).unwrap_err(), DataError::Value(2));
    file[0] = b't';
    assert_eq!(Digits::read(&file).unwrap_err(), DataError::NotDigits);
    assert_eq!(Digits::read(b"TDIG\0\0\0\0").unwrap_err(), DataError::Empty);
}
