//! Random draws as a function of position (N8) and the shuffle made of them (N23).

const GOLDEN: u32 = 0x9E37_79B9;
const MULTIPLIER: u32 = 0x93D7_65DD;

/// Layer number of the draws of a loss (N16).
pub const LOSS: u32 = u32::MAX;
/// Layer number of the draws of the shuffle (N23).
pub const SHUFFLE: u32 = u32::MAX - 1;
/// Layer number of the draws that move pseudo-queries (N32).
pub const QUERY: u32 = u32::MAX - 2;
/// Row number of the draws that choose rows (N36).
pub const ROWS: u32 = u32::MAX;
/// Step number of the initial weights (N9).
pub const INITIAL: u32 = u32::MAX;

const fn mix(mut h: u32) -> u32 {
    h ^= h >> 16;
    h = h.wrapping_mul(0x85EB_CA6B);
    h ^= h >> 13;
    h = h.wrapping_mul(0xC2B2_AE35);
    h ^ (h >> 16)
}

const fn absorb(h: u32, v: u32) -> u32 {
    mix(h ^ v).wrapping_add(GOLDEN)
}

/// The draws of one row, in element order.
#[derive(Clone, Copy, Debug)]
pub struct Draws(u32);

impl Draws {
    /// The walk of (seed, step, layer, row).
    pub const fn new(seed: u32, step: u32, layer: u32, row: u32) -> Self {
        Self(absorb(absorb(absorb(absorb(GOLDEN, seed), step), layer), row))
    }

    /// The next element's 32 bits; the high ones are the good ones.
    #[inline(always)]
    pub const fn draw(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(MULTIPLIER).wrapping_add(GOLDEN);
        self.0
    }

    /// State, multiplier and increment of the walk: the next draw is state · multiplier + increment. For kernels.
    #[cfg(any(tintin_kernels, feature = "std"))]
    pub(crate) const fn walk(self) -> (u32, u32, u32) {
        (self.0, MULTIPLIER, GOLDEN)
    }

    /// The walk after the draw `state`.
    #[cfg(tintin_kernels)]
    pub(crate) const fn at(state: u32) -> Self {
        Self(state)
    }

    /// The walk `n` elements further on.
    #[must_use]
    pub const fn skip(self, n: usize) -> Self {
        let (mut draws, mut i) = (self, 0);
        while i < n {
            draws.draw();
            i += 1;
        }
        draws
    }

    /// The next `N` draws at once, `N` lanes side by side, for vector units: each lane jumps `N` steps.
    #[inline(always)]
    pub const fn lanes<const N: usize>(&mut self) -> Lanes<N> {
        let (mut lane, mut multiplier, mut increment, mut i) = ([0; N], 1u32, 0u32, 0);
        while i < N {
            lane[i] = self.draw();
            increment = increment.wrapping_mul(MULTIPLIER).wrapping_add(GOLDEN);
            multiplier = multiplier.wrapping_mul(MULTIPLIER);
            i += 1;
        }
        Lanes { lane, multiplier, increment }
    }

    /// A uniform integer below `n`, by multiplication.
    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // the upper half of a 64-bit product
    pub const fn below(&mut self, n: u32) -> u32 {
        ((self.draw() as u64 * n as u64) >> 32) as u32
    }
}

/// The draws of all rows of a layer in one step, hashed as far as they have in common.
#[cfg(feature = "std")]
#[derive(Clone, Copy, Debug)]
pub struct Rows(u32);

#[cfg(feature = "std")]
impl Rows {
    /// Those of (seed, step, layer).
    pub const fn new(seed: u32, step: u32, layer: u32) -> Self {
        Self(absorb(absorb(absorb(GOLDEN, seed), step), layer))
    }

    /// The walk of one row.
    #[inline(always)]
    pub const fn row(self, row: u32) -> Draws {
        Draws(absorb(self.0, row))
    }
}

/// `N` neighbouring draws; see [`Draws::lanes`].
#[derive(Clone, Copy, Debug)]
pub struct Lanes<const N: usize> {
    /// The current draws, in element order.
    pub lane: [u32; N],
    multiplier: u32,
    increment: u32,
}

impl<const N: usize> Lanes<N> {
    /// On to the next `N` elements.
    #[inline(always)]
    pub fn advance(&mut self) {
        for lane in &mut self.lane {
            *lane = lane.wrapping_mul(self.multiplier).wrapping_add(self.increment);
        }
    }
}

/// Writes the order of epoch `epoch` over `order.len()` samples (N23).
pub fn shuffle(seed: u32, epoch: u32, order: &mut [u32]) {
    for (i, slot) in (0u32..).zip(order.iter_mut()) {
        *slot = i;
    }
    let mut draws = Draws::new(seed, epoch, SHUFFLE, 0);
    let mut n = u32::try_from(order.len()).unwrap_or(u32::MAX);
    while n > 1 {
        let j = draws.below(n);
        n -= 1;
        order.swap(n as usize, j as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lanes_equal_single_draws() {
        let mut one = Draws::new(1, 2, 3, 4);
        let mut lanes = Draws::new(1, 2, 3, 4).lanes::<16>();
        for _ in 0..5 {
            for lane in lanes.lane {
                assert_eq!(lane, one.draw());
            }
            lanes.advance();
        }
    }

    #[test]
    #[cfg(feature = "std")]
    fn rows_of_a_layer_draw_as_single_ones() {
        for row in [0, 1, 119, u32::MAX] {
            assert_eq!(Rows::new(1, 2, 3).row(row).draw(), Draws::new(1, 2, 3, row).draw());
        }
    }

    #[test]
    fn every_part_of_the_key_counts() {
        let first = Draws::new(0, 0, 0, 0).draw();
        for other in [(1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)] {
            assert_ne!(first, Draws::new(other.0, other.1, other.2, other.3).draw());
        }
    }
}
