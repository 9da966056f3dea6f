//! Cuts a byte stream into messages, in linear time and bounded memory.
//!
//! Bytes come in chunks from a buffer that all connections share. A message that lies whole in a
//! chunk is handed out in place; only the part of a message at the end of a chunk is kept, so an
//! idle connection owns no buffer. No byte is searched twice for a newline.
//!
//! It looks at nothing but newlines or lengths: NUL bytes and broken UTF-8 are the scanner's
//! affair. The surprising invariant: **the newline counts**, a line of `max_input_buffer` bytes
//! is one byte too long.

use std::ops::Range;

use crate::limits::READ_BUFFER_BYTES;

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// One message a line.
    #[default]
    Ndjson,
    /// Four bytes of length, the highest first, in front of each message.
    Length,
}

/// What the decoder found.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A message that lies in the chunk, without its newline or length.
    Here(Range<usize>),
    /// A message put together over several chunks, without its newline or length.
    Assembled(Vec<u8>),
    /// A message longer than allowed; nothing after it can be trusted.
    TooLarge,
    /// The chunk is used up.
    More,
}

/// Cuts one connection's bytes into messages.
#[derive(Debug)]
pub struct Decoder {
    framing: Framing,
    limit: usize,
    partial: Vec<u8>,
    /// Bytes of the last message that came in several chunks.
    assembled: usize,
    /// Length mode only: bytes the message under way still lacks, once its length is known.
    missing: Option<usize>,
}

impl Decoder {
    /// Starts at a message boundary. `limit` counts the newline of a line.
    #[must_use]
    pub fn new(framing: Framing, limit: usize) -> Self {
        Self {
            framing,
            limit,
            partial: Vec::new(),
            assembled: 0,
            missing: None,
        }
    }

    /// Returns how messages are told apart.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Tells whether a message has begun and not ended.
    #[must_use]
    pub fn in_message(&self) -> bool {
        !self.partial.is_empty() || self.missing.is_some()
    }

    /// Finds the next message of `chunk` from `position` on, and moves `position` past it.
    ///
    /// Call it with the same chunk until it says [`Frame::More`]; by then the rest is kept.
    pub fn next(&mut self, chunk: &[u8], position: &mut usize) -> Frame {
        match self.framing {
            Framing::Ndjson => self.next_line(chunk, position),
            Framing::Length => self.next_sized(chunk, position),
        }
    }

    /// Hands out a line that ended with the stream instead of a newline.
    pub fn finish(&mut self) -> Option<Vec<u8>> {
        let rest = std::mem::take(&mut self.partial);
        (self.framing == Framing::Ndjson && !rest.is_empty()).then_some(rest)
    }

    fn next_line(&mut self, chunk: &[u8], position: &mut usize) -> Frame {
        let start = *position;
        let rest = &chunk[start..];
        let found = memchr::memchr(b'\n', rest);
        let length = found.unwrap_or(rest.len());
        if self.partial.len() + length >= self.limit && (found.is_some() || !rest.is_empty()) {
            return self.refuse();
        }
        *position = start + length + usize::from(found.is_some());
        if found.is_none() {
            self.keep(rest);
            return Frame::More;
        }
        if self.partial.is_empty() {
            return Frame::Here(start..start + length);
        }
        self.keep(&rest[..length]);
        self.assemble()
    }

    fn next_sized(&mut self, chunk: &[u8], position: &mut usize) -> Frame {
        let missing = match self.missing {
            Some(missing) => missing,
            None => match self.read_length(chunk, position) {
                Some(length) if length > self.limit => return self.refuse(),
                Some(length) => length,
                None => return Frame::More,
            },
        };
        let start = *position;
        let available = chunk.len() - start;
        if available < missing {
            self.keep(&chunk[start..]);
            self.missing = Some(missing - available);
            *position = chunk.len();
            return Frame::More;
        }
        *position = start + missing;
        self.missing = None;
        if self.partial.is_empty() {
            return Frame::Here(start..start + missing);
        }
        self.keep(&chunk[start..start + missing]);
        self.assemble()
    }

    /// Keeps a part of a message.
    ///
    /// Who has sent a long message mostly sends another, so one that is known to be longer than a
    /// chunk is given the room of the last at once: growing step by step copies it at each step, and
    /// leaves as much again free.
    fn keep(&mut self, part: &[u8]) {
        let held = self.partial.len() + part.len();
        if held >= READ_BUFFER_BYTES && held > self.partial.capacity() {
            // With the newline, which is put back in the end.
            let like_the_last = (self.assembled + 1).saturating_sub(self.partial.len());
            self.partial.reserve(like_the_last.max(part.len()));
        }
        self.partial.extend_from_slice(part);
    }

    fn assemble(&mut self) -> Frame {
        self.assembled = self.partial.len();
        Frame::Assembled(std::mem::take(&mut self.partial))
    }

    /// Collects the four bytes of a length, which may lie in two chunks.
    fn read_length(&mut self, chunk: &[u8], position: &mut usize) -> Option<usize> {
        let take = (4 - self.partial.len()).min(chunk.len() - *position);
        self.partial
            .extend_from_slice(&chunk[*position..*position + take]);
        *position += take;
        let bytes: [u8; 4] = self.partial.as_slice().try_into().ok()?;
        self.partial = Vec::new();
        // A length that does not fit the machine's word is too large anyway.
        Some(usize::try_from(u32::from_be_bytes(bytes)).unwrap_or(usize::MAX))
    }

    fn refuse(&mut self) -> Frame {
        self.partial = Vec::new();
        self.assembled = 0;
        self.missing = None;
        Frame::TooLarge
    }
}
