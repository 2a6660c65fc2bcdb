//! The heap owner of a net, for hosts: layers known at run time, plans made as they are asked for.

use alloc::vec;
use alloc::vec::Vec;

use crate::digest;
use crate::error::{FileError, PlanError};
use crate::file::{self, Contents, Header, Weights};
use crate::layers::Layer;
use crate::net::{Memory, Net, State};
use crate::optim::Recipe;
use crate::plan::{Options, Sizes, Slot, SlotScales, empty_slots, most_slots, plan};
use crate::shape::Shape;

/// A model on the heap. The same engine as an [`Arena`](crate::arena::Arena), the same bits.
#[derive(Clone, Debug)]
pub struct Model {
    layers: Vec<Layer>,
    input: Shape,
    state: State,
    /// How it was last trained; saved with the model.
    pub recipe: Option<Recipe>,
    weights: Vec<i8>,
    scales: Vec<SlotScales>,
    work: Work,
}

/// The plan in force and its buffers.
#[derive(Clone, Debug)]
struct Work {
    options: Options,
    slots: Vec<Slot>,
    sizes: Sizes,
    bytes: Vec<i8>,
    words: Vec<i32>,
}

impl Work {
    fn new(layers: &[Layer], input: Shape, options: Options) -> Result<Self, PlanError> {
        let (slots, sizes) = planned(layers, input, options)?;
        Self::buffers(slots, sizes, options)
    }

    fn buffers(slots: Vec<Slot>, sizes: Sizes, options: Options) -> Result<Self, PlanError> {
        let (bytes, words) = (zeros(sizes.bytes())?, zeros(sizes.all_words())?);
        Ok(Self { options, slots, sizes, bytes, words })
    }

    /// Whether a plan for `options` runs in these buffers: the same, or one for a smaller batch.
    fn serves(&self, options: Options) -> bool {
        self.options.batch >= options.batch && Options { batch: self.options.batch, ..options } == self.options
    }
}

/// A model's weights with memory to predict in; see [`Model::readers`].
#[derive(Debug)]
pub struct Reader<'w> {
    weights: &'w [i8],
    scales: Vec<SlotScales>,
    state: State,
    work: Work,
}

impl Reader<'_> {
    /// The net, to predict and evaluate with.
    pub fn net(&mut self) -> Net<'_> {
        // planned without training: all weights are frozen
        let Self { weights: frozen, scales, state, work: Work { slots, sizes, bytes, words, .. } } = self;
        Net::new(slots, sizes, Memory { frozen, weights: &mut [], bytes, words, scales, state })
    }
}

/// `n` zeros, or an error where the allocator would abort.
pub(crate) fn zeros<T: Clone + Default>(n: usize) -> Result<Vec<T>, PlanError> {
    let mut zeros = Vec::new();
    zeros.try_reserve_exact(n).map_err(|_| PlanError::list("not enough memory on this machine for the plan"))?;
    zeros.resize(n, T::default());
    Ok(zeros)
}

/// Plans at run time.
///
/// # Errors
/// As [`plan`].
pub fn planned(layers: &[Layer], input: Shape, options: Options) -> Result<(Vec<Slot>, Sizes), PlanError> {
    let mut slots = vec![empty_slots::<1>()[0]; most_slots(layers)];
    let sizes = plan(layers, input, options, &mut slots)?;
    slots.truncate(sizes.slots);
    Ok((slots, sizes))
}

impl Model {
    /// A model with initial weights drawn from `seed` (N9).
    ///
    /// # Errors
    /// As [`plan`].
    pub fn new(layers: Vec<Layer>, input: Shape, seed: u32) -> Result<Self, PlanError> {
        let work = Work::new(&layers, input, Options::inference())?;
        let mut model = Self {
            weights: zeros(work.sizes.weights)?,
            scales: vec![SlotScales::ZERO; work.sizes.slots],
            state: State { seed, step: 0 },
            recipe: None,
            layers,
            input,
            work,
        };
        model.initialise(seed);
        Ok(model)
    }

    /// Draws initial weights anew (N9); step 0.
    pub fn initialise(&mut self, seed: u32) {
        let Work { slots, sizes, bytes, words, .. } = &mut self.work;
        // a plan without frozen weights, so that every weight is drawn
        let sizes = Sizes { frozen: 0, resident: sizes.weights, ..*sizes };
        let slots: Vec<Slot> = slots.iter().map(|&slot| Slot { resident: true, ..slot }).collect();
        let memory = Memory {
            frozen: &[],
            weights: &mut self.weights,
            bytes,
            words,
            scales: &mut self.scales,
            state: &mut self.state,
        };
        Net::new(&slots, &sizes, memory).initialise(seed);
    }

    /// Layers in order.
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Input shape.
    pub fn input(&self) -> Shape {
        self.input
    }

    /// Seed and step.
    pub fn state(&self) -> State {
        self.state
    }

    /// Slots of the plan in force.
    pub fn slots(&self) -> &[Slot] {
        &self.work.slots
    }

    /// Mantissas of all weights and biases, in slot order.
    pub fn weights(&self) -> &[i8] {
        &self.weights
    }

    /// Scales of every slot.
    pub fn scales(&self) -> &[SlotScales] {
        &self.scales
    }

    /// Digest of weights and scales (N24).
    pub fn digest(&self) -> u64 {
        digest::net(&self.work.slots, &self.scales, |slot| &self.weights[slot.w..][..slot.weights() + slot.biases()])
    }

    /// Replaces the mantissas and scale of one weight tensor (`bias` false) or bias (`bias` true) of layer `index`.
    ///
    /// # Errors
    /// No such tensor, another length, or −128 among the mantissas.
    pub fn set_tensor(
        &mut self,
        index: u32,
        bias: bool,
        mantissas: &[i8],
        scale: crate::tensor::Scale,
    ) -> Result<(), FileError> {
        let found = self.work.slots.iter().enumerate().find(|(_, slot)| slot.index == index);
        let Some((i, slot)) = found else { return Err(FileError::Value("layer index")) };
        let (start, len) = if bias { (slot.w + slot.weights(), slot.biases()) } else { (slot.w, slot.weights()) };
        if len != mantissas.len() || len == 0 {
            return Err(FileError::Length { found: mantissas.len(), expected: len });
        }
        if mantissas.contains(&-128) {
            return Err(FileError::Value("mantissa −128"));
        }
        self.weights[start..][..len].copy_from_slice(mantissas);
        *(if bias { &mut self.scales[i].b } else { &mut self.scales[i].w }) = scale;
        Ok(())
    }

    pub(crate) fn weights_mut(&mut self) -> &mut [i8] {
        &mut self.weights
    }

    pub(crate) fn set_progress(&mut self, scales: &[SlotScales], state: State) {
        self.scales.copy_from_slice(scales);
        self.state = state;
    }

    /// The net under a plan for `options`; buffers are made anew only when the options change.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn net(&mut self, options: Options) -> Result<Net<'_>, PlanError> {
        if !self.work.serves(options) {
            self.work = Work::new(&self.layers, self.input, options)?;
        }
        let Work { slots, sizes, bytes, words, .. } = &mut self.work;
        let (frozen, weights) = self.weights.split_at_mut(sizes.frozen);
        let memory = Memory { frozen, weights, bytes, words, scales: &mut self.scales, state: &mut self.state };
        Ok(Net::new(slots, sizes, memory))
    }

    /// `count` readers that predict at the same time, each in memory of its own, with the weights of this model.
    ///
    /// # Errors
    /// As [`plan`].
    pub fn readers(&self, options: Options, count: usize) -> Result<Vec<Reader<'_>>, PlanError> {
        let options = options.with_training(false);
        (0..count)
            .map(|_| {
                let work = Work::new(&self.layers, self.input, options)?;
                Ok(Reader { weights: &self.weights, scales: self.scales.clone(), state: self.state, work })
            })
            .collect()
    }

    /// The model as a `.tin` file.
    ///
    /// # Errors
    /// As [`Contents::write`].
    pub fn to_bytes(&self) -> Result<Vec<u8>, FileError> {
        let Work { slots, sizes, .. } = &self.work;
        let mut out = vec![0; file::file_len(self.layers.len(), slots, sizes)];
        let contents = Contents {
            layers: &self.layers,
            input: self.input,
            state: self.state,
            recipe: self.recipe,
            slots,
            sizes,
            scales: &self.scales,
            frozen: &[],
            mantissas: &self.weights,
        };
        contents.write(&mut out)?;
        Ok(out)
    }

    /// The model in a `.tin` file.
    ///
    /// # Errors
    /// As [`Weights::read`], and layers that cannot be planned.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, FileError> {
        let header = Header::read(bytes)?;
        let layers = (0..header.layers).map(|i| file::layer(bytes, i)).collect::<Result<Vec<_>, _>>()?;
        let options = Options::inference();
        let (slots, sizes) = planned(&layers, header.input, options).map_err(FileError::Plan)?;
        // buffers are made last: a file that is not sound gets no memory
        let weights = Weights::read(bytes, &slots, &sizes)?;
        let mut scales = vec![SlotScales::ZERO; sizes.slots];
        weights.scales(&slots, &mut scales);
        Ok(Self {
            weights: weights.mantissas.to_vec(),
            scales,
            state: header.state,
            recipe: header.recipe,
            input: header.input,
            layers,
            work: Work::buffers(slots, sizes, options).map_err(FileError::Plan)?,
        })
    }
}
