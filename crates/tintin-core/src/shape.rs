//! Shapes of activations: height, width, channel, row-major, channels last.

/// Extent of one sample's tensor. A flat vector of n values is `(1, 1, n)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Height; 1 for one-dimensional signals.
    pub h: u32,
    /// Width, or length of a one-dimensional signal.
    pub w: u32,
    /// Channels.
    pub c: u32,
}

impl Shape {
    /// Shape of `h` rows, `w` columns and `c` channels.
    pub const fn new(h: u32, w: u32, c: u32) -> Self {
        Self { h, w, c }
    }

    /// Shape of `n` values without a place.
    pub const fn flat(n: u32) -> Self {
        Self { h: 1, w: 1, c: n }
    }

    /// Number of values, or `None` when it is above 2^24 or zero: nothing for a microcontroller.
    pub const fn checked_len(self) -> Option<u32> {
        match self.h.checked_mul(self.w) {
            Some(hw) => match hw.checked_mul(self.c) {
                Some(n) if n > 0 && n <= 1 << 24 => Some(n),
                _ => None,
            },
            None => None,
        }
    }

    /// Number of values in one sample; exact for every planned shape.
    pub const fn len(self) -> usize {
        self.h as usize * self.w as usize * self.c as usize
    }

    /// True for a shape without values; no planned shape is.
    pub const fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Number of places (height times width).
    pub const fn places(self) -> usize {
        self.h as usize * self.w as usize
    }
}
