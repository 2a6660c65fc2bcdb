//! The backward pass of a net: errors from slot to slot, and what is done with them (N18, N28, N29, N33).

use crate::cut::{items, over};
use crate::fewshot::{Inspection, RowRate, error_sizes};
use crate::kernels::as_bytes;
use crate::layers::{
    BRANCHES, Backward, CHOSEN, Errors, INSPECT, POOL_ALONE, RELU_ALONE, Role, SIGNS, STREAMED, add_into,
};
use crate::net::{Net, beside, narrow_cut, own_of, part, span, span_mut};
use crate::optim::Recipe;
use crate::own_rows::{OwnErrors, backward_of, move_errors, resident_len};
use crate::plan::{INPUT, Learns, Slot, SlotScales};
use crate::rescale::{excess, mask, narrow_by, peak, widened};
use crate::signs::mask_by;
use crate::tensor::Scale;
use crate::update::Update;

/// What becomes of the error at a slot once it has been passed on.
pub(crate) enum After<'a, 'm> {
    /// What is to be trained learns from it.
    Learn(&'a Recipe),
    /// The same, rows chosen by the size of their errors (N37), with a rate for every slot.
    LearnBySize(&'a Recipe, &'a mut [RowRate]),
    /// It is weighed with the output (N33).
    Inspect(&'a mut Inspection<'m>),
}

impl<const SET: u32> Net<'_, SET> {
    /// Errors and updates from the last slot to the first trained one (N18, N28).
    pub(crate) fn backward(&mut self, samples: usize, input: Scale, mut after: After<'_, '_>) {
        let mut chosen = self.chosen.len();
        for i in (self.first..self.slots.len()).rev() {
            let slot = &self.slots[i];
            if !slot.taped {
                continue;
            }
            self.pass(i, 0, samples);
            if SET & BRANCHES != 0 && slot.role == Role::Add {
                self.pass(i, 1, samples);
            }
            let recipe = match &mut after {
                After::Learn(recipe) => recipe,
                After::Inspect(table) if SET & INSPECT != 0 => {
                    if slot.inspected {
                        let n = slot.ys.len();
                        let (y, dy) = (span(self.activations, slot.y, n), span(self.activations, slot.dy, n));
                        let SlotScales { y: a, e, .. } = self.scales[i];
                        table.add(i, y, dy, a.times(e).s.into(), self.words);
                    }
                    continue;
                }
                After::LearnBySize(recipe, rates) if SET & CHOSEN != 0 => {
                    if slot.learns == Learns::Rows {
                        let start = chosen - slot.chosen();
                        let dy = span(self.activations, slot.dy, samples * slot.ys.len());
                        let sizes = &mut self.words[..slot.rows as usize];
                        error_sizes(dy, sizes);
                        rates[i].choose(sizes, self.scales[i].e, &mut self.chosen[start..chosen]);
                    }
                    recipe
                }
                _ => continue,
            };
            if slot.trained() {
                chosen -= slot.chosen();
                let x_scale = if slot.source == INPUT { input } else { self.scales[usize::from(slot.source)].y };
                let scales = &self.scales[i];
                let start = slot.w - self.base;
                let len = if SET & CHOSEN != 0 && slot.apart() {
                    resident_len(self.slots, i, self.weights.len())
                } else {
                    slot.weights() + slot.biases()
                };
                let w = span_mut(self.weights, start, len);
                Update {
                    slot,
                    x: span(self.activations, slot.x, samples * slot.xs.len()),
                    errors: errors_of::<SET>(
                        slot,
                        span(self.activations, slot.dy, samples * slot.ys.len()),
                        self.indices,
                    ),
                    words: self.words,
                    workspace: self.workspace,
                    scales,
                    gradient: scales.e.times(x_scale),
                    error: scales.e,
                    samples,
                    gradient_rows: self.gradient_rows,
                    threads: self.threads,
                    state: *self.state,
                    recipe,
                    chosen: span(self.chosen, chosen, slot.chosen()),
                }
                .apply::<SET>(w);
            }
        }
    }

    /// Passes the error at slot `i` on to the source of one side, if anything behind it wants it.
    fn pass(&mut self, i: usize, side: usize, samples: usize) {
        let slot = &self.slots[i];
        if !slot.passes[side] {
            return;
        }
        let source = usize::from(if side == 0 { slot.source } else { slot.second });
        let (from, n) = (&self.slots[source], samples * slot.xs.len());
        let further = SET & BRANCHES != 0 && slot.further[side];
        let at = if further { self.spare } else { from.dy };
        // a slot that lies apart passes on the errors of the rows in RAM by themselves
        let own = own_of::<SET>(self.slots, i, self.frozen, self.weights, self.chosen);
        let len = samples * slot.ys.len();
        let mut more = OwnErrors::NONE;
        if SET & CHOSEN != 0
            && let Some(own) = &own
        {
            let index = span_mut(self.indices, slot.indices, if slot.pool.is_some() { len } else { 0 });
            let moved = as_bytes(self.workspace);
            let count = move_errors(slot, own, span_mut(self.activations, slot.dy, len), index, moved, false);
            more = OwnErrors::new(slot, own, moved, len, count);
        }
        let (others, dx) = beside(self.activations, at, n);
        let dy = others.span(slot.dy, len);
        let errors = errors_of::<SET>(slot, dy, self.indices);
        let mut scale = self.scales[i].e;
        let bits = if SET & SIGNS != 0 { from.sign_bytes() } else { 0 };
        let signs = if bits > 0 { span(self.signs, from.bits, samples * bits) } else { &[][..] };
        let seen = if from.relu && bits == 0 { others.span(from.y, n) } else { &[][..] };
        match slot.role {
            Role::ReLU if SET & RELU_ALONE != 0 => dx.copy_from_slice(dy),
            Role::Add if SET & BRANCHES != 0 => {
                dx.copy_from_slice(dy);
                if bits > 0 {
                    let n = slot.xs.len();
                    for (dx, signs) in dx.chunks_exact_mut(n).zip(signs.chunks_exact(bits)) {
                        mask_by(dx, signs, 0);
                    }
                }
                for (dx, &x) in dx.iter_mut().zip(seen) {
                    if x <= 0 {
                        *dx = 0;
                    }
                }
            }
            _ => {
                let w = own.map_or_else(|| part(self.frozen, self.weights, self.base, slot), |own| own.frozen);
                let w = &w[..slot.weights()];
                if let Role::Sums { exponent } = slot.role {
                    scale = scale.times(self.scales[i].w).shifted(exponent);
                }
                let masks = Masks { seen, signs };
                if SET & STREAMED != 0 && slot.twice[1] {
                    scale = widened(scale, input_errors_twice::<SET>(slot, w, errors, more, masks, self.words, dx));
                } else {
                    let acc = &mut self.words[..n];
                    let each = slot.xs.len();
                    let masks = (items(masks.seen, if masks.seen.is_empty() { 0 } else { each }), items(signs, bits));
                    let parts = slot.parts(samples, self.threads);
                    let whole = 0..slot.xs.h as usize;
                    let top = if SET & CHOSEN == 0 {
                        let work = (errors, masks, items(&mut *acc, each));
                        over(work, samples, parts, &|(errors, masks, acc)| {
                            let masks = Masks { seen: masks.0.slice, signs: masks.1.slice };
                            input_errors::<SET>(slot, w, errors, OwnErrors::NONE, masks, acc.slice, whole.clone())
                        })
                    } else {
                        let work = ((errors, more.errors), masks, items(&mut *acc, each));
                        over(work, samples, parts, &|((errors, own), masks, acc)| {
                            let masks = Masks { seen: masks.0.slice, signs: masks.1.slice };
                            let more = OwnErrors { errors: own, ..more };
                            input_errors::<SET>(slot, w, errors, more, masks, acc.slice, whole.clone())
                        })
                    };
                    scale = narrow_cut(acc, top, scale, dx, self.threads);
                }
            }
        }
        if SET & CHOSEN != 0
            && let Some(own) = &own
        {
            let index = span_mut(self.indices, slot.indices, if slot.pool.is_some() { len } else { 0 });
            move_errors(slot, own, span_mut(self.activations, slot.dy, len), index, as_bytes(self.workspace), true);
        }
        if further {
            let (others, sum) = beside(self.activations, from.dy, n);
            scale = add_into(sum, self.scales[source].e, others.span(at, n), scale, false);
        }
        self.scales[source].e = scale;
    }
}

/// The errors `dy` at the sums of a slot.
fn errors_of<'a, const SET: u32>(slot: &Slot, dy: &'a [i8], indices: &'a [i8]) -> Errors<'a> {
    let pool = match slot.role {
        Role::MaxPool(pool) if SET & POOL_ALONE != 0 => Some(pool),
        _ => slot.pool,
    };
    let index = if pool.is_some() { span(indices, slot.indices, dy.len()) } else { &[][..] };
    Errors { dy, index, pool, ps: slot.ps }
}

/// Where the inputs of some rows were not positive: by the inputs themselves, by their signs, or nowhere.
#[derive(Clone, Copy)]
struct Masks<'a> {
    /// Inputs behind a ReLU, or empty.
    seen: &'a [i8],
    /// Signs of all inputs of every sample, or empty.
    signs: &'a [i8],
}

/// The masked errors of the input rows `rows` of every sample (N18). Gives a number as long in bits as the largest magnitude.
fn input_errors<const SET: u32>(
    slot: &Slot,
    w: &[i8],
    errors: Errors<'_>,
    more: OwnErrors<'_>,
    masks: Masks<'_>,
    acc: &mut [i32],
    rows: core::ops::Range<usize>,
) -> u32 {
    acc.fill(0);
    if slot.sums() {
        let (xs, first, rows) = (slot.xs, rows.start, rows.len());
        if SET & CHOSEN == 0 {
            slot.layer.backward_of::<SET>(Backward { w, errors, acc: &mut *acc, xs, first, rows });
        } else {
            backward_of::<SET>(slot, Backward { w, errors, acc: &mut *acc, xs, first, rows });
            if let OwnErrors { rows: w @ [_, ..], errors } = more {
                backward_of::<SET>(slot, Backward { w, errors, acc: &mut *acc, xs, first, rows });
            }
        }
    } else if SET & POOL_ALONE != 0 {
        scatter(errors, slot.xs, acc, rows.clone());
    }
    if SET & SIGNS != 0 && !masks.signs.is_empty() {
        let row = slot.xs.w as usize * slot.xs.c as usize;
        let (n, bytes) = (rows.len() * row, slot.xs.len().div_ceil(8));
        for (acc, signs) in acc.chunks_exact_mut(n).zip(masks.signs.chunks_exact(bytes)) {
            mask_by(acc, signs, rows.start * row);
        }
    }
    if masks.seen.is_empty() { peak(acc) } else { mask(acc, masks.seen) }
}

/// The same narrowed, from errors that are computed twice, as many rows at a time as `words` has room for; gives k of N5.
fn input_errors_twice<const SET: u32>(
    slot: &Slot,
    w: &[i8],
    errors: Errors<'_>,
    more: OwnErrors<'_>,
    masks: Masks<'_>,
    words: &mut [i32],
    dx: &mut [i8],
) -> u32 {
    let row = slot.xs.w as usize * slot.xs.c as usize;
    let rows = (words.len() / row).min(slot.xs.h as usize);
    let (mut top, mut k) = (0, 0);
    for last in [false, true] {
        for (s, dx) in dx.chunks_exact_mut(slot.xs.len()).enumerate() {
            for (b, dx) in dx.chunks_mut(rows * row).enumerate() {
                let (first, acc) = (b * rows, &mut words[..dx.len()]);
                let (n, bytes) = (slot.xs.len(), slot.xs.len().div_ceil(8));
                let Masks { seen, signs } = masks;
                let seen = if seen.is_empty() { seen } else { &seen[s * n + first * row..][..dx.len()] };
                let signs = if signs.is_empty() { signs } else { span(signs, s * bytes, bytes) };
                let masks = Masks { seen, signs };
                let more = if SET & CHOSEN == 0 { more } else { OwnErrors { errors: more.errors.sample(s), ..more } };
                let rows = first..first + dx.len() / row;
                let reach = input_errors::<SET>(slot, w, errors.sample(s), more, masks, acc, rows);
                if last {
                    narrow_by(acc, k, dx);
                } else {
                    top = reach.max(top);
                }
            }
        }
        k = excess(top);
    }
    k
}

/// Errors of a MaxPool2d on mantissas to the first maxima (N18), those in the rows `rows`.
fn scatter(errors: Errors<'_>, xs: crate::shape::Shape, acc: &mut [i32], rows: core::ops::Range<usize>) {
    let (w, c) = (xs.w as usize, xs.c as usize);
    for (s, acc) in acc.chunks_exact_mut(rows.len() * w * c).enumerate() {
        errors.sample(s).for_each(0..c, |i, j, ch, d| {
            if rows.contains(&i) {
                acc[((i - rows.start) * w + j) * c + ch] += i32::from(d);
            }
        });
    }
}
