//! How much of a training or a prediction is done at a time: batches, and groups of them between two looks at signals.

use std::time::Duration;

use pyo3::PyResult;

use crate::error::value;

/// How many batches or samples to take between two looks at signals: what takes some milliseconds, so that Ctrl-C is heard at once
/// and looking costs nothing.
pub struct Pace {
    /// To be taken next.
    pub count: usize,
    most: usize,
}

impl Pace {
    /// Least and most time between two looks.
    const TIMES: (Duration, Duration) = (Duration::from_millis(8), Duration::from_millis(32));
    /// Most bytes of samples copied at a time; one batch or sample is always taken.
    const BYTES: usize = 1 << 23;

    /// For batches of so many bytes; `time` of one, if it is known.
    pub fn new(bytes_each: usize, time: Option<Duration>) -> Self {
        let mut pace = Self { count: 1, most: Self::BYTES.checked_div(bytes_each).unwrap_or(1).max(1) };
        if let Some(time) = time {
            // half of what it would be: errors may have become more
            pace.keep(time.saturating_mul(2));
        }
        pace
    }

    /// After `count` took so long: as many as take the longest time, at most 64 times as many.
    pub fn keep(&mut self, time: Duration) {
        if time < Self::TIMES.0 {
            // threads go to sleep between two groups: there are to be few
            let more = Self::TIMES.1.as_nanos().checked_div(time.as_nanos()).unwrap_or(64).clamp(2, 64);
            self.count = self.count.saturating_mul(usize::try_from(more).unwrap_or(2)).min(self.most);
        } else if time > Self::TIMES.1 {
            self.count = self.count.div_ceil(2);
        }
    }
}

/// Ends of batches of at most `most` samples: those given, or of `size` samples each out of `count`, the last perhaps shorter.
pub fn ends(given: Option<&[u32]>, size: u32, most: u32, count: usize) -> PyResult<Vec<usize>> {
    if size == 0 || size > most {
        return Err(value(format!("batch_size must be 1 to plan_batch, which is {most}, got {size}")));
    }
    let Some(given) = given else {
        let size = size as usize;
        return Ok((0..count.div_ceil(size)).map(|i| count.min(i.saturating_add(1).saturating_mul(size))).collect());
    };
    let mut start = 0;
    for &end in given {
        match end.checked_sub(start) {
            Some(samples) if (1..=size).contains(&samples) => start = end,
            _ => return Err(value(format!("a batch of 1 to {size} samples from {start} on cannot end at {end}"))),
        }
    }
    if start as usize != count {
        return Err(value(format!("batches end at {start}, but the order has {count} samples")));
    }
    Ok(given.iter().map(|&end| end as usize).collect())
}
