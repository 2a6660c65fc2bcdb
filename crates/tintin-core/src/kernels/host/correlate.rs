//! Weight gradient of a convolution: every error adds the patch that its sum was made of to the row of its output channel.
//!
//! ```text
//! for samples, tiles of windows:
//!     when the cache is full: gradient += patches · errors
//!     interleave the inputs of GROUP neighbouring places: patches[t][row][run], so that a patch is one stretch of lanes
//!     collect the errors: all of them where most are not zero (`every`), else a list for each channel (`listed`)
//! gradient += patches · errors
//! ```

use core::ops::Range;
use std::vec::Vec;

use super::dispatch_on;
use super::every::Every;
use super::geometry::{Geometry, Tile};
use super::groups::{Side, room, with_buffers};
use super::lanes::{Kernel, Lanes};
use super::listed::Listed;
use super::machine::Machine;
use super::planes;
use super::tile::{ROW, ahead, count_nonzero, readable};
use crate::kernels::{Conv2d, Errors};

/// See [`Conv2d::gradient`].
pub fn gradient(
    machine: Machine,
    conv: &Conv2d,
    x: &[i8],
    errors: Errors<'_>,
    rows: Range<usize>,
    acc: &mut [i32],
) -> bool {
    let geometry = Geometry::new(conv, &errors);
    with_buffers(|buffers| dispatch_on(machine, Gradient { geometry, x, errors, rows, acc, buffers })).is_some()
}

/// Lanes of patches held at a time: most of the cache of first level.
const PATCHES: usize = 6 << 10;

/// The errors that go with the patches held.
pub trait Collected {
    /// No room for the errors of another tile.
    fn is_full(&self, tile: &Tile) -> bool;
    /// Takes the errors of a tile whose patches start at lane `first`.
    fn collect<L: Lanes>(&mut self, tile: &Tile, errors: Errors<'_>, first: usize);
    /// acc += patches · errors, of which none are held any more.
    ///
    /// # Safety
    /// The patches of all tiles collected, and a register more, can be read.
    unsafe fn multiply<L: Lanes>(&mut self, patches: *const i32, acc: &mut [i32]);
}

struct Gradient<'a> {
    geometry: Geometry,
    x: &'a [i8],
    errors: Errors<'a>,
    rows: Range<usize>,
    acc: &'a mut [i32],
    /// An input with its padding, patches, and four for the errors.
    buffers: &'a mut [Vec<i32>; 6],
}

impl Kernel for Gradient<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Self { geometry: mut g, x, errors, rows, acc, buffers: [input, patches, one, two, three, four] } = self;
        assert!(rows.end <= errors.ps.c as usize && acc.len() == rows.len() * g.patch());
        assert!(x.len() == g.samples * g.inputs());
        if planes::suits::<L>(&g, errors) {
            return planes::gradient::<L>(&g, x, errors, rows, acc, [input, one, two]);
        }
        // listing errors would take longer than multiplying zeros, four or two at a time
        let dense = errors.index.is_empty() && count_nonzero(errors.dy) > errors.dy.len() / 8;
        let wide = g.run.div_ceil(L::WIDTH);
        if !dense && wide * g.kernel.0 == g.patch().div_ceil(L::WIDTH) {
            // no register lies in two lines of the cache, and there are not more of them
            g.spread = wide * L::WIDTH;
        }
        let largest = Tile::largest(&g, L::GROUP, errors.ps, PATCHES);
        let patches = room(patches, PATCHES.max(largest.lanes(&g)) + L::WIDTH);
        let input = g.margins(input);
        let (g, errors) = (&g, errors);
        if dense {
            let collected = Every::new::<L>(g, &largest, rows, errors.ps, [one, two, three]);
            run::<L, _>(g, &largest, x, errors, input, patches, collected, acc);
        } else {
            let collected = Listed::new::<L>(g, &largest, rows, errors.ps, [one, two, three, four]);
            run::<L, _>(g, &largest, x, errors, input, patches, collected, acc);
        }
    }
}

#[inline(always)]
#[allow(clippy::too_many_arguments)]
fn run<L: Lanes, C: Collected>(
    g: &Geometry,
    largest: &Tile,
    x: &[i8],
    errors: Errors<'_>,
    input: &mut [i32],
    patches: &mut [i32],
    mut collected: C,
    acc: &mut [i32],
) {
    let ps = errors.ps;
    let mut lanes = 0;
    for s in 0..g.samples {
        let errors = g.sample(errors, s);
        if errors.dy.iter().fold(0, |any, d| any | d) == 0 {
            continue;
        }
        let x = g.pad(&x[s * g.inputs()..][..g.inputs()], input);
        for i in (0..ps.h as usize).step_by(largest.rows.len()) {
            for j in (0..ps.w as usize).step_by(largest.columns.len()) {
                let rows = i..(i + largest.rows.len()).min(ps.h as usize);
                let columns = j..(j + largest.columns.len()).min(ps.w as usize);
                let tile = Tile::new(g, L::GROUP, rows, columns);
                if lanes > 0 && (lanes + tile.lanes(g) > PATCHES || collected.is_full(&tile)) {
                    // SAFETY: `interleave` has been called for all tiles collected.
                    unsafe { collected.multiply::<L>(patches.as_ptr(), acc) };
                    lanes = 0;
                }
                interleave::<L>(g, &tile, x, &mut patches[lanes..]);
                collected.collect::<L>(&tile, errors, lanes);
                lanes += tile.lanes(g);
            }
        }
    }
    // SAFETY: as above.
    unsafe { collected.multiply::<L>(patches.as_ptr(), acc) };
}

/// Interleaves the inputs of a tile to patches\[t\]\[row\]\[run\]; a register behind them is written over.
#[inline(always)]
fn interleave<L: Lanes>(g: &Geometry, tile: &Tile, x: &[i8], patches: &mut [i32]) {
    assert!(patches.len() >= tile.lanes(g) + L::WIDTH);
    let pitch = g.pitch();
    let corner = tile.rows.start * g.down * pitch + tile.columns.start * g.right;
    let (end, mut to) = (x.as_ptr_range().end, patches.as_mut_ptr());
    let mut copies = [[0; ROW]; 4];
    for t in 0..tile.groups {
        let mut from = x.as_ptr().wrapping_add(corner + t * L::GROUP * g.step);
        for _ in 0..tile.height {
            // places behind the last column have no errors: what is read there does not matter
            let (second, third) = (from.wrapping_add(g.step), from.wrapping_add(2 * g.step));
            let rows = [from, second, third, third.wrapping_add(g.step)];
            let all = rows[L::GROUP - 1].wrapping_add(g.run + L::WIDTH) <= end;
            for v in (0..g.run).step_by(L::WIDTH) {
                // SAFETY: nothing behind the end of x is read; there is room for the tile and one register more.
                unsafe {
                    let mut rows = ahead(rows, v);
                    if !all {
                        rows = readable::<L>(rows, L::WIDTH, end, &mut copies);
                    }
                    L::store(to.add(v), L::interleave(Side::Offset, rows));
                }
            }
            from = from.wrapping_add(pitch);
            // SAFETY: as above.
            to = unsafe { to.add(g.spread) };
        }
    }
}
