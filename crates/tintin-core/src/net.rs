//! The net: the only loops over layers. Borrows memory from whoever owns it and computes; see `docs/engine.md` for the picture.
//!
//! Once a plan exists nothing here fails, allocates, or knows which machine it is on. Slices of a wrong length are the
//! caller's bug and panic; owners (`Arena`, `heap::Model`) hand out the planned ones.

use crate::cut::{items, over, parts_of_pass, scratch};
use crate::digest;
use crate::error::FileError;
use crate::file::{Header, Weights};
use crate::forward::SumsCall;
use crate::layers::{ALL, Backward, Errors, POOL_ALONE, RELU_ALONE, Role, STREAMED};
use crate::loss::{Loss, Score, Target, argmax, cross_entropy, niti_draws, niti_error, squared_error};
use crate::optim::{ADJUST_EVERY, Recipe, Rule, adjust};
use crate::plan::{Sizes, Slot, SlotScales, layer_set};
use crate::rescale::{clip, excess, mask, narrow_below, narrow_by, peak, relu, root, widened};
use crate::rng::{Draws, INITIAL};
use crate::tensor::{Scale, Tensor};
use crate::update::Update;

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
    /// Weights of the frozen prefix; may lie in flash.
    pub frozen: &'m [i8],
    /// The other weights.
    pub weights: &'m mut [i8],
    /// Activations, indices, errors: [`Sizes::bytes`] of them.
    pub bytes: &'m mut [i8],
    /// Sums and workspace: [`Sizes::all_words`] of them.
    pub words: &'m mut [i32],
    /// Scales of every slot.
    pub scales: &'m mut [SlotScales],
    /// Seed and step.
    pub state: &'m mut State,
}

/// A planned net in borrowed memory. `SET` is the set of layers it has code for: all, unless [`lean`](Net::lean) made it.
pub struct Net<'m, const SET: u16 = ALL> {
    slots: &'m [Slot],
    list: u32,
    first: usize,
    gradient_rows: usize,
    streamed: bool,
    threads: usize,
    frozen: &'m [i8],
    weights: &'m mut [i8],
    activations: &'m mut [i8],
    indices: &'m mut [i8],
    deltas: [&'m mut [i8]; 2],
    workspace: &'m mut [i32],
    words: &'m mut [i32],
    scales: &'m mut [SlotScales],
    state: &'m mut State,
}

impl<'m> Net<'m> {
    /// A net over the slots and sizes of one plan.
    pub fn new(slots: &'m [Slot], sizes: &Sizes, memory: Memory<'m>) -> Self {
        Self::lean(slots, sizes, memory)
    }
}

impl<'m, const SET: u16> Net<'m, SET> {
    /// The same without the code of layers outside `SET`, for small flash: see [`layer_set`].
    ///
    /// # Panics
    /// If a slot needs what is not in the set.
    pub fn lean(slots: &'m [Slot], sizes: &Sizes, memory: Memory<'m>) -> Self {
        assert!(layer_set(slots, sizes) & !SET == 0, "a net whose code lacks one of its layers");
        let Memory { frozen, weights, bytes, words, scales, state } = memory;
        let (activations, rest) = bytes.split_at_mut(sizes.activations);
        let (indices, rest) = rest.split_at_mut(sizes.indices);
        let (even, rest) = rest.split_at_mut(sizes.deltas[0]);
        let odd = &mut rest[..sizes.deltas[1]];
        let (words, workspace) = words.split_at_mut(sizes.words);
        Self {
            slots: &slots[..sizes.slots],
            list: sizes.list,
            first: sizes.first,
            gradient_rows: sizes.gradient_rows,
            streamed: sizes.streamed,
            threads: sizes.threads,
            frozen: &frozen[..sizes.frozen],
            weights: &mut weights[..sizes.trained_weights()],
            activations,
            indices,
            deltas: [even, odd],
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

    /// Draws initial weights (N9) and zeroes the biases of every slot that is not frozen; step 0.
    pub fn initialise(&mut self, seed: u32) {
        *self.state = State { seed, step: 0 };
        for (slot, scales) in self.slots.iter().zip(&mut *self.scales) {
            if slot.rows == 0 || slot.w < self.frozen.len() {
                continue;
            }
            let (row, start) = (slot.row as usize, slot.w - self.frozen.len());
            let w = &mut self.weights[start..][..slot.weights() + slot.biases()];
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
        Tensor { mantissas: &self.activations[slot.y..][..slot.ys.len()], scale }
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
        let n = samples * self.output_len();
        let (slot, sums) = (&self.slots[self.slots.len() - 1], &mut self.words[..n]);
        let top = if slot.relu { mask(sums, &self.activations[slot.y..][..n]) } else { peak(sums) };
        let scale = narrow_below(sums, top, scale, &mut self.deltas[0][..n]);
        if self.deltas[0][..n].iter().any(|&d| d != 0) {
            self.backward(samples, scale, Scale::pow2(exponent), recipe);
        }
        if matches!(recipe.rule, Rule::TinTin { .. }) && self.state.step.wrapping_add(1).is_multiple_of(ADJUST_EVERY) {
            self.adjust();
        }
        self.state.step = self.state.step.wrapping_add(1);
        score
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
        digest::net(self.slots, self.scales, |slot| part(self.frozen, self.weights, slot))
    }

    /// Runs every slot and returns the number of samples.
    fn forward(&mut self, x: &[i8], exponent: i16) -> usize {
        let samples = x.len() / self.input_len();
        self.activations[self.slots[0].x..][..x.len()].copy_from_slice(x);
        let mut scale = Scale::pow2(exponent);
        for i in 0..self.slots.len() {
            let slot = &self.slots[i];
            let (x, y) = two(
                self.activations,
                slot.x..slot.x + samples * slot.xs.len(),
                slot.y..slot.y + samples * slot.ys.len(),
            );
            match slot.role {
                Role::Sums { exponent } => {
                    let acc_scale = scale.times(self.scales[i].w).shifted(exponent);
                    let w = part(self.frozen, self.weights, slot);
                    let workspace = &mut *self.workspace;
                    let call = SumsCall { slot, w, acc_scale, bias_scale: self.scales[i].b };
                    if SET & STREAMED != 0 && self.streamed {
                        scale = call.streamed::<SET>(x, self.words, workspace, self.indices, y);
                    } else {
                        let (acc, strips) = self.words.split_at_mut(samples * slot.ps.len());
                        let indices = if slot.taped {
                            items(&mut self.indices[slot.indices..][..samples * slot.winners()], slot.winners())
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
                        pool.pool_row(slot.xs, x, y, &mut self.indices[at..][..pooled]);
                    }
                }
                Role::ReLU if SET & RELU_ALONE != 0 => {
                    for (y, &x) in y.iter_mut().zip(x) {
                        *y = x.max(0);
                    }
                }
                _ => {}
            }
            self.scales[i].y = scale;
        }
        samples
    }

    /// Leaves the output errors in the words and returns the value of the loss.
    fn measure(&mut self, target: Target<'_>, loss: Loss, samples: usize) -> Score {
        debug_assert_eq!(matches!(target, Target::Values(..)), loss == Loss::SquaredError, "target and loss disagree");
        let last = self.slots.len() - 1;
        let (slot, scale) = (&self.slots[last], self.scales[last].y);
        let n = slot.ys.len();
        let z = &self.activations[slot.y..][..samples * n];
        let mut score = Score::default();
        let calls = z.chunks_exact(n).zip(self.words.chunks_exact_mut(n)).enumerate();
        for (s, (z, errors)) in calls {
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

    /// Errors and updates from the last slot to the first trained one (N18).
    fn backward(&mut self, samples: usize, mut scale: Scale, input: Scale, recipe: &Recipe) {
        let mut turn = 0;
        for i in (self.first..self.slots.len()).rev() {
            let slot = &self.slots[i];
            let [even, odd] = &mut self.deltas;
            let (dy, dx) = if turn == 0 { (even, odd) } else { (odd, even) };
            let dy = &dy[..samples * slot.ys.len()];
            let x = &self.activations[slot.x..][..samples * slot.xs.len()];
            let pool = match slot.role {
                Role::MaxPool(pool) => Some(pool),
                _ => slot.pool,
            };
            let index = if pool.is_some() { &self.indices[slot.indices..][..dy.len()] } else { &[][..] };
            let errors = Errors { dy, index, pool, ps: slot.ps };
            let dy_scale = scale;
            if i > self.first {
                let dx = &mut dx[..x.len()];
                if SET & RELU_ALONE != 0 && slot.role == Role::ReLU {
                    dx.copy_from_slice(dy);
                } else {
                    let w = &part(self.frozen, self.weights, slot)[..slot.weights()];
                    if let Role::Sums { exponent } = slot.role {
                        scale = scale.times(self.scales[i].w).shifted(exponent);
                    }
                    if SET & STREAMED != 0 && self.streamed {
                        scale = widened(scale, input_errors_twice::<SET>(slot, w, errors, x, self.words, dx));
                    } else {
                        let acc = &mut self.words[..x.len()];
                        let work = (errors, items(x, slot.xs.len()), items(&mut *acc, slot.xs.len()));
                        let parts = slot.parts(samples, self.threads);
                        let top = over(work, samples, parts, &|(errors, x, acc)| {
                            input_errors::<SET>(slot, w, errors, x.slice, acc.slice, 0..slot.xs.h as usize)
                        });
                        scale = narrow_cut(acc, top, scale, dx, self.threads);
                    }
                }
            }
            if slot.trained {
                let start = slot.w - self.frozen.len();
                let w = &mut self.weights[start..][..slot.weights() + slot.biases()];
                let x_scale = if i == 0 { input } else { self.scales[i - 1].y };
                Update {
                    slot,
                    x,
                    errors,
                    words: self.words,
                    workspace: self.workspace,
                    scales: &self.scales[i],
                    gradient: dy_scale.times(x_scale),
                    error: dy_scale,
                    samples,
                    gradient_rows: self.gradient_rows,
                    threads: self.threads,
                    state: *self.state,
                    recipe,
                }
                .apply::<SET>(w);
            }
            turn ^= 1;
        }
    }

    /// Looks at the range of every trained tensor (N20).
    fn adjust(&mut self) {
        for (slot, scales) in self.slots.iter().zip(&mut *self.scales).skip(self.first) {
            if slot.trained {
                let start = slot.w - self.frozen.len();
                let w = &mut self.weights[start..][..slot.weights() + slot.biases()];
                let (weights, bias) = w.split_at_mut(slot.weights());
                adjust(weights, &mut scales.w);
                if slot.bias {
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
fn part<'a>(frozen: &'a [i8], weights: &'a [i8], slot: &Slot) -> &'a [i8] {
    let len = slot.weights() + slot.biases();
    match slot.w.checked_sub(frozen.len()) {
        Some(start) => &weights[start..][..len],
        None => &frozen[slot.w..][..len],
    }
}

/// Two disjoint parts of one array, the second to be written.
fn two<T>(all: &mut [T], x: core::ops::Range<usize>, y: core::ops::Range<usize>) -> (&[T], &mut [T]) {
    if x.end <= y.start {
        let (left, right) = all.split_at_mut(y.start);
        (&left[x], &mut right[..y.end - y.start])
    } else {
        let (left, right) = all.split_at_mut(x.start);
        (&right[..x.end - x.start], &mut left[y])
    }
}

/// Narrows sums whose largest magnitude is as long in bits as `top` (N5) and gives their scale.
fn narrow_cut(acc: &[i32], top: u32, scale: Scale, q: &mut [i8], threads: usize) -> Scale {
    let (n, k) = (acc.len(), excess(top));
    over((items(acc, 1), items(q, 1)), n, parts_of_pass(n, threads), &|(acc, q)| {
        narrow_by(acc.slice, k, q.slice);
        0
    });
    widened(scale, k)
}

/// The masked errors of the input rows `rows` of every sample (N18); `x` holds what the masks need of each. Gives a number as long in
/// bits as the largest magnitude.
fn input_errors<const SET: u16>(
    slot: &Slot,
    w: &[i8],
    errors: Errors<'_>,
    x: &[i8],
    acc: &mut [i32],
    rows: core::ops::Range<usize>,
) -> u32 {
    acc.fill(0);
    if slot.sums() {
        slot.layer.backward_of::<SET>(Backward { w, errors, acc, xs: slot.xs, first: rows.start, rows: rows.len() });
    } else if SET & POOL_ALONE != 0 {
        scatter(errors, slot.xs, acc, rows);
    }
    if slot.masked { mask(acc, x) } else { peak(acc) }
}

/// The same narrowed, from errors that are computed twice, as many rows at a time as `words` has room for; gives k of N5.
fn input_errors_twice<const SET: u16>(
    slot: &Slot,
    w: &[i8],
    errors: Errors<'_>,
    x: &[i8],
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
                let x = &x[s * slot.xs.len() + first * row..][..dx.len()];
                let reach = input_errors::<SET>(slot, w, errors.sample(s), x, acc, first..first + dx.len() / row);
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
