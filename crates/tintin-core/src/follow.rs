//! The second pass of the planner: who uses what, where backward passes and what it needs, where the weights lie (N18, N28, N29).

use crate::choice::{Choice, Learning};
use crate::error::PlanError;
use crate::layers::Layer;
use crate::own_rows::lay;
use crate::place::backward_time;
use crate::plan::Options;
use crate::rescale::MAX_TERMS;
use crate::slot::{INPUT, NONE, Sizes, Slot};

/// Who uses what, where backward passes and what it needs, where the weights lie.
#[allow(clippy::cast_possible_truncation)] // at most 1000 slots
pub(crate) const fn follow(
    layers: &[Layer],
    options: Options,
    learning: Learning<'_>,
    slots: &mut [Slot],
    sizes: &mut Sizes,
) -> Result<(), PlanError> {
    let n = sizes.slots;
    let choices = learning.choices();
    let mut k = 0;
    while k < choices.len() {
        let Choice { layer, rows } = choices[k];
        let mut i = 0;
        while i < n && slots[i].index != layer {
            i += 1;
        }
        let mut twice = 0;
        while twice < k && choices[twice].layer != layer {
            twice += 1;
        }
        if twice < k && i < n {
            return Err(PlanError::new(layer as usize, slots[i].layer, "is chosen to learn twice"));
        }
        if i == n || slots[i].rows < rows || rows == 0 && !slots[i].bias {
            let why = "is chosen to learn, but has not so many rows of weights or no bias";
            return Err(if (layer as usize) < layers.len() {
                PlanError::new(layer as usize, layers[layer as usize], why)
            } else {
                PlanError::list("a layer is chosen to learn that is not there")
            });
        }
        k += 1;
    }
    let (mut first, mut frozen) = (n, sizes.weights);
    let mut i = 0;
    while i < n {
        let passes = [taped(slots, slots[i].source), taped(slots, slots[i].second)];
        let slot = &mut slots[i];
        slot.passes = passes;
        slot.taped = slot.trained() || slot.inspected || passes[0] || passes[1];
        slot.until = i as u16 + 1;
        if slot.taped && first == n {
            first = i;
        }
        if slot.trained() {
            if learning.chooses() {
                slot.resident = true;
                slot.w = sizes.resident;
                let rows = rows_of(choices, slot.index);
                sizes.resident += lay(slot, rows, options.batch as usize, options.whole_maps) + slot.biases();
                let workspace = slot.workspace * sizes.threads;
                sizes.workspace = if workspace > sizes.workspace { workspace } else { sizes.workspace };
                sizes.chosen += slot.chosen();
            } else if frozen > slot.w {
                frozen = slot.w;
            }
        }
        i += 1;
    }
    sizes.first = first;
    if first == n && options.training {
        return Err(PlanError::list("no layer is left to train"));
    }
    sizes.frozen = frozen;
    if !learning.chooses() {
        sizes.resident = sizes.weights - frozen;
        i = 0;
        while i < n {
            slots[i].resident = slots[i].rows > 0 && slots[i].w >= frozen;
            i += 1;
        }
    }
    // from the last user of an output to the first, as backward meets them
    slots[n - 1].until = n as u16 + 1; // the loss
    slots[n - 1].kept = options.training;
    slots[n - 1].since = n as u16 + 1;
    let mut used = 1; // slots whose output is used, and the last
    i = n;
    while i > 0 {
        i -= 1;
        let mut side = 0;
        while side < 2 {
            let user = slots[i];
            let from = if side == 0 { user.source } else { user.second };
            if from != INPUT && from != NONE {
                let output = &mut slots[from as usize];
                if output.until == from + 1 && (from as usize) < n - 1 {
                    used += 1;
                }
                let passes = user.passes[side];
                if passes {
                    // an output nobody has sent an error to yet has no time of a first one
                    if output.since == 0 {
                        output.since = backward_time(i, n);
                    } else {
                        slots[i].further[side] = true;
                    }
                }
                let output = &mut slots[from as usize];
                let forward = i as u16 + 1;
                if output.until < forward {
                    output.until = forward;
                }
                if user.trains_weights() {
                    output.kept = true;
                    output.until = backward_time(i, n);
                }
                if passes && output.relu {
                    if options.whole_maps {
                        output.kept = true;
                    }
                    if output.kept {
                        output.until = backward_time(i, n);
                    } else {
                        output.signs = true;
                    }
                }
            }
            side += 1;
        }
        let slot = &mut slots[i];
        if slot.kept {
            slot.signs = false;
        }
        if slot.inspected {
            (slot.kept, slot.signs) = (true, false);
            slot.until = backward_time(i, n);
        }
        // gradient sums: one product per pooled place and sample (N2)
        let slot = &slots[i];
        let summed = slot.trains_weights() || slot.inspected;
        if summed && slot.ps.places() as u64 * options.batch as u64 > MAX_TERMS as u64 {
            return Err(PlanError::new(
                slot.index as usize,
                slot.layer,
                "gradient could overflow 32 bits: output places times batch size above 132624, use a smaller batch",
            ));
        }
    }
    if used < n {
        i = 0;
        while i < n && is_used(slots, n, i) {
            i += 1;
        }
        let why = "its output is not used: name it in a Branch or an Add, or leave it out";
        return Err(PlanError::new(slots[i].index as usize, slots[i].layer, why));
    }
    Ok(())
}

/// Rows that were chosen of a layer.
const fn rows_of(choices: &[Choice], layer: u32) -> u32 {
    let mut k = 0;
    while k < choices.len() {
        if choices[k].layer == layer {
            return choices[k].rows;
        }
        k += 1;
    }
    0
}

/// Whether a slot reads the output of slot `i`, or it is the last.
#[allow(clippy::cast_possible_truncation)] // at most 1000 slots
const fn is_used(slots: &[Slot], n: usize, i: usize) -> bool {
    let mut k = i + 1;
    while k < n {
        if slots[k].source == i as u16 || slots[k].second == i as u16 {
            return true;
        }
        k += 1;
    }
    i + 1 == n
}

/// Whether backward passes at the slot `source`, if it is one.
const fn taped(slots: &[Slot], source: u16) -> bool {
    source != INPUT && source != NONE && slots[source as usize].taped
}
