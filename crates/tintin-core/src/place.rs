//! Where tensors lie: no two that are needed at the same time share a byte, be they outputs or errors.
//!
//! Largest first, each at the lowest offset where it meets none it lives together with; errors after outputs, in what those leave free.
//! Times: the input is there at 0, slot k runs forward at k + 1, the loss at n + 1, slot k runs backward at 2n + 1 − k.

use crate::slot::{INPUT, Sizes, Slot};

/// One buffer: how long, and from when to when.
#[derive(Clone, Copy)]
struct Life {
    len: usize,
    since: u16,
    until: u16,
}

impl Life {
    const NONE: Self = Self { len: 0, since: 0, until: 0 };
}

/// Time slot `k` of `n` runs backward.
#[allow(clippy::cast_possible_truncation)] // at most 1000 slots
pub(crate) const fn backward_time(k: usize, n: usize) -> u16 {
    (2 * n + 1 - k) as u16
}

/// Places the input and the outputs and gives the bytes they need together.
pub(crate) const fn place_outputs(slots: &mut [Slot], sizes: &mut Sizes) -> usize {
    place(slots, sizes, 0, sizes.slots + 1)
}

/// Places the errors beside them, and gives the bytes that all need together.
pub(crate) const fn place_errors(slots: &mut [Slot], sizes: &mut Sizes) -> usize {
    place(slots, sizes, sizes.slots + 1, 2 * sizes.slots + 2)
}

/// The life of a buffer by its number, of `n` slots: 0 the input, k + 1 the output of slot k, n + k + 1 its error, 2n + 1 the room for a
/// further error (N28).
#[allow(clippy::cast_possible_truncation)] // at most 1000 slots
const fn life(slots: &[Slot], sizes: &Sizes, number: usize) -> Life {
    let n = sizes.slots;
    if number == 0 {
        let (mut until, mut k) = (0, 0);
        while k < n {
            let slot = &slots[k];
            if slot.source == INPUT || slot.second == INPUT {
                let time = if slot.trains_weights() { backward_time(k, n) } else { k as u16 + 1 };
                until = if time > until { time } else { until };
            }
            k += 1;
        }
        Life { len: sizes.batch * slots[0].xs.len(), since: 0, until }
    } else if number <= n {
        let slot = &slots[number - 1];
        Life { len: sizes.batch * slot.ys.len(), since: number as u16, until: slot.until }
    } else if number <= 2 * n {
        let k = number - n - 1;
        let slot = &slots[k];
        let len = if slot.taped { sizes.batch * slot.ys.len() } else { 0 };
        Life { len, since: slot.since, until: backward_time(k, n) }
    } else {
        let (mut life, mut k) = (Life::NONE, n);
        while k > 0 {
            k -= 1;
            let slot = &slots[k];
            if slot.further[0] || slot.further[1] {
                let len = sizes.batch * slot.xs.len();
                life.since = if life.len == 0 { backward_time(k, n) } else { life.since };
                life.until = backward_time(k, n);
                life.len = if len > life.len { len } else { life.len };
            }
        }
        life
    }
}

const fn offset(slots: &[Slot], sizes: &Sizes, number: usize) -> usize {
    let n = sizes.slots;
    match number {
        0 => sizes.input,
        k if k <= n => slots[k - 1].y,
        k if k <= 2 * n => slots[k - n - 1].dy,
        _ => sizes.spare,
    }
}

/// Places the buffers `from..to`, those before lie already; gives the end of all.
const fn place(slots: &mut [Slot], sizes: &mut Sizes, from: usize, to: usize) -> usize {
    let n = sizes.slots;
    let mut end = 0;
    let mut k = 0;
    while k < from {
        let own = offset(slots, sizes, k) + life(slots, sizes, k).len;
        end = if own > end { own } else { end };
        k += 1;
    }
    // the one placed last: the next is the largest of those that come after it, by length and then by number
    let (mut last, mut number) = (usize::MAX, 0);
    loop {
        let (mut next, mut len, mut k) = (usize::MAX, 0, from);
        while k < to {
            let own = life(slots, sizes, k).len;
            if own > len && (own < last || own == last && k > number) {
                (next, len) = (k, own);
            }
            k += 1;
        }
        if next == usize::MAX {
            return end;
        }
        (last, number) = (len, next);
        let at = lowest(slots, sizes, from, to, number);
        match number {
            0 => sizes.input = at,
            k if k <= n => slots[k - 1].y = at,
            k if k <= 2 * n => slots[k - n - 1].dy = at,
            _ => sizes.spare = at,
        }
        if at + len > end {
            end = at + len;
        }
    }
}

/// The lowest offset where buffer `number` meets none of those placed before it.
const fn lowest(slots: &[Slot], sizes: &Sizes, from: usize, to: usize, number: usize) -> usize {
    let own = life(slots, sizes, number);
    let (mut at, mut k) = (0, 0);
    while k < to {
        let other = life(slots, sizes, k);
        let before = k < from || other.len > own.len || other.len == own.len && k < number;
        let start = offset(slots, sizes, k);
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
