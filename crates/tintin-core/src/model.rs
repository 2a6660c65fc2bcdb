//! Models whose memory the compiler sizes: [`model!`](crate::model!) and what it calls.

use crate::error::PlanError;
use crate::file;
use crate::layers::Layer;
use crate::plan::{Options, Sizes, Slot, empty_slots, plan};
use crate::shape::Shape;

/// A planned list of at most `N` slots.
#[derive(Clone, Copy, Debug)]
pub struct Planned<const N: usize> {
    /// Slot table, [`Sizes::slots`] of them in use.
    pub slots: [Slot; N],
    /// Elements per role.
    pub sizes: Sizes,
}

/// Plans in a constant.
///
/// # Errors
/// As [`plan`].
pub const fn try_planned<const N: usize>(
    layers: &[Layer],
    input: Shape,
    options: Options,
) -> Result<Planned<N>, PlanError> {
    let mut slots = empty_slots::<N>();
    match plan(layers, input, options, &mut slots) {
        Ok(sizes) => Ok(Planned { slots, sizes }),
        Err(error) => Err(error),
    }
}

/// Plans in a constant, or fails the build with the planner's message.
///
/// # Panics
/// With the message of the [`PlanError`].
#[track_caller]
pub const fn planned<const N: usize>(layers: &[Layer], input: Shape, options: Options) -> Planned<N> {
    match try_planned(layers, input, options) {
        Ok(planned) => planned,
        Err(error) => panic!("{}", error.message().as_str()),
    }
}

/// Header of a `.tin` file in a constant, or fails the build.
///
/// # Panics
/// With what is wrong with the file.
#[track_caller]
pub const fn header(bytes: &[u8]) -> file::Header {
    match file::Header::read(bytes) {
        Ok(header) => header,
        Err(error) => panic!("{}", error.short()),
    }
}

/// Layer list of a `.tin` file in a constant, or fails the build.
///
/// # Panics
/// If a record is of no known layer.
#[track_caller]
pub const fn file_layers<const N: usize>(bytes: &[u8]) -> [Layer; N] {
    let mut layers = [Layer::Flatten(crate::layers::Flatten); N];
    let mut i = 0;
    while i < N {
        layers[i] = match file::layer(bytes, i) {
            Ok(layer) => layer,
            Err(error) => panic!("{}", error.short()),
        };
        i += 1;
    }
    layers
}

/// Defines a model: a module with its layers, its plan, its memory type and the function that joins them.
///
/// Layers are written with their types' constructors. Optional, in this order, after `batch`: `training: false` (prediction
/// alone: all weights stay in flash), `train_from` (index of the first layer to train; those before stay frozen) and `ram` (most
/// bytes; a larger plan does not compile). Instead of `input` and `layers` a `.tin` file may be given (`file:
/// include_bytes!("net.tin")`), whose records are decoded by the compiler; then `load` fills the memory from the file.
///
/// ```
/// tintin_core::model! {
///     /// LeNet-5 for 28×28 images.
///     pub mod lenet5 {
///         input: (28, 28, 1),
///         batch: 1,
///         ram: 96 * 1024,
///         layers: [
///             Conv2d::new(6, (5, 5)).padding((2, 2)), ReLU, MaxPool2d::new((2, 2)),
///             Conv2d::new(16, (5, 5)), ReLU, MaxPool2d::new((2, 2)),
///             Flatten, Linear::new(120), ReLU, Linear::new(84), ReLU, Linear::new(10),
///         ]
///     }
/// }
/// static mut _MEMORY: lenet5::Memory = lenet5::Memory::new(); // all zero: .bss
/// assert_eq!(lenet5::SIZES.weights, 61_470);
/// assert!(lenet5::SIZES.ram() <= 95_000);
/// ```
///
/// What cannot be does not compile:
/// ```compile_fail
/// tintin_core::model! {
///     pub mod wrong { input: (4, 4, 1), batch: 1, layers: [Conv2d::new(8, (5, 5))] }
/// }
/// ```
#[macro_export]
macro_rules! model {
    (
        $(#[$doc:meta])* $vis:vis mod $name:ident {
            input: ($h:expr, $w:expr, $c:expr),
            batch: $batch:expr,
            $(training: $training:expr,)?
            $(train_from: $train_from:expr,)?
            $(ram: $ram:expr,)?
            layers: [$($layer:ident $(:: $new:ident ($($argument:tt)*))? $(. $method:ident ($($value:tt)*))*),+ $(,)?]
            $(,)?
        }
    ) => {
        $(#[$doc])*
        #[allow(unused_imports, missing_docs)]
        $vis mod $name {
            use super::*;
            pub const LAYERS: [$crate::layers::Layer; COUNT] = [$(
                $crate::layers::Layer::$layer(
                    $crate::layers::$layer $(:: $new ($($argument)*))? $(. $method ($($value)*))*
                ),
            )+];
            const COUNT: usize = [$(stringify!($layer)),+].len();
            pub const INPUT: $crate::shape::Shape = $crate::shape::Shape::new($h, $w, $c);
            $crate::model!(@plan $batch $(, with_training $training)? $(, train_from $train_from)? $(, ram_limit $ram)?);
            /// The net in this memory. A model with a frozen prefix takes it through `net_with`.
            pub fn net(memory: &mut Memory) -> $crate::net::Net<'_> {
                assert!(SIZES.frozen == 0, "a model with a frozen prefix needs its weights: call net_with");
                net_with(memory, &[])
            }
        }
    };
    (
        $(#[$doc:meta])* $vis:vis mod $name:ident {
            file: $file:expr,
            batch: $batch:expr
            $(, training: $training:expr)?
            $(, train_from: $train_from:expr)?
            $(, ram: $ram:expr)?
            $(,)?
        }
    ) => {
        $(#[$doc])*
        #[allow(unused_imports, missing_docs)]
        $vis mod $name {
            use super::*;
            pub static FILE: &[u8] = $file;
            const BYTES: &[u8] = $file;
            const COUNT: usize = $crate::model::header(BYTES).layers;
            pub const LAYERS: [$crate::layers::Layer; COUNT] = $crate::model::file_layers(BYTES);
            pub const INPUT: $crate::shape::Shape = $crate::model::header(BYTES).input;
            $crate::model!(@plan $batch $(, with_training $training)? $(, train_from $train_from)? $(, ram_limit $ram)?);
            /// The net of the file: trained weights and scales are copied into this memory, a frozen prefix stays in the file.
            ///
            /// # Errors
            /// A payload that was altered.
            pub fn load(memory: &mut Memory) -> Result<$crate::net::Net<'_>, $crate::error::FileError> {
                let mut net = net(memory);
                net.load(FILE)?;
                Ok(net)
            }
            /// The net in this memory as it is, after `load`.
            pub fn net(memory: &mut Memory) -> $crate::net::Net<'_> {
                net_with(memory, $crate::file::frozen(FILE, &SIZES))
            }
        }
    };
    (@plan $batch:expr $(, $option:ident $value:expr)*) => {
        pub const OPTIONS: $crate::plan::Options =
            $crate::plan::Options::training($batch)$(.$option($value))*;
        const PLANNED: $crate::model::Planned<COUNT> = $crate::model::planned(&LAYERS, INPUT, OPTIONS);
        pub const SIZES: $crate::plan::Sizes = PLANNED.sizes;
        pub static SLOTS: [$crate::plan::Slot; COUNT] = PLANNED.slots;
        /// The memory of one net of this model; all zero, so a `static` costs no flash.
        pub type Memory = $crate::arena::Arena<
            { SIZES.resident + SIZES.bytes() },
            { SIZES.all_words() },
            { SIZES.slots },
        >;
        /// The layers of this model, as a set.
        pub const SET: u32 = SIZES.set;
        /// The net over a frozen prefix of weights (empty without one) with the code of its own layers alone: for small flash.
        pub fn lean<'m>(memory: &'m mut Memory, frozen: &'m [i8]) -> $crate::net::Net<'m, SET> {
            memory.lean(&SLOTS, &SIZES, frozen)
        }
        /// The net in this memory over a frozen prefix of weights, which may lie in flash.
        pub fn net_with<'m>(memory: &'m mut Memory, frozen: &'m [i8]) -> $crate::net::Net<'m> {
            memory.net(&SLOTS, &SIZES, frozen)
        }
        /// The model in this memory as a `.tin` file to be written; `frozen` as for `net_with`.
        pub fn contents<'m>(
            memory: &'m Memory,
            frozen: &'m [i8],
            recipe: Option<$crate::optim::Recipe>,
        ) -> $crate::file::Contents<'m> {
            memory.contents((&LAYERS, INPUT), &SLOTS, &SIZES, frozen, recipe)
        }
    };
}
