//! Accelerations of a simulated machine, also for the test on the host: an unbalanced rotor, a hum, and noise.

use tintin_mcu::tintin_core::rng::Draws;

/// Sample number `n` in 1/1024 g at 400 samples a second; a worn bearing adds a short knock every 19 samples.
pub fn acceleration(n: u32, worn: bool) -> [i16; 3] {
    let mut draws = Draws::new(3, n, 0, 0);
    let mut noise = |width: u32| i16::try_from(draws.below(2 * width + 1)).unwrap() - i16::try_from(width).unwrap();
    let rotor = triangle(n, 16, 200);
    let hum = triangle(n, 4, 60);
    let knock = if worn && n.is_multiple_of(19) { 300 } else { 0 };
    [rotor + noise(15), triangle(n + 4, 16, 150) + knock + noise(15), 1000 + hum - knock + noise(15)]
}

/// A wave of `period` samples between ±`top`.
fn triangle(n: u32, period: u32, top: i32) -> i16 {
    let (phase, half) = ((n % period) as i32, period as i32 / 2);
    i16::try_from(top - 2 * top * (phase - half).abs() / half).unwrap()
}
