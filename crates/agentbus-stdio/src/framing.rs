//! Takes a stream of bytes apart into messages.
//!
//! It works in linear time whatever the sizes of the pieces are, holds a buffer only while it
//! holds part of a message, and hands out messages that lie whole in the input without a copy.

use crate::config::Framing;
use crate::limits::IDLE_BUFFER_BYTES;

/// Takes one connection's bytes apart.
#[derive(Debug)]
pub struct Splitter {
    framing: Framing,
    /// Longest message, line end or length included.
    max: usize,
    partial: Vec<u8>,
}

/// The message is longer than allowed; the connection cannot go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TooLong {
    /// A line.
    #[error("Message too large")]
    Line,
    /// A frame with a length before it.
    #[error("Frame too large")]
    Frame,
}

impl Splitter {
    /// Makes a splitter for messages of at most `max` bytes.
    #[must_use]
    pub const fn new(framing: Framing, max: usize) -> Self {
        Self {
            framing,
            max,
            partial: Vec::new(),
        }
    }

    /// Whether part of a message waits for its rest.
    #[must_use]
    pub fn has_partial(&self) -> bool {
        !self.partial.is_empty()
    }

    /// Takes bytes and calls `message` for each message that they complete, without its line end
    /// or length. Empty lines are no messages.
    ///
    /// # Errors
    /// Fails when a message is longer than allowed, after all messages before it.
    pub fn feed(&mut self, bytes: &[u8], message: impl FnMut(&[u8])) -> Result<(), TooLong> {
        match self.framing {
            Framing::Ndjson => self.feed_lines(bytes, message),
            Framing::Length => self.feed_frames(bytes, message),
        }
    }

    fn feed_lines(
        &mut self,
        mut bytes: &[u8],
        mut message: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            let (line, rest) = bytes.split_at(end);
            bytes = &rest[1..];
            if self.partial.len() + line.len() + 1 > self.max {
                return Err(TooLong::Line);
            }
            if self.partial.is_empty() {
                if !line.is_empty() && line != b"\r" {
                    message(line);
                }
                continue;
            }
            self.partial.extend_from_slice(line);
            if self.partial != b"\r" {
                message(&self.partial);
            }
            self.reset();
        }
        self.partial.extend_from_slice(bytes);
        // A rest that is as long as the limit already has no room for its line end.
        if self.partial.len() >= self.max && !self.partial.is_empty() {
            return Err(TooLong::Line);
        }
        Ok(())
    }

    fn feed_frames(
        &mut self,
        mut bytes: &[u8],
        mut message: impl FnMut(&[u8]),
    ) -> Result<(), TooLong> {
        loop {
            let whole = if self.partial.is_empty() {
                bytes
            } else {
                &self.partial
            };
            let Some(need) = self.frame_length(whole)? else {
                // Fewer than four bytes in all; one more at a time until the length is known.
                let Some((byte, rest)) = bytes.split_first() else {
                    return Ok(());
                };
                self.partial.push(*byte);
                bytes = rest;
                continue;
            };
            if self.partial.is_empty() {
                if bytes.len() < need {
                    self.partial.extend_from_slice(bytes);
                    return Ok(());
                }
                message(&bytes[4..need]);
                bytes = &bytes[need..];
                continue;
            }
            let missing = need.saturating_sub(self.partial.len()).min(bytes.len());
            self.partial.extend_from_slice(&bytes[..missing]);
            bytes = &bytes[missing..];
            if self.partial.len() < need {
                return Ok(());
            }
            message(&self.partial[4..need]);
            self.reset();
        }
    }

    /// The length of the frame that `bytes` begin, its own four bytes included.
    fn frame_length(&self, bytes: &[u8]) -> Result<Option<usize>, TooLong> {
        let Some(length) = bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        if length > self.max {
            return Err(TooLong::Frame);
        }
        Ok(Some(length + 4))
    }

    fn reset(&mut self) {
        self.partial.clear();
        self.partial.shrink_to(IDLE_BUFFER_BYTES);
    }
}

#[cfg(test)]
mod tests {
    #![allow(
        clippy::unwrap_used,
        reason = "a test that cannot go on should say where"
    )]

    use proptest::prelude::*;

    use super::*;

    fn split(
        framing: Framing,
        max: usize,
        pieces: &[&[u8]],
    ) -> (Vec<Vec<u8>>, Result<(), TooLong>) {
        let mut splitter = Splitter::new(framing, max);
        let mut messages = Vec::new();
        for piece in pieces {
            if let Err(error) = splitter.feed(piece, |message| messages.push(message.to_vec())) {
                return (messages, Err(error));
            }
        }
        (messages, Ok(()))
    }

    #[test]
    fn the_limit_counts_the_line_end() {
        let line = [b'x'; 9];
        let (messages, outcome) = split(Framing::Ndjson, 10, &[&line, b"\n"]);
        assert_eq!((messages.len(), outcome), (1, Ok(())));
        let (messages, outcome) = split(Framing::Ndjson, 10, &[b"a\n", &[b'x'; 10]]);
        assert_eq!((messages.len(), outcome), (1, Err(TooLong::Line)));
        let (_, outcome) = split(Framing::Length, 10, &[&[0, 0, 0, 11]]);
        assert_eq!(outcome, Err(TooLong::Frame));
    }

    #[test]
    fn empty_lines_are_no_messages() {
        let (messages, _) = split(Framing::Ndjson, 100, &[b"\n\r\n", b"\r", b"\n{}\r\n"]);
        assert_eq!(messages, [b"{}\r".to_vec()]);
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            messages in prop::collection::vec(prop::collection::vec(32_u8..127, 1..40), 0..12),
            cuts in prop::collection::vec(1_usize..17, 1..60),
            length in any::<bool>(),
        ) {
            let framing = if length { Framing::Length } else { Framing::Ndjson };
            let mut bytes = Vec::new();
            for message in &messages {
                if length {
                    bytes.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
                    bytes.extend_from_slice(message);
                } else {
                    bytes.extend_from_slice(message);
                    bytes.push(b'\n');
                }
            }
            let (mut pieces, mut rest) = (Vec::new(), bytes.as_slice());
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, left) = rest.split_at((*cut).min(rest.len()));
                pieces.push(piece);
                rest = left;
            }
            let (found, outcome) = split(framing, 64, &pieces);
            prop_assert_eq!(outcome, Ok(()));
            prop_assert_eq!(found, messages);
        }
    }
}
