//! Linear (dense) layer, N11: acc\[o\] = Σ_i w\[o,i\] · x\[i\];  dx\[i\] = Σ_o w\[o,i\] · dy\[o\];  gw\[o,i\] = Σ_n dy\[n,o\] · x\[n,i\].
//!
//! x: (samples, n), w: (o, n), acc and dy: (samples, o). A map of height, width and channels counts as flat.
//! Bounds: n ≤ 132 624 (66 052 with a bias), o ≤ 65 535.

use super::{Backward, Fields, Forward, Gradient, Need, Role, Sums, Whole, check_sum};
use crate::kernels::{matmul, matmul_transposed, matmul_words, outer_products, product};
use crate::shape::Shape;

/// Fully connected layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Linear {
    /// Number of outputs.
    pub out_features: u16,
    /// One bias per output.
    pub bias: bool,
}

impl Linear {
    /// A layer of `out_features` outputs without bias.
    pub const fn new(out_features: u16) -> Self {
        Self { out_features, bias: false }
    }

    /// The same with biases.
    pub const fn with_bias(self) -> Self {
        Self { bias: true, ..self }
    }

    pub(super) const fn fields(self) -> Fields {
        Fields { bias: self.bias, out: self.out_features, kernel: (0, 0), stride: (0, 0), padding: (0, 0) }
    }

    pub(super) const fn from_fields(f: Fields) -> Self {
        Self { out_features: f.out, bias: f.bias }
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        let Some(row) = xs.checked_len() else { return Err("input is empty or too large") };
        if self.out_features == 0 {
            return Err("no output features");
        }
        if let Err(why) = check_sum(row, self.bias) {
            return Err(why);
        }
        let rows = self.out_features as u32;
        Ok(Need {
            ys: Shape::flat(rows),
            role: Role::Sums { exponent: 0 },
            rows,
            row,
            fan_out: rows,
            backward_terms: rows,
            bias: self.bias,
            workspace: matmul_words(row),
            apart: true,
        })
    }
}

impl Sums for Linear {
    #[inline(always)]
    fn forward(&self, call: Forward<'_>) {
        matmul(call.x, call.w, call.xs.len(), call.acc, call.workspace);
    }

    #[inline(always)]
    fn whole(&self, call: Whole<'_>) -> Option<u32> {
        product(call.x, call.w, call.xs.len(), Whole::outputs(call.acc, call.winners, call.relu))
    }

    #[inline(always)]
    fn backward(&self, call: Backward<'_>) {
        let (n, row) = (call.xs.len(), call.xs.w as usize * call.xs.c as usize);
        let (from, len) = (call.first * row, call.rows * row);
        matmul_transposed(call.errors.dy, call.errors.ps.len(), &call.w[from..], n, call.acc, len);
    }

    #[inline(always)]
    fn gradient(&self, call: Gradient<'_>) {
        outer_products(call.errors.dy, call.errors.ps.len(), call.rows.start, call.x, call.xs.len(), call.acc);
    }

    #[inline(always)]
    fn is_outer(&self) -> bool {
        true
    }
}
