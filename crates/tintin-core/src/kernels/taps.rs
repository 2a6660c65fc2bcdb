//! The non-zero errors of one output unit of a convolution, each with the place in the input it weighs.

use super::columns;

/// Pairs (place, error) in borrowed words, added up whenever the list is full.
pub struct Taps<'a> {
    pairs: &'a mut [[i32; 2]],
    len: usize,
    last: usize,
}

impl<'a> Taps<'a> {
    /// An empty list of as many pairs as `words` has room for, at least one.
    #[inline(always)]
    pub fn new(words: &'a mut [i32]) -> Self {
        Self { pairs: words.as_chunks_mut().0, len: 0, last: 0 }
    }

    /// Holds no pair.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Adds error `d` at place `at`; true when no room is left: [`clear`](Self::clear) before the next one.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // a place in a sample of at most 2^24 values
    pub fn push(&mut self, at: usize, d: i8) -> bool {
        debug_assert!(self.len < self.pairs.len());
        if let Some(pair) = self.pairs.get_mut(self.len) {
            *pair = [at as i32, i32::from(d)];
            self.len += 1;
            self.last = self.last.max(at);
        }
        self.len == self.pairs.len()
    }

    /// acc\[i\] += Σ d · x\[at + i\] over the pairs.
    #[inline(always)]
    pub fn columns(&self, x: &[i8], acc: &mut [i32]) {
        // the kernels of a machine rely on this
        assert!(self.last + acc.len() <= x.len());
        columns(&self.pairs[..self.len], x, acc);
    }

    /// Forgets the pairs.
    #[inline(always)]
    pub fn clear(&mut self) {
        (self.len, self.last) = (0, 0);
    }
}
