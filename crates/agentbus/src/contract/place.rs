//! Where the buses of a case meet.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::contract::Hosted;
use agentbus_transport::{Transport, TransportError};

use super::Collected;
use crate::{Builder, Bus, Error};

/// How long to wait before connecting again to a server that hung up.
const CONNECT_PAUSES: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(1)];

/// How many frames a stream of a case has, where a frame costs next to nothing.
const FRAMES: u64 = 5_000;

/// Where the buses of a case meet: a server, or one transport that is open already.
pub struct Place {
    reach: Reach,
    frames: u64,
    news: News,
    _host: Box<dyn Any>,
}

enum Reach {
    /// Each bus connects by itself.
    Url(String),
    /// One process holds the carrier, and its buses share it.
    Shared(Arc<dyn Transport>),
}

/// When the others know that an agent has left.
#[derive(PartialEq)]
enum News {
    AtOnce,
    Later,
}

impl Place {
    /// A server that each bus reaches by this URL; `host` lives for as long as the case.
    #[must_use]
    pub fn at(url: impl Into<String>, host: impl Any) -> Self {
        Self::new(Reach::Url(url.into()), host)
    }

    /// A transport that only one process can open; `host` lives for as long as the case.
    #[must_use]
    pub fn shared(transport: Arc<dyn Transport>, host: impl Any) -> Self {
        Self::new(Reach::Shared(transport), host)
    }

    fn new(reach: Reach, host: impl Any) -> Self {
        Self {
            reach,
            frames: FRAMES,
            news: News::AtOnce,
            _host: Box::new(host),
        }
    }

    /// Streams fewer frames, where each waits for a disk.
    #[must_use]
    pub fn with_frames(mut self, frames: u64) -> Self {
        self.frames = frames;
        self
    }

    /// Lets the news that an agent has left come a moment after it has.
    #[must_use]
    pub fn with_late_news(mut self) -> Self {
        self.news = News::Later;
        self
    }

    /// How many frames a stream has here.
    pub(super) const fn frames(&self) -> u64 {
        self.frames
    }

    /// Whether a call may still set out for an agent that has left.
    pub(super) fn has_late_news(&self) -> bool {
        self.news == News::Later
    }

    /// One more bus here.
    pub async fn bus(&self, name: &str) -> Bus {
        self.connect(|| Bus::builder(name.to_owned())).await
    }

    /// One more bus here, which tells its spans.
    pub(super) async fn observed(&self, name: &str, spans: &Arc<Collected>) -> Bus {
        self.connect(|| Bus::builder(name.to_owned()).spans(Arc::<Collected>::clone(spans)))
            .await
    }

    /// Connects, and again if the server hangs up at once, as one that has hardly begun may do.
    async fn connect(&self, builder: impl Fn() -> Builder) -> Bus {
        for pause in CONNECT_PAUSES {
            match self.over(builder()).connect().await {
                Err(Error::Transport(TransportError::Carrier { .. })) => {
                    tokio::time::sleep(pause).await;
                }
                outcome => return outcome.unwrap(),
            }
        }
        self.over(builder()).connect().await.unwrap()
    }

    fn over(&self, builder: Builder) -> Builder {
        match &self.reach {
            Reach::Url(url) => builder.transport(url),
            // Whoever closes its bus leaves the carrier to the others.
            Reach::Shared(transport) => {
                builder.transport_instance(Arc::new(Hosted::shared(Arc::clone(transport), ())))
            }
        }
    }

    /// An agent and a caller.
    pub(super) async fn two(&self) -> (Bus, Bus) {
        (self.bus("agent").await, self.bus("caller").await)
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Place").finish_non_exhaustive()
    }
}
