//! The engine against the golden vectors of the independent oracle (`tests/reference/`), bit for bit.
#![allow(missing_docs, clippy::cast_possible_truncation)]
#![cfg(feature = "alloc")]

use serde_json::Value;
use tintin_core::heap::Model;
use tintin_core::layers::*;
use tintin_core::loss::{self, Loss, Target};
use tintin_core::optim::{self, Alignment, NitiShift, Recipe, Rule, Schedule};
use tintin_core::plan::{Options, empty_slots, plan};
use tintin_core::rescale::{self, Factor, Rounding};
use tintin_core::rng::{self, Draws};
use tintin_core::shape::Shape;
use tintin_core::tensor::Scale;

fn read(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let value: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(value["numerics"], u64::from(tintin_core::NUMERICS), "{name}");
    value
}

fn cases<'a>(v: &'a Value, key: &str) -> &'a Vec<Value> {
    let cases = v[key].as_array().unwrap();
    assert!(!cases.is_empty());
    cases
}

fn int(v: &Value) -> i64 {
    v.as_i64().unwrap_or_else(|| panic!("not an integer: {v}"))
}

fn ints(v: &Value) -> Vec<i32> {
    v.as_array().unwrap().iter().map(|v| int(v) as i32).collect()
}

fn bytes(v: &Value) -> Vec<i8> {
    v.as_array().unwrap().iter().map(|v| i8::try_from(int(v)).unwrap()).collect()
}

fn scale(v: &Value) -> Scale {
    let v = ints(v);
    Scale { s: v[0] as i16, u: v[1] as i16, d: v[2] as i16 }
}

fn shape(v: &Value) -> Shape {
    let v = ints(v);
    Shape::new(v[0] as u32, v[1] as u32, v[2] as u32)
}

fn pair(v: &Value) -> (u16, u16) {
    let v = ints(v);
    (v[0] as u16, v[1] as u16)
}

fn rounding(v: &Value) -> Rounding {
    match v.as_str().unwrap() {
        "Nearest" => Rounding::Nearest,
        "Pseudo" => Rounding::Pseudo,
        "Stochastic" => Rounding::Stochastic,
        other => panic!("{other}"),
    }
}

fn loss_of(v: &Value) -> Loss {
    match v.as_str().unwrap() {
        "CrossEntropy" => Loss::CrossEntropy,
        "NitiCrossEntropy" => Loss::NitiCrossEntropy,
        "SquaredError" => Loss::SquaredError,
        other => panic!("{other}"),
    }
}

fn layer(v: &Value) -> Layer {
    let bias = v["bias"].as_bool().unwrap_or(false);
    match v["kind"].as_str().unwrap() {
        "Linear" => Layer::Linear(Linear { out_features: int(&v["out_features"]) as u16, bias }),
        "Conv2d" => Layer::Conv2d(Conv2d {
            out_channels: int(&v["out_channels"]) as u16,
            kernel: pair(&v["kernel"]),
            stride: pair(&v["stride"]),
            padding: pair(&v["padding"]),
            bias,
        }),
        "DepthwiseConv2d" => Layer::DepthwiseConv2d(DepthwiseConv2d {
            kernel: pair(&v["kernel"]),
            stride: pair(&v["stride"]),
            padding: pair(&v["padding"]),
            bias,
        }),
        "ReLU" => Layer::ReLU(ReLU),
        "Flatten" => Layer::Flatten(Flatten),
        "GlobalAvgPool2d" => Layer::GlobalAvgPool2d(GlobalAvgPool2d),
        "MaxPool2d" => Layer::MaxPool2d(MaxPool2d { kernel: pair(&v["kernel"]), stride: pair(&v["stride"]) }),
        "AvgPool2d" => Layer::AvgPool2d(AvgPool2d { kernel: pair(&v["kernel"]), stride: pair(&v["stride"]) }),
        other => panic!("{other}"),
    }
}

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

fn recipe(v: &Value) -> Recipe {
    let mut milestones = [u32::MAX; 4];
    for (m, v) in milestones.iter_mut().zip(v["milestones"].as_array().unwrap()) {
        *m = int(v) as u32;
    }
    Recipe {
        rule: match v["rule"].as_str().unwrap() {
            "TinTin" => Rule::TinTin { margin: int(&v["margin"]) as u8 },
            "Niti" => Rule::Niti,
            other => panic!("{other}"),
        },
        rounding: rounding(&v["rounding"]),
        loss: loss_of(&v["loss"]),
        schedule: Schedule { start: int(&v["start"]) as i8, change: int(&v["change"]) as i8, milestones },
    }
}

fn digest(v: &Value) -> u64 {
    u64::from_str_radix(v.as_str().unwrap().trim_start_matches("0x"), 16).unwrap()
}

/// Replays one trace with gradients `gradient_rows` rows at a time.
fn replay(name: &str, file: &Value, gradient_rows: u32) {
    let layers: Vec<Layer> = file["layers"].as_array().unwrap().iter().map(layer).collect();
    let recipe = recipe(&file["recipe"]);
    let exponent = int(&file["input_exponent"]) as i16;
    let options = Options {
        gradient_rows,
        whole_maps: gradient_rows == 0,
        ..Options::training(int(&file["batch"]) as u32).train_from(int(&file["train_from"]) as usize)
    };
    let samples: Vec<Vec<i8>> = file["samples"].as_array().unwrap().iter().map(bytes).collect();
    let mut model = Model::new(layers, shape(&file["input"]), int(&file["seed"]) as u32).unwrap();
    assert_eq!(model.digest(), digest(&file["initial_digest"]), "{name} start");
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
        let mut net = model.net(options).unwrap();
        let score = net.train_step(&x, exponent, target, &recipe);
        assert_eq!(score.loss as i64, int(&step["loss"]), "{name} step {n} loss");
        assert_eq!(i64::from(score.correct), int(&step["correct"]), "{name} step {n} correct");
        assert_eq!(net.digest(), digest(&step["digest"]), "{name} step {n}");
    }
    for f in cases(file, "final") {
        let i = model.slots().iter().position(|s| i64::from(s.index) == int(&f["layer"])).unwrap();
        let slot = model.slots()[i];
        let w = &model.weights()[slot.w..][..slot.weights() + slot.biases()];
        assert_eq!(w[..slot.weights()], bytes(&f["w"]), "{name} layer {}", f["layer"]);
        assert_eq!(model.scales()[i].w, scale(&f["w_scale"]));
        if slot.bias {
            assert_eq!(w[slot.weights()..], bytes(&f["b"]), "{name} bias {}", f["layer"]);
            assert_eq!(model.scales()[i].b, scale(&f["b_scale"]));
        }
    }
    for p in cases(file, "predict") {
        for options in [Options::inference(), options] {
            let mut net = model.net(options).unwrap();
            let y = net.predict(&bytes(&p["x"]), exponent);
            assert_eq!((y.mantissas, y.scale), (&bytes(&p["q"])[..], scale(&p["scale"])), "{name}");
        }
    }
}

#[test]
fn traces() {
    let folder = format!("{}/../../tests/vectors", env!("CARGO_MANIFEST_DIR"));
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        if name.starts_with("trace_") {
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
