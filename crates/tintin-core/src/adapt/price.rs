//! What an adaptation costs: memory, products, and the choices that need no samples.

use crate::choice::{Choice, Learning};
use crate::error::PlanError;
use crate::fewshot::{Price, channels};
use crate::plan::{Learns, Options, Sizes, Slot, plan_for};

use super::{Needs, Origin, Policy, Settings};

/// What memory these settings need beside the pool.
///
/// # Errors
/// As [`plan_for`].
pub fn needs(origin: &Origin<'_>, settings: &Settings<'_>, slots: &mut [Slot]) -> Result<Needs, PlanError> {
    let learning = Learning::Inspect(settings.first());
    let sizes = plan_for(origin.layers, origin.input, Options::training(1), learning, slots)?;
    let features = slots[sizes.slots - 1].ys.len();
    let channels = slots[..sizes.slots].iter().map(channels).sum();
    Ok(Needs { slots: sizes.slots, queries: settings.batch as usize * origin.input.len(), features, channels })
}

/// Words of the pool under a plan of these sizes.
pub const fn pool_words(sizes: &Sizes) -> usize {
    (sizes.resident + sizes.bytes()).div_ceil(4) + sizes.all_words()
}

/// Products of one sample's backward pass, counted densely: input errors and gradients, of which `choices` count by their rows.
pub fn backward_products(slots: &[Slot], choices: &[Choice]) -> u64 {
    slots.iter().fold(0, |sum, slot| {
        let products = slot.products() as u64;
        let learning = match slot.learns {
            Learns::All => products,
            Learns::Rows | Learns::RowsApart => {
                let rows = choices.iter().find(|c| c.layer == slot.index).map_or(slot.rows, |c| c.rows);
                products * u64::from(rows) / u64::from(slot.rows)
            }
            Learns::Nothing | Learns::Bias => 0,
        };
        sum + learning + if slot.passes[0] { products } else { 0 }
    })
}

/// What a plan for a choice costs ([`Policy::learning`]; of none: what prediction does): memory, and the products of a backward pass. Above `limit` bytes sums are computed twice instead of
/// held, as on a device.
///
/// # Errors
/// As [`plan_for`].
pub fn price(
    origin: &Origin<'_>,
    (batch, limit): (u32, u64),
    learning: Learning<'_>,
    slots: &mut [Slot],
) -> Result<Price, PlanError> {
    let options = if learning.choices().is_empty() { Options::inference() } else { Options::training(batch) };
    let options = options.ram_limit(limit_of(limit));
    let sizes = plan_for(origin.layers, origin.input, options, learning, slots)?;
    Ok(Price { bytes: sizes.ram() as u64, products: backward_products(&slots[..sizes.slots], learning.choices()) })
}

/// Bytes as a limit of plans.
pub(crate) fn limit_of(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// Backward products of full training, which [`Settings::compute`] is a share of.
///
/// # Errors
/// As [`plan_for`].
pub fn full_products(origin: &Origin<'_>, slots: &mut [Slot]) -> Result<u64, PlanError> {
    let sizes = plan_for(origin.layers, origin.input, Options::training(1), Learning::From(0), slots)?;
    Ok(backward_products(&slots[..sizes.slots], &[]))
}

/// The choice of a policy that needs no inspection, into `chosen`; gives how many.
///
/// # Errors
/// As [`plan_for`].
pub fn fixed_choice(
    origin: &Origin<'_>,
    settings: &Settings<'_>,
    slots: &mut [Slot],
    chosen: &mut [Choice],
) -> Result<usize, PlanError> {
    if let Policy::Sparse(choices) | Policy::Layers(choices) = settings.policy {
        // refuses layers that are not there, named twice, or have not so many rows
        plan_for(origin.layers, origin.input, Options::training(1), Learning::Chosen(choices), slots)?;
    }
    let sizes = plan_for(origin.layers, origin.input, Options::inference(), Learning::From(0), slots)?;
    let weighted = slots[..sizes.slots].iter().filter(|slot| slot.rows > 0);
    let last = weighted.clone().next_back().map_or(0, |slot| slot.index);
    let mut count = 0;
    for slot in weighted {
        let late = slot.index as usize >= settings.inspect;
        let rows = match settings.policy {
            Policy::Full => Some(slot.rows),
            Policy::LastLayer => (slot.index == last).then_some(slot.rows),
            Policy::BiasOnly => (late && slot.bias).then_some(0),
            Policy::Sparse(choices) | Policy::Layers(choices) => {
                choices.iter().find(|c| c.layer == slot.index).map(|c| c.rows)
            }
            Policy::Dynamic { most, .. } => late.then_some(((slot.rows * u32::from(most)) >> 15).max(1)),
            Policy::Nothing | Policy::TinyTrain | Policy::RandomChannels => None,
        };
        if let Some(rows) = rows {
            chosen[count] = Choice { layer: slot.index, rows };
            count += 1;
        }
    }
    Ok(count)
}
