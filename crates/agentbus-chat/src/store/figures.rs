//! What operators ask a store.

use std::collections::BTreeMap;

/// Counts over everything that is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Figures {
    /// Threads by state.
    pub threads: BTreeMap<String, usize>,
    /// All messages.
    pub messages: usize,
    /// Messages of the last 1, 5 and 15 minutes.
    pub recent: [usize; 3],
    /// Mean distance between neighbouring messages of a thread within the last 15 minutes, in
    /// milliseconds.
    pub mean_gap_ms: Option<f64>,
    /// How often agents stopped, by their reason.
    pub stop_reasons: BTreeMap<String, usize>,
}
