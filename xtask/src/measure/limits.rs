//! The limits of the shape, and who is past them.

use super::tape::{Length, Tape, percentile};

/// Percentiles of function length and the lines each may reach.
const FUNCTION: [(usize, usize); 4] = [(50, 8), (90, 25), (99, 60), (100, 100)];

/// Percentiles of file length and the lines each may reach.
const FILE: [(usize, usize); 2] = [(50, 180), (100, 600)];

/// Lines of code that earn one `.unwrap()` or `.expect("…")` outside tests.
const CODE_PER_UNWRAP: usize = 1000;

/// How many of the longest are named when a percentile is past its limit.
const NAMED: usize = 5;

/// Returns a sentence for each limit that is passed, with the places to look at first.
pub(super) fn check(tape: &Tape) -> Vec<String> {
    let functions = FUNCTION.map(|limit| past("function", &tape.functions, limit));
    let files = FILE.map(|limit| past("file", &tape.files, limit));
    functions
        .into_iter()
        .chain(files)
        .chain([unwraps(tape)])
        .flatten()
        .collect()
}

/// Checks one percentile.
fn past(what: &str, lengths: &[Length], (percent, limit): (usize, usize)) -> Option<String> {
    let lines = percentile(lengths, percent);
    (lines > limit).then(|| {
        let longest = longest(lengths, limit);
        format!("{what} length p{percent} is {lines} lines, past {limit}; the longest: {longest}")
    })
}

/// Names the longest of those past the limit.
fn longest(lengths: &[Length], limit: usize) -> String {
    let mut past: Vec<&Length> = lengths
        .iter()
        .filter(|length| length.lines > limit)
        .collect();
    past.sort_by(|a, b| b.lines.cmp(&a.lines).then_with(|| a.of.cmp(&b.of)));
    let named = past
        .iter()
        .take(NAMED)
        .map(|length| format!("{} ({})", length.of, length.lines));
    named.collect::<Vec<_>>().join(", ")
}

/// Checks the panicking calls; the first is free, so that a small workspace can hold one.
fn unwraps(tape: &Tape) -> Option<String> {
    let (count, limit) = (tape.unwraps.len(), (tape.code / CODE_PER_UNWRAP).max(1));
    (count > limit).then(|| {
        let places = tape.unwraps.join(", ");
        format!("{count} calls of unwrap or expect outside tests, past {limit}: {places}")
    })
}
