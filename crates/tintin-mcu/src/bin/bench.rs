//! Counts instructions of training and prediction on an emulated Cortex-M; `scripts/bench-device.sh` runs it and makes a table.
//!
//! SysTick counts the 25 MHz core clock. QEMU with `-icount shift=0` lets every instruction take 1 ns, so a tick is 40 of them.
#![cfg_attr(target_os = "none", no_std, no_main)]

#[cfg(target_os = "none")]
#[path = "../faults.rs"]
mod faults;

#[cfg(target_os = "none")]
mod firmware {
    use core::arch::asm;
    use core::fmt::Write;
    use core::hint::black_box;
    use core::ptr::{read_volatile, with_exposed_provenance, with_exposed_provenance_mut, write_volatile};
    use core::sync::atomic::{Ordering, compiler_fence};
    use cortex_m_rt::entry;
    use cortex_m_semihosting::debug::{EXIT_SUCCESS, exit};
    use cortex_m_semihosting::hio::{self, HostStream};
    use tintin_core::loss::{Score, Target, cross_entropy};
    use tintin_core::net::Net;
    use tintin_core::plan::Slot;
    use tintin_core::rescale::narrow;
    use tintin_mcu::lenet5::{self, RECIPE, SEED};

    tintin_core::model! {
        /// LeNet-5 with strides where it has pools: no gradient is zero because of a pool.
        mod strided {
            input: (28, 28, 1),
            batch: 1,
            layers: [
                Conv2d::new(6, (5, 5)).padding((2, 2)).stride((2, 2)), ReLU,
                Conv2d::new(16, (5, 5)).stride((2, 2)), ReLU,
                Flatten, Linear::new(120), ReLU, Linear::new(84), ReLU, Linear::new(10),
            ]
        }
    }

    /// Steps before the measured ones, and those.
    const WARM_UP: u32 = 20;
    const STEPS: usize = 5;

    const INSTRUCTIONS_PER_TICK: u32 = 40;
    /// Turns of the loop that validates the counter.
    const TURNS: u32 = 1_000_000;
    /// Words of stack looked at, and what they hold before.
    const STACK: usize = 4096;
    const UNTOUCHED: u32 = 0xA5C3_5A3C;

    const CONTROL: *mut u32 = 0xE000_E010 as *mut u32;
    const RELOAD: *mut u32 = 0xE000_E014 as *mut u32;
    const CURRENT: *mut u32 = 0xE000_E018 as *mut u32;
    const CORE_CLOCK_ON: u32 = 0b101;
    const WRAPPED: u32 = 1 << 16;
    const TOP: u32 = 0x00FF_FFFF;

    /// Instructions of `f`, to within a tick.
    fn count<R>(f: impl FnOnce() -> R) -> (u32, R) {
        // SAFETY: SysTick's registers, which nothing else uses.
        let start = unsafe {
            write_volatile(CURRENT, 0);
            while read_volatile(CURRENT) == 0 {} // reloads at the next tick
            read_volatile(CONTROL); // forgets wraps
            read_volatile(CURRENT)
        };
        compiler_fence(Ordering::SeqCst);
        let result = black_box(f());
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        let (end, control) = unsafe { (read_volatile(CURRENT), read_volatile(CONTROL)) };
        assert!(control & WRAPPED == 0, "longer than the counter");
        ((start - end) * INSTRUCTIONS_PER_TICK, result)
    }

    /// `TURNS` of four instructions.
    fn known() {
        // SAFETY: registers alone.
        unsafe {
            asm!(
                "2:", "muls {a}, {b}, {a}", "adds {a}, {a}, {b}", "subs {n}, #1", "bne 2b",
                a = inout(reg) 1 => _, b = in(reg) 3, n = inout(reg) TURNS => _,
                options(nomem, nostack),
            );
        }
    }

    /// Bytes of stack that `f` takes.
    fn stack(f: impl FnOnce()) -> usize {
        let here: usize;
        // SAFETY: reads a register; what lies below it is free stack: 64 KB are kept for it.
        unsafe {
            asm!("mov {}, sp", out(reg) here, options(nomem, nostack, preserves_flags));
            for i in 1..=STACK {
                write_volatile(with_exposed_provenance_mut(here - 4 * i), UNTOUCHED);
            }
        }
        f();
        compiler_fence(Ordering::SeqCst);
        // SAFETY: as above.
        let touched = |i: &usize| unsafe { read_volatile(with_exposed_provenance::<u32>(here - 4 * i)) != UNTOUCHED };
        4 * (1..=STACK).rev().find(touched).unwrap_or(0)
    }

    #[inline(never)]
    fn step(net: &mut Net<'_>, x: &[i8], label: u16) -> Score {
        net.train_step(x, -7, Target::Labels(&[label]), &RECIPE)
    }

    #[inline(never)]
    fn predict(net: &mut Net<'_>, x: &[i8]) -> usize {
        net.classify(x, -7)
    }

    /// Output errors of one sample that are not zero: a step without any would cost a forward pass alone.
    fn errors(net: &mut Net<'_>, x: &[i8], label: u16) -> usize {
        let (mut sums, mut errors) = ([0; 10], [0; 10]);
        let z = net.predict(x, -7);
        cross_entropy(z.mantissas, z.scale, label, &mut sums);
        narrow(&sums, z.scale, &mut errors); // the mantissas depend on the sums alone
        errors.iter().filter(|&&e| e != 0).count()
    }

    fn median(mut counts: [u32; STEPS]) -> u32 {
        counts.sort_unstable();
        counts[STEPS / 2]
    }

    /// Multiply-accumulates of a forward pass and of a step, zeros included; the first layer has no input gradient.
    fn products(slots: &[Slot]) -> (usize, usize) {
        let forward: usize = slots.iter().map(Slot::products).sum();
        (forward, 3 * forward - slots[0].products())
    }

    fn bench(out: &mut HostStream, name: &str, net: &mut Net<'_>, slots: &[Slot]) {
        net.initialise(SEED);
        let (mut forwards, mut steps) = ([0; STEPS], [0; STEPS]);
        for n in 0..WARM_UP {
            let (x, label) = lenet5::image(n);
            step(net, &x, label);
        }
        for (n, (forward, whole)) in (WARM_UP..).zip(forwards.iter_mut().zip(&mut steps)) {
            let (x, label) = lenet5::image(n);
            let errors = errors(net, &x, label);
            let score;
            (*forward, _) = count(|| predict(black_box(net), &x));
            (*whole, score) = count(|| step(black_box(net), &x, label));
            let (digest, loss) = (net.digest(), score.loss);
            writeln!(
                out,
                "{name} step {} instructions {whole} forward {forward} errors {errors} loss {loss} digest {digest:#018X}",
                n + 1
            )
            .unwrap();
        }
        let (x, label) = lenet5::image(WARM_UP);
        let stack = stack(|| _ = step(net, &x, label));
        let (forward_macs, step_macs) = products(slots);
        let (forward, step) = (median(forwards), median(steps));
        writeln!(out, "{name} median forward {forward} macs {forward_macs} step {step} macs {step_macs} stack {stack}")
            .unwrap();
    }

    #[entry]
    fn main() -> ! {
        static mut LENET5: lenet5::net::Memory = lenet5::net::Memory::new(); // lent by `entry`, once
        static mut STRIDED: strided::Memory = strided::Memory::new();
        let out = &mut hio::hstdout().unwrap();
        // SAFETY: SysTick's registers, which nothing else uses.
        unsafe {
            write_volatile(RELOAD, TOP);
            write_volatile(CONTROL, CORE_CLOCK_ON);
        }
        let (empty, ()) = count(|| ());
        let (turns, ()) = count(known);
        writeln!(out, "counter empty {empty} known {turns} expected {}", 4 * TURNS).unwrap();
        // Without -icount the counter follows the host's clock.
        assert!(empty <= 80 && turns.abs_diff(4 * TURNS) <= 80, "the counter does not count instructions");
        bench(out, "lenet5", &mut lenet5::net::net(LENET5), &lenet5::net::SLOTS);
        bench(out, "strided", &mut strided::net(STRIDED), &strided::SLOTS);
        loop {
            exit(EXIT_SUCCESS);
        }
    }
}

#[cfg(not(target_os = "none"))]
fn main() {
    eprintln!("this counts instructions of a Cortex-M: scripts/bench-device.sh");
    std::process::exit(2);
}
