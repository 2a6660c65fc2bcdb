//! Kernels of hosts: vector instructions chosen at run time, each kernel written once over [`Lanes`](lanes::Lanes).
//!
//! `portable` says what they compute; `unsafe` is for vector instructions and for pointers whose range the safe wrappers here check.
#![allow(unsafe_code)]

mod correlate;
mod every;
mod geometry;
mod groups;
mod lanes;
mod listed;
mod machine;
mod scatter;
mod tile;
mod transposed;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use correlate::gradient;
pub use lanes::Kernel;
pub use machine::{Machine, machine};
pub use scatter::input_errors;
pub use transposed::{matmul_transposed, outer_products};

/// Runs `kernel` on `machine`, which is present; `None` if that has no vector instructions.
#[inline]
fn dispatch_on<K: Kernel>(machine: Machine, kernel: K) -> Option<K::Output> {
    // SAFETY of all arms: `machine` is present.
    match machine {
        Machine::Portable => None,
        #[cfg(target_arch = "x86_64")]
        Machine::Avx2 => Some(unsafe { x86_64::avx2(kernel) }),
        #[cfg(target_arch = "x86_64")]
        Machine::Avx512 => Some(unsafe { x86_64::avx512(kernel) }),
        #[cfg(target_arch = "x86_64")]
        Machine::Avx512Vnni => Some(unsafe { x86_64::avx512_vnni(kernel) }),
    }
}
