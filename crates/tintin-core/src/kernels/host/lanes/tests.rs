//! Every operation of every machine present against plain arithmetic, bytes around what is written included.

use proptest::prelude::*;
use std::vec::Vec;

use super::super::dispatch_on;
use super::super::groups::{self, Side};
use super::super::machine::Machine;
use super::{Kernel, Lanes, PLACED};

/// Lanes of the widest machine.
const MOST: usize = 16;

/// What a machine gives, and what it should give, `n` lanes of it.
type Pairs = Vec<(&'static str, Vec<i32>, Vec<i32>)>;

/// All operations on these arguments, `n` reduced to what a register has.
struct All<'a> {
    n: usize,
    number: i32,
    a: &'a [i32; MOST],
    b: &'a [i32; MOST],
    x: &'a [i8; 4 * MOST],
    y: &'a [i8; 4 * MOST],
}

/// Lanes of `v`.
unsafe fn lanes<L: Lanes>(v: L::Vector) -> Vec<i32> {
    let mut to = [0; MOST];
    // SAFETY: as the caller says; no register has more lanes.
    unsafe { L::store(to.as_mut_ptr(), v) };
    to[..L::WIDTH].to_vec()
}

impl Kernel for All<'_> {
    type Output = Pairs;

    // SAFETY of all blocks: arrays have the lanes of the widest machine.
    #[inline(always)]
    unsafe fn run<L: Lanes>(self) -> Pairs {
        let (wide, n) = (L::WIDTH, 1 + self.n % L::WIDTH);
        let Self { number, a, b, x, y, .. } = self;
        let (va, vb) = unsafe { (L::load(a.as_ptr()), L::load(b.as_ptr())) };
        let first = |v: &[i32]| -> Vec<i32> { (0..wide).map(|i| if i < n { v[i] } else { 0 }).collect() };
        let each = |f: fn(i32, i32) -> i32| -> Vec<i32> { (0..wide).map(|i| f(a[i], b[i])).collect() };
        let mut all: Pairs = Vec::new();
        unsafe {
            all.push(("zero", lanes::<L>(L::zero()), std::vec![0; wide]));
            all.push(("splat", lanes::<L>(L::splat(number)), std::vec![number; wide]));
            all.push(("load", lanes::<L>(va), a[..wide].to_vec()));
            // a slice of its own, so that a read behind it is seen by who looks for such reads
            let exact = a[..n].to_vec();
            all.push(("load_first", lanes::<L>(L::load_first(exact.as_ptr(), n)), first(a)));
            all.push(("add", lanes::<L>(L::add(va, vb)), each(i32::wrapping_add)));

            let (best, which) = L::larger(va, L::splat(7), vb, number);
            all.push(("larger: best", lanes::<L>(best), each(i32::max)));
            let should = (0..wide).map(|i| if b[i] > a[i] { number } else { 7 }).collect();
            all.push(("larger: number", lanes::<L>(which), should));

            let some = (0..wide).fold(0, |some, i| some | i32::from(a[i] != 0) << i);
            all.push(("some", std::vec![L::some(va).cast_signed()], std::vec![some]));

            let mut to = [0; 2 * MOST];
            let count = L::pairs(vb, va, to.as_mut_ptr());
            let should = (0..wide).filter(|&i| a[i] != 0).flat_map(|i| [b[i], a[i]]);
            all.push(("pairs", to[..2 * count].to_vec(), should.collect()));

            let step = 1 + number.cast_unsigned() as usize % 8;
            let dy: Vec<i8> = x.iter().chain(y).copied().take((16 - self.n % 9) * step).collect();
            let index: Vec<i8> = dy.iter().rev().map(|d| d & 3).collect();
            let (mut to, mut should) = ([99i8; 64], [0i32; 64]);
            L::unpool(&dy, &index, n % step, step, to.as_mut_ptr());
            for j in 0..dy.len() / step {
                let at = j * step + n % step;
                let p = usize::from(index[at].cast_unsigned());
                should[p / 2 * 32 + 2 * j + p % 2] = dy[at].into();
            }
            all.push(("unpool", to.map(i32::from).to_vec(), should.to_vec()));

            let mut to = *b;
            L::store_first(to.as_mut_ptr(), va, n);
            let should = (0..MOST).map(|i| if i < n { a[i] } else { b[i] }).collect();
            all.push(("store_first", to.to_vec(), should));

            let mut to = [99i8; 2 * MOST];
            L::store_bytes(to.as_mut_ptr().add(1), va, n);
            let should = (0..2 * MOST).map(|i| if (1..=n).contains(&i) { low_byte(a[i - 1]) } else { 99 });
            all.push(("store_bytes", to.map(i32::from).to_vec(), should.collect()));

            let (mut gx, mut gy) = ([0i32; MOST], [0i32; MOST]);
            let values = wide * L::GROUP;
            groups::spread::<L>(groups::Side::Offset, &x[..values], gx.as_mut_ptr().cast());
            groups::spread::<L>(groups::Side::Plain, &y[..values], gy.as_mut_ptr().cast());
            let sums = L::dot(va, L::load(gx.as_ptr()), L::load(gy.as_ptr()));
            let should = (0..wide).map(|i| {
                (i * L::GROUP..(i + 1) * L::GROUP)
                    .fold(a[i], |sum, g| sum.wrapping_add((i32::from(x[g]) + L::OFFSET).wrapping_mul(i32::from(y[g]))))
            });
            all.push(("dot", lanes::<L>(sums), should.collect()));

            all.push(("load_offset", lanes::<L>(L::load_offset(x.as_ptr())), gx[..wide].to_vec()));
            let four = [va, vb, L::load(gx.as_ptr()), L::load(gy.as_ptr())];
            let should = [a, b, &gx, &gy].map(|v| v[..wide].iter().fold(0, |sum: i32, &v| sum.wrapping_add(v)));
            all.push(("sums", L::sums(four).to_vec(), should.to_vec()));

            for side in [Side::Offset, Side::Plain] {
                // from a slice of their own, as above
                let some = number.unsigned_abs() as usize % (PLACED + 1 - n)..;
                let some = some.start..some.start + n;
                let exact = x[..n].to_vec();
                let mut values = [0; PLACED];
                values[some.clone()].copy_from_slice(&exact);
                let (mut is, mut should) = ([7; PLACED + 1], [7; PLACED + 1]);
                L::place(side, exact.as_ptr().wrapping_sub(some.start), some, is.as_mut_ptr().cast());
                groups::spread::<L>(side, &values, should.as_mut_ptr().cast());
                all.push(("place", is.to_vec(), should.to_vec()));
            }

            let rows = [0, 1, 2, 3].map(|row| x.as_ptr().add(row * wide));
            let across: Vec<i8> = (0..values).map(|i| x[i % L::GROUP * wide + i / L::GROUP]).collect();
            groups::spread::<L>(groups::Side::Offset, &across, gx.as_mut_ptr().cast());
            all.push(("interleave", lanes::<L>(L::interleave(Side::Offset, rows)), gx[..wide].to_vec()));
        }
        all
    }
}

fn low_byte(v: i32) -> i32 {
    i32::from(v.to_le_bytes()[0].cast_signed())
}

fn check(all: &All) {
    for &machine in Machine::ALL.iter().filter(|machine| machine.is_present()) {
        let again = All { ..*all };
        for (operation, is, should) in dispatch_on(machine, again).unwrap_or_default() {
            assert_eq!(is, should, "{operation} on {}", machine.name());
        }
    }
}

/// Mantissas, ±127 often.
fn mantissa() -> impl Strategy<Value = i8> {
    prop_oneof![Just(-127i8), Just(127), -127..=127i8]
}

/// Lanes, the ends of the range and equal ones often.
fn lane() -> impl Strategy<Value = i32> {
    prop_oneof![Just(i32::MIN), Just(i32::MAX), -2..=2i32, any::<i32>()]
}

proptest! {
    #[test]
    fn operations_are_the_plain_ones(
        (n, number) in (0..MOST, any::<i32>()),
        (a, b) in (prop::array::uniform16(lane()), prop::array::uniform16(lane())),
        x in prop::collection::vec(mantissa(), 4 * MOST),
        y in prop::collection::vec(mantissa(), 4 * MOST),
    ) {
        let (x, y) = (x.try_into().unwrap(), y.try_into().unwrap());
        check(&All { n, number, a: &a, b: &b, x: &x, y: &y });
    }
}

/// The largest products, also with −128 on either side: sums wrap, nothing saturates.
#[test]
fn products_are_exact_at_the_ends() {
    for (x, y) in
        [(127, 127), (-127, 127), (127, -127), (-127, -127), (-128, 127), (-128, -127), (127, -128), (-127, -128)]
    {
        for a in [0, i32::MAX, i32::MIN, i32::MAX - 2 * 127 * 127] {
            check(&All { n: 0, number: 0, a: &[a; MOST], b: &[0; MOST], x: &[x; 4 * MOST], y: &[y; 4 * MOST] });
        }
    }
}
