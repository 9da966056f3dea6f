//! The request that the running task is handling.

use std::future::Future;
use std::sync::Arc;

use agentbus_protocol::Envelope;
use agentbus_transport::Message;

tokio::task_local! {
    static CURRENT: Arc<Message>;
}

/// Runs a handler so that the calls it makes inherit the session and trace of `request`.
pub(crate) fn handling<F: Future>(
    request: Arc<Message>,
    handler: F,
) -> impl Future<Output = F::Output> {
    CURRENT.scope(request, handler)
}

/// Fills the empty context fields of an outgoing envelope from the request being handled, if any.
pub(crate) fn lend_context(outgoing: &mut Envelope) {
    // Outside a handler there is nothing to inherit, which is no error.
    let _ = CURRENT.try_with(|request| outgoing.inherit_call_context(&request.envelope));
}

/// The envelope that the current task is handling.
///
/// Tasks spawned by a handler do not see it; hand them what they need.
#[must_use]
pub fn current() -> Option<Envelope> {
    CURRENT.try_with(|request| request.envelope.clone()).ok()
}
