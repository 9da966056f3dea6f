//! The raw disk: append and flush.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// Bytes that a post writes at the least: a message of a few words with its index entries.
const BYTES: usize = 300;

/// How long the disk is measured.
const MEASURED: Duration = Duration::from_secs(2);

/// Appends and flushes one after the other; how long each took.
pub(crate) fn flushes(directory: &Path) -> Vec<Duration> {
    let mut file = File::create(directory.join("raw")).unwrap();
    let (begin, block) = (Instant::now(), [b'x'; BYTES]);
    let mut times = Vec::new();
    while begin.elapsed() < MEASURED {
        let flush = Instant::now();
        file.write_all(&block).unwrap();
        file.sync_data().unwrap();
        times.push(flush.elapsed());
    }
    times
}
