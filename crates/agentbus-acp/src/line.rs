//! Turns of one session, one after the other in the order of their prompts.
//!
//! Cancelling reaches the one that runs and all that wait at that moment, and nothing that comes
//! later. Whoever leaves the line early lets nobody overtake those in front.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// A line.
#[derive(Debug, Default)]
pub(crate) struct Line(watch::Sender<Turns>);

#[derive(Debug, Default)]
struct Turns {
    /// The first of them runs.
    line: BTreeMap<u64, CancellationToken>,
    next: u64,
}

/// A place in line; dropping it lets the next one go on.
#[derive(Debug)]
pub(crate) struct Place {
    line: Arc<Line>,
    turn: u64,
    pub(crate) cancelled: CancellationToken,
}

/// As many wait in line as may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full;

impl Line {
    /// Takes a place behind at most `waiting` others; it is cancelled with `withdrawn`, or by
    /// itself.
    pub(crate) fn line_up(
        self: &Arc<Self>,
        withdrawn: &CancellationToken,
        waiting: usize,
    ) -> Result<Place, Full> {
        let cancelled = withdrawn.child_token();
        let mut taken = Err(Full);
        self.0.send_modify(|turns| {
            if turns.line.len() <= waiting {
                turns.line.insert(turns.next, cancelled.clone());
                taken = Ok(turns.next);
                turns.next += 1;
            }
        });
        taken.map(|turn| Place {
            line: Arc::clone(self),
            turn,
            cancelled,
        })
    }

    /// Cancels the turn that runs and those in line.
    pub(crate) fn cancel(&self) {
        let turns = self.0.borrow();
        turns.line.values().for_each(CancellationToken::cancel);
    }

    /// Whether nobody is in line.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().line.is_empty()
    }

    /// Waits until nobody is in line.
    pub(crate) async fn emptied(&self) {
        // The sender is ours, so that it does not go away.
        let _ = self.0.subscribe().wait_for(|it| it.line.is_empty()).await;
    }
}

impl Place {
    /// Waits for the turns in front, or for the cancellation.
    pub(crate) async fn reached(&self) {
        let mut turns = self.line.0.subscribe();
        let first = |turns: &Turns| turns.line.keys().next() == Some(&self.turn);
        tokio::select! {
            _ = turns.wait_for(first) => {}
            () = self.cancelled.cancelled() => {}
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.line.0.send_modify(|turns| {
            turns.line.remove(&self.turn);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_leaves_the_line_early_lets_nobody_overtake() {
        let line = Arc::<Line>::default();
        let alone = CancellationToken::new;
        let withdrawn = alone();
        let first = line.line_up(&alone(), 2).unwrap();
        let second = line.line_up(&withdrawn, 2).unwrap();
        let third = line.line_up(&alone(), 2).unwrap();
        assert_eq!(line.line_up(&alone(), 2).err(), Some(Full));
        first.reached().await;
        withdrawn.cancel();
        second.reached().await;
        drop(second);
        let mut reached = Box::pin(third.reached());
        assert!(futures_util::poll!(&mut reached).is_pending());
        drop(first);
        reached.await;
        assert!(!third.cancelled.is_cancelled());
        line.cancel();
        assert!(third.cancelled.is_cancelled() && !line.is_empty());
        drop(third);
        line.emptied().await;
    }
}
