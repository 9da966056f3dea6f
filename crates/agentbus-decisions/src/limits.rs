//! Every limit of this crate, with its reason.

/// Questions that wait for a person: 256.
///
/// A person reads a handful; askers that ask more than this are not waiting for one.
pub const DECISIONS_OPEN: usize = 256;

/// Closed questions that are remembered, so that a second answer is told that it came second: 1024.
pub const DECISIONS_CLOSED: usize = 1024;

/// Events of questions that wait for the bus: 1024, which is each question twice and room to spare.
pub const ANNOUNCEMENTS_WAITING: usize = 1024;

/// Bytes of the schema of a form: 64 KiB.
///
/// A form is a page that a person reads.
pub const FORM_BYTES: usize = 64 * 1024;

/// Fields of a form: 64, for the same reason.
pub const FORM_FIELDS: usize = 64;

/// Bytes of what is filled into a form: 256 KiB; a text that somebody pastes fits.
pub const CONTENT_BYTES: usize = 256 * 1024;

/// Bytes that the patterns of a form's schema may take when they are compiled: 1 MiB each.
///
/// They come from a peer, and are matched in time that grows with the text and with nothing else.
pub const PATTERN_BYTES: usize = 1024 * 1024;

/// Bytes of an address that a person is sent to: 8 KiB, as much as servers take.
pub const URL_BYTES: usize = 8 * 1024;

/// Problems of one answer that are told at a time: 5.
pub const PROBLEMS_MAX: usize = 5;
