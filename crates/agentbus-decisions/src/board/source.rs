//! Questions that wait somewhere else than on the board.

use std::fmt;

use agentbus::transport::BoxFuture;

use super::{NotTaken, Taken};
use crate::question::{Answer, Decision};

/// A place where questions wait that outlive the process, for example cards in threads. Only people
/// see and answer them.
pub trait Source: fmt::Debug + Send + Sync + 'static {
    /// The questions that are open, or why they cannot be read.
    fn open(&self) -> BoxFuture<'_, Result<Vec<Decision>, String>>;

    /// Answers one of them; [`NotTaken::Unknown`] if it is none of them.
    fn answer<'a>(
        &'a self,
        id: &'a str,
        given: &'a Answer,
    ) -> BoxFuture<'a, Result<Taken, NotTaken>>;
}
