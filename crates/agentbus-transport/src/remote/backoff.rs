//! Pauses between attempts.

use std::time::Duration;

use rand::RngExt;

/// Pauses that grow.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    longest: Duration,
    /// The least that is left of a pause when chance shortens it.
    least: f64,
}

impl Backoff {
    /// Pauses from `shortest`, each twice the one before, up to `longest`.
    #[must_use]
    pub const fn new(shortest: Duration, longest: Duration) -> Self {
        Self {
            next: shortest,
            longest,
            least: 1.0,
        }
    }

    /// The same pauses, each shortened by chance to no less than half, so that many who failed at
    /// one moment do not all come back at one moment.
    #[must_use]
    pub const fn jittered(mut self) -> Self {
        self.least = 0.5;
        self
    }

    /// Waits for the next pause.
    pub async fn wait(&mut self) {
        tokio::time::sleep(self.pause()).await;
        self.next = (self.next * 2).min(self.longest);
    }

    fn pause(&self) -> Duration {
        if self.least < 1.0 {
            self.next.mul_f64(rand::rng().random_range(self.least..1.0))
        } else {
            self.next
        }
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

    #[tokio::test(start_paused = true)]
    async fn chance_shortens_a_pause_to_no_less_than_half() {
        let mut pause = Backoff::new(Duration::from_secs(1), Duration::from_secs(4)).jittered();
        for longest in [1, 2, 4, 4, 4, 4, 4, 4] {
            let begun = tokio::time::Instant::now();
            pause.wait().await;
            let (waited, longest) = (begun.elapsed(), Duration::from_secs(longest));
            // The clock of the runtime counts whole milliseconds, rounded up.
            let most = longest + Duration::from_millis(1);
            assert!(waited >= longest / 2 && waited <= most, "{waited:?}");
        }
    }
}
