//! Spans of this command, for the collector that the environment names.

use std::sync::Arc;
use std::time::Duration;

use agentbus::Builder;
use agentbus::telemetry::Otlp;

use crate::failure::{Exit, Failure};

/// Time to send the last spans. A collector that is down must not keep a command from ending.
const FLUSH: Duration = Duration::from_secs(2);

/// Where spans go, if anywhere.
#[derive(Clone)]
pub(crate) struct Telemetry(Option<Arc<Otlp>>);

impl Telemetry {
    pub(crate) fn from_env() -> Result<Self, Failure> {
        // The HTTP client asks for one as soon as it is made, whether it will speak TLS or not. An
        // error means that there is one already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let otlp = Otlp::from_env("agentbus")
            .map_err(|error| Failure::new(Exit::Configuration, error.to_string()))?;
        Ok(Self(otlp.map(Arc::new)))
    }

    /// Makes a bus tell its spans.
    pub(crate) fn observe(&self, bus: Builder) -> Builder {
        match &self.0 {
            Some(otlp) => bus.spans(Arc::<Otlp>::clone(otlp)),
            None => bus,
        }
    }

    /// Sends what is left. It blocks, so it comes after the runtime.
    pub(crate) fn end(&self) {
        if let Some(otlp) = &self.0 {
            otlp.shutdown(FLUSH);
        }
    }
}
