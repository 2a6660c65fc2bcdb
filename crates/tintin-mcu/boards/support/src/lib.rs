//! What all boards share, on no more than a Cortex-M core: time from SysTick, text over RTT, panics and faults that tell why,
//! and the applications' main parts. A board adds its clock tree, its pins and its memory map.
#![no_std]

mod clock;
#[cfg(feature = "rtt")]
mod rtt;

pub use clock::SysTickClock;
#[cfg(feature = "rtt")]
pub use rtt::{digits, vibration};

/// The handwritten digits as a file; `make firmware-data` makes it.
#[macro_export]
macro_rules! digits_file {
    () => {{
        #[cfg(no_digits)]
        const FILE: &[u8] = {
            compile_error!(
                "no handwritten digits to put into the firmware: run `make firmware-data` in the root of the repository, \
                 or name a file it made in TINTIN_DIGITS"
            );
            &[]
        };
        #[cfg(not(no_digits))]
        const FILE: &[u8] = include_bytes!(env!("TINTIN_DIGITS"));
        FILE
    }};
}
