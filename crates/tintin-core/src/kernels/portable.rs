//! Plain loops: the definition of every kernel.

/// acc\[n,o\] += Σ_k x\[n,k\] · w\[o,k\]   x: (n, k), w: (o, k), acc: (n, o), all row-major, k ≥ 1.
#[inline(always)]
pub fn matmul(x: &[i8], w: &[i8], k: usize, acc: &mut [i32]) {
    let outputs = w.len() / k;
    for (x, acc) in x.chunks_exact(k).zip(acc.chunks_exact_mut(outputs)) {
        for (w, acc) in w.chunks_exact(k).zip(acc) {
            *acc = acc.wrapping_add(dot(x, w));
        }
    }
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
