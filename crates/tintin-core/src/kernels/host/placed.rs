//! The errors of a window in groups, those of every place apart, and which groups are not zero.

use super::groups::{Side, spread};
use super::lanes::Lanes;

/// Channels taken at a time.
pub const CHANNELS: usize = 16;
/// Places taken at a time.
pub const PLACES: usize = 4;

/// Groups of a channel block at a place.
#[inline(always)]
pub fn groups<L: Lanes>() -> usize {
    CHANNELS / L::GROUP
}

/// Groups written by [`placed`]: a bit of a word for each.
#[inline(always)]
pub fn lanes<L: Lanes>() -> usize {
    PLACES * groups::<L>()
}

/// Writes the errors of the first `n` channels, 1 to 16, to to\[place\]\[group\], for four places from `first` on: zero for every
/// other place than the one in `index`. Bit i tells that group i is not zero.
///
/// # Panics
/// If there are not `n` channels, or not room for the groups.
#[inline(always)]
pub fn placed<L: Lanes>(dy: &[i8], index: &[i8], n: usize, first: usize, to: &mut [i32]) -> u32 {
    assert!(to.len() >= lanes::<L>());
    let all = apart(dy, index, n, first);
    let mut some = 0;
    // SAFETY: room for all groups was asserted.
    unsafe {
        spread::<L>(Side::Plain, all.as_flattened(), to.as_mut_ptr().cast());
        for v in (0..lanes::<L>()).step_by(L::WIDTH) {
            some |= L::some(L::load(to.as_ptr().add(v))) << v;
        }
    }
    some
}

/// The errors of the first `n` channels, 1 to 16, at each of four places from `first` on: zero for every other place than the one in
/// `index`.
#[inline(always)]
pub fn apart(dy: &[i8], index: &[i8], n: usize, first: usize) -> [[i8; CHANNELS]; PLACES] {
    let (d, index) = (block(dy, n), block(index, n));
    let mut all = [[0i8; CHANNELS]; PLACES];
    for (p, all) in all.iter_mut().enumerate() {
        for i in 0..CHANNELS {
            all[i] = if usize::from(index[i].cast_unsigned()) == first + p { d[i] } else { 0 };
        }
    }
    all
}

/// The first `n` values, zeros behind them.
#[inline(always)]
fn block(v: &[i8], n: usize) -> [i8; CHANNELS] {
    static FIRST: [i8; 2 * CHANNELS] = {
        let mut mask = [0; 2 * CHANNELS];
        let mut i = 0;
        while i < CHANNELS {
            mask[i] = -1;
            i += 1;
        }
        mask
    };
    let Some(&all) = v.first_chunk() else {
        let mut all = [0; CHANNELS];
        all[..n].copy_from_slice(&v[..n]);
        return all;
    };
    if n == CHANNELS {
        return all;
    }
    let mask: &[i8; CHANNELS] = FIRST[CHANNELS - n..].first_chunk().unwrap_or(&[0; CHANNELS]);
    core::array::from_fn(|i| all[i] & mask[i])
}
