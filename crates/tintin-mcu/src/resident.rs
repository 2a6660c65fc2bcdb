//! The model a runner works on: memory whose size the firmware chose, plans made when a file comes.
//!
//! One pool of words serves every model that fits as a whole: weights first, then what a step works in, then labels. Between two
//! steps only the weights matter, so a new file is put together behind them and a refused one harms nothing.

use crate::protocol::Failure;
use bytemuck::{cast_slice, cast_slice_mut};
use tintin_core::file::{self, Contents, Header, Weights};
use tintin_core::layers::{Flatten, Layer};
use tintin_core::net::{Memory, Net, State};
use tintin_core::optim::Recipe;
use tintin_core::plan::{Options, Sizes, Slot, SlotScales, empty_slots, plan};
use tintin_core::shape::Shape;

/// Layers, slots and scales of the model that is there and of the one that may come.
pub struct Tables<const LAYERS: usize>([Table<LAYERS>; 2]);

struct Table<const LAYERS: usize> {
    layers: [Layer; LAYERS],
    slots: [Slot; LAYERS],
    scales: [SlotScales; LAYERS],
}

impl<const LAYERS: usize> Table<LAYERS> {
    const EMPTY: Self =
        Self { layers: [Layer::Flatten(Flatten); LAYERS], slots: empty_slots(), scales: [SlotScales::ZERO; LAYERS] };

    fn lend(&mut self) -> Lent<'_> {
        Lent { layers: &mut self.layers, slots: &mut self.slots, scales: &mut self.scales }
    }
}

impl<const LAYERS: usize> Tables<LAYERS> {
    /// Without a model.
    #[allow(clippy::new_without_default)]
    pub const fn new() -> Self {
        Self([Table::EMPTY; 2])
    }
}

struct Lent<'m> {
    layers: &'m mut [Layer],
    slots: &'m mut [Slot],
    scales: &'m mut [SlotScales],
}

/// What is known of the loaded model.
struct Loaded {
    layers: usize,
    input: Shape,
    options: Options,
    sizes: Sizes,
    state: State,
    recipe: Option<Recipe>,
}

/// Memory for one model at a time.
pub struct Resident<'m> {
    pool: &'m mut [i32],
    now: Lent<'m>,
    next: Lent<'m>,
    loaded: Option<Loaded>,
}

/// The net of the loaded model, and what is known of it.
pub struct Running<'a> {
    /// The net.
    pub net: Net<'a>,
    /// Room for the labels of the largest batch.
    pub labels: &'a mut [u16],
    /// What it was planned for.
    pub options: Options,
    /// How it learns, if that was told.
    pub recipe: Option<Recipe>,
}

/// Words of weights and work bytes.
fn byte_words(sizes: &Sizes) -> usize {
    (sizes.weights + sizes.bytes()).div_ceil(4)
}

/// Words of a batch's labels.
fn label_words(sizes: &Sizes) -> usize {
    sizes.batch.div_ceil(2)
}

impl<'m> Resident<'m> {
    /// No model, in this memory.
    pub fn new<const LAYERS: usize>(pool: &'m mut [i32], tables: &'m mut Tables<LAYERS>) -> Self {
        let [now, next] = &mut tables.0;
        Self { pool, now: now.lend(), next: next.lend(), loaded: None }
    }

    /// Bytes for weights and all a step works in.
    pub fn bytes(&self) -> usize {
        size_of_val::<[i32]>(self.pool)
    }

    /// Most layers of a model.
    pub fn most_layers(&self) -> usize {
        self.now.layers.len()
    }

    /// Drops the model.
    pub fn forget(&mut self) {
        self.loaded = None;
    }

    fn weights(&self) -> usize {
        self.loaded.as_ref().map_or(0, |loaded| loaded.sizes.weights)
    }

    /// Puts a piece of a file where it belongs, behind the weights.
    ///
    /// # Errors
    /// No room there.
    pub fn stage(&mut self, offset: usize, piece: &[u8]) -> Result<(), Failure> {
        let start = self.weights();
        let room: &mut [u8] = &mut cast_slice_mut(self.pool)[start..];
        let available = room.len();
        let needed = offset.saturating_add(piece.len());
        let place = room.get_mut(offset..needed).ok_or(Failure::Room { needed, available })?;
        place.copy_from_slice(piece);
        Ok(())
    }

    /// Plans the staged file of `len` bytes and takes its weights; the model before is gone then.
    ///
    /// # Errors
    /// A file that cannot be read or planned, or does not fit; then the model before is as it was.
    pub fn load(&mut self, len: usize, options: Options) -> Result<Sizes, Failure> {
        let start = self.weights();
        let bytes: &mut [u8] = cast_slice_mut(self.pool);
        let available = bytes.len();
        let staged = bytes[start..].get(..len).ok_or(Failure::Room { needed: len, available: available - start })?;
        let header = Header::read(staged).map_err(Failure::File)?;
        let most = self.next.layers.len();
        if header.layers > most {
            return Err(Failure::Layers { needed: header.layers, available: most });
        }
        let layers = &mut self.next.layers[..header.layers];
        for (i, layer) in layers.iter_mut().enumerate() {
            *layer = file::layer(staged, i).map_err(Failure::File)?;
        }
        let sizes = plan(layers, header.input, options, self.next.slots)
            .map_err(|error| Failure::File(tintin_core::error::FileError::Plan(error)))?;
        let sums = sizes.all_words() + label_words(&sizes);
        if byte_words(&sizes) + sums > available / 4 {
            return Err(Failure::Memory { weights: sizes.weights, bytes: sizes.bytes(), sums: 4 * sums, available });
        }
        let slots = &self.next.slots[..sizes.slots];
        let weights = Weights::read(staged, slots, &sizes).map_err(Failure::File)?;
        let scales = &mut self.next.scales[..sizes.slots];
        scales.fill(SlotScales::ZERO);
        weights.scales(slots, scales);
        // from here on nothing fails
        let from = start + len - SUM - sizes.weights;
        bytes.copy_within(from..from + sizes.weights, 0);
        core::mem::swap(&mut self.now, &mut self.next);
        let Header { layers, input, state, recipe } = header;
        self.loaded = Some(Loaded { layers, input, options, sizes, state, recipe });
        Ok(sizes)
    }

    /// Sets how the model learns.
    ///
    /// # Errors
    /// No model, or one with more outputs than the loss takes.
    pub fn set_recipe(&mut self, recipe: Recipe) -> Result<(), Failure> {
        let slots = &self.now.slots;
        let loaded = self.loaded.as_mut().ok_or(NO_MODEL)?;
        if slots[loaded.sizes.slots - 1].ys.len() > recipe.loss.most_outputs() {
            return Err(Failure::Value("the net has more outputs than the loss of the recipe takes"));
        }
        loaded.recipe = Some(recipe);
        Ok(())
    }

    /// The loaded model at work.
    ///
    /// # Errors
    /// No model.
    pub fn running(&mut self) -> Result<Running<'_>, Failure> {
        let loaded = self.loaded.as_mut().ok_or(NO_MODEL)?;
        let sizes = &loaded.sizes;
        let (bytes, words) = self.pool.split_at_mut(byte_words(sizes));
        let (words, labels) = words.split_at_mut(sizes.all_words());
        let (weights, bytes) = cast_slice_mut(bytes).split_at_mut(sizes.weights);
        let (frozen, weights) = weights.split_at_mut(sizes.frozen);
        let memory = Memory { frozen, weights, bytes, words, scales: self.now.scales, state: &mut loaded.state };
        Ok(Running {
            net: Net::new(self.now.slots, sizes, memory),
            labels: &mut cast_slice_mut(&mut labels[..label_words(sizes)])[..sizes.batch],
            options: loaded.options,
            recipe: loaded.recipe,
        })
    }

    /// The model as a `.tin` file, put together where steps work.
    ///
    /// # Errors
    /// No model, no room for the file behind the weights, or a scale that files cannot keep.
    pub fn save(&mut self) -> Result<&[u8], Failure> {
        let loaded = self.loaded.as_ref().ok_or(NO_MODEL)?;
        let Loaded { layers, input, sizes, state, recipe, .. } = loaded;
        let (layers, slots) = (&self.now.layers[..*layers], &self.now.slots[..sizes.slots]);
        let needed = file::file_len(layers.len(), slots, sizes);
        let (weights, room) = cast_slice_mut::<i32, u8>(self.pool).split_at_mut(sizes.weights);
        let available = room.len();
        let out = room.get_mut(..needed).ok_or(Failure::Room { needed, available })?;
        let contents = Contents {
            layers,
            input: *input,
            state: *state,
            recipe: *recipe,
            slots,
            sizes,
            scales: self.now.scales,
            frozen: &[],
            mantissas: cast_slice(weights),
        };
        contents.write(out).map_err(Failure::File)?;
        Ok(out)
    }
}

/// Bytes of the check sum that ends a file.
const SUM: usize = 4;
const NO_MODEL: Failure = Failure::Order("no model is loaded yet");
