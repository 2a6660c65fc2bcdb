//! Update rules, row by row: what turns an exact gradient row into new weights (N19 to N22).

use crate::kernels::{self, Outer, RowStep, descend_outer, descend_rows, walk};
use crate::loss::Loss;
use crate::rescale::{Factor, Rounding, bits, downscale, factor, nearest, peak, pseudo, stochastic, upscale};
use crate::rng::Draws;
use crate::tensor::Scale;

/// Steps between two looks at a weight tensor's range (N20).
pub const ADJUST_EVERY: u32 = 64;
/// Most milestones of a schedule.
pub const MILESTONES: usize = 4;

/// How weights follow their gradient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Tin-Tin: the gradient aligned to the weights' scale, a step at most 2^−margin of the weight range (N19, N20).
    TinTin {
        /// Bits a step stays below the weights, 0..6.
        margin: u8,
    },
    /// NITI: the gradient tensor shifted to a width of mu bits (N21).
    Niti,
}

/// A whole number that changes at milestones (N22).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// Learning shift (TinTin: the rate is 2^−shift) or mu (NITI) at step 0.
    pub start: i8,
    /// Added at every milestone.
    pub change: i8,
    /// Steps at which it changes; `u32::MAX` for none.
    pub milestones: [u32; MILESTONES],
}

impl Schedule {
    /// The same value at every step.
    pub const fn constant(start: i8) -> Self {
        Self { start, change: 0, milestones: [u32::MAX; MILESTONES] }
    }

    /// Value at `step`, before clamping.
    pub const fn at(&self, step: u32) -> i32 {
        let (mut value, mut i) = (self.start as i32, 0);
        while i < MILESTONES {
            if self.milestones[i] != u32::MAX && self.milestones[i] <= step {
                value += self.change as i32;
            }
            i += 1;
        }
        value
    }
}

/// Everything that decides what is learned from given samples: it travels with the model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Update rule.
    pub rule: Rule,
    /// Rounding of the update.
    pub rounding: Rounding,
    /// Loss.
    pub loss: Loss,
    /// Learning shift or mu over the steps.
    pub schedule: Schedule,
}

impl Recipe {
    /// Tin-Tin with its defaults: margin 2, stochastic rounding, cross-entropy, rate 2^−`learning_shift`.
    pub const fn tintin(learning_shift: i8) -> Self {
        Self {
            rule: Rule::TinTin { margin: 2 },
            rounding: Rounding::Stochastic,
            loss: Loss::CrossEntropy,
            schedule: Schedule::constant(learning_shift),
        }
    }

    /// NITI with its defaults: pseudo-stochastic rounding, its own cross-entropy, gradients of `mu` bits.
    pub const fn niti(mu: i8) -> Self {
        Self {
            rule: Rule::Niti,
            rounding: Rounding::Pseudo,
            loss: Loss::NitiCrossEntropy,
            schedule: Schedule::constant(mu),
        }
    }

    /// Learning shift 0..24 at `step` (N22).
    pub fn learning_shift(&self, step: u32) -> i32 {
        self.schedule.at(step).clamp(0, 24)
    }

    /// mu −5..7 at `step` (N22).
    pub fn mu(&self, step: u32) -> i32 {
        self.schedule.at(step).clamp(-5, 7)
    }
}

/// The alignment of one tensor's gradient with its weights: fixed for a step (N19).
#[derive(Clone, Copy, Debug)]
pub struct Alignment {
    factor: Factor,
    shift: i32,
    margin: u32,
}

impl Alignment {
    /// For a gradient of scale `gradient` and weights of scale `weights`, over `batch` samples.
    pub const fn new(gradient: Scale, weights: Scale, batch: u32, learning_shift: i32, margin: u8) -> Self {
        let factor = factor(gradient.u as i32 - weights.u as i32, gradient.d as i32 - weights.d as i32, batch);
        let shift = weights.s as i32 - gradient.s as i32 - factor.e + learning_shift;
        Self { factor, shift, margin: margin as u32 }
    }
}

impl Alignment {
    /// The step of a row whose largest gradient magnitude is `top`; none when the row stays (N19).
    fn row_step(self, top: u32, rounding: Rounding, draws: Draws) -> Option<Step> {
        let before = (bits(top).cast_signed() - 22).max(self.shift - 30).max(0);
        if top == 0 || before > 23 {
            return None;
        }
        let before = before.cast_unsigned();
        let top = nearest(top.cast_signed(), before);
        if top == 0 {
            return None;
        }
        let cap = bits((top * self.factor.m).unsigned_abs()) + self.margin - 7;
        let shift = (self.shift - before.cast_signed()).max(cap.cast_signed()).cast_unsigned();
        Some(Step { before, m: self.factor.m, shift, rounding, draws })
    }
}

/// One row by the TinTin rule (N19): `w` −= the aligned, capped, rounded gradient `g`. Equal lengths.
pub fn tintin_row(w: &mut [i8], g: &[i32], a: Alignment, rounding: Rounding, draws: Draws) {
    if let Some(step) = a.row_step(peak(g), rounding, draws) {
        descend(w, g, step);
    }
}

/// All rows of `row` weights each; `draws` gives those of a row.
pub fn tintin_rows(
    w: &mut [i8],
    g: &[i32],
    row: usize,
    a: Alignment,
    rounding: Rounding,
    draws: impl Fn(usize) -> Draws,
) {
    let rule = |r: usize, top: u32| a.row_step(top, rounding, draws(r)).map(Step::stochastic);
    if rounding == Rounding::Stochastic && descend_rows(w, g, row, rule) {
        return;
    }
    for (r, (w, g)) in w.chunks_exact_mut(row).zip(g.chunks_exact(row)).enumerate() {
        tintin_row(w, g, a, rounding, draws(r));
    }
}

/// The same for the gradient dy\[o\] · x\[i\]; false if this machine takes it row by row.
pub fn tintin_outer(
    w: &mut [i8],
    dy: &[i8],
    x: &[i8],
    a: Alignment,
    rounding: Rounding,
    draws: impl Fn(usize) -> Draws,
) -> bool {
    let rule = |o: usize, top: u32| a.row_step(top, rounding, draws(o)).map(Step::stochastic);
    rounding == Rounding::Stochastic && descend_outer(w, dy, x, rule)
}

/// The same for the gradient d · x, whose largest magnitude is |d| · `top`, for the inputs of a part.
pub fn tintin_outer_row(
    w: &mut [i8],
    d: i8,
    part: &Outer<'_>,
    top: u32,
    a: Alignment,
    rounding: Rounding,
    draws: Draws,
) {
    let Some(step) = a.row_step(u32::from(d.unsigned_abs()) * top, rounding, draws) else { return };
    let (d, Step { before, m, shift, .. }) = (i32::from(d), step);
    if before == 0 && rounding == Rounding::Stochastic {
        kernels::run(
            #[inline(always)]
            || part.descend(w, d * m, shift, draws),
        );
    } else if part.from() == 0 {
        // a pass over few numbers at a time: this case is rare
        let mut draws = draws;
        for (w, x) in w.chunks_mut(OUTER).zip(part.x().chunks(OUTER)) {
            let mut g = [0; OUTER];
            for (g, &x) in g.iter_mut().zip(x) {
                *g = d * i32::from(x);
            }
            descend(w, &g[..x.len()], Step { draws, ..step });
            draws = draws.skip(OUTER);
        }
    }
}

/// Gradients of an outer product held at once.
const OUTER: usize = 16;

/// The two shifts of NITI for a tensor whose largest gradient magnitude is `top` (N21).
#[derive(Clone, Copy, Debug)]
pub struct NitiShift {
    before: u32,
    shift: u32,
}

impl NitiShift {
    /// `None` when there is nothing to do.
    pub const fn new(top: u32, mu: i32) -> Option<Self> {
        if top == 0 {
            return None;
        }
        let before = bits(top).saturating_sub(24);
        let top = nearest(top.cast_signed(), before);
        let shift = bits(top.unsigned_abs()).cast_signed() - mu;
        Some(Self { before, shift: if shift > 0 { shift.cast_unsigned() } else { 0 } })
    }
}

/// One row by the NITI rule (N21).
pub fn niti_row(w: &mut [i8], g: &[i32], n: NitiShift, rounding: Rounding, draws: Draws) {
    descend(w, g, Step { before: n.before, m: 1, shift: n.shift, rounding, draws });
}

/// w −= round(round(g, before) · m, shift).
#[derive(Clone, Copy)]
struct Step {
    before: u32,
    m: i32,
    shift: u32,
    rounding: Rounding,
    draws: Draws,
}

impl Step {
    /// As the kernels take it that round stochastically.
    const fn stochastic(self) -> RowStep {
        let Self { before, m, shift, draws, .. } = self;
        RowStep { before, m, shift, draws }
    }
}

fn descend(w: &mut [i8], g: &[i32], step: Step) {
    let Step { before, m, shift, rounding, draws } = step;
    let half = (1i32 << before) >> 1;
    kernels::run(
        #[inline(always)]
        || match rounding {
            _ if shift == 0 => walk(w, g, draws, |g, _| (g.wrapping_add(half) >> before) * m),
            Rounding::Nearest => walk(w, g, draws, |g, _| nearest((g.wrapping_add(half) >> before) * m, shift)),
            Rounding::Pseudo => walk(w, g, draws, |g, _| pseudo((g.wrapping_add(half) >> before) * m, shift)),
            Rounding::Stochastic if before == 0 => kernels::descend(w, g, m, shift, draws),
            Rounding::Stochastic => {
                walk(w, g, draws, |g, u| stochastic((g.wrapping_add(half) >> before) * m, shift, u))
            }
        },
    );
}

/// How many weights are at the rail, and their largest magnitude: counted in vectors of bytes, which the weights of a block do not fill.
#[inline(always)]
fn extent(w: &[i8]) -> (usize, u8) {
    let (mut rail, mut top) = (0usize, 0u8);
    for block in w.chunks(128) {
        let mut count = 0u8;
        for q in block {
            count += u8::from(q.unsigned_abs() == 127);
            top = top.max(q.unsigned_abs());
        }
        rail += usize::from(count);
    }
    (rail, top)
}

/// Weight scale adjustment of one tensor (N20).
pub fn adjust(w: &mut [i8], scale: &mut Scale) {
    let (mut rail, mut top) = (0usize, 0u8);
    if cfg!(feature = "std") {
        (rail, top) = kernels::run(
            #[inline(always)]
            || extent(w),
        );
    } else {
        for q in &*w {
            rail += usize::from(q.unsigned_abs() == 127);
            top = top.max(q.unsigned_abs());
        }
    }
    if rail * 64 > w.len() && scale.d < 120 {
        downscale(w);
        scale.d += 1;
    } else if (4..64).contains(&top) && scale.u < 120 {
        upscale(w);
        scale.u += 1;
    }
    if scale.u >= 9 && scale.d >= 7 {
        scale.u -= 9;
        scale.d -= 7;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_capped_by_the_margin() {
        let mut w = [0i8; 3];
        let a = Alignment::new(Scale::pow2(0), Scale::pow2(-20), 1, 0, 2);
        tintin_row(&mut w, &[1000, -500, 0], a, Rounding::Nearest, Draws::new(0, 0, 0, 0));
        assert_eq!(w, [-31, 16, 0]); // 2^(7 − 2) units at most
    }

    #[test]
    fn a_gradient_too_small_to_see_changes_nothing() {
        let mut w = [1i8, -2];
        let a = Alignment::new(Scale::pow2(-90), Scale::pow2(-7), 1, 0, 2);
        tintin_row(&mut w, &[1 << 20, 3], a, Rounding::Stochastic, Draws::new(0, 0, 0, 0));
        assert_eq!(w, [1, -2]);
    }

    #[test]
    fn schedule_counts_milestones() {
        let schedule = Schedule { start: 3, change: 2, milestones: [10, 20, u32::MAX, u32::MAX] };
        assert_eq!([0, 9, 10, 19, 20, 999].map(|s| schedule.at(s)), [3, 3, 5, 5, 7, 7]);
    }

    #[test]
    fn niti_shift_without_need_is_none() {
        assert!(NitiShift::new(0, 3).is_none());
        let mut w = [5i8, 5];
        niti_row(&mut w, &[3, -3], NitiShift::new(3, 7).unwrap(), Rounding::Pseudo, Draws::new(0, 0, 0, 0));
        assert_eq!(w, [2, 8]);
    }
}
