//! The non-zero errors of one output unit of a convolution, each with the place in the input it weighs.

use super::{COLUMNS, columns, list};

/// Errors of one channel in a rectangle of places, and where in the input the patches behind them start. All in values.
#[derive(Clone, Copy)]
pub struct Walk {
    /// First error, from column to column, from row to row.
    pub first: usize,
    /// See `first`.
    pub step: usize,
    /// See `first`.
    pub row: usize,
    /// Rows and columns of the rectangle.
    pub rows: usize,
    /// See `rows`.
    pub columns: usize,
    /// Where the first patch starts, from column to column, from row to row.
    pub place: usize,
    /// See `place`.
    pub place_step: usize,
    /// See `place`.
    pub place_row: usize,
    /// Columns of a pool's window, and from one of its places to the right one and to the lower one; 1, 0, 0 without a pool.
    pub window: usize,
    /// See `window`.
    pub right: usize,
    /// See `window`.
    pub down: usize,
}

/// Pairs (place, error) in borrowed words.
pub struct Taps<'a> {
    pairs: &'a [[i32; 2]],
    len: usize,
    last: usize,
}

impl<'a> Taps<'a> {
    /// The non-zero errors of a walk: `dy` holds the errors, `winners` the numbers of the places in their windows (empty without a
    /// pool); two words for every error of the rectangle and two more.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // a place in a sample of at most 2^24 values
    pub fn new(words: &'a mut [i32], dy: &[i8], winners: &[i8], walk: Walk) -> Self {
        let pairs = words.as_chunks_mut().0;
        assert!(pairs.len() > walk.rows * walk.columns);
        let (len, last) = list(pairs, dy, winners, walk);
        // fills the last group up
        pairs[len] = [last as i32, 0];
        Self { pairs, len, last }
    }

    /// acc\[a, i\] += Σ d · x\[at + a · row + i\] over the pairs, for kernel rows a of `run` values each.
    #[inline(always)]
    pub fn columns(&self, x: &[i8], row: usize, acc: &mut [i32], run: usize) {
        if self.len > 0 {
            // the kernels of a machine rely on this
            assert!(self.last + (acc.len() / run - 1) * row + run <= x.len());
            columns(&self.pairs[..self.len.next_multiple_of(COLUMNS)], x, row, acc, run);
        }
    }
}
