//! Where a row of weights lies moves no bit: rows apart in RAM against whole layers there, and what the plan takes for both (N29).
#![allow(missing_docs, clippy::cast_possible_truncation)]
#![cfg(feature = "alloc")]

use tintin_core::error::PlanError;
use tintin_core::heap::Model;
use tintin_core::layers::{Add, Conv2d, DepthwiseConv2d, Flatten, Layer, Linear, MaxPool2d, ReLU};
use tintin_core::loss::{Score, Target};
use tintin_core::net::{Memory, Net, State};
use tintin_core::optim::{Recipe, Rule};
use tintin_core::plan::{
    Choice, Learning, Learns, Options, Sizes, Slot, SlotScales, empty_slots, plan_for, resident_len,
};
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;

/// Layers that learn, each with the numbers of its rows; none for the bias alone.
type Chosen = Vec<(u32, Vec<usize>)>;

fn choices(chosen: &Chosen) -> Vec<Choice> {
    chosen.iter().map(|(layer, rows)| Choice { layer: *layer, rows: rows.len() as u32 }).collect()
}

fn planned(model: &Model, options: Options, learning: Learning<'_>) -> Result<(Vec<Slot>, Sizes), PlanError> {
    let mut slots = vec![empty_slots::<1>()[0]; model.layers().len()];
    let sizes = plan_for(model.layers(), model.input(), options, learning, &mut slots)?;
    slots.truncate(sizes.slots);
    Ok((slots, sizes))
}

/// A net of chosen rows over exactly sized memory, full of garbage where nothing is promised.
struct Owned<'a> {
    frozen: &'a [i8],
    slots: Vec<Slot>,
    sizes: Sizes,
    weights: Vec<i8>,
    bytes: Vec<i8>,
    words: Vec<i32>,
    scales: Vec<SlotScales>,
    state: State,
}

impl<'a> Owned<'a> {
    fn new(model: &'a Model, (slots, sizes): (Vec<Slot>, Sizes), chosen: &Chosen) -> Self {
        let mut weights = vec![];
        let mut bytes = vec![-128i8; sizes.bytes()];
        let mut masks = bytes[sizes.bytes() - sizes.chosen..].iter_mut();
        let mut from = 0;
        for slot in &slots {
            let (w, row) = (&model.weights()[from..][..slot.weights() + slot.biases()], slot.row as usize);
            from += w.len();
            let Some((_, rows)) = chosen.iter().find(|c| c.0 == slot.index && slot.resident) else { continue };
            assert_eq!(slot.w, weights.len());
            if slot.apart() {
                weights.extend(rows.iter().flat_map(|o| &w[o * row..][..row]));
                weights.extend(&w[slot.weights()..]);
            } else {
                weights.extend(w);
            }
            for first in (0..8 * slot.chosen()).step_by(8) {
                let mask = (0..8).filter(|i| rows.contains(&(first + i))).fold(0u8, |mask, i| mask | 1 << i);
                *masks.next().unwrap() = mask.cast_signed();
            }
        }
        assert_eq!((weights.len(), masks.next()), (sizes.resident, None));
        let mut words = vec![i32::MIN; sizes.all_words()];
        words.iter_mut().step_by(3).for_each(|word| *word = 0x7F81_80FF);
        Self {
            frozen: model.weights(),
            slots,
            sizes,
            weights,
            bytes,
            words,
            scales: model.scales().to_vec(),
            state: model.state(),
        }
    }

    fn net(&mut self) -> Net<'_> {
        let Self { frozen, slots, sizes, weights, bytes, words, scales, state } = self;
        Net::new(slots, sizes, Memory { frozen, weights, bytes, words, scales, state })
    }
}

fn inputs(draws: &mut Draws, n: usize) -> Vec<i8> {
    (0..n).map(|_| i8::try_from(draws.below(255).cast_signed() - 127).unwrap()).collect()
}

/// Convolutions of every kind, depthwise ones, residual blocks and pools, with Linear at the end; every layer has more rows than one.
fn net(draws: &mut Draws) -> Model {
    let (h, w) = ([1, 5, 8][draws.below(3) as usize], 4 + draws.below(6));
    let input = Shape::new(h, w, 1 + draws.below(6));
    let (mut layers, mut shape): (Vec<Layer>, _) = (vec![], input);
    let mut bias = false;
    for _ in 0..2 + draws.below(4) {
        bias = !bias;
        let out = 4 + draws.below(13) as u16;
        let mut side = || (1 + draws.below(3) as u16).min(if h == 1 { 1 } else { 3 });
        let kernel = (side(), 1 + draws.below(3) as u16);
        let stride = (1 + draws.below(2) as u16, 1 + draws.below(2) as u16);
        let padding = (draws.below(kernel.0.into()) as u16, draws.below(kernel.1.into()) as u16);
        let mut more: Vec<Layer> = match draws.below(6) {
            0 => {
                let conv = DepthwiseConv2d::new(kernel).stride(stride).padding(padding);
                vec![Layer::DepthwiseConv2d(if bias { conv.with_bias() } else { conv })]
            }
            1 if !layers.is_empty() => {
                let conv = Conv2d::new(shape.c as u16, (1, 1));
                let from = layers.len() as u16 - 1;
                vec![Layer::Conv2d(if bias { conv.with_bias() } else { conv }), Layer::Add(Add::new(from))]
            }
            _ => {
                let conv = Conv2d::new(out, kernel).stride(stride).padding(padding);
                vec![Layer::Conv2d(if bias { conv.with_bias() } else { conv })]
            }
        };
        if draws.below(2) == 0 {
            more.push(Layer::ReLU(ReLU));
        }
        if draws.below(2) == 0 {
            more.push(Layer::MaxPool2d(MaxPool2d::new((1, 2))));
        }
        let before = layers.len();
        let mut next = shape;
        for layer in more {
            let Ok(need) = layer.need(next) else { break };
            next = need.ys;
            layers.push(layer);
        }
        if next.h * next.w == 0 || Model::new(layers.clone(), input, 1).is_err() {
            layers.truncate(before);
        } else {
            shape = next;
        }
    }
    layers.push(Layer::Flatten(Flatten));
    layers.push(Layer::Linear(Linear::new(12).with_bias()));
    layers.push(Layer::ReLU(ReLU));
    layers.push(Layer::Linear(Linear::new(4 + draws.below(9) as u16)));
    Model::new(layers, input, draws.draw()).unwrap()
}

/// Some rows of most layers with weights, all of some, the bias alone of others.
fn some(model: &Model, draws: &mut Draws) -> Chosen {
    let mut chosen = vec![];
    for slot in model.slots().iter().filter(|slot| slot.rows > 0) {
        let rows: Vec<usize> = match draws.below(6) {
            0 => continue,
            1 if slot.bias => vec![],
            2 => (0..slot.rows as usize).collect(),
            share => (0..slot.rows as usize).filter(|_| draws.below(share) == 0).collect(),
        };
        if !rows.is_empty() || slot.bias {
            chosen.push((slot.index, rows));
        }
    }
    if chosen.is_empty() {
        chosen.push((model.layers().len() as u32 - 1, vec![1, 3]));
    }
    chosen
}

/// A step of some samples, what came of it, and what the net then makes of a sample.
fn train(owned: &mut Owned<'_>, x: &[i8], labels: &[u16], recipe: &Recipe) -> (Score, u64, Vec<i8>) {
    let mut net = owned.net();
    let score = net.train_step(x, -7, Target::Labels(labels), recipe);
    let digest = net.digest();
    let sample = &x[..net.input_len()];
    (score, digest, net.predict(sample, -7).mantissas.to_vec())
}

/// One byte less than a plan of these options wants, where that can be: sums are then computed twice.
fn tight(model: &Model, options: Options, learning: Learning<'_>) -> Option<Options> {
    let options = options.ram_limit(planned(model, options, learning).unwrap().1.ram() - 1);
    planned(model, options, learning).is_ok().then_some(options)
}

#[test]
fn rows_that_lie_apart_learn_the_same() {
    let (mut seen, mut streamed) = ([0; 4], 0);
    for seed in 0..400 {
        let mut draws = Draws::new(seed, 0, 0, 0);
        let model = net(&mut draws);
        let chosen = some(&model, &mut draws);
        let told = choices(&chosen);
        let batch = 1 + draws.below(4);
        let mut recipe = Recipe::tintin(4);
        if draws.below(4) == 0 {
            recipe.rule = Rule::Niti;
            recipe.schedule.start = 3;
        }
        let options = Options::training(batch);
        let plans = [options, options.spacious(), options.spacious().threads(3)].map(Some);
        let tight = [options, options.spacious()].map(|options| tight(&model, options, Learning::Chosen(&told)));
        streamed += usize::from(tight[0].is_some());
        let mut whole = Owned::new(&model, planned(&model, options, Learning::Redrawn(&told)).unwrap(), &chosen);
        let mut nets: Vec<Owned<'_>> = plans
            .into_iter()
            .chain(tight)
            .flatten()
            .map(|options| Owned::new(&model, planned(&model, options, Learning::Chosen(&told)).unwrap(), &chosen))
            .collect();
        for slot in &nets[0].slots {
            seen[0] += usize::from(slot.learns == Learns::RowsApart);
            seen[1] += usize::from(slot.learns == Learns::RowsApart && slot.pool.is_some() && slot.passes[0]);
            seen[2] += usize::from(slot.learns == Learns::Bias);
            seen[3] += usize::from(slot.learns == Learns::Rows);
        }
        assert!(nets[0].sizes.ram() <= whole.sizes.ram(), "{seed}");
        assert_eq!(nets[0].net().digest(), model.digest());
        for step in 0..3 {
            let samples = if step == 1 { batch.div_ceil(2) } else { batch } as usize;
            let x = inputs(&mut draws, samples * model.input().len());
            let labels: Vec<u16> = (0..samples).map(|_| draws.below(4) as u16).collect();
            let want = train(&mut whole, &x, &labels, &recipe);
            for (n, net) in nets.iter_mut().enumerate() {
                assert_eq!(
                    train(net, &x, &labels, &recipe),
                    want,
                    "{seed} step {step} plan {n} {:?} {chosen:?}",
                    model.layers()
                );
            }
        }
    }
    assert!(seen.iter().all(|&n| n > 50) && streamed > 100, "{seen:?} {streamed}");
}

#[test]
fn ranges_are_looked_at_as_ever() {
    let layers = vec![Layer::Linear(Linear::new(16).with_bias()), Layer::Linear(Linear::new(8).with_bias())];
    let model = Model::new(layers, Shape::flat(20), 3).unwrap();
    for chosen in [vec![(0, vec![]), (1, vec![2, 7])], vec![(0, vec![0, 15]), (1, (0..8).collect())]] {
        let told = choices(&chosen);
        let plan = |learning| planned(&model, Options::training(2), learning).unwrap();
        let mut apart = Owned::new(&model, plan(Learning::Chosen(&told)), &chosen);
        let mut whole = Owned::new(&model, plan(Learning::Redrawn(&told)), &chosen);
        let mut draws = Draws::new(9, 0, 0, 0);
        for step in 0..130 {
            let x = inputs(&mut draws, 40);
            let labels = [step % 8, step % 3];
            let [a, b] = [&mut apart, &mut whole].map(|net| train(net, &x, &labels, &Recipe::tintin(3)));
            assert_eq!(a, b, "{step}");
        }
    }
}

#[test]
fn threads_share_what_lies_apart() {
    let conv = |out| Layer::Conv2d(Conv2d::new(out, (3, 3)).padding((1, 1)).with_bias());
    let layers = vec![
        conv(16),
        Layer::ReLU(ReLU),
        conv(24),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        conv(32),
        Layer::Linear(Linear::new(5)),
    ];
    let model = Model::new(layers, Shape::new(12, 12, 8), 3).unwrap();
    let chosen = vec![(0, vec![1, 5]), (2, vec![0, 8, 9, 23]), (4, vec![3, 30]), (5, vec![4])];
    let told = choices(&chosen);
    let plan = |options, learning| planned(&model, options, learning).unwrap();
    let options = Options::training(8);
    let mut whole = Owned::new(&model, plan(options, Learning::Redrawn(&told)), &chosen);
    let mut one = Owned::new(&model, plan(options, Learning::Chosen(&told)), &chosen);
    let mut many = Owned::new(&model, plan(options.spacious().threads(4), Learning::Chosen(&told)), &chosen);
    assert!(one.slots.iter().filter(|slot| slot.learns == Learns::RowsApart).count() >= 3);
    if cfg!(feature = "threads") {
        assert_eq!(many.net().threads(), 4);
    }
    let mut draws = Draws::new(4, 0, 0, 0);
    for _ in 0..3 {
        let x = inputs(&mut draws, 8 * model.input().len());
        let labels = [0, 1, 2, 3, 4, 0, 1, 2];
        let want = train(&mut whole, &x, &labels, &Recipe::tintin(4));
        assert_eq!(train(&mut one, &x, &labels, &Recipe::tintin(4)), want);
        assert_eq!(train(&mut many, &x, &labels, &Recipe::tintin(4)), want);
    }
}

#[test]
fn the_plan_counts_the_rows_that_learn() {
    let layers = vec![
        Layer::Conv2d(Conv2d::new(10, (3, 3)).padding((1, 1)).with_bias()), // 10 rows of 18
        Layer::ReLU(ReLU),
        Layer::DepthwiseConv2d(DepthwiseConv2d::new((3, 3)).with_bias()), // 10 rows of 9
        Layer::Conv2d(Conv2d::new(40, (1, 1)).with_bias()),               // 40 rows of 10
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(30).with_bias()), // 30 rows of 160
    ];
    let model = Model::new(layers, Shape::new(4, 4, 2), 1).unwrap();
    let sizes = |told: &[(u32, u32)], whole: bool| {
        let told: Vec<Choice> = told.iter().map(|&(layer, rows)| Choice { layer, rows }).collect();
        let learning = if whole { Learning::Redrawn(&told) } else { Learning::Chosen(&told) };
        let (slots, sizes) = planned(&model, Options::training(1), learning).unwrap();
        let lens: Vec<usize> = (0..slots.len()).map(|i| resident_len(&slots, i, sizes.resident)).collect();
        assert_eq!(lens.iter().sum::<usize>(), sizes.resident);
        (lens, sizes)
    };
    // a row of 160 for each of 7 and all biases; the sums of a place take 28 bytes, and the 7 errors lie in the same words
    let (apart, all) = (sizes(&[(5, 7)], false), sizes(&[(5, 7)], true));
    assert_eq!(apart.0, [0, 0, 0, 7 * 160 + 30]);
    assert_eq!(all.0, [0, 0, 0, 30 * 160 + 30]);
    assert_eq!(apart.1.workspace - all.1.workspace, 7);
    assert_eq!(all.1.ram() - apart.1.ram(), 23 * 160 - 4 * 7);
    // biases alone, of a depthwise layer, too; nothing else is needed
    assert_eq!(sizes(&[(0, 0), (2, 0), (3, 0), (5, 0)], false).0, [10, 10, 40, 30]);
    // 5 of 40 rows of 10: one row of 2 places holds 10 sums, and its input errors need 2 × 2 × 5 bytes
    assert_eq!(sizes(&[(3, 5), (5, 7)], false).0, [0, 0, 5 * 10 + 40, 7 * 160 + 30]);
    // depthwise rows lie together; so do rows that save less than their sums take: 2 × 10 weights against 2 × 38 sums and more
    assert_eq!(sizes(&[(2, 5), (3, 38)], false).0, [0, 10 * 9 + 10, 40 * 10 + 40, 0]);
    // all rows are the whole layer
    assert_eq!(sizes(&[(5, 30)], false), sizes(&[(5, 30)], true));
    // in batches the errors of all samples lie apart: never more than whole layers take
    for batch in [1, 2, 7, 50] {
        for rows in 1..=40 {
            let told = [Choice { layer: 3, rows }];
            let ram = |learning| planned(&model, Options::training(batch), learning).unwrap().1.ram();
            assert!(ram(Learning::Chosen(&told)) <= ram(Learning::Redrawn(&told)), "{batch} {rows}");
        }
    }
}

#[test]
fn what_cannot_be_chosen_is_refused_either_way() {
    let layers =
        vec![Layer::Conv2d(Conv2d::new(4, (2, 2))), Layer::ReLU(ReLU), Layer::Linear(Linear::new(3).with_bias())];
    let model = Model::new(layers, Shape::new(3, 3, 1), 1).unwrap();
    for told in [&[(0, 5)][..], &[(0, 0)], &[(1, 1)], &[(9, 1)], &[(2, 1), (2, 2)], &[(2, u32::MAX)], &[]] {
        let told: Vec<Choice> = told.iter().map(|&(layer, rows)| Choice { layer, rows }).collect();
        let refused = |learning| planned(&model, Options::training(1), learning).unwrap_err();
        let why = refused(Learning::Chosen(&told));
        assert_eq!(why, refused(Learning::Redrawn(&told)));
    }
}
