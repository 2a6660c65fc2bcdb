//! Pseudo-queries: support samples moved by drawn places (N32).

use crate::rng::{Draws, QUERY};
use crate::shape::Shape;

/// How far (down, right) the query at `place` of a batch is moved, at most `most` (V, W) either way.
pub const fn moved(seed: u32, step: u32, place: u32, most: (u16, u16)) -> (i32, i32) {
    let mut draws = Draws::new(seed, step, QUERY, place);
    let down = draws.below(2 * most.0 as u32 + 1).cast_signed() - most.0 as i32;
    let right = draws.below(2 * most.1 as u32 + 1).cast_signed() - most.1 as i32;
    (down, right)
}

/// Writes `x` of `shape`, moved, to `out`: out\[i, j\] = x\[i − down, j − right\], 0 where that lies outside. Equal lengths.
pub fn move_by<T: Copy + Default>(x: &[T], shape: Shape, (down, right): (i32, i32), out: &mut [T]) {
    debug_assert!(x.len() == shape.len() && out.len() == shape.len());
    let line = shape.w as usize * shape.c as usize;
    let (from, to, columns) = overlap(shape.w, right);
    let (from, to, len) = (from * shape.c as usize, to * shape.c as usize, columns * shape.c as usize);
    let (first, start, lines) = overlap(shape.h, down);
    out.fill(T::default());
    for i in 0..lines {
        let x = &x[(first + i) * line + from..][..len];
        out[(start + i) * line + to..][..len].copy_from_slice(x);
    }
}

/// Of `n` places moved by `by`: the first that stays inside, where it comes to lie, and how many there are.
fn overlap(n: u32, by: i32) -> (usize, usize, usize) {
    let lost = by.unsigned_abs().min(n);
    let (from, to) = if by < 0 { (lost, 0) } else { (0, lost) };
    (from as usize, to as usize, (n - lost) as usize)
}
