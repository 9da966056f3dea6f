//! How far a subscription has come.

use agentbus_transport::Priority;

/// One for each priority.
pub(crate) const LANES: usize = Priority::ALL.len();

/// For each lane, the last number that was looked at. Lanes are read apart from each other, so
/// that what is urgent overtakes however long the log is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cursors(pub(crate) [u64; LANES]);

impl Cursors {
    pub(crate) const fn at(seq: u64) -> Self {
        Self([seq; LANES])
    }

    pub(crate) const fn of(&self, lane: usize) -> u64 {
        self.0[lane]
    }

    /// Moves a lane forward, never back.
    pub(crate) fn advance(&mut self, lane: usize, seq: u64) {
        self.0[lane] = self.0[lane].max(seq);
    }

    pub(crate) fn lowest(&self) -> u64 {
        self.0.iter().copied().min().unwrap_or(0)
    }
}

/// The priority that a lane holds.
pub(crate) fn priority_of(lane: usize) -> Priority {
    let found = Priority::ALL.into_iter().find(|it| it.lane() == lane);
    found.unwrap_or_default()
}
