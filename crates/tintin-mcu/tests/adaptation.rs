//! Tasks: what a device makes of one in memory that was lent, and what it refuses.

use std::fmt::Write;
use tintin_core::adapt::{Policy, Settings, Support};
use tintin_core::few::Workroom;
use tintin_core::file::pack_recipe;
use tintin_core::heap::Model;
use tintin_core::layers::{Add, Conv2d, Layer, Linear, ReLU};
use tintin_core::optim::Recipe;
use tintin_core::plan::Choice;
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;
use tintin_mcu::adaptation::{Error, Kind, Tables, Task, learn, run};

const INPUT: Shape = Shape::new(6, 5, 2);
const CLASSES: u16 = 3;
const CHOICES: [Choice; 2] = [Choice { layer: 4, rows: 2 }, Choice { layer: 6, rows: 4 }];

/// The bytes of a task. `kind` goes before the policy of `settings`, which tells choices and shares of rows alone.
fn pack(kind: Kind, file: &[u8], support: &Support<'_>, queries: &[i8], settings: &Settings<'_>) -> Vec<u8> {
    let word = |n: usize| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
    let (choices, (least, most)) = match settings.policy {
        Policy::Sparse(choices) | Policy::Layers(choices) => (choices, (0, 0)),
        Policy::Dynamic { least, most } => (&[][..], (least, most)),
        _ => (&[][..], (0, 0)),
    };
    let samples = support.labels.len();
    let count = queries.len() * samples / support.x.len().max(1);
    let mut out = b"TTT1".to_vec();
    for n in [0, file.len(), samples, support.classes, count] {
        out.extend(word(n));
    }
    out.extend(i32::from(support.exponent).to_le_bytes());
    out.extend([kind as u8, settings.temperature, 0, 0]);
    out.extend([settings.limits.0, settings.limits.1].map(u16::to_le_bytes).concat());
    let memory = u32::try_from(settings.memory).unwrap_or(u32::MAX);
    for n in [settings.batch, settings.passes, memory, settings.compute, settings.ratio] {
        out.extend(n.to_le_bytes());
    }
    out.extend(word(settings.inspect));
    out.extend([least, most].map(u16::to_le_bytes).concat());
    out.extend(word(choices.len()));
    out.extend(pack_recipe(&settings.recipe));
    assert_eq!(out.len(), 92);
    let mut part = |bytes: &[u8]| {
        out.extend(bytes);
        out.resize(out.len().next_multiple_of(4), 0);
    };
    part(&choices.iter().flat_map(|c| [c.layer.to_le_bytes(), c.rows.to_le_bytes()].concat()).collect::<Vec<_>>());
    part(&support.labels.iter().flat_map(|label| label.to_le_bytes()).collect::<Vec<_>>());
    part(file);
    part(bytemuck::cast_slice(support.x));
    part(bytemuck::cast_slice(queries));
    let len = word(out.len());
    out[4..8].copy_from_slice(&len);
    out
}

/// The steps from memory on the heap with room for speed: other plans, same bits.
fn run_on_host(bytes: &[u8], out: &mut dyn Write) -> Result<(), Error> {
    let task = Task::read(bytes)?;
    let model = Model::from_bytes(task.file)?;
    let mut told = vec![Choice { layer: 0, rows: 0 }; task.told()];
    let settings = Settings { spacious: true, ..task.settings(&mut told) };
    let Support { labels, classes, .. } = task.support;
    let mut workroom = Workroom::new(&model.origin(), &settings, labels.len(), classes)?;
    let mut adapter = model.adapter(task.support, settings, &mut workroom)?;
    learn(&mut adapter, &task, out, &mut || 0)?;
    Ok(())
}

fn model() -> Model {
    let layers = vec![
        Layer::Conv2d(Conv2d::new(5, (3, 3)).padding((1, 1)).with_bias()),
        Layer::ReLU(ReLU),
        Layer::Conv2d(Conv2d::new(5, (1, 1))),
        Layer::ReLU(ReLU),
        Layer::Conv2d(Conv2d::new(5, (3, 3)).padding((1, 1)).with_bias()),
        Layer::Add(Add::new(1)),
        Layer::Linear(Linear::new(8).with_bias()),
    ];
    Model::new(layers, INPUT, 4).unwrap()
}

/// Samples of every class, bright where its number tells.
fn samples(each: u16, seed: u32) -> (Vec<i8>, Vec<u16>) {
    let labels: Vec<u16> = (0..each * CLASSES).map(|i| i % CLASSES).collect();
    let mut draws = Draws::new(seed, 0, 0, 0);
    let places = labels.iter().flat_map(|&label| (0..INPUT.len()).map(move |i| i % 3 == usize::from(label)));
    let x = places.map(|bright| i8::try_from(draws.below(40)).unwrap() + if bright { 60 } else { 0 }).collect();
    (x, labels)
}

fn task(kind: Kind) -> Vec<u8> {
    let ((x, labels), (queries, _)) = (samples(4, 1), samples(2, 2));
    let support = Support { x: &x, exponent: -7, labels: &labels, classes: CLASSES.into() };
    let policy = match kind {
        Kind::Sparse => Policy::Sparse(&CHOICES),
        Kind::Layers => Policy::Layers(&CHOICES),
        Kind::Dynamic => Policy::Dynamic { least: 3000, most: 20_000 },
        _ => Policy::Full,
    };
    let settings = Settings {
        policy,
        memory: 10_000,
        compute: 1 << 14,
        ratio: 1 << 14,
        inspect: 2,
        temperature: 4,
        limits: (1, 1),
        batch: 4,
        passes: 3,
        recipe: Recipe::tintin(4),
        spacious: false,
    };
    pack(kind, &model().to_bytes().unwrap(), &support, &queries, &settings)
}

/// As flash would hold them: on a multiple of 8 bytes.
fn words(bytes: &[u8]) -> Vec<u64> {
    let mut bytes = bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes.chunks_exact(8).map(|b| u64::from_ne_bytes(b.try_into().unwrap())).collect()
}

fn device(bytes: &[u8], memory: usize) -> Result<String, Error> {
    let mut text = String::new();
    let (words, mut tables) = (words(bytes), Tables::<8>::new());
    run(bytemuck::cast_slice(&words), &mut vec![7; memory], &mut tables, &mut text, &mut || 0).map(|()| text)
}

#[test]
fn lent_memory_and_the_heap_agree() {
    for (kind, name) in Kind::ALL {
        let bytes = task(kind);
        let text = device(&bytes, 4000).unwrap();
        let (figures, told): (Vec<_>, Vec<_>) = text.lines().skip(1).partition(|line| line.starts_with('#'));
        assert!(text.starts_with("numerics 1 policy ") && text.contains(name), "{text}");
        let word = |name: &str| {
            let mut words = figures[0].split(' ').skip_while(|&word| word != name);
            words.nth(1).unwrap().parse::<usize>().unwrap()
        };
        assert!(word("used") - word("plan") < 4 && word("touched") <= word("pool"), "{text}");
        let mut expected = String::new();
        let words = words(&bytes);
        run_on_host(bytemuck::cast_slice(&words), &mut expected).unwrap();
        assert_eq!(told, expected.lines().collect::<Vec<_>>(), "{name}");
        let steps = if kind == Kind::Nothing { 0 } else { 9 };
        assert_eq!(told.iter().filter(|line| line.contains("correct")).count(), steps, "{name}");
    }
}

#[test]
fn what_is_no_task_is_refused() {
    let good = task(Kind::TinyTrain);
    // the words that hold a task may be longer by up to 7 bytes
    for len in 0..good.len() - 7 {
        assert!(device(&good[..len], 4000).is_err(), "{len}");
        let mut told = good[..len].to_vec();
        if len >= 8 {
            told[4..8].copy_from_slice(&u32::try_from(len).unwrap().to_le_bytes());
        }
        assert!(device(&told, 4000).is_err(), "{len}");
    }
    // all but the number of passes, which would be taken
    for at in (0..40).chain(44..200) {
        for value in [0, 1, 0x7F, 0x80, 0xFF] {
            let mut bad = good.clone();
            bad[at] = value;
            let _ = device(&bad, 4000); // no panic
        }
    }
    let refusal = |at: usize, value: u8| {
        let mut bad = good.clone();
        bad[at] = value;
        let mut text = String::new();
        write!(text, "{}", device(&bad, 4000).unwrap_err()).unwrap();
        text
    };
    assert_eq!(refusal(0, b'X'), "not a task: it does not begin with TTT1");
    assert_eq!(refusal(28, 9), "not a task: an unknown policy");
    assert_eq!(refusal(25, 1), "not a task: the exponent must be -128 to 127");
    assert_eq!(refusal(68, 2), "not a task: the recipe has a value out of range");
    assert!(refusal(200, 9).starts_with("the net of the task: "));
    assert_eq!(device(&good, 40), Err(Error::Room));
    let mut tables = Tables::<6>::new();
    let few = run(bytemuck::cast_slice(&words(&good)), &mut [0; 4000], &mut tables, &mut String::new(), &mut || 0);
    assert_eq!(few, Err(Error::Layers { needed: 7, available: 6 }));
}
