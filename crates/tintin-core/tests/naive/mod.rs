//! The layers by their definitions, index by index in i64: slow, and too plain to be wrong in the engine's way.
//!
//! A layer with sums is a list of products y += w · x; forward, backward and gradient read the same list three ways (N11, N14, N18).

use tintin_core::layers::{AvgPool2d, Conv2d, DepthwiseConv2d, Layer, MaxPool2d};
use tintin_core::shape::Shape;

/// One product: y\[y\] += w\[w\] · x\[x\].
pub struct Product {
    pub y: usize,
    pub w: usize,
    pub x: usize,
}

/// A layer at one input shape.
pub struct Naive {
    pub ys: Shape,
    pub products: Vec<Product>,
    /// The one weight of an average, which no layer stores; empty otherwise.
    pub mean: Vec<i64>,
}

fn at(s: Shape, i: usize, j: usize, ch: usize) -> usize {
    (i * s.w as usize + j) * s.c as usize + ch
}

fn extent(n: u32, k: u16, s: u16, p: u16) -> u32 {
    (n + 2 * u32::from(p) - u32::from(k)) / u32::from(s) + 1
}

fn places(s: Shape) -> impl Iterator<Item = (usize, usize)> {
    (0..s.h as usize).flat_map(move |i| (0..s.w as usize).map(move |j| (i, j)))
}

fn pair(v: (u16, u16)) -> (usize, usize) {
    (usize::from(v.0), usize::from(v.1))
}

/// The products of a layer with sums; panics for one without.
pub fn naive(layer: Layer, xs: Shape) -> Naive {
    match layer {
        Layer::Linear(linear) => {
            let (outputs, n) = (usize::from(linear.out_features), xs.len());
            let products = (0..outputs).flat_map(|o| (0..n).map(move |i| Product { y: o, w: o * n + i, x: i }));
            Naive { ys: Shape::flat(linear.out_features.into()), products: products.collect(), mean: vec![] }
        }
        Layer::Conv2d(conv) => convolution(conv, xs),
        Layer::DepthwiseConv2d(conv) => depthwise(conv, xs),
        Layer::AvgPool2d(pool) => average(pool, xs),
        Layer::GlobalAvgPool2d(_) => {
            average(AvgPool2d::new((u16::try_from(xs.h).unwrap(), u16::try_from(xs.w).unwrap())), xs)
        }
        Layer::ReLU(_) | Layer::MaxPool2d(_) | Layer::Flatten(_) | Layer::Branch(_) | Layer::Add(_) => {
            panic!("{} has no sums", layer.name())
        }
    }
}

fn convolution(conv: Conv2d, xs: Shape) -> Naive {
    let Conv2d { out_channels, kernel, stride, padding, .. } = conv;
    let ys = Shape::new(
        extent(xs.h, kernel.0, stride.0, padding.0),
        extent(xs.w, kernel.1, stride.1, padding.1),
        out_channels.into(),
    );
    let ((kh, kw), (sh, sw), (ph, pw)) = (pair(kernel), pair(stride), pair(padding));
    let mut products = vec![];
    for (i, j) in places(ys) {
        for o in 0..ys.c as usize {
            for a in 0..kh {
                for b in 0..kw {
                    for ch in 0..xs.c as usize {
                        let (row, column) = (i * sh + a, j * sw + b);
                        let inside =
                            (ph..ph + xs.h as usize).contains(&row) && (pw..pw + xs.w as usize).contains(&column);
                        if inside {
                            products.push(Product {
                                y: at(ys, i, j, o),
                                w: ((o * kh + a) * kw + b) * xs.c as usize + ch,
                                x: at(xs, row - ph, column - pw, ch),
                            });
                        }
                    }
                }
            }
        }
    }
    Naive { ys, products, mean: vec![] }
}

/// N27: channel by channel, from the place in x to the outputs it is a term of.
fn depthwise(conv: DepthwiseConv2d, xs: Shape) -> Naive {
    let DepthwiseConv2d { kernel, stride, padding, .. } = conv;
    let ys = Shape::new(extent(xs.h, kernel.0, stride.0, padding.0), extent(xs.w, kernel.1, stride.1, padding.1), xs.c);
    let ((kh, kw), (sh, sw), (ph, pw)) = (pair(kernel), pair(stride), pair(padding));
    let mut products = vec![];
    for (row, column) in places(xs) {
        for (i, j) in places(ys) {
            for ch in 0..xs.c as usize {
                let (a, b) = ((row + ph).checked_sub(i * sh), (column + pw).checked_sub(j * sw));
                if let (Some(a), Some(b)) = (a.filter(|&a| a < kh), b.filter(|&b| b < kw)) {
                    products.push(Product {
                        y: at(ys, i, j, ch),
                        w: (ch * kh + a) * kw + b,
                        x: at(xs, row, column, ch),
                    });
                }
            }
        }
    }
    Naive { ys, products, mean: vec![] }
}

fn average(pool: AvgPool2d, xs: Shape) -> Naive {
    let (kernel, stride) = (pair(pool.kernel), pair(pool.stride));
    let ys =
        Shape::new(extent(xs.h, pool.kernel.0, pool.stride.0, 0), extent(xs.w, pool.kernel.1, pool.stride.1, 0), xs.c);
    let mut products = vec![];
    for (i, j) in places(ys) {
        for ch in 0..xs.c as usize {
            for x in window(xs, kernel, stride, i, j, ch) {
                products.push(Product { y: at(ys, i, j, ch), w: 0, x });
            }
        }
    }
    Naive { ys, products, mean: vec![mean(kernel.0 * kernel.1).0] }
}

/// 1 / cells as an odd m, or 1, and a power of two: N6 for u = d = 0, then the reduction of N14.
pub fn mean(cells: usize) -> (i64, i16) {
    let (mut v, mut e) = ((1i64 << 30) / i64::try_from(cells).unwrap(), -30);
    while v < 1 << 28 {
        (v, e) = (v * 2, e - 1);
    }
    while v >= 1 << 29 {
        (v, e) = (v / 2, e + 1);
    }
    let (mut m, mut e) = ((v + (1 << 20)) >> 21, e + 21);
    while m % 2 == 0 {
        (m, e) = (m / 2, e + 1);
    }
    (m, e)
}

/// Input indices of window (i, j) in row-major order.
fn window(
    xs: Shape,
    (kh, kw): (usize, usize),
    (sh, sw): (usize, usize),
    i: usize,
    j: usize,
    ch: usize,
) -> impl Iterator<Item = usize> {
    (0..kh).flat_map(move |a| (0..kw).map(move |b| at(xs, i * sh + a, j * sw + b, ch)))
}

impl Naive {
    /// Weights to multiply with: the layer's own, or the one of an average.
    fn weights(&self, w: &[i8]) -> Vec<i64> {
        if self.mean.is_empty() { w.iter().map(|&w| i64::from(w)).collect() } else { self.mean.clone() }
    }

    /// Sums of one sample.
    pub fn forward(&self, x: &[i8], w: &[i8]) -> Vec<i64> {
        let (w, mut y) = (self.weights(w), vec![0; self.ys.len()]);
        for p in &self.products {
            y[p.y] += w[p.w] * i64::from(x[p.x]);
        }
        y
    }

    /// Input errors of one sample with errors `dy` at the sums.
    pub fn backward(&self, dy: &[i64], w: &[i8], inputs: usize) -> Vec<i64> {
        let (w, mut dx) = (self.weights(w), vec![0; inputs]);
        for p in &self.products {
            dx[p.x] += w[p.w] * dy[p.y];
        }
        dx
    }

    /// Adds one sample's gradient to `gw`.
    pub fn gradient(&self, dy: &[i64], x: &[i8], gw: &mut [i64]) {
        for p in &self.products {
            gw[p.w] += dy[p.y] * i64::from(x[p.x]);
        }
    }
}

/// For every output of a max pool over one sample: the input index of the first maximum and its number in the window (N13).
pub fn winners<T: Copy + Ord>(pool: MaxPool2d, xs: Shape, x: &[T]) -> Vec<(usize, usize)> {
    let (kernel, stride) = (pair(pool.kernel), pair(pool.stride));
    let ys =
        Shape::new(extent(xs.h, pool.kernel.0, pool.stride.0, 0), extent(xs.w, pool.kernel.1, pool.stride.1, 0), xs.c);
    let mut winners = vec![];
    for (i, j) in places(ys) {
        for ch in 0..xs.c as usize {
            let cells: Vec<usize> = window(xs, kernel, stride, i, j, ch).collect();
            let top = cells.iter().map(|&c| x[c]).max().unwrap();
            let number = cells.iter().position(|&c| x[c] == top).unwrap();
            winners.push((cells[number], number));
        }
    }
    winners
}

/// Errors behind a max pool at the places they came from, added up where windows overlap (N18).
pub fn unpool(winners: &[(usize, usize)], dy: &[i8], sums: usize) -> Vec<i64> {
    let mut at_sums = vec![0; sums];
    for (&(place, _), &d) in winners.iter().zip(dy) {
        at_sums[place] += i64::from(d);
    }
    at_sums
}
