//! The table of figures, row by row, so that a long run shows how far it is.

use std::time::Duration;

/// Begins the table.
pub(crate) fn head() {
    println!("| measured | agentbus | baseline | ratio | goal |\n|---|---|---|---|---|");
}

/// Adds a row.
pub(crate) fn row(what: &str, ours: &str, baseline: &str, ratio: Option<f64>, goal: &str) {
    let ratio = ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default();
    println!("| {what} | {ours} | {baseline} | {ratio} | {goal} |");
}

/// Adds a row of latencies: two percentiles of ours, beside the same of the baseline. The ratio is
/// that of the first.
pub(crate) fn latency(
    what: &str,
    percents: [usize; 2],
    ours: &mut [Duration],
    (name, baseline): (&str, &mut [Duration]),
    goal: &str,
) {
    let show = |times: &mut [Duration]| {
        let [low, high] = percents.map(|percent| percentile(times, percent));
        let [first, second] = percents;
        format!("p{first} {low:.3} ms, p{second} {high:.3} ms")
    };
    let ratio = percentile(ours, percents[0]) / percentile(baseline, percents[0]);
    let baseline = format!("{}, {name}", show(baseline));
    row(what, &show(ours), &baseline, Some(ratio), goal);
}

/// A percentile of durations, in milliseconds.
pub(crate) fn percentile(times: &mut [Duration], percent: usize) -> f64 {
    times.sort_unstable();
    let at = (times.len() * percent / 100).min(times.len().saturating_sub(1));
    ms(times.get(at).copied().unwrap_or_default())
}

pub(crate) fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
