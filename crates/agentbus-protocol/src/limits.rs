//! Every limit of the wire, with its reason.

/// Longest subject in bytes. NATS refuses protocol lines of 4 KiB; a quarter of that leaves room
/// for the reply subject and the numbers on the same line.
pub const SUBJECT_BYTES_MAX: usize = 1024;

/// Most tokens in a subject or pattern. Bounds the work of one match.
pub const SUBJECT_TOKENS_MAX: usize = 64;

/// Longest event type, target, tenant or prefix in bytes.
pub const NAME_BYTES_MAX: usize = 255;

/// Largest encoded envelope that a reader accepts, in bytes: a 4 MiB payload, which is the
/// limit of the HTTP gateway, plus generous room for the other fields.
pub const ENVELOPE_BYTES_MAX: usize = 5 * 1024 * 1024;

/// Default of the most frames that wait for a missing one while a stream is reassembled.
pub const PENDING_FRAMES_MAX: usize = 256;

/// Default of the distance at which a frame is too far ahead of the next expected one.
pub const SEQUENCE_GAP_MAX: u64 = 1024;
