//! Prints the steps of [`tintin_mcu::parity`]: on a Cortex-M through semihosting, on the host as any program does.
#![cfg_attr(target_os = "none", no_std, no_main)]

use tintin_mcu::parity::{Memory, run};

#[cfg(target_os = "none")]
#[path = "../faults.rs"]
mod faults;

#[cfg(target_os = "none")]
mod firmware {
    use super::{Memory, run};
    use cortex_m_rt::entry;
    use cortex_m_semihosting::debug::{EXIT_SUCCESS, exit};
    use cortex_m_semihosting::hio;

    #[entry]
    fn main() -> ! {
        static mut MEMORY: Memory = Memory::new(); // lent by `entry`, once
        run(MEMORY, &mut hio::hstdout().unwrap()).unwrap();
        loop {
            exit(EXIT_SUCCESS);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    use std::io::Write;

    static MEMORY: std::sync::Mutex<Memory> = std::sync::Mutex::new(Memory::new());
    let mut text = String::new();
    run(&mut MEMORY.lock().unwrap(), &mut text).unwrap();
    std::io::stdout().write_all(text.as_bytes()).unwrap();
}
