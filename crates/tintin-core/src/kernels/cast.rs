//! Bytes of a file as mantissas, words as bytes.
#![allow(unsafe_code)]

/// The same bytes, signed.
pub fn as_mantissas(bytes: &[u8]) -> &[i8] {
    // SAFETY: u8 and i8 have the same size and alignment, every bit pattern is valid for both, and the lifetime is kept.
    unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) }
}

/// The memory of some words, four mantissas each.
pub(crate) fn as_bytes(words: &mut [i32]) -> &mut [i8] {
    // SAFETY: i8 has no alignment, every bit pattern is valid for both types, and the lifetime is kept.
    unsafe { core::slice::from_raw_parts_mut(words.as_mut_ptr().cast(), 4 * words.len()) }
}
