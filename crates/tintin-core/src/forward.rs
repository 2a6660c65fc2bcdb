//! The forward pass of a slot with sums: bias, exact sums, pooling strip by strip (N11 to N14). The net narrows what it leaves.

use crate::kernels;
use crate::layers::{BIAS, Forward};
use crate::rescale::{BIAS_LIMIT, align, factor};
use crate::slot::Slot;
use crate::tensor::Scale;

/// The forward pass of one slot with sums.
pub(crate) struct SumsCall<'a> {
    pub slot: &'a Slot,
    pub x: &'a [i8],
    pub w: &'a [i8],
    pub acc_scale: Scale,
    pub bias_scale: Scale,
    pub workspace: &'a mut [i32],
}

impl SumsCall<'_> {
    /// Sums of all samples at once.
    pub fn whole<const SET: u16>(self, acc: &mut [i32]) {
        self.fill::<SET>(acc);
        self.slot.layer.forward_of::<SET>(Forward {
            x: self.x,
            w: &self.w[..self.slot.weights()],
            acc,
            workspace: self.workspace,
            xs: self.slot.xs,
            ys: self.slot.ss,
            first: 0,
            rows: self.slot.ss.h as usize,
        });
    }

    /// Sums of a band of pooled rows at a time: only the maxima are kept (N13).
    pub fn pooled<const SET: u16>(self, acc: &mut [i32], strip: &mut [i32], indices: &mut [i8]) {
        let Some(pool) = self.slot.pool else { return };
        let slot = self.slot;
        let pooled = slot.ps.w as usize * slot.ps.c as usize;
        let row = slot.ss.w as usize * slot.ss.c as usize;
        let (band, stride) = (slot.band as usize, pool.stride.0 as usize);
        for (s, acc) in acc.chunks_exact_mut(slot.ps.len()).enumerate() {
            for (b, acc) in acc.chunks_mut(band * pooled).enumerate() {
                let rows = slot.strip_rows(acc.len() / pooled);
                let strip = &mut strip[..rows * row];
                self.fill::<SET>(strip);
                slot.layer.forward_of::<SET>(Forward {
                    x: &self.x[s * slot.xs.len()..][..slot.xs.len()],
                    w: &self.w[..slot.weights()],
                    acc: strip,
                    workspace: self.workspace,
                    xs: slot.xs,
                    ys: slot.ss,
                    first: b * band * stride,
                    rows,
                });
                for (i, acc) in acc.chunks_exact_mut(pooled).enumerate() {
                    let at = slot.indices + s * slot.ps.len() + (b * band + i) * pooled;
                    let index = &mut indices[if slot.taped { at } else { 0 }..][..pooled];
                    kernels::run(
                        #[inline(always)]
                        || pool.pool_sums(slot.ss, &strip[i * stride * row..], acc, index),
                    );
                }
            }
        }
    }

    /// Where sums start: the aligned bias, or 0 (N12).
    fn fill<const SET: u16>(&self, acc: &mut [i32]) {
        if SET & BIAS == 0 || !self.slot.bias {
            acc.fill(0);
            return;
        }
        let (acc_scale, b) = (self.acc_scale, self.bias_scale);
        let f = factor(i32::from(b.u) - i32::from(acc_scale.u), i32::from(b.d) - i32::from(acc_scale.d), 1);
        let shift = i32::from(acc_scale.s) - i32::from(b.s) - f.e;
        let channels = self.slot.rows as usize;
        let (start, rest) = acc.split_at_mut(channels);
        for (v, &b) in start.iter_mut().zip(&self.w[self.slot.weights()..]) {
            *v = align(i32::from(b) * f.m, shift, BIAS_LIMIT);
        }
        for rest in rest.chunks_exact_mut(channels) {
            rest.copy_from_slice(start);
        }
    }
}
