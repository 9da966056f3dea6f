//! Every limit of the MCP gateway, with its reason.

use std::time::Duration;

/// Most entries of one kind in a catalogue: a client reads all of them into its model's context,
/// which holds far fewer.
pub const CATALOG_MAX: usize = 1024;

/// Entries on a page of a list. The short list of tools fits on one.
pub const PAGE: usize = 100;

/// Most values that a completion offers; the protocol allows no more.
pub const COMPLETIONS_MAX: usize = 100;

/// Most changes that wait for one listener. A listener that falls behind is told once more about
/// everything it listens to, so none is lost.
pub const CHANGES: usize = 1024;

/// Most resources that one session or stream listens to.
pub const SUBSCRIPTIONS_MAX: usize = 1024;

/// Most sessions over HTTP. An idle one costs a task and some ten kilobytes.
pub const SESSIONS_MAX: usize = 4096;

/// How long a session without an open stream is kept. Editors open a new one when it is gone.
pub const SESSION_IDLE: Duration = Duration::from_secs(30 * 60);

/// How often idle sessions are looked for.
pub const SWEEP: Duration = Duration::from_secs(60);

/// Largest request: messages with embedded images stay below it.
pub const REQUEST_BYTES_MAX: usize = 8 * 1024 * 1024;

/// How long the answer to a question may take: a person answers it.
pub const ASK_TIMEOUT: Duration = Duration::from_secs(3600);

/// How long the sealed state of a call that waits for an answer is good.
pub const STATE_TTL: Duration = Duration::from_secs(3600);

/// Most questions that one call may have answered: what a client sends back is bounded by it.
pub const ASKS_MAX: usize = 64;

/// How often a call that waits tells so, if its client asked for progress. Below the timeouts of
/// the usual clients, which begin at 30 s.
pub const PROGRESS_INTERVAL: Duration = Duration::from_secs(10);

/// Most messages that wait to be read by one client of the older transport.
pub const PIPE: usize = 256;

/// Most streams and event subscriptions that tools keep open between calls.
pub const HANDLES_MAX: usize = 1024;

/// How long such a handle is kept without a call.
pub const HANDLE_IDLE: Duration = Duration::from_secs(10 * 60);

/// Most frames or events that one call returns: more would fill a model's context.
pub const ITEMS_MAX: usize = 200;

/// Most events that wait for one handle; beyond it the oldest are dropped and the caller is told.
pub const EVENT_QUEUE: usize = 1024;

/// Longest wait of a tool for frames or events.
pub const WAIT_MAX: Duration = Duration::from_secs(300);

/// Bytes of uploaded images that come along with the messages of one answer: 8 MiB.
///
/// One of the largest that can be uploaded and a few more, before they are written as base64, which
/// takes a third more; what a model is given in one answer has to end somewhere.
pub const IMAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// Characters of a name, an id or a sentence in a span: spans wait in memory to be collected, and
/// clients choose the texts.
pub const SPAN_TEXT_MAX: usize = 256;

/// Messages of a transcript.
pub const TRANSCRIPT_MAX: usize = 10_000;
