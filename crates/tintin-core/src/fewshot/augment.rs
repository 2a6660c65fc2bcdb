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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_moves_in_is_zero() {
        let (x, shape) = ([1i8, 2, 3, 4, 5, 6], Shape::new(2, 3, 1));
        for (by, expected) in [
            ((0, 0), [1, 2, 3, 4, 5, 6]),
            ((1, 0), [0, 0, 0, 1, 2, 3]),
            ((-1, 1), [0, 4, 5, 0, 0, 0]),
            ((0, -2), [3, 0, 0, 6, 0, 0]),
            ((2, 0), [0; 6]),
            ((0, -3), [0; 6]),
            ((i32::MIN, i32::MAX), [0; 6]),
        ] {
            let mut out = [9; 6];
            move_by(&x, shape, by, &mut out);
            assert_eq!(out, expected, "{by:?}");
        }
    }

    #[test]
    fn channels_move_together() {
        let mut out = [9u8; 6];
        move_by(&[1, 2, 3, 4, 5, 6], Shape::new(1, 3, 2), (0, 1), &mut out);
        assert_eq!(out, [0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn every_move_within_the_limits_is_drawn() {
        let mut seen = [[false; 3]; 5];
        for place in 0..200 {
            let (down, right) = moved(1, 2, place, (2, 1));
            let index = |v: i32| usize::try_from(v).unwrap();
            seen[index(down + 2)][index(right + 1)] = true;
            assert_eq!(moved(1, 2, place, (0, 0)), (0, 0));
            let (down, right) = moved(1, 2, place, (u16::MAX, u16::MAX));
            assert!(down.abs() <= 65535 && right.abs() <= 65535);
        }
        assert_eq!(seen, [[true; 3]; 5]);
    }
}
