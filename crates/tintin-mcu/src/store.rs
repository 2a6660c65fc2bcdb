//! Keeps a trained model in flash, so that it outlives a loss of power at any moment: also in the middle of being saved.
//!
//! Two slots of equal size take turns. A record is a `.tin` file (`docs/format.md`) behind a head:
//!
//! | at | bytes | what |
//! |---|---|---|
//! | 0 | 4 | magic `TSTO` |
//! | 4 | u32 | version of this layout: 1 |
//! | 8 | u32 | sequence number, one more than the record before; wraps around |
//! | 12 | u32 | length of the file in bytes |
//! | 16 | u32 | CRC-32 of the file |
//! | 20 | u32 | CRC-32 of the head so far |
//! | [`BLOCK`] | 4 | commit word `DONE` |
//! | 2 · [`BLOCK`] | | the file |
//!
//! Numbers are little-endian. The file is written first, then the head, and the commit word last, each into erased flash and each
//! in writes of their own; a record counts only when all of it agrees. The slot that holds the newest is never touched.

use core::fmt;
use core::ops::Range;
use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};
use tintin_core::error::FileError;
use tintin_core::file::{Contents, crc32, crc32_of};

/// Bytes that are read and written at once; a multiple of the flash's units, which go up to 32 on the boards here.
pub const BLOCK: usize = 64;

const MAGIC: [u8; 4] = *b"TSTO";
const COMMIT: [u8; 4] = *b"DONE";
const VERSION: u32 = 1;
const FILE_AT: u32 = 2 * BLOCK as u32;
const ERASED: u8 = 0xFF;

/// A sound record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Which record this is; the next has one more.
    pub sequence: u32,
    /// Where its file begins in the flash.
    pub address: u32,
    /// Length of the file in bytes.
    pub len: usize,
}

/// Why a store cannot be, or a model not be saved or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreError {
    /// The flash reports an error.
    Flash(NorFlashErrorKind),
    /// The range is not two slots of whole erase units inside the flash, or the flash writes in units that do not fit [`BLOCK`].
    Range {
        /// Erase unit in bytes; each slot is a multiple of it, and the range two slots.
        erase: usize,
    },
    /// The model is larger than a slot.
    TooLarge {
        /// Bytes of a file that a slot takes.
        room: usize,
    },
    /// What was written does not read back: worn flash.
    Worn,
    /// The buffer is shorter than the file.
    Buffer {
        /// Bytes needed.
        needed: usize,
    },
    /// The model has no file.
    File(FileError),
}

impl From<FileError> for StoreError {
    fn from(error: FileError) -> Self {
        Self::File(error)
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flash(kind) => write!(f, "flash: {kind:?}"),
            Self::Range { erase } => write!(
                f,
                "a store needs two slots inside the flash, each of whole erase units of {erase} bytes, and writes in units that divide {BLOCK}"
            ),
            Self::TooLarge { room } => write!(f, "the model is larger than a slot: {room} bytes fit"),
            Self::Worn => f.write_str("what was written does not read back: the flash is worn out"),
            Self::Buffer { needed } => write!(f, "a buffer of {needed} bytes is needed"),
            Self::File(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for StoreError {}

/// Two slots in a flash.
pub struct Store<F> {
    flash: F,
    start: u32,
    slot: u32,
}

impl<F: NorFlash> Store<F> {
    /// A store in the bytes `range` of the flash.
    ///
    /// # Errors
    /// [`StoreError::Range`].
    pub fn new(flash: F, range: Range<u32>) -> Result<Self, StoreError> {
        let slot = range.end.saturating_sub(range.start) / 2;
        let whole = |address: u32| (address as usize).is_multiple_of(F::ERASE_SIZE);
        let units = BLOCK.is_multiple_of(F::WRITE_SIZE) && BLOCK.is_multiple_of(F::READ_SIZE);
        let sound = whole(range.start) && whole(slot) && range.start + 2 * slot == range.end && slot > FILE_AT;
        if !units || !sound || range.end as usize > flash.capacity() {
            return Err(StoreError::Range { erase: F::ERASE_SIZE });
        }
        Ok(Self { flash, start: range.start, slot })
    }

    /// The newest sound record. Where flash is mapped into memory, [`tintin_core::net::Net::load`] takes its file from there.
    ///
    /// # Errors
    /// Of the flash.
    pub fn newest(&mut self) -> Result<Option<Record>, StoreError> {
        let [a, b] = [self.record(0)?, self.record(1)?];
        Ok(match (a, b) {
            (Some(a), Some(b)) => Some(if a.sequence.wrapping_sub(b.sequence).cast_signed() > 0 { a } else { b }),
            (a, b) => a.or(b),
        })
    }

    /// The file of a record, in the front of `buffer`.
    ///
    /// # Errors
    /// Of the flash, and a buffer that is too short.
    pub fn read<'b>(&mut self, record: Record, buffer: &'b mut [u8]) -> Result<&'b [u8], StoreError> {
        let Some(file) = buffer.get_mut(..record.len) else { return Err(StoreError::Buffer { needed: record.len }) };
        let mut at = record.address;
        for piece in file.chunks_mut(BLOCK) {
            piece.copy_from_slice(&self.block(at)?[..piece.len()]);
            at += BLOCK as u32;
        }
        Ok(file)
    }

    /// Saves a model beside the newest record, which from then on is the new one.
    ///
    /// # Errors
    /// A model that is too large or has no file, and of the flash; the record before is still there then.
    pub fn save(&mut self, model: &Contents<'_>) -> Result<Record, StoreError> {
        self.put(|sink| model.write_to(sink))
    }

    /// Gives the flash back.
    pub fn release(self) -> F {
        self.flash
    }

    fn put(
        &mut self,
        write: impl FnOnce(&mut dyn FnMut(&[u8]) -> Result<(), StoreError>) -> Result<(), StoreError>,
    ) -> Result<Record, StoreError> {
        let newest = self.newest()?;
        let slot = match newest {
            Some(record) if record.address == self.start + FILE_AT => self.start + self.slot,
            _ => self.start,
        };
        let sequence = newest.map_or(0, |record| record.sequence.wrapping_add(1));
        self.flash.erase(slot, slot + self.slot).map_err(flash)?;

        let (mut at, mut len, mut crc) = (slot + FILE_AT, 0, u32::MAX);
        let mut block = [ERASED; BLOCK];
        write(&mut |piece| {
            crc = crc32_of(crc, piece);
            for &byte in piece {
                block[len % BLOCK] = byte;
                len += 1;
                if len % BLOCK == 0 {
                    self.program(slot, at, &block)?;
                    at += BLOCK as u32;
                    block = [ERASED; BLOCK];
                }
            }
            Ok(())
        })?;
        if len % BLOCK > 0 {
            self.program(slot, at, &block)?;
        }
        let words = [u32::from_le_bytes(MAGIC), VERSION, sequence, len as u32, !crc];
        self.program(slot, slot, &sealed(words))?;
        let mut commit = [ERASED; BLOCK];
        commit[..4].copy_from_slice(&COMMIT);
        self.program(slot, slot + BLOCK as u32, &commit)?;

        let record = Record { sequence, address: slot + FILE_AT, len };
        if self.newest()? == Some(record) { Ok(record) } else { Err(StoreError::Worn) }
    }

    /// Writes a block into a slot, as far as it goes.
    fn program(&mut self, slot: u32, at: u32, block: &[u8; BLOCK]) -> Result<(), StoreError> {
        if at + BLOCK as u32 > slot + self.slot {
            return Err(StoreError::TooLarge { room: (self.slot - FILE_AT) as usize / BLOCK * BLOCK });
        }
        self.flash.write(at, block).map_err(flash)
    }

    fn block(&mut self, at: u32) -> Result<[u8; BLOCK], StoreError> {
        let mut block = [0; BLOCK];
        self.flash.read(at, &mut block).map_err(flash)?;
        Ok(block)
    }

    /// The record of slot 0 or 1, if all of it agrees.
    fn record(&mut self, n: u32) -> Result<Option<Record>, StoreError> {
        let slot = self.start + n * self.slot;
        let (head, commit) = (self.block(slot)?, self.block(slot + BLOCK as u32)?);
        let word = |i: usize| u32::from_le_bytes([head[4 * i], head[4 * i + 1], head[4 * i + 2], head[4 * i + 3]]);
        let words = core::array::from_fn(word);
        let [magic, version, sequence, len, crc] = words;
        let room = self.slot - FILE_AT;
        if head != sealed(words) || commit[..4] != COMMIT || magic != u32::from_le_bytes(MAGIC) {
            return Ok(None);
        }
        if version != VERSION || len > room {
            return Ok(None);
        }
        let (mut at, mut left, mut found) = (slot + FILE_AT, len as usize, u32::MAX);
        while left > 0 {
            let piece = left.min(BLOCK);
            found = crc32_of(found, &self.block(at)?[..piece]);
            at += BLOCK as u32;
            left -= piece;
        }
        Ok((!found == crc).then_some(Record { sequence, address: slot + FILE_AT, len: len as usize }))
    }
}

fn flash(error: impl NorFlashError) -> StoreError {
    StoreError::Flash(error.kind())
}

/// A head with its check sum.
fn sealed(words: [u32; 5]) -> [u8; BLOCK] {
    let mut head = [ERASED; BLOCK];
    for (bytes, word) in head.chunks_exact_mut(4).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    let crc = crc32(&head[..20]);
    head[20..24].copy_from_slice(&crc.to_le_bytes());
    head
}

#[cfg(test)]
mod tests;
