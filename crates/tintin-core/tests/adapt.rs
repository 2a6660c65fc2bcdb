//! Adaptation against the oracle's traces, step by step (N30 to N37).
#![allow(missing_docs, clippy::cast_possible_truncation)]
#![cfg(feature = "alloc")]

mod trace;

use tintin_core::adapt::{Policy, Settings, Support};
use tintin_core::few::Workroom;
use tintin_core::fewshot::{Inspection, Prototypes};
use tintin_core::heap::Model;
use tintin_core::net::{Memory, Net};
use tintin_core::plan::{Choice, Learning, Options, empty_slots, plan_for};
use tintin_core::queries::Queries;
use trace::{bytes, cases, digest, int, ints, layer, read, recipe, shape};

struct Case {
    model: Model,
    x: Vec<i8>,
    labels: Vec<u16>,
    choices: Vec<Choice>,
    file: serde_json::Value,
}

impl Case {
    fn new(name: &str) -> Self {
        let file = read(name);
        let layers = file["layers"].as_array().unwrap().iter().map(layer).collect();
        let model = Model::new(layers, shape(&file["input"]), int(&file["seed"]) as u32).unwrap();
        assert_eq!(model.digest(), digest(&file["initial_digest"]));
        let x = file["support"].as_array().unwrap().iter().flat_map(bytes).collect();
        let labels = ints(&file["labels"]).into_iter().map(|v| v as u16).collect();
        let choices = cases(&file["passes"][0], "chosen")
            .iter()
            .map(|c| Choice { layer: int(&c["layer"]) as u32, rows: c["rows"].as_array().unwrap().len() as u32 });
        Self { choices: choices.collect(), model, x, labels, file }
    }

    fn support(&self) -> Support<'_> {
        Support {
            x: &self.x,
            exponent: int(&self.file["input_exponent"]) as i16,
            labels: &self.labels,
            classes: int(&self.file["settings"]["classes"]) as usize,
        }
    }

    fn settings(&self, spacious: bool) -> Settings<'_> {
        let told = &self.file["settings"];
        let limits = ints(&told["limits"]);
        Settings {
            policy: Policy::Layers(&self.choices),
            memory: u64::MAX,
            compute: 1 << 15,
            ratio: int(&told["ratio"]) as u32,
            inspect: 0,
            temperature: int(&told["temperature"]) as u8,
            limits: (limits[0] as u16, limits[1] as u16),
            batch: int(&told["batch"]) as u32,
            passes: int(&told["passes"]) as u32,
            recipe: recipe(&self.file["recipe"]),
            spacious,
        }
    }
}

#[test]
fn passes_over_the_support_set() {
    for name in ["trace_adapt.json", "trace_adapt_niti.json"] {
        let case = Case::new(name);
        if case.file["settings"]["rows"] != "Information" {
            continue;
        }
        for spacious in [false, true] {
            let (support, settings) = (case.support(), case.settings(spacious));
            let mut workroom =
                Workroom::new(&case.model.origin(), &settings, case.labels.len(), support.classes).unwrap();
            let mut adapter = case.model.adapter(support, settings, &mut workroom).unwrap();
            for (p, pass) in cases(&case.file, "passes").iter().enumerate() {
                for (n, step) in cases(pass, "steps").iter().enumerate() {
                    let score = adapter.step().unwrap();
                    if n == 0 {
                        let centres: Vec<i32> = pass["prototypes"].as_array().unwrap().iter().flat_map(ints).collect();
                        let found: Vec<i32> = adapter.prototypes().iter().map(|&c| c.into()).collect();
                        assert_eq!(found, centres, "{name} pass {p}");
                    }
                    assert_eq!(score.loss as i64, int(&step["loss"]), "{name} pass {p} step {n}");
                    assert_eq!(i64::from(score.correct), int(&step["correct"]), "{name} pass {p} step {n}");
                    assert_eq!(adapter.digest(), digest(&step["digest"]), "{name} pass {p} step {n}");
                }
            }
            assert!(adapter.step().is_none());
            let exponent = support.exponent;
            for p in cases(&case.file, "predict") {
                if let Some(class) = p["class"].as_i64() {
                    assert_eq!(adapter.classify(&bytes(&p["x"]), exponent) as i64, class, "{name}");
                }
            }
            let last = adapter.digest();
            assert_eq!(case.model.adapted(&mut adapter).digest(), last);
        }
    }
}

#[test]
fn inspection() {
    for name in ["trace_adapt.json", "trace_adapt_niti.json"] {
        let case = Case::new(name);
        let (model, Support { x, exponent, labels, classes }) = (&case.model, case.support());
        let options = Options::training(1);
        let mut slots = vec![empty_slots::<1>()[0]; model.layers().len()];
        let sizes = plan_for(model.layers(), model.input(), options, Learning::Inspect(0), &mut slots).unwrap();
        let slots = &slots[..sizes.slots];
        let (mut b, mut w) = (vec![0; sizes.bytes()], vec![0; sizes.all_words()]);
        let (mut scales, mut state) = (model.scales().to_vec(), model.state());
        let n = slots[sizes.slots - 1].ys.len();
        let (mut sums, mut units, mut scratch) = (vec![0; n * classes], vec![0; n * classes], vec![0; 2 * classes]);
        let (mut information, mut exponents) = (vec![7; 1000], vec![Some(9); slots.len()]);
        let mut table = Inspection::new(&mut information, &mut exponents, slots);
        table.clear();
        let memory = Memory {
            frozen: model.weights(),
            weights: &mut [],
            bytes: &mut b,
            words: &mut w,
            scales: &mut scales,
            state: &mut state,
        };
        let mut net = Net::new(slots, &sizes, memory);
        let mut prototypes = Prototypes::new(&mut sums, &mut units, n);
        prototypes.clear();
        for (x, &label) in x.chunks(model.input().len()).zip(labels) {
            prototypes.add(net.predict(x, exponent).mantissas, label);
        }
        prototypes.finish();
        let temperature = int(&case.file["settings"]["temperature"]) as u8;
        for (x, label) in x.chunks(model.input().len()).zip(labels.chunks(1)) {
            let query = Queries { x, exponent, labels: label, prototypes: &prototypes, temperature };
            net.inspect(&query, &mut table, &mut scratch);
        }
        for told in cases(&case.file, "slots") {
            let i = slots.iter().position(|s| i64::from(s.index) == int(&told["layer"]) && s.rows > 0).unwrap();
            let fisher = table.slot(i);
            let sums: Vec<i64> = fisher.sums().iter().map(|&d| d as i64).collect();
            assert_eq!(sums, told["d"].as_array().unwrap().iter().map(int).collect::<Vec<_>>(), "{name} {i}");
            assert_eq!(fisher.exponent().map(i64::from), told["r"].as_i64(), "{name} {i}");
            let scale = scales[i].y.times(scales[i].e);
            assert_eq!([i64::from(scale.u), i64::from(scale.d)], [int(&told["u"]), int(&told["down"])]);
            let parameters = (slots[i].weights() + slots[i].biases()) as u64;
            let score = fisher.score(scale, parameters, slots[i].products() as u64);
            assert_eq!(score.map(i64::from), told["score"].as_i64(), "{name} {i}");
        }
    }
}
