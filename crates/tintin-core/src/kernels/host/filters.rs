//! Weights as products want them: outputs in lanes, a row of groups for every step, zeros around.

use std::vec::Vec;

use super::groups::{Rows, Side, across, group, room, spread_rows};
use super::lanes::{Lanes, PLACED};

/// Registers of outputs computed together.
pub const BLOCK: usize = 2;

/// How weights lie in memory, and how they are packed.
pub struct Filters<'a> {
    /// (outputs, kernel rows, run).
    pub w: &'a [i8],
    /// Number of outputs.
    pub outputs: usize,
    /// Kernel rows.
    pub rows: usize,
    /// Weights of a kernel row, contiguous in x as well.
    pub run: usize,
    /// Neighbours computed together, each with all outputs, and how many values lie between two.
    pub joined: usize,
    pub shift: usize,
}

impl Filters<'_> {
    /// Lanes in use.
    pub fn lanes(&self) -> usize {
        self.joined * self.outputs
    }

    /// Groups of a kernel row of all that is joined.
    pub fn groups<L: Lanes>(&self) -> usize {
        (self.run + (self.joined - 1) * self.shift).div_ceil(L::GROUP)
    }

    /// Registers of all outputs.
    fn registers<L: Lanes>(&self) -> usize {
        self.lanes().div_ceil(L::WIDTH)
    }

    /// Words that the packed weights take.
    pub fn words<L: Lanes>(&self) -> usize {
        self.registers::<L>() * L::WIDTH * (1 + self.rows * self.groups::<L>())
    }

    /// What a window costs, all that is joined taken together: multiplications, and for eight windows one that waits for its load.
    fn cost<L: Lanes>(&self) -> usize {
        self.rows * self.groups::<L>() * (8 * self.registers::<L>() + 1)
    }

    /// The same with as many of `most` neighbours joined as makes the best use of lanes and groups: few outputs leave lanes idle,
    /// and a short run leaves room in its groups for the run beside it.
    pub fn join<L: Lanes>(self, most: usize) -> Self {
        let with = |joined| Filters { joined, ..self };
        let mut best = with(1);
        for joined in 2..=most.min(8) {
            if with(joined).cost::<L>() * best.joined < best.cost::<L>() * joined {
                best = with(joined);
            }
        }
        best
    }

    /// Packs: per block what its sums start from, then \[kernel row\]\[group\]\[lane\]; zeros where there is no weight.
    ///
    /// `starts` are those of the outputs, or empty where they are 0.
    ///
    /// # Safety
    /// The machine has the instructions of `L`.
    #[inline(always)]
    pub unsafe fn pack<L: Lanes>(&self, starts: &[i32], rows: &mut Vec<i32>, packed: &mut [i32]) {
        let (groups, registers) = (self.groups::<L>(), self.registers::<L>());
        let steps = self.rows * groups;
        let packed = &mut packed[..self.words::<L>()];
        // behind the last row: what is written and read in vain
        let rows = room(rows, L::WIDTH * (steps + 1) + PLACED);
        for register in 0..registers {
            let first = register / BLOCK * BLOCK;
            let pitch = (registers - first).min(BLOCK) * L::WIDTH;
            let block = &mut packed[first * L::WIDTH * (1 + steps)..][..pitch * (1 + steps)];
            let at = (register - first) * L::WIDTH;
            let numbers = register * L::WIDTH..((register + 1) * L::WIDTH).min(self.lanes());
            let mut first_sums = [0; 16];
            let mut lane = 0;
            while lane < numbers.len() {
                let number = numbers.start + lane;
                let (output, shift) = (number % self.outputs, number / self.outputs * self.shift);
                let outputs = (self.outputs - output).min(numbers.len() - lane);
                let (count, weights) = (outputs * self.rows, self.rows * self.run);
                let w = &self.w[output * weights..][..outputs * weights];
                let lie = Rows { count, len: self.run, at: shift, pitch: groups * L::GROUP };
                let to = rows[lane * steps..].as_mut_ptr().cast();
                // SAFETY: the words of these lanes hold all groups, and behind all lanes there is room for what is written in vain.
                unsafe { spread_rows::<L>(Side::Plain, w, lie, to) };
                if !starts.is_empty() {
                    first_sums[lane..][..outputs].copy_from_slice(&starts[output..][..outputs]);
                }
                lane += outputs;
            }
            rows[lane * steps..L::WIDTH * steps].fill(0);
            // SAFETY: `rows` are WIDTH of `steps` words, with a register behind; in the block registers lie `pitch` apart.
            unsafe {
                let (mut sums, zeros) = (L::zero(), L::splat(group::<L>(Side::Offset, &[0; 4])));
                for (step, lanes) in (0..steps).step_by(L::WIDTH).zip(block[pitch..].chunks_mut(L::WIDTH * pitch)) {
                    let across = across::<L>(rows.as_ptr().add(step), steps);
                    for (lanes, &w) in lanes.chunks_exact_mut(pitch).zip(&across) {
                        L::store(lanes[at..][..L::WIDTH].as_mut_ptr(), w);
                        sums = L::dot(sums, zeros, w);
                    }
                }
                // what zeros give is what the offset adds
                let sums = L::subtract(L::load(first_sums.as_ptr()), sums);
                L::store(block[at..][..L::WIDTH].as_mut_ptr(), sums);
            }
        }
    }
}
