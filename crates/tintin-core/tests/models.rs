//! One model, three owners of its memory, one digest.
#![allow(missing_docs)]
#![cfg(feature = "alloc")]

mod lenet5;

use lenet5::{RECIPE, SEED, drawn, image, net as lenet, train, trained};
use std::sync::Mutex;
use tintin_core::error::FileError;
use tintin_core::file::{self, Header, Weights};
use tintin_core::heap::Model;
use tintin_core::layers::*;
use tintin_core::loss::{Loss, Target};
use tintin_core::optim::Recipe;
use tintin_core::plan::Options;
use tintin_core::shape::Shape;

static LENET5: &[u8] = include_bytes!("data/lenet5.tin");

tintin_core::model! {
    pub mod from_file { file: include_bytes!("data/lenet5.tin"), batch: 1 }
}

tintin_core::model! {
    /// The last two layers learn, the rest stays in the file.
    pub mod tail { file: include_bytes!("data/lenet5.tin"), batch: 2, train_from: 9 }
}

tintin_core::model! {
    /// LeNet-5 where RAM is short: sums are computed twice instead of held.
    mod short { file: include_bytes!("data/lenet5.tin"), batch: 1, ram: 71_000 }
}

/// The same digests with less memory.
#[test]
fn short_memory_trains_the_same() {
    const { assert!(short::SIZES.set & STREAMED != 0 && lenet::SIZES.set & STREAMED == 0) };
    const { assert!(short::SIZES.ram() + 4000 < lenet::SIZES.ram()) };
    let mut memory = Box::new(short::Memory::new());
    let mut net = short::load(&mut memory).unwrap();
    assert_eq!(net.digest(), DIGESTS[1]);
    train(&mut net, 3..67);
    assert_eq!(net.digest(), DIGESTS[2]);
}

tintin_core::model! {
    /// Layers in a list, the first of them frozen.
    mod listed_tail {
        input: (6, 6, 1), batch: 1, train_from: 2,
        layers: [Conv2d::new(2, (3, 3)), ReLU, Flatten, Linear::new(3)]
    }
}

#[test]
fn a_frozen_prefix_of_listed_layers_stays_where_it_is() {
    let frozen = [5; 18];
    let train = |net: &mut dyn FnMut(u32) -> u64| (0..5).map(net).last().unwrap();
    let x: [i8; 36] = core::array::from_fn(|i| i8::try_from(3 * i).unwrap());
    let mut memory = listed_tail::Memory::new();
    let mut net = listed_tail::net_with(&mut memory, &frozen);
    net.initialise(1);
    let drawn = net.digest();
    let full = train(&mut |n| {
        net.train_step(&x, -7, Target::Labels(&[u16::try_from(n % 3).unwrap()]), &Recipe::tintin(2));
        net.digest()
    });
    assert_ne!(full, drawn);
    let mut memory = listed_tail::Memory::new();
    let mut lean = listed_tail::lean(&mut memory, &frozen);
    lean.initialise(1);
    let lean = train(&mut |n| {
        lean.train_step(&x, -7, Target::Labels(&[u16::try_from(n % 3).unwrap()]), &Recipe::tintin(2));
        lean.digest()
    });
    assert_eq!(lean, full);
}

/// A `static` net: what firmware has.
static MEMORY: Mutex<lenet::Memory> = Mutex::new(lenet::Memory::new());

/// LeNet-5 as drawn, after 3 steps (the file), and after 67, one look at the weight scales included.
const DIGESTS: [u64; 3] = [0x6EB0E54E3B884DEA, 0x929D41DE6A12ADD0, 0x2A902FEDCBAFF6B2];

#[test]
fn lenet5_needs_what_the_readme_says() {
    assert_eq!(lenet::SIZES.weights, 61_470);
    assert!(lenet::SIZES.ram() <= 95_000, "{}", lenet::SIZES.ram());
    // the type is what the plan says, and nothing else
    assert!(size_of::<lenet::Memory>() <= lenet::SIZES.ram() + 8);
    assert!(size_of::<tail::Memory>() < lenet::SIZES.ram() / 2);
}

/// Static, heap and decoded file: the same digests, pinned, so that debug and release builds and every machine agree.
#[test]
fn one_digest_for_every_owner() {
    let mut memory = MEMORY.lock().unwrap();
    let mut fixed = lenet::net(&mut memory);
    fixed.initialise(SEED);
    let mut heap = drawn();
    let mut seen = [fixed.digest(), 0, 0];
    assert_eq!(heap.digest(), seen[0]);

    train(&mut fixed, 0..3);
    train(&mut heap.net(Options::training(1)).unwrap(), 0..3);
    seen[1] = fixed.digest();
    assert_eq!(heap.digest(), seen[1]);

    // from here on the file joins; the heap model is planned with all gradient rows at once, for a larger batch
    assert_eq!(from_file::LAYERS, lenet::LAYERS);
    assert_eq!(from_file::SIZES, lenet::SIZES);
    let mut memory = from_file::Memory::new();
    let mut read = from_file::net(&mut memory);
    read.load(from_file::FILE).unwrap();
    assert_eq!((read.digest(), read.state()), (seen[1], fixed.state()));
    let mut again = Model::from_bytes(LENET5).unwrap();
    assert_eq!((again.digest(), again.recipe), (seen[1], Some(RECIPE)));

    train(&mut fixed, 3..67);
    train(&mut read, 3..67);
    train(&mut heap.net(Options { gradient_rows: 0, ..Options::training(4) }).unwrap(), 3..67);
    train(&mut again.net(Options::training(1)).unwrap(), 3..67);
    seen[2] = fixed.digest();
    assert_eq!([read.digest(), heap.digest(), again.digest()], [seen[2]; 3]);
    assert_eq!(seen, DIGESTS, "{seen:#018X?}");

    let (x, _) = image(1000);
    let y = fixed.predict(&x, -7);
    let mut net = again.net(Options::inference()).unwrap();
    assert_eq!(y, net.predict(&x, -7));
}

/// Frozen weights are read where they lie, here in the file itself.
#[test]
fn a_frozen_prefix_may_lie_in_flash() {
    let weights = Weights::read(tail::FILE, &tail::SLOTS[..tail::SIZES.slots], &tail::SIZES).unwrap();
    assert_eq!(tail::SIZES.frozen, 6 * 25 + 16 * 150 + 400 * 120);
    let mut memory = tail::Memory::new();
    let mut net = tail::net_with(&mut memory, &weights.mantissas[..tail::SIZES.frozen]);
    net.load(tail::FILE).unwrap();

    let mut heap = Model::from_bytes(LENET5).unwrap();
    let options = Options::training(2).train_from(9);
    assert_eq!(net.digest(), heap.digest());
    let start = heap.digest();
    for step in 0..20 {
        let ((first, a), (second, b)) = (image(2 * step), image(2 * step + 1));
        let x = [first, second].concat();
        let target = Target::Labels(&[a, b]);
        let score = heap.net(options).unwrap().train_step(&x, -7, target, &RECIPE);
        assert_eq!(net.train_step(&x, -7, target, &RECIPE), score);
        assert_eq!(net.digest(), heap.digest(), "step {step}");
    }
    assert_ne!(heap.digest(), start);
    assert_eq!(&heap.weights()[..tail::SIZES.frozen], &weights.mantissas[..tail::SIZES.frozen]);
}

/// A net drawn anew is that of its seed, whatever it was before.
#[test]
fn initialise_forgets() {
    let mut model = trained();
    assert_eq!(Header::read(&model.to_bytes().unwrap()).unwrap().state.step, 3);
    model.net(Options::training(1).train_from(9)).unwrap();
    model.initialise(SEED);
    assert_eq!((model.digest(), model.state().step), (DIGESTS[0], 0));
}

/// A net without a single sum still has a loss.
#[test]
fn a_net_without_weights_is_measured() {
    let mut model = Model::new(vec![Layer::ReLU(ReLU)], Shape::flat(4), 0).unwrap();
    let mut net = model.net(Options::inference()).unwrap();
    let score = net.evaluate(&[5, 5, -5, 0], -7, Target::Labels(&[0]), Loss::CrossEntropy);
    assert_eq!((score.correct, score.loss > 1 << 16), (1, true));
}

/// A chip writes the file piece by piece: the same bytes as the heap's, frozen prefix and all.
#[test]
fn a_static_net_saves_what_it_loads() {
    let whole = include_bytes!("data/lenet5.tin");
    let mut memory = Box::new(from_file::Memory::new());
    from_file::load(&mut memory).unwrap();
    let mut saved = Vec::new();
    let recipe = Header::read(whole).unwrap().recipe;
    from_file::contents(&memory, &[], recipe)
        .write_to(|piece| -> Result<(), FileError> {
            assert!(piece.len() <= file::PIECE);
            saved.extend_from_slice(piece);
            Ok(())
        })
        .unwrap();
    assert!(saved == whole, "the file read and the file written differ");

    let mut memory = Box::new(tail::Memory::new());
    tail::load(&mut memory).unwrap();
    let frozen = file::frozen(tail::FILE, &tail::SIZES);
    let mut saved = vec![0; whole.len()];
    tail::contents(&memory, frozen, recipe).write(&mut saved).unwrap();
    assert!(saved == whole, "the file of a net with a frozen prefix differs");
}
