//! Which part of a layer is trained (N29): what a plan is made for besides the list of layers.

/// A weighted layer and how many of its rows are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    /// Its index in the list of layers.
    pub layer: u32,
    /// Rows of weights that are trained, the bias with them; 0 for the bias alone.
    pub rows: u32,
}
