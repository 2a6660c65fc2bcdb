//! Where tensors lie: no two that are needed at the same time share a byte.
//!
//! Largest first, each at the lowest offset where it meets none it lives together with. Times: the input is there at 0, slot k runs forward at
//! k + 1, the loss at n + 1, slot k runs backward at 2n + 1 − k.

use crate::slot::{INPUT, Sizes, Slot};

/// Which buffers are placed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// The input (number 0) and the output of slot k (number k + 1).
    Outputs,
    /// The error at the output of slot k − 1.
    Errors,
}

/// One buffer: how long, and from when to when.
#[derive(Clone, Copy)]
struct Life {
    len: usize,
    since: u16,
    until: u16,
}

/// Time slot `k` of `n` runs backward.
#[allow(clippy::cast_possible_truncation)] // at most 1000 slots
pub(crate) const fn backward_time(k: usize, n: usize) -> u16 {
    (2 * n + 1 - k) as u16
}

#[allow(clippy::cast_possible_truncation)] // at most 1000 slots
const fn life(slots: &[Slot], sizes: &Sizes, kind: Kind, number: usize) -> Life {
    match (kind, number) {
        (Kind::Outputs, 0) => {
            let (mut until, mut k) = (0, 0);
            while k < sizes.slots {
                let slot = &slots[k];
                if slot.source == INPUT || slot.second == INPUT {
                    let time = if slot.trains_weights() { backward_time(k, sizes.slots) } else { k as u16 + 1 };
                    until = if time > until { time } else { until };
                }
                k += 1;
            }
            Life { len: sizes.batch * slots[0].xs.len(), since: 0, until }
        }
        (Kind::Outputs, k) => {
            let slot = &slots[k - 1];
            Life { len: sizes.batch * slot.ys.len(), since: k as u16, until: slot.until }
        }
        (Kind::Errors, 0) => Life { len: 0, since: 0, until: 0 },
        (Kind::Errors, k) => {
            let slot = &slots[k - 1];
            let len = if slot.taped { sizes.batch * slot.ys.len() } else { 0 };
            Life { len, since: slot.since, until: backward_time(k - 1, sizes.slots) }
        }
    }
}

const fn offset(slots: &[Slot], sizes: &Sizes, kind: Kind, number: usize) -> usize {
    match (kind, number) {
        (_, 0) => sizes.input,
        (Kind::Outputs, k) => slots[k - 1].y,
        (Kind::Errors, k) => slots[k - 1].dy,
    }
}

/// Places all buffers of a kind and gives the bytes they need together.
pub(crate) const fn place(slots: &mut [Slot], sizes: &mut Sizes, kind: Kind) -> usize {
    let mut end = 0;
    // the one placed last: the next is the largest of those that come after it, by length and then by number
    let (mut last, mut number) = (usize::MAX, 0);
    loop {
        let (mut next, mut len, mut k) = (usize::MAX, 0, 0);
        while k <= sizes.slots {
            let own = life(slots, sizes, kind, k).len;
            if own > len && (own < last || own == last && k > number) {
                (next, len) = (k, own);
            }
            k += 1;
        }
        if next == usize::MAX {
            return end;
        }
        (last, number) = (len, next);
        let at = lowest(slots, sizes, kind, number);
        match (kind, number) {
            (_, 0) => sizes.input = at,
            (Kind::Outputs, k) => slots[k - 1].y = at,
            (Kind::Errors, k) => slots[k - 1].dy = at,
        }
        if at + len > end {
            end = at + len;
        }
    }
}

/// The lowest offset where buffer `number` meets none of those placed before it.
const fn lowest(slots: &[Slot], sizes: &Sizes, kind: Kind, number: usize) -> usize {
    let own = life(slots, sizes, kind, number);
    let (mut at, mut k) = (0, 0);
    while k <= sizes.slots {
        let other = life(slots, sizes, kind, k);
        let before = other.len > own.len || other.len == own.len && k < number;
        let start = offset(slots, sizes, kind, k);
        let meets =
            other.since <= own.until && own.since <= other.until && start < at + own.len && at < start + other.len;
        if before && meets {
            // from the start again: what was passed before may lie higher up
            (at, k) = (start + other.len, 0);
        } else {
            k += 1;
        }
    }
    at
}
