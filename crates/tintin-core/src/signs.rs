//! Signs of a ReLU's outputs, one bit each: all that backward needs of them where the layer behind is not trained (N18).

/// Keeps which of `y` are positive: bit i % 8 of byte i / 8.
pub(crate) fn keep(y: &[i8], signs: &mut [i8]) {
    for (y, signs) in y.chunks(8).zip(signs) {
        let mut byte = 0u8;
        for (i, &y) in y.iter().enumerate() {
            byte |= u8::from(y > 0) << i;
        }
        *signs = byte.cast_signed();
    }
}

/// 0 where the input was not positive; `v` begins at input number `first`.
pub(crate) fn mask_by<T: Default>(v: &mut [T], signs: &[i8], first: usize) {
    for (i, v) in (first..).zip(v) {
        if signs[i / 8] >> (i % 8) & 1 == 0 {
            *v = T::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masks_keep_what_was_positive() {
        let y: [i8; 19] = core::array::from_fn(|i| [3, 0, -1, 127, -127][i % 5]);
        let mut signs = [0; 3];
        keep(&y, &mut signs);
        for first in 0..y.len() {
            let mut v = [7; 19];
            mask_by(&mut v[first..], &signs, first);
            for (i, (&v, &y)) in v.iter().zip(&y).enumerate() {
                assert_eq!(v, if i < first || y > 0 { 7 } else { 0 }, "{i} from {first}");
            }
        }
    }
}
