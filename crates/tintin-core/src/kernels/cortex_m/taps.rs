//! Lists of the non-zero errors of a unit. For [`Taps`](crate::kernels::Taps) alone, which sees to it that the input reaches as far as
//! the kernels look; the errors are mantissas.

#[cfg(tintin_kernels = "v6m")]
pub use crate::kernels::portable::list;

/// Pairs that [`columns`] takes at a time.
#[cfg(tintin_kernels = "dsp")]
pub const COLUMNS: usize = 2;
#[cfg(not(tintin_kernels = "dsp"))]
pub const COLUMNS: usize = 1;

/// See [`portable::list`](crate::kernels::portable::list).
#[cfg(not(tintin_kernels = "v6m"))]
pub fn list(pairs: &mut [[i32; 2]], dy: &[i8], winners: &[i8], walk: crate::kernels::Walk) -> (usize, usize) {
    unsafe extern "C" {
        fn tintin_list(
            dy: *const i8,
            winners: *const i8,
            pairs: *mut [i32; 2],
            place: usize,
            place_step: usize,
            step: usize,
            window: usize,
            right: usize,
            wrap: usize,
            span: usize,
            gap: usize,
            place_gap: usize,
            rows: usize,
        ) -> u64;
    }
    if walk.rows == 0 || walk.columns == 0 {
        return (0, 0);
    }
    let span = walk.columns * walk.step;
    let end = walk.first + (walk.rows - 1) * walk.row + span - walk.step;
    assert!(end < dy.len() && walk.rows * walk.columns <= pairs.len() && walk.window > 0);
    // without a pool any number does: it counts for nothing
    let (winners, window, right, down) =
        if winners.is_empty() { (dy, 1, 0, 0) } else { (winners, walk.window, walk.right, walk.down) };
    assert!(end < winners.len());
    let start = pairs.as_mut_ptr();
    // SAFETY: the last error and its winner lie inside, as has been asserted, and there is a pair for every error.
    let found = unsafe {
        tintin_list(
            dy[walk.first..].as_ptr(),
            winners[walk.first..].as_ptr(),
            start,
            walk.place,
            walk.place_step,
            walk.step,
            window,
            right,
            down.wrapping_sub(window * right),
            span,
            walk.row - span,
            walk.place_row.wrapping_sub(walk.columns * walk.place_step),
            walk.rows,
        )
    };
    #[allow(clippy::cast_possible_truncation)] // two registers
    let (end, last) = (found as usize, (found >> 32) as usize);
    ((end - start.addr()) / 8, last)
}

/// See [`portable::columns`](crate::kernels::portable::columns).
#[cfg(tintin_kernels = "dsp")]
pub fn columns(taps: &[[i32; 2]], x: &[i8], row: usize, acc: &mut [i32], run: usize) {
    unsafe extern "C" {
        fn tintin_columns(
            taps: *const [i32; 2],
            end: *const [i32; 2],
            x: *const i8,
            acc: *mut i32,
            run: usize,
            rows: usize,
            row: usize,
        );
    }
    let (ends, rows) = (taps.as_ptr_range(), acc.len() / run);
    if !taps.is_empty() && rows > 0 {
        // SAFETY: an even number of pairs; `Taps` has asserted that the last row of the last place lies in x.
        unsafe { tintin_columns(ends.start, ends.end, x.as_ptr(), acc.as_mut_ptr(), run, rows, row) };
    }
}

/// See [`portable::columns`](crate::kernels::portable::columns).
#[cfg(not(tintin_kernels = "dsp"))]
pub fn columns(taps: &[[i32; 2]], x: &[i8], row: usize, acc: &mut [i32], run: usize) {
    unsafe extern "C" {
        fn tintin_columns(taps: *const [i32; 2], end: *const [i32; 2], x: *const i8, acc: *mut i32, run: usize);
    }
    if taps.is_empty() {
        return;
    }
    let ends = taps.as_ptr_range();
    for (a, acc) in acc.chunks_exact_mut(run).enumerate() {
        // SAFETY: at least one pair; `Taps` has asserted that the last row of the last place lies in x.
        unsafe { tintin_columns(ends.start, ends.end, x[a * row..].as_ptr(), acc.as_mut_ptr(), run) };
    }
}
