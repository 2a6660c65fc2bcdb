//! From what a sensor gives to what a net takes, in integers alone: formulas and bounds in `docs/applications.md`.
//!
//! The same formulas are in Python as `tintin.features`; `scripts/applications.py` holds the two against each other.

use crate::tintin_core::rescale::clip;

/// Samples of a window of vibration.
pub const WINDOW: usize = 1024;
/// Bands of its spectrum.
pub const BANDS: usize = 64;
/// Most blocks that a noise level is learned from.
pub const BLOCKS: u32 = 1024;

/// Complex points of the transform: even samples are real parts, odd ones imaginary parts.
const POINTS: usize = WINDOW / 2;
/// Lines of the spectrum in a band.
const LINES: usize = POINTS / BANDS;
/// Largest part of a point before a stage of the transform: behind it parts are at most 1 + √2 times that, which i16 holds.
const ROOM: u32 = 13_500;
/// Energy that becomes 0, in eighths of an octave: near the middle of what bearings do, in 1/4096 g.
const MIDDLE: i32 = 240;
/// Half of 2^15, for rounding.
const HALF: i32 = 1 << 14;

/// Cosine and sine of `k` / 1024 turns in 1/32767.
static TURNS: [(i16, i16); POINTS] = turns();

/// Turned step by step in 2^-62: the error after all of them is far below the distance to any rounding border.
const fn turns() -> [(i16, i16); POINTS] {
    const COSINE: i128 = 4_611_599_204_741_358_747;
    const SINE: i128 = 28_296_773_447_188_932;
    const fn rounded(v: i128) -> i16 {
        ((v * 32_767 + (1 << 61)) >> 62) as i16
    }
    let (mut table, mut k) = ([(0, 0); POINTS], 0);
    let (mut cosine, mut sine) = (1i128 << 62, 0i128);
    while k < POINTS {
        table[k] = (rounded(cosine), rounded(sine));
        (cosine, sine) = ((cosine * COSINE - sine * SINE) >> 62, (cosine * SINE + sine * COSINE) >> 62);
        k += 1;
    }
    table
}

/// Logarithms of the energy in 64 equal bands from 0 to half the sampling rate, eighths of an octave (0.38 dB); a band without
/// energy gives -127. The constant part does not count. Works in the window itself and leaves its transform there.
pub fn log_bands(window: &mut [i16; WINDOW]) -> [i8; BANDS] {
    let mut exponent = fill(window);
    reverse(window);
    let mut half = 1;
    while half < POINTS {
        exponent += shrink(window);
        stage(window, half);
        half *= 2;
    }
    let energies = energies(window);
    energies.map(|energy| if energy == 0 { -127 } else { clip(logarithm(energy) + 16 * (exponent + 1) - MIDDLE) })
}

/// Shifts a quiet window up as far as there is room; minus the shift.
fn fill(window: &mut [i16; WINDOW]) -> i32 {
    let (mut top, mut up) = (peak(window), 0);
    while top > 0 && 2 * top <= ROOM {
        top *= 2;
        up += 1;
    }
    for v in window {
        *v <<= up;
    }
    -up
}

/// Halves a window until there is room; how often.
fn shrink(window: &mut [i16; WINDOW]) -> i32 {
    let mut down = 0;
    while peak(window) > ROOM {
        for v in &mut *window {
            *v = narrow((i32::from(*v) + 1) >> 1);
        }
        down += 1;
    }
    down
}

fn peak(window: &[i16; WINDOW]) -> u32 {
    window.iter().map(|v| u32::from(v.unsigned_abs())).max().unwrap_or(0)
}

/// What the bounds have shown to fit.
#[allow(clippy::cast_possible_truncation)]
fn narrow(v: i32) -> i16 {
    debug_assert!(i16::try_from(v).is_ok());
    v as i16
}

/// Puts every point where the bits of its place, read backwards, say.
fn reverse(window: &mut [i16; WINDOW]) {
    for i in 0..POINTS {
        let j = i.reverse_bits() >> (usize::BITS - POINTS.trailing_zeros());
        if i < j {
            window.swap(2 * i, 2 * j);
            window.swap(2 * i + 1, 2 * j + 1);
        }
    }
}

/// Joins transforms of `half` points into transforms of twice as many (Cooley and Tukey 1965, decimation in time).
fn stage(window: &mut [i16; WINDOW], half: usize) {
    let step = POINTS / half;
    for group in window.chunks_exact_mut(4 * half) {
        let (low, high) = group.split_at_mut(2 * half);
        let points = low.chunks_exact_mut(2).zip(high.chunks_exact_mut(2));
        for ((a, b), turn) in points.zip(TURNS.iter().step_by(step)) {
            let (cosine, sine) = (i32::from(turn.0), i32::from(turn.1));
            let (re, im) = (i32::from(b[0]), i32::from(b[1]));
            let turned = [(re * cosine + im * sine + HALF) >> 15, (im * cosine - re * sine + HALF) >> 15];
            for ((a, b), turned) in a.iter_mut().zip(b).zip(turned) {
                let v = i32::from(*a);
                (*a, *b) = (narrow(v + turned), narrow(v - turned));
            }
        }
    }
}

/// Energies by band of the window's spectrum, halved in amplitude: line k is ½(Z[k] + Z*[-k]) − ½i·w^k·(Z[k] − Z*[-k]).
fn energies(window: &[i16; WINDOW]) -> [u64; BANDS] {
    let mut energies = [0u64; BANDS];
    for (k, &(cosine, sine)) in TURNS.iter().enumerate().skip(1) {
        let (cosine, sine) = (i32::from(cosine), i32::from(sine));
        let at = |k: usize| (i32::from(window[2 * k]), i32::from(window[2 * k + 1]));
        let ((a, b), (c, d)) = (at(k), at(POINTS - k));
        let (even_re, even_im, re, im) = ((a + c) >> 1, (b - d) >> 1, (a - c) >> 1, (b + d) >> 1);
        let odd_re = (im * cosine - re * sine + HALF) >> 15;
        let odd_im = (HALF - im * sine - re * cosine) >> 15;
        let (re, im) = (((even_re + odd_re) >> 1).unsigned_abs(), ((even_im + odd_im) >> 1).unsigned_abs());
        energies[k / LINES] += u64::from(re * re + im * im);
    }
    energies
}

/// Base 2, in eighths, straight between powers of two; of at least 1.
fn logarithm(v: u64) -> i32 {
    let octave = v.ilog2();
    let eighths = ((v << 3) >> octave) & 7;
    8 * octave.cast_signed() + i32::from(eighths as u8)
}

/// Sums over blocks of one statistic, on the way to a [`Level`].
#[derive(Clone, Copy, Debug, Default)]
pub struct Sums {
    sum: i32,
    squares: u64,
}

impl Sums {
    /// Of no blocks.
    pub const ZERO: Self = Self { sum: 0, squares: 0 };

    /// Adds the value of one block; at most [`BLOCKS`] of them.
    pub fn add(&mut self, v: i16) {
        self.sum += i32::from(v);
        self.squares += u64::from(v.unsigned_abs()).pow(2);
    }

    /// The level of `blocks` blocks: mean, and standard deviation as the root of n·Σv² − (Σv)², over n.
    ///
    /// # Panics
    /// For no blocks and for more than [`BLOCKS`].
    pub fn level(&self, blocks: u32) -> Level {
        assert!((1..=BLOCKS).contains(&blocks), "a level needs 1 to {BLOCKS} blocks");
        let n = blocks.cast_signed();
        let spread = u64::from(blocks) * self.squares - u64::from(self.sum.unsigned_abs()).pow(2);
        let deviation = (spread << 8).isqrt() / u64::from(blocks);
        Level { mean: (16 * self.sum + n / 2).div_euclid(n), deviation: deviation as i32 }
    }
}

/// How a statistic behaves in noise alone, both in sixteenths.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Level {
    /// Mean.
    pub mean: i32,
    /// Standard deviation, rounded down.
    pub deviation: i32,
}

impl Level {
    /// Of nothing yet.
    pub const ZERO: Self = Self { mean: 0, deviation: 0 };

    /// A value in 1/32 of the noise's standard deviation from its mean, cut off at ±4 of them.
    pub fn measure(&self, v: i16) -> i8 {
        let deviation = self.deviation.max(1); // a constant has none
        let limit = 4 * deviation;
        let distance = (16 * i32::from(v) - self.mean).clamp(-limit, limit);
        clip((distance * ((1 << 21) / deviation) + (1 << 15)) >> 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // Also in tests/python/test_features.py, where the same numbers are made.
    const PINNED_BANDS: u32 = 2_648_295_670;
    const PINNED_MEASURES: u32 = 3_669_316_841;

    /// Row `r` of noise from N8's generator, shifted down by `r` mod 16.
    fn noise<const WIDTH: usize>(rows: u32) -> impl Iterator<Item = [i16; WIDTH]> {
        let mut state = 1u32;
        (0..rows).map(move |r| {
            core::array::from_fn(|_| {
                state = state.wrapping_mul(0x93D7_65DD).wrapping_add(0x9E37_79B9);
                ((state >> 16) as i16) >> (r % 16)
            })
        })
    }

    fn pinned(values: impl Iterator<Item = i8>) -> u32 {
        values.fold(0, |total: u32, v| total.wrapping_mul(31).wrapping_add_signed(v.into()))
    }

    #[test]
    fn bands_are_those_of_python() {
        assert_eq!(pinned(noise(32).flat_map(|mut window| log_bands(&mut window))), PINNED_BANDS);
    }

    #[test]
    fn measures_are_those_of_python() {
        const WIDTH: usize = 59;
        let mut sums = [Sums::ZERO; WIDTH];
        for block in noise::<WIDTH>(32).skip(16) {
            sums.iter_mut().zip(block).for_each(|(sums, v)| sums.add(v));
        }
        let levels = sums.map(|sums| sums.level(16));
        let measures = noise(48)
            .flat_map(|block: [i16; WIDTH]| core::array::from_fn::<_, WIDTH, _>(|i| levels[i].measure(block[i])));
        assert_eq!(pinned(measures), PINNED_MEASURES);
    }

    #[test]
    fn a_tone_is_in_its_band_alone() {
        // Line 100: 100 turns in a window.
        let mut window = core::array::from_fn(|n| {
            TURNS[(100 * n % WINDOW) % POINTS].0 / 4 * if 100 * n % WINDOW < POINTS { 1 } else { -1 }
        });
        let bands = log_bands(&mut window);
        let loudest = (0..BANDS).max_by_key(|&b| bands[b]).unwrap();
        assert_eq!(loudest, 100 / LINES);
        // 8191·512 squared is 2^43.9; MIDDLE is 30 octaves.
        assert!((110..=112).contains(&bands[loudest]), "{}", bands[loudest]);
        assert!(bands.iter().enumerate().all(|(b, &v)| b == loudest || v < bands[loudest] - 80), "{bands:?}");
    }

    #[test]
    fn silence_and_a_constant_have_no_energy() {
        assert_eq!(log_bands(&mut [0; WINDOW]), [-127; BANDS]);
        assert!(log_bands(&mut [-1000; WINDOW])[1..].iter().all(|&v| v < -100));
    }

    #[test]
    fn twice_as_loud_is_two_octaves_more() {
        let noise = |scale: i16| {
            let mut draws = crate::tintin_core::rng::Draws::new(1, 0, 0, 0);
            core::array::from_fn(|_| scale * (i16::try_from(draws.below(2000)).unwrap() - 1000))
        };
        let (quiet, loud) = (log_bands(&mut noise(1)), log_bands(&mut noise(2)));
        assert!(quiet.iter().zip(loud).all(|(&q, l)| (15..=17).contains(&(l - q))), "{quiet:?} {loud:?}");
    }

    #[test]
    fn the_loudest_windows_do_not_overflow() {
        // Debug builds look at every narrowing and every sum.
        for lines in [1, 2, 3, 64, 128, 255, 256, 511, 512] {
            log_bands(&mut core::array::from_fn(|n| {
                if (n * lines / POINTS).is_multiple_of(2) { i16::MIN } else { i16::MAX }
            }));
        }
        log_bands(&mut [i16::MIN; WINDOW]);
        let mut one = [0; WINDOW];
        one[1] = i16::MIN;
        log_bands(&mut one);
    }

    #[test]
    fn a_level_is_mean_and_deviation() {
        let mut sums = Sums::ZERO;
        for v in [-300, -100, 100, 303] {
            sums.add(v);
        }
        let level = sums.level(4);
        assert_eq!(level, Level { mean: 12, deviation: 3593 }); // 0.75 and 224.6
        assert_eq!([-32768, 1, 225, 450, 32767].map(|v| level.measure(v)), [-127, 0, 32, 64, 127]);
        assert_eq!(Sums::ZERO.level(1), Level::ZERO);
        assert_eq!(Level::ZERO.measure(1), 127);
    }

    #[test]
    fn the_largest_values_do_not_overflow() {
        let mut sums = Sums::ZERO;
        for n in 0..BLOCKS {
            sums.add(if n.is_multiple_of(2) { i16::MIN } else { i16::MAX });
        }
        let level = sums.level(BLOCKS);
        assert_eq!(level.deviation, 16 * 32767 + 8);
        assert_eq!((level.measure(i16::MIN), level.measure(i16::MAX)), (-32, 32));
    }
}
