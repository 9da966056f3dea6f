//! Times, in buckets.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets; what took longer is in the last, which has none.
pub const BOUNDS: [Duration; 16] = [
    Duration::from_micros(50),
    Duration::from_micros(100),
    Duration::from_micros(250),
    Duration::from_micros(500),
    Duration::from_millis(1),
    Duration::from_micros(2500),
    Duration::from_millis(5),
    Duration::from_millis(10),
    Duration::from_millis(25),
    Duration::from_millis(50),
    Duration::from_millis(100),
    Duration::from_millis(250),
    Duration::from_millis(500),
    Duration::from_secs(1),
    Duration::from_secs(5),
    Duration::from_secs(10),
];

/// Counts times without a lock.
#[derive(Debug, Default)]
pub(crate) struct Histogram {
    buckets: [AtomicU64; BOUNDS.len() + 1],
    micros: AtomicU64,
}

/// What a histogram holds at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// How many were at most as long as each of [`BOUNDS`], and how many there are.
    pub up_to: [u64; BOUNDS.len() + 1],
    /// The sum of all, in whole microseconds.
    pub sum: Duration,
}

impl Times {
    /// How many there are.
    #[must_use]
    pub const fn count(&self) -> u64 {
        self.up_to[BOUNDS.len()]
    }
}

impl Histogram {
    pub(crate) fn add(&self, time: Duration) {
        let bucket = BOUNDS.partition_point(|bound| *bound < time);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.micros.fetch_add(micros, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> Times {
        let mut up_to = [0; BOUNDS.len() + 1];
        let mut sum = 0;
        for (total, bucket) in up_to.iter_mut().zip(&self.buckets) {
            sum += bucket.load(Ordering::Relaxed);
            *total = sum;
        }
        Times {
            up_to,
            sum: Duration::from_micros(self.micros.load(Ordering::Relaxed)),
        }
    }
}
