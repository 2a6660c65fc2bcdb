//! An LSM303AGR whose machine is simulated: as much of its registers as the driver reads.

use crate::shaker;
use core::convert::Infallible;
use embedded_hal::i2c::{ErrorType, I2c, Operation};

const STATUS: u8 = 0x27;
const OUT_X_L_AND_ON: u8 = 0x28 | 0x80;
const NEW_DATA: u8 = 0x0F;

/// The sensor and its bus.
#[derive(Default)]
pub struct Simulated {
    /// Whether the machine's bearing is worn.
    pub worn: bool,
    samples: u32,
    register: u8,
}

impl ErrorType for Simulated {
    type Error = Infallible;
}

impl I2c for Simulated {
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), Infallible> {
        for operation in operations {
            match operation {
                Operation::Write(bytes) => self.register = bytes[0],
                Operation::Read(bytes) if self.register == STATUS => bytes.fill(NEW_DATA),
                Operation::Read(bytes) if self.register == OUT_X_L_AND_ON => {
                    let values = shaker::acceleration(self.samples, self.worn);
                    self.samples += 1;
                    for (bytes, value) in bytes.chunks_exact_mut(2).zip(values) {
                        bytes.copy_from_slice(&(value << 4).to_le_bytes()); // left-aligned
                    }
                }
                Operation::Read(bytes) => bytes.fill(0),
            }
        }
        Ok(())
    }
}
