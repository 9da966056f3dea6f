//! What waits for one peer, and the write that comes first.
//!
//! Lines are gathered while one read is being routed and then go out in one system call, from
//! where they lie if they are neighbours. Only what the peer does not take at once is queued.
//!
//! The surprising invariant: **whoever queues the first byte wakes the peer's task**, because
//! that task alone waits for room.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::io::Errno;

use super::bell::Bell;
use crate::core::Line;
use crate::framing::Framing;

/// Most that a buffer keeps for its next use.
const KEPT_BYTES: usize = 64 * 1024;

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    sent: usize,
}

#[derive(Debug)]
pub(crate) struct Out {
    /// `None` while nobody is there to write to; lines wait.
    descriptor: Option<Arc<OwnedFd>>,
    framing: Framing,
    queue: VecDeque<Chunk>,
    queued: usize,
    staged: Vec<u8>,
    /// Whether the batch under way knows of this peer.
    noted: bool,
    /// Whether the peer's task ends the batch under way.
    held: bool,
    /// Numbers of waiting bytes that the peer's task has to hear of.
    marks: [usize; 2],
    /// Whether the peer's task has to hear of everything that is sent.
    watched: bool,
    /// Whether the peer is gone.
    broken: bool,
    pub(super) bell: Arc<Bell>,
}

impl Out {
    pub(super) fn new(descriptor: Option<Arc<OwnedFd>>, framing: Framing) -> Self {
        Self {
            descriptor,
            framing,
            queue: VecDeque::new(),
            queued: 0,
            staged: Vec::new(),
            noted: false,
            held: false,
            marks: [usize::MAX; 2],
            watched: false,
            broken: false,
            bell: Arc::default(),
        }
    }

    /// Says at which numbers of waiting bytes the peer's task has to look.
    pub(super) fn mark(&mut self, marks: [usize; 2]) {
        self.marks = marks;
    }

    /// Says that the peer's task has to look after everything that is sent.
    pub(super) fn watch(&mut self) {
        self.watched = true;
    }

    /// Returns how many bytes wait.
    pub(super) fn queued(&self) -> usize {
        self.queued + self.staged.len()
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    pub(super) fn framing(&self) -> Framing {
        self.framing
    }

    /// Tells whether bytes wait for room, rather than for somebody to write to.
    pub(super) fn needs_room(&self) -> bool {
        !self.queue.is_empty() && self.descriptor.is_some() && !self.broken
    }

    pub(super) fn descriptor(&self) -> Option<&Arc<OwnedFd>> {
        self.descriptor.as_ref()
    }

    /// Gives the waiting lines somebody to go to.
    pub(super) fn attach(&mut self, descriptor: Arc<OwnedFd>) {
        self.descriptor = Some(descriptor);
        self.broken = false;
        self.end_batch();
        self.flush();
    }

    /// Lets lines wait from now on, and closes the descriptor.
    pub(super) fn detach(&mut self) {
        self.descriptor = None;
        self.broken = false;
    }

    /// Drops what waits.
    pub(super) fn clear(&mut self) {
        self.queue.clear();
        self.queued = 0;
        self.staged = Vec::new();
        self.held = false;
    }

    /// Marks the peer as gone.
    pub(super) fn break_off(&mut self) {
        self.broken = true;
        self.clear();
        self.bell.ring();
    }

    /// Tells whether the batch under way hears of this peer for the first time.
    pub(super) fn note(&mut self) -> bool {
        !std::mem::replace(&mut self.noted, true)
    }

    /// Copies a line into the batch.
    pub(super) fn stage(&mut self, line: Line<'_>) {
        let parts = match line {
            Line::Same(bytes) | Line::Own(bytes) => [bytes, b"", b""],
            Line::Spliced(before, id, after) => [before, id, after],
        };
        if self.framing == Framing::Length {
            let length: usize = parts.iter().map(|part| part.len()).sum();
            let length = u32::try_from(length).unwrap_or(u32::MAX);
            self.staged.extend_from_slice(&length.to_be_bytes());
        }
        for part in parts {
            self.staged.extend_from_slice(part);
        }
        if self.framing == Framing::Ndjson {
            self.staged.push(b'\n');
        }
    }

    /// Copies neighbouring lines, newlines included, into the batch.
    pub(super) fn stage_run(&mut self, run: &[u8]) {
        self.staged.extend_from_slice(run);
    }

    /// Sends neighbouring lines from where they lie, if nothing is before them.
    pub(super) fn send_run(&mut self, run: &[u8]) {
        if self.broken {
            return;
        }
        if !self.staged.is_empty() || !self.queue.is_empty() || self.descriptor.is_none() {
            return self.stage_run(run);
        }
        let sent = self.write(run);
        if sent < run.len() && !self.broken {
            self.enqueue(run[sent..].to_vec(), 0);
        }
    }

    /// Like [`send_run`](Self::send_run), but keeps the buffer instead of a copy of its rest.
    pub(super) fn send_owned(&mut self, run: Vec<u8>) {
        self.end_batch();
        if self.broken {
            return;
        }
        let free = self.queue.is_empty() && self.descriptor.is_some();
        let sent = if free { self.write(&run) } else { 0 };
        if sent < run.len() && !self.broken {
            self.enqueue(run, sent);
        }
    }

    /// Leaves the end of the batch to the peer's task, so that more can come into it.
    pub(super) fn hold_batch(&mut self) {
        if !self.staged.is_empty() {
            self.held = true;
            self.bell.ring();
        }
    }

    /// Ends the batch if nobody else is to end it.
    pub(super) fn end_batch_unless_held(&mut self) {
        match self.held {
            true => self.noted = false,
            false => self.end_batch(),
        }
    }

    /// Ends the batch that was left to the peer's task.
    pub(super) fn end_held_batch(&mut self) {
        if self.held {
            self.end_batch();
        }
    }

    /// Sends the batch, or queues it behind what waits.
    pub(super) fn end_batch(&mut self) {
        self.noted = false;
        self.held = false;
        if self.staged.is_empty() {
            return;
        }
        let mut staged = std::mem::take(&mut self.staged);
        if self.broken {
            return;
        }
        let free = self.queue.is_empty() && self.descriptor.is_some();
        let sent = if free { self.write(&staged) } else { 0 };
        if sent < staged.len() {
            if !self.broken {
                self.enqueue(staged, sent);
            }
        } else if staged.capacity() <= KEPT_BYTES {
            staged.clear();
            self.staged = staged;
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Some(first) = self.queue.front() {
            if self.descriptor.is_none() || self.broken {
                return;
            }
            let (length, start) = (first.bytes.len(), first.sent);
            let bytes = std::mem::take(&mut self.queue[0].bytes);
            let sent = self.write(&bytes[start..]);
            if self.broken {
                return;
            }
            self.queued -= sent;
            if start + sent < length {
                if let Some(first) = self.queue.front_mut() {
                    first.bytes = bytes;
                    first.sent = start + sent;
                }
                return;
            }
            self.queue.pop_front();
        }
        // A burst must not cost memory for ever.
        self.queue.shrink_to(16);
    }

    fn enqueue(&mut self, bytes: Vec<u8>, sent: usize) {
        let rest = bytes.len() - sent;
        let first = self.queue.is_empty();
        let crossed = |mark: &usize| self.queued <= *mark && self.queued + rest > *mark;
        let crossed = self.marks.iter().any(crossed);
        self.queued += rest;
        match self.queue.back_mut() {
            Some(last) if last.bytes.len() + rest <= KEPT_BYTES => {
                last.bytes.extend_from_slice(&bytes[sent..]);
            }
            _ => self.queue.push_back(Chunk { bytes, sent }),
        }
        if first || crossed {
            self.bell.ring();
        }
    }

    /// Writes as much as there is room for and returns how much that was.
    fn write(&mut self, bytes: &[u8]) -> usize {
        let Some(descriptor) = &self.descriptor else {
            return 0;
        };
        if self.watched {
            self.bell.ring();
        }
        let mut sent = 0;
        while sent < bytes.len() {
            match rustix::io::write(descriptor, &bytes[sent..]) {
                Ok(count) => sent += count,
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break,
                Err(error) => {
                    tracing::debug!(%error, "a peer is gone");
                    self.break_off();
                    break;
                }
            }
        }
        sent
    }
}

#[cfg(test)]
mod tests {
    use rustix::pipe::{PipeFlags, pipe_with};

    use super::*;

    fn pipe() -> (OwnedFd, Arc<OwnedFd>) {
        let (reader, writer) = pipe_with(PipeFlags::NONBLOCK).unwrap();
        (reader, Arc::new(writer))
    }

    fn read(reader: &OwnedFd) -> Vec<u8> {
        let mut all = Vec::new();
        let mut buffer = vec![0; 1 << 20];
        while let Ok(count @ 1..) = rustix::io::read(reader, &mut buffer[..]) {
            all.extend_from_slice(&buffer[..count]);
        }
        all
    }

    #[test]
    fn a_full_pipe_loses_nothing_and_keeps_the_order() {
        let (reader, writer) = pipe();
        let mut out = Out::new(Some(writer), Framing::Ndjson);
        let (big, small) = (vec![b'x'; 200_000], b"small".to_vec());
        out.send_owned([big.as_slice(), b"\n"].concat());
        out.stage(Line::Own(&small));
        out.end_batch();
        out.send_run(b"run\n");
        out.end_batch();
        assert!(out.needs_room());
        let mut got = read(&reader);
        while out.needs_room() {
            out.flush();
            got.extend(read(&reader));
        }
        assert_eq!(got, [big.as_slice(), b"\nsmall\nrun\n"].concat());
        assert_eq!(out.queued(), 0);
    }

    #[test]
    fn lines_wait_for_somebody_to_go_to() {
        let mut out = Out::new(None, Framing::Ndjson);
        out.send_run(b"one\n");
        out.end_batch();
        out.stage(Line::Spliced(b"t", b"w", b"o"));
        out.end_batch();
        assert_eq!((out.queued(), out.needs_room()), (8, false));
        let (reader, writer) = pipe();
        out.attach(writer);
        assert_eq!(read(&reader), b"one\ntwo\n");
    }

    #[test]
    fn a_held_batch_grows_until_it_is_ended() {
        let (reader, writer) = pipe();
        let mut out = Out::new(Some(writer), Framing::Ndjson);
        for line in [b"one", b"two"] {
            out.stage(Line::Own(line));
            out.hold_batch();
            out.end_batch_unless_held();
        }
        assert_eq!((out.queued(), read(&reader).len()), (8, 0));
        out.send_run(b"run\n");
        out.end_batch();
        assert_eq!(read(&reader), b"one\ntwo\nrun\n");
        out.stage(Line::Own(b"next"));
        out.end_batch_unless_held();
        assert_eq!(read(&reader), b"next\n");
    }

    #[test]
    fn a_length_precedes_a_frame() {
        let (reader, writer) = pipe();
        let mut out = Out::new(Some(writer), Framing::Length);
        out.stage(Line::Same(b"{}"));
        out.end_batch();
        assert_eq!(read(&reader), b"\0\0\0\x02{}");
    }

    #[test]
    fn a_peer_that_is_gone_costs_no_memory() {
        let (reader, writer) = pipe();
        drop(reader);
        let mut out = Out::new(Some(writer), Framing::Ndjson);
        out.send_run(b"x\n");
        out.stage(Line::Own(b"y"));
        out.end_batch();
        assert!(out.is_broken());
        assert_eq!(out.queued(), 0);
    }
}
