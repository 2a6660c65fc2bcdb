//! Plain loops: the definition of every kernel.

/// Rows of w that share one load of x: four sums still fit the registers of an ARMv7-M.
const ROWS: usize = 4;

/// acc\[n,o\] += Σ_k x\[n,k\] · w\[o,k\]   x: (n, k), w: (o, k), acc: (n, o), all row-major, k ≥ 1.
#[inline(always)]
pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32]) {
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
fn dot(x: &[i8], y: &[i8]) -> i32 {
    let mut sum = 0i32;
    for (&x, &y) in x.iter().zip(y) {
        sum = sum.wrapping_add(i32::from(x).wrapping_mul(i32::from(y)));
    }
    sum
}

/// acc\[i\] += a · x\[i\].
#[inline(always)]
pub fn axpy(a: i8, x: &[i8], acc: &mut [i32]) {
    let a = i32::from(a);
    for (acc, &x) in acc.iter_mut().zip(x) {
        *acc = acc.wrapping_add(a.wrapping_mul(i32::from(x)));
    }
}
