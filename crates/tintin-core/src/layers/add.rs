//! Sum of two tensors with scales of their own, N28: a residual connection.
//!
//! Both are aligned to the larger in 24 bits, added, narrowed once. Each sum is computed twice, for the peak and for the mantissa, so
//! no wide copy exists.

use super::{Fields, Need, Role};
use crate::kernels;
use crate::rescale::{align, bits, excess, factor, widened};
use crate::shape::Shape;
use crate::tensor::Scale;

/// Bits of the larger operand in the sum.
const BITS: i32 = 24;

/// Adds the output of layer `from` to the input, which has the same shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Add {
    /// Index of an earlier layer in the list, neither a Branch nor a Flatten.
    pub from: u16,
}

impl Add {
    /// Plus the output of layer `from`.
    pub const fn new(from: u16) -> Self {
        Self { from }
    }

    pub(super) const fn fields(self) -> Fields {
        Fields { out: self.from, ..Fields::NONE }
    }

    pub(super) const fn from_fields(f: Fields) -> Self {
        Self { from: f.out }
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        if xs.checked_len().is_none() {
            return Err("input is empty or too large");
        }
        Ok(Need::plain(xs, Role::Add))
    }
}

/// One operand: mantissas count m · 2^(−shift) units of the sum.
#[derive(Clone, Copy)]
struct Aligned {
    m: i32,
    shift: i32,
}

impl Aligned {
    #[inline(always)]
    fn of(self, v: i8) -> i32 {
        align(i32::from(v) * self.m, self.shift, 1 << BITS)
    }
}

/// Largest magnitude of mantissas.
fn peak(v: &[i8]) -> u32 {
    v.iter().fold(0, |top, v| top.max(v.unsigned_abs())).into()
}

/// `a` = a + b narrowed (N28, N5), after a ReLU if `relu`; gives the scale of the sum. Equal lengths.
pub fn add_into(a: &mut [i8], a_scale: Scale, b: &[i8], b_scale: Scale, relu: bool) -> Scale {
    let of = |v: &[i8], scale: Scale| {
        let f = factor(scale.u.into(), scale.d.into(), 1);
        let exponent = i32::from(scale.s) + f.e;
        (f.m, exponent, bits(peak(v) * f.m.unsigned_abs()).cast_signed())
    };
    let ((am, ax, a_bits), (bm, bx, b_bits)) = (of(a, a_scale), of(b, b_scale));
    let top = match (a_bits, b_bits) {
        (0, 0) => ax,
        (0, _) => bx + b_bits,
        (_, 0) => ax + a_bits,
        _ => (ax + a_bits).max(bx + b_bits),
    };
    let e = top - BITS;
    let (ka, kb) = (Aligned { m: am, shift: e - ax }, Aligned { m: bm, shift: e - bx });
    let k = kernels::run(
        #[inline(always)]
        || {
            let mut reach = 0;
            for (&a, &b) in a.iter().zip(b) {
                let v = ka.of(a) + kb.of(b);
                reach |= if relu { v.max(0) } else { v }.unsigned_abs();
            }
            let k = excess(reach);
            for (a, &b) in a.iter_mut().zip(b) {
                let v = ka.of(*a) + kb.of(b);
                *a = crate::rescale::clip(crate::rescale::nearest(if relu { v.max(0) } else { v }, k));
            }
            k
        },
    );
    widened(Scale::pow2(i16::try_from(e).unwrap_or(if e < 0 { i16::MIN } else { i16::MAX })), k)
}
