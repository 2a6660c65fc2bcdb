//! Slots of which only the rows that learn lie in RAM, all other rows being read where they lie, in flash (N29).
//!
//! Kernels take one block of weights, so such a slot runs its kernel twice, over all rows in flash and over its K rows in RAM:
//!
//! ```text
//! forward:  sums ← all rows of flash · x;  then for a band of output rows: own ← K rows of RAM · x;  sums of chosen channels ← own
//! backward: moved ← errors of chosen channels, which become 0;  dx ← flash · errors + RAM · moved;  errors ← moved
//! ```
//!
//! Both are exact, so no bit depends on where a row lies. What is compact, (places, K), lies in the workspace. A slot whose biases
//! alone learn has K = 0 and runs its kernel once.

use crate::digest::Digest;
use crate::fewshot::is_set;
use crate::layers::{Backward, Errors, Forward};
use crate::net::{Net, part, span, span_mut};
use crate::shape::Shape;
use crate::slot::{Learns, Slot};
use crate::tensor::Scale;

/// Weights of a slot that lies apart.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    /// All rows in flash, (rows, row): those that learn as they were before.
    pub frozen: &'a [i8],
    /// The rows that learn, (K, row).
    pub rows: &'a [i8],
    /// All biases.
    pub bias: &'a [i8],
    /// Bit mask of the rows that learn; empty if none does.
    mask: &'a [i8],
}

impl<'a> Own<'a> {
    /// Of slot `i` of a plan of chosen layers, if it lies apart.
    #[inline(never)]
    pub fn of(slots: &[Slot], i: usize, frozen: &'a [i8], weights: &'a [i8], chosen: &'a [i8]) -> Option<Self> {
        let slot = &slots[i];
        if !slot.apart() {
            return None;
        }
        let Place { from, len, mask } = Place::of(slots, i, weights.len());
        let (rows, bias) = span(weights, slot.w, len).split_at(len - slot.biases());
        let frozen = span(frozen, from, slot.weights());
        Some(Self { frozen, rows, bias, mask: span(chosen, mask, slot.chosen()) })
    }

    /// Numbers of the rows that learn, rising.
    pub fn numbers(&self) -> impl Iterator<Item = usize> + use<'a> {
        marked(self.mask)
    }

    /// Calls `f` with every row in order, from wherever it lies.
    fn each_row(&self, row: usize, mut f: impl FnMut(&[i8])) {
        let mut own = self.rows.chunks_exact(row);
        for (o, frozen) in self.frozen.chunks_exact(row).enumerate() {
            let learns = o < 8 * self.mask.len() && is_set(self.mask, o);
            f(if learns { own.next().unwrap_or(frozen) } else { frozen });
        }
    }

    /// Sums of the rows that learn, (places, K), into their channels of `acc`, (places, channels).
    pub fn scatter(&self, own: &[i32], count: usize, acc: &mut [i32], channels: usize) {
        for (r, o) in self.numbers().take(count).enumerate() {
            for (acc, own) in acc.iter_mut().skip(o).step_by(channels).zip(own.iter().skip(r).step_by(count)) {
                *acc = *own;
            }
        }
    }

    /// Swaps the values of the rows that learn, in their channels of `all`, (places, channels), for those of `moved`, (places, K).
    #[inline(never)]
    fn swap(&self, all: &mut [i8], channels: usize, moved: &mut [i8], count: usize) {
        for (r, o) in self.numbers().take(count).enumerate() {
            let (mut from, mut to) = (o, r);
            while let (Some(from_value), Some(to_value)) = (all.get_mut(from), moved.get_mut(to)) {
                core::mem::swap(from_value, to_value);
                (from, to) = (from + channels, to + count);
            }
        }
    }
}

/// What backward adds to the input errors of a slot that lies apart: the rows in RAM and their errors.
#[derive(Clone, Copy)]
pub(crate) struct OwnErrors<'a> {
    /// (K, row).
    pub rows: &'a [i8],
    /// (samples, places, K).
    pub errors: Errors<'a>,
}

impl<'a> OwnErrors<'a> {
    /// Those of a slot that does not lie apart, or of which no row learns.
    pub const NONE: Self =
        Self { rows: &[], errors: Errors { dy: &[], index: &[], pool: None, ps: Shape::new(0, 0, 0) } };

    /// `count` rows and what was set aside of `len` errors.
    pub fn new(slot: &Slot, own: &Own<'a>, moved: &'a [i8], len: usize, count: usize) -> Self {
        if count == 0 {
            return Self::NONE;
        }
        let (dy, rest) = moved.split_at(len / slot.rows as usize * count);
        let index = if slot.pool.is_some() { span(rest, 0, dy.len()) } else { &[] };
        Self { rows: own.rows, errors: Errors { dy, index, pool: slot.pool, ps: with_channels(slot.ps, count) } }
    }
}

/// The layer's sums, for nets with slots that lie apart: these run their kernel twice, and one copy of the layers keeps flash small.
#[inline(never)]
pub(crate) fn forward_of<const SET: u32>(slot: &Slot, call: Forward<'_>) {
    slot.layer.forward_of::<SET>(call);
}

/// The same for its input errors.
#[inline(never)]
pub(crate) fn backward_of<const SET: u32>(slot: &Slot, call: Backward<'_>) {
    slot.layer.backward_of::<SET>(call);
}

/// Shape `shape` of `count` channels.
pub(crate) const fn with_channels(shape: Shape, count: usize) -> Shape {
    #[allow(clippy::cast_possible_truncation)] // less than the rows of a slot
    Shape::new(shape.h, shape.w, count as u32)
}

/// Numbers of the bits that are set.
fn marked<'a>(mask: &'a [i8]) -> impl Iterator<Item = usize> + use<'a> {
    (0..8 * mask.len()).filter(move |&o| is_set(mask, o))
}

/// Where the parts of a slot lie, by the slots around it.
pub(crate) struct Place {
    /// Offset of its weights and biases among all.
    pub from: usize,
    /// What lies in RAM of them.
    pub len: usize,
    /// Offset of its mask among all.
    pub mask: usize,
}

impl Place {
    /// Of slot `i` of a plan of chosen layers; `resident` is the length of all that lies in RAM.
    #[inline(never)]
    pub fn of(slots: &[Slot], i: usize, resident: usize) -> Self {
        let before = &slots[..i];
        Self {
            from: before.iter().map(|slot| slot.weights() + slot.biases()).sum(),
            len: resident_len(slots, i, resident),
            mask: before.iter().map(Slot::chosen).sum(),
        }
    }
}

/// Weights and biases of slot `i` that lie in RAM; `resident` is [`Sizes::resident`](crate::plan::Sizes::resident) of its plan.
pub fn resident_len(slots: &[Slot], i: usize, resident: usize) -> usize {
    let slot = &slots[i];
    match (slot.resident, slot.apart()) {
        (false, _) => 0,
        (true, false) => slot.weights() + slot.biases(),
        // they lie one behind the other
        (true, true) => slots[i + 1..].iter().find(|slot| slot.resident).map_or(resident, |slot| slot.w) - slot.w,
    }
}

/// Calls `f` with every run of weights or biases of slot `i` that lies in RAM, if any: its offset among all weights, and where it lies.
pub(crate) fn each_run(
    slots: &[Slot],
    i: usize,
    resident: usize,
    masks: &[i8],
    f: &mut dyn FnMut(usize, core::ops::Range<usize>),
) {
    let (slot, Place { from, len, mask }) = (&slots[i], Place::of(slots, i, resident));
    if !slot.resident {
        return;
    }
    if !slot.apart() {
        f(from, slot.w..slot.w + len);
        return;
    }
    let (row, mut at) = (slot.row as usize, slot.w);
    for o in marked(span(masks, mask, slot.chosen())) {
        f(from + o * row, at..at + row);
        at += row;
    }
    let end = slot.w + len;
    f(from + slot.weights(), end - slot.biases()..end);
}

/// Lays a slot that learns: `rows` of its rows in RAM if that saves more than it takes, else all of them. Gives the weights there.
pub(crate) const fn lay(slot: &mut Slot, rows: u32, batch: usize, whole_maps: bool) -> usize {
    let count = rows as usize;
    match slot.learns {
        Learns::Bias => 0,
        Learns::RowsApart => {
            // the same on all machines, whatever room there is for speed
            let least = if slot.pool.is_some() { slot.strip_rows(1) } else { 1 };
            let more = 4 * (workspace(slot, count, least, batch) - slot.workspace);
            if (slot.rows as usize - count) * slot.row as usize <= more {
                slot.learns = Learns::Rows;
                return slot.weights();
            }
            if slot.pool.is_none() {
                slot.band = if whole_maps { slot.ss.h } else { 1 };
            }
            slot.workspace = workspace(slot, count, slot.own_rows(), batch);
            count * slot.row as usize
        }
        _ => slot.weights(),
    }
}

/// Workspace of a slot of which `count` rows lie apart, in words: behind their sums that of the kernel, or their errors.
const fn workspace(slot: &Slot, count: usize, band: usize, batch: usize) -> usize {
    let forward = slot.workspace + band * slot.ss.w as usize * count;
    let winners = slot.pool.is_some() as usize;
    let backward = if slot.passes[0] { (batch * slot.ps.places() * count * (1 + winners)).div_ceil(4) } else { 0 };
    if forward > backward { forward } else { backward }
}

/// Most workspace of any choice of rows of `slots`, in words, planned like them for `batch` samples.
#[cfg(feature = "alloc")]
pub(crate) fn most_workspace(slots: &[Slot], batch: usize, whole_maps: bool) -> usize {
    let most = |slot: &Slot| {
        let band = if whole_maps { slot.ss.h as usize } else { slot.strip_rows(1).max(1) };
        workspace(slot, slot.rows as usize, band, batch)
    };
    slots.iter().filter(|slot| slot.rows > 0).map(most).max().unwrap_or(0)
}

impl<const SET: u32> Net<'_, SET> {
    /// Digest of a net with slots that lie apart (N24).
    pub(crate) fn digest_by_rows(&self) -> u64 {
        let mut digest = Digest::new();
        for (i, (slot, scales)) in self.slots.iter().zip(&*self.scales).enumerate().filter(|(_, (s, _))| s.rows > 0) {
            if let Some(own) = Own::of(self.slots, i, self.frozen, self.weights, self.chosen) {
                let mut scale = Some(scales.w);
                own.each_row(slot.row as usize, |row| add(&mut digest, scale.take(), row));
                if slot.bias {
                    add(&mut digest, Some(scales.b), own.bias);
                }
            } else {
                let (weights, bias) = part(self.frozen, self.weights, self.base, slot).split_at(slot.weights());
                add(&mut digest, Some(scales.w), weights);
                if slot.bias {
                    add(&mut digest, Some(scales.b), bias);
                }
            }
        }
        digest.value()
    }
}

/// Adds a tensor, or without a scale more of the one added last.
#[inline(never)]
fn add(digest: &mut Digest, scale: Option<Scale>, mantissas: &[i8]) {
    if let Some(scale) = scale {
        digest.tensor(scale, &[]);
    }
    digest.mantissas(mantissas);
}

/// Sets the errors of the rows that learn aside, and the winners of their pool, or brings them `back`: from `dy`, (samples, ps), and
/// `index` into `moved`, zeros taking their places. Gives K.
#[inline(never)]
pub(crate) fn move_errors(
    slot: &Slot,
    own: &Own<'_>,
    dy: &mut [i8],
    index: &mut [i8],
    moved: &mut [i8],
    back: bool,
) -> usize {
    let (count, channels) = (own.rows.len() / slot.row as usize, slot.rows as usize);
    let len = dy.len() / channels * count;
    let moved = span_mut(moved, 0, len * (1 + usize::from(slot.pool.is_some())));
    if !back {
        moved.fill(0);
    }
    let (moved, winners) = moved.split_at_mut(len);
    own.swap(dy, channels, moved, count);
    own.swap(index, channels, winners, count);
    count
}
