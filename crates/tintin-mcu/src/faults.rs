//! What firmware that reports through semihosting does when it fails: says why and ends with failure. Included by its binaries.

use core::fmt::Write;
use core::panic::PanicInfo;
use cortex_m_semihosting::debug::{EXIT_FAILURE, exit};
use cortex_m_semihosting::hio;
use tintin_mcu::fault::Fault;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    if let Ok(mut out) = hio::hstderr() {
        let _ = writeln!(out, "{info}");
    }
    loop {
        exit(EXIT_FAILURE);
    }
}

fn report(fault: Fault) -> ! {
    panic!("{fault}");
}

tintin_mcu::hard_fault!(report);
