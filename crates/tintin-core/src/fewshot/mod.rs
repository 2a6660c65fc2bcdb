//! Learning from a few samples, as far as it needs no net (N30 to N37): integers over lent slices.
//!
//! A few labelled samples, the support set, show classes that the net has never seen. Their features make [`prototypes`]; the
//! same samples, moved a little ([`augment`]), are the queries whose distances to the prototypes are learned from. What is
//! trained is chosen by [`fisher`] information against a budget ([`mod@choice`]), inside a layer row by row ([`rows`]).

pub mod augment;
pub mod choice;
pub mod fisher;
pub mod prototypes;
pub mod rows;
pub mod unit;

pub use crate::choice::Choice;
pub use augment::{move_by, moved};
pub use choice::{Candidate, Price, choose, log2_q8, score};
pub(crate) use fisher::channels;
pub use fisher::{Fisher, Inspection};
pub use prototypes::{Prototypes, error_scale};
pub use rows::{RowRate, drawn, error_sizes, is_set, largest};
pub use unit::unit;
