//! The generic runner of [`tintin_mcu::runner`]: on a Cortex-M over semihosting, on the host over standard input and output.
//!
//! `tintin verify` sends it models and samples and compares every step with its own.
#![cfg_attr(target_os = "none", no_std, no_main)]

use tintin_mcu::resident::{Resident, Tables};
use tintin_mcu::runner::{Identity, Runner};

#[cfg(target_os = "none")]
#[path = "../faults.rs"]
mod faults;

/// Most layers of a model.
const LAYERS: usize = 64;
/// What this is compiled for.
const TARGET: &str = env!("TINTIN_TARGET");
/// The board of the M33 has 2 MiB of RAM, the others 4.
const SMALL: bool = matches!(TARGET.as_bytes(), [b't', b'h', b'u', b'm', b'b', b'v', b'8', ..]);
/// Words for a model, and bytes for a message; what is left of the RAM is for stack and tables.
const POOL: usize = if SMALL { 1536 << 8 } else { 3584 << 8 };
const FRAME: usize = if SMALL { 128 << 10 } else { 256 << 10 };

#[cfg(target_os = "none")]
mod firmware {
    use super::{FRAME, Identity, LAYERS, POOL, Resident, Runner, TARGET, Tables};
    use core::hint::black_box;
    use core::ptr::read_volatile;
    use cortex_m_rt::entry;
    use cortex_m_semihosting::debug::{EXIT_FAILURE, EXIT_SUCCESS, exit};
    use tintin_mcu::runner::LABEL;
    use tintin_mcu::semihosting::Link;

    /// CPUID of the System Control Block, at the same place on every Cortex-M.
    const CPUID: *const u32 = 0xE000_ED00 as *const u32;

    #[entry]
    fn main() -> ! {
        static mut WORDS: [i32; POOL] = [0; POOL]; // lent by `entry`, once
        static mut MESSAGE: [u8; FRAME] = [0; FRAME];
        tintin_mcu::fault::guard_stack();
        let mut tables = Tables::<LAYERS>::new();
        // SAFETY: a read-only register of the core, without side effects
        let part = (unsafe { read_volatile(CPUID) } >> 4) as u16 & 0xFFF;
        let identity = Identity { part, target: TARGET };
        black_box(&LABEL);
        let mut runner = Runner::new(identity, MESSAGE, Resident::new(WORDS, &mut tables));
        let served = Link::open().and_then(|mut link| runner.serve(&mut link));
        loop {
            exit(if served.is_ok() { EXIT_SUCCESS } else { EXIT_FAILURE });
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() -> std::io::Result<()> {
    use embedded_io_adapters::std::FromStd;
    use std::io::{BufReader, BufWriter, Read, Result, Write, stdin, stdout};

    /// Both directions as one link.
    struct Pipes<R, W>(R, W);

    impl<R: Read, W> Read for Pipes<R, W> {
        fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
            self.0.read(bytes)
        }
    }

    impl<R, W: Write> Write for Pipes<R, W> {
        fn write(&mut self, bytes: &[u8]) -> Result<usize> {
            self.1.write(bytes)
        }

        fn flush(&mut self) -> Result<()> {
            self.1.flush()
        }
    }

    let (mut pool, mut frame) = (vec![0; POOL], vec![0; FRAME]);
    let mut tables = Box::new(Tables::<LAYERS>::new());
    let identity = Identity { part: 0, target: TARGET };
    let mut runner = Runner::new(identity, &mut frame, Resident::new(&mut pool, &mut *tables));
    runner.serve(&mut FromStd::new(Pipes(BufReader::new(stdin()), BufWriter::new(stdout()))))
}
