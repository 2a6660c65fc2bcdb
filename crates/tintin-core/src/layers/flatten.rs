//! Flatten, N13: (h, w, c) becomes (1, 1, h·w·c). Memory is row-major with channels last, so nothing moves.

use super::{Fields, Need, Role};
use crate::shape::Shape;

/// Map to vector.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flatten;

impl Flatten {
    pub(super) const fn fields(self) -> Fields {
        Fields::NONE
    }

    pub(super) const fn from_fields(_: Fields) -> Self {
        Self
    }

    pub(super) const fn need(self, xs: Shape) -> Result<Need, &'static str> {
        match xs.checked_len() {
            Some(n) => Ok(Need::plain(Shape::flat(n), Role::Rename)),
            None => Err("input is empty or too large"),
        }
    }
}
