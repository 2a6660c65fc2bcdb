//! The pieces of few-sample learning against the golden vectors of the independent oracle (N30 to N37), bit for bit.
#![allow(missing_docs, clippy::cast_possible_truncation)]

use core::fmt::Debug;
use serde_json::Value;
use tintin_core::fewshot::{self, Candidate, Choice, Fisher, Price, Prototypes, RowRate};
use tintin_core::rng::shuffle;
use tintin_core::shape::Shape;
use tintin_core::tensor::Scale;

fn read(name: &str) -> Value {
    let path = format!("{}/../../tests/vectors/{name}", env!("CARGO_MANIFEST_DIR"));
    let file = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
    let value: Value = serde_json::from_str(&file).unwrap();
    assert_eq!(value["numerics"], u64::from(tintin_core::NUMERICS), "{name}");
    value
}

fn all<'a>(v: &'a Value, key: &str) -> &'a Vec<Value> {
    let cases = v[key].as_array().unwrap();
    assert!(!cases.is_empty(), "{key}");
    cases
}

fn int<T: TryFrom<i64>>(v: &Value) -> T {
    let v = v.as_i64().unwrap_or_else(|| panic!("not an integer: {v}"));
    T::try_from(v).unwrap_or_else(|_| panic!("{v} is out of range"))
}

fn optional(v: &Value) -> Option<i32> {
    (!v.is_null()).then(|| int(v))
}

fn ints<T: TryFrom<i64>>(v: &Value) -> Vec<T> {
    v.as_array().unwrap().iter().map(int).collect()
}

fn large(v: &Value) -> Vec<u64> {
    v.as_array().unwrap().iter().map(|v| v.as_u64().unwrap()).collect()
}

fn scale(v: &Value) -> Scale {
    let v: Vec<i16> = ints(v);
    Scale { s: v[0], u: v[1], d: v[2] }
}

fn rows_of(mask: &[i8]) -> Vec<usize> {
    (0..8 * mask.len()).filter(|&o| fewshot::is_set(mask, o)).collect()
}

/// Of one type, so that the expected value is read as it.
fn same<T: PartialEq + Debug>(result: T, expected: T, case: &Value) {
    assert_eq!(result, expected, "{case}");
}

#[test]
fn units_and_prototypes() {
    let file = read("fewshot_unit.json");
    for c in all(&file, "cases") {
        let w: Vec<i32> = ints(&c["w"]);
        let mut u = vec![0; w.len()];
        let q = fewshot::unit(w.iter().copied(), &mut u);
        same((u, q), (ints(&c["u"]), int(&c["q"])), c);
    }
    for c in all(&file, "prototypes") {
        let (labels, expected) = (ints::<u16>(&c["labels"]), all(c, "prototypes"));
        let (classes, features) = (int::<usize>(&c["classes"]), expected[0].as_array().unwrap().len());
        let (mut sums, mut units) = (vec![7; classes * features], vec![7; classes * features]);
        let mut prototypes = Prototypes::new(&mut sums, &mut units, features);
        prototypes.clear();
        for (label, f) in labels.iter().zip(all(c, "features")) {
            prototypes.add(&ints::<i8>(f), *label);
        }
        prototypes.finish();
        for q in all(c, "queries") {
            let mut dots = vec![7; classes];
            same(prototypes.classify(&ints::<i8>(&q["f"]), &mut dots), int(&q["class"]), q);
            same(dots, ints(&q["dots"]), q);
        }
        assert_eq!(units, expected.iter().flat_map(ints::<i16>).collect::<Vec<_>>());
    }
}

#[test]
fn prototype_losses() {
    for c in all(&read("fewshot_loss.json"), "cases") {
        let (f, scale_of_f) = (ints::<i8>(&c["f"]), scale(&c["scale"]));
        let mut units: Vec<i16> = all(c, "prototypes").iter().flat_map(ints::<i16>).collect();
        let prototypes = Prototypes::new(&mut [], &mut units, f.len());
        let (mut errors, mut scratch) = (vec![7; f.len()], vec![7; 2 * prototypes.classes()]);
        let temperature = int::<u8>(&c["temperature"]);
        let score = prototypes.loss(&f, int(&c["label"]), temperature, &mut errors, &mut scratch);
        let (dots, shares) = scratch.split_at(prototypes.classes());
        same((dots, shares), (&*ints::<i32>(&c["dots"]), &*ints::<i32>(&c["e"])), c);
        same(errors, ints(&c["error"]), c);
        same(fewshot::error_scale(scale_of_f, temperature), scale(&c["error_scale"]), c);
        same((score.loss, score.correct), (int(&c["value"]), int(&c["correct"])), c);
    }
}

#[test]
fn augmentations() {
    let file = read("fewshot_augment.json");
    for c in all(&file, "moves") {
        let shape: Vec<u32> = ints(&c["shape"]);
        let x: Vec<i8> = ints(&c["x"]);
        let mut y = vec![7; x.len()];
        fewshot::move_by(&x, Shape::new(shape[0], shape[1], shape[2]), (int(&c["v"]), int(&c["w"])), &mut y);
        same(y, ints(&c["y"]), c);
    }
    for c in all(&file, "draws") {
        let most: Vec<u16> = ints(&c["limits"]);
        let moved = fewshot::moved(int(&c["seed"]), int(&c["step"]), int(&c["place"]), (most[0], most[1]));
        same(moved, (int(&c["v"]), int(&c["w"])), c);
    }
    for c in all(&file, "passes") {
        let (samples, batch) = (int::<usize>(&c["samples"]), int::<usize>(&c["batch"]));
        let mut order = vec![0; samples];
        shuffle(int(&c["seed"]), int(&c["step"]), &mut order);
        let n = samples.div_ceil(batch);
        for (i, expected) in all(c, "batches").iter().enumerate() {
            same(&order[i * samples / n..(i + 1) * samples / n], &ints(expected)[..], c);
        }
    }
}

#[test]
fn fisher_information() {
    for c in all(&read("fewshot_fisher.json"), "cases") {
        let channels: usize = int(&c["channels"]);
        let (mut sums, mut v) = (vec![7; channels], vec![7; channels]);
        let mut fisher = Fisher::new(&mut sums);
        for s in all(c, "samples") {
            let exponent = int::<i32>(&s["a_s"]) + int::<i32>(&s["g_s"]);
            fisher.add(&ints::<i8>(&s["a"]), &ints::<i8>(&s["g"]), exponent, &mut v);
            same((fisher.sums(), fisher.exponent()), (&*large(&s["d"]), optional(&s["r"])), s);
        }
    }
}

#[test]
fn scores() {
    let file = read("fewshot_choice.json");
    for c in all(&file, "log2q8") {
        same(fewshot::log2_q8(c["v"].as_u64().unwrap()), int(&c["r"]), c);
    }
    for c in all(&file, "scores") {
        let potential = large(&c["d"]).into_iter().fold(0, u64::saturating_add);
        let scale = Scale { s: 99, u: int(&c["u"]), d: int(&c["down"]) };
        let score = fewshot::score(potential, int(&c["r"]), scale, int(&c["parameters"]), int(&c["products"]));
        same(score, optional(&c["score"]), c);
    }
}

#[test]
fn choices() {
    for c in all(&read("fewshot_choice.json"), "choices") {
        let slots = all(c, "slots");
        let pair = |v: &Value| <[u64; 2]>::try_from(large(v)).unwrap();
        let [bytes, products] = pair(&c["budgets"]);
        let price = |chosen: &[Choice]| {
            let mut total = pair(&c["base"]);
            let lowest = chosen.iter().map(|choice| choice.layer as usize).min();
            for (i, total) in total.iter_mut().enumerate() {
                *total += lowest.map_or(0, |lowest| pair(&slots[lowest]["reach"])[i]);
                for choice in chosen {
                    let slot = &slots[choice.layer as usize];
                    *total += pair(&slot["own"])[i] + u64::from(choice.rows) * pair(&slot["per_row"])[i];
                }
            }
            Some(Price { bytes: total[0], products: total[1] })
        };
        let rows = |slot: &Value| slot["d"].as_array().unwrap().len();
        let mut candidates: Vec<Candidate> = slots
            .iter()
            .zip(0..)
            .map(|(slot, layer)| Candidate { layer, rows: rows(slot) as u32, score: optional(&slot["score"]) })
            .collect();
        let mut chosen = vec![Choice { layer: 0, rows: 0 }; slots.len()];
        let count = fewshot::choose(&mut candidates, int(&c["ratio"]), Price { bytes, products }, &mut chosen, price);
        let mut taken: Vec<(usize, Vec<usize>)> = chosen[..count]
            .iter()
            .map(|choice| {
                let d = large(&slots[choice.layer as usize]["d"]);
                let mut mask = vec![-1i8; d.len().div_ceil(8)];
                fewshot::largest(d.into_iter(), choice.rows as usize, &mut mask);
                (choice.layer as usize, rows_of(&mask))
            })
            .collect();
        let mut expected: Vec<(usize, Vec<usize>)> =
            c["taken"].as_array().unwrap().iter().map(|t| (int(&t["slot"]), ints(&t["rows"]))).collect();
        taken.sort();
        expected.sort();
        same(taken, expected, c);
    }
}

#[test]
fn rows() {
    let file = read("fewshot_rows.json");
    for c in all(&file, "drawn") {
        let n: usize = int(&c["n"]);
        let mut mask = vec![-1i8; n.div_ceil(8)];
        fewshot::drawn(int(&c["seed"]), int(&c["step"]), int(&c["layer"]), n, int(&c["k"]), &mut mask);
        same(rows_of(&mask), ints(&c["rows"]), c);
    }
    for c in all(&file, "by_error") {
        let n: usize = int(&c["n"]);
        let mut rate = RowRate::new(int(&c["l_min"]), int(&c["l_max"]));
        for s in all(c, "steps") {
            let sizes: Vec<i32> = ints(&s["a"]);
            let mut mask = vec![-1i8; n.div_ceil(8)];
            let count = rate.choose(&sizes, scale(&s["scale"]), &mut mask);
            let expected: Vec<usize> = ints(&s["rows"]);
            same((rows_of(&mask), rate.highest), (expected.clone(), optional(&s["m"])), s);
            same(count, expected.len(), s);
        }
    }
}
