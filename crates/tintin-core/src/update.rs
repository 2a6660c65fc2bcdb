//! The update of a slot: exact gradient rows, a block at a time, and the rule that turns each into new weights (N19, N21).

use crate::cut::{items, over, parts_of_pass, scratch};
use crate::fewshot::is_set;
use crate::kernels::Outer;
use crate::layers::{BIAS, CHOSEN, Errors, Gradient};
use crate::net::State;
use crate::optim::{
    Alignment, NitiShift, Recipe, Rule, niti_row, tintin_outer, tintin_outer_row, tintin_row, tintin_rows,
};
use crate::rescale::peak;
use crate::rng::Draws;
#[cfg(feature = "std")]
use crate::rng::Rows;
use crate::slot::{Learns, Slot, SlotScales};
use crate::tensor::Scale;

/// The update of one slot.
pub(crate) struct Update<'a> {
    pub slot: &'a Slot,
    pub x: &'a [i8],
    pub errors: Errors<'a>,
    pub words: &'a mut [i32],
    pub workspace: &'a mut [i32],
    pub scales: &'a SlotScales,
    /// Scale of the weight gradient.
    pub gradient: Scale,
    /// Scale of the error, which is that of the bias gradient.
    pub error: Scale,
    pub samples: usize,
    pub gradient_rows: usize,
    pub threads: usize,
    pub state: State,
    pub recipe: &'a Recipe,
    /// Bit mask of the rows that learn, where only some do.
    pub chosen: &'a [i8],
}

impl Update<'_> {
    pub fn apply<const SET: u32>(mut self, w: &mut [i8]) {
        let (rows, row) = (self.slot.rows as usize, self.slot.row as usize);
        if SET & CHOSEN != 0 && self.slot.learns != Learns::All {
            let (weights, bias) = w.split_at_mut(w.len() - self.slot.biases());
            self.partly::<SET>(weights, bias);
            return;
        }
        let (weights, bias) = w.split_at_mut(self.slot.weights());
        let block = if self.gradient_rows == 0 { rows } else { self.gradient_rows.min(rows) };
        let step = self.state.step;
        match self.recipe.rule {
            Rule::TinTin { margin } => {
                let a = self.alignment(self.gradient, self.scales.w, margin);
                let rounding = self.recipe.rounding;
                if self.samples == 1 && self.slot.layer.is_outer() {
                    self.outer(weights, a);
                } else {
                    for (b, weights) in weights.chunks_mut(block * row).enumerate() {
                        let first = b * block;
                        #[cfg(feature = "threads")]
                        if self.by_rows::<SET>(weights, first, a) {
                            continue;
                        }
                        self.rows::<SET>(first..first + weights.len() / row);
                        let draws = self.draws();
                        self.step(weights, first, |w, g, first| {
                            tintin_rows(w, g, row, a, rounding, |r| draws(first + r));
                        });
                    }
                }
                if SET & BIAS != 0 && !bias.is_empty() {
                    self.bias_row();
                    let a = self.alignment(self.error, self.scales.b, margin);
                    let g = &self.words[..rows];
                    tintin_row(bias, g, a, self.recipe.rounding, self.draws()(rows));
                }
            }
            Rule::Niti => {
                let mu = self.recipe.mu(step);
                let mut top = 0;
                for o in (0..rows).step_by(block) {
                    let count = block.min(rows - o);
                    self.rows::<SET>(o..o + count);
                    top = peak(&self.words[..count * row]).max(top);
                }
                if let Some(n) = NitiShift::new(top, mu) {
                    let rounding = self.recipe.rounding;
                    for (b, weights) in weights.chunks_mut(block * row).enumerate() {
                        let first = b * block;
                        if block < rows {
                            self.rows::<SET>(first..first + weights.len() / row);
                        }
                        let draws = self.draws();
                        self.step(weights, first, |w, g, first| {
                            for (r, (w, g)) in w.chunks_exact_mut(row).zip(g.chunks_exact(row)).enumerate() {
                                niti_row(w, g, n, rounding, draws(first + r));
                            }
                        });
                    }
                }
                if SET & BIAS != 0 && !bias.is_empty() {
                    self.bias_row();
                    let g = &self.words[..rows];
                    if let Some(n) = NitiShift::new(peak(g), mu) {
                        niti_row(bias, g, n, self.recipe.rounding, self.draws()(rows));
                    }
                }
            }
        }
    }

    /// Some rows and their biases, or the biases alone (N29). `weights`: all rows, or those that learn where they lie apart.
    fn partly<const SET: u32>(&mut self, weights: &mut [i8], bias: &mut [i8]) {
        let (rows, row) = (self.slot.rows as usize, self.slot.row as usize);
        let (recipe, step) = (self.recipe, self.state.step);
        let (rounding, draws) = (recipe.rounding, self.draws());
        let learn = if self.slot.trains_weights() { rows } else { 0 };
        // the largest gradient of all rows decides NITI's shift, so its rows are summed twice
        let mut top = 0;
        for last in [!matches!(recipe.rule, Rule::Niti), true] {
            let niti = NitiShift::new(top, recipe.mu(step));
            for (r, o) in (0..learn).filter(|&o| is_set(self.chosen, o)).enumerate() {
                let at = if self.slot.apart() { r } else { o };
                self.rows::<SET>(o..o + 1);
                let (w, g) = (&mut weights[at * row..][..row], &self.words[..row]);
                match recipe.rule {
                    Rule::TinTin { margin } if last => {
                        tintin_row(w, g, self.alignment(self.gradient, self.scales.w, margin), rounding, draws(o));
                    }
                    Rule::Niti if last => {
                        if let Some(n) = niti {
                            niti_row(w, g, n, rounding, draws(o));
                        }
                    }
                    _ => top = peak(g).max(top),
                }
            }
            if last {
                break;
            }
        }
        if bias.is_empty() {
            return;
        }
        self.bias_row();
        if self.slot.trains_weights() {
            for o in (0..rows).filter(|&o| !is_set(self.chosen, o)) {
                self.words[o] = 0;
            }
        }
        let g = &self.words[..rows];
        match recipe.rule {
            Rule::TinTin { margin } => {
                let a = self.alignment(self.error, self.scales.b, margin);
                tintin_row(bias, g, a, rounding, draws(rows));
            }
            Rule::Niti => {
                if let Some(n) = NitiShift::new(peak(g), recipe.mu(step)) {
                    niti_row(bias, g, n, rounding, draws(rows));
                }
            }
        }
    }

    /// The TinTin rule for a gradient that is an outer product.
    fn outer(&mut self, weights: &mut [i8], a: Alignment) {
        let row = self.slot.row as usize;
        let draws = self.draws();
        if tintin_outer(weights, self.errors.dy, self.x, a, self.recipe.rounding, draws) {
            return;
        }
        let top = self.x.iter().fold(0, |top, x| top.max(x.unsigned_abs()));
        let mut from = 0;
        while from < row {
            let words = core::mem::take(&mut self.words);
            let part = Outer::new(words, self.x, from);
            for (o, (w, &d)) in weights.chunks_exact_mut(row).zip(self.errors.dy).enumerate() {
                if d != 0 {
                    tintin_outer_row(w, d, &part, top.into(), a, self.recipe.rounding, draws(o));
                }
            }
            from = part.end();
            self.words = words;
        }
    }

    /// Where threads cut the gradient by weight rows: moves those from number `first` on, each part of them by its own; else false.
    #[cfg(feature = "threads")]
    fn by_rows<const SET: u32>(&mut self, weights: &mut [i8], first: usize, a: Alignment) -> bool {
        let (slot, row, rounding) = (self.slot, self.slot.row as usize, self.recipe.rounding);
        let parts = slot.gradient_parts(self.samples, self.threads);
        if parts == 1 || slot.adds_up_samples() {
            return false;
        }
        let (x, errors, xs, count, draws) = (self.x, self.errors, slot.xs, weights.len() / row, self.draws());
        let acc = items(&mut self.words[..weights.len()], row);
        let work = (first..first + count, items(weights, row), acc, scratch(&mut *self.workspace, slot.workspace));
        over(work, count, parts.min(count), &|(rows, w, acc, workspace)| {
            let (first, acc, workspace) = (rows.start, acc.slice, workspace.slice);
            acc.fill(0);
            slot.layer.gradient_of::<SET>(Gradient { x, errors, acc: &mut *acc, xs, rows, workspace });
            tintin_rows(w.slice, acc, row, a, rounding, |r| draws(first + r));
            0
        });
        true
    }

    /// Exact gradient of some weight rows, into the words.
    fn rows<const SET: u32>(&mut self, rows: core::ops::Range<usize>) {
        let (layer, xs, row) = (self.slot.layer, self.slot.xs, self.slot.row as usize);
        let gradient = |x, errors, rows, acc: &mut [i32], workspace| {
            acc.fill(0);
            layer.gradient_of::<SET>(Gradient { x, errors, acc, xs, rows, workspace });
            0
        };
        let (x, errors, len, count) = (self.x, self.errors, rows.len() * row, rows.len());
        let parts = self.slot.gradient_parts(self.samples, self.threads);
        if parts == 1 {
            gradient(x, errors, rows, &mut self.words[..len], &mut *self.workspace);
            return;
        }
        let workspace = scratch(&mut *self.workspace, self.slot.workspace);
        if !self.slot.adds_up_samples() {
            let work = (rows, items(&mut self.words[..len], row), workspace);
            over(work, count, parts.min(count), &|(rows, acc, workspace)| {
                gradient(x, errors, rows, acc.slice, workspace.slice)
            });
            return;
        }
        let work = (errors, items(x, xs.len()), scratch(&mut self.words[..parts * len], len), workspace);
        over(work, self.samples, parts, &|(errors, x, acc, workspace)| {
            gradient(x.slice, errors, rows.clone(), acc.slice, workspace.slice)
        });
        let (sums, others) = self.words[..parts * len].split_at_mut(len);
        for other in others.chunks_exact(len) {
            for (sum, part) in sums.iter_mut().zip(other) {
                *sum = sum.wrapping_add(*part);
            }
        }
    }

    /// Moves the weight rows from number `first` on by the gradient in the words: `apply` does so for some rows, with their first number.
    #[inline(always)]
    fn step(&self, weights: &mut [i8], first: usize, apply: impl Fn(&mut [i8], &[i32], usize) + Sync) {
        let (row, n) = (self.slot.row as usize, weights.len());
        let rows = n / row;
        let work = (first..first + rows, items(weights, row), items(&self.words[..n], row));
        over(work, rows, parts_of_pass(n, self.threads).min(rows), &|(rows, w, g)| {
            apply(w.slice, g.slice, rows.start);
            0
        });
    }

    /// Exact gradient of the bias, into the words.
    fn bias_row(&mut self) {
        let channels = self.slot.rows as usize;
        let acc = &mut self.words[..channels];
        acc.fill(0);
        for dy in self.errors.dy.chunks_exact(channels) {
            for (acc, &d) in acc.iter_mut().zip(dy) {
                *acc += i32::from(d);
            }
        }
    }

    fn alignment(&self, gradient: Scale, weights: Scale, margin: u8) -> Alignment {
        let batch = u32::try_from(self.samples).unwrap_or(u32::MAX);
        let shift = self.recipe.learning_shift(self.state.step);
        Alignment::new(gradient, weights, batch, shift, margin)
    }

    /// The draws of all rows. Where flash is short each is hashed from the start: nothing need be kept for it.
    #[cfg(feature = "std")]
    fn draws(&self) -> impl Fn(usize) -> Draws + Copy + use<> {
        let rows = Rows::new(self.state.seed, self.state.step, self.slot.index);
        move |row| rows.row(u32::try_from(row).unwrap_or(u32::MAX))
    }

    /// The same.
    #[cfg(not(feature = "std"))]
    fn draws(&self) -> impl Fn(usize) -> Draws + Copy + use<> {
        let (state, layer) = (self.state, self.slot.index);
        move |row| Draws::new(state.seed, state.step, layer, u32::try_from(row).unwrap_or(u32::MAX))
    }
}
