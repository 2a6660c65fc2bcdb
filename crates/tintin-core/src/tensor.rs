//! Scales of integer tensors (N1, N3).

/// Compound exponents of a tensor: real value = mantissa · 2^s · (4/5)^u · (4/3)^d (N1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Power of two.
    pub s: i16,
    /// Number of upscales: mantissas were multiplied by 5/4 this often.
    pub u: i16,
    /// Number of downscales: mantissas were multiplied by 3/4 this often.
    pub d: i16,
}

impl Scale {
    /// A pure power of two.
    pub const fn pow2(s: i16) -> Self {
        Self { s, u: 0, d: 0 }
    }

    /// Scale of a product (N3): component-wise sum.
    pub const fn times(self, other: Self) -> Self {
        Self { s: self.s.saturating_add(other.s), u: self.u.saturating_add(other.u), d: self.d.saturating_add(other.d) }
    }

    /// The same mantissas shifted right by `k` have this scale.
    pub const fn shifted(self, k: i16) -> Self {
        Self { s: self.s.saturating_add(k), ..self }
    }
}

/// Mantissas with their scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tensor<'a> {
    /// Mantissas, −127..127.
    pub mantissas: &'a [i8],
    /// Their common scale.
    pub scale: Scale,
}
