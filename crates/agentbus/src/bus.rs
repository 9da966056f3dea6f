//! The bus itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use agentbus_protocol::{
    Envelope, Payload, PayloadError, Subject, SubjectError, SubjectSpace, Text, TraceParent,
};
use agentbus_transport::{Drained, Message, Transport};
use serde::Serialize;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tower::Layer;

use crate::cancel::Cancellations;
use crate::deadline::Deadlines;
use crate::handler::{FunctionService, HandlerService, IntoReply, Request};
use crate::meter::Meter;
use crate::middleware::Recover;
use crate::serve::Handle;
use crate::targets::{TargetInfo, Targets};
use crate::telemetry::{SpanSink, Spans};
use crate::worker::Layers;
use crate::{
    Builder, Error, Invoke, Publish, StreamCall, StreamWriter, SubscribeBuilder, TopicRequest,
    limits,
};

/// A function that changes every outgoing request and event just before it is sent.
pub(crate) type Preparer = Arc<dyn Fn(&mut Envelope) + Send + Sync>;

/// One agent's end of the bus. Cloning is cheap and gives another handle to the same end.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), agentbus::Error> {
/// use agentbus::{Bus, Request};
/// use serde_json::json;
///
/// let bus = Bus::builder("demo").connect().await?;
/// bus.handle("echo", |request: Request| async move { Ok(request.payload().cloned()) }).await?;
/// let reply = bus.invoke("echo", &json!({ "msg": "hello" })).await?;
/// assert_eq!(reply.payload.unwrap().as_str(), r#"{"msg":"hello"}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Bus(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) agent_id: Text,
    pub(crate) space: SubjectSpace,
    pub(crate) transport: Arc<dyn Transport>,
    pub(crate) invoke_timeout: Option<Duration>,
    pub(crate) layers: Layers,
    pub(crate) preparers: Vec<Preparer>,
    pub(crate) spans: Option<Arc<dyn SpanSink>>,
    pub(crate) meter: Option<Arc<Meter>>,
    pub(crate) targets: Targets,
    pub(crate) cancellations: Cancellations,
    pub(crate) deadlines: Deadlines,
    /// Every task that the bus spawns; `close` waits for all of them.
    pub(crate) tasks: TaskTracker,
    pub(crate) closed: AtomicBool,
}

impl Bus {
    /// Begins a bus for the agent of this name; it travels as `from` in what the bus sends.
    pub fn builder(agent_id: impl Into<Text>) -> Builder {
        Builder::new(agent_id.into())
    }

    pub(crate) fn new(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    pub(crate) fn inner(&self) -> &Inner {
        &self.0
    }

    /// The agent id.
    #[must_use]
    pub fn agent_id(&self) -> &str {
        &self.0.agent_id
    }

    pub(crate) fn agent_id_text(&self) -> &Text {
        &self.0.agent_id
    }

    /// The subjects that this bus publishes to and listens on.
    #[must_use]
    pub fn subjects(&self) -> &SubjectSpace {
        &self.0.space
    }

    /// The transport underneath.
    #[must_use]
    pub fn transport(&self) -> &Arc<dyn Transport> {
        &self.0.transport
    }

    /// The figures of the transport, if the bus was built with a meter.
    #[must_use]
    pub fn meter(&self) -> Option<&Arc<Meter>> {
        self.0.meter.as_ref()
    }

    /// A new trace for a call or publish that has none. `None` when this bus collects spans: their
    /// first span is then the root, and another would have a parent that nobody has seen.
    #[must_use]
    pub fn begin_trace(&self) -> Option<TraceParent> {
        self.0.spans.is_none().then(crate::mint::trace)
    }

    /// Begins the spans of what a gateway serves; they go where those of this bus go.
    #[must_use]
    pub fn spans(&self) -> Spans {
        Spans::of(self.0.spans.as_ref())
    }

    /// Publishes an event. Await it, or refine it first.
    pub fn publish(
        &self,
        event_type: impl Into<Text>,
        payload: &(impl Serialize + ?Sized),
    ) -> Publish<'_> {
        Publish::new(self, event_type.into(), Payload::from_value(payload))
    }

    /// Publishes an event whose payload is JSON already.
    pub fn publish_payload(
        &self,
        event_type: impl Into<Text>,
        payload: Option<Payload>,
    ) -> Publish<'_> {
        Publish::new(self, event_type.into(), Ok(payload))
    }

    /// Subscribes to events; the pattern may hold `*` and `>`.
    pub fn subscribe(&self, pattern: impl Into<Text>) -> SubscribeBuilder<'_> {
        SubscribeBuilder::new(self, pattern.into())
    }

    /// Calls a target and waits for its one reply.
    pub fn invoke(
        &self,
        target: impl Into<Text>,
        payload: &(impl Serialize + ?Sized),
    ) -> Invoke<'_> {
        Invoke::new(self, target.into(), Payload::from_value(payload))
    }

    /// Calls a target with a payload that is JSON already.
    pub fn invoke_payload(&self, target: impl Into<Text>, payload: Option<Payload>) -> Invoke<'_> {
        Invoke::new(self, target.into(), Ok(payload))
    }

    /// Calls a target and reads its reply frame by frame.
    pub fn stream(
        &self,
        target: impl Into<Text>,
        payload: &(impl Serialize + ?Sized),
    ) -> StreamCall<'_> {
        StreamCall::new(self, target.into(), Payload::from_value(payload))
    }

    /// Streams from a target with a payload that is JSON already.
    pub fn stream_payload(
        &self,
        target: impl Into<Text>,
        payload: Option<Payload>,
    ) -> StreamCall<'_> {
        StreamCall::new(self, target.into(), Ok(payload))
    }

    /// Asks whoever subscribes to a topic and waits for the first reply.
    pub fn request(
        &self,
        topic: impl Into<Text>,
        payload: &(impl Serialize + ?Sized),
    ) -> TopicRequest<'_> {
        TopicRequest::new(self, topic.into(), Payload::from_value(payload))
    }

    /// Replies to a message that was sent with [`request`](Self::request).
    ///
    /// # Errors
    /// Fails when the message wants no reply, when the requester has left, or when the carrier
    /// fails.
    pub async fn reply(
        &self,
        request: &Envelope,
        payload: &(impl Serialize + ?Sized),
    ) -> Result<(), Error> {
        let payload = Payload::from_value(payload)?;
        crate::answer::reply(self, request, crate::Reply::from(payload)).await
    }

    /// Serves a target: every request gets the one reply that the function returns.
    ///
    /// When this returns, the target is served. Several handlers of one target share its
    /// requests. Await it, or refine it first.
    pub fn handle<F, Fut, R>(&self, target: impl Into<Text>, handler: F) -> Handle<'_>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<R, Error>> + Send + 'static,
        R: IntoReply + 'static,
    {
        let service = recovered(handler);
        Handle::new(self, target.into(), service)
    }

    /// Serves a target with a tower service of your own making.
    pub fn handle_service(&self, target: impl Into<Text>, service: HandlerService) -> Handle<'_> {
        Handle::new(self, target.into(), service)
    }

    /// Serves a target with streamed replies.
    ///
    /// A function that returns without having ended the stream ends it: with an empty final frame
    /// after `Ok`, with an error frame after `Err`.
    pub fn handle_stream<F, Fut>(&self, target: impl Into<Text>, handler: F) -> Handle<'_>
    where
        F: Fn(Request, StreamWriter) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let handler = Arc::new(handler);
        let streaming = move |request: Request| {
            let handler = Arc::clone(&handler);
            async move {
                let writer = request.stream().cloned().ok_or(Error::NoReplyTo)?;
                handler(request, writer).await
            }
        };
        let service = recovered(streaming);
        Handle::new(self, target.into(), service).streaming()
    }

    /// Runs a function for every event that matches; one at a time and in order unless told
    /// otherwise.
    pub fn on<F, Fut>(&self, pattern: impl Into<Text>, handler: F) -> Handle<'_>
    where
        F: Fn(Request) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Error>> + Send + 'static,
    {
        let service = recovered(handler);
        Handle::new(self, pattern.into(), service).events()
    }

    /// Tells the handlers of a request that its caller has left, so that they stop. Calls made
    /// through this bus do so by themselves; this is for gateways that pass on requests of others.
    pub fn cancel(&self, request: &Message) {
        crate::cancel::send(self, request);
    }

    /// Who serves what on this bus.
    #[must_use]
    pub fn targets(&self) -> Vec<TargetInfo> {
        self.0.targets.list()
    }

    /// Closes the bus: takes no new requests, lets running handlers finish for at most `drain`,
    /// cancels the rest, and closes the transport. Calling it again is harmless.
    pub async fn close(&self, drain: Duration) -> Drained {
        self.0.closed.store(true, Ordering::Release);
        let deadline = agentbus_transport::clock::moment_in(drain);
        self.0.targets.stop_all();
        self.0.tasks.close();
        if tokio::time::timeout_at(deadline, self.0.tasks.wait())
            .await
            .is_err()
        {
            // The workers first, or each would start its next message in the place that is freed.
            self.0.targets.abort_all();
            self.0.cancellations.cancel_all();
            // Their callers hear of it before the transport, which tells them, is gone.
            self.0.tasks.wait().await;
        }
        // Not earlier: a caller that gives up meanwhile is nobody a handler should be awaited for.
        self.0.cancellations.stop().await;
        let left = deadline.saturating_duration_since(Instant::now());
        let drained = self.0.transport.close(left).await;
        self.0.tasks.wait().await;
        drained
    }

    /// [`close`](Self::close) with the default drain time.
    pub async fn shutdown(&self) -> Drained {
        self.close(limits::CLOSE_DRAIN).await
    }

    /// Resolves the subject of an outgoing envelope, in the envelope's own tenant if it names one.
    pub(crate) fn subject(
        &self,
        envelope: &Envelope,
        resolve: impl FnOnce(&SubjectSpace, &Envelope) -> Result<Subject, SubjectError>,
    ) -> Result<Subject, Error> {
        let space = &self.0.space;
        let tenant = &envelope.context.tenant_id;
        if tenant.is_empty() || tenant == space.tenant() {
            return Ok(resolve(space, envelope)?);
        }
        Ok(resolve(&space.with_tenant(tenant)?, envelope)?)
    }

    /// Completes an outgoing envelope: sender, tenant, inherited context, preparers.
    pub(crate) fn prepare(&self, envelope: &mut Envelope) {
        if envelope.from.is_empty() {
            envelope.from = agentbus_protocol::copied(&self.0.agent_id);
        }
        if envelope.context.tenant_id.is_empty() && !self.0.space.tenant().is_empty() {
            envelope.context.edit().tenant_id = self.0.space.tenant().into();
        }
        crate::current::lend_context(envelope);
        for preparer in &self.0.preparers {
            preparer(envelope);
        }
    }

    /// Fails when the bus was closed, except for a handler that finishes what was accepted before
    /// and may need others for it.
    pub(crate) fn check_open(&self) -> Result<(), Error> {
        if self.0.closed.load(Ordering::Acquire) && !crate::current::is_handling() {
            return Err(agentbus_transport::TransportError::Closed.into());
        }
        Ok(())
    }
}

/// Makes a service of a handler. Its panic is an error to every layer, so that it is logged, tried
/// again and buried like any other; the bus's outermost layer only catches those of the layers.
fn recovered<F, Fut, R>(handler: F) -> HandlerService
where
    F: Fn(Request) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<R, Error>> + Send + 'static,
    R: IntoReply + 'static,
{
    HandlerService::new(Recover.layer(FunctionService(Arc::new(handler))))
}

/// A payload that may have failed to be written; the failure surfaces when the call is made.
pub(crate) type PreparedPayload = Result<Option<Payload>, PayloadError>;

impl fmt::Debug for Bus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bus")
            .field("agent_id", &self.0.agent_id)
            .field("transport", &self.0.transport.capabilities().name)
            .finish_non_exhaustive()
    }
}
