//! Kernels of hosts: vector instructions chosen at run time, each kernel written once over `Lanes`.
//!
//! `portable` says what they compute; `unsafe` is for vector instructions and for pointers whose range the safe wrappers here check.
#![allow(unsafe_code)]
// sums are indexed by place and register alike; iterators would hide which
#![allow(clippy::needless_range_loop)]

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "x86_64")]
mod avx2;
mod conv2d;
mod correlate;
mod depthwise;
mod descend;
mod every;
mod filters;
mod flipped;
mod geometry;
mod groups;
mod lanes;
mod listed;
mod machine;
mod matmul;
mod phases;
mod placed;
mod planes;
mod product;
mod scatter;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_backward;
#[cfg(test)]
mod tests_depthwise;
mod tile;
mod transposed;
#[cfg(target_arch = "x86_64")]
mod x86_64;

pub use conv2d::Convolution;
pub use correlate::gradient;
pub use depthwise::{depthwise_gradient, depthwise_input_errors, depthwise_sums};
pub use descend::{descend_outer, descend_rows};
pub use lanes::Kernel;
pub use machine::{Machine, machine};
pub use matmul::product;
pub use scatter::input_errors;
#[cfg(feature = "threads")]
pub(crate) use tile::about_nonzero;
pub use transposed::{matmul_transposed, outer_products};

/// Runs `kernel` on `machine`, which is present; `None` if that has no vector instructions.
#[inline(always)]
fn dispatch_on<K: Kernel>(machine: Machine, kernel: K) -> Option<K::Output> {
    attempt(machine, kernel).ok()
}

/// The same; gives the kernel back if the machine has no vector instructions.
#[inline(always)]
fn attempt<K: Kernel>(machine: Machine, kernel: K) -> Result<K::Output, K> {
    // SAFETY of all arms: `machine` is present.
    match machine {
        Machine::Portable => Err(kernel),
        #[cfg(target_arch = "x86_64")]
        Machine::Avx2 => Ok(unsafe { x86_64::avx2(kernel) }),
        #[cfg(target_arch = "x86_64")]
        Machine::Avx512 => Ok(unsafe { x86_64::avx512(kernel) }),
        #[cfg(target_arch = "x86_64")]
        Machine::Avx512Vnni => Ok(unsafe { x86_64::avx512_vnni(kernel) }),
        #[cfg(target_arch = "aarch64")]
        Machine::Neon => Ok(aarch64::neon(kernel)),
        #[cfg(target_arch = "aarch64")]
        Machine::NeonDotprod => Ok(unsafe { aarch64::neon_dotprod(kernel) }),
    }
}

/// Loops that the compiler vectorises.
struct Loops<F>(F);

impl<R, F: FnOnce() -> R> Kernel for Loops<F> {
    type Output = R;

    #[inline(always)]
    unsafe fn run<L: lanes::Lanes>(self) -> R {
        (self.0)()
    }
}

/// Runs `f` compiled for the best vector instructions of this machine; the same source, so the same bits.
///
/// Effective only where `f` and all it calls are inlined: those functions are `#[inline(always)]`.
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    attempt(machine(), Loops(f)).unwrap_or_else(|Loops(f)| f())
}
