//! A link over semihosting: the debugger's (or the emulator's) standard input and output.

use cortex_m_semihosting::{nr, syscall};
use embedded_io::{ErrorKind, ErrorType, Read, Write};

/// The name of the debugger's console, and its length without the final zero.
const CONSOLE: &[u8; 4] = b":tt\0";

/// Both directions. Reads ahead: each call stops the core until the debugger has answered.
pub struct Link {
    input: usize,
    output: usize,
    block: [u8; 2048],
    at: usize,
    end: usize,
}

impl Link {
    /// Opens both directions.
    ///
    /// # Errors
    /// The debugger has no console.
    pub fn open() -> Result<Self, ErrorKind> {
        let (input, output) = (open(nr::open::R_BINARY)?, open(nr::open::W_TRUNC_BINARY)?);
        Ok(Self { input, output, block: [0; 2048], at: 0, end: 0 })
    }
}

fn open(mode: usize) -> Result<usize, ErrorKind> {
    // SAFETY: the name is valid for the whole call
    let handle = unsafe { syscall!(OPEN, CONSOLE.as_ptr(), mode, CONSOLE.len() - 1) };
    if handle == usize::MAX { Err(ErrorKind::NotConnected) } else { Ok(handle) }
}

impl ErrorType for Link {
    type Error = ErrorKind;
}

impl Read for Link {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, ErrorKind> {
        if self.at == self.end && !bytes.is_empty() {
            // SAFETY: the debugger writes at most the length of the block
            let left = unsafe { syscall!(READ, self.input, self.block.as_mut_ptr(), self.block.len()) };
            (self.at, self.end) = (0, self.block.len().saturating_sub(left));
        }
        let n = bytes.len().min(self.end - self.at);
        bytes[..n].copy_from_slice(&self.block[self.at..][..n]);
        self.at += n;
        Ok(n)
    }
}

impl Write for Link {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, ErrorKind> {
        // SAFETY: the debugger reads these bytes and no others
        let left = unsafe { syscall!(WRITE, self.output, bytes.as_ptr(), bytes.len()) };
        match bytes.len().saturating_sub(left) {
            0 if !bytes.is_empty() => Err(ErrorKind::WriteZero),
            n => Ok(n),
        }
    }

    fn flush(&mut self) -> Result<(), ErrorKind> {
        Ok(())
    }
}
