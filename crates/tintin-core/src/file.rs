//! The `.tin` file: a model in bytes (`docs/format.md`). The header decodes in constants, so firmware may `include_bytes!` one.

use crate::error::FileError;
use crate::kernels::as_mantissas;
use crate::layers::{Layer, RECORD};
use crate::loss::Loss;
use crate::net::State;
use crate::optim::{MILESTONES, Recipe, Rule, Schedule};
use crate::plan::{Sizes, Slot, SlotScales};
use crate::rescale::Rounding;
use crate::shape::Shape;
use crate::tensor::Scale;
use crate::{FORMAT, NUMERICS};

const MAGIC: [u8; 8] = [0x89, b'T', b'I', b'N', 0x0D, 0x0A, 0x1A, 0x0A];
/// Bytes before the layer records.
pub const HEAD: usize = 64;
/// Bytes of a packed recipe, which are the last of the head.
pub const RECIPE: usize = 24;
const CRC: usize = 4;

/// CRC-32 (ISO-HDLC: polynomial 0xEDB88320 reflected, start and final xor all ones).
pub const fn crc32(bytes: &[u8]) -> u32 {
    !crc32_of(u32::MAX, bytes)
}

/// The same without the xor at start and end: goes on over several pieces, from `u32::MAX` on.
pub const fn crc32_of(mut crc: u32, bytes: &[u8]) -> u32 {
    let table = const { nibble_table() };
    let mut i = 0;
    while i < bytes.len() {
        crc ^= bytes[i] as u32;
        crc = table[(crc & 15) as usize] ^ (crc >> 4);
        crc = table[(crc & 15) as usize] ^ (crc >> 4);
        i += 1;
    }
    crc
}

/// Check sum of an input shape and the layers behind it, as they stand in a file.
pub const fn list_sum(layers: &[Layer], input: Shape) -> u32 {
    let mut sum = crc32_of(u32::MAX, &input.h.to_le_bytes());
    sum = crc32_of(sum, &input.w.to_le_bytes());
    sum = crc32_of(sum, &input.c.to_le_bytes());
    let mut i = 0;
    while i < layers.len() {
        sum = crc32_of(sum, &layers[i].pack());
        i += 1;
    }
    sum
}

/// The first format that has a layer of this code.
const fn format_of(code: u8) -> u16 {
    if code < 8 { 1 } else { 2 }
}

const fn nibble_table() -> [u32; 16] {
    let (mut table, mut n) = ([0u32; 16], 0u32);
    while n < 16 {
        let (mut v, mut bit) = (n, 0);
        while bit < 4 {
            v = if v & 1 == 1 { (v >> 1) ^ 0xEDB8_8320 } else { v >> 1 };
            bit += 1;
        }
        table[n as usize] = v;
        n += 1;
    }
    table
}

const fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

const fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

const fn part(bytes: &[u8], end: usize) -> &[u8] {
    bytes.split_at(end).0
}

/// What a file says before its weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Number of layer records.
    pub layers: usize,
    /// Input shape.
    pub input: Shape,
    /// Seed and steps so far.
    pub state: State,
    /// How it was last trained, if it was.
    pub recipe: Option<Recipe>,
}

impl Header {
    /// Reads and checks everything before the weights.
    ///
    /// # Errors
    /// Not such a file, another version, cut short, altered, out of range.
    pub const fn read(bytes: &[u8]) -> Result<Self, FileError> {
        if bytes.len() < MAGIC.len() {
            return Err(FileError::NotTin);
        }
        let mut i = 0;
        while i < MAGIC.len() {
            if bytes[i] != MAGIC[i] {
                return Err(FileError::NotTin);
            }
            i += 1;
        }
        if bytes.len() < HEAD + CRC {
            return Err(FileError::Length { found: bytes.len(), expected: HEAD + CRC });
        }
        let format = u16_at(bytes, 8);
        if format == 0 || format > FORMAT {
            return Err(FileError::Format { found: format });
        }
        let numerics = u16_at(bytes, 10);
        if numerics != NUMERICS {
            return Err(FileError::Numerics { found: numerics });
        }
        let expected = u32_at(bytes, 12) as usize;
        if bytes.len() != expected {
            return Err(FileError::Length { found: bytes.len(), expected });
        }
        let layers = u16_at(bytes, 16) as usize;
        let end = HEAD + layers * RECORD;
        if bytes.len() < end + 2 * CRC {
            return Err(FileError::Length { found: bytes.len(), expected: end + 2 * CRC });
        }
        if crc32(part(bytes, end)) != u32_at(bytes, end) {
            return Err(FileError::Checksum("header"));
        }
        let (mut least, mut at) = (1, HEAD);
        while at < end {
            if format_of(bytes[at]) > least {
                least = format_of(bytes[at]);
            }
            at += RECORD;
        }
        if least > format {
            return Err(FileError::Value("layer record"));
        }
        if least < format {
            return Err(FileError::Value("format: an older one holds these layers"));
        }
        let input = Shape::new(u32_at(bytes, 20), u32_at(bytes, 24), u32_at(bytes, 28));
        if input.checked_len().is_none() {
            return Err(FileError::Value("input shape"));
        }
        let recipe = match u16_at(bytes, 18) {
            0 if all_zero(bytes, HEAD - RECIPE, HEAD) => None,
            1 => match unpack_recipe(bytes.split_at(HEAD - RECIPE).1) {
                Some(recipe) => Some(recipe),
                None => return Err(FileError::Value("recipe")),
            },
            _ => return Err(FileError::Value("flags")),
        };
        let state = State { seed: u32_at(bytes, 32), step: u32_at(bytes, 36) };
        Ok(Self { layers, input, state, recipe })
    }

    /// [`list_sum`] of the file this header was read from.
    pub fn list_sum(&self, bytes: &[u8]) -> u32 {
        crc32_of(crc32_of(u32::MAX, &bytes[20..32]), &bytes[HEAD..][..self.layers * RECORD])
    }
}

/// Layer `i` of a file whose header was read.
///
/// # Errors
/// A record of no known layer.
pub const fn layer(bytes: &[u8], i: usize) -> Result<Layer, FileError> {
    let (mut record, mut k) = ([0; RECORD], 0);
    while k < RECORD {
        record[k] = bytes[HEAD + i * RECORD + k];
        k += 1;
    }
    match Layer::unpack(record) {
        Some(layer) => Ok(layer),
        None => Err(FileError::Value("layer record")),
    }
}

impl FileError {
    /// The error in a fixed text, for constants.
    pub const fn short(&self) -> &'static str {
        match self {
            Self::NotTin => "not a .tin file",
            Self::Format { .. } => ".tin file of another format version",
            Self::Numerics { .. } => ".tin file of another numerics version",
            Self::Length { .. } => ".tin file cut short or extended",
            Self::Checksum(_) => ".tin file altered: check sum does not agree",
            Self::Value(_) => ".tin file with a value out of range",
            Self::Plan(_) => ".tin file whose layers cannot be planned",
        }
    }
}

const fn all_zero(bytes: &[u8], mut at: usize, end: usize) -> bool {
    while at < end && bytes[at] == 0 {
        at += 1;
    }
    at == end
}

/// The recipe in the first [`RECIPE`] bytes, laid out as in a file; `None` for too few of them or a value out of range.
pub const fn unpack_recipe(bytes: &[u8]) -> Option<Recipe> {
    if bytes.len() < RECIPE || !all_zero(bytes, 6, 8) {
        return None;
    }
    let rule = match bytes[0] {
        0 if bytes[1] <= 6 => Rule::TinTin { margin: bytes[1] },
        1 if bytes[1] == 0 => Rule::Niti,
        _ => return None,
    };
    let rounding = match bytes[2] {
        0 => Rounding::Nearest,
        1 => Rounding::Pseudo,
        2 => Rounding::Stochastic,
        _ => return None,
    };
    let loss = match bytes[3] {
        0 => Loss::CrossEntropy,
        1 => Loss::NitiCrossEntropy,
        2 => Loss::SquaredError,
        _ => return None,
    };
    let (mut milestones, mut i) = ([0; MILESTONES], 0);
    while i < MILESTONES {
        milestones[i] = u32_at(bytes, 8 + 4 * i);
        i += 1;
    }
    let (start, change) = (bytes[4].cast_signed(), bytes[5].cast_signed());
    Some(Recipe { rule, rounding, loss, schedule: Schedule { start, change, milestones } })
}

/// A recipe as it stands in a file.
pub fn pack_recipe(recipe: &Recipe) -> [u8; RECIPE] {
    let mut b = [0; RECIPE];
    (b[0], b[1]) = match recipe.rule {
        Rule::TinTin { margin } => (0, margin),
        Rule::Niti => (1, 0),
    };
    b[2] = match recipe.rounding {
        Rounding::Nearest => 0,
        Rounding::Pseudo => 1,
        Rounding::Stochastic => 2,
    };
    b[3] = match recipe.loss {
        Loss::CrossEntropy => 0,
        Loss::NitiCrossEntropy => 1,
        Loss::SquaredError => 2,
    };
    b[4] = recipe.schedule.start.cast_unsigned();
    b[5] = recipe.schedule.change.cast_unsigned();
    for (b, m) in b[8..].chunks_exact_mut(4).zip(recipe.schedule.milestones) {
        b.copy_from_slice(&m.to_le_bytes());
    }
    b
}

/// Tensors with scales in a slot: weights, bias.
fn tensors(slot: &Slot) -> usize {
    usize::from(slot.rows > 0) + usize::from(slot.bias)
}

/// Bytes of a file of these slots and this many layers.
pub fn file_len(layers: usize, slots: &[Slot], sizes: &Sizes) -> usize {
    let scales: usize = slots[..sizes.slots].iter().map(tensors).sum();
    HEAD + layers * RECORD + CRC + 4 * scales + sizes.weights + CRC
}

/// The weights of the frozen prefix of a file of the planned layers, where they lie; unchecked, which [`Weights::read`] does.
pub fn frozen<'f>(bytes: &'f [u8], sizes: &Sizes) -> &'f [i8] {
    let start = bytes.len() - CRC - sizes.weights;
    as_mantissas(&bytes[start..][..sizes.frozen])
}

/// The weights in a file, after all its check sums agreed.
#[derive(Clone, Copy, Debug)]
pub struct Weights<'f> {
    scales: &'f [u8],
    /// Mantissas of all weights and biases, in slot order.
    pub mantissas: &'f [i8],
}

impl<'f> Weights<'f> {
    /// Checks all of a file against the plan of its layers.
    ///
    /// # Errors
    /// As [`Header::read`], and a payload that is altered, of another length or out of range.
    pub fn read(bytes: &'f [u8], slots: &[Slot], sizes: &Sizes) -> Result<Self, FileError> {
        let header = Header::read(bytes)?;
        let expected = file_len(header.layers, slots, sizes);
        if bytes.len() != expected {
            return Err(FileError::Length { found: bytes.len(), expected });
        }
        let end = bytes.len() - CRC;
        if crc32(&bytes[..end]) != u32_at(bytes, end) {
            return Err(FileError::Checksum("weights"));
        }
        let payload = &bytes[HEAD + header.layers * RECORD + CRC..end];
        let (scales, mantissas) = payload.split_at(payload.len() - sizes.weights);
        let mantissas = as_mantissas(mantissas);
        if mantissas.contains(&-128) || scales.chunks_exact(4).any(|s| s[3] != 0) {
            return Err(FileError::Value("weight"));
        }
        Ok(Self { scales, mantissas })
    }

    /// Sets the scales of a net's slots.
    pub fn scales(&self, slots: &[Slot], scales: &mut [SlotScales]) {
        let mut stored = self.scales.chunks_exact(4).map(|s| Scale {
            s: i16::from(s[0].cast_signed()),
            u: i16::from(s[1].cast_signed()),
            d: i16::from(s[2].cast_signed()),
        });
        for (slot, scales) in slots.iter().zip(scales) {
            if slot.rows > 0 {
                scales.w = stored.next().unwrap_or_default();
            }
            if slot.bias {
                scales.b = stored.next().unwrap_or_default();
            }
        }
    }
}

/// What a file is written from.
pub struct Contents<'a> {
    /// Layer list.
    pub layers: &'a [Layer],
    /// Input shape.
    pub input: Shape,
    /// Seed and step.
    pub state: State,
    /// How it was last trained.
    pub recipe: Option<Recipe>,
    /// Slots of any plan of these layers.
    pub slots: &'a [Slot],
    /// Sizes of that plan.
    pub sizes: &'a Sizes,
    /// Scales of the slots.
    pub scales: &'a [SlotScales],
    /// Weights and biases of the frozen prefix.
    pub frozen: &'a [i8],
    /// All others.
    pub mantissas: &'a [i8],
}

impl Contents<'_> {
    /// Writes the file into `out`, of [`file_len`] bytes.
    ///
    /// # Errors
    /// A scale outside the eight bits a file keeps, more than 65 535 layers or 4 GiB.
    pub fn write(&self, out: &mut [u8]) -> Result<(), FileError> {
        let mut at = 0;
        self.write_to(|piece| {
            out[at..at + piece.len()].copy_from_slice(piece);
            at += piece.len();
            Ok(())
        })
    }

    /// Hands the file to `sink` in pieces of at most [`PIECE`] bytes, from start to end: for memory that does not hold all of it.
    ///
    /// # Errors
    /// As [`Contents::write`], before the first piece; then those of `sink`.
    pub fn write_to<E: From<FileError>>(&self, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
        let slots = &self.slots[..self.sizes.slots];
        let length = file_len(self.layers.len(), slots, self.sizes);
        let length = u32::try_from(length).map_err(|_| FileError::Value("file length"))?;
        let layers = u16::try_from(self.layers.len()).map_err(|_| FileError::Value("layer count"))?;
        let scales = || {
            let pairs = slots.iter().zip(self.scales);
            pairs.flat_map(|(slot, scales)| [scales.w, scales.b].into_iter().take(tensors(slot)))
        };
        for scale in scales() {
            packed(scale)?;
        }
        let mut out = Pieces { sink, crc: u32::MAX };
        out.put(&MAGIC)?;
        let format = self.layers.iter().fold(1, |least, layer| format_of(layer.pack()[0]).max(least));
        out.put(&format.to_le_bytes())?;
        out.put(&NUMERICS.to_le_bytes())?;
        out.put(&length.to_le_bytes())?;
        out.put(&layers.to_le_bytes())?;
        out.put(&u16::from(self.recipe.is_some()).to_le_bytes())?;
        for v in [self.input.h, self.input.w, self.input.c, self.state.seed, self.state.step] {
            out.put(&v.to_le_bytes())?;
        }
        out.put(&self.recipe.as_ref().map_or([0; HEAD - 40], pack_recipe))?;
        for layer in self.layers {
            out.put(&layer.pack())?;
        }
        out.put(&(!out.crc).to_le_bytes())?;
        for scale in scales() {
            out.put(&packed(scale)?)?;
        }
        for q in self.frozen.chunks(PIECE).chain(self.mantissas.chunks(PIECE)) {
            let mut bytes = [0; PIECE];
            for (b, q) in bytes.iter_mut().zip(q) {
                *b = q.cast_unsigned();
            }
            out.put(&bytes[..q.len()])?;
        }
        out.put(&(!out.crc).to_le_bytes())
    }
}

/// Most bytes that [`Contents::write_to`] hands over at once.
pub const PIECE: usize = 64;

/// A sink that keeps the check sum of what went through.
struct Pieces<S> {
    sink: S,
    crc: u32,
}

impl<S> Pieces<S> {
    fn put<E>(&mut self, bytes: &[u8]) -> Result<(), E>
    where
        S: FnMut(&[u8]) -> Result<(), E>,
    {
        self.crc = crc32_of(self.crc, bytes);
        (self.sink)(bytes)
    }
}

/// A scale as a file keeps it.
fn packed(scale: Scale) -> Result<[u8; 4], FileError> {
    let byte = |e| i8::try_from(e).map(i8::cast_unsigned).map_err(|_| FileError::Value("scale"));
    Ok([byte(scale.s)?, byte(scale.u)?, byte(scale.d)?, 0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_of_the_standard_check_text() {
        assert_eq!(crc32(b"123456789"), 0xCBF4_3926);
    }
    #[test]
    fn recipes_are_unpacked_as_packed_and_nothing_else_is() {
        for base in [Recipe::tintin(3), Recipe::niti(-5)] {
            for rounding in [Rounding::Nearest, Rounding::Pseudo, Rounding::Stochastic] {
                for loss in [Loss::CrossEntropy, Loss::NitiCrossEntropy, Loss::SquaredError] {
                    let schedule = Schedule { start: -7, change: 2, milestones: [0, 1, 1 << 31, u32::MAX] };
                    let recipe = Recipe { rounding, loss, schedule, ..base };
                    let packed = pack_recipe(&recipe);
                    assert_eq!(unpack_recipe(&packed), Some(recipe));
                    assert_eq!(unpack_recipe(&packed[..RECIPE - 1]), None);
                    for at in [0, 1, 2, 3, 6, 7] {
                        let mut bad = packed;
                        bad[at] = 7;
                        assert_eq!(unpack_recipe(&bad), None, "byte {at}");
                    }
                }
            }
        }
    }
}
