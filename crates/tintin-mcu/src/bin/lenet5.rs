//! LeNet-5 that learns what it is shown, and nothing else: for the size of its flash and RAM. See `scripts/bench-device.sh`.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
mod firmware {
    use core::hint::black_box;
    use core::panic::PanicInfo;
    use cortex_m_rt::entry;
    use tintin_core::loss::Target;
    use tintin_mcu::lenet5::{RECIPE, SEED, net};

    #[entry]
    fn main() -> ! {
        static mut MEMORY: net::Memory = net::Memory::new(); // lent by `entry`, once
        static mut IMAGE: [i8; 28 * 28] = [0; 28 * 28]; // a camera would fill it
        let mut net = net::lean(MEMORY, &[]);
        net.initialise(SEED);
        loop {
            let label = black_box(3);
            black_box(net.train_step(black_box(IMAGE), -7, Target::Labels(&[label]), &RECIPE));
            black_box(net.classify(black_box(IMAGE), -7));
        }
    }

    #[panic_handler]
    fn panic(_: &PanicInfo<'_>) -> ! {
        loop {}
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this is firmware for a Cortex-M");
    std::process::exit(2);
}
