//! Adapts a net to the samples of a task: on a Cortex-M with 256 KB of RAM from flash, on the host from a file. See
//! [`tintin_mcu::adaptation`] and `scripts/adapt-device.sh`.
#![cfg_attr(target_os = "none", no_std, no_main)]

use tintin_mcu::adaptation::{Tables, run};

#[cfg(target_os = "none")]
#[path = "../faults.rs"]
mod faults;
#[cfg(target_os = "none")]
#[path = "../meter.rs"]
mod meter;

/// Most layers of a net.
const LAYERS: usize = 100;

#[cfg(target_os = "none")]
mod firmware {
    use super::{LAYERS, Tables, meter, run};
    use core::fmt::Write;
    use core::ptr::{addr_of, read_volatile, write_volatile};
    use cortex_m_rt::entry;
    use cortex_m_semihosting::debug::{EXIT_SUCCESS, exit};
    use cortex_m_semihosting::hio;

    /// RAM of the memory map, and what is not for the adaptation.
    const RAM: usize = 248 << 10;
    const REST: usize = 512;
    const MEMORY: usize = (RAM - REST - size_of::<Tables<LAYERS>>()) / 8;

    const CONTROL: *mut u32 = 0xE000_E010 as *mut u32;
    const RELOAD: *mut u32 = 0xE000_E014 as *mut u32;
    const CURRENT: *mut u32 = 0xE000_E018 as *mut u32;
    const REFERENCE_CLOCK_ON: u32 = 0b001;
    const TOP: u32 = 0x00FF_FFFF;
    /// The reference clock of QEMU's boards has 1 MHz, and with `-icount shift=0` an instruction takes 1 ns.
    const INSTRUCTIONS_PER_TICK: u64 = 1000;

    unsafe extern "C" {
        static _task: u8;
        static _task_end: u8;
    }

    /// Instructions so far to within 1000, as long as it is asked at least once in 16 thousand million.
    struct Counter {
        last: u32,
        ticks: u64,
    }

    impl Counter {
        fn start() -> Self {
            // SAFETY: SysTick's registers, which nothing else uses.
            unsafe {
                write_volatile(RELOAD, TOP);
                write_volatile(CURRENT, 0);
                write_volatile(CONTROL, REFERENCE_CLOCK_ON);
                while read_volatile(CURRENT) == 0 {} // reloads at the next tick
                Self { last: read_volatile(CURRENT), ticks: 0 }
            }
        }

        fn instructions(&mut self) -> u64 {
            // SAFETY: as above.
            let now = unsafe { read_volatile(CURRENT) };
            self.ticks += u64::from(self.last.wrapping_sub(now) & TOP);
            self.last = now;
            self.ticks * INSTRUCTIONS_PER_TICK
        }
    }

    #[entry]
    fn main() -> ! {
        static mut WORDS: [u64; MEMORY] = [0; MEMORY]; // lent by `entry`, once
        static mut TABLES: Tables<LAYERS> = Tables::new();
        tintin_mcu::fault::guard_stack();
        meter::paint();
        // SAFETY: this region of flash holds a task and nothing else, and nobody writes there.
        let task = unsafe {
            core::slice::from_raw_parts(addr_of!(_task), addr_of!(_task_end).addr() - addr_of!(_task).addr())
        };
        let out = &mut hio::hstdout().unwrap();
        let mut counter = Counter::start();
        if let Err(error) = run(task, WORDS, TABLES, out, &mut || counter.instructions()) {
            panic!("{error}");
        }
        writeln!(out, "# static {} stack {} of {}", meter::statics(), meter::stack(), meter::room()).unwrap();
        loop {
            exit(EXIT_SUCCESS);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() -> std::process::ExitCode {
    use std::process::ExitCode;
    let Some(path) = std::env::args_os().nth(1) else {
        eprintln!("usage: adapt TASK");
        return ExitCode::from(2);
    };
    let outcome = std::fs::read(&path).map_err(|error| format!("{}: {error}", path.display())).and_then(|mut bytes| {
        let mut text = String::new();
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        let words: Vec<u64> =
            bytes.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().unwrap_or_default())).collect();
        let mut tables = Box::new(Tables::<LAYERS>::new());
        run(bytemuck::cast_slice(&words), &mut vec![0; 1 << 18], &mut tables, &mut text, &mut || 0)
            .map_err(|error| error.to_string())?;
        Ok(text)
    });
    match outcome {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(message) => {
            eprintln!("adapt: {message}");
            ExitCode::FAILURE
        }
    }
}
