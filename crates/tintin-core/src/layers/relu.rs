//! Rectifier, N13: y = max(x, 0); the error passes where y > 0. On sums where a layer with sums comes before it.

use super::{Need, RECORD, Role};
use crate::shape::Shape;

/// Rectified linear unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReLU;

impl ReLU {
    pub(super) const fn pack(self) -> [u8; RECORD] {
        [0; RECORD]
    }

    pub(super) const fn unpack(_record: &[u8; RECORD]) -> Self {
        Self
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        Ok(Need::plain(xs, Role::ReLU))
    }
}
