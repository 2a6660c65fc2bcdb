//! The forward pass of a slot with sums: bias, exact sums, pooling strip by strip (N11 to N14). The net narrows what it leaves.

use crate::kernels;
use crate::layers::{BIAS, CHOSEN, Forward, Whole};
use crate::net::{span, span_mut};
use crate::own_rows::{Own, forward_of, with_channels};
use crate::rescale::{BIAS_LIMIT, align, excess, factor, narrow_by, peak, relu, widened};
use crate::slot::Slot;
use crate::tensor::Scale;

/// The forward pass of one slot with sums.
pub(crate) struct SumsCall<'a> {
    pub slot: &'a Slot,
    /// Weights and biases; of a slot that lies apart those in flash.
    pub w: &'a [i8],
    /// What lies apart of them.
    pub own: Option<Own<'a>>,
    pub acc_scale: Scale,
    pub bias_scale: Scale,
}

impl SumsCall<'_> {
    /// Sums of all samples at once.
    pub fn whole<const SET: u32>(&self, x: &[i8], acc: &mut [i32], workspace: &mut [i32]) {
        self.rows::<SET>(x, 0, self.slot.ss.h as usize, acc, workspace);
    }

    /// All at once, bias, sums, pool and ReLU, by a kernel that passes over the sums once; gives their largest magnitude.
    pub fn direct<const SET: u32>(&self, x: &[i8], acc: &mut [i32], indices: &mut [i8]) -> Option<u32> {
        if !kernels::OUTPUTS || SET & CHOSEN != 0 && self.own.is_some_and(|own| !own.rows.is_empty()) {
            return None;
        }
        let Slot { pool, relu, xs, ss: ys, ps, .. } = *self.slot;
        self.start::<SET>(&mut acc[..self.slot.rows as usize]);
        let winners = if pool.is_some() && self.slot.taped { &mut indices[..acc.len()] } else { &mut [] };
        let w = &self.w[..self.slot.weights()];
        self.slot.layer.whole_of::<SET>(Whole { x, w, acc, winners, pool, relu, xs, ys, ps })
    }

    /// Maxima of sums of a band of pooled rows at a time: only they are kept (N13).
    pub fn pooled<const SET: u32>(
        &self,
        x: &[i8],
        acc: &mut [i32],
        strip: &mut [i32],
        workspace: &mut [i32],
        indices: &mut [i8],
    ) {
        let slot = self.slot;
        let row = slot.ps.w as usize * slot.ps.c as usize;
        for (s, acc) in acc.chunks_exact_mut(slot.ps.len()).enumerate() {
            let x = span(x, s * slot.xs.len(), slot.xs.len());
            let indices = &mut indices[s * slot.winners()..];
            for (b, acc) in acc.chunks_mut(slot.band as usize * row).enumerate() {
                let first = b * slot.band as usize;
                self.band::<SET>(x, first, acc, strip, workspace, indices);
            }
        }
    }

    /// Narrowed outputs from sums that are computed twice, as many rows at a time as `words` has room for; gives their scale (N5).
    pub fn streamed<const SET: u32>(
        &self,
        x: &[i8],
        words: &mut [i32],
        workspace: &mut [i32],
        indices: &mut [i8],
        y: &mut [i8],
    ) -> Scale {
        let slot = self.slot;
        let row = slot.ps.w as usize * slot.ps.c as usize;
        let rows = if slot.pool.is_some() { slot.band as usize } else { (words.len() / row).min(slot.ps.h as usize) };
        let (acc, strip) = words.split_at_mut(rows * row);
        let (mut top, mut k) = (0, 0);
        for last in [false, true] {
            for (s, y) in y.chunks_exact_mut(slot.ps.len()).enumerate() {
                let x = span(x, s * slot.xs.len(), slot.xs.len());
                for (b, y) in y.chunks_mut(rows * row).enumerate() {
                    let (acc, first) = (&mut acc[..y.len()], b * rows);
                    if slot.pool.is_some() {
                        let indices = &mut indices[slot.indices + s * slot.winners()..];
                        self.band::<SET>(x, first, acc, strip, workspace, indices);
                    } else {
                        self.rows::<SET>(x, first, y.len() / row, acc, workspace);
                    }
                    let reach = if slot.relu { relu(acc) } else { peak(acc) };
                    if last {
                        narrow_by(acc, k, y);
                    } else {
                        top = reach.max(top);
                    }
                }
            }
            k = excess(top);
        }
        widened(self.acc_scale, k)
    }

    /// Sums of `rows` rows from `first` on, of the samples `x`.
    fn rows<const SET: u32>(&self, x: &[i8], first: usize, rows: usize, acc: &mut [i32], workspace: &mut [i32]) {
        let slot = self.slot;
        self.fill::<SET>(acc);
        let w = &self.w[..slot.weights()];
        if SET & CHOSEN == 0 {
            slot.layer.forward_of::<SET>(Forward { x, w, acc, workspace, xs: slot.xs, ys: slot.ss, first, rows });
            return;
        }
        let own = self.own.filter(|own| !own.rows.is_empty());
        let count = own.map_or(0, |own| own.rows.len() / slot.row as usize);
        let (strip, workspace) = workspace.split_at_mut(slot.own_rows() * slot.ss.w as usize * count);
        let (xs, ys) = (slot.xs, slot.ss);
        forward_of::<SET>(slot, Forward { x, w, acc: &mut *acc, workspace: &mut *workspace, xs, ys, first, rows });
        if let Some(own) = own {
            self.apart::<SET>(own, x, first, rows, acc, strip, workspace);
        }
    }

    /// The same for the rows that learn of a slot that lies apart: a band of `strip` at a time, into their channels of `acc`.
    #[allow(clippy::too_many_arguments)] // those of `rows`, and what it has found
    fn apart<const SET: u32>(
        &self,
        own: Own<'_>,
        x: &[i8],
        first: usize,
        rows: usize,
        acc: &mut [i32],
        strip: &mut [i32],
        workspace: &mut [i32],
    ) {
        let slot = self.slot;
        let (count, channels) = (own.rows.len() / slot.row as usize, slot.rows as usize);
        let (w, ys, line) = (own.rows, with_channels(slot.ss, count), slot.ss.w as usize);
        let band = strip.len() / (line * count);
        for (x, acc) in x.chunks_exact(slot.xs.len()).zip(acc.chunks_exact_mut(rows * line * channels)) {
            for (b, acc) in acc.chunks_mut(band * line * channels).enumerate() {
                let strip = &mut strip[..acc.len() / channels * count];
                let (start, rest) = strip.split_at_mut(count);
                self.aligned_once::<SET>(&mut own.numbers().map(|o| own.bias.get(o).copied().unwrap_or(0)), start);
                for rest in rest.chunks_exact_mut(count) {
                    rest.copy_from_slice(start);
                }
                let (first, rows) = (first + b * band, acc.len() / (line * channels));
                let call = Forward { x, w, acc: strip, workspace: &mut *workspace, xs: slot.xs, ys, first, rows };
                forward_of::<SET>(slot, call);
                own.scatter(strip, count, acc, channels);
            }
        }
    }

    /// Pooled rows from `first` on of one sample, and their winners among those of the sample.
    fn band<const SET: u32>(
        &self,
        x: &[i8],
        first: usize,
        acc: &mut [i32],
        strip: &mut [i32],
        workspace: &mut [i32],
        indices: &mut [i8],
    ) {
        let slot = self.slot;
        let Some(pool) = slot.pool else { return };
        let pooled = slot.ps.w as usize * slot.ps.c as usize;
        let (row, stride) = (slot.ss.w as usize * slot.ss.c as usize, pool.stride.0 as usize);
        let rows = slot.strip_rows(acc.len() / pooled);
        let strip = &mut strip[..rows * row];
        self.rows::<SET>(x, first * stride, rows, strip, workspace);
        for (i, acc) in acc.chunks_exact_mut(pooled).enumerate() {
            let at = if slot.taped { (first + i) * pooled } else { 0 };
            let index = span_mut(indices, at, pooled);
            kernels::run(
                #[inline(always)]
                || pool.pool_sums(slot.ss, &strip[i * stride * row..], acc, index),
            );
        }
    }

    /// Where all sums start (N12).
    fn fill<const SET: u32>(&self, acc: &mut [i32]) {
        if SET & BIAS == 0 || !self.slot.bias {
            acc.fill(0);
            return;
        }
        let channels = self.slot.rows as usize;
        let (start, rest) = acc.split_at_mut(channels);
        self.start::<SET>(start);
        for rest in rest.chunks_exact_mut(channels) {
            rest.copy_from_slice(start);
        }
    }

    /// Where the sums of one place start: the aligned bias, or 0 (N12).
    fn start<const SET: u32>(&self, start: &mut [i32]) {
        if SET & BIAS == 0 || !self.slot.bias {
            start.fill(0);
            return;
        }
        if SET & CHOSEN == 0 {
            self.aligned(self.w[self.slot.weights()..].iter().copied(), start);
        } else {
            let bias = self.own.map_or_else(|| &self.w[self.slot.weights()..], |own| own.bias);
            self.aligned_once::<SET>(&mut bias.iter().copied(), start);
        }
    }

    /// `aligned` in one copy, or 0 without biases.
    #[inline(never)]
    fn aligned_once<const SET: u32>(&self, bias: &mut dyn Iterator<Item = i8>, start: &mut [i32]) {
        if SET & BIAS == 0 || !self.slot.bias {
            start.fill(0);
        } else {
            self.aligned(bias, start);
        }
    }

    /// Biases as sums start with them (N12).
    #[inline(always)]
    fn aligned(&self, bias: impl Iterator<Item = i8>, start: &mut [i32]) {
        let (acc_scale, b) = (self.acc_scale, self.bias_scale);
        let f = factor(i32::from(b.u) - i32::from(acc_scale.u), i32::from(b.d) - i32::from(acc_scale.d), 1);
        let shift = i32::from(acc_scale.s) - i32::from(b.s) - f.e;
        for (v, b) in start.iter_mut().zip(bias) {
            *v = align(i32::from(b) * f.m, shift, BIAS_LIMIT);
        }
    }
}
