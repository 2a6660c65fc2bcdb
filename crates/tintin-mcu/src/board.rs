//! What an application asks of a board. Boards lend it; applications know none of them.
//!
//! Text goes to any [`core::fmt::Write`]: RTT, semihosting, a `String` under test, or an `embedded-io` link in [`Text`].

use core::fmt;

/// Time since some start.
pub trait Clock {
    /// Microseconds; wraps around every 71 minutes.
    fn microseconds(&mut self) -> u32;
}

/// Microseconds that `f` takes, at most 71 minutes, and what it returns.
pub fn timed<R>(clock: &mut impl Clock, f: impl FnOnce() -> R) -> (u32, R) {
    let start = clock.microseconds();
    let result = f();
    (clock.microseconds().wrapping_sub(start), result)
}

/// A sensor of acceleration along three axes.
pub trait Accelerometer {
    /// Why a reading failed.
    type Error: fmt::Debug;

    /// Waits for the next sample: x, y, z in the sensor's own unit.
    ///
    /// # Errors
    /// What the bus or the sensor reports; the next call may succeed.
    fn sample(&mut self) -> Result<[i16; 3], Self::Error>;
}

/// Text over a link of bytes, such as a UART; line ends are sent as `\r\n`.
pub struct Text<W>(pub W);

impl<W: embedded_io::Write> fmt::Write for Text<W> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for (n, line) in text.split('\n').enumerate() {
            if n > 0 {
                self.0.write_all(b"\r\n").map_err(|_| fmt::Error)?;
            }
            self.0.write_all(line.as_bytes()).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn text_ends_lines_for_terminals() {
        let mut buffer = [0u8; 16];
        let mut link = &mut buffer[..];
        write!(Text(&mut link), "a\nbc{}\n", 7).unwrap();
        let left = link.len();
        assert_eq!(&buffer[..16 - left], b"a\r\nbc7\r\n");
        assert!(write!(Text(&mut &mut buffer[..2]), "abc").is_err());
    }
}
