//! Goes on from the output of an earlier layer, N28. Costs nothing.

use super::{Fields, Need, Role};
use crate::shape::Shape;

/// What follows reads the output of layer `from`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Branch {
    /// Index of an earlier layer in the list, neither a Branch nor a Flatten.
    pub from: u16,
}

impl Branch {
    /// On from the output of layer `from`.
    pub const fn new(from: u16) -> Self {
        Self { from }
    }

    pub(super) const fn fields(self) -> Fields {
        Fields { out: self.from, ..Fields::NONE }
    }

    pub(super) const fn from_fields(f: Fields) -> Self {
        Self { from: f.out }
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        Ok(Need::plain(xs, Role::Branch))
    }
}
