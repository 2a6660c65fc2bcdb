//! The net: the only loops over layers. Borrows memory from whoever owns it and computes; see `docs/engine.md` for the picture.
//!
//! Once a plan exists nothing here fails, allocates, or knows which machine it is on. Slices of a wrong length are the
//! caller's bug and panic; owners (`Arena`, `heap::Model`) hand out the planned ones.

use crate::backward::After;
use crate::cut::{items, over, parts_of_pass, scratch};
use crate::digest;
use crate::error::FileError;
use crate::file::{Header, Weights};
use crate::forward::SumsCall;
use crate::layers::{ALL, BIAS, BRANCHES, CHOSEN, POOL_ALONE, RELU_ALONE, Role, SIGNS, STREAMED, add_into};
use crate::loss::{Loss, Score, Target, argmax, cross_entropy, niti_draws, niti_error, squared_error};
use crate::optim::{ADJUST_EVERY, Recipe, Rule, adjust};
use crate::own_rows::Own;
use crate::plan::{INPUT, Learns, Sizes, Slot, SlotScales};
use crate::rescale::{clip, excess, mask, narrow_below, narrow_by, peak, relu, root, widened};
use crate::rng::{Draws, INITIAL};
use crate::signs::keep;
use crate::tensor::{Scale, Tensor};

/// What a net keeps besides weights and scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Seed of all draws.
    pub seed: u32,
    /// Training steps so far.
    pub step: u32,
}

/// The memory a net works in, lent by its owner. Lengths as in [`Sizes`].
pub struct Memory<'m> {
    /// Weights that are not trained, [`Sizes::frozen`] of them; may lie in flash.
    pub frozen: &'m [i8],
    /// The other weights, [`Sizes::resident`] of them.
    pub weights: &'m mut [i8],
    /// Activations and errors, signs, indices, chosen rows: [`Sizes::bytes`] of them.
    pub bytes: &'m mut [i8],
    /// Sums and workspace: [`Sizes::all_words`] of them.
    pub words: &'m mut [i32],
    /// Scales of every slot.
    pub scales: &'m mut [SlotScales],
    /// Seed and step.
    pub state: &'m mut State,
}

/// A planned net in borrowed memory. `SET` is the set of layers it has code for: all, unless [`lean`](Net::lean) made it.
pub struct Net<'m, const SET: u32 = ALL> {
    pub(crate) slots: &'m [Slot],
    pub(crate) list: u32,
    pub(crate) first: usize,
    pub(crate) gradient_rows: usize,
    pub(crate) threads: usize,
    pub(crate) base: usize,
    pub(crate) input: usize,
    pub(crate) spare: usize,
    pub(crate) frozen: &'m [i8],
    pub(crate) weights: &'m mut [i8],
    pub(crate) activations: &'m mut [i8],
    pub(crate) signs: &'m mut [i8],
    pub(crate) indices: &'m mut [i8],
    pub(crate) chosen: &'m mut [i8],
    pub(crate) workspace: &'m mut [i32],
    pub(crate) words: &'m mut [i32],
    pub(crate) scales: &'m mut [SlotScales],
    pub(crate) state: &'m mut State,
}

impl<'m> Net<'m> {
    /// A net over the slots and sizes of one plan.
    pub fn new(slots: &'m [Slot], sizes: &Sizes, memory: Memory<'m>) -> Self {
        Self::lean(slots, sizes, memory)
    }
}

impl<'m, const SET: u32> Net<'m, SET> {
    /// The same without the code of layers outside `SET`, for small flash: see [`Sizes::set`].
    ///
    /// # Panics
    /// If a slot needs what is not in the set.
    pub fn lean(slots: &'m [Slot], sizes: &Sizes, memory: Memory<'m>) -> Self {
        assert!(sizes.set & !SET == 0, "a net whose code lacks one of its layers");
        let Memory { frozen, weights, bytes, words, scales, state } = memory;
        let (activations, rest) = bytes.split_at_mut(sizes.activations);
        let (signs, rest) = rest.split_at_mut(sizes.signs);
        let (indices, rest) = rest.split_at_mut(sizes.indices);
        let (words, workspace) = words.split_at_mut(sizes.words);
        Self {
            slots: &slots[..sizes.slots],
            list: sizes.list,
            first: sizes.first,
            gradient_rows: sizes.gradient_rows,
            threads: sizes.threads,
            base: sizes.base(),
            input: sizes.input,
            spare: sizes.spare,
            frozen: &frozen[..sizes.frozen],
            weights: &mut weights[..sizes.resident],
            activations,
            signs,
            indices,
            chosen: &mut rest[..sizes.chosen],
            workspace: &mut workspace[..sizes.workspace],
            words,
            scales: &mut scales[..sizes.slots],
            state,
        }
    }

    /// Number of values of one input sample.
    pub fn input_len(&self) -> usize {
        self.slots[0].xs.len()
    }

    /// Number of outputs.
    pub fn output_len(&self) -> usize {
        self.slots[self.slots.len() - 1].ys.len()
    }

    /// Threads that a batch is cut over: worth a pool if more than 1.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Seed and step.
    pub fn state(&self) -> State {
        *self.state
    }

    /// Draws initial weights (N9) and zeroes the biases of every slot that lies in RAM as a whole; step 0.
    pub fn initialise(&mut self, seed: u32) {
        *self.state = State { seed, step: 0 };
        for (slot, scales) in self.slots.iter().zip(&mut *self.scales) {
            if slot.rows == 0 || !slot.resident || SET & CHOSEN != 0 && slot.apart() {
                continue;
            }
            let row = slot.row as usize;
            let w = span_mut(self.weights, slot.w - self.base, slot.weights() + slot.biases());
            let (weights, bias) = w.split_at_mut(slot.weights());
            let top;
            (top, scales.w) = initial_range(slot.row + slot.fan_out);
            for (o, w) in (0..).zip(weights.chunks_exact_mut(row)) {
                let mut draws = Draws::new(seed, INITIAL, slot.index, o);
                for w in w {
                    *w = clip(draws.below(2 * top + 1).cast_signed() - top.cast_signed());
                }
            }
            bias.fill(0);
            scales.b = Scale::pow2(-7);
        }
    }

    /// Outputs of one sample `x` of scale 2^`exponent`; narrowed by its own peaks (N5).
    pub fn predict(&mut self, x: &[i8], exponent: i16) -> Tensor<'_> {
        self.forward(x, exponent);
        let last = self.slots.len() - 1;
        let (slot, scale) = (&self.slots[last], self.scales[last].y);
        Tensor { mantissas: span(self.activations, slot.y, slot.ys.len()), scale }
    }

    /// Class of one sample: the first largest output.
    pub fn classify(&mut self, x: &[i8], exponent: i16) -> usize {
        argmax(self.predict(x, exponent).mantissas)
    }

    /// Loss of one sample without learning from it.
    pub fn evaluate(&mut self, x: &[i8], exponent: i16, target: Target<'_>, loss: Loss) -> Score {
        self.forward(x, exponent);
        self.measure(target, loss, 1)
    }

    /// One training step on the samples `x` of scale 2^`exponent`, at most the planned batch (N25).
    ///
    /// `target` is labels for the cross-entropies and values for the squared error.
    ///
    /// # Panics
    /// On a label that is not below the number of outputs, and on slices of other lengths than planned: bugs of the caller, which owners
    /// of data check beforehand.
    pub fn train_step(&mut self, x: &[i8], exponent: i16, target: Target<'_>, recipe: &Recipe) -> Score {
        let samples = self.forward(x, exponent);
        let score = self.measure(target, recipe.loss, samples);
        let scale = match recipe.loss {
            Loss::NitiCrossEntropy => Scale::pow2(-7),
            Loss::CrossEntropy | Loss::SquaredError => Scale::pow2(-15),
        };
        if self.narrow_errors(samples, scale) {
            self.backward(samples, Scale::pow2(exponent), After::Learn(recipe));
        }
        self.count(recipe);
        score
    }

    /// The end of a step: the look at the ranges when it is due (N20), and the counter.
    pub(crate) fn count(&mut self, recipe: &Recipe) {
        if matches!(recipe.rule, Rule::TinTin { .. }) && self.state.step.wrapping_add(1).is_multiple_of(ADJUST_EVERY) {
            self.adjust();
        }
        self.state.step = self.state.step.wrapping_add(1);
    }

    /// The output errors in the words, of that scale, become the error of the last slot; false if all of them are 0.
    pub(crate) fn narrow_errors(&mut self, samples: usize, scale: Scale) -> bool {
        let n = samples * self.output_len();
        let last = self.slots.len() - 1;
        let (slot, sums) = (&self.slots[last], &mut self.words[..n]);
        let top = if slot.relu { mask(sums, span(self.activations, slot.y, n)) } else { peak(sums) };
        let errors = span_mut(self.activations, slot.dy, n);
        self.scales[last].e = narrow_below(sums, top, scale, errors);
        errors.iter().any(|&d| d != 0)
    }

    /// Takes weights, scales, seed and step from a `.tin` file of the same layers; a frozen prefix stays where it is.
    ///
    /// # Errors
    /// A file that is altered or of other layers; then nothing is changed.
    pub fn load(&mut self, file: &[u8]) -> Result<(), FileError> {
        let header = Header::read(file)?;
        if header.list_sum(file) != self.list {
            return Err(FileError::Value("layer list: the file has other layers than this net"));
        }
        let sizes =
            Sizes { slots: self.slots.len(), weights: self.frozen.len() + self.weights.len(), ..Sizes::default() };
        let weights = Weights::read(file, self.slots, &sizes)?;
        let (frozen, trained) = weights.mantissas.split_at(self.frozen.len());
        if frozen != self.frozen {
            return Err(FileError::Value("frozen weights: the file has others than this net"));
        }
        self.weights.copy_from_slice(trained);
        weights.scales(self.slots, self.scales);
        *self.state = header.state;
        Ok(())
    }

    /// FNV-1a over all weights and scales (N24).
    pub fn digest(&self) -> u64 {
        if SET & CHOSEN != 0 {
            return self.digest_by_rows();
        }
        digest::net(self.slots, self.scales, |slot| part(self.frozen, self.weights, self.base, slot))
    }

    /// Runs every slot and returns the number of samples.
    pub(crate) fn forward(&mut self, x: &[i8], exponent: i16) -> usize {
        let samples = x.len() / self.input_len();
        span_mut(self.activations, self.input, x.len()).copy_from_slice(x);
        for i in 0..self.slots.len() {
            let slot = &self.slots[i];
            let mut scale = self.source_scale(slot.source, exponent);
            let (others, y) = beside(self.activations, slot.y, samples * slot.ys.len());
            let x = others.span(slot.x, samples * slot.xs.len());
            match slot.role {
                Role::Sums { exponent } => {
                    let acc_scale = scale.times(self.scales[i].w).shifted(exponent);
                    let own = own_of::<SET>(self.slots, i, self.frozen, self.weights, self.chosen);
                    let w = own.map_or_else(|| part(self.frozen, self.weights, self.base, slot), |own| own.frozen);
                    let workspace = &mut *self.workspace;
                    let call = SumsCall { slot, w, own, acc_scale, bias_scale: self.scales[i].b };
                    if SET & STREAMED != 0 && slot.twice[0] {
                        scale = call.streamed::<SET>(x, self.words, workspace, self.indices, y);
                    } else {
                        let (acc, strips) = self.words.split_at_mut(samples * slot.ps.len());
                        let indices = if slot.taped {
                            items(span_mut(self.indices, slot.indices, samples * slot.winners()), slot.winners())
                        } else {
                            scratch(
                                &mut *self.indices,
                                if slot.pools() { slot.ps.w as usize * slot.ps.c as usize } else { 0 },
                            )
                        };
                        let rest = (indices, scratch(strips, slot.strip()), scratch(workspace, slot.workspace));
                        let work = (items(x, slot.xs.len()), items(&mut *acc, slot.ps.len()), rest);
                        let top = over(work, samples, slot.parts(samples, self.threads), &|(x, acc, rest)| {
                            let (indices, strip, workspace) = rest;
                            if let Some(top) = call.direct::<SET>(x.slice, acc.slice, indices.slice) {
                                return top;
                            }
                            match slot.pool {
                                None => call.whole::<SET>(x.slice, acc.slice, workspace.slice),
                                Some(_) => {
                                    let indices = indices.slice;
                                    call.pooled::<SET>(x.slice, acc.slice, strip.slice, workspace.slice, indices);
                                }
                            }
                            if slot.relu { relu(acc.slice) } else { peak(acc.slice) }
                        });
                        scale = narrow_cut(acc, top, acc_scale, y, self.threads);
                    }
                }
                Role::MaxPool(pool) if SET & POOL_ALONE != 0 => {
                    let pooled = slot.ps.w as usize * slot.ps.c as usize;
                    for (o, y) in y.chunks_exact_mut(pooled).enumerate() {
                        let (s, i) = (o / slot.ps.h as usize, o % slot.ps.h as usize);
                        let top = i * pool.stride.0 as usize * slot.xs.w as usize * slot.xs.c as usize;
                        let at = if slot.taped { slot.indices + o * pooled } else { 0 };
                        let x = &x[s * slot.xs.len() + top..];
                        pool.pool_row(slot.xs, x, y, span_mut(self.indices, at, pooled));
                    }
                }
                Role::ReLU if SET & RELU_ALONE != 0 => {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x.max(0);
                    }
                }
                Role::Add if SET & BRANCHES != 0 => {
                    y.copy_from_slice(x);
                    let second = usize::from(slot.second);
                    let b = others.span(self.slots[second].y, y.len());
                    scale = add_into(y, scale, b, self.scales[second].y, slot.relu);
                }
                _ => {}
            }
            self.scales[i].y = scale;
            if SET & SIGNS != 0 && slot.signs {
                let (n, bytes) = (slot.ys.len(), slot.sign_bytes());
                let y = span(self.activations, slot.y, samples * n);
                let signs = span_mut(self.signs, slot.bits, samples * bytes);
                for (y, signs) in y.chunks_exact(n).zip(signs.chunks_exact_mut(bytes)) {
                    keep(y, signs);
                }
            }
        }
        samples
    }

    /// Scale of the output of slot `source`, or of the net's input.
    pub(crate) fn source_scale(&self, source: u16, input: i16) -> Scale {
        if source == INPUT { Scale::pow2(input) } else { self.scales[usize::from(source)].y }
    }

    /// Leaves the output errors in the words and returns the value of the loss.
    fn measure(&mut self, target: Target<'_>, loss: Loss, samples: usize) -> Score {
        debug_assert_eq!(matches!(target, Target::Values(..)), loss == Loss::SquaredError, "target and loss disagree");
        let last = self.slots.len() - 1;
        let (slot, scale) = (&self.slots[last], self.scales[last].y);
        let n = slot.ys.len();
        let mut score = Score::default();
        for s in 0..samples {
            let (z, errors) = (span(self.activations, slot.y + s * n, n), &mut self.words[s * n..][..n]);
            score = score.plus(match target {
                Target::Labels(labels) => {
                    let one = cross_entropy(z, scale, labels[s], errors);
                    if loss == Loss::NitiCrossEntropy {
                        let place = u32::try_from(s).unwrap_or(u32::MAX);
                        let draws = niti_draws(self.state.seed, self.state.step, place);
                        niti_error(z, scale, labels[s], draws, errors);
                    }
                    one
                }
                Target::Values(values, exponent) => squared_error(z, scale, &values[s * n..][..n], exponent, errors),
            });
        }
        score
    }

    /// Looks at the range of every trained tensor (N20).
    fn adjust(&mut self) {
        for (slot, scales) in self.slots.iter().zip(&mut *self.scales).skip(self.first) {
            if if SET & CHOSEN == 0 { slot.trained() } else { matches!(slot.learns, Learns::All | Learns::Bias) } {
                let start = slot.w - self.base;
                // the bias alone lies there if it alone learns
                let len = if SET & CHOSEN != 0 && slot.apart() { 0 } else { slot.weights() };
                let (weights, bias) = span_mut(self.weights, start, len + slot.biases()).split_at_mut(len);
                if SET & CHOSEN == 0 || slot.learns == Learns::All {
                    adjust(weights, &mut scales.w);
                }
                if SET & BIAS != 0 && slot.bias {
                    adjust(bias, &mut scales.b);
                }
            }
        }
    }
}

/// Bound t and scale of initial weights (N9) for `fans` = fan_in + fan_out.
fn initial_range(fans: u32) -> (u32, Scale) {
    let a = root((6u64 << 46) / u64::from(fans));
    let k = (64 - a.leading_zeros()).saturating_sub(7);
    let mut t = u32::try_from(a >> k).unwrap_or(127);
    let mut scale = Scale::pow2(-23).shifted(i16::try_from(k).unwrap_or(0));
    while t <= 101 {
        t = (5 * t + 2) >> 2;
        scale.u += 1;
    }
    (t, scale)
}

/// Weights and bias of a slot, wherever they lie.
pub(crate) fn part<'a>(frozen: &'a [i8], weights: &'a [i8], base: usize, slot: &Slot) -> &'a [i8] {
    let len = slot.weights() + slot.biases();
    match (len, slot.resident) {
        (0, _) => &[],
        (_, true) => span(weights, slot.w - base, len),
        (_, false) => span(frozen, slot.w, len),
    }
}

/// What of slot `i` lies apart; nothing in nets without such slots.
#[inline(always)]
pub(crate) fn own_of<'a, const SET: u32>(
    slots: &[Slot],
    i: usize,
    frozen: &'a [i8],
    weights: &'a [i8],
    chosen: &'a [i8],
) -> Option<Own<'a>> {
    if SET & CHOSEN == 0 { None } else { Own::of(slots, i, frozen, weights, chosen) }
}

/// All of an array but a part that is written.
pub(crate) struct Others<'a> {
    before: &'a [i8],
    after: &'a [i8],
    end: usize,
}

impl<'a> Others<'a> {
    /// `len` values from `at` on, none of them in the part.
    #[cfg_attr(target_os = "none", inline(never))]
    pub fn span(&self, at: usize, len: usize) -> &'a [i8] {
        if at < self.end { &self.before[at..][..len] } else { &self.after[at - self.end..][..len] }
    }
}

/// `len` values from `at` on, to be written, and the others.
pub(crate) fn beside(all: &mut [i8], at: usize, len: usize) -> (Others<'_>, &mut [i8]) {
    let (before, rest) = all.split_at_mut(at);
    let (part, after) = rest.split_at_mut(len);
    (Others { before, after, end: at + len }, part)
}

/// Narrows sums whose largest magnitude is as long in bits as `top` (N5) and gives their scale.
pub(crate) fn narrow_cut(acc: &[i32], top: u32, scale: Scale, q: &mut [i8], threads: usize) -> Scale {
    let (n, k) = (acc.len(), excess(top));
    over((items(acc, 1), items(q, 1)), n, parts_of_pass(n, threads), &|(acc, q)| {
        narrow_by(acc.slice, k, q.slice);
        0
    });
    widened(scale, k)
}

/// `len` values from `at` on. One copy of its checks for all calls keeps flash small.
#[cfg_attr(target_os = "none", inline(never))]
pub(crate) fn span(all: &[i8], at: usize, len: usize) -> &[i8] {
    &all[at..][..len]
}

/// The same, to be written.
#[cfg_attr(target_os = "none", inline(never))]
pub(crate) fn span_mut(all: &mut [i8], at: usize, len: usize) -> &mut [i8] {
    &mut all[at..][..len]
}
