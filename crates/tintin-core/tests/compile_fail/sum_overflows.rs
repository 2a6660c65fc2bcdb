tintin_core::model! {
    pub mod net { input: (258, 257, 1), batch: 1, layers: [Flatten, ReLU, Linear::new(2).with_bias()] }
}

fn main() {}
