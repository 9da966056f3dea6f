//! Pauses between attempts.

use std::time::Duration;

/// Pauses that grow.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
}

impl Backoff {
    /// Pauses from `shortest`, each twice the one before, up to `longest`.
    #[must_use]
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            next: shortest,
            longest,
        }
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.next).await;
        self.next = (self.next * 2).min(self.longest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_longest() {
        let mut pause = Backoff::new(Duration::from_millis(10), Duration::from_millis(30));
        for expected in [10, 20, 30, 30] {
            let begun = tokio::time::Instant::now();
            pause.wait().await;
            assert_eq!(begun.elapsed(), Duration::from_millis(expected));
        }
    }
}
