//! Plain loops: the definition of every kernel.

use super::{Conv2d, LANES, Walk};
use crate::rescale::{clip, stochastic};
use crate::rng::Draws;
use crate::shape::Shape;

/// Rows of w that share one load of x.
const ROWS: usize = 4;

/// Copies `runs` runs x\[r · from..\]\[..len\] into patch `lane` of `quad`, to values `at + r · to` on; the patches have `k` values.
#[inline(always)]
#[allow(clippy::too_many_arguments)]
pub fn put(
    quad: &mut [i32],
    _k: usize,
    lane: usize,
    at: usize,
    to: usize,
    x: &[i8],
    from: usize,
    len: usize,
    runs: usize,
) {
    for r in 0..runs {
        let quad = &mut quad[LANES * (at + r * to) + lane..];
        for (v, &x) in quad.iter_mut().step_by(LANES).zip(&x[r * from..][..len]) {
            *v = i32::from(x);
        }
    }
}

/// Copies four whole patches of `runs` runs each, one behind the other: x\[place + r · step..\]\[..run\] for r below `runs`.
#[inline(always)]
pub fn gather(quad: &mut [i32], x: &[i8], places: [usize; LANES], step: usize, run: usize, runs: usize) {
    for (lane, place) in places.into_iter().enumerate() {
        put(quad, run * runs, lane, 0, run, &x[place..], step, run, runs);
    }
}

/// Makes patch `lane` zero.
#[inline(always)]
pub fn clear(quad: &mut [i32], k: usize, lane: usize) {
    for values in quad[..LANES * k].chunks_exact_mut(LANES) {
        values[lane] = 0;
    }
}

/// Nothing to do: the patches lie as they are multiplied.
#[inline(always)]
pub fn seal(_quad: &mut [i32], _k: usize) {}

/// acc\[p,o\] += Σ_i quad\[p,i\] · w\[o,i\]   w: (rows, k), acc: (patches, rows), 1 to [`LANES`] patches.
#[inline(always)]
pub fn multiply(quad: &[i32], w: &[i8], k: usize, acc: &mut [i32]) {
    let rows = w.len() / k;
    for (o, w) in w.chunks_exact(k).enumerate() {
        let mut sums = [0i32; LANES];
        for (values, &w) in quad.chunks_exact(LANES).zip(w) {
            for (sum, &x) in sums.iter_mut().zip(values) {
                *sum = sum.wrapping_add(x.wrapping_mul(i32::from(w)));
            }
        }
        for (acc, sum) in acc.chunks_exact_mut(rows).zip(sums) {
            acc[o] = acc[o].wrapping_add(sum);
        }
    }
}

/// acc\[i,j,o\] += Σ_{a,b,c} w\[o,a,b,c\] · x\[(first + i)·sh + a − ph, j·sw + b − pw, c\], zero outside: for tests, since
/// machines without a kernel for it gather patches.
pub fn conv2d(conv: &Conv2d, x: &[i8], w: &[i8], acc: &mut [i32]) {
    let (xw, c, (kh, kw)) = (conv.xs.w as usize, conv.xs.c as usize, conv.kernel);
    let (width, channels) = (conv.ys.w as usize, conv.ys.c as usize);
    for (n, acc) in acc.iter_mut().enumerate() {
        let (i, j, w) = (conv.first + n / (width * channels), n / channels % width, &w[n % channels * kh * kw * c..]);
        for (a, b) in (0..kh).flat_map(|a| (0..kw).map(move |b| (a, b))) {
            let row = (i * conv.stride.0 + a).wrapping_sub(conv.padding.0);
            let column = (j * conv.stride.1 + b).wrapping_sub(conv.padding.1);
            if row < conv.xs.h as usize && column < xw {
                *acc = acc.wrapping_add(dot(&x[(row * xw + column) * c..][..c], &w[(a * kw + b) * c..][..c]));
            }
        }
    }
}

/// acc\[n,o\] += Σ_i x\[n,i\] · w\[o,i\]   x: (n, k), w: (o, k), acc: (n, o), all row-major, k ≥ 1.
#[inline(always)]
pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32], _workspace: &mut [i32]) {
    let outputs = w.len() / k;
    for (x, acc) in x.chunks_exact(k).zip(acc.chunks_exact_mut(outputs)) {
        let (mut blocks, mut sums) = (w.chunks_exact(ROWS * k), acc.chunks_exact_mut(ROWS));
        for (w, acc) in (&mut blocks).zip(&mut sums) {
            for (acc, sum) in acc.iter_mut().zip(dots(x, w)) {
                *acc = acc.wrapping_add(sum);
            }
        }
        for (w, acc) in blocks.remainder().chunks_exact(k).zip(sums.into_remainder()) {
            *acc = acc.wrapping_add(dot(x, w));
        }
    }
}

/// Σ x\[i\] · w\[r,i\] for [`ROWS`] rows of w.
#[inline(always)]
fn dots(x: &[i8], w: &[i8]) -> [i32; ROWS] {
    let k = x.len();
    let (w0, w1, w2, w3) = (&w[..k], &w[k..][..k], &w[2 * k..][..k], &w[3 * k..][..k]);
    let mut sums = [0i32; ROWS];
    for ((((&x, &w0), &w1), &w2), &w3) in x.iter().zip(w0).zip(w1).zip(w2).zip(w3) {
        for (sum, w) in sums.iter_mut().zip([w0, w1, w2, w3]) {
            *sum = sum.wrapping_add(i32::from(x).wrapping_mul(i32::from(w)));
        }
    }
    sums
}

/// Σ x\[i\] · y\[i\].
#[inline(always)]
pub fn dot(x: &[i8], y: &[i8]) -> i32 {
    let mut sum = 0i32;
    for (&x, &y) in x.iter().zip(y) {
        sum = sum.wrapping_add(i32::from(x).wrapping_mul(i32::from(y)));
    }
    sum
}

/// acc\[r · to + i\] += a · x\[r · from + i\] for `rows` rows r of `len` values i.
#[inline(always)]
pub fn axpy(a: i8, x: &[i8], from: usize, acc: &mut [i32], to: usize, len: usize, rows: usize) {
    let a = i32::from(a);
    for r in 0..rows {
        for (acc, &x) in acc[r * to..][..len].iter_mut().zip(&x[r * from..][..len]) {
            *acc = acc.wrapping_add(a.wrapping_mul(i32::from(x)));
        }
    }
}

/// acc\[n,i\] += Σ_o dy\[n,o\] · w\[o · k + i\]   dy: (samples, outputs), w: `outputs` rows k apart, acc: (samples, len).
#[inline(always)]
pub fn matmul_transposed(dy: &[i8], outputs: usize, w: &[i8], k: usize, acc: &mut [i32], len: usize) {
    for (dy, acc) in dy.chunks_exact(outputs).zip(acc.chunks_exact_mut(len)) {
        for (&d, w) in dy.iter().zip(w.chunks(k)) {
            if d != 0 {
                super::axpy(d, w, k, acc, len, len, 1);
            }
        }
    }
}

/// acc\[r,i\] += Σ_n dy\[n,from + r\] · x\[n,i\]   dy: (samples, outputs), x: (samples, k), acc: (rows, k).
#[inline(always)]
pub fn outer_products(dy: &[i8], outputs: usize, from: usize, x: &[i8], k: usize, acc: &mut [i32]) {
    for (o, acc) in (from..).zip(acc.chunks_exact_mut(k)) {
        for (dy, x) in dy.chunks_exact(outputs).zip(x.chunks_exact(k)) {
            if dy[o] != 0 {
                super::axpy(dy[o], x, k, acc, k, k, 1);
            }
        }
    }
}

/// Maxima of windows of 2 × 2 and their winners: one output row, from two input rows of `xs.w` columns; `step` values of x from
/// window to window (N13).
#[inline(always)]
pub fn pool_2x2(xs: Shape, step: usize, x: &[i32], y: &mut [i32], winners: &mut [i8]) {
    let (w, c) = (xs.w as usize, xs.c as usize);
    for (j, (y, winners)) in y.chunks_exact_mut(c).zip(winners.chunks_exact_mut(c)).enumerate() {
        let x = &x[j * step..][..(w + 2) * c];
        let (top, bottom) = (&x[..2 * c], &x[w * c..]);
        for (ch, (y, winner)) in y.iter_mut().zip(winners).enumerate() {
            let (mut most, mut number) = (top[ch], 0u8);
            for (n, v) in [(1, top[c + ch]), (2, bottom[ch]), (3, bottom[c + ch])] {
                if v > most {
                    (most, number) = (v, n);
                }
            }
            (*y, *winner) = (most, number.cast_signed());
        }
    }
}

/// Largest magnitude of `v`; 0 for an empty slice.
#[inline(always)]
pub fn peak(v: &[i32]) -> u32 {
    let (mut low, mut high) = (0i32, 0i32);
    for &x in v {
        low = low.min(x);
        high = high.max(x);
    }
    low.unsigned_abs().max(high.unsigned_abs())
}

/// v = max(v, 0) (N13); gives a number as long in bits as the largest magnitude left: here the machine's [`peak`].
#[inline(always)]
pub fn relu(v: &mut [i32]) -> u32 {
    v.iter_mut().for_each(|v| *v = (*v).max(0));
    super::peak(v)
}

/// v = 0 where x ≤ 0 (N18); gives the same as [`relu`]. Equal lengths.
#[inline(always)]
pub fn mask(v: &mut [i32], x: &[i8]) -> u32 {
    for (v, &x) in v.iter_mut().zip(x) {
        *v = if x > 0 { *v } else { 0 };
    }
    super::peak(v)
}

/// q = clip(round(v, shift, Nearest)) (N5)   |v| ≤ MAX_SUM, shift ≤ 24.
#[inline(always)]
pub fn narrow(sums: &[i32], shift: u32, q: &mut [i8]) {
    let half = (1i32 << shift) >> 1;
    for (q, &v) in q.iter_mut().zip(sums) {
        *q = clip(v.wrapping_add(half) >> shift);
    }
}

/// w\[i\] = clip(w\[i\] − round(sums\[i\] · m, shift, Stochastic, u_i)), u_i the draws of the row (N4, N19); 1 ≤ shift ≤ 30.
#[inline(always)]
pub fn descend(w: &mut [i8], sums: &[i32], m: i32, shift: u32, draws: Draws) {
    walk(w, sums, draws, |g, u| stochastic(g * m, shift, u));
}

/// Some of the inputs of an outer product, in the form a machine updates rows of weights with.
pub struct Outer<'a> {
    x: &'a [i8],
    from: usize,
    end: usize,
}

impl<'a> Outer<'a> {
    /// As many inputs from `from` on as `words`, at least [`OUTER_WORDS`](super::OUTER_WORDS), has room for: here all.
    #[inline(always)]
    pub fn new(_words: &'a mut [i32], x: &'a [i8], from: usize) -> Self {
        Self { x, from, end: x.len() }
    }

    /// All inputs.
    #[inline(always)]
    pub fn x(&self) -> &'a [i8] {
        self.x
    }

    /// First input of the part.
    #[inline(always)]
    pub fn from(&self) -> usize {
        self.from
    }

    /// First input behind the part.
    #[inline(always)]
    pub fn end(&self) -> usize {
        self.end
    }

    /// w\[i\] = clip(w\[i\] − round(c · x\[i\], shift, Stochastic, u_i)) for the inputs i of the part, u_i the draws of the row (N4, N19);
    /// |c| < 2^15, 1 ≤ shift ≤ 30.
    #[inline(always)]
    pub fn descend(&self, w: &mut [i8], c: i32, shift: u32, draws: Draws) {
        walk(w, self.x, draws, |x, u| stochastic(c * i32::from(x), shift, u));
    }
}

/// w\[i\] = clip(w\[i\] − delta(g\[i\], u_i)), u_i the draws of the row (N8): on hosts sixteen at a time, on a microcontroller one by one.
#[inline(always)]
pub fn walk<G: Copy>(w: &mut [i8], g: &[G], mut draws: Draws, delta: impl Fn(G, u32) -> i32) {
    if cfg!(feature = "std") {
        let mut lanes = draws.lanes::<16>();
        let mut blocks = w.chunks_exact_mut(16);
        let mut gradients = g.chunks_exact(16);
        for (w, g) in (&mut blocks).zip(&mut gradients) {
            for i in 0..16 {
                w[i] = clip(i32::from(w[i]) - delta(g[i], lanes.lane[i]));
            }
            lanes.advance();
        }
        let rest = blocks.into_remainder().iter_mut().zip(gradients.remainder());
        for ((w, &g), &u) in rest.zip(&lanes.lane) {
            *w = clip(i32::from(*w) - delta(g, u));
        }
    } else {
        for (w, &g) in w.iter_mut().zip(g) {
            *w = clip(i32::from(*w) - delta(g, draws.draw()));
        }
    }
}

/// Pairs that [`columns`] takes at a time.
pub const COLUMNS: usize = 1;

/// The pairs (place, error) of the non-zero errors of a walk; gives how many they are and the farthest place.
#[inline(always)]
#[allow(clippy::cast_possible_truncation)] // a place in a sample of at most 2^24 values
pub fn list(pairs: &mut [[i32; 2]], dy: &[i8], winners: &[i8], walk: Walk) -> (usize, usize) {
    let (mut n, mut last) = (0, 0);
    for i in 0..walk.rows {
        let (mut at, mut place) = (walk.first + i * walk.row, walk.place + i * walk.place_row);
        for _ in 0..walk.columns {
            if dy[at] != 0 {
                let (mut winner, mut x) = (winners.get(at).map_or(0, |n| usize::from(n.cast_unsigned())), place);
                while winner >= walk.window {
                    (winner, x) = (winner - walk.window, x + walk.down);
                }
                x += winner * walk.right;
                pairs[n] = [x as i32, i32::from(dy[at])];
                n += 1;
                last = last.max(x);
            }
            at += walk.step;
            place += walk.place_step;
        }
    }
    (n, last)
}

/// acc\[a, i\] += Σ_n d\[n\] · x\[at\[n\] + a · row + i\] for the pairs (at, d) of `taps`; acc has rows of `run` values.
#[inline(always)]
pub fn columns(taps: &[[i32; 2]], x: &[i8], row: usize, acc: &mut [i32], run: usize) {
    for (a, acc) in acc.chunks_exact_mut(run).enumerate() {
        for &[at, d] in taps {
            for (acc, &x) in acc.iter_mut().zip(&x[at.cast_unsigned() as usize + a * row..]) {
                *acc = acc.wrapping_add(d.wrapping_mul(i32::from(x)));
            }
        }
    }
}
