//! A training step allocates nothing after the first one.
#![cfg(feature = "threads")]
#![allow(unsafe_code)] // an allocator that counts

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use tintin_core::heap::Model;
use tintin_core::layers::{Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU};
use tintin_core::loss::Target;
use tintin_core::optim::Recipe;
use tintin_core::plan::Options;
use tintin_core::shape::Shape;

struct Counting;

static COUNT: AtomicUsize = AtomicUsize::new(0);

// SAFETY: the system's allocator, with a counter.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller says.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as the caller says.
        unsafe { System.dealloc(block, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Fewest allocations of a step, over as many steps as it takes to reach none, `most` at the most; the first one is not counted.
fn least_allocations(threads: u32, most: usize) -> usize {
    let layers = vec![
        Layer::Conv2d(Conv2d::new(6, (5, 5)).padding((2, 2)).with_bias()),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        Layer::Conv2d(Conv2d::new(16, (3, 3))),
        Layer::ReLU(ReLU),
        Layer::Flatten(Flatten),
        Layer::Linear(Linear::new(40)),
        Layer::ReLU(ReLU),
        Layer::Linear(Linear::new(10)),
    ];
    let input = Shape::new(28, 28, 1);
    let mut model = Model::new(layers, input, 1).unwrap();
    let (x, labels) = (vec![55; 32 * input.len()], vec![3; 32]);
    let mut net = model.net(Options::training(32).spacious().threads(threads)).unwrap();
    assert_eq!(net.threads(), threads as usize);
    let mut step = || {
        for loss in [Recipe::tintin(2), Recipe::niti(5)] {
            net.train_step(&x, -7, Target::Labels(&labels), &loss);
        }
    };
    step();
    let counts = (0..most).map(|_| {
        let before = COUNT.load(Ordering::Relaxed);
        step();
        COUNT.load(Ordering::Relaxed) - before
    });
    let mut least = usize::MAX;
    for count in counts {
        least = least.min(count);
        if least == 0 {
            break;
        }
    }
    least
}

#[test]
fn a_step_allocates_nothing() {
    assert_eq!(least_allocations(1, 1), 0);
    // each thread has buffers of its own, made when it first computes a part: some steps until all have
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build().unwrap();
    assert_eq!(pool.install(|| least_allocations(2, 20_000)), 0);
}
