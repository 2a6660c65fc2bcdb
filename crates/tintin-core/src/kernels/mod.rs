//! Exact integer products over slices. `portable` is the definition of right; every machine gives its bits.
//!
//! Sums wrap modulo 2^32 and the plan has proved that no true sum leaves ±MAX_SUM (N2), so any order is exact.

mod cast;
mod portable;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
mod x86_64;

pub use cast::as_mantissas;
pub use portable::axpy;
#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
pub use portable::matmul;
#[cfg(all(feature = "std", target_arch = "x86_64"))]
pub use x86_64::matmul;

/// Runs `f` compiled for the best vector instructions of this machine; the same source, so the same bits.
///
/// Effective only where `f` and all it calls are inlined: those functions are `#[inline(always)]`.
#[cfg(all(feature = "std", target_arch = "x86_64"))]
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    x86_64::run(f)
}

/// Runs `f` as it was compiled.
#[cfg(not(all(feature = "std", target_arch = "x86_64")))]
#[inline(always)]
pub fn run<R>(f: impl FnOnce() -> R) -> R {
    f()
}

/// Name of the instruction set in use.
pub fn name() -> &'static str {
    #[cfg(all(feature = "std", target_arch = "x86_64"))]
    return x86_64::name();
    #[cfg(not(all(feature = "std", target_arch = "x86_64")))]
    "portable"
}
