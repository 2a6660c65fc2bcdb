//! Bytes of a file as mantissas.
#![allow(unsafe_code)]

/// The same bytes, signed.
pub fn as_mantissas(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have the same size and alignment, every bit pattern is valid for both, and the lifetime is kept.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}
