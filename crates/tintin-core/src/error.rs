//! What can be refused: a plan (before anything runs) and a file.

use crate::layers::Layer;
use crate::shape::Shape;

/// Why a list of layers cannot be planned. The same text is the compile error, the Rust error and the Python `ValueError`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanError {
    /// Index of the offending layer in the list.
    pub index: usize,
    /// Its name; empty when the list itself is at fault.
    pub layer: &'static str,
    /// What is wrong.
    pub why: &'static str,
    /// Input shape the layer was given.
    pub input: Option<Shape>,
    /// Bytes needed and bytes allowed, when memory is what is missing.
    pub bytes: Option<(usize, usize)>,
}

impl PlanError {
    /// Layer `index` cannot be, because of `why`.
    pub(crate) const fn new(index: usize, layer: Layer, why: &'static str) -> Self {
        Self { index, layer: layer.name(), why, input: None, bytes: None }
    }

    /// The list as a whole cannot be.
    pub(crate) const fn list(why: &'static str) -> Self {
        Self { index: 0, layer: "", why, input: None, bytes: None }
    }

    /// The error in words, also in a constant.
    pub const fn message(&self) -> Message {
        let mut m = Message { text: [0; 240], len: 0 };
        if !self.layer.is_empty() {
            m = m.push("layer ").number(self.index).push(" (").push(self.layer).push("): ");
        }
        m = m.push(self.why);
        if let Some(input) = self.input {
            m = m.push(", input ").number(input.h as usize).push(" x ").number(input.w as usize);
            m = m.push(" x ").number(input.c as usize);
        }
        if let Some((needed, allowed)) = self.bytes {
            m = m.push(": ").number(needed).push(" bytes needed, ").number(allowed).push(" allowed");
        }
        m
    }
}

impl core::fmt::Display for PlanError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.message().as_str())
    }
}

impl core::error::Error for PlanError {}

/// A short text put together in a constant.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    text: [u8; 240],
    len: usize,
}

impl Message {
    /// The text.
    pub const fn as_str(&self) -> &str {
        match core::str::from_utf8(self.text.split_at(self.len).0) {
            Ok(text) => text,
            Err(_) => "",
        }
    }

    const fn push(mut self, part: &str) -> Self {
        let part = part.as_bytes();
        let mut i = 0;
        while i < part.len() && self.len < self.text.len() {
            self.text[self.len] = part[i];
            self.len += 1;
            i += 1;
        }
        self
    }

    #[allow(clippy::cast_possible_truncation)] // a decimal digit
    const fn number(self, n: usize) -> Self {
        let mut digits = [0u8; 20];
        let (mut rest, mut at) = (n, digits.len());
        loop {
            at -= 1;
            digits[at] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        match core::str::from_utf8(digits.split_at(at).1) {
            Ok(text) => self.push(text),
            Err(_) => self,
        }
    }
}

/// Why bytes are not a model this version reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileError {
    /// Does not begin like a `.tin` file.
    NotTin,
    /// Written by another format version.
    Format {
        /// Version in the file.
        found: u16,
    },
    /// Written under another version of the arithmetic.
    Numerics {
        /// Version in the file.
        found: u16,
    },
    /// Shorter or longer than its header says.
    Length {
        /// Bytes given.
        found: usize,
        /// Bytes expected.
        expected: usize,
    },
    /// Altered: the check sum of the named part does not agree.
    Checksum(&'static str),
    /// Sound by its check sum, but a value is out of range.
    Value(&'static str),
    /// The layers cannot be planned.
    Plan(PlanError),
}

impl core::fmt::Display for FileError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::NotTin => f.write_str("not a .tin file: it does not begin with the bytes of one"),
            Self::Format { found } => write!(
                f,
                "file format {found}, this version reads format 1 to {}: use the tintin version that wrote it, or a newer one",
                crate::FORMAT
            ),
            Self::Numerics { found } => write!(
                f,
                "written under numerics version {found}, this version computes by numerics {}: training would not go on with the same bits",
                crate::NUMERICS
            ),
            Self::Length { found, expected } => {
                write!(f, "{found} bytes where {expected} are expected: the file was cut short or extended")
            }
            Self::Checksum(part) => write!(f, "the check sum of the {part} does not agree: the file was altered"),
            Self::Value(what) => write!(f, "invalid {what}"),
            Self::Plan(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for FileError {}
