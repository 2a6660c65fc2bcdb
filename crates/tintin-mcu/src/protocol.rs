//! How a runner and its client talk: messages in frames. Byte by byte in `docs/protocol.md`.
//!
//! A frame is the message and its CRC-32, made free of zeros (COBS), and one zero behind it. Whatever happens on the way, the
//! next zero is the end of a frame: nothing needs a time limit to get back in step.

use cobs::{DecodeResult, DecoderState};
use core::fmt::{Display, Formatter};
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};
use embedded_io::{Read, Write};
use tintin_core::error::FileError;

/// Version of the protocol: what `docs/protocol.md` says.
pub const PROTOCOL: u16 = 1;
/// Bytes of the check sum behind a message.
pub const CHECK: usize = 4;
/// Bytes before the body of every message: what it is, and the tag that pairs answers with requests.
pub const HEAD: usize = 2;

/// As in a `.tin` file; 256 words of table, since every byte of a sample passes here.
static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// What a client may ask for: the first byte of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Request {
    /// Who is there, and how much memory it has.
    Hello = 1,
    /// Takes a piece of a `.tin` file.
    Stage = 2,
    /// Plans the staged file and puts it in place of the model that was there.
    Load = 3,
    /// Sets how to learn.
    Recipe = 4,
    /// One training step.
    Step = 5,
    /// Outputs of one sample.
    Predict = 6,
    /// Digest of all weights and scales.
    Digest = 7,
    /// The model as a `.tin` file.
    Save = 8,
    /// Drops the model, so that all memory is free.
    Forget = 9,
    /// Ends the session.
    Bye = 10,
}

impl Request {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Hello,
        Self::Stage,
        Self::Load,
        Self::Recipe,
        Self::Step,
        Self::Predict,
        Self::Digest,
        Self::Save,
        Self::Forget,
        Self::Bye,
    ];

    /// The request of that code.
    pub fn of(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|request| *request as u8 == code)
    }
}

/// Why a request is refused. Nothing has changed then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The frame was cut short or altered.
    Damaged(&'static str),
    /// The message is longer than the runner's buffer.
    TooLong {
        /// Most bytes of a message.
        most: usize,
    },
    /// No such request.
    Unknown(u8),
    /// The body has another length than the request needs.
    Body(&'static str),
    /// The staged bytes are no file that can be read here.
    File(FileError),
    /// The file has more layers than the runner has slots for.
    Layers {
        /// Layers of the file.
        needed: usize,
        /// Most layers.
        available: usize,
    },
    /// The planned net does not fit the memory; all in bytes.
    Memory {
        /// Weights and biases.
        weights: usize,
        /// Activations, errors, indices, patches.
        bytes: usize,
        /// 32-bit sums, and the labels of a batch.
        sums: usize,
        /// All there is.
        available: usize,
    },
    /// The file does not fit beside the weights that are there; in bytes.
    Room {
        /// Bytes the file needs.
        needed: usize,
        /// Bytes there are.
        available: usize,
    },
    /// Asked for out of turn.
    Order(&'static str),
    /// A value out of range.
    Value(&'static str),
}

impl Failure {
    /// The code on the link; 0 stands for success.
    pub const fn code(&self) -> u8 {
        match self {
            Self::Damaged(_) => 1,
            Self::TooLong { .. } => 2,
            Self::Unknown(_) => 3,
            Self::Body(_) => 4,
            Self::File(FileError::Format { .. }) => 6,
            Self::File(FileError::Numerics { .. }) => 7,
            Self::File(FileError::Plan(_)) => 8,
            Self::File(_) => 5,
            Self::Layers { .. } => 9,
            Self::Memory { .. } => 10,
            Self::Room { .. } => 11,
            Self::Order(_) => 12,
            Self::Value(_) => 13,
        }
    }

    /// What a client may want to calculate with: the first `n` of four numbers, and n.
    #[allow(clippy::cast_possible_truncation)] // sizes of a 32-bit machine
    pub fn numbers(&self) -> ([u32; 4], usize) {
        let (numbers, n) = match *self {
            Self::TooLong { most } => ([most, 0, 0, 0], 1),
            Self::File(FileError::Format { found }) => ([found.into(), tintin_core::FORMAT.into(), 0, 0], 2),
            Self::File(FileError::Numerics { found }) => ([found.into(), tintin_core::NUMERICS.into(), 0, 0], 2),
            Self::Layers { needed, available } | Self::Room { needed, available } => ([needed, available, 0, 0], 2),
            Self::Memory { weights, bytes, sums, available } => ([weights, bytes, sums, available], 4),
            _ => ([0; 4], 0),
        };
        (numbers.map(|v| v as u32), n)
    }
}

impl Display for Failure {
    fn fmt(&self, f: &mut Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Damaged(why) => write!(f, "the frame was damaged on its way: {why}"),
            Self::TooLong { most } => write!(f, "the message is longer than the {most} bytes there is room for"),
            Self::Unknown(code) => write!(f, "there is no request {code} in protocol {PROTOCOL}"),
            Self::Body(expected) => write!(f, "the body of the request has a wrong length, expected {expected}"),
            Self::File(error) => write!(f, "{error}"),
            Self::Layers { needed, available } => {
                write!(f, "the model has {needed} layers, this runner has room for {available}")
            }
            Self::Memory { weights, bytes, sums, available } => write!(
                f,
                "the model does not fit: weights {weights}, buffers {bytes}, sums {sums}, available {available} bytes"
            ),
            Self::Room { needed, available } => {
                write!(
                    f,
                    "the file of {needed} bytes does not fit into the {available} bytes beside the loaded weights"
                )
            }
            Self::Order(why) | Self::Value(why) => f.write_str(why),
        }
    }
}

/// What came over the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// A sound message: the first so many bytes of the buffer.
    Message(usize),
    /// A frame that is none.
    Refused(Failure),
    /// The link is at its end.
    End,
}

/// Waits for the next frame and unpacks it into `buffer`.
///
/// # Errors
/// Those of the link.
pub fn receive<R: Read>(link: &mut R, buffer: &mut [u8]) -> Result<Received, R::Error> {
    let (mut decoder, mut len, mut any, mut failure) = (DecoderState::default(), 0, false, None);
    loop {
        let mut byte = [0];
        if link.read(&mut byte)? == 0 {
            return Ok(Received::End);
        }
        if byte[0] == 0 && !any {
            continue; // zeros before a frame are allowed: they end whatever noise came before
        }
        any = true;
        if failure.is_none() {
            match decoder.feed(byte[0]) {
                Ok(DecodeResult::DataContinue(byte)) => match buffer.get_mut(len) {
                    Some(place) => (*place, len) = (byte, len + 1),
                    None => failure = Some(Failure::TooLong { most: buffer.len().saturating_sub(CHECK) }),
                },
                Ok(_) => {}
                Err(_) => failure = Some(Failure::Damaged("it ends before it should")),
            }
        }
        if byte[0] == 0 {
            return Ok(match failure {
                Some(failure) => Received::Refused(failure),
                None => checked(&buffer[..len]),
            });
        }
    }
}

fn checked(frame: &[u8]) -> Received {
    let Some((message, sum)) = frame.split_last_chunk::<CHECK>() else {
        return Received::Refused(Failure::Damaged("it has no check sum"));
    };
    if CRC.checksum(message) != u32::from_le_bytes(*sum) {
        return Received::Refused(Failure::Damaged("its check sum does not agree"));
    }
    if message.len() < HEAD {
        return Received::Refused(Failure::Damaged("it has no head"));
    }
    Received::Message(message.len())
}

/// A frame on its way out, written as it comes: no buffer holds all of it, so a whole model can be one message.
///
/// The `cobs` crate encodes what lies in memory as a whole; this takes blocks of 254 bytes.
pub struct Frame<'l, W: Write> {
    link: &'l mut W,
    sum: Digest<'static, u32, Table<1>>,
    block: [u8; 255],
    used: usize,
    result: Result<(), W::Error>,
}

impl<'l, W: Write> Frame<'l, W> {
    /// A frame whose message starts with these two bytes.
    pub fn new(link: &'l mut W, head: [u8; HEAD]) -> Self {
        let mut frame = Self { link, sum: CRC.digest(), block: [0; 255], used: 1, result: Ok(()) };
        frame.put(&head);
        frame
    }

    /// Goes on with these bytes.
    pub fn put(&mut self, bytes: &[u8]) {
        self.sum.update(bytes);
        for byte in bytes {
            self.encode(*byte);
        }
    }

    fn encode(&mut self, byte: u8) {
        if byte != 0 {
            if self.used == self.block.len() {
                self.flush_block();
            }
            self.block[self.used] = byte;
            self.used += 1;
        } else {
            let full = self.used == self.block.len();
            self.flush_block();
            if full {
                self.flush_block(); // a full block stands for no zero, so an empty one does
            }
        }
    }

    #[allow(clippy::cast_possible_truncation)] // at most 255
    fn flush_block(&mut self) {
        self.block[0] = self.used as u8;
        self.write(self.used);
        self.used = 1;
    }

    fn write(&mut self, n: usize) {
        if self.result.is_ok() {
            self.result = self.link.write_all(&self.block[..n]);
        }
    }

    /// Ends the frame and sends what is left of it.
    ///
    /// # Errors
    /// The first one of the link.
    pub fn finish(mut self) -> Result<(), W::Error> {
        let sum = self.sum.clone().finalize().to_le_bytes();
        for byte in sum {
            self.encode(byte);
        }
        self.flush_block();
        self.block[0] = 0;
        self.write(1);
        self.result?;
        self.link.flush()
    }
}

impl<W: Write> core::fmt::Write for Frame<'_, W> {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.put(text.as_bytes());
        Ok(())
    }
}

/// Sends the answer to a request that is refused.
///
/// # Errors
/// Those of the link.
pub fn refuse<W: Write>(link: &mut W, tag: u8, failure: &Failure) -> Result<(), W::Error> {
    let mut frame = Frame::new(link, [failure.code(), tag]);
    let (numbers, n) = failure.numbers();
    #[allow(clippy::cast_possible_truncation)] // at most 4
    frame.put(&[n as u8]);
    for number in &numbers[..n] {
        frame.put(&number.to_le_bytes());
    }
    let _ = core::fmt::write(&mut frame, format_args!("{failure}")); // a frame takes any text
    frame.finish()
}

/// The fields of a body, one after the other.
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    /// The next `n` bytes, if there are so many.
    pub fn bytes(&mut self, n: usize) -> Option<&'a [u8]> {
        let (bytes, rest) = self.0.split_at_checked(n)?;
        self.0 = rest;
        Some(bytes)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    /// One byte.
    pub fn u8(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    /// A signed number of two bytes.
    pub fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_le_bytes)
    }

    /// A number of four bytes.
    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }
}
