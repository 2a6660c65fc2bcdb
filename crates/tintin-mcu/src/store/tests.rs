//! A flash in memory whose power can be cut between any two of its smallest operations, or in the middle of one.

extern crate std;

use super::*;
use embedded_storage::nor_flash::{ErrorType, ReadNorFlash};
use std::{vec, vec::Vec};

const UNIT: usize = 4;
const PAGE: usize = 256;
const SIZE: usize = 8 * PAGE;

/// Bits go from 1 to 0 by writing, back by erasing a page. With `fuse` operations left the power goes, halfway through the next.
#[derive(Clone)]
struct Flash {
    bytes: Vec<u8>,
    fuse: Option<usize>,
    operations: usize,
}

#[derive(Debug)]
struct NoPower;

impl NorFlashError for NoPower {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl Flash {
    fn new() -> Self {
        Self { bytes: vec![ERASED; SIZE], fuse: None, operations: 0 }
    }

    /// The part of an operation on `len` bytes that is done, and whether the power holds.
    fn spend(&mut self, len: usize) -> (usize, Result<(), NoPower>) {
        self.operations += 1;
        match &mut self.fuse {
            None => (len, Ok(())),
            Some(0) => (len / 2, Err(NoPower)),
            Some(fuse) => {
                *fuse -= 1;
                (len, Ok(()))
            }
        }
    }
}

impl ErrorType for Flash {
    type Error = NoPower;
}

impl ReadNorFlash for Flash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, at: u32, bytes: &mut [u8]) -> Result<(), NoPower> {
        bytes.copy_from_slice(&self.bytes[at as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Flash {
    const WRITE_SIZE: usize = UNIT;
    const ERASE_SIZE: usize = PAGE;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), NoPower> {
        assert!(from.is_multiple_of(PAGE as u32) && to.is_multiple_of(PAGE as u32));
        for page in (from as usize..to as usize).step_by(PAGE) {
            let (done, power) = self.spend(PAGE);
            self.bytes[page..page + done].fill(ERASED);
            power?;
        }
        Ok(())
    }

    fn write(&mut self, at: u32, bytes: &[u8]) -> Result<(), NoPower> {
        assert!(at.is_multiple_of(UNIT as u32) && bytes.len().is_multiple_of(UNIT));
        for (n, unit) in bytes.chunks(UNIT).enumerate() {
            let (done, power) = self.spend(UNIT);
            let start = at as usize + n * UNIT;
            for (cell, byte) in self.bytes[start..][..done].iter_mut().zip(unit) {
                assert_eq!(*cell, ERASED, "written twice without erasing");
                *cell = *byte;
            }
            power?;
        }
        Ok(())
    }
}

fn store(flash: Flash) -> Store<Flash> {
    Store::new(flash, PAGE as u32..7 * PAGE as u32).unwrap()
}

fn put(store: &mut Store<Flash>, file: &[u8]) -> Result<Record, StoreError> {
    store.put(|sink| file.chunks(7).try_for_each(sink))
}

fn get(store: &mut Store<Flash>) -> Option<Vec<u8>> {
    let record = store.newest().unwrap()?;
    let mut buffer = vec![0; SIZE];
    Some(store.read(record, &mut buffer).unwrap().to_vec())
}

fn file(seed: u8, len: usize) -> Vec<u8> {
    (0..len).map(|i| (i as u8).wrapping_mul(31) ^ seed).collect()
}

#[test]
fn the_newest_record_wins_and_the_slots_take_turns() {
    let mut store = store(Flash::new());
    assert_eq!(store.newest(), Ok(None));
    let mut addresses = Vec::new();
    for n in 0..5 {
        let record = put(&mut store, &file(n, 300 + usize::from(n))).unwrap();
        assert_eq!(record.sequence, u32::from(n));
        addresses.push(record.address);
        store = self::store(store.release()); // boots
        assert_eq!(get(&mut store).unwrap(), file(n, 300 + usize::from(n)));
    }
    assert!(addresses.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn sequence_numbers_wrap_around() {
    let mut store = store(Flash::new());
    put(&mut store, &file(1, 10)).unwrap();
    let words = [u32::from_le_bytes(MAGIC), VERSION, u32::MAX, 10, crc32(&file(1, 10))];
    let start = store.start as usize;
    store.flash.bytes[start..][..BLOCK].copy_from_slice(&sealed(words));
    assert_eq!(store.newest().unwrap().unwrap().sequence, u32::MAX);
    assert_eq!(put(&mut store, &file(2, 10)).unwrap().sequence, 0);
    assert_eq!(get(&mut store).unwrap(), file(2, 10));
}

#[test]
fn a_power_cut_at_any_moment_leaves_the_old_or_the_new() {
    let (old, new) = (file(1, 200), file(2, 333));
    for before in [vec![], vec![&old], vec![&new, &old]] {
        let mut first = store(Flash::new());
        for file in before {
            put(&mut first, file).unwrap();
        }
        let kept = get(&mut first);
        let flash = first.release();
        let mut whole = store(flash.clone());
        put(&mut whole, &new).unwrap();
        let operations = whole.release().operations - flash.operations;
        assert!(operations > 100);
        let mut outcomes = [0, 0];
        for fuse in 0..operations {
            let mut cut = store(Flash { fuse: Some(fuse), ..flash.clone() });
            assert_eq!(put(&mut cut, &new).unwrap_err(), StoreError::Flash(NorFlashErrorKind::Other));
            let mut booted = store(Flash { fuse: None, ..cut.release() });
            let found = get(&mut booted);
            let is_new = found.as_ref() == Some(&new);
            assert!(is_new || found == kept, "neither old nor new after {fuse} operations");
            outcomes[usize::from(is_new)] += 1;
            put(&mut booted, &file(3, 100)).unwrap();
            assert_eq!(get(&mut booted).unwrap(), file(3, 100), "no saving after a cut at {fuse}");
        }
        // the commit word is followed by padding of its block alone
        assert_eq!(outcomes, [operations - (BLOCK / UNIT - 1), BLOCK / UNIT - 1]);
    }
}

#[test]
fn a_changed_byte_anywhere_is_noticed() {
    let mut sound = store(Flash::new());
    put(&mut sound, &file(1, 200)).unwrap();
    put(&mut sound, &file(2, 200)).unwrap();
    let record = sound.newest().unwrap().unwrap();
    let flash = sound.release();
    let slot = (record.address - FILE_AT) as usize;
    for at in (slot..slot + BLOCK + 4).chain(slot + 2 * BLOCK..slot + 2 * BLOCK + 200) {
        let mut flash = flash.clone();
        flash.bytes[at] ^= 1;
        assert_eq!(get(&mut store(flash)).unwrap(), file(1, 200), "byte {at}");
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let flash = Flash::new();
    for range in [1..7 * 256, 0..3 * 256, 0..10 * 256, 256..256, Range { start: 512, end: 0 }] {
        assert_eq!(Store::new(flash.clone(), range).err(), Some(StoreError::Range { erase: PAGE }));
    }
    let mut store = store(flash);
    let room = 3 * PAGE - 2 * BLOCK;
    put(&mut store, &file(1, room)).unwrap();
    assert_eq!(put(&mut store, &file(2, room + 1)), Err(StoreError::TooLarge { room }));
    assert_eq!(get(&mut store).unwrap(), file(1, room));
    let record = store.newest().unwrap().unwrap();
    assert_eq!(store.read(record, &mut [0; 10]), Err(StoreError::Buffer { needed: room }));
}

tintin_core::model! {
    mod small { input: (1, 1, 4), batch: 1, layers: [Linear::new(8).with_bias(), ReLU, Linear::new(3)] }
}

#[test]
fn a_trained_net_comes_back_with_its_digest_and_goes_on() {
    use tintin_core::loss::Target;
    use tintin_core::optim::Recipe;
    let recipe = Recipe::tintin(3);
    let learn = |memory: &mut small::Memory| {
        let mut net = small::net(memory);
        for n in 0..70 {
            net.train_step(&[100, n, -n, 20], -7, Target::Labels(&[u16::try_from(n % 3).unwrap()]), &recipe);
        }
        net.digest()
    };
    let mut memory = small::Memory::new();
    small::net(&mut memory).initialise(4);
    let digest = learn(&mut memory);
    let mut store = store(Flash::new());
    store.save(&small::contents(&memory, &[], Some(recipe))).unwrap();

    let mut buffer = [0; SIZE];
    let record = store.newest().unwrap().unwrap();
    let file = store.read(record, &mut buffer).unwrap();
    let mut again = small::Memory::new();
    small::net(&mut again).load(file).unwrap();
    assert_eq!(small::net(&mut again).digest(), digest);
    assert_eq!(learn(&mut again), learn(&mut memory), "seed and step came back too");
}
