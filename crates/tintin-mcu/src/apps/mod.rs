//! Applications, generic over their board: the same code runs under test on the host, on emulated cores and on real ones.

pub mod digits;
pub mod vibration;
