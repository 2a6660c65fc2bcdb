//! Weight gradient of a convolution over one channel, errors behind 2×2 pools: planes against a plane, where a register holds 64 mantissas.
//!
//! ```text
//! x[64 · i ..], errors[o][64 · i ..]: two rows of 32 places, for every row of windows i
//! gradient[o][a][b] += Σ_t errors[o][t] · x[t + 32 · a + b]
//! ```
//! Rows of both are as long, so the place that an error weighs lies as far from it everywhere. Three of four places hold no error, yet
//! that takes less time than listing those that do, unless there are very few.

use core::ops::Range;
use std::vec::Vec;

use super::geometry::Geometry;
use super::groups::{Side, room, spread};
use super::lanes::Lanes;
use super::tile::{balanced, count_nonzero, with_registers, zeros};
use crate::kernels::Errors;

/// Places of a row.
const ROW: usize = 32;
/// Bytes of a register: two rows.
const BYTES: usize = 2 * ROW;
/// Bytes of a row of errors, at most.
const ERRORS: usize = 128;
/// So many errors of a sample are listed in the time that all take here.
const FEW: usize = 64;
/// Columns of the kernel and channels at a time.
const WIDE: usize = 5;
const HIGH: usize = 3;

/// Whether [`gradient`] can do it, and is faster.
#[inline(always)]
pub fn suits<L: Lanes>(g: &Geometry, errors: Errors<'_>) -> bool {
    suits_shape::<L>(g, errors) && count_nonzero(errors.dy) > FEW * g.samples
}

#[inline(always)]
fn suits_shape<L: Lanes>(g: &Geometry, errors: Errors<'_>) -> bool {
    let ps = errors.ps;
    (L::WIDTH * L::GROUP, L::GROUP) == (BYTES, 4)
        && (g.channels, g.stride, g.window, g.windows) == (1, (1, 1), (2, 2), (2, 2))
        && !errors.index.is_empty()
        && g.padded.1 <= ROW
        && (ps.w * ps.c) as usize <= ERRORS
}

/// See [`Conv2d::gradient`](crate::kernels::Conv2d::gradient); for what [`suits`].
#[inline(always)]
pub fn gradient<L: Lanes>(
    g: &Geometry,
    x: &[i8],
    errors: Errors<'_>,
    channels: Range<usize>,
    acc: &mut [i32],
    [input, planes, totals]: [&mut Vec<i32>; 3],
) {
    let (c, row, count) = (errors.ps.c as usize, (errors.ps.w * errors.ps.c) as usize, errors.ps.h as usize);
    // a register from the last row of errors on, as far on as the kernel goes
    let reads = (count * BYTES + (g.kernel.0 - 1) * ROW + g.kernel.1).max(g.padded.0 * ROW + g.padding.1);
    let input = room(input, reads.div_ceil(4));
    input.fill(zeros::<L>());
    let planes = room(planes, channels.len() * count * L::WIDTH);
    let totals = room(totals, channels.len());
    // what follows relies on it
    assert!(suits_shape::<L>(g, errors) && channels.end <= c && acc.len() == channels.len() * g.patch());
    for s in 0..g.samples {
        let errors = g.sample(errors, s);
        let rows = x[s * g.inputs()..][..g.inputs()].chunks_exact(g.input_row);
        let of_channels = channels.clone().zip(planes.chunks_exact_mut(count * L::WIDTH));
        // SAFETY: padded rows of the input have at most ROW bytes and room for all of them; rows of errors at most ERRORS bytes.
        unsafe {
            let to = input.as_mut_ptr().cast::<L::Value>().add(g.padding.0 * ROW + g.padding.1);
            for (i, x) in rows.enumerate() {
                spread::<L>(Side::Offset, x, to.add(i * ROW));
            }
            for ((o, plane), total) in of_channels.zip(&mut *totals) {
                let mut sums = L::zero();
                let rows = errors.dy.chunks_exact(row).zip(errors.index.chunks_exact(row));
                for ((dy, index), to) in rows.zip(plane.chunks_exact_mut(L::WIDTH)) {
                    L::unpool(dy, index, o, c, to.as_mut_ptr().cast());
                    sums = L::dot(sums, L::splat(zeros::<L>()), L::load(to.as_ptr()));
                }
                [*total, ..] = L::sums([sums, L::zero(), L::zero(), L::zero()]);
            }
        }
        let mut o = 0;
        while o < channels.len() {
            let high = HIGH.min(channels.len() - o);
            for a in 0..g.kernel.0 {
                let block = balanced(g.kernel.1, WIDE);
                for b in (0..g.kernel.1).step_by(block) {
                    let call = Block {
                        planes: &planes[o * count * L::WIDTH..][..high * count * L::WIDTH],
                        totals: &totals[o..],
                        // SAFETY: inside the input.
                        x: unsafe { input.as_ptr().cast::<i8>().add(a * ROW + b) },
                        count,
                        patch: g.patch(),
                        acc: &mut acc[o * g.patch() + a * g.kernel.1 + b..],
                    };
                    let wide = block.min(g.kernel.1 - b);
                    // SAFETY: V registers of every row from x on lie in the input.
                    unsafe {
                        match high {
                            1 => with_registers!(5, wide, V => call.add::<L, 1, V>()),
                            2 => with_registers!(5, wide, V => call.add::<L, 2, V>()),
                            _ => with_registers!(5, wide, V => call.add::<L, HIGH, V>()),
                        }
                    }
                }
            }
            o += high;
        }
    }
}

/// Some channels, and neighbouring weights of a kernel row.
struct Block<'a> {
    planes: &'a [i32],
    totals: &'a [i32],
    /// The places that the first weight is multiplied with.
    x: *const i8,
    /// Registers of a plane.
    count: usize,
    patch: usize,
    acc: &'a mut [i32],
}

impl Block<'_> {
    /// Adds N · V sums to their weights.
    ///
    /// # Safety
    /// `count` registers from each of the V places from `x` on can be read; there are N planes.
    #[inline(always)]
    unsafe fn add<L: Lanes, const N: usize, const V: usize>(self) {
        let Self { planes, totals, x, count, patch, acc } = self;
        // SAFETY: as the caller says.
        unsafe {
            let mut sums = [[L::zero(); V]; N];
            for t in 0..count {
                let mut errors = [L::zero(); N];
                for (n, errors) in errors.iter_mut().enumerate() {
                    *errors = L::load(planes.as_ptr().add((n * count + t) * L::WIDTH));
                }
                for v in 0..V {
                    let x = L::load(x.add(t * BYTES + v).cast());
                    for n in 0..N {
                        sums[n][v] = L::dot(sums[n][v], x, errors[n]);
                    }
                }
            }
            for (i, sums) in sums.as_flattened().chunks(4).enumerate() {
                let mut four = [L::zero(); 4];
                four[..sums.len()].copy_from_slice(sums);
                for (k, sum) in L::sums(four).into_iter().enumerate().take(sums.len()) {
                    let (n, v) = ((4 * i + k) / V, (4 * i + k) % V);
                    let acc = &mut acc[n * patch + v];
                    *acc = acc.wrapping_add(sum).wrapping_sub(totals[n]);
                }
            }
        }
    }
}
