// the control: what is wrong with the others is the model, not the way they are compiled
tintin_core::model! {
    pub mod net { input: (4, 4, 1), batch: 1, ram: 2000, layers: [Conv2d::new(2, (3, 3)), ReLU, Linear::new(2)] }
}

fn main() {
    let mut memory = net::Memory::new();
    net::net(&mut memory).initialise(0);
}
