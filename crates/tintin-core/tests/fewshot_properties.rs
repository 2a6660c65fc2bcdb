//! The pieces of few-sample learning against plain definitions, in wide integers or in floats (N30 to N37).
#![allow(missing_docs, clippy::cast_possible_truncation, clippy::float_arithmetic)]

use proptest::collection::vec;
use proptest::prelude::*;
use tintin_core::fewshot::{self, Candidate, Choice, Fisher, Price, Prototypes};
use tintin_core::shape::Shape;
use tintin_core::tensor::Scale;

fn mantissas(n: impl Into<proptest::collection::SizeRange>) -> impl Strategy<Value = Vec<i8>> {
    vec(prop_oneof![3 => -127i8..=127, 1 => Just(0), 1 => Just(127), 1 => Just(-127)], n)
}

/// A query with prototypes made of samples: features, label, temperature, prototypes.
fn query() -> impl Strategy<Value = (Vec<i8>, u16, u8, Vec<i16>)> {
    (1usize..24, 1usize..8).prop_flat_map(|(n, classes)| {
        let samples = vec(mantissas(n), classes);
        (mantissas(n), 0..classes as u16, 0u8..=6, samples).prop_map(move |(f, label, temperature, samples)| {
            let (mut sums, mut units) = (vec![0; n * classes], vec![0; n * classes]);
            let mut prototypes = Prototypes::new(&mut sums, &mut units, n);
            for (sample, label) in samples.iter().zip(0..) {
                prototypes.add(sample, label);
            }
            prototypes.finish();
            (f, label, temperature, units)
        })
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_unit_vector_is_the_nearest_of_its_length(w in vec(-32767i32..=32767, 1..1024)) {
        let mut u = vec![0; w.len()];
        let q = i128::from(fewshot::unit(w.iter().copied(), &mut u));
        let sum: i128 = w.iter().map(|&w| i128::from(w) * i128::from(w)).sum();
        prop_assert!(q * q <= sum && sum < (q + 1) * (q + 1));
        for (&w, &u) in w.iter().zip(&u).filter(|_| q > 0) {
            let (numerator, u) = ((i128::from(w) << 15) + q, i128::from(u));
            prop_assert!(u * 2 * q <= numerator && numerator < (u + 1) * 2 * q);
        }
    }

    #[test]
    fn the_loss_and_its_error_are_those_of_real_numbers((f, label, temperature, mut units) in query()) {
        let classes = units.len() / f.len();
        let c: Vec<f64> = units.iter().map(|&c| f64::from(c) / 16384.0).collect();
        let length = f.iter().map(|&f| f64::from(f).powi(2)).sum::<f64>().sqrt();
        prop_assume!(length >= 64.0);
        let unit: Vec<f64> = f.iter().map(|&f| f64::from(f) / length).collect();
        let tau = f64::from(1u32 << temperature);
        let cos: Vec<f64> = c.chunks(f.len()).map(|c| c.iter().zip(&unit).map(|(c, u)| c * u).sum()).collect();
        let total: f64 = cos.iter().map(|cos| (tau * cos).exp()).sum();
        let p: Vec<f64> = cos.iter().map(|cos| (tau * cos).exp() / total).collect();
        let share = |k: usize| p[k] - f64::from(u8::from(k == usize::from(label)));

        let prototypes = Prototypes::new(&mut [], &mut units, f.len());
        let (mut errors, mut scratch) = (vec![0; f.len()], vec![0; 2 * classes]);
        let score = prototypes.loss(&f, label, temperature, &mut errors, &mut scratch);
        let scale = Scale { s: -7, u: 0, d: 0 };
        let unit_of_errors = f64::from(fewshot::error_scale(scale, temperature).s).exp2();
        for (i, &error) in errors.iter().enumerate() {
            let exact: f64 = (0..classes).map(|k| share(k) * (c[k * f.len() + i] - cos[k] * unit[i])).sum();
            let exact = exact * tau / (length / 128.0);
            // a step of the distances is 2^-8 bits, of the cosines 2^-15; the probabilities follow both
            let tolerance = (0.004 + 0.0003 * tau) * tau / (length / 128.0);
            let error = f64::from(error) * unit_of_errors;
            prop_assert!((error - exact).abs() <= tolerance, "{} {}", error, exact);
        }
        let bits = -p[usize::from(label)].log2();
        let value = score.loss as f64 / 65536.0;
        // beyond 15 bits a probability has no bits left
        prop_assert!(bits > 14.0 || (value - bits).abs() <= 0.02 + 0.001 * tau, "{} {}", value, bits);
    }

    #[test]
    fn a_moved_sample_is_the_definition(
        (h, w, c) in (1u32..6, 1u32..6, 1u32..4), by in (-7i32..=7, -7i32..=7), x in mantissas(5 * 5 * 3)
    ) {
        let shape = Shape::new(h, w, c);
        let mut out = vec![9; shape.len()];
        fewshot::move_by(&x[..shape.len()], shape, by, &mut out);
        let at = |i: i32, j: i32, ch: u32| ((i as u32 * w + j as u32) * c + ch) as usize;
        for (i, j, ch) in (0..h as i32).flat_map(|i| (0..w as i32).flat_map(move |j| (0..c).map(move |ch| (i, j, ch)))) {
            let (from, to) = (i - by.0, j - by.1);
            let inside = (0..h as i32).contains(&from) && (0..w as i32).contains(&to);
            prop_assert_eq!(out[at(i, j, ch)], if inside { x[at(from, to, ch)] } else { 0 });
        }
    }

    #[test]
    fn fisher_sums_are_the_definition(
        channels in 1usize..5, samples in vec((mantissas(60), mantissas(60), -40i32..40), 1..6)
    ) {
        let (mut sums, mut v) = (vec![0; channels], vec![0; channels]);
        let mut fisher = Fisher::new(&mut sums);
        let (mut d, mut r) = (vec![0i128; channels], None);
        for (y, dy, exponent) in &samples {
            let n = 60 / channels * channels;
            fisher.add(&y[..n], &dy[..n], *exponent, &mut v);
            let product = |i: usize| i128::from(y[i]) * i128::from(dy[i]);
            let v: Vec<i128> = (0..channels).map(|o| (o..n).step_by(channels).map(product).sum()).collect();
            let top = v.iter().map(|v| v.unsigned_abs()).max().unwrap();
            if top == 0 {
                continue;
            }
            let k = (128 - top.leading_zeros()).saturating_sub(15);
            let new = exponent + k as i32;
            let old = r.unwrap_or(new);
            for (d, v) in d.iter_mut().zip(v) {
                let w = if k == 0 { v } else { (v + (1 << (k - 1))) >> k };
                let (kept, added) = (2 * (old.max(new) - old), 2 * (old.max(new) - new));
                *d = (*d >> kept.min(127)) + ((w * w) >> added.min(127));
            }
            r = Some(old.max(new));
        }
        prop_assert_eq!(fisher.exponent(), r);
        prop_assert!(fisher.sums().iter().zip(&d).all(|(&a, &b)| i128::from(a) == b));
    }

    #[test]
    fn the_largest_are_the_first_of_the_sorted(
        values in vec(prop_oneof![0u64..4, any::<u64>(), (0u64..8).prop_map(|v| u64::MAX - v)], 0..40), count in 0usize..50
    ) {
        let mut mask = vec![-1i8; values.len().div_ceil(8)];
        fewshot::largest(values.iter().copied(), count, &mut mask);
        let mut order: Vec<usize> = (0..values.len()).collect();
        order.sort_by_key(|&o| core::cmp::Reverse(values[o])); // stable: ties stay by index
        let taken = &order[..count.min(values.len())];
        prop_assert!((0..8 * mask.len()).all(|o| fewshot::is_set(&mask, o) == taken.contains(&o)));
    }

    #[test]
    fn a_choice_keeps_the_budget_and_leaves_no_room(
        slots in vec((1u32..40, prop_oneof![3 => (-3i32..3).prop_map(Some), 1 => Just(None)]), 0..7),
        ratio in 1u32..=1 << 15, bytes in 0u64..120
    ) {
        let mut candidates: Vec<Candidate> =
            slots.iter().zip(0..).map(|(&(rows, score), layer)| Candidate { layer, rows, score }).collect();
        let budget = Price { bytes, products: 60 };
        let price = |chosen: &[Choice]| {
            let bytes = chosen.iter().map(|c| u64::from(c.rows)).sum();
            Some(Price { bytes, products: bytes })
        };
        let mut chosen = vec![Choice { layer: 0, rows: 0 }; slots.len()];
        let count = fewshot::choose(&mut candidates, ratio, budget, &mut chosen, price);
        let chosen = &chosen[..count];
        prop_assert!(price(chosen).unwrap().within(budget));
        prop_assert!(candidates.is_sorted_by_key(|c| (core::cmp::Reverse(c.score), c.layer)));
        let room = bytes.min(60) - price(chosen).unwrap().bytes;
        for c in &candidates {
            let most = (u64::from(c.rows) * u64::from(ratio)).div_ceil(1 << 15);
            match chosen.iter().find(|choice| choice.layer == c.layer) {
                Some(choice) => prop_assert!(c.score.is_some() && (0..4).any(|h| u64::from(choice.rows) == most.div_ceil(1 << h))),
                None => prop_assert!(c.score.is_none() || most.div_ceil(8) > room),
            }
        }
    }
}
