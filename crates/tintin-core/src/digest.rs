//! One 64-bit hash over weights and scales (N24): the currency of every comparison.

use crate::slot::{Slot, SlotScales};
use crate::tensor::Scale;

/// FNV-1a, 64 bits.
#[derive(Clone, Copy, Debug)]
pub struct Digest(u64);

impl Default for Digest {
    fn default() -> Self {
        Self::new()
    }
}

impl Digest {
    /// Of nothing yet.
    pub const fn new() -> Self {
        Self(0xCBF2_9CE4_8422_2325)
    }

    fn byte(&mut self, byte: u8) {
        self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(0x0100_0000_01B3);
    }

    /// Adds a tensor: its three exponents, then its mantissas.
    pub fn tensor(&mut self, scale: Scale, mantissas: &[i8]) {
        for exponent in [scale.s, scale.u, scale.d] {
            for byte in exponent.to_le_bytes() {
                self.byte(byte);
            }
        }
        self.mantissas(mantissas);
    }

    /// Adds more of the mantissas of the tensor added last.
    pub(crate) fn mantissas(&mut self, mantissas: &[i8]) {
        for q in mantissas {
            self.byte(q.cast_unsigned());
        }
    }

    /// The hash so far.
    pub const fn value(self) -> u64 {
        self.0
    }
}

/// Digest of a net's weights and scales; `weights` gives weights and bias of a slot.
pub(crate) fn net<'a>(slots: &[Slot], scales: &[SlotScales], weights: impl Fn(&Slot) -> &'a [i8]) -> u64 {
    let mut digest = Digest::new();
    for (slot, scales) in slots.iter().zip(scales) {
        if slot.rows > 0 {
            let (weights, bias) = weights(slot).split_at(slot.weights());
            digest.tensor(scales.w, weights);
            if slot.bias {
                digest.tensor(scales.b, bias);
            }
        }
    }
    digest.value()
}
