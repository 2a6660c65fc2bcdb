//! The engine against the golden vectors of the independent oracle (`tests/reference/`), bit for bit.
#![allow(missing_docs, clippy::cast_possible_truncation)]
#![cfg(feature = "alloc")]

mod trace;

use serde_json::Value;
use tintin_core::heap::Model;
use tintin_core::layers::*;
use tintin_core::loss::{self, Loss, Target};
use tintin_core::net::{Memory, Net, State};
use tintin_core::optim::{self, Alignment, NitiShift};
use tintin_core::plan::{
    Choice, Learning, Options, Sizes, Slot, SlotScales, empty_slots, plan, plan_for, resident_len,
};
use tintin_core::rescale::{self, Factor};
use tintin_core::rng::{self, Draws};
use trace::*;

#[test]
fn rounding_shifts() {
    for c in cases(&read("rounding.json"), "cases") {
        let (v, s, u) = (int(&c["v"]) as i32, int(&c["s"]) as u32, int(&c["u"]) as u32);
        assert_eq!(i64::from(rescale::round(v, s, rounding(&c["mode"]), u)), int(&c["r"]), "{c}");
    }
}

#[test]
fn factors() {
    let file = read("factor.json");
    for c in cases(&file, "cases") {
        let f = rescale::factor(int(&c["u"]) as i32, int(&c["d"]) as i32, int(&c["n"]) as u32);
        assert_eq!(f, Factor { m: int(&c["m"]) as i32, e: int(&c["e"]) as i32 }, "{c}");
    }
    for c in cases(&file, "factor28") {
        let f = rescale::factor28(int(&c["u"]) as i32, int(&c["d"]) as i32);
        assert_eq!(f, (int(&c["v"]) as u32, int(&c["e"]) as i32), "{c}");
    }
}

#[test]
fn draws() {
    let file = read("draws.json");
    for c in cases(&file, "cases") {
        let key = |k: &str| int(&c[k]) as u32;
        let mut draws = Draws::new(key("seed"), key("step"), key("layer"), key("row"));
        for u in c["u"].as_array().unwrap() {
            assert_eq!(i64::from(draws.draw()), int(u), "{c}");
        }
    }
    for c in cases(&file, "shuffle") {
        let mut order = vec![0; int(&c["n"]) as usize];
        rng::shuffle(int(&c["seed"]) as u32, int(&c["epoch"]) as u32, &mut order);
        let want: Vec<u32> = c["order"].as_array().unwrap().iter().map(|v| int(v) as u32).collect();
        assert_eq!(order, want);
    }
}

#[test]
fn initial_weights() {
    let (file, depthwise) = (read("initial.json"), read("layers_depthwise.json"));
    for c in cases(&file, "cases").iter().chain(cases(&depthwise, "initial")) {
        // Flatten in front moves the layer to its index and leaves flat inputs alone; ReLU leaves every input alone
        let index = int(&c["layer_index"]) as usize;
        let mut layers = vec![Layer::ReLU(ReLU); index];
        layers.push(layer(&c["layer"]));
        let model = Model::new(layers, shape(&c["input"]), int(&c["seed"]) as u32).unwrap();
        let slot = model.slots().len() - 1;
        assert_eq!(model.scales()[slot].w, scale(&c["scale"]), "{}", c["layer"]);
        let w = bytes(&c["w"]);
        assert_eq!(&model.weights()[..w.len()], w, "{}", c["layer"]);
    }
}

#[test]
fn narrowing() {
    for c in cases(&read("narrow.json"), "cases") {
        let v = ints(&c["v"]);
        let mut q = vec![0; v.len()];
        let out = rescale::narrow(&v, scale(&c["scale"]), &mut q);
        assert_eq!((q, out), (bytes(&c["q"]), scale(&c["out"])), "{c}");
    }
}

#[test]
fn layers() {
    let (file, depthwise) = (read("layers.json"), read("layers_depthwise.json"));
    for c in cases(&file, "cases").iter().chain(cases(&depthwise, "cases")) {
        let (layer, xs) = (layer(&c["layer"]), shape(&c["input"]));
        let need = layer.need(xs).unwrap();
        let (x, dy) = (bytes(&c["x"]), bytes(&c["dy"]));
        let mut dx = vec![0; xs.len()];
        if let Role::MaxPool(pool) = need.role {
            let (mut y, mut index) = (vec![0; need.ys.len()], vec![0; need.ys.len()]);
            let row = (need.ys.w * need.ys.c) as usize;
            let strip = usize::from(pool.stride.0) * (xs.w * xs.c) as usize;
            for (i, (y, index)) in y.chunks_mut(row).zip(index.chunks_mut(row)).enumerate() {
                pool.pool_row(xs, &x[i * strip..], y, index);
            }
            assert_eq!(y, bytes(&c["y"]), "{}", c["layer"]);
            let errors = Errors { dy: &dy, index: &index, pool: Some(pool), ps: need.ys };
            errors.for_each(0..xs.c as usize, |i, j, ch, d| {
                dx[(i * xs.w as usize + j) * xs.c as usize + ch] += i32::from(d);
            });
            assert_eq!(dx, ints(&c["dx"]), "{}", c["layer"]);
            continue;
        }
        let w = if need.rows > 0 { bytes(&c["w"]) } else { vec![] };
        let (mut acc, mut workspace) = (vec![0; need.ys.len()], vec![0; need.workspace as usize]);
        layer.forward(Forward {
            x: &x,
            w: &w,
            acc: &mut acc,
            workspace: &mut workspace,
            xs,
            ys: need.ys,
            first: 0,
            rows: need.ys.h as usize,
        });
        assert_eq!(acc, ints(&c["acc"]), "{}", c["layer"]);
        let errors = Errors { dy: &dy, index: &[], pool: None, ps: need.ys };
        layer.backward(Backward { w: &w, errors, acc: &mut dx, xs, first: 0, rows: xs.h as usize });
        assert_eq!(dx, ints(&c["dx"]), "{}", c["layer"]);
        if need.rows > 0 {
            let mut gw = vec![0; w.len()];
            let rows = 0..need.rows as usize;
            layer.gradient(Gradient { x: &x, errors, acc: &mut gw, xs, rows, workspace: &mut workspace });
            assert_eq!(gw, ints(&c["gw"]), "{}", c["layer"]);
        }
    }
}

#[test]
fn losses() {
    for c in cases(&read("loss.json"), "cases") {
        let (z, scale) = (bytes(&c["z"]), scale(&c["scale"]));
        let mut errors = vec![0; z.len()];
        let kind = loss_of(&c["loss"]);
        let score = if kind == Loss::SquaredError {
            let exponent = int(&c["target_exponent"]) as i16;
            loss::squared_error(&z, scale, &bytes(&c["target"]), exponent, &mut errors)
        } else {
            let label = int(&c["label"]) as u16;
            let score = loss::cross_entropy(&z, scale, label, &mut errors);
            if kind == Loss::NitiCrossEntropy {
                let key = |k: &str| int(&c[k]) as u32;
                let draws = loss::niti_draws(key("seed"), key("step"), key("sample"));
                loss::niti_error(&z, scale, label, draws, &mut errors);
            }
            score
        };
        assert_eq!(errors, ints(&c["e"]), "{c}");
        assert_eq!((score.loss as i64, i64::from(score.correct)), (int(&c["value"]), int(&c["correct"])), "{c}");
    }
}

#[test]
fn updates() {
    let file = read("update.json");
    for c in cases(&file, "cases") {
        let (mut w, g) = (bytes(&c["w"]), ints(&c["g"]));
        let key = |k: &str| int(&c[k]) as u32;
        let draws = Draws::new(key("seed"), key("step"), key("layer"), key("row"));
        let mode = rounding(&c["rounding"]);
        if c["rule"] == "TinTin" {
            let (gs, ws) = (scale(&c["g_scale"]), scale(&c["w_scale"]));
            let shift = int(&c["learning_shift"]) as i32;
            let a = Alignment::new(gs, ws, key("batch"), shift, key("margin") as u8);
            optim::tintin_row(&mut w, &g, a, mode, draws);
        } else if let Some(n) = NitiShift::new(rescale::peak(&g), int(&c["mu"]) as i32) {
            optim::niti_row(&mut w, &g, n, mode, draws);
        }
        assert_eq!(w, bytes(&c["out"]), "{c}");
    }
    for c in cases(&file, "adjust") {
        let (mut w, mut s) = (bytes(&c["w"]), scale(&c["scale"]));
        optim::adjust(&mut w, &mut s);
        assert_eq!((w, s), (bytes(&c["out"]), scale(&c["out_scale"])), "{c}");
    }
}

/// A model under a plan for all layers from one on, or for chosen layers and rows.
struct Owner {
    model: Model,
    chosen: Option<(Vec<Choice>, Vec<Vec<usize>>)>,
    slots: Vec<Slot>,
    sizes: Sizes,
    options: Options,
    memory: (Vec<i8>, Vec<i8>, Vec<i32>, Vec<SlotScales>, State),
}

impl Owner {
    fn new(file: &Value, options: Options) -> Self {
        let layers: Vec<Layer> = file["layers"].as_array().unwrap().iter().map(layer).collect();
        let input = shape(&file["input"]);
        let model = Model::new(layers.clone(), input, int(&file["seed"]) as u32).unwrap();
        let chosen = file["chosen"].as_array().map(|list| {
            let rows: Vec<Vec<usize>> = list
                .iter()
                .map(|c| c["rows"].as_array().map_or(vec![], |r| r.iter().map(|v| int(v) as usize).collect()))
                .collect();
            let choices =
                list.iter().zip(&rows).map(|(c, r)| Choice { layer: int(&c["layer"]) as u32, rows: r.len() as u32 });
            (choices.collect::<Vec<_>>(), rows)
        });
        let mut slots = vec![empty_slots::<1>()[0]; layers.len()];
        let learning = chosen.as_ref().map_or(Learning::From(options.train_from), |(c, _)| Learning::Chosen(c));
        let sizes = plan_for(&layers, input, options, learning, &mut slots).unwrap();
        let memory = (
            vec![0; sizes.resident],
            vec![0; sizes.bytes()],
            vec![0; sizes.all_words()],
            model.scales().to_vec(),
            model.state(),
        );
        let mut owner = Self { model, chosen, slots, sizes, options, memory };
        owner.copy();
        owner
    }

    /// What learns into RAM, and the masks of the rows, which lie last among the bytes.
    fn copy(&mut self) {
        let (resident, bytes, ..) = &mut self.memory;
        let (mut from, mut at) = (0, self.sizes.bytes() - self.sizes.chosen);
        let Some((choices, rows)) = &self.chosen else { return };
        for slot in &self.slots[..self.sizes.slots] {
            let (all, row) = (&self.model.weights()[from..], slot.row as usize);
            let (weights, bias) = all[..slot.weights() + slot.biases()].split_at(slot.weights());
            if slot.resident {
                let which = choices.iter().position(|c| c.layer == slot.index).unwrap();
                for &o in rows[which].iter().filter(|_| slot.chosen() > 0) {
                    bytes[at + o / 8] |= (1u8 << (o % 8)).cast_signed();
                }
                at += slot.chosen();
                let own: Vec<i8> = match slot.apart() {
                    true => rows[which].iter().flat_map(|&o| weights[o * row..][..row].to_vec()).collect(),
                    false => weights.to_vec(),
                };
                resident[slot.w..][..own.len()].copy_from_slice(&own);
                resident[slot.w + own.len()..][..bias.len()].copy_from_slice(bias);
            }
            from += slot.weights() + slot.biases();
        }
    }

    fn net(&mut self) -> Net<'_> {
        if self.chosen.is_none() {
            return self.model.net(self.options).unwrap();
        }
        let (weights, bytes, words, scales, state) = &mut self.memory;
        let memory = Memory { frozen: self.model.weights(), weights, bytes, words, scales, state };
        Net::new(&self.slots, &self.sizes, memory)
    }

    /// Weights, bias and scales of the slot of layer `index`.
    fn tensors(&self, index: i64) -> (Vec<i8>, Vec<i8>, SlotScales) {
        let i = self.slots.iter().position(|s| i64::from(s.index) == index && s.rows > 0).unwrap();
        let before = |slots: &[Slot]| slots.iter().map(|s| s.weights() + s.biases()).sum::<usize>();
        let (slot, from) = (self.slots[i], before(&self.slots[..i]));
        let all = &self.model.weights()[from..][..slot.weights() + slot.biases()];
        let (w, b) = all.split_at(slot.weights());
        let (mut w, mut b) = (w.to_vec(), b.to_vec());
        let Some((choices, rows)) = &self.chosen else { return (w, b, self.model.scales()[i]) };
        if slot.resident {
            let own = &self.memory.0[slot.w..][..resident_len(&self.slots[..self.sizes.slots], i, self.sizes.resident)];
            let (weights, bias) = own.split_at(own.len() - slot.biases());
            b.copy_from_slice(bias);
            let which = choices.iter().position(|c| c.layer == slot.index).unwrap();
            for (o, row) in weights.chunks(slot.row as usize).enumerate() {
                let o = if slot.apart() { rows[which][o] } else { o };
                w[o * row.len()..][..row.len()].copy_from_slice(row);
            }
        }
        (w, b, self.memory.3[i])
    }
}

/// Replays one trace with gradients `gradient_rows` rows at a time.
fn replay(name: &str, file: &Value, gradient_rows: u32) {
    let recipe = recipe(&file["recipe"]);
    let exponent = int(&file["input_exponent"]) as i16;
    let options = Options {
        gradient_rows,
        whole_maps: gradient_rows == 0,
        ..Options::training(int(&file["batch"]) as u32).train_from(int(&file["train_from"]) as usize)
    };
    let samples: Vec<Vec<i8>> = file["samples"].as_array().unwrap().iter().map(bytes).collect();
    let mut owner = Owner::new(file, options);
    assert_eq!(owner.net().digest(), digest(&file["initial_digest"]), "{name} start");
    for (n, step) in cases(file, "steps").iter().enumerate() {
        let x: Vec<i8> =
            step["samples"].as_array().unwrap().iter().flat_map(|i| samples[int(i) as usize].clone()).collect();
        let labels: Vec<u16>;
        let values: Vec<i8>;
        let target = if let Some(l) = step["labels"].as_array() {
            labels = l.iter().map(|v| int(v) as u16).collect();
            Target::Labels(&labels)
        } else {
            values = step["targets"].as_array().unwrap().iter().flat_map(bytes).collect();
            Target::Values(&values, int(&file["recipe"]["target_exponent"]) as i16)
        };
        let mut net = owner.net();
        let score = net.train_step(&x, exponent, target, &recipe);
        assert_eq!(score.loss as i64, int(&step["loss"]), "{name} step {n} loss");
        assert_eq!(i64::from(score.correct), int(&step["correct"]), "{name} step {n} correct");
        assert_eq!(net.digest(), digest(&step["digest"]), "{name} step {n}");
    }
    for f in cases(file, "final") {
        let (w, b, scales) = owner.tensors(int(&f["layer"]));
        assert_eq!(w, bytes(&f["w"]), "{name} layer {}", f["layer"]);
        assert_eq!(scales.w, scale(&f["w_scale"]));
        if !b.is_empty() {
            assert_eq!(b, bytes(&f["b"]), "{name} bias {}", f["layer"]);
            assert_eq!(scales.b, scale(&f["b_scale"]));
        }
    }
    for p in cases(file, "predict") {
        let y = bytes(&p["q"]);
        let mut net = owner.net();
        let seen = net.predict(&bytes(&p["x"]), exponent);
        assert_eq!((seen.mantissas, seen.scale), (&y[..], scale(&p["scale"])), "{name}");
        if owner.chosen.is_none() {
            let mut net = owner.model.net(Options::inference()).unwrap();
            let seen = net.predict(&bytes(&p["x"]), exponent);
            assert_eq!((seen.mantissas, seen.scale), (&y[..], scale(&p["scale"])), "{name}");
        }
    }
}

#[test]
fn traces() {
    let folder = format!("{}/../../tests/vectors", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("trace_") && !name.starts_with("trace_adapt") {
            let file = read(&name);
            for gradient_rows in [1, 3, 0] {
                replay(&name, &file, gradient_rows);
            }
            count += 1;
        }
    }
    assert!(count >= 20, "only {count} traces found");
}

#[test]
fn planning_a_trace_needs_no_heap() {
    let file = read("trace_image.json");
    let layers: Vec<Layer> = file["layers"].as_array().unwrap().iter().map(layer).collect();
    let mut slots = empty_slots::<32>();
    assert!(plan(&layers, shape(&file["input"]), Options::training(1), &mut slots).is_ok());
}
