//! For hosts: work cut into parts, one a thread, or left whole: the feature `threads` decides. Sums are exact, so no cut moves a bit (N2).

use core::ops::Range;
#[cfg(feature = "threads")]
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

/// Least multiply-accumulates of a part: below, waking a thread costs more than it brings.
const LEAST_PRODUCTS: usize = 1 << 18;
/// Least products a weight of a part, so that clearing its gradient and adding it up cost little beside them.
const LEAST_TERMS: usize = 512;
/// Least elements of a part in a pass over elements.
const LEAST_ELEMENTS: usize = 1 << 14;

/// Parts, at most `threads`, for `items` items of `products` multiply-accumulates each.
pub const fn parts(items: usize, products: usize, threads: usize) -> usize {
    at_most(at_most(items.saturating_mul(products) / LEAST_PRODUCTS, items), threads)
}

/// Parts, at most `threads`, whose gradients of some weights are added up afterwards: `terms` products a weight in all.
pub const fn parts_to_add_up(terms: usize, threads: usize) -> usize {
    at_most(terms / LEAST_TERMS, threads)
}

/// Parts, at most `threads`, of a pass over `n` elements.
pub const fn parts_of_pass(n: usize, threads: usize) -> usize {
    at_most(n / LEAST_ELEMENTS, threads)
}

const fn at_most(parts: usize, most: usize) -> usize {
    // known when compiling, so that chips have no code for parts
    if parts == 0 || !cfg!(feature = "threads") {
        1
    } else if parts < most {
        parts
    } else {
        most
    }
}

/// What can be cut in two.
pub trait Cut: Sized + Send {
    /// The first `items` items and what `parts` parts need, and the rest.
    fn cut(self, items: usize, parts: usize) -> (Self, Self);

    /// How many of `items` items the first `some` of `parts` parts should take: their share, where all items cost the same.
    #[cfg(feature = "threads")]
    fn share(&self, items: usize, some: usize, parts: usize) -> usize {
        items * some / parts
    }
}

/// A slice of so much an item and so much a part.
pub struct Share<S> {
    /// What is left of it.
    pub slice: S,
    item: usize,
    part: usize,
}

/// `each` values an item.
#[inline(always)]
pub fn items<S>(slice: S, each: usize) -> Share<S> {
    Share { slice, item: each, part: 0 }
}

/// `each` values a part, at least.
#[inline(always)]
pub fn scratch<S>(slice: S, each: usize) -> Share<S> {
    Share { slice, item: 0, part: each }
}

impl<T: Sync> Cut for Share<&[T]> {
    fn cut(self, items: usize, parts: usize) -> (Self, Self) {
        let (left, right) = self.slice.split_at(items * self.item + parts * self.part);
        (Self { slice: left, ..self }, Self { slice: right, ..self })
    }
}

impl<T: Send> Cut for Share<&mut [T]> {
    fn cut(self, items: usize, parts: usize) -> (Self, Self) {
        let Self { slice, item, part } = self;
        let (left, right) = slice.split_at_mut(items * item + parts * part);
        (Self { slice: left, item, part }, Self { slice: right, item, part })
    }
}

impl Cut for Range<usize> {
    fn cut(self, items: usize, _parts: usize) -> (Self, Self) {
        (self.start..self.start + items, self.start + items..self.end)
    }
}

macro_rules! tuples {
    ($(($($field:ident $left:ident $right:ident),*))*) => {
        $(/// The first field knows what items cost.
        impl<$($field: Cut),*> Cut for ($($field,)*) {
            #[cfg(feature = "threads")]
            fn share(&self, items: usize, some: usize, parts: usize) -> usize {
                self.0.share(items, some, parts)
            }

            #[allow(non_snake_case)] // a value is named like its type
            fn cut(self, items: usize, parts: usize) -> (Self, Self) {
                let ($($field,)*) = self;
                $(let ($left, $right) = $field.cut(items, parts);)*
                (($($left,)*), ($($right,)*))
            }
        })*
    };
}

tuples! {
    (A a1 a2, B b1 b2)
    (A a1 a2, B b1 b2, C c1 c2)
    (A a1 a2, B b1 b2, C c1 c2, D d1 d2)
    (A a1 a2, B b1 b2, C c1 c2, D d1 d2, E e1 e2)
}

/// Runs `f` on `parts` parts of `work`, which has `items` items; gives the largest result.
///
/// In rayon's pool where one is installed on this thread, else in its global one.
#[cfg(feature = "threads")]
pub fn over<W: Cut>(work: W, items: usize, parts: usize, f: &(impl Fn(W) -> u32 + Sync)) -> u32 {
    if parts <= 1 {
        return f(work);
    }
    let half = parts / 2;
    let first = work.share(items, half, parts).clamp(half, items - (parts - half));
    let (left, right) = work.cut(first, half);
    let running = AtomicBool::new(false);
    let (left, right) = rayon::join(
        || {
            let result = over(left, first, half, f);
            // rayon gives the processor away while it waits: for an end that is this near, that takes longer
            for _ in 0..if parts == 2 { PATIENCE } else { 0 } {
                if !running.load(Relaxed) {
                    // rayon has yet to say so
                    (0..4).for_each(|_| core::hint::spin_loop());
                    break;
                }
                core::hint::spin_loop();
            }
            result
        },
        || {
            running.store(true, Relaxed);
            let result = over(right, items - first, parts - half, f);
            running.store(false, Relaxed);
            result
        },
    );
    left.max(right)
}

/// Runs `f` on `work`.
#[cfg(not(feature = "threads"))]
#[inline(always)]
pub fn over<W: Cut>(work: W, _items: usize, _parts: usize, f: &impl Fn(W) -> u32) -> u32 {
    f(work)
}

/// Pauses, some microseconds of them, in which a part may end or another one turn up.
#[cfg(feature = "threads")]
const PATIENCE: usize = 1 << 10;
/// Looks for work, some pauses apart, after which a thread takes naps between two looks: some hundred microseconds.
#[cfg(feature = "threads")]
const LOOKS: usize = 1 << 10;
/// How long such a nap is, at least.
#[cfg(feature = "threads")]
const NAP: core::time::Duration = core::time::Duration::from_micros(50);
/// Most naps in which threads are waited for that may have other work.
#[cfg(feature = "threads")]
const NAPS: usize = 2;

/// Runs `f` while the other threads of the pool that is installed on this one look for parts of its work: rayon's would go to sleep
/// between two of them, and waking one takes longer than many a part.
#[cfg(feature = "threads")]
pub fn attended<R>(f: impl FnOnce() -> R) -> R {
    /// Set when `f` is left, however that happens.
    struct Done<'a>(&'a AtomicBool);
    impl Drop for Done<'_> {
        fn drop(&mut self) {
            self.0.store(true, Relaxed);
        }
    }
    let (done, others, here) = (AtomicBool::new(false), rayon::current_num_threads() - 1, AtomicUsize::new(0));
    rayon::in_place_scope(|scope| {
        for _ in 0..others {
            scope.spawn(|_| {
                here.fetch_add(1, Relaxed);
                attend(&done);
            });
        }
        let _done = Done(&done);
        // one that was woken on this thread's processor, where it was last, would wait for its turn there with others idle: while this
        // thread sleeps it begins, and this one wakes up elsewhere
        let all_here = || here.load(Relaxed) == others;
        for wait in 0..4 * PATIENCE + NAPS {
            if all_here() {
                break;
            } else if wait < 4 * PATIENCE {
                core::hint::spin_loop();
            } else {
                std::thread::sleep(NAP);
            }
        }
        f()
    })
}

/// Does what there is to do, until `done`. Never leaves earlier: the thread that cuts the work may only have lost its processor for a while,
/// and one that sleeps for good would be of no use in all that follows. No deadlock: thieves take the oldest job of another thread first, so
/// a part is only taken when all that attend have begun (a pool with `breadth_first` would not keep that).
#[cfg(feature = "threads")]
fn attend(done: &AtomicBool) {
    let mut looks = 0;
    while !done.load(Relaxed) {
        looks += 1;
        if rayon::yield_now() == Some(rayon::Yield::Executed) {
            looks = 0;
        } else if looks > LOOKS {
            std::thread::sleep(NAP);
        } else if looks.is_multiple_of(256) {
            std::thread::yield_now();
        } else {
            // a look takes what it looks at out of the other thread's cache
            (0..8).for_each(|_| core::hint::spin_loop());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(feature = "threads")]
    fn a_part_is_worth_a_thread() {
        assert_eq!(parts(16, 400 * 120, 8), 2);
        assert_eq!(parts(64, 1 << 20, 8), 8);
        assert_eq!([parts(1, 1 << 30, 8), parts(64, 10, 8), parts(0, 9, 8)], [1, 1, 1]);
        assert_eq!([parts_of_pass(100, 3), parts_of_pass(1 << 15, 3)], [1, 2]);
        assert_eq!([parts_to_add_up(511, 8), parts_to_add_up(2048, 8), parts_to_add_up(1 << 20, 8)], [1, 4, 8]);
    }

    #[test]
    #[cfg(feature = "threads")]
    fn attended_work_is_done_and_its_panic_passed_on() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
        let sum = |n| over(0..n, n, 3, &|range: Range<usize>| u32::try_from(range.end).unwrap());
        assert_eq!(pool.install(|| attended(|| (1..100).map(|_| sum(30)).sum::<u32>())), 99 * 30);
        let panics = || pool.install(|| attended(|| panic!("of the work")));
        assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics)).is_err());
        assert_eq!(pool.install(|| attended(|| sum(7))), 7);
    }

    #[test]
    fn every_item_is_in_one_part() {
        for n in [2usize, 3, 7, 64] {
            for count in 1..=n.min(9) {
                let (mut seen, x) = ([0u32; 128], [1u32; 64]);
                let mut room = [0u32; 9];
                let work = (0..n, items(&mut seen[..2 * n], 2), (items(&x[..n], 1), scratch(&mut room[..count], 1)));
                let most = over(work, n, count, &|(range, seen, (x, room)): (Range<usize>, Share<&mut [u32]>, _)| {
                    let (x, room): (Share<&[u32]>, Share<&mut [u32]>) = (x, room);
                    assert_eq!((seen.slice.len(), x.slice.len()), (2 * range.len(), range.len()));
                    seen.slice.iter_mut().for_each(|v| *v += 1);
                    room.slice[0] = 1;
                    u32::try_from(range.end).unwrap()
                });
                assert_eq!(usize::try_from(most), Ok(n));
                assert!(seen[..2 * n].iter().all(|v| *v == 1) && seen[2 * n..].iter().all(|v| *v == 0));
            }
        }
    }
}
