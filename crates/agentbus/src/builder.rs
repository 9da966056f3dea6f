//! How a bus is set up.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use agentbus_protocol::{Envelope, SubjectSpace, Text, subject};
use agentbus_transport::Transport;
use tokio_util::task::TaskTracker;
use tower::layer::util::{Identity, Stack};
use tower::{Layer, Service};

use crate::bus::{Inner, Preparer};
use crate::cancel::Cancellations;
use crate::deadline::Deadlines;
use crate::handler::{Handler, HandlerService, Request};
use crate::meter::{Meter, Metered};
#[cfg(feature = "schema")]
use crate::schemas::{Checked, Schemas};
use crate::targets::Targets;
use crate::telemetry::SpanSink;
use crate::{Bus, Error, limits, transports, worker};

/// Sets up a [`Bus`].
///
/// Its type parameter is the stack of layers, as with [`tower::ServiceBuilder`].
#[must_use = "a builder does nothing until it is connected"]
pub struct Builder<L = Identity> {
    agent_id: Text,
    asked: Asked,
    carrier: Carrier,
    invoke_timeout: Option<Duration>,
    layers: L,
    preparers: Vec<Preparer>,
    spans: Option<Arc<dyn SpanSink>>,
    meter: Option<Arc<Meter>>,
    #[cfg(feature = "schema")]
    schemas: Schemas,
}

/// What will carry the envelopes.
enum Carrier {
    Url(String),
    Ready(Arc<dyn Transport>),
}

impl Carrier {
    /// The transport, and the subjects that are used over it.
    async fn open(
        self,
        agent_id: &str,
        asked: &Asked,
    ) -> Result<(Arc<dyn Transport>, SubjectSpace), Error> {
        match self {
            Self::Ready(transport) => {
                let space = asked.over(&*transport)?;
                Ok((transport, space))
            }
            Self::Url(url) => {
                let transport = transports::open(&url, agent_id).await?;
                match asked.over(&*transport) {
                    Ok(space) => Ok((transport, space)),
                    Err(refused) => {
                        transport.close(Duration::ZERO).await;
                        Err(refused)
                    }
                }
            }
        }
    }
}

/// The subjects that were asked for. What was left open is that of the bus on the other side of the
/// transport, where there is one.
#[derive(Default)]
struct Asked {
    prefix: Option<Text>,
    tenant: Option<Text>,
}

impl Asked {
    /// The subjects over a transport, with the topics that it shares.
    fn over(&self, transport: &dyn Transport) -> Result<SubjectSpace, Error> {
        let space = self.within(transport.subjects())?;
        Ok(space.sharing(transport.shared_topics())?)
    }

    fn within(&self, there: Option<SubjectSpace>) -> Result<SubjectSpace, Error> {
        let Some(there) = there else {
            let prefix = self.prefix.as_deref().unwrap_or(subject::DEFAULT_PREFIX);
            let tenant = self.tenant.as_deref().unwrap_or_default();
            return Ok(SubjectSpace::new(prefix, tenant)?);
        };
        if let Some(prefix) = &self.prefix
            && prefix != there.prefix()
        {
            let own = there.prefix();
            return Err(Error::Setup(format!(
                "the bus there has the subject prefix `{own}` and takes nothing under `{prefix}`; leave the prefix out"
            )));
        }
        match &self.tenant {
            Some(tenant) => Ok(there.with_tenant(tenant)?),
            None => Ok(there),
        }
    }
}

impl Builder {
    pub(crate) fn new(agent_id: Text) -> Self {
        Self {
            agent_id,
            asked: Asked::default(),
            carrier: Carrier::Url("memory://".to_owned()),
            invoke_timeout: Some(limits::INVOKE_TIMEOUT),
            layers: Identity::new(),
            preparers: Vec::new(),
            spans: None,
            meter: None,
            #[cfg(feature = "schema")]
            schemas: Schemas::default(),
        }
    }
}

impl<L> Builder<L> {
    /// Carries over the transport of this URL: `memory://` (the default), a broker of its own in
    /// this process; `sqlite://PATH`, a log in a file; `nats://`, `jetstream://`, `redis://` or `kafka://`, a
    /// server; or `http://HOST:PORT`, a running `agentbus serve`. See [`transports`].
    pub fn transport(mut self, url: impl Into<String>) -> Self {
        self.carrier = Carrier::Url(url.into());
        self
    }

    /// Carries over a transport that is open already; buses that share one reach each other.
    pub fn transport_instance(mut self, transport: Arc<dyn Transport>) -> Self {
        self.carrier = Carrier::Ready(transport);
        self
    }

    /// Listens in this tenant, and sends into it unless an envelope names another; an empty one
    /// is none. Without it, that of the running bus that the transport reaches, or none.
    pub fn tenant(mut self, tenant: impl Into<Text>) -> Self {
        self.asked.tenant = Some(tenant.into());
        self
    }

    /// Uses this subject prefix. Without it, that of the running bus that the transport reaches,
    /// which takes no other, or `acp.v1`.
    pub fn subject_prefix(mut self, prefix: impl Into<Text>) -> Self {
        self.asked.prefix = Some(prefix.into());
        self
    }

    /// Sets how long `invoke` and `request` wait by default; `None` waits for ever.
    pub fn invoke_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.invoke_timeout = timeout;
        self
    }

    /// Wraps every handler in a layer. The first layer added is the outermost; outside of all
    /// stands a [`Recover`](crate::middleware::Recover), so that a panic is always answered.
    pub fn layer<T>(self, layer: T) -> Builder<Stack<T, L>> {
        Builder {
            agent_id: self.agent_id,
            asked: self.asked,
            carrier: self.carrier,
            invoke_timeout: self.invoke_timeout,
            layers: Stack::new(layer, self.layers),
            preparers: self.preparers,
            spans: self.spans,
            meter: self.meter,
            #[cfg(feature = "schema")]
            schemas: self.schemas,
        }
    }

    /// Changes every outgoing request and event just before it is sent, in the order added.
    pub fn prepare(mut self, preparer: impl Fn(&mut Envelope) + Send + Sync + 'static) -> Self {
        self.preparers.push(Arc::new(preparer));
        self
    }

    /// Gives the spans of all calls, publishes and handlers to `sink`; see [`crate::telemetry`].
    pub fn spans(mut self, sink: Arc<dyn SpanSink>) -> Self {
        self.spans = Some(sink);
        self
    }

    /// Counts and times what passes over the transport; [`Bus::meter`] shows it.
    pub fn metered(mut self) -> Self {
        self.meter = Some(Arc::default());
        self
    }

    /// Refuses to publish payloads that do not match their schema, also to those who use
    /// [`Bus::transport`] themselves. What arrives from elsewhere is checked by the same registry
    /// as a [`layer`](Self::layer).
    #[cfg(feature = "schema")]
    pub fn schemas(mut self, schemas: Schemas) -> Self {
        self.schemas = schemas;
        self
    }

    /// Opens the transport and makes the bus.
    ///
    /// # Errors
    /// Fails when the agent id is empty, a name cannot be part of a subject, the URL is unknown,
    /// the transport cannot be opened, or it reaches a bus with another prefix than was asked for.
    pub async fn connect(self) -> Result<Bus, Error>
    where
        L: Layer<HandlerService> + Send + Sync + 'static,
        L::Service: Handler + Send + 'static,
        <L::Service as Service<Request>>::Future: Send,
    {
        if self.agent_id.is_empty() {
            return Err(Error::Setup(
                "the agent id is empty; a bus needs a name".to_owned(),
            ));
        }
        // A name that can be no part of a subject is refused before anything is opened.
        self.asked.within(None)?;
        let opened = self.carrier.open(&self.agent_id, &self.asked);
        let (mut transport, space) = opened.await?;
        if let Some(meter) = &self.meter {
            transport = Arc::new(Metered::new(transport, Arc::clone(meter)));
        }
        #[cfg(feature = "schema")]
        if !self.schemas.is_empty() {
            transport = Arc::new(Checked::new(transport, self.schemas));
        }
        Ok(Bus::new(Inner {
            agent_id: self.agent_id,
            space,
            transport,
            invoke_timeout: self.invoke_timeout,
            layers: worker::layers(self.layers),
            preparers: self.preparers,
            spans: self.spans,
            meter: self.meter,
            targets: Targets::default(),
            cancellations: Cancellations::default(),
            deadlines: Deadlines::default(),
            tasks: TaskTracker::new(),
            closed: AtomicBool::new(false),
        }))
    }
}

impl<L> fmt::Debug for Builder<L> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("agent_id", &self.agent_id)
            .finish_non_exhaustive()
    }
}
