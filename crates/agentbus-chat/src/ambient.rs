//! Time and randomness, which come in from outside so that tests decide them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio::sync::watch;

use crate::Stamp;

/// A boxed future.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Tells the time and waits for it to pass.
pub trait Clock: Send + Sync + fmt::Debug {
    /// The time now.
    fn now(&self) -> Stamp;
    /// Ends after so much time. Dropping it ends it early.
    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()>;
}

/// Makes random bytes.
pub trait Entropy: Send + Sync + fmt::Debug {
    /// Fills a buffer.
    fn fill(&self, bytes: &mut [u8]);
}

/// The system's own clock.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Stamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        let micros = since.unwrap_or_default().as_micros();
        Stamp::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        Box::pin(tokio::time::sleep(duration))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct ManualClock(watch::Sender<Stamp>);

impl ManualClock {
    /// A clock that shows this time.
    #[must_use]
    pub fn at(now: Stamp) -> Arc<Self> {
        Arc::new(Self(watch::Sender::new(now)))
    }

    /// Moves the clock; whoever slept until then or less wakes.
    pub fn advance(&self, duration: Duration) {
        self.0.send_modify(|now| *now = now.after(duration));
    }

    /// How many sleep at the moment. A test that moves the clock must know that somebody waits
    /// for it.
    #[must_use]
    pub fn sleepers(&self) -> usize {
        self.0.receiver_count()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Stamp {
        *self.0.borrow()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        let mut now = self.0.subscribe();
        let until = now.borrow().after(duration);
        Box::pin(async move {
            // The clock outlives those who sleep by it; if not, time has ended for them as well.
            let _ = now.wait_for(|now| *now >= until).await;
        })
    }
}

/// The system's own randomness.
#[derive(Debug, Default)]
pub struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        rand::rng().fill_bytes(bytes);
    }
}

/// Randomness that repeats itself for a seed. Never for secrets.
#[derive(Debug)]
pub struct SeededEntropy(Mutex<StdRng>);

impl SeededEntropy {
    /// Begins the sequence of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Arc<Self> {
        Arc::new(Self(Mutex::new(StdRng::seed_from_u64(seed))))
    }
}

impl Entropy for SeededEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().fill_bytes(bytes);
    }
}

/// Both together, as everything that needs them gets them.
#[derive(Debug, Clone)]
pub struct Ambient {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
}

impl Default for Ambient {
    fn default() -> Self {
        Self {
            clock: Arc::new(SystemClock),
            entropy: Arc::new(SystemEntropy),
        }
    }
}

impl Ambient {
    /// The time now.
    #[must_use]
    pub fn now(&self) -> Stamp {
        self.clock.now()
    }

    /// A random UUID, version 4.
    pub(crate) fn uuid(&self) -> String {
        uuid::Builder::from_random_bytes(self.random())
            .into_uuid()
            .to_string()
    }

    /// A UUID that begins with the time, version 7. Ids of rows that come one after another are
    /// neighbours in an index then: a commit of many writes one of its pages, not one for each.
    pub(crate) fn uuid_at(&self, time: Stamp) -> String {
        let unix_ms = u64::try_from(time.micros() / 1000).unwrap_or(0);
        uuid::Builder::from_unix_timestamp_millis(unix_ms, &self.random())
            .into_uuid()
            .to_string()
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.entropy.fill(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded() -> Ambient {
        Ambient {
            entropy: SeededEntropy::new(1),
            ..Ambient::default()
        }
    }

    #[test]
    fn a_uuid_has_its_version_and_variant() {
        let (ambient, time) = (seeded(), Stamp::from_micros(1_700_000_000_123_456));
        for (uuid, version) in [(ambient.uuid(), "4"), (ambient.uuid_at(time), "7")] {
            assert_eq!(uuid.len(), 36);
            assert_eq!(&uuid[14..15], version);
            assert!("89ab".contains(&uuid[19..20]), "{uuid}");
        }
    }

    #[test]
    fn uuids_of_later_times_come_later() {
        let ambient = seeded();
        let unix_ms = [0, 1, 2, 1_700_000_000_123, 1_700_000_000_124];
        let uuids = unix_ms.map(|ms| ambient.uuid_at(Stamp::from_micros(ms * 1000)));
        assert!(uuids.is_sorted(), "{uuids:?}");
        assert_ne!(
            ambient.uuid_at(Stamp::from_micros(0)),
            ambient.uuid_at(Stamp::from_micros(0))
        );
    }

    #[tokio::test]
    async fn a_sleeper_wakes_when_the_clock_has_moved_far_enough() {
        let clock = ManualClock::at(Stamp::from_micros(0));
        let mut sleep = clock.sleep(Duration::from_secs(2));
        clock.advance(Duration::from_secs(1));
        let early = tokio::select! { biased; () = &mut sleep => true, () = async {} => false };
        assert!(!early);
        clock.advance(Duration::from_secs(1));
        sleep.await;
    }
}
