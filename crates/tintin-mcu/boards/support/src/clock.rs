//! Time from SysTick, which every Cortex-M has: interrupts count milliseconds, the counter what is between them.

use core::sync::atomic::{AtomicU32, Ordering};
use cortex_m::peripheral::SYST;
use cortex_m::peripheral::syst::SystClkSource;
use cortex_m_rt::exception;
use embedded_hal::delay::DelayNs;
use tintin_mcu::board::Clock;

static MILLISECONDS: AtomicU32 = AtomicU32::new(0);

#[exception]
fn SysTick() {
    // Not fetch_add, which an M0+ lacks; nothing else writes.
    MILLISECONDS.store(MILLISECONDS.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
}

/// The running clock; also a delay that waits in a loop.
#[derive(Clone, Copy)]
pub struct SysTickClock {
    ticks_per_millisecond: u32,
}

impl SysTickClock {
    /// Starts SysTick on a core of `core_hz` ticks a second, at most 16 GHz.
    pub fn start(mut systick: SYST, core_hz: u32) -> Self {
        let ticks_per_millisecond = core_hz / 1000;
        systick.set_clock_source(SystClkSource::Core);
        systick.set_reload(ticks_per_millisecond - 1);
        systick.clear_current();
        systick.enable_interrupt();
        systick.enable_counter();
        Self { ticks_per_millisecond }
    }
}

impl Clock for SysTickClock {
    fn microseconds(&mut self) -> u32 {
        loop {
            let milliseconds = MILLISECONDS.load(Ordering::Relaxed);
            let ticks = self.ticks_per_millisecond - 1 - SYST::get_current();
            if milliseconds == MILLISECONDS.load(Ordering::Relaxed) {
                return milliseconds.wrapping_mul(1000).wrapping_add(ticks * 1000 / self.ticks_per_millisecond);
            }
        }
    }
}

impl DelayNs for SysTickClock {
    fn delay_ns(&mut self, ns: u32) {
        let (start, wait) = (self.microseconds(), ns.div_ceil(1000));
        while self.microseconds().wrapping_sub(start) <= wait {}
    }
}
