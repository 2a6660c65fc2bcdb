tintin_core::model! {
    pub mod net { file: b"II*\0 no model", batch: 1 }
}

fn main() {}
