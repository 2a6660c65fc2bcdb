//! What runs an application: samples come from the file `samples.bin` in the folder it is run in, on a Cortex-M through
//! semihosting, on the host as any program reads. Included by its binaries.

use tintin_mcu::tintin_core::plan::Options;
use tintin_mcu::tintin_core::shape::Shape;

/// The `main` of the application of a net and its front.
macro_rules! application {
    ($net:ident, $front:ident) => {
        #[cfg(target_os = "none")]
        #[cortex_m_rt::entry]
        fn main() -> ! {
            static mut MEMORY: $net::Memory = $net::Memory::new(); // lent by `entry`, once
            static mut FRONT: $front = $front::new();
            static mut BATCH: [i8; streamed::room(&$net::OPTIONS, $net::INPUT)] =
                [0; streamed::room(&$net::OPTIONS, $net::INPUT)];
            let ram = core::mem::size_of::<$net::Memory>();
            streamed::run(ram, &mut $net::lean(MEMORY, &[]), FRONT, BATCH)
        }

        #[cfg(not(target_os = "none"))]
        fn main() -> std::process::ExitCode {
            static MEMORY: std::sync::Mutex<($net::Memory, $front)> =
                std::sync::Mutex::new(($net::Memory::new(), $front::new()));
            let (memory, front) = &mut *MEMORY.lock().unwrap();
            let batch = &mut [0; streamed::room(&$net::OPTIONS, $net::INPUT)];
            streamed::run(&mut $net::lean(memory, &[]), front, batch)
        }
    };
}
pub(crate) use application;

#[cfg(target_os = "none")]
#[path = "faults.rs"]
mod faults;
#[cfg(target_os = "none")]
#[path = "meter.rs"]
mod meter;

#[cfg(target_os = "none")]
mod machine {
    use super::meter;
    use core::fmt::Write;
    use core::ptr::{read_volatile, write_volatile};
    use cortex_m_semihosting::debug::{EXIT_SUCCESS, exit};
    use cortex_m_semihosting::{hio, nr, syscall};
    use tintin_mcu::application::{self, Error, Front, Source};
    use tintin_mcu::tintin_core::net::Net;

    const NAME: &[u8] = b"samples.bin\0";
    const CONTROL: *mut u32 = 0xE000_E010 as *mut u32;
    const RELOAD: *mut u32 = 0xE000_E014 as *mut u32;
    const CURRENT: *mut u32 = 0xE000_E018 as *mut u32;
    const CORE_CLOCK_ON: u32 = 0b101;
    const TOP: u32 = 0x00FF_FFFF;
    const INSTRUCTIONS_PER_TICK: u32 = 40;

    /// A file of the host.
    struct File(usize);

    impl Source for File {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
            // SAFETY: the host writes into `bytes` alone and tells how many it could not.
            match unsafe { syscall!(READ, self.0, bytes.as_mut_ptr(), bytes.len()) } {
                0 => Ok(()),
                _ => Err(Error::Ended),
            }
        }
    }

    /// Instructions so far, to within 40: SysTick counts the 25 MHz core clock, and with `-icount shift=0` QEMU lets every
    /// instruction take 1 ns. Differences are right modulo 2^24 ticks, which no sample takes.
    fn instructions() -> u32 {
        // SAFETY: reads a register of SysTick, which nothing else uses.
        (TOP - unsafe { read_volatile(CURRENT) }) * INSTRUCTIONS_PER_TICK
    }

    pub fn run<const SET: u32>(plan: usize, net: &mut Net<'_, SET>, front: &mut impl Front, batch: &mut [i8]) -> ! {
        tintin_mcu::fault::guard_stack();
        meter::paint();
        // SAFETY: SysTick's registers, which nothing else uses.
        unsafe {
            write_volatile(RELOAD, TOP);
            write_volatile(CURRENT, 0);
            write_volatile(CONTROL, CORE_CLOCK_ON);
        }
        // SAFETY: the name ends with a zero, and its length is told without it.
        let file = unsafe { syscall!(OPEN, NAME.as_ptr(), nr::open::R_BINARY, NAME.len() - 1) };
        if file == usize::MAX {
            panic!("there is no samples.bin in this folder: make it with scripts/applications.py");
        }
        let out = &mut hio::hstdout().unwrap();
        if let Err(error) = application::run(net, front, batch, &mut File(file), out, instructions) {
            panic!("{error}");
        }
        let (statics, room) = (meter::statics(), meter::room());
        writeln!(out, "ram static {statics} net {plan} stack {} of {room}", meter::stack()).unwrap();
        loop {
            exit(EXIT_SUCCESS);
        }
    }
}

#[cfg(not(target_os = "none"))]
mod machine {
    use std::fs::File;
    use std::io::{BufReader, Read};
    use std::process::ExitCode;
    use tintin_mcu::application::{self, Error, Front, Source};
    use tintin_mcu::tintin_core::net::Net;

    struct Reader(BufReader<File>);

    impl Source for Reader {
        fn fill(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
            self.0.read_exact(bytes).map_err(|_| Error::Ended)
        }
    }

    pub fn run<const SET: u32>(net: &mut Net<'_, SET>, front: &mut impl Front, batch: &mut [i8]) -> ExitCode {
        let mut text = String::new();
        let outcome = match File::open("samples.bin") {
            Ok(file) => application::run(net, front, batch, &mut Reader(BufReader::new(file)), &mut text, || 0)
                .map_err(|error| error.to_string()),
            Err(error) => Err(format!("samples.bin: {error}")),
        };
        print!("{text}");
        match outcome {
            Ok(()) => ExitCode::SUCCESS,
            Err(message) => {
                eprintln!("{message}");
                ExitCode::FAILURE
            }
        }
    }
}

pub use machine::run;

/// Mantissas of the largest batch.
pub const fn room(options: &Options, input: Shape) -> usize {
    options.batch as usize * input.len()
}
