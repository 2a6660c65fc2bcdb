//! Multiply-accumulates per second of the engine's products on one thread, beside what this machine's instructions can do.
//!
//!     cargo run --release -p tintin-core --features std --example kernel_peak
//!
//! The peak is measured: independent register-only instructions in a loop, the best of many short runs, as is every product.
//! Errors have no zeros here; in a training three of four behind a 2 × 2 pool are zero, and a kernel may pass over them.
#![allow(clippy::float_arithmetic, clippy::cast_precision_loss, clippy::cast_possible_truncation)]

use std::time::{Duration, Instant};

use tintin_core::kernels;
use tintin_core::layers::{Backward, Conv2d, DepthwiseConv2d, Errors, Forward, Gradient, Layer, Linear};
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;

const BATCH: usize = 64;

/// The instruction that multiplies in the kernels of each name that `kernels::name` can give.
const INSTRUCTION_OF: &[(&str, &str)] = &[
    ("avx512vnni", "vpdpbusd 512"),
    ("avx512", "vpmaddwd 512"),
    ("avx2", "vpmaddwd 256"),
    ("portable", "pmaddwd 128"),
];

/// The shortest of many short runs, in seconds, after `prepare`, which is not timed.
fn best<T>(state: &mut T, mut prepare: impl FnMut(&mut T), mut run: impl FnMut(&mut T)) -> f64 {
    let (mut least, begin) = (Duration::MAX, Instant::now());
    let mut runs = 0;
    while runs < 20 || begin.elapsed() < Duration::from_millis(300) {
        prepare(state);
        let start = Instant::now();
        run(state);
        least = least.min(start.elapsed());
        runs += 1;
    }
    least.as_secs_f64()
}

/// An instruction, what it multiplies and adds at a time, and a loop of it; `None` where the machine lacks it.
struct Instruction {
    name: &'static str,
    products: f64,
    spin: Option<fn()>,
}

impl Instruction {
    /// Multiply-accumulates per second.
    fn peak(&self) -> Option<f64> {
        let spin = self.spin?;
        Some(instructions::IN_A_SPIN * self.products / best(&mut (), |()| (), |()| spin()))
    }
}

#[cfg(target_arch = "x86_64")]
mod instructions {
    #![allow(unsafe_code)]

    use std::arch::asm;
    use std::arch::is_x86_feature_detected as detected;

    use super::Instruction;

    const TURNS: u32 = 20_000;
    /// Twelve chains: more than latency times units, so that no instruction waits for another.
    pub const IN_A_SPIN: f64 = 12.0 * TURNS as f64;

    /// A function that spins on `$before N $after`, N the register of the chain, once or twice in a line.
    macro_rules! spin {
        ($name:ident, $features:literal, $a:literal, $b:literal $(, $c:literal)?) => {
            #[target_feature(enable = $features)]
            fn $name() {
                // SAFETY: registers only, all of them declared, of instructions that are enabled.
                unsafe {
                    asm!(
                        "2:",
                        concat!($a, "0", $b $(, "0", $c)?),
                        concat!($a, "1", $b $(, "1", $c)?),
                        concat!($a, "2", $b $(, "2", $c)?),
                        concat!($a, "3", $b $(, "3", $c)?),
                        concat!($a, "4", $b $(, "4", $c)?),
                        concat!($a, "5", $b $(, "5", $c)?),
                        concat!($a, "6", $b $(, "6", $c)?),
                        concat!($a, "7", $b $(, "7", $c)?),
                        concat!($a, "8", $b $(, "8", $c)?),
                        concat!($a, "9", $b $(, "9", $c)?),
                        concat!($a, "10", $b $(, "10", $c)?),
                        concat!($a, "11", $b $(, "11", $c)?),
                        "dec {turns:e}",
                        "jnz 2b",
                        turns = inout(reg) TURNS => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            }
        };
    }

    spin!(dpbusd_512, "avx512f,avx512vnni", "vpdpbusd zmm", ", zmm14, zmm15");
    spin!(dpwssd_512, "avx512f,avx512vnni", "vpdpwssd zmm", ", zmm14, zmm15");
    spin!(maddwd_512, "avx512bw", "vpmaddwd zmm12, zmm14, zmm15\nvpaddd zmm", ", zmm12, zmm", "");
    spin!(dpbusd_256, "avx512vl,avx512vnni", "vpdpbusd ymm", ", ymm14, ymm15");
    spin!(maddwd_256, "avx2", "vpmaddwd ymm12, ymm14, ymm15\nvpaddd ymm", ", ymm12, ymm", "");
    spin!(maddwd_128, "sse2", "movdqa xmm12, xmm14\npmaddwd xmm12, xmm15\npaddd xmm", ", xmm12");

    /// With vpmaddwd comes the addition that makes a sum of the products.
    pub fn all() -> Vec<Instruction> {
        let vnni = detected!("avx512vnni");
        let short = vnni && detected!("avx512vl");
        let wide = detected!("avx512bw");
        // SAFETY: each is called only where its features have just been detected.
        let one = |name, products, found: bool, spin: fn()| Instruction { name, products, spin: found.then_some(spin) };
        unsafe {
            vec![
                one("vpdpbusd 512", 64.0, vnni, || dpbusd_512()),
                one("vpdpwssd 512", 32.0, vnni, || dpwssd_512()),
                one("vpmaddwd 512", 32.0, wide, || maddwd_512()),
                one("vpdpbusd 256", 32.0, short, || dpbusd_256()),
                one("vpmaddwd 256", 16.0, detected!("avx2"), || maddwd_256()),
                one("pmaddwd 128", 8.0, true, || maddwd_128()),
            ]
        }
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod instructions {
    pub const IN_A_SPIN: f64 = 1.0;

    /// None is measured here: products are told without a share.
    pub fn all() -> Vec<super::Instruction> {
        Vec::new()
    }
}

/// The buffers of one layer's calls.
struct Calls {
    layer: Layer,
    xs: Shape,
    ys: Shape,
    rows: usize,
    x: Vec<i8>,
    w: Vec<i8>,
    dy: Vec<i8>,
    sums: Vec<i32>,
    input_errors: Vec<i32>,
    gradient: Vec<i32>,
    workspace: Vec<i32>,
}

/// `n` mantissas without a zero.
fn mantissas(n: usize, seed: u32) -> Vec<i8> {
    let mut draws = Draws::new(seed, 0, 0, 0);
    (0..n)
        .map(|_| i8::try_from(draws.below(127)).unwrap_or(0) + 1)
        .zip([1, -1].into_iter().cycle())
        .map(|(m, s)| m * s)
        .collect()
}

impl Calls {
    fn new(layer: Layer, xs: Shape) -> Self {
        let need = layer.need(xs).expect("the layer takes this shape");
        let (rows, row) = (need.rows as usize, need.row as usize);
        Self {
            layer,
            xs,
            ys: need.ys,
            rows,
            x: mantissas(BATCH * xs.len(), 1),
            w: mantissas(rows * row, 2),
            dy: mantissas(BATCH * need.ys.len(), 3),
            sums: vec![0; BATCH * need.ys.len()],
            input_errors: vec![0; BATCH * xs.len()],
            gradient: vec![0; rows * row],
            workspace: vec![0; need.workspace as usize],
        }
    }

    /// Multiply-accumulates of each of the three products, those with padding counted.
    fn products(&self) -> f64 {
        let places = self.ys.h as usize * self.ys.w as usize;
        (BATCH * places * self.w.len()) as f64
    }

    fn clear(&mut self) {
        self.sums.fill(0);
        self.input_errors.fill(0);
        self.gradient.fill(0);
    }

    fn errors(&self) -> Errors<'_> {
        Errors { dy: &self.dy, index: &[], pool: None, ps: self.ys }
    }

    fn forward(&mut self) {
        self.layer.forward(Forward {
            x: &self.x,
            w: &self.w,
            acc: &mut self.sums,
            workspace: &mut self.workspace,
            xs: self.xs,
            ys: self.ys,
            first: 0,
            rows: self.ys.h as usize,
        });
    }

    fn backward(&mut self) {
        let mut acc = std::mem::take(&mut self.input_errors);
        self.layer.backward(Backward {
            w: &self.w,
            errors: self.errors(),
            acc: &mut acc,
            xs: self.xs,
            first: 0,
            rows: self.xs.h as usize,
        });
        self.input_errors = acc;
    }

    fn gradient(&mut self) {
        let (mut acc, mut workspace) = (std::mem::take(&mut self.gradient), std::mem::take(&mut self.workspace));
        self.layer.gradient(Gradient {
            x: &self.x,
            errors: self.errors(),
            acc: &mut acc,
            xs: self.xs,
            rows: 0..self.rows,
            workspace: &mut workspace,
        });
        (self.gradient, self.workspace) = (acc, workspace);
    }
}

fn main() {
    let kernels = kernels::name();
    let used = INSTRUCTION_OF.iter().find(|(name, _)| *name == kernels).map(|(_, instruction)| *instruction);
    println!(
        "Kernels: {kernels}, which multiply with {}. One thread, batch {BATCH}.\n",
        used.unwrap_or("nothing told here")
    );
    println!("| instruction | 10^9 multiply-accumulates per second |\n|---|---:|");
    let mut peak = None;
    for instruction in instructions::all() {
        if let Some(rate) = instruction.peak() {
            println!("| {} | {:.1} |", instruction.name, rate / 1e9);
            if used == Some(instruction.name) {
                peak = Some(rate);
            }
        }
    }
    let (padded, three) = (|out| Conv2d::new(out, (3, 3)).padding((1, 1)), Shape::new);
    let depthwise = DepthwiseConv2d::new((3, 3)).padding((1, 1));
    let layers = [
        ("LeNet-5 conv1, 28×28×1 → 6, 5×5", Layer::Conv2d(Conv2d::new(6, (5, 5)).padding((2, 2))), three(28, 28, 1)),
        ("LeNet-5 conv2, 14×14×6 → 16, 5×5", Layer::Conv2d(Conv2d::new(16, (5, 5))), three(14, 14, 6)),
        ("LeNet-5 dense, 400 → 120", Layer::Linear(Linear::new(120)), three(1, 1, 400)),
        ("VGG conv1, 28×28×1 → 16, 3×3", Layer::Conv2d(padded(16)), three(28, 28, 1)),
        ("VGG conv2, 28×28×16 → 16, 3×3", Layer::Conv2d(padded(16)), three(28, 28, 16)),
        ("VGG conv3, 14×14×16 → 32, 3×3", Layer::Conv2d(padded(32)), three(14, 14, 16)),
        ("VGG conv4, 14×14×32 → 32, 3×3", Layer::Conv2d(padded(32)), three(14, 14, 32)),
        ("VGG conv5, 7×7×32 → 64, 3×3", Layer::Conv2d(padded(64)), three(7, 7, 32)),
        ("VGG conv6, 7×7×64 → 64, 3×3", Layer::Conv2d(padded(64)), three(7, 7, 64)),
        ("depthwise, 16×16×64, 3×3", Layer::DepthwiseConv2d(depthwise), three(16, 16, 64)),
        ("depthwise, 16×16×64, 3×3, stride 2", Layer::DepthwiseConv2d(depthwise.stride((2, 2))), three(16, 16, 64)),
        ("MLP dense, 784 → 200", Layer::Linear(Linear::new(200)), three(1, 1, 784)),
    ];
    println!("\n10^9 multiply-accumulates per second, and the share of the peak:\n");
    println!("| layer | products, 10^6 | forward | input errors | weight gradient |\n|---|---:|---:|---:|---:|");
    for (name, layer, xs) in layers {
        let mut calls = Calls::new(layer, xs);
        let products = calls.products();
        let told = [Calls::forward, Calls::backward, Calls::gradient].map(|call| {
            let rate = products / best(&mut calls, Calls::clear, call);
            let share = peak.map(|peak| format!(", {:.0} %", 100.0 * rate / peak)).unwrap_or_default();
            format!("{:.1}{share}", rate / 1e9)
        });
        println!("| {name} | {:.1} | {} |", products / 1e6, told.join(" | "));
    }
}
