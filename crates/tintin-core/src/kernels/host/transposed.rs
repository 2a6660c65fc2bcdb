//! The backward products of a dense layer: acc\[n,i\] += Σ_k a\[n,k\] · m\[k,i\], a the errors and m the weights, or the errors
//! transposed and the inputs.
//!
//! ```text
//! list the terms k and the rows n that have an error at all
//! for blocks of registers of i, blocks of terms:
//!     interleave GROUP rows of m at a time
//!     for blocks of rows: sums in registers over the block of terms
//! ```
//! With one row each group is multiplied as soon as it is interleaved.

use std::vec::Vec;

use super::dispatch_on;
use super::groups::{Side, group, room, with_buffers};
use super::lanes::{Kernel, Lanes};
use super::machine::Machine;
use super::tile::{MOST, ROW, add_to, ahead, balanced, correction, dense, nonzero, readable, with_registers, word};

/// See [`portable::matmul_transposed`](crate::kernels::portable::matmul_transposed); false if `machine` has no vector instructions.
pub fn matmul_transposed(
    machine: Machine,
    dy: &[i8],
    outputs: usize,
    w: &[i8],
    k: usize,
    acc: &mut [i32],
    len: usize,
) -> bool {
    let a = Errors { values: dy, row: outputs, term: 1, rows: dy.len() / outputs, terms: outputs };
    transposed(machine, Transposed { a, m: w, step: k, acc, lanes: len })
}

/// See [`portable::outer_products`](crate::kernels::portable::outer_products); false if `machine` has no vector instructions.
pub fn outer_products(
    machine: Machine,
    dy: &[i8],
    outputs: usize,
    from: usize,
    x: &[i8],
    k: usize,
    acc: &mut [i32],
) -> bool {
    let a = Errors { values: &dy[from..], row: 1, term: outputs, rows: acc.len() / k, terms: dy.len() / outputs };
    transposed(machine, Transposed { a, m: x, step: k, acc, lanes: k })
}

/// Errors by row and by term: row n, term k lies at n · `row` + k · `term`.
#[derive(Clone, Copy)]
pub struct Errors<'a> {
    /// All of them.
    pub values: &'a [i8],
    /// From row to row.
    pub row: usize,
    /// From term to term.
    pub term: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of terms.
    pub terms: usize,
}

/// Whether `machine` has computed `of`.
fn transposed(machine: Machine, of: Transposed<'_>) -> bool {
    with_buffers(|buffers| dispatch_on(machine, Call { of, buffers })).is_some()
}

/// acc\[n,i\] += Σ_k a\[n,k\] · m\[k,i\].
struct Transposed<'a> {
    /// The errors.
    pub a: Errors<'a>,
    /// A row of i for each term.
    pub m: &'a [i8],
    /// From row to row of `m`.
    pub step: usize,
    /// (rows, lanes).
    pub acc: &'a mut [i32],
    /// Number of i.
    pub lanes: usize,
}

/// Groups of terms in a block: with [`WIDE`] registers each they stay in the first cache.
const DEEP: usize = 64;
/// Most registers of i in a block.
const WIDE: usize = 6;
/// Rows in a block.
const HIGH: usize = 4;

/// The same with buffers: terms, rows, sums of rows, groups of errors, interleaved rows of m.
struct Call<'a> {
    of: Transposed<'a>,
    buffers: &'a mut [Vec<i32>; 5],
}

impl Kernel for Call<'_> {
    type Output = ();

    #[inline(always)]
    unsafe fn run<L: Lanes>(self) {
        let Transposed { a, m, step, acc, lanes } = self.of;
        assert!(acc.len() == a.rows * lanes && (a.terms == 0 || (a.terms - 1) * step + lanes <= m.len()));
        let [terms, rows, totals, groups, packed] = self.buffers;
        let lists = Lists {
            terms: room(terms, a.terms + 16),
            rows: room(rows, a.rows),
            totals: room(totals, a.rows),
            groups: room(groups, a.rows * a.terms.div_ceil(L::GROUP)),
        };
        let Lists { terms, rows, totals, groups } = &list::<L>(a, lists);
        let deep = terms.len().div_ceil(L::GROUP);
        let packed = room(packed, DEEP * WIDE * L::WIDTH);
        let most = if rows.len() == 1 { MOST } else { WIDE.min(L::REGISTERS / (HIGH + 1)) };
        let registers = if rows.is_empty() { 0 } else { lanes.div_ceil(L::WIDTH) };
        let mut first = 0;
        while first < registers {
            let block = balanced(registers, most).min(registers - first);
            let first_lane = first * L::WIDTH;
            let call = Block { terms, rows, totals, groups, deep, m, step, packed, acc, lanes, first: first_lane };
            // SAFETY: the lists are those of `a`, and `m` and `acc` have all of its terms and rows: asserted above.
            unsafe {
                if rows.len() == 1 {
                    with_registers!(12, block, V => one_row::<L, V>(call));
                } else {
                    with_registers!(6, block, V => all_rows::<L, V>(call));
                }
            }
            first += block;
        }
    }
}

/// What is known of the errors: first the room for it, then as much as there is.
struct Lists<'a> {
    /// Terms and rows with errors.
    terms: &'a mut [i32],
    rows: &'a mut [i32],
    /// Of each such row: the sum of its errors, and groups of them.
    totals: &'a mut [i32],
    groups: &'a mut [i32],
}

/// Lists the terms with an error in any row, the rows with an error in any term, the sum of each such row and its errors in groups.
#[inline(always)]
fn list<'a, L: Lanes>(a: Errors<'_>, room: Lists<'a>) -> Lists<'a> {
    let Lists { terms, rows, totals, groups } = room;
    assert!(a.rows == 0 || a.terms == 0 || (a.rows - 1) * a.row + (a.terms - 1) * a.term < a.values.len());
    assert!(terms.len() >= a.terms && groups.len() >= a.rows * a.terms.div_ceil(L::GROUP));
    let mut count = 0;
    if a.rows == 1 && a.term == 1 {
        count = nonzero::<L>(&a.values[..a.terms], terms);
    } else {
        for k in 0..a.terms {
            let any = if a.row == 1 {
                a.values[k * a.term..][..a.rows].iter().fold(0, |any, d| any | d)
            } else {
                // SAFETY: below the largest place, which was compared with the length.
                (0..a.rows).fold(0, |any, n| any | unsafe { *a.values.get_unchecked(n * a.row + k * a.term) })
            };
            terms[count] = word(k);
            count += usize::from(any != 0);
        }
    }
    let terms = &mut terms[..count];
    let deep = terms.len().div_ceil(L::GROUP);
    let mut some = 0;
    if a.row == 1 && deep > 0 {
        side_by_side::<L>(a, terms, deep, groups, totals);
        for n in 0..a.rows {
            if groups[n * deep..][..deep].iter().any(|&group| group != 0) {
                groups.copy_within(n * deep..(n + 1) * deep, some * deep);
                (rows[some], totals[some]) = (word(n), totals[n]);
                some += 1;
            }
        }
        return Lists {
            terms,
            rows: &mut rows[..some],
            totals: &mut totals[..some],
            groups: &mut groups[..some * deep],
        };
    }
    for n in 0..if deep == 0 { 0 } else { a.rows } {
        let (mut total, mut any) = (0, 0);
        let row = &mut groups[some * deep..][..deep];
        row[deep - 1] = 0;
        let to = row.as_mut_ptr().cast::<L::Value>();
        for (i, &k) in terms.iter().enumerate() {
            // SAFETY: as above; and `deep` groups have room for all terms.
            unsafe {
                let d = *a.values.get_unchecked(n * a.row + k.cast_unsigned() as usize * a.term);
                total += i32::from(d);
                any |= d;
                to.add(i).write(L::plain(d));
            }
        }
        // the next one takes its place if it is empty
        (rows[some], totals[some]) = (word(n), total);
        some += usize::from(any != 0);
    }
    Lists { terms, rows: &mut rows[..some], totals: &mut totals[..some], groups: &mut groups[..some * deep] }
}

/// Groups and sums of all rows, where the errors of a term lie side by side: a register of rows at a time.
#[inline(always)]
fn side_by_side<L: Lanes>(a: Errors<'_>, terms: &[i32], deep: usize, groups: &mut [i32], totals: &mut [i32]) {
    let of_term = |k: i32| &a.values[k.cast_unsigned() as usize * a.term..][..a.rows];
    totals.fill(0);
    for (t, terms) in terms.chunks(L::GROUP).enumerate() {
        let mut sources = [core::ptr::null(); 4];
        for (source, &k) in sources.iter_mut().zip(terms) {
            *source = of_term(k).as_ptr();
            for (total, &d) in totals.iter_mut().zip(of_term(k)) {
                *total += i32::from(d);
            }
        }
        let mut n = 0;
        while terms.len() == L::GROUP && n + L::WIDTH <= a.rows {
            let mut lanes = [0i32; 16];
            // SAFETY: each term has WIDTH more errors from n on; no register has more than sixteen lanes.
            unsafe { L::store(lanes.as_mut_ptr(), L::interleave(Side::Plain, ahead(sources, n))) };
            for (&lane, row) in lanes[..L::WIDTH].iter().zip(groups[n * deep..].chunks_mut(deep)) {
                row[t] = lane;
            }
            n += L::WIDTH;
        }
        for n in n..a.rows {
            let mut values = [0; 4];
            for (value, &k) in values.iter_mut().zip(terms) {
                *value = of_term(k)[n];
            }
            groups[n * deep + t] = group::<L>(Side::Plain, &values);
        }
    }
}

/// Some registers of i, for all rows and terms.
struct Block<'a> {
    /// Terms and rows with errors.
    terms: &'a [i32],
    rows: &'a [i32],
    /// Of each row: the sum of its errors, and `deep` groups of them.
    totals: &'a [i32],
    groups: &'a [i32],
    deep: usize,
    m: &'a [i8],
    step: usize,
    packed: &'a mut [i32],
    acc: &'a mut [i32],
    lanes: usize,
    /// First i.
    first: usize,
}

impl Block<'_> {
    /// Where the rows of m start that group `t` of the terms weighs; a term that is missing has no error, and any row will do.
    #[inline(always)]
    #[allow(clippy::cast_sign_loss)]
    fn sources<L: Lanes>(&self, t: usize) -> [*const i8; 4] {
        let last = self.terms.len() - 1;
        let mut sources = [core::ptr::null(); 4];
        for (g, source) in sources.iter_mut().take(L::GROUP).enumerate() {
            let term = self.terms[(t * L::GROUP + g).min(last)] as usize;
            *source = self.m[term * self.step + self.first..].as_ptr();
        }
        sources
    }
}

/// # Safety
/// Rows and terms lie inside `m` and `acc`, and V registers from `first` on begin below `lanes`.
#[inline(always)]
unsafe fn one_row<L: Lanes, const V: usize>(block: Block<'_>) {
    // SAFETY: as the caller says; a register at the end of m is read up to there.
    unsafe {
        let mut sums = [L::splat(correction::<L>(block.totals[0])); V];
        let (end, mut copies) = (block.m.as_ptr_range().end, [[0; ROW]; 4]);
        for (t, &errors) in block.groups.iter().enumerate() {
            let sources = readable::<L>(block.sources::<L>(t), V * L::WIDTH, end, &mut copies);
            let errors = L::splat(errors);
            for (v, sum) in sums.iter_mut().enumerate() {
                *sum = L::dot(*sum, L::interleave(Side::Offset, ahead(sources, v * L::WIDTH)), errors);
            }
        }
        let acc = &mut block.acc[block.rows[0] as usize * block.lanes..][block.first..block.lanes];
        add_to::<L, V>(acc.as_mut_ptr(), acc.len(), &sums);
    }
}

/// # Safety
/// As of [`one_row`].
#[inline(always)]
unsafe fn all_rows<L: Lanes, const V: usize>(mut block: Block<'_>) {
    let (end, mut copies) = (block.m.as_ptr_range().end, [[0; ROW]; 4]);
    for from in (0..block.deep).step_by(DEEP) {
        let terms = DEEP.min(block.deep - from);
        for t in 0..terms {
            // SAFETY: m is read up to its end; DEEP · WIDE registers are packed at most.
            unsafe {
                let sources = readable::<L>(block.sources::<L>(from + t), V * L::WIDTH, end, &mut copies);
                for v in 0..V {
                    let values = L::interleave(Side::Offset, ahead(sources, v * L::WIDTH));
                    L::store(block.packed.as_mut_ptr().add((t * V + v) * L::WIDTH), values);
                }
            }
        }
        let mut r = 0;
        while r < block.rows.len() {
            // SAFETY: as the caller says.
            r += unsafe {
                match block.rows.len() - r {
                    1 => rows::<L, 1, V>(&mut block, r, from, terms),
                    2 | 3 => rows::<L, 2, V>(&mut block, r, from, terms),
                    _ => rows::<L, HIGH, V>(&mut block, r, from, terms),
                }
            };
        }
    }
}

/// N rows from `r` on: `terms` groups from `from` on, which are packed.
///
/// # Safety
/// As of [`one_row`].
#[inline(always)]
unsafe fn rows<L: Lanes, const N: usize, const V: usize>(
    block: &mut Block<'_>,
    r: usize,
    from: usize,
    terms: usize,
) -> usize {
    // SAFETY: as the caller says.
    unsafe {
        let mut sums = [[L::zero(); V]; N];
        let mut errors = [core::ptr::null(); N];
        for n in 0..N {
            errors[n] = block.groups[(r + n) * block.deep + from..].as_ptr();
            if from == 0 {
                sums[n] = [L::splat(correction::<L>(block.totals[r + n])); V];
            }
        }
        dense::<L, N, V>(&mut sums, errors, 1, block.packed.as_ptr(), V * L::WIDTH, terms);
        for (sums, &row) in sums.iter().zip(&block.rows[r..]) {
            let acc = &mut block.acc[row as usize * block.lanes..][block.first..block.lanes];
            add_to::<L, V>(acc.as_mut_ptr(), acc.len(), sums);
        }
    }
    N
}
