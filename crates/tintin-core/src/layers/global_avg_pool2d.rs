//! Average over the whole map, N14: an [`AvgPool2d`] whose window is the input.

use super::{AvgPool2d, Backward, Fields, Forward, Need, Sums};
use crate::shape::Shape;

/// Global average pooling: (h, w, c) becomes (1, 1, c).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GlobalAvgPool2d;

impl GlobalAvgPool2d {
    pub(super) const fn fields(self) -> Fields {
        Fields::NONE
    }

    pub(super) const fn from_fields(_: Fields) -> Self {
        Self
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        if xs.h > 65_535 || xs.w > 65_535 {
            return Err("map higher or wider than 65 535");
        }
        Self::window(xs).need(xs)
    }

    #[allow(clippy::cast_possible_truncation)] // `need` has checked both extents
    const fn window(xs: Shape) -> AvgPool2d {
        AvgPool2d::new((xs.h as u16, xs.w as u16))
    }
}

impl Sums for GlobalAvgPool2d {
    #[inline(always)]
    fn forward(&self, call: Forward<'_>) {
        Self::window(call.xs).forward(call);
    }

    #[inline(always)]
    fn backward(&self, call: Backward<'_>) {
        Self::window(call.xs).backward(call);
    }
}
