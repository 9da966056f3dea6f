//! Every limit of the HTTP host, with its reason.

use std::time::Duration;

/// Largest request body: the limit that peers of the HTTP adapter already know.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most connections at a time; each idle one costs a few kilobytes.
pub const CONNECTIONS_MAX: usize = 10_000;

/// How long a client may take to send its request line and headers.
pub const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a request that are held before they are taken: enough for any sensible headers.
/// Every connection may make the host hold so much before it has shown a token.
pub const READ_BUFFER_BYTES: usize = 64 * 1024;

/// How long a client may take to send its body, as a whole.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a client may leave what it is sent unread, before its connection is cut and its place
/// is free again.
pub const UNREAD_TIMEOUT: Duration = Duration::from_secs(60);

/// What a connection that is cut off may still take to send its last event.
pub const LAST_WORDS: Duration = Duration::from_millis(500);

/// Most queues that have figures of their own; the rest are added up. Monitoring systems keep each
/// for as long as they remember.
pub const METRIC_SERIES_MAX: usize = 1000;

/// How long a browser stays signed in.
pub const SESSION_TTL: Duration = Duration::from_secs(12 * 3600);

/// Longest silence of an event stream before a comment line proves that it lives. Below the
/// idle timeouts of the usual proxies, which begin at 30 s.
pub const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a stream's reader is told to wait before it connects again, in milliseconds.
pub const SSE_RETRY_MS: u64 = 3000;

/// Bytes of events that are joined into one piece of a body; about a read of most clients.
pub const SSE_PIECE_BYTES: usize = 16 * 1024;

/// How many dead letters are listed or redriven at a time unless more are asked for.
pub const DEAD_LETTERS_PAGE: usize = 100;

/// Most dead letters that are listed or redriven at a time; whoever asked waits for all of them.
pub const DEAD_LETTERS_PAGE_MAX: usize = 1000;

/// Most events that wait for one reader of `GET /v1/events`; beyond it the oldest are dropped
/// and the reader is told how many.
pub const EVENT_QUEUE: usize = 1024;

/// Most lines of the log that are kept for those who look at it from elsewhere, as in AgentChatBus.
pub const LOG_LINES: usize = 2000;

/// Longest of these lines; more of it is on standard error.
pub const LOG_LINE_BYTES_MAX: usize = 4096;

/// Most outcomes that are kept for repeated `Idempotency-Key`s.
pub const IDEMPOTENCY_KEYS_MAX: usize = 10_000;

/// Most bytes that all kept outcomes together occupy; the oldest are forgotten beyond it.
pub const IDEMPOTENCY_BYTES_MAX: usize = 64 * 1024 * 1024;

/// How long an outcome is kept for a repeated `Idempotency-Key`.
pub const IDEMPOTENCY_TTL: Duration = Duration::from_secs(600);

/// Longest `Idempotency-Key` in bytes.
pub const IDEMPOTENCY_KEY_BYTES_MAX: usize = 255;

/// How long a client may take to say `hello` on a WebSocket.
pub const HELLO_TIMEOUT: Duration = Duration::from_secs(5);

/// Most frames that wait to be written to one WebSocket.
pub const WS_OUTGOING: usize = 256;

/// Most messages that wait to be written to one editor; the rest waits in the log of its session.
pub const ACP_OUTGOING: usize = 64;

/// How long a console link can be used.
pub const CONSOLE_LINK_TTL: Duration = Duration::from_secs(600);

/// Most browser sessions; the oldest is signed out beyond it.
pub const SESSIONS_MAX: usize = 64;

/// Most events of a batch of CloudEvents: a batch is published one by one, and its sender waits.
pub const CLOUD_EVENT_BATCH: usize = 1000;

/// Most attributes of a CloudEvent beside the required ones; each stands in the metadata.
pub const CLOUD_EVENT_ATTRIBUTES: usize = 64;

/// Most bytes that the attributes of a CloudEvent take as headers of an answer; beyond it the answer
/// is structured. About what the strictest clients and proxies read.
pub const CLOUD_EVENT_HEADER_BYTES: usize = 8 * 1024;

/// The shortest and the longest pause before an event of a conversation is given again to a
/// carrier that could not take it.
pub const CARRIER_RETRY: (Duration, Duration) =
    (Duration::from_millis(50), Duration::from_secs(10));
