//! Kernels in assembly against their definition, on a Cortex-M: random lengths around every block, values of any size and at the rails.
//! `scripts/parity.sh` runs it; it ends with failure at the first difference and says which kernel.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[path = "../faults.rs"]
mod faults;

#[cfg(target_os = "none")]
mod firmware {
    use core::fmt::Write;
    use cortex_m_rt::entry;
    use cortex_m_semihosting::debug::{EXIT_SUCCESS, exit};
    use cortex_m_semihosting::hio;
    use tintin_core::kernels::{self, LANES, OUTER_WORDS, Taps, Walk, portable, quad_words};
    use tintin_core::rescale::{MAX_SUM, bits};
    use tintin_core::rng::Draws;
    use tintin_core::shape::Shape;

    const CASES: u32 = 400;
    const MOST: usize = 4096;

    /// Random cases of one kernel.
    struct Case {
        draws: Draws,
        rails: bool,
    }

    impl Case {
        /// 1 to `most`.
        fn size(&mut self, most: u32) -> usize {
            self.draws.below(most) as usize + 1
        }

        fn mantissa(&mut self) -> i8 {
            let v = self.draws.below(255).cast_signed() - 127;
            i8::try_from(if self.rails { 127 * v.signum() } else { v }).unwrap()
        }

        fn mantissas(&mut self, n: usize) -> [i8; MOST] {
            let zeros = self.draws.below(2) == 0;
            let mut x = [99; MOST];
            for x in &mut x[..n] {
                *x = if zeros && self.draws.below(2) == 0 { 0 } else { self.mantissa() };
            }
            x
        }

        fn sums(&mut self, n: usize) -> [i32; MOST] {
            let most = if self.rails { MAX_SUM } else { 1 << self.draws.below(31) }.min(MAX_SUM);
            let mut v = [77; MOST];
            for v in &mut v[..n] {
                *v = (self.draws.below(2 * most + 1).wrapping_sub(most)).cast_signed();
            }
            v
        }
    }

    fn check<T: PartialEq>(name: &str, case: u32, ours: &[T], theirs: &[T]) {
        if let Some(i) = (0..theirs.len()).find(|&i| ours[i] != theirs[i]) {
            panic!("{name}, case {case}: value {i} of {} differs", theirs.len());
        }
    }

    fn products(n: u32, case: &mut Case) {
        // four patches, some of them cut at the edge, times rows
        let (run, runs, rows, lanes) = (case.size(19), case.size(4), case.size(5), case.size(4));
        let k = run * runs;
        let (step, spare) = (run + case.size(5) - 1, case.size(9) - 1);
        let len = (runs - 1) * step + run + 3 + spare;
        let (x, w) = (case.mantissas(len), case.mantissas(rows * k));
        let acc = case.sums(lanes * rows);
        let (mut a, mut b) = (acc, acc);
        let (mut p, mut q) = ([0x5A5A_5A5A; MOST], [0x5A5A_5A5A; MOST]);
        let words = quad_words(u32::try_from(k).unwrap()) as usize;
        let x = &x[..len];
        if case.draws.below(2) == 0 {
            let places = [(); LANES].map(|()| case.draws.below(4) as usize);
            kernels::gather(&mut p[..words], x, places, step, run, runs);
            portable::gather(&mut q[..words], x, places, step, run, runs);
        } else {
            for lane in 0..LANES {
                let (len, at) = (case.size(u32::try_from(run).unwrap()), case.size(4) - 1);
                let at = at.min(run - len);
                kernels::clear(&mut p[..words], k, lane);
                kernels::put(&mut p[..words], k, lane, at, run, x, step, len, runs);
                portable::clear(&mut q[..words], k, lane);
                portable::put(&mut q[..words], k, lane, at, run, x, step, len, runs);
            }
        }
        kernels::seal(&mut p[..words], k);
        kernels::multiply(&p[..words], &w[..rows * k], k, &mut a[..lanes * rows]);
        portable::seal(&mut q[..words], k);
        portable::multiply(&q[..words], &w[..rows * k], k, &mut b[..lanes * rows]);
        check("multiply", n, &a, &b);
    }

    fn rows(n: u32, case: &mut Case) {
        // rows of a convolution that some machines compute without patches, with any room to do so
        let (kernel, channels) = ((case.size(6), case.size(6)), case.size(5));
        let padding = (case.size(kernel.0 as u32) - 1, case.size(kernel.1 as u32) - 1);
        let stride = (case.size(2), if n % 5 == 0 { 2 } else { 1 });
        let (h, w) = (kernel.0 + case.size(8), kernel.1 + case.size(14) - 1);
        let extent = |n: usize, k: usize, s: usize, p: usize| (n + 2 * p - k) / s + 1;
        let (oh, ow) = (extent(h, kernel.0, stride.0, padding.0), extent(w, kernel.1, stride.1, padding.1));
        let shape = |h: usize, w: usize, c: usize| Shape::new(h as u32, w as u32, c as u32);
        let (xs, ys) = (shape(h, w, 1 + usize::from(n % 7 == 0)), shape(oh, ow, channels));
        let first = case.size(oh as u32) - 1;
        let rows = case.size((oh - first) as u32);
        let conv = kernels::Conv2d { kernel, stride, padding, xs, ys, first };
        let k = kernel.0 * kernel.1 * xs.c as usize;
        let (x, w) = (case.mantissas(xs.len()), case.mantissas(channels * k));
        let (x, w, len) = (&x[..xs.len()], &w[..channels * k], rows * ow * channels);
        let acc = case.sums(len);
        let (mut a, mut b, mut room) = (acc, acc, [7; MOST]);
        let words = quad_words(k as u32) as usize + case.size(3) * 100 - 100;
        if conv.sums(x, w, &mut a[..len], &mut room[..words]) {
            portable::conv2d(&conv, x, w, &mut b[..len]);
        }
        check("rows of a convolution", n, &a, &b);
    }

    fn matmul(n: u32, case: &mut Case) {
        let (k, rows, samples) = (case.size(200), case.size(10), case.size(3));
        let (x, w) = (case.mantissas(samples * k), case.mantissas(rows * k));
        let acc = case.sums(samples * rows);
        let (mut a, mut b, mut workspace) = (acc, acc, [3; MOST]);
        kernels::matmul(&x[..samples * k], &w[..rows * k], k, &mut a[..samples * rows], &mut workspace);
        portable::matmul(&x[..samples * k], &w[..rows * k], k, &mut b[..samples * rows], &mut []);
        check("matmul", n, &a, &b);
    }

    fn axpy(n: u32, case: &mut Case) {
        let (len, rows) = (case.size(40), case.size(4));
        let (from, to) = (len + case.size(4) - 1, len + case.size(4) - 1);
        let x = case.mantissas(rows * from);
        let acc = case.sums(rows * to);
        let (mut a, mut b, d) = (acc, acc, case.mantissa());
        kernels::axpy(d, &x[..rows * from], from, &mut a[..rows * to], to, len, rows);
        portable::axpy(d, &x[..rows * from], from, &mut b[..rows * to], to, len, rows);
        check("axpy", n, &a, &b);
    }

    fn taps(n: u32, case: &mut Case) {
        // the errors of one of several channels, in a rectangle of places, with a pool or without
        let (rows, columns, step) = (case.size(4), case.size(5), case.size(3));
        let row = columns * step + case.size(4) - 1;
        let (first, window) = (case.size(3) - 1, case.size(3));
        let (right, down) = (case.size(3), case.size(9));
        let (place, place_step, place_row) = (case.size(9) - 1, case.size(6), case.size(20));
        let walk = Walk { first, step, row, rows, columns, place, place_step, place_row, window, right, down };
        let len = first + rows * row;
        let (dy, mut winners) = (case.mantissas(len), [0; MOST]);
        winners[..len].fill_with(|| i8::try_from(case.draws.below((window * window) as u32)).unwrap());
        let winners = &winners[..if n % 3 == 0 { 0 } else { len }];
        let (mut words, mut pairs) = ([9; MOST], [[9; 2]; MOST / 2]);
        let list = Taps::new(&mut words[..2 * rows * columns + 2], &dy[..len], winners, walk);
        let (taps, last) = portable::list(&mut pairs, &dy[..len], winners, walk);

        // their sums over runs of x
        let (run, runs) = (case.size(13), case.size(4));
        let step = run + case.size(9) - 1;
        let x = case.mantissas(last + (runs - 1) * step + run);
        let (x, acc) = (&x[..last + (runs - 1) * step + run], case.sums(run * runs));
        let (mut a, mut b) = (acc, acc);
        list.columns(x, step, &mut a[..run * runs], run);
        portable::columns(&pairs[..taps], x, step, &mut b[..run * runs], run);
        check("columns", n, &a, &b);
    }

    fn pool(n: u32, case: &mut Case) {
        let (c, stride, windows, spare) = (case.size(9), case.size(3), case.size(5), case.size(3) - 1);
        let w = (windows - 1) * stride + 2 + spare;
        let xs = Shape::new(2, u32::try_from(w).unwrap(), u32::try_from(c).unwrap());
        // few different values, so that windows have several maxima
        let mut x = case.sums(2 * w * c);
        x[..2 * w * c].iter_mut().for_each(|v| *v >>= 29);
        let (mut a, mut b, mut i, mut j) = ([0; MOST], [0; MOST], [0; MOST], [0; MOST]);
        let out = windows * c;
        kernels::pool_2x2(xs, stride * c, &x[..2 * w * c], &mut a[..out], &mut i[..out]);
        portable::pool_2x2(xs, stride * c, &x[..2 * w * c], &mut b[..out], &mut j[..out]);
        check("pool_2x2", n, &a, &b);
        check("winners of pool_2x2", n, &i, &j);
    }

    fn narrow(n: u32, case: &mut Case) {
        let len = case.size(20);
        let v = case.sums(len);
        check("peak", n, &[kernels::peak(&v[..len])], &[portable::peak(&v[..len])]);
        let (mut a, mut b, x) = (v, v, case.mantissas(len));
        let (ours, theirs) = (kernels::relu(&mut a[..len]), portable::relu(&mut b[..len]));
        check("relu", n, &a, &b);
        check("peak of relu", n, &[bits(ours)], &[bits(theirs)]);
        let (mut a, mut b) = (v, v);
        let (ours, theirs) = (kernels::mask(&mut a[..len], &x[..len]), portable::mask(&mut b[..len], &x[..len]));
        check("mask", n, &a, &b);
        check("peak of mask", n, &[bits(ours)], &[bits(theirs)]);
        let (mut a, mut b, shift) = ([5; MOST], [5; MOST], case.draws.below(25));
        kernels::narrow(&v[..len], shift, &mut a[..len]);
        portable::narrow(&v[..len], shift, &mut b[..len]);
        check("narrow", n, &a, &b);
    }

    fn updates(n: u32, case: &mut Case) {
        let (len, shift) = (case.size(60), case.draws.below(30) + 1);
        let draws = Draws::new(n, 1, 2, 3);
        let (w, x) = (case.mantissas(len), case.mantissas(len));
        let c = i32::from(case.mantissa()) * (case.draws.below(128).cast_signed() + 128);
        let (mut a, mut b, mut words) = (w, w, [9; MOST]);
        let room = OUTER_WORDS - 1 + case.size(50);
        let mut from = 0;
        while from < len {
            let part = kernels::Outer::new(&mut words[..room], &x[..len], from);
            part.descend(&mut a[..len], c, shift, draws);
            from = part.end();
        }
        portable::Outer::new(&mut [], &x[..len], 0).descend(&mut b[..len], c, shift, draws);
        check("outer product", n, &a, &b);

        let (mut a, mut b) = (w, w);
        let mut g = case.sums(len);
        // as wide as N19 and N21 leave it
        let (m, width) = if n % 2 == 0 { (1, 7) } else { (case.draws.below(128).cast_signed() + 128, 9) };
        g[..len].iter_mut().for_each(|g| *g >>= width);
        kernels::descend(&mut a[..len], &g[..len], m, shift, draws);
        portable::descend(&mut b[..len], &g[..len], m, shift, draws);
        check("descend", n, &a, &b);
    }

    #[entry]
    fn main() -> ! {
        let tests: [(&str, fn(u32, &mut Case)); 8] = [
            ("multiply", products),
            ("rows of a convolution", rows),
            ("matmul", matmul),
            ("axpy", axpy),
            ("taps", taps),
            ("pool_2x2", pool),
            ("peak, relu, mask and narrow", narrow),
            ("updates", updates),
        ];
        let mut out = hio::hstdout().unwrap();
        for (which, (name, test)) in (0..).zip(tests) {
            for n in 0..CASES {
                test(n, &mut Case { draws: Draws::new(21, which, n, 0), rails: n % 4 == 0 });
            }
            writeln!(out, "{} {name} {CASES} cases", kernels::name()).unwrap();
        }
        loop {
            exit(EXIT_SUCCESS);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this compares the kernels of a Cortex-M: scripts/parity.sh");
    std::process::exit(2);
}
