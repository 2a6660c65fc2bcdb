//! Rectifier, N13: y = max(x, 0); the error passes where y > 0. On sums where a layer with sums comes before it.

use super::{Fields, Need, Role};
use crate::shape::Shape;

/// Rectified linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReLU;

impl ReLU {
    pub(super) const fn fields(self) -> Fields {
        Fields::NONE
    }

    pub(super) const fn from_fields(_: Fields) -> Self {
        Self
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        Ok(Need::plain(xs, Role::ReLU))
    }
}
