//! The table of figures.

use std::fmt;
use std::time::Duration;

/// Rows of: what was measured, ours, the baseline.
#[derive(Debug, Default)]
pub(crate) struct Report(Vec<[String; 5]>);

impl Report {
    /// Adds a latency: smaller is better.
    pub(crate) fn latency(&mut self, what: &str, ours: f64, raw: f64, goal: &str) {
        let ratio = format!("{:.2}", ours / raw);
        self.row(
            what,
            format!("{ours:.2} us"),
            format!("{raw:.2} us"),
            ratio,
            goal,
        );
    }

    /// Adds a latency that was measured in several turns: the median of them, and the best, which
    /// is nearer to the truth where neighbours are busy.
    pub(crate) fn turns(&mut self, what: &str, ours: Vec<f64>, raw: Vec<f64>, goal: &str) {
        let best = |turns: &[f64]| turns.iter().copied().fold(f64::INFINITY, f64::min);
        let told = |turns: Vec<f64>| {
            let best = best(&turns);
            let middle = median(turns);
            (middle, format!("{middle:.2} us, best {best:.2}"))
        };
        let ((us, ours), (base, raw)) = (told(ours), told(raw));
        self.row(what, ours, raw, format!("{:.2}", us / base), goal);
    }

    /// Adds a rate: larger is better.
    pub(crate) fn rate(&mut self, what: &str, ours: f64, raw: f64, goal: &str) {
        let ratio = format!("{:.2}", ours / raw);
        self.row(what, per_second(ours), per_second(raw), ratio, goal);
    }

    /// Adds a rate that was measured in several turns, as [`turns`](Self::turns) does a latency.
    pub(crate) fn rates(&mut self, what: &str, ours: Vec<f64>, raw: Vec<f64>, goal: &str) {
        let told = |turns: Vec<f64>| {
            let best = turns.iter().copied().fold(0.0, f64::max);
            let middle = median(turns);
            let text = format!("{}, best {}", per_second(middle), per_second(best));
            (middle, text)
        };
        let ((rate, ours), (base, raw)) = (told(ours), told(raw));
        self.row(what, ours, raw, format!("{:.2}", rate / base), goal);
    }

    /// Adds a figure without a baseline.
    pub(crate) fn plain(&mut self, what: &str, ours: String, goal: &str) {
        self.row(what, ours, String::new(), String::new(), goal);
    }

    fn row(&mut self, what: &str, ours: String, raw: String, ratio: String, goal: &str) {
        self.0
            .push([what.to_owned(), ours, raw, ratio, goal.to_owned()]);
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "| measured | agentbus | baseline | ratio | goal |\n|---|---|---|---|---|"
        )?;
        self.0
            .iter()
            .try_for_each(|row| writeln!(f, "| {} |", row.join(" | ")))
    }
}

fn per_second(rate: f64) -> String {
    if rate >= 1e6 {
        format!("{:.2} M/s", rate / 1e6)
    } else if rate >= 1e4 {
        format!("{:.0} k/s", rate / 1e3)
    } else {
        format!("{rate:.0} /s")
    }
}

/// A percentile in microseconds.
pub(crate) fn percentile(samples: &mut [Duration], percent: usize) -> f64 {
    samples.sort_unstable();
    let at = (samples.len() * percent / 100).min(samples.len() - 1);
    samples[at].as_secs_f64() * 1e6
}

/// The median of an odd number of repetitions.
pub(crate) fn median(mut runs: Vec<f64>) -> f64 {
    runs.sort_by(f64::total_cmp);
    runs[runs.len() / 2]
}
