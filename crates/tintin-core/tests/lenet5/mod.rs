//! LeNet-5, images to train it on, and how: shared by the tests of its owners and of its file.

mod bare;

pub use bare::*;

use tintin_core::heap::Model;
use tintin_core::plan::Options;

pub fn drawn() -> Model {
    Model::new(net::LAYERS.to_vec(), net::INPUT, SEED).unwrap()
}

/// LeNet-5 after three steps.
pub fn trained() -> Model {
    let mut model = drawn();
    train(&mut model.net(Options::training(1)).unwrap(), 0..3);
    model.recipe = Some(RECIPE);
    model
}
