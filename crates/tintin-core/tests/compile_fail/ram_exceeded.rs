tintin_core::model! {
    pub mod net { input: (1, 1, 100), batch: 1, ram: 2000, layers: [Linear::new(10), ReLU, Linear::new(200)] }
}

fn main() {}
