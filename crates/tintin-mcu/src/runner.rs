//! The generic runner: takes models, recipes and samples over a link, trains, and answers each step with loss and digest.
//!
//! Serves any [`embedded_io`] link: semihosting on an emulator, a UART on a board, pipes on a host. See `docs/protocol.md`.

use crate::protocol::{Failure, Fields, Frame, HEAD, PROTOCOL, Received, Request, receive, refuse};
use crate::resident::{Resident, Running};
use embedded_io::{Read, Write};
use tintin_core::file::{RECIPE, unpack_recipe};
use tintin_core::kernels::{self, as_mantissas};
use tintin_core::loss::{Loss, Target};
use tintin_core::plan::Options;
use tintin_core::{FORMAT, NUMERICS};

/// Found in a firmware file without running it: a name, then the versions of numerics, file format and protocol as u16.
#[used]
pub static LABEL: [u8; 20] = label();

const fn label() -> [u8; 20] {
    let mut label = *b"tintin runner:......";
    let (mut i, versions) = (0, [NUMERICS, FORMAT, PROTOCOL]);
    while i < versions.len() {
        [label[14 + 2 * i], label[15 + 2 * i]] = versions[i].to_le_bytes();
        i += 1;
    }
    label
}

/// What a runner says of itself.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Part number of the core (CPUID bits 15:4, such as 0xC24 of a Cortex-M4); 0 on a host.
    pub part: u16,
    /// What the firmware was compiled for.
    pub target: &'static str,
}

/// A runner and its memory.
pub struct Runner<'m> {
    identity: Identity,
    frame: &'m mut [u8],
    model: Resident<'m>,
}

impl<'m> Runner<'m> {
    /// A runner without a model. `frame` holds one message and its check sum: the samples of a step and a dozen bytes.
    pub fn new(identity: Identity, frame: &'m mut [u8], model: Resident<'m>) -> Self {
        Self { identity, frame, model }
    }

    /// Answers requests until the client says bye or the link is at its end.
    ///
    /// # Errors
    /// Those of the link.
    pub fn serve<L: Read + Write>(&mut self, link: &mut L) -> Result<(), L::Error> {
        loop {
            let len = match receive(link, self.frame)? {
                Received::End => return Ok(()),
                Received::Refused(failure) => {
                    refuse(link, 0, &failure)?;
                    continue;
                }
                Received::Message(len) => len,
            };
            let ([code, tag], body) =
                self.frame[..len].split_first_chunk::<HEAD>().map_or(([0; 2], &[][..]), |m| (*m.0, m.1));
            let Some(request) = Request::of(code) else {
                refuse(link, tag, &Failure::Unknown(code))?;
                continue;
            };
            let mut call = Call { model: &mut self.model, identity: self.identity, most: self.frame.len(), link, tag };
            match call.answer(request, body) {
                Ok(sent) => sent?,
                Err(failure) => refuse(link, tag, &failure)?,
            }
            if request == Request::Bye && body.is_empty() {
                return Ok(());
            }
        }
    }
}

/// One request on its way to an answer: either a failure, found before anything was sent, or what became of sending.
struct Call<'c, 'm, L> {
    model: &'c mut Resident<'m>,
    identity: Identity,
    most: usize,
    link: &'c mut L,
    tag: u8,
}

type Answer<E> = Result<Result<(), E>, Failure>;

impl<L: Read + Write> Call<'_, '_, L> {
    fn answer(&mut self, request: Request, body: &[u8]) -> Answer<L::Error> {
        match request {
            Request::Hello => self.hello(body),
            Request::Stage => self.stage(body),
            Request::Load => self.load(body),
            Request::Recipe => self.recipe(body),
            Request::Step => self.step(body),
            Request::Predict => self.predict(body),
            Request::Digest => self.digest(body),
            Request::Save => self.save(body),
            Request::Forget => {
                nothing(body)?;
                self.model.forget();
                Ok(self.say(&[]))
            }
            Request::Bye => {
                nothing(body)?;
                Ok(self.say(&[]))
            }
        }
    }

    /// Success, and these fields one after the other.
    fn say(&mut self, fields: &[&[u8]]) -> Result<(), L::Error> {
        say(self.link, self.tag, fields)
    }

    fn hello(&mut self, body: &[u8]) -> Answer<L::Error> {
        nothing(body)?;
        let Identity { part, target } = self.identity;
        let (kernels, version) = (kernels::name(), env!("CARGO_PKG_VERSION"));
        let pool = word(self.model.bytes());
        let most = word(self.most.saturating_sub(crate::protocol::CHECK));
        Ok(self.say(&[
            &PROTOCOL.to_le_bytes(),
            &NUMERICS.to_le_bytes(),
            &FORMAT.to_le_bytes(),
            &part.to_le_bytes(),
            &word(self.model.most_layers()),
            &pool,
            &most,
            target.as_bytes(),
            &[0],
            kernels.as_bytes(),
            &[0],
            version.as_bytes(),
        ]))
    }

    fn stage(&mut self, body: &[u8]) -> Answer<L::Error> {
        let mut fields = Fields(body);
        let offset = fields.u32().ok_or(Failure::Body("an offset of 4 bytes and a piece of the file"))?;
        self.model.stage(offset as usize, fields.0)?;
        Ok(self.say(&[]))
    }

    fn load(&mut self, body: &[u8]) -> Answer<L::Error> {
        let mut fields = Fields(body);
        let read = (fields.u32(), fields.u32(), fields.u32(), fields.u8());
        let (Some(len), Some(batch), Some(train_from), Some(training), []) = (read.0, read.1, read.2, read.3, fields.0)
        else {
            return Err(Failure::Body("13 bytes: length, batch, first trained layer, training"));
        };
        let options = match training {
            0 => Options::inference(),
            1 => Options::training(batch).train_from(train_from as usize),
            _ => return Err(Failure::Value("training must be 0 or 1")),
        };
        let sizes = self.model.load(len as usize, options)?;
        let Running { net, .. } = self.model.running()?;
        let (step, digest) = (net.state().step, net.digest());
        Ok(self.say(&[
            &word(sizes.weights),
            &word(sizes.bytes()),
            &word(4 * sizes.all_words()),
            &step.to_le_bytes(),
            &digest.to_le_bytes(),
        ]))
    }

    fn recipe(&mut self, body: &[u8]) -> Answer<L::Error> {
        if body.len() != RECIPE {
            return Err(Failure::Body("24 bytes: a recipe as in a .tin file"));
        }
        let recipe = unpack_recipe(body).ok_or(Failure::Value("the recipe has a value out of range"))?;
        self.model.set_recipe(recipe)?;
        Ok(self.say(&[]))
    }

    fn step(&mut self, body: &[u8]) -> Answer<L::Error> {
        const BODY: Failure =
            Failure::Body("sample count, exponent, kind of target, samples, targets: what the net takes");
        let Running { mut net, labels, options, recipe } = self.model.running()?;
        if !options.training {
            return Err(Failure::Order("the model was loaded for prediction alone"));
        }
        let recipe = recipe.ok_or(Failure::Order("the model has no recipe yet"))?;
        let mut fields = Fields(body);
        let (Some(samples), Some(exponent), Some(kind)) = (fields.u32(), fields.i16(), fields.u8()) else {
            return Err(BODY);
        };
        if samples == 0 || samples > options.batch {
            return Err(Failure::Value("the number of samples must be 1 to the planned batch"));
        }
        check_exponent(exponent)?;
        let samples = samples as usize;
        let x = mantissas(fields.bytes(samples * net.input_len()).ok_or(BODY)?)?;
        let values = recipe.loss == Loss::SquaredError;
        let target = match kind {
            0 if !values => {
                if fields.0.len() != 2 * samples {
                    return Err(BODY);
                }
                let labels = &mut labels[..samples];
                for (label, bytes) in labels.iter_mut().zip(fields.0.chunks_exact(2)) {
                    *label = u16::from_le_bytes([bytes[0], bytes[1]]);
                }
                if labels.iter().any(|label| usize::from(*label) >= net.output_len()) {
                    return Err(Failure::Value("a label is not below the number of outputs"));
                }
                Target::Labels(labels)
            }
            1 if values => {
                let exponent = fields.i16().ok_or(BODY)?;
                if fields.0.len() != samples * net.output_len() {
                    return Err(BODY);
                }
                check_exponent(exponent)?;
                Target::Values(mantissas(fields.0)?, exponent)
            }
            _ => return Err(Failure::Value("targets must be labels (0), or values (1) for the squared error")),
        };
        let score = net.train_step(x, exponent, target, &recipe);
        Ok(say(
            self.link,
            self.tag,
            &[
                &net.state().step.to_le_bytes(),
                &score.loss.to_le_bytes(),
                &score.correct.to_le_bytes(),
                &net.digest().to_le_bytes(),
            ],
        ))
    }

    fn predict(&mut self, body: &[u8]) -> Answer<L::Error> {
        const BODY: Failure = Failure::Body("exponent and the values of one sample");
        let Running { mut net, .. } = self.model.running()?;
        let mut fields = Fields(body);
        let exponent = fields.i16().ok_or(BODY)?;
        check_exponent(exponent)?;
        if fields.0.len() != net.input_len() {
            return Err(BODY);
        }
        let y = net.predict(mantissas(fields.0)?, exponent);
        let scale = y.scale;
        Ok(say(
            self.link,
            self.tag,
            &[
                &scale.s.to_le_bytes(),
                &scale.u.to_le_bytes(),
                &scale.d.to_le_bytes(),
                bytemuck::cast_slice(y.mantissas),
            ],
        ))
    }

    fn digest(&mut self, body: &[u8]) -> Answer<L::Error> {
        nothing(body)?;
        let Running { net, .. } = self.model.running()?;
        let (step, digest) = (net.state().step, net.digest());
        Ok(self.say(&[&step.to_le_bytes(), &digest.to_le_bytes()]))
    }

    fn save(&mut self, body: &[u8]) -> Answer<L::Error> {
        nothing(body)?;
        let file = self.model.save()?;
        Ok(say(self.link, self.tag, &[file]))
    }
}

fn say<W: Write>(link: &mut W, tag: u8, fields: &[&[u8]]) -> Result<(), W::Error> {
    let mut frame = Frame::new(link, [0, tag]);
    for field in fields {
        frame.put(field);
    }
    frame.finish()
}

/// A size of a 32-bit machine; a host's, which may be larger, stops at the top.
fn word(n: usize) -> [u8; 4] {
    u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes()
}

fn nothing(body: &[u8]) -> Result<(), Failure> {
    if body.is_empty() { Ok(()) } else { Err(Failure::Body("nothing")) }
}

/// The exponents that the Python side's samples can have.
fn check_exponent(exponent: i16) -> Result<(), Failure> {
    if (-128..=127).contains(&exponent) { Ok(()) } else { Err(Failure::Value("an exponent must be -128 to 127")) }
}

fn mantissas(bytes: &[u8]) -> Result<&[i8], Failure> {
    let mantissas = as_mantissas(bytes);
    if mantissas.contains(&-128) { Err(Failure::Value("a mantissa must be -127 to 127")) } else { Ok(mantissas) }
}
