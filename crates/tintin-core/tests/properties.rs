//! Layers against their definitions, and what must not matter to a net: its plan, leftover memory, a trip through a file.
#![allow(missing_docs)]
#![cfg(feature = "alloc")]

mod naive;

use naive::{mean, naive, unpool, winners};
use proptest::prelude::*;
use tintin_core::file::{Header, file_len};
use tintin_core::heap::{Model, planned};
use tintin_core::layers::*;
use tintin_core::loss::{Loss, Score, Target};
use tintin_core::net::{Memory, Net, State};
use tintin_core::optim::{Recipe, Rule, Schedule};
use tintin_core::plan::{INPUT, Options, Sizes, Slot, SlotScales};
use tintin_core::rescale::Rounding;
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;

/// Which mantissas to try: any; the ends, where sums are largest; many zeros and ties; one value, so that every window ties.
#[derive(Clone, Copy, Debug)]
enum Palette {
    Any,
    Ends,
    Sparse,
    Same(i8),
}

fn palettes() -> impl Strategy<Value = (Palette, u32)> {
    let palette = prop_oneof![
        4 => Just(Palette::Any),
        2 => Just(Palette::Ends),
        2 => Just(Palette::Sparse),
        1 => prop::sample::select(vec![-127, 0, 127]).prop_map(Palette::Same),
    ];
    (palette, any::<u32>())
}

/// `n` mantissas; `salt` tells the tensors of a case apart.
fn paint((palette, seed): (Palette, u32), salt: u32, n: usize) -> Vec<i8> {
    let mut draws = Draws::new(seed, salt, 0, 0);
    let mut one = |_| {
        let v = i8::try_from(draws.below(255).cast_signed() - 127).unwrap();
        match palette {
            Palette::Any => v,
            Palette::Ends => {
                if v < 0 {
                    -127
                } else {
                    127
                }
            }
            Palette::Sparse => {
                if v % 4 == 0 {
                    v / 32
                } else {
                    0
                }
            }
            Palette::Same(v) => v,
        }
    };
    (0..n).map(&mut one).collect()
}

fn pairs(most: u16) -> impl Strategy<Value = (u16, u16)> {
    (1..=most, 1..=most)
}

/// One layer of `kind` and raw settings; whether it fits its input is for [`Layer::need`] to say.
#[derive(Clone, Copy, Debug)]
struct Draft {
    kind: u8,
    out: u16,
    kernel: (u16, u16),
    stride: (u16, u16),
    padding: (u16, u16),
    bias: bool,
}

fn drafts(kinds: std::ops::Range<u8>) -> impl Strategy<Value = Draft> {
    (kinds, 1..=6u16, pairs(5), pairs(3), (0..5u16, 0..5u16), any::<bool>())
        .prop_map(|(kind, out, kernel, stride, padding, bias)| Draft { kind, out, kernel, stride, padding, bias })
}

impl Draft {
    fn layer(self) -> Layer {
        let Self { out, kernel, stride, bias, .. } = self;
        let padding = (self.padding.0 % kernel.0, self.padding.1 % kernel.1);
        match self.kind {
            0 => Layer::Linear(Linear { out_features: out, bias }),
            1 => Layer::Conv2d(Conv2d { out_channels: out, kernel, stride, padding, bias }),
            2 => Layer::AvgPool2d(AvgPool2d { kernel, stride }),
            3 => Layer::GlobalAvgPool2d(GlobalAvgPool2d),
            4 => Layer::MaxPool2d(MaxPool2d { kernel, stride }),
            5 => Layer::ReLU(ReLU),
            7 => Layer::DepthwiseConv2d(DepthwiseConv2d { kernel, stride, padding, bias }),
            _ => Layer::Flatten(Flatten),
        }
    }
}

fn shapes() -> impl Strategy<Value = Shape> {
    // height 1 is a one-dimensional signal, channel counts cross the width of a vector
    let channels = prop_oneof![8 => 1..=4u32, 1 => 15..=17u32];
    (prop_oneof![1 => Just(1), 4 => 1..=8u32], 1..=8u32, channels).prop_map(|(h, w, c)| Shape::new(h, w, c))
}

fn layers_with_sums() -> impl Strategy<Value = (Layer, Shape)> {
    let drafts = prop_oneof![4 => drafts(0..4), 2 => drafts(7..8)];
    (drafts, shapes()).prop_filter_map("does not fit", |(draft, xs)| {
        let layer = draft.layer();
        layer.need(xs).is_ok().then_some((layer, xs))
    })
}

fn wide(v: &[i32]) -> Vec<i64> {
    v.iter().map(|&v| i64::from(v)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn layers_equal_their_definitions((layer, xs) in layers_with_sums(), samples in 1..=3usize, values in palettes()) {
        let (need, definition) = (layer.need(xs).unwrap(), naive(layer, xs));
        prop_assert_eq!(need.ys, definition.ys);
        if let Layer::AvgPool2d(AvgPool2d { kernel, .. }) = layer {
            let cells = usize::from(kernel.0) * usize::from(kernel.1);
            prop_assert_eq!(need.role, Role::Sums { exponent: mean(cells).1 });
        }
        let weights = (need.rows * need.row) as usize;
        let (x, w) = (paint(values, 1, samples * xs.len()), paint(values, 2, weights));
        let dy = paint(values, 3, samples * need.ys.len());

        let mut acc = vec![0; dy.len()];
        let mut workspace = vec![77; need.workspace as usize];
        let rows = need.ys.h as usize;
        layer.forward(Forward { x: &x, w: &w, acc: &mut acc, workspace: &mut workspace, xs, ys: need.ys, first: 0, rows });
        let errors = Errors { dy: &dy, index: &[], pool: None, ps: need.ys };
        let mut dx = vec![0; x.len()];
        layer.backward(Backward { w: &w, errors, acc: &mut dx, xs, first: 0, rows: xs.h as usize });

        let mut gw = vec![0; weights];
        for (s, (x, dy)) in x.chunks(xs.len()).zip(dy.chunks(need.ys.len())).enumerate() {
            prop_assert_eq!(wide(&acc[s * dy.len()..][..dy.len()]), definition.forward(x, &w));
            let dy: Vec<i64> = dy.iter().map(|&d| d.into()).collect();
            prop_assert_eq!(wide(&dx[s * x.len()..][..x.len()]), definition.backward(&dy, &w, x.len()));
            if weights > 0 {
                definition.gradient(&dy, x, &mut gw);
            }
        }
        if weights > 0 {
            // all rows at once, and any run of rows on its own
            let (rows, row) = (need.rows as usize, need.row as usize);
            for range in [0..rows, 0..rows.div_ceil(2), rows / 2..rows] {
                let mut acc = vec![0; range.len() * row];
                layer.gradient(Gradient { x: &x, errors, acc: &mut acc, xs, rows: range.clone(), workspace: &mut workspace });
                prop_assert_eq!(wide(&acc), &gw[range.start * row..range.end * row]);
            }
        }
    }

    #[test]
    fn max_pool_equals_its_definition(
        kernel in pairs(4), stride in pairs(5), xs in shapes(), values in palettes(),
    ) {
        let pool = MaxPool2d { kernel, stride };
        let Ok(need) = Layer::MaxPool2d(pool).need(xs) else { return Ok(()) };
        let x = paint(values, 1, xs.len());
        let (mut y, mut index) = (vec![0; need.ys.len()], vec![0; need.ys.len()]);
        let strip = usize::from(stride.0) * (xs.w * xs.c) as usize;
        let row = (need.ys.w * need.ys.c) as usize;
        for (i, (y, index)) in y.chunks_mut(row).zip(index.chunks_mut(row)).enumerate() {
            pool.pool_row(xs, &x[i * strip..], y, index);
        }
        let winners = winners(pool, xs, &x);
        for ((&y, &index), &(place, number)) in y.iter().zip(&index).zip(&winners) {
            prop_assert_eq!((y, usize::from(index.cast_unsigned())), (x[place], number));
        }
        let dy = paint(values, 2, y.len());
        let mut dx = vec![0; x.len()];
        Errors { dy: &dy, index: &index, pool: Some(pool), ps: need.ys }.for_each(0..xs.c as usize, |i, j, ch, d| {
            dx[(i * xs.w as usize + j) * xs.c as usize + ch] += i64::from(d);
        });
        prop_assert_eq!(dx, unpool(&winners, &dy, x.len()));
    }

    /// Errors behind a pool taken over reach the layer as if they lay at the sums.
    #[test]
    fn pooled_errors_equal_errors_at_the_sums(
        (layer, xs) in layers_with_sums(), kernel in pairs(3), stride in pairs(3), values in palettes(),
    ) {
        let (need, definition, pool) = (layer.need(xs).unwrap(), naive(layer, xs), MaxPool2d { kernel, stride });
        let Ok(pooled) = Layer::MaxPool2d(pool).need(need.ys) else { return Ok(()) };
        let (x, w) = (paint(values, 1, xs.len()), paint(values, 2, (need.rows * need.row) as usize));
        let winners = winners(pool, need.ys, &definition.forward(&x, &w));
        let index: Vec<i8> = winners.iter().map(|&(_, n)| u8::try_from(n).unwrap().cast_signed()).collect();
        let dy = paint(values, 3, pooled.ys.len());
        let at_sums = unpool(&winners, &dy, need.ys.len());
        let errors = Errors { dy: &dy, index: &index, pool: Some(pool), ps: pooled.ys };
        let mut dx = vec![0; xs.len()];
        layer.backward(Backward { w: &w, errors, acc: &mut dx, xs, first: 0, rows: xs.h as usize });
        prop_assert_eq!(wide(&dx), definition.backward(&at_sums, &w, xs.len()));
        if need.rows > 0 {
            let (mut gw, mut want) = (vec![0; w.len()], vec![0; w.len()]);
            let mut workspace = vec![77; need.workspace as usize];
            layer.gradient(Gradient { x: &x, errors, acc: &mut gw, xs, rows: 0..need.rows as usize, workspace: &mut workspace });
            definition.gradient(&at_sums, &x, &mut want);
            prop_assert_eq!(wide(&gw), want);
        }
    }
}

/// A small net with everything that decides its training.
#[derive(Clone, Debug)]
struct Case {
    layers: Vec<Layer>,
    input: Shape,
    batch: u32,
    train_from: usize,
    recipe: Recipe,
    values: (Palette, u32),
    exponent: i16,
    steps: u32,
}

fn recipes() -> impl Strategy<Value = Recipe> {
    let rule = prop_oneof![2 => (0..=6u8).prop_map(|margin| Rule::TinTin { margin }), 1 => Just(Rule::Niti)];
    let rounding = prop::sample::select(vec![Rounding::Nearest, Rounding::Pseudo, Rounding::Stochastic]);
    let loss = prop::sample::select(vec![Loss::CrossEntropy, Loss::NitiCrossEntropy, Loss::SquaredError]);
    (rule, rounding, loss, 0..=7i8, 0..=2u32).prop_map(|(rule, rounding, loss, start, milestone)| {
        let change = if rule == Rule::Niti { -1 } else { 1 };
        let mut schedule = Schedule { change, ..Schedule::constant(start) };
        schedule.milestones[0] = milestone;
        Recipe { rule, rounding, loss, schedule }
    })
}

/// Drafts for the body of a net: maps that last, and every order of pool and ReLU.
fn bodies() -> impl Strategy<Value = Vec<Draft>> {
    let kinds = prop::sample::select(vec![0, 1, 1, 1, 1, 1, 1, 2, 3, 4, 4, 4, 4, 5, 5, 5, 5, 6, 7, 7, 7]);
    let draft = (drafts(0..1), kinds, pairs(3), pairs(2));
    let draft = draft.prop_map(|(draft, kind, kernel, stride)| Draft { kind, kernel, stride, ..draft });
    prop::collection::vec(draft, 0..8)
}

fn cases() -> impl Strategy<Value = Case> {
    let shapes = (prop_oneof![Just(1u32), 4..=9u32], 4..=9u32, 1..=3u32).prop_map(|(h, w, c)| Shape::new(h, w, c));
    let list = (bodies(), shapes, 2..=6u16, 0..4u8);
    // every 64th step adjusts weight scales (N20)
    let steps = prop_oneof![3 => 1..=4u32, 1 => Just(66)];
    let from = prop_oneof![2 => Just(0), 1 => 1..8usize];
    (list, 1..=4u32, from, recipes(), palettes(), -9..=-5i16, steps).prop_map(
        |((drafts, input, outputs, end), batch, from, recipe, values, exponent, steps)| {
            let (mut layers, mut shape) = (vec![], input);
            for draft in drafts {
                let layer = draft.layer();
                if let Ok(need) = layer.need(shape)
                    && need.ys.len() <= 400
                {
                    shape = need.ys;
                    layers.push(layer);
                }
            }
            // most nets end in a layer to train; all have one
            let weights =
                layers.iter().any(|l| matches!(l, Layer::Linear(_) | Layer::Conv2d(_) | Layer::DepthwiseConv2d(_)));
            if !weights || end > 0 {
                layers.push(Layer::Linear(Linear::new(outputs)));
            }
            let trains = |&from: &usize| planned(&layers, input, Options::training(batch).train_from(from)).is_ok();
            let train_from = (0..=from).rev().find(trains).unwrap_or(0);
            Case { layers, input, batch, train_from, recipe, values, exponent, steps }
        },
    )
}

impl Case {
    fn model(&self) -> Model {
        Model::new(self.layers.clone(), self.input, self.values.1).unwrap()
    }

    fn options(&self) -> Options {
        Options::training(self.batch).train_from(self.train_from)
    }

    /// Samples of step `step`; every third step is one short of the planned batch.
    fn samples(&self, step: u32) -> usize {
        (self.batch - u32::from(step % 3 == 2 && self.batch > 1)) as usize
    }

    /// Inputs of step `step`.
    fn inputs(&self, step: u32) -> Vec<i8> {
        paint(self.values, 100 + step, self.samples(step) * self.input.len())
    }

    fn train(&self, net: &mut Net<'_>, step: u32) -> Score {
        let n = net.output_len();
        let outputs = self.samples(step) * n;
        let x = self.inputs(step);
        let target = paint((Palette::Any, self.values.1), 1000 + step, outputs);
        let classes = u8::try_from(n.min(255)).unwrap();
        let labels: Vec<u16> = target.chunks(n).map(|t| u16::from(t[0].cast_unsigned() % classes)).collect();
        let target = match self.recipe.loss {
            Loss::SquaredError => Target::Values(&target, -7),
            _ => Target::Labels(&labels),
        };
        net.train_step(&x, self.exponent, target, &self.recipe)
    }
}

/// The nets of plans that have one byte less than they want and the least they can do with, where that can be: then the sums of
/// some slots, or of all, are computed twice.
fn tight(model: &Model, options: Options) -> Vec<Owned> {
    let sizes = |limit| planned(model.layers(), model.input(), options.ram_limit(limit)).map(|(_, sizes)| sizes);
    let most = sizes(usize::MAX).unwrap().ram();
    let (least, _) = sizes(1).unwrap_err().bytes.unwrap();
    if least == most {
        return vec![];
    }
    [least, most - 1]
        .map(|limit| {
            let less = sizes(limit).unwrap();
            assert!(less.set & STREAMED != 0 && less.ram() <= limit);
            Owned::new(model, options.ram_limit(limit))
        })
        .to_vec()
}

/// A net over exactly sized memory that the test owns, so that it can be soiled.
#[derive(Clone)]
struct Owned {
    slots: Vec<Slot>,
    sizes: Sizes,
    frozen: Vec<i8>,
    weights: Vec<i8>,
    bytes: Vec<i8>,
    words: Vec<i32>,
    scales: Vec<SlotScales>,
    state: State,
}

impl Owned {
    fn new(model: &Model, options: Options) -> Self {
        let (slots, sizes) = planned(model.layers(), model.input(), options).unwrap();
        let (frozen, weights) = model.weights().split_at(sizes.frozen);
        Self {
            frozen: frozen.to_vec(),
            weights: weights.to_vec(),
            bytes: vec![0; sizes.bytes()],
            words: vec![0; sizes.all_words()],
            scales: model.scales().to_vec(),
            state: model.state(),
            slots,
            sizes,
        }
    }

    fn net(&mut self) -> Net<'_> {
        let Self { slots, sizes, frozen, weights, bytes, words, scales, state } = self;
        Net::new(slots, sizes, Memory { frozen, weights, bytes, words, scales, state })
    }

    /// Garbage wherever nothing is promised to survive a call, −128 and extreme sums included.
    fn poison(&mut self, seed: u32) {
        let mut draws = Draws::new(seed, 0, 0, 0);
        self.bytes.fill_with(|| u8::try_from(draws.draw() >> 24).unwrap().cast_signed());
        self.words.fill_with(|| draws.draw().cast_signed() | i32::MIN);
        for scales in &mut self.scales {
            scales.y.s = 999;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_at_once_and_leftover_memory_do_not_matter(case in cases(), garbage in any::<u32>()) {
        let model = case.model();
        let plans = [1, 2, 0].map(|gradient_rows| Options { gradient_rows, ..case.options() });
        let mut nets = plans.map(|options| Owned::new(&model, options)).to_vec();
        nets.extend(tight(&model, case.options()));
        nets.extend(tight(&model, case.options().spacious()));
        let mut soiled = Owned::new(&model, case.options());
        for step in 0..case.steps {
            soiled.poison(garbage ^ step);
            let want = (case.train(&mut soiled.net(), step), soiled.net().digest());
            for net in &mut nets {
                prop_assert_eq!((case.train(&mut net.net(), step), net.net().digest()), want);
            }
        }
        soiled.poison(!garbage);
        let x = &case.inputs(7)[..case.input.len()];
        let (mut soiled, mut clean) = (soiled.net(), nets[0].net());
        prop_assert_eq!(soiled.predict(x, case.exponent), clean.predict(x, case.exponent));
    }

    #[test]
    fn what_lives_together_does_not_overlap(case in cases()) {
        let (slots, sizes) = planned(&case.layers, case.input, case.options()).unwrap();
        let (n, batch) = (slots.len(), case.batch as usize);
        // (range, first and last time of use), times as the planner counts them
        let mut buffers = vec![];
        for (k, slot) in slots.iter().enumerate() {
            if slot.source == INPUT {
                let last = if slot.trained() { 2 * n + 1 - k } else { k + 1 };
                buffers.push((slot.x..slot.x + batch * slot.xs.len(), 0, last));
            } else {
                prop_assert_eq!(slot.x, slots[slot.source as usize].y);
            }
            let users: Vec<_> = (0..n).filter(|&u| [slots[u].source, slots[u].second].contains(&u16::try_from(k).unwrap())).collect();
            let forward = users.iter().map(|u| u + 1).max().unwrap_or(n + 1);
            let kept = users.iter().filter(|&&u| slots[u].trained() || slot.kept && slots[u].taped && slot.relu);
            let last = kept.map(|u| 2 * n + 1 - u).max().unwrap_or(0).max(forward);
            buffers.push((slot.y..slot.y + batch * slot.ys.len(), k + 1, last));
            if slot.taped {
                let since = users.iter().filter(|&&u| slots[u].taped).map(|u| 2 * n + 1 - u).min().unwrap_or(n + 1);
                buffers.push((slot.dy..slot.dy + batch * slot.ys.len(), since, 2 * n + 1 - k));
            }
        }
        let further = (0..n).filter(|&k| slots[k].further.contains(&true));
        for k in further {
            let time = 2 * n + 1 - k;
            buffers.push((sizes.spare..sizes.spare + batch * slots[k].xs.len(), time, time));
        }
        for (i, (a, a_since, a_until)) in buffers.iter().enumerate() {
            prop_assert!(a.end <= sizes.activations);
            for (b, b_since, b_until) in &buffers[..i] {
                let together = a_since <= b_until && b_since <= a_until;
                prop_assert!(!together || a.end <= b.start || b.end <= a.start, "{a:?} and {b:?}");
            }
        }
        let indices: usize = slots.iter().map(|s| batch * s.winners()).sum();
        prop_assert!(indices <= sizes.indices);
    }

    #[test]
    fn a_frozen_prefix_stays(case in cases()) {
        let mut model = case.model();
        let before = model.clone();
        for step in 0..case.steps {
            case.train(&mut model.net(case.options()).unwrap(), step);
        }
        // drawing anew passes the prefix by and starts the rest where it started
        let mut owned = Owned::new(&model, case.options());
        owned.net().initialise(case.values.1);
        prop_assert_eq!(owned.net().digest(), before.digest());
        let (slots, sizes) = planned(&case.layers, case.input, case.options()).unwrap();
        prop_assert_eq!(&model.weights()[..sizes.frozen], &before.weights()[..sizes.frozen]);
        for (slot, (now, then)) in slots.iter().zip(model.scales().iter().zip(before.scales())) {
            if (slot.index as usize) < case.train_from {
                prop_assert!(!slot.trained());
                prop_assert_eq!((now.w, now.b), (then.w, then.b));
            }
        }
    }

    #[test]
    fn predictions_do_not_depend_on_the_plan_or_the_past(case in cases()) {
        let mut model = case.model();
        for step in 0..case.steps {
            case.train(&mut model.net(case.options()).unwrap(), step);
        }
        let x = paint(case.values, 5, case.input.len());
        let other = paint((Palette::Any, 1), 6, case.input.len());
        let mut fresh = model.clone();
        let mut net = fresh.net(Options::inference()).unwrap();
        let want = net.predict(&x, case.exponent);
        let (q, scale) = (want.mantissas.to_vec(), want.scale);
        let plans = [Options::inference(), Options::training(1), Options::training(5), case.options()];
        for mut tight in tight(&model, Options::inference()) {
            let mut net = tight.net();
            let y = net.predict(&x, case.exponent);
            prop_assert_eq!((y.mantissas, y.scale), (&q[..], scale));
        }
        for options in plans {
            let mut net = model.net(Options { gradient_rows: case.batch % 3, ..options }).unwrap();
            net.evaluate(&other, 3, Target::Labels(&[0]), Loss::CrossEntropy);
            for _ in 0..2 {
                let y = net.predict(&x, case.exponent);
                prop_assert_eq!((y.mantissas, y.scale), (&q[..], scale));
            }
            net.predict(&other, -20);
        }
    }

    #[test]
    fn training_goes_on_through_a_file(case in cases()) {
        let mut model = case.model();
        for step in 0..case.steps {
            case.train(&mut model.net(case.options()).unwrap(), step);
        }
        model.recipe = Some(case.recipe);
        let bytes = model.to_bytes().unwrap();
        let mut again = Model::from_bytes(&bytes).unwrap();
        prop_assert_eq!(&again.to_bytes().unwrap(), &bytes);
        prop_assert_eq!((again.digest(), again.state(), again.recipe), (model.digest(), model.state(), model.recipe));
        prop_assert_eq!(again.layers(), &case.layers[..]);
        prop_assert_eq!(Header::read(&bytes).unwrap().layers, case.layers.len());
        let (slots, sizes) = planned(&case.layers, case.input, Options::inference()).unwrap();
        prop_assert_eq!(bytes.len(), file_len(case.layers.len(), &slots, &sizes));
        // into a net that has other weights; what is frozen lies outside and is not loaded
        let mut loaded = Owned::new(&model, case.options());
        loaded.weights.fill(1);
        loaded.scales.fill(SlotScales::ZERO);
        loaded.net().load(&bytes).unwrap();
        prop_assert_eq!((loaded.net().digest(), loaded.state), (model.digest(), model.state()));
        for step in case.steps..case.steps + 2 {
            case.train(&mut model.net(case.options()).unwrap(), step);
            case.train(&mut again.net(case.options()).unwrap(), step);
            case.train(&mut loaded.net(), step);
        }
        prop_assert_eq!(again.digest(), model.digest());
        prop_assert_eq!(loaded.net().digest(), model.digest());
    }
}
