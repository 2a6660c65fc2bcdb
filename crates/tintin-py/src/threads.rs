//! The threads that batches are cut over: how many, and rayon's pool of them, made when first needed and anew after a fork.

use std::mem;
use std::num::NonZero;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::available_parallelism;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use rayon::{ThreadPool, ThreadPoolBuilder};
use tintin_core::cut::attended;

use crate::error::value;

/// Names the number of threads for a process.
const VARIABLE: &str = "TINTIN_NUM_THREADS";
/// Most threads that can be asked for.
const MOST: usize = 1024;

/// 0: not told yet, all that this process may run on.
static COUNT: AtomicUsize = AtomicUsize::new(0);
static POOL: Mutex<Option<Pool>> = Mutex::new(None);

struct Pool {
    process: u32,
    count: usize,
    threads: Arc<ThreadPool>,
}

/// Takes the number from the environment.
///
/// # Errors
/// One that is not 1 to [`MOST`].
pub fn initialise() -> PyResult<()> {
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => match text.trim().parse() {
            Ok(n @ 1..=MOST) => {
                COUNT.store(n, Ordering::Relaxed);
                Ok(())
            }
            _ => Err(value(format!("{VARIABLE} must be a whole number from 1 to {MOST}, got '{text}'"))),
        },
        _ => Ok(()),
    }
}

/// Number of threads in use.
#[pyfunction]
pub fn get_num_threads() -> usize {
    match COUNT.load(Ordering::Relaxed) {
        0 => available_parallelism().map_or(1, NonZero::get).min(MOST),
        n => n,
    }
}

/// Sets the number of threads.
#[pyfunction]
pub fn set_num_threads(n: usize) -> PyResult<()> {
    if !(1..=MOST).contains(&n) {
        return Err(value(format!("number of threads must be 1 to {MOST}, got {n}")));
    }
    COUNT.store(n, Ordering::Relaxed);
    Ok(())
}

/// The pool of `count` threads; none where one thread, the caller's, is all. To be asked for again after whatever may have forked.
///
/// # Errors
/// The system does not have the threads that were asked for; of its own accord the pool has fewer then.
pub fn pool(count: usize) -> PyResult<Option<Arc<ThreadPool>>> {
    let process = std::process::id();
    if count == 1 {
        return Ok(None);
    }
    let mut held = POOL.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(pool) = &*held
        && pool.process == process
        && pool.count == count
    {
        return Ok(Some(pool.threads.clone()));
    }
    let build = |n| ThreadPoolBuilder::new().num_threads(n).thread_name(|i| format!("tintin-{i}")).build();
    let mut built = build(count);
    let mut fewer = count;
    while COUNT.load(Ordering::Relaxed) == 0 && built.is_err() && fewer > 1 {
        fewer = fewer.div_ceil(2);
        built = build(fewer);
    }
    let threads = built.map(Arc::new).map_err(|why| {
        PyRuntimeError::new_err(format!("cannot start {count} threads ({why}): set {VARIABLE} to fewer"))
    })?;
    if let Some(old) = held.replace(Pool { process, count, threads: threads.clone() })
        && old.process != process
    {
        // after a fork its threads are gone and its locks may be held for ever: it is left as it lies
        mem::forget(old);
    }
    Ok(Some(threads))
}

/// Runs `f` in the pool, so that what it cuts is shared out there; without one on this thread.
pub fn run<R: Send>(pool: Option<&ThreadPool>, f: impl FnOnce() -> R + Send) -> R {
    match pool {
        Some(pool) => pool.install(|| attended(f)),
        None => f(),
    }
}

/// Runs `first` while this thread has the interpreter, then `then` while it has not: both in the pool, which is woken once for them.
pub fn run_both<S: Send, R: Default + Send>(
    py: Python<'_>,
    pool: Option<&ThreadPool>,
    state: &mut S,
    first: impl FnOnce(&mut S) + Send,
    then: impl FnOnce(&mut S) -> R + Send,
) -> R {
    let Some(pool) = pool else {
        first(state);
        return py.detach(|| then(state));
    };
    let (tell, told) = mpsc::channel();
    pool.in_place_scope(|scope| {
        scope.spawn(move |_| {
            let result = attended(|| {
                first(state);
                _ = tell.send(None);
                then(state)
            });
            // behind `attended`, which may wait for threads with other work: whoever waits for that has not the interpreter
            _ = tell.send(Some(result));
        });
        // of work that panicked nothing comes, and the scope passes the panic on
        _ = told.recv();
        py.detach(move || told.recv()).ok().flatten().unwrap_or_default()
    })
}
