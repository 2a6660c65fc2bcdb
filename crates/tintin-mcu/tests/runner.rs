//! The runner and its protocol on the host: what is refused harms nothing, what is taken gives the bits of a heap model.

use embedded_io::{ErrorType, Read, Write};
use std::convert::Infallible;
use tintin_core::NUMERICS;
use tintin_core::file::pack_recipe;
use tintin_core::heap::Model;
use tintin_core::layers::{Conv2d, Flatten, Layer, Linear, MaxPool2d, ReLU};
use tintin_core::loss::{Loss, Target};
use tintin_core::optim::Recipe;
use tintin_core::plan::Options;
use tintin_core::rng::Draws;
use tintin_core::shape::Shape;
use tintin_mcu::protocol::{CHECK, Failure, Frame, Received, Request, receive};
use tintin_mcu::resident::{Resident, Tables};
use tintin_mcu::runner::{Identity, Runner};

/// Bytes of the pool that most tests give a runner, and of a message.
const POOL: usize = 4096;
const MESSAGE: usize = 1024;
const LAYERS: usize = 8;

/// What was sent to one side and what it answered.
#[derive(Default)]
struct Wire {
    input: Vec<u8>,
    at: usize,
    output: Vec<u8>,
}

impl Wire {
    fn of(input: Vec<u8>) -> Self {
        Self { input, ..Self::default() }
    }
}

impl ErrorType for Wire {
    type Error = Infallible;
}

impl Read for Wire {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Infallible> {
        let n = bytes.len().min(self.input.len() - self.at);
        bytes[..n].copy_from_slice(&self.input[self.at..][..n]);
        self.at += n;
        Ok(n)
    }
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        self.output.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        Ok(())
    }
}

fn framed(head: [u8; 2], body: &[u8]) -> Vec<u8> {
    let mut wire = Wire::default();
    let mut frame = Frame::new(&mut wire, head);
    frame.put(body);
    frame.finish().unwrap();
    wire.output
}

/// The messages in a stream of sound frames.
fn messages(stream: Vec<u8>) -> Vec<Vec<u8>> {
    let (mut wire, mut buffer, mut found) = (Wire::of(stream), vec![0; 1 << 16], Vec::new());
    loop {
        match receive(&mut wire, &mut buffer).unwrap() {
            Received::Message(n) => found.push(buffer[..n].to_vec()),
            Received::End => return found,
            Received::Refused(failure) => panic!("{failure}"),
        }
    }
}

/// A runner and its memory.
struct Bench {
    pool: Vec<i32>,
    message: Vec<u8>,
    tables: Box<Tables<LAYERS>>,
}

impl Bench {
    fn new(pool: usize) -> Self {
        Self { pool: vec![0; pool / 4], message: vec![0; MESSAGE + CHECK], tables: Box::new(Tables::new()) }
    }

    fn session(&mut self) -> Session<'_> {
        let identity = Identity { part: 0, target: "host" };
        let model = Resident::new(&mut self.pool, &mut *self.tables);
        Session(Runner::new(identity, &mut self.message, model))
    }
}

struct Session<'m>(Runner<'m>);

/// A refusal as a client sees it.
#[derive(Debug, PartialEq)]
struct Refusal {
    code: u8,
    numbers: Vec<u32>,
    text: String,
}

impl Session<'_> {
    /// Everything the runner says to these bytes.
    fn stream(&mut self, bytes: Vec<u8>) -> Vec<Vec<u8>> {
        let mut wire = Wire::of(bytes);
        self.0.serve(&mut wire).unwrap();
        messages(wire.output)
    }

    fn ask(&mut self, request: Request, body: &[u8]) -> Result<Vec<u8>, Refusal> {
        let answers = self.stream(framed([request as u8, 77], body));
        let [answer] = &answers[..] else { panic!("{} answers", answers.len()) };
        assert_eq!(answer[1], 77);
        result(answer)
    }

    fn refused(&mut self, request: Request, body: &[u8], code: u8, text: &str) -> Vec<u32> {
        let refusal = self.ask(request, body).unwrap_err();
        assert_eq!(refusal.code, code, "{refusal:?}");
        assert!(refusal.text.contains(text), "{refusal:?}");
        refusal.numbers
    }

    fn digest(&mut self) -> Vec<u8> {
        self.ask(Request::Digest, &[]).unwrap()
    }

    fn load(&mut self, file: &[u8], batch: u32) -> Result<Vec<u8>, Refusal> {
        for (i, piece) in file.chunks(200).enumerate() {
            self.ask(Request::Stage, &[&u32::try_from(200 * i).unwrap().to_le_bytes(), piece].concat())?;
        }
        self.ask(Request::Load, &load_body(file.len(), batch))
    }
}

fn result(answer: &[u8]) -> Result<Vec<u8>, Refusal> {
    if answer[0] == 0 {
        return Ok(answer[2..].to_vec());
    }
    let count = usize::from(answer[2]);
    let (numbers, text) = answer[3..].split_at(4 * count);
    let numbers = numbers.chunks_exact(4).map(|n| u32::from_le_bytes(n.try_into().unwrap())).collect();
    Err(Refusal { code: answer[0], numbers, text: String::from_utf8(text.to_vec()).unwrap() })
}

fn load_body(len: usize, batch: u32) -> Vec<u8> {
    [&u32::try_from(len).unwrap().to_le_bytes()[..], &batch.to_le_bytes(), &0u32.to_le_bytes(), &[1]].concat()
}

fn model() -> Model {
    let layers = vec![
        Layer::Conv2d(Conv2d::new(3, (3, 3)).padding((1, 1)).with_bias()),
        Layer::ReLU(ReLU),
        Layer::MaxPool2d(MaxPool2d::new((2, 2))),
        Layer::Flatten(Flatten),
        Layer::Linear(Linear::new(4)),
    ];
    Model::new(layers, Shape::new(5, 6, 1), 7).unwrap()
}

const RECIPE: Recipe = Recipe::tintin(3);
const BATCH: u32 = 3;
const INPUTS: usize = 30;

/// Samples and labels of step `n`.
fn samples(n: u32) -> (Vec<i8>, Vec<u16>) {
    let mut draws = Draws::new(1, n, 0, 0);
    let x = (0..BATCH as usize * INPUTS).map(|_| i8::try_from(draws.below(255).cast_signed() - 127).unwrap()).collect();
    (x, (0..BATCH).map(|_| u16::try_from(draws.below(4)).unwrap()).collect())
}

fn step_body(n: u32) -> Vec<u8> {
    let (x, labels) = samples(n);
    let mut body = [&BATCH.to_le_bytes()[..], &(-7i16).to_le_bytes(), &[0]].concat();
    body.extend(x.iter().map(|v| v.cast_unsigned()));
    body.extend(labels.iter().flat_map(|label| label.to_le_bytes()));
    body
}

/// A session with the model and its recipe in place.
fn ready(bench: &mut Bench) -> Session<'_> {
    let mut session = bench.session();
    session.load(&model().to_bytes().unwrap(), BATCH).unwrap();
    session.ask(Request::Recipe, &pack_recipe(&RECIPE)).unwrap();
    session
}

#[test]
fn frames_of_every_length_arrive_and_the_cobs_crate_reads_them_too() {
    for len in (0..600).chain([2000]) {
        for zero in [0, 1, 2, 7, 253, 254, 255, 256] {
            // 0: none at all, 1: nothing else, n: every n-th
            let body: Vec<u8> = (0..len).map(|i| u8::from(zero == 0 || i % zero != 0) * (i % 255 + 1) as u8).collect();
            let frame = framed([1, 2], &body);
            assert_eq!(frame.iter().filter(|byte| **byte == 0).count(), 1);
            assert_eq!(messages(frame.clone()), [[&[1, 2], &body[..]].concat()]);
            let mut decoded = vec![0; frame.len()];
            let n = cobs::decode(&frame[..frame.len() - 1], &mut decoded).unwrap().frame_size();
            assert_eq!(&decoded[..n - CHECK], [&[1, 2], &body[..]].concat());
        }
    }
}

#[test]
fn a_frame_cut_or_altered_anywhere_is_refused_and_the_next_one_arrives() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let before = session.digest();
    let (frame, next) = (framed([Request::Step as u8, 9], &step_body(0)), framed([Request::Digest as u8, 5], &[]));
    let mut spoilt = Vec::new();
    for at in 0..frame.len() - 1 {
        spoilt.push([&frame[..at], &frame[at + 1..]].concat()); // a byte lost
        spoilt.push([&frame[..at], &[0], &next].concat()); // cut short, then a zero
        for flip in [1, 0x80, 0xFF, frame[at]] {
            spoilt.push(frame.clone());
            spoilt.last_mut().unwrap()[at] ^= flip;
        }
    }
    for bytes in spoilt {
        let answers = session.stream([&bytes[..], &next].concat());
        let (last, refused) = answers.split_last().unwrap();
        assert_eq!((last[0], last[1], &last[2..]), (0, 5, &before[..]), "the digest has changed");
        for answer in refused.iter().filter(|answer| answer[1] != 5) {
            assert!(matches!(result(answer).unwrap_err().code, 1 | 2));
        }
    }
}

#[test]
fn a_message_too_long_is_refused_with_the_most_that_fits() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let before = session.digest();
    assert_eq!(session.ask(Request::Predict, &[0; MESSAGE - 2]).unwrap_err().code, 4);
    let answer = session.stream(framed([Request::Predict as u8, 1], &[0; MESSAGE - 1])).remove(0);
    let refusal = result(&answer).unwrap_err();
    assert_eq!((refusal.code, refusal.numbers), (2, vec![MESSAGE as u32]));
    assert_eq!(session.digest(), before);
}

#[test]
fn noise_and_sound_frames_of_noise_never_stop_the_runner() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let bodies = [load_body(300, BATCH), step_body(0), pack_recipe(&RECIPE).to_vec(), vec![0; 40]];
    for n in 0..20_000 {
        let mut draws = Draws::new(2, n, 0, 0);
        let mut bytes = bodies[draws.below(4) as usize].clone();
        for _ in 0..draws.below(4) {
            let at = draws.below(bytes.len() as u32) as usize;
            bytes[at] = draws.below(256) as u8;
        }
        bytes.truncate(if draws.below(3) == 0 { draws.below(60) as usize } else { bytes.len() });
        if n % 5 == 0 {
            session.stream(bytes);
            continue;
        }
        let code = draws.below(12) as u8;
        let answers = session.stream(framed([code, 3], &bytes));
        assert_eq!((answers.len(), answers[0][1]), (1, 3), "request {code}");
        if code == 0 || code == 11 {
            assert_eq!(answers[0][0], 3); // no such request
        }
    }
    // it still learns as it should
    session.load(&model().to_bytes().unwrap(), BATCH).unwrap();
    session.ask(Request::Recipe, &pack_recipe(&RECIPE)).unwrap();
    let (x, labels) = samples(0);
    let mut here = model();
    here.net(Options::training(BATCH)).unwrap().train_step(&x, -7, Target::Labels(&labels), &RECIPE);
    assert!(session.ask(Request::Step, &step_body(0)).unwrap().ends_with(&here.digest().to_le_bytes()));
}

#[test]
fn steps_prediction_and_file_are_those_of_a_heap_model() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let mut here = model();
    here.recipe = Some(RECIPE);
    for n in 0..70 {
        let (x, labels) = samples(n);
        let mut net = here.net(Options::training(BATCH).spacious()).unwrap();
        let score = net.train_step(&x, -7, Target::Labels(&labels), &RECIPE);
        let expected = [
            &(n + 1).to_le_bytes()[..],
            &score.loss.to_le_bytes(),
            &score.correct.to_le_bytes(),
            &net.digest().to_le_bytes(),
        ];
        assert_eq!(session.ask(Request::Step, &step_body(n)).unwrap(), expected.concat(), "step {n}");
    }
    assert_eq!(session.ask(Request::Save, &[]).unwrap(), here.to_bytes().unwrap());
    let (x, _) = samples(99);
    let mut net = here.net(Options::inference()).unwrap();
    let y = net.predict(&x[..INPUTS], -7);
    let mut expected = [y.scale.s, y.scale.u, y.scale.d].map(i16::to_le_bytes).concat();
    expected.extend(y.mantissas.iter().map(|v| v.cast_unsigned()));
    let x: Vec<u8> = x[..INPUTS].iter().map(|v| v.cast_unsigned()).collect();
    assert_eq!(session.ask(Request::Predict, &[&(-7i16).to_le_bytes()[..], &x].concat()).unwrap(), expected);
}

#[test]
fn a_frozen_prefix_stays_and_values_are_learned() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let file = model().to_bytes().unwrap();
    let body = [&u32::try_from(file.len()).unwrap().to_le_bytes()[..], &[2, 0, 0, 0], &[4, 0, 0, 0], &[1]].concat();
    session.load(&file, BATCH).unwrap();
    session.ask(Request::Stage, &[&[0; 4][..], &file].concat()).unwrap();
    session.ask(Request::Load, &body).unwrap();
    let recipe = Recipe { loss: Loss::SquaredError, ..RECIPE };
    session.ask(Request::Recipe, &pack_recipe(&recipe)).unwrap();
    let (x, _) = samples(0);
    let (x, y) = (&x[..INPUTS], [1i8, -2, 127, -127]);
    let mut here = model();
    here.net(Options::training(2).train_from(4)).unwrap().train_step(x, -7, Target::Values(&y, -5), &recipe);
    let bytes = |v: &[i8]| v.iter().map(|v| v.cast_unsigned()).collect::<Vec<_>>();
    let body =
        [&[1, 0, 0, 0][..], &(-7i16).to_le_bytes(), &[1], &bytes(x), &(-5i16).to_le_bytes(), &bytes(&y)].concat();
    assert!(session.ask(Request::Step, &body).unwrap().ends_with(&here.digest().to_le_bytes()));
}

#[test]
fn a_file_altered_anywhere_is_refused_and_the_model_stays() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    session.ask(Request::Step, &step_body(0)).unwrap();
    let before = session.ask(Request::Save, &[]).unwrap();
    let file = model().to_bytes().unwrap();
    for at in 0..file.len() {
        let mut bad = file.clone();
        bad[at] ^= 0x10;
        let code = session.load(&bad, BATCH).unwrap_err().code;
        assert_eq!(
            code,
            if (8..10).contains(&at) {
                6
            } else if (10..12).contains(&at) {
                7
            } else {
                5
            },
            "byte {at}"
        );
        assert_eq!(session.load(&file[..at], BATCH).unwrap_err().code, 5, "cut at {at}");
    }
    assert_eq!(session.ask(Request::Save, &[]).unwrap(), before);
    session.ask(Request::Step, &step_body(1)).unwrap();
}

#[test]
fn other_versions_are_told_with_both_numbers() {
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let before = session.digest();
    let mut file = model().to_bytes().unwrap();
    file[10..12].copy_from_slice(&(NUMERICS + 1).to_le_bytes());
    let refusal = session.load(&file, BATCH).unwrap_err();
    assert_eq!((refusal.code, refusal.numbers), (7, vec![u32::from(NUMERICS) + 1, NUMERICS.into()]));
    assert!(refusal.text.contains("numerics"));
    assert_eq!(session.digest(), before);
}

#[test]
fn what_does_not_fit_is_told_in_bytes() {
    let file = model().to_bytes().unwrap();
    let mut bench = Bench::new(POOL);
    let mut session = ready(&mut bench);
    let before = session.digest();
    let refusal = session.load(&file, 40).unwrap_err();
    let [weights, bytes, sums, available] = refusal.numbers[..] else { panic!("{refusal:?}") };
    assert_eq!((refusal.code, weights, available), (10, 30 + 4 * 18, POOL as u32));
    assert!(weights + bytes + sums > available);
    let refusal = session.load(&vec![0; POOL], 1).unwrap_err();
    assert_eq!((refusal.code, refusal.numbers[1]), (11, POOL as u32 - 102));
    let layers = vec![Layer::Linear(Linear::new(2)); LAYERS + 1];
    let deep = Model::new(layers, Shape::flat(2), 0).unwrap().to_bytes().unwrap();
    let refusal = session.load(&deep, 1).unwrap_err();
    assert_eq!((refusal.code, refusal.numbers), (9, vec![LAYERS as u32 + 1, LAYERS as u32]));
    assert_eq!(session.digest(), before);
    // a pool of just what the plan says is enough, one word less is not
    let sizes = tintin_core::heap::planned(model().layers(), model().input(), Options::training(BATCH)).unwrap().1;
    let exact = 4 * ((sizes.weights + sizes.bytes()).div_ceil(4) + sizes.all_words() + 2);
    assert!(ready(&mut Bench::new(exact)).ask(Request::Step, &step_body(0)).is_ok());
    assert_eq!(Bench::new(exact - 4).session().load(&file, BATCH).unwrap_err().code, 10);
}

#[test]
fn requests_out_of_turn_or_range_are_refused_and_change_nothing() {
    use Request::{Bye, Digest, Forget, Hello, Load, Predict, Recipe as SetRecipe, Save, Stage, Step};
    let mut bench = Bench::new(POOL);
    let mut session = bench.session();
    for request in [Step, Predict, Digest, Save] {
        session.refused(request, &[], 12, "no model");
    }
    session.refused(SetRecipe, &pack_recipe(&RECIPE), 12, "no model");
    let file = model().to_bytes().unwrap();
    session.load(&file, BATCH).unwrap();
    session.refused(Step, &step_body(0), 12, "no recipe");
    session.ask(SetRecipe, &pack_recipe(&RECIPE)).unwrap();
    let before = session.digest();
    for request in [Hello, Digest, Save, Forget, Bye] {
        session.refused(request, &[1], 4, "expected nothing");
    }
    session.refused(Stage, &[0; 3], 4, "offset");
    session.refused(Stage, &[0xFF; 8], 11, "does not fit");
    session.refused(Load, &[0; 12], 4, "13 bytes");
    session.refused(Load, &load_body(usize::MAX >> 33, 1), 11, "does not fit");
    session.refused(SetRecipe, &[0; 23], 4, "24 bytes");
    session.refused(SetRecipe, &[9; 24], 13, "out of range");
    let step = step_body(0);
    let altered = |at: usize, value: u8| {
        let mut body = step.clone();
        body[at] = value;
        body
    };
    session.refused(Step, &altered(0, 0), 13, "number of samples");
    session.refused(Step, &altered(0, 4), 13, "number of samples");
    session.refused(Step, &altered(0, 2), 4, "sample count");
    session.refused(Step, &altered(5, 1), 13, "exponent");
    session.refused(Step, &altered(6, 1), 13, "labels (0)");
    session.refused(Step, &altered(7, 0x80), 13, "-127 to 127");
    session.refused(Step, &altered(step.len() - 2, 4), 13, "label");
    session.refused(Step, &step[..step.len() - 1], 4, "sample count");
    session.refused(Step, &[&step[..], &[0]].concat(), 4, "sample count");
    session.refused(Predict, &[0; 3], 4, "one sample");
    assert_eq!(session.digest(), before);
    let mut inference = load_body(file.len(), 1);
    inference[12] = 0;
    session.ask(Stage, &[&[0; 4][..], &file].concat()).unwrap();
    session.ask(Load, &inference).unwrap();
    session.refused(Step, &step, 12, "prediction alone");
    session.ask(Forget, &[]).unwrap();
    session.refused(Digest, &[], 12, "no model");
}

#[test]
fn a_runner_tells_who_it_is_and_leaves_at_bye() {
    let mut bench = Bench::new(POOL);
    let hello = bench.session().ask(Request::Hello, &[]).unwrap();
    let words: Vec<_> = hello[20..].split(|byte| *byte == 0).map(String::from_utf8_lossy).collect();
    assert_eq!((words[0].as_ref(), words[2].as_ref()), ("host", env!("CARGO_PKG_VERSION")));
    assert_eq!(hello[12..16], (POOL as u32).to_le_bytes());
    assert_eq!(hello[16..20], (MESSAGE as u32).to_le_bytes());
    let answers = bench.session().stream([framed([10, 1], &[]), framed([7, 2], &[])].concat());
    assert_eq!(answers, [[0, 1]]); // the second is for whoever comes next
}

#[test]
fn every_failure_has_a_code_of_its_own() {
    let file = |error| Failure::File(error);
    use tintin_core::error::FileError;
    let mut codes = [
        Failure::Damaged(""),
        Failure::TooLong { most: 0 },
        Failure::Unknown(0),
        Failure::Body(""),
        file(FileError::NotTin),
        file(FileError::Format { found: 0 }),
        file(FileError::Numerics { found: 0 }),
        Failure::Layers { needed: 0, available: 0 },
        Failure::Memory { weights: 0, bytes: 0, sums: 0, available: 0 },
        Failure::Room { needed: 0, available: 0 },
        Failure::Order(""),
        Failure::Value(""),
    ]
    .map(|failure| failure.code())
    .to_vec();
    codes.push(8); // a plan error cannot be made here
    codes.sort_unstable();
    assert_eq!(codes, (1..=13).collect::<Vec<_>>());
}
