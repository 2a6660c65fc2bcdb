//! What a layer is, and the one list of layers.
//!
//! A layer answers [`need`](Layer::need) before anything runs: its output shape and role, or why it cannot be. Layers with sums
//! then compute exact i32 sums; no layer rounds. All slices come from the plan and have the planned lengths.

mod add;
mod avg_pool2d;
mod branch;
mod conv2d;
mod depthwise_conv2d;
mod flatten;
mod global_avg_pool2d;
mod inside;
mod linear;
mod max_pool2d;
mod relu;
#[cfg(test)]
mod tests;

use crate::cut::Cut;
use crate::kernels;
use crate::rescale::{BIAS_LIMIT, MAX_SUM, MAX_TERMS};
use crate::shape::Shape;

pub use add::{Add, add_into};
pub use avg_pool2d::AvgPool2d;
pub use branch::Branch;
pub use conv2d::Conv2d;
pub use depthwise_conv2d::DepthwiseConv2d;
pub use flatten::Flatten;
pub use global_avg_pool2d::GlobalAvgPool2d;
use inside::Inside;
pub use linear::Linear;
pub use max_pool2d::MaxPool2d;
pub use relu::ReLU;

/// How the net treats a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Yields i32 sums that the net narrows.
    Sums {
        /// Power of two the layer itself adds to the scale of its sums (N14).
        exponent: i16,
    },
    /// Keeps what is positive; acts on sums or on mantissas (N13).
    ReLU,
    /// Takes the maximum of windows; acts on sums or on mantissas (N13).
    MaxPool(MaxPool2d),
    /// Adds a second tensor (N28).
    Add,
    /// Renames the shape; costs nothing.
    Rename,
    /// Goes on from an earlier output (N28); costs nothing.
    Branch,
}

/// A layer's answer for one input shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// Output shape.
    pub ys: Shape,
    /// What the net does with it.
    pub role: Role,
    /// Weight rows, one per output unit; 0 without weights.
    pub rows: u32,
    /// Weights per row: the fan-in.
    pub row: u32,
    /// Products per input element: the fan-out of Xavier's bound (N9).
    pub fan_out: u32,
    /// Largest sum of one input element's error, in products of mantissas, rounded up (N2).
    pub backward_terms: u32,
    /// One bias per row.
    pub bias: bool,
    /// Words of workspace for the kernels.
    pub workspace: u32,
    /// A row reads all of the input, so some rows make a layer of their own: the same with fewer outputs.
    pub apart: bool,
}

impl Need {
    /// A layer without weights, bias or workspace.
    pub const fn plain(ys: Shape, role: Role) -> Self {
        Self { ys, role, rows: 0, row: 0, fan_out: 0, backward_terms: 0, bias: false, workspace: 0, apart: false }
    }
}

/// Forward call: `acc` += exact sums of output rows `first..first + rows` of every sample.
pub struct Forward<'a> {
    /// Input mantissas, (samples, xs).
    pub x: &'a [i8],
    /// Weights, (rows, row).
    pub w: &'a [i8],
    /// Sums, (samples, rows, width, channels); hold the bias or 0 before.
    pub acc: &'a mut [i32],
    /// Workspace of the planned size; holds anything before and after.
    pub workspace: &'a mut [i32],
    /// Input shape of one sample.
    pub xs: Shape,
    /// Output shape of one sample, before pooling.
    pub ys: Shape,
    /// First output row.
    pub first: usize,
    /// Number of output rows.
    pub rows: usize,
}

/// Forward call for all a slot does: bias, exact sums, pool and ReLU of every sample.
pub struct Whole<'a> {
    /// Input mantissas, (samples, xs).
    pub x: &'a [i8],
    /// Weights, (rows, row).
    pub w: &'a [i8],
    /// What the slot narrows, (samples, ps); the first row of channels holds the bias or 0 before, the rest anything.
    pub acc: &'a mut [i32],
    /// Place of each window's maximum, same length as `acc`; empty if nobody asks.
    pub winners: &'a mut [i8],
    /// The pool, if any.
    pub pool: Option<MaxPool2d>,
    /// Ends in a ReLU.
    pub relu: bool,
    /// Input shape of one sample.
    pub xs: Shape,
    /// Shape of one sample's sums.
    pub ys: Shape,
    /// Shape after pooling.
    pub ps: Shape,
}

impl<'a> Whole<'a> {
    /// In the words of the kernels.
    fn outputs(acc: &'a mut [i32], winners: &'a mut [i8], relu: bool) -> kernels::Outputs<'a> {
        kernels::Outputs { acc, winners, sums: if relu { kernels::Sums::Rectified } else { kernels::Sums::Whole } }
    }
}

/// The errors at a layer's sums, pooled or not, for a run of samples.
#[derive(Clone, Copy)]
pub struct Errors<'a> {
    /// Error mantissas, (samples, ps).
    pub dy: &'a [i8],
    /// Place of each window's maximum, same length as `dy`; empty without a pool.
    pub index: &'a [i8],
    /// The pool taken over from the list, if any.
    pub pool: Option<MaxPool2d>,
    /// Shape of one sample of `dy`.
    pub ps: Shape,
}

impl<'a> Errors<'a> {
    /// The errors of one sample.
    #[inline(always)]
    pub fn sample(&self, n: usize) -> Self {
        let range = n * self.ps.len()..(n + 1) * self.ps.len();
        let index = if self.pool.is_some() { &self.index[range.clone()] } else { self.index };
        Self { dy: &self.dy[range], index, ..*self }
    }

    /// Number of samples.
    #[inline(always)]
    pub fn samples(&self) -> usize {
        self.dy.len() / self.ps.len()
    }

    /// Calls `f(row, column, channel, error)` with the place before pooling of every non-zero error of this one sample whose
    /// channel is in `channels`.
    #[inline(always)]
    pub fn for_each(&self, channels: core::ops::Range<usize>, f: impl FnMut(usize, usize, usize, i8)) {
        self.outside(&Inside::NONE, channels, f);
    }

    /// The same for the places outside a rectangle.
    #[inline(always)]
    fn outside(&self, inside: &Inside, channels: core::ops::Range<usize>, mut f: impl FnMut(usize, usize, usize, i8)) {
        let c = self.ps.c as usize;
        self.each_place(
            inside,
            #[inline(always)]
            |i, j, at| {
                for (ch, &d) in channels.clone().zip(&self.dy[at..][..c][channels.clone()]) {
                    if d != 0 {
                        let (i, j) = self.unpooled(i, j, at + ch);
                        f(i, j, ch, d);
                    }
                }
            },
        );
    }

    /// Calls `f(row, column, offset)` for every place outside; counted, because a division is dear on a Cortex-M0+.
    #[inline(always)]
    fn each_place(&self, inside: &Inside, mut f: impl FnMut(usize, usize, usize)) {
        let mut at = 0;
        for i in 0..self.ps.h as usize {
            let mut j = 0;
            while j < self.ps.w as usize {
                if j == inside.columns.start && inside.rows.contains(&i) {
                    j = inside.columns.end;
                    at += inside.columns.len() * self.ps.c as usize;
                    continue;
                }
                f(i, j, at);
                at += self.ps.c as usize;
                j += 1;
            }
        }
    }

    /// The place before pooling of the error `at`, which belongs to place (i, j).
    #[inline(always)]
    fn unpooled(&self, i: usize, j: usize, at: usize) -> (usize, usize) {
        match self.pool {
            None => (i, j),
            Some(pool) => pool.place(i, j, self.index[at]),
        }
    }
}

impl Cut for Errors<'_> {
    fn cut(self, items: usize, _parts: usize) -> (Self, Self) {
        let (dy, rest) = self.dy.split_at(items * self.ps.len());
        let (index, others) =
            if self.pool.is_some() { self.index.split_at(dy.len()) } else { (self.index, self.index) };
        (Self { dy, index, ..self }, Self { dy: rest, index: others, ..self })
    }

    /// Most kernels of convolutions walk the errors that are not zero: samples are taken from both ends, so that both sides get their share
    /// of these and of what every sample costs.
    #[cfg(feature = "threads")]
    fn share(&self, items: usize, some: usize, parts: usize) -> usize {
        let n = self.ps.len();
        if self.ps.places() == 1 {
            return items * some / parts;
        }
        kernels::run(
            #[inline(always)]
            || {
                let cost = |s: usize| n / 16 + kernels::host::about_nonzero(&self.dy[s * n..][..n]);
                let (mut first, mut last, mut left, mut right) = (0, items, 0, 0);
                while first < last {
                    if left * (parts - some) <= right * some {
                        left += cost(first);
                        first += 1;
                    } else {
                        last -= 1;
                        right += cost(last);
                    }
                }
                first
            },
        )
    }
}

/// Backward call: `acc` (samples, rows, width, channels) += exact errors of input rows `first..first + rows`; holds 0 before.
pub struct Backward<'a> {
    /// Weights, (rows, row).
    pub w: &'a [i8],
    /// Errors at the sums.
    pub errors: Errors<'a>,
    /// Input errors of the rows.
    pub acc: &'a mut [i32],
    /// Input shape of one sample.
    pub xs: Shape,
    /// First input row.
    pub first: usize,
    /// Number of input rows.
    pub rows: usize,
}

/// Gradient call: `acc` (rows.len(), row) += exact gradient of the weight rows `rows`; holds 0 before.
pub struct Gradient<'a> {
    /// Input mantissas, (samples, xs).
    pub x: &'a [i8],
    /// Errors at the sums.
    pub errors: Errors<'a>,
    /// Gradient rows.
    pub acc: &'a mut [i32],
    /// Input shape of one sample.
    pub xs: Shape,
    /// Which weight rows.
    pub rows: core::ops::Range<usize>,
    /// Workspace of the planned size; holds anything before and after.
    pub workspace: &'a mut [i32],
}

/// The arithmetic of a layer with sums. The other roles need none of it.
pub trait Sums {
    /// Exact sums (N11, N14).
    fn forward(&self, call: Forward<'_>);
    /// All a slot does (N11 to N13) in one pass, and the largest magnitude of its sums, where a machine has that; else `None`.
    #[inline(always)]
    fn whole(&self, _call: Whole<'_>) -> Option<u32> {
        None
    }
    /// Exact input errors, the adjoint of `forward` (N18).
    fn backward(&self, call: Backward<'_>);
    /// Exact weight gradient (N18); nothing for a layer without weights.
    #[inline(always)]
    fn gradient(&self, _call: Gradient<'_>) {}
    /// The gradient of a single sample is dy\[o\] · x for every row o, so no row of it needs to be held.
    #[inline(always)]
    fn is_outer(&self) -> bool {
        false
    }
}

/// The set of all layers. A net over a smaller set contains the code of that set alone: see [`Slot::needs`](crate::plan::Slot::needs).
pub const ALL: u32 = u32::MAX;
/// In a set: sums computed twice instead of held.
pub const STREAMED: u32 = 1 << 16;
/// In a set: biases.
pub const BIAS: u32 = 1 << 17;
/// In a set: a MaxPool2d on mantissas.
pub const POOL_ALONE: u32 = 1 << 18;
/// In a set: a ReLU on mantissas.
pub const RELU_ALONE: u32 = 1 << 19;
/// In a set: outputs with several users, and Add.
pub const BRANCHES: u32 = 1 << 20;
/// In a set: slots that are trained in part.
pub const CHOSEN: u32 = 1 << 21;
/// In a set: signs kept as bits.
pub const SIGNS: u32 = 1 << 22;
/// In a set: outputs and errors looked at instead of learned from.
pub const INSPECT: u32 = 1 << 23;

/// Bytes of a layer record in a file.
pub const RECORD: usize = 16;

/// Little-endian 16 bits at `at`.
const fn field(record: &[u8; RECORD], at: usize) -> u16 {
    u16::from_le_bytes([record[at], record[at + 1]])
}

/// Writes 16 bits at `at`, little-endian.
const fn set_field(record: &mut [u8; RECORD], at: usize, v: u16) {
    [record[at], record[at + 1]] = v.to_le_bytes();
}

/// The settings of any layer, zero where a layer has no such setting: a file record in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fields {
    /// Has biases.
    pub bias: bool,
    /// Output features or channels.
    pub out: u16,
    /// Kernel or window, height and width.
    pub kernel: (u16, u16),
    /// Vertical and horizontal stride.
    pub stride: (u16, u16),
    /// Zero padding, vertical and horizontal.
    pub padding: (u16, u16),
}

impl Fields {
    /// Of a layer without settings.
    pub const NONE: Self = Self { bias: false, out: 0, kernel: (0, 0), stride: (0, 0), padding: (0, 0) };

    const fn record(&self, code: u8) -> [u8; RECORD] {
        let mut record = [0; RECORD];
        record[0] = code;
        record[1] = self.bias as u8;
        set_field(&mut record, 2, self.out);
        set_field(&mut record, 4, self.kernel.0);
        set_field(&mut record, 6, self.kernel.1);
        set_field(&mut record, 8, self.stride.0);
        set_field(&mut record, 10, self.stride.1);
        set_field(&mut record, 12, self.padding.0);
        set_field(&mut record, 14, self.padding.1);
        record
    }

    const fn read(record: &[u8; RECORD]) -> Self {
        Self {
            bias: record[1] & 1 == 1,
            out: field(record, 2),
            kernel: (field(record, 4), field(record, 6)),
            stride: (field(record, 8), field(record, 10)),
            padding: (field(record, 12), field(record, 14)),
        }
    }
}

impl Layer {
    /// The layer's settings.
    pub const fn fields(self) -> Fields {
        Fields::read(&self.pack())
    }
}

/// Refuses a forward sum of `terms` products that could overflow i32 (N2).
const fn check_sum(terms: u32, bias: bool) -> Result<(), &'static str> {
    let most = if bias { (MAX_SUM - BIAS_LIMIT as u32) / (127 * 127) } else { MAX_TERMS };
    if terms > most { Err("sum of products could overflow 32 bits: fan-in too large") } else { Ok(()) }
}

/// Refuses an empty window or a stride of 0.
const fn check_window(kernel: (u16, u16), stride: (u16, u16)) -> Result<(), &'static str> {
    if kernel.0 == 0 || kernel.1 == 0 || stride.0 == 0 || stride.1 == 0 {
        Err("kernel and stride must be at least 1")
    } else {
        Ok(())
    }
}

/// Output extent of windows of `k` with stride `s` (both at least 1) over `n` values with `p` zeros on both sides, if one fits.
const fn windows(n: u32, k: u16, s: u16, p: u16) -> Option<u32> {
    let padded = n + 2 * p as u32;
    if padded < k as u32 { None } else { Some((padded - k as u32) / s as u32 + 1) }
}

/// One enum of all layers from one line per layer: file code, type, whether it has sums.
macro_rules! layers {
    ($($code:literal $layer:ident $sums:ident,)*) => {
        /// Any layer of the closed list.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Layer {
            $(#[doc = concat!("See [`", stringify!($layer), "`].")] $layer($layer),)*
        }

        impl Layer {
            /// Shape and role for input shape `xs`, or why the layer cannot take it.
            pub const fn need(self, xs: Shape) -> Result<Need, &'static str> {
                match self { $(Layer::$layer(layer) => layer.need(xs),)* }
            }

            /// The layer called `name` with these fields; `None` for an unknown name or a field the layer does not have.
            pub fn from_fields(name: &str, fields: Fields) -> Option<Self> {
                let code = match name { $(stringify!($layer) => $code,)* _ => return None };
                Self::unpack(fields.record(code))
            }

            /// The layer's bit in a set of layers.
            pub const fn bit(self) -> u32 {
                const { assert!($($code <= 16 &&)* true, "the other bits are taken") };
                match self { $(Layer::$layer(_) => 1 << ($code - 1),)* }
            }

            /// The layer's name.
            pub const fn name(self) -> &'static str {
                match self { $(Layer::$layer(_) => stringify!($layer),)* }
            }

            /// The layer's file record.
            pub const fn pack(self) -> [u8; RECORD] {
                match self { $(Layer::$layer(layer) => layer.fields().record($code),)* }
            }

            /// The layer of a file record, `None` for an unknown code or a record with stray bits.
            pub const fn unpack(record: [u8; RECORD]) -> Option<Self> {
                let layer = match record[0] {
                    $($code => Layer::$layer($layer::from_fields(Fields::read(&record))),)*
                    _ => return None,
                };
                let again = layer.pack();
                let mut i = 0;
                while i < RECORD {
                    if again[i] != record[i] {
                        return None;
                    }
                    i += 1;
                }
                Some(layer)
            }

            /// See [`Sums::forward`].
            pub fn forward(&self, call: Forward<'_>) {
                self.forward_of::<ALL>(call);
            }

            pub(crate) fn forward_of<const SET: u32>(&self, call: Forward<'_>) {
                match self {
                    $(Layer::$layer(layer) if SET & (1 << ($code - 1)) != 0 => layers!(@$sums layer.forward(call)),)*
                    _ => {}
                }
            }

            /// See [`Sums::whole`].
            pub(crate) fn whole_of<const SET: u32>(&self, call: Whole<'_>) -> Option<u32> {
                match self {
                    $(Layer::$layer(layer) if SET & (1 << ($code - 1)) != 0 => layers!(@$sums layer.whole(call)),)*
                    _ => None,
                }
            }

            /// See [`Sums::backward`].
            pub fn backward(&self, call: Backward<'_>) {
                self.backward_of::<ALL>(call);
            }

            pub(crate) fn backward_of<const SET: u32>(&self, call: Backward<'_>) {
                match self {
                    $(Layer::$layer(layer) if SET & (1 << ($code - 1)) != 0 => layers!(@$sums layer.backward(call)),)*
                    _ => {}
                }
            }

            /// See [`Sums::is_outer`].
            pub fn is_outer(&self) -> bool {
                match self { $(Layer::$layer(layer) => layers!(@$sums layer.is_outer()),)* }
            }

            /// See [`Sums::gradient`].
            pub fn gradient(&self, call: Gradient<'_>) {
                self.gradient_of::<ALL>(call);
            }

            pub(crate) fn gradient_of<const SET: u32>(&self, call: Gradient<'_>) {
                match self {
                    $(Layer::$layer(layer) if SET & (1 << ($code - 1)) != 0 => layers!(@$sums layer.gradient(call)),)*
                    _ => {}
                }
            }
        }
    };
    (@sums $layer:ident.is_outer()) => { $layer.is_outer() };
    (@mantissas $layer:ident.is_outer()) => {{ let _ = $layer; false }};
    (@sums $layer:ident.whole($call:ident)) => { $layer.whole($call) };
    (@mantissas $layer:ident.whole($call:ident)) => {{ let _ = ($layer, $call); None }};
    (@sums $layer:ident.$method:ident($call:ident)) => {
        crate::kernels::run(#[inline(always)] || $layer.$method($call))
    };
    (@mantissas $layer:ident.$method:ident($call:ident)) => {
        { let _ = ($layer, $call); }
    };
}

layers! {
    1 Linear sums,
    2 Conv2d sums,
    3 ReLU mantissas,
    4 MaxPool2d mantissas,
    5 AvgPool2d sums,
    6 GlobalAvgPool2d sums,
    7 Flatten mantissas,
    8 DepthwiseConv2d sums,
    9 Branch mantissas,
    10 Add mantissas,
}
