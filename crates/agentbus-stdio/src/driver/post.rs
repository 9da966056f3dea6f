//! The outlet of the core: gathers lines per peer while one chunk is routed.
//!
//! Neighbouring lines of the chunk for one peer form a *run*, which is not copied unless
//! something else for that peer comes between.

use std::collections::VecDeque;
use std::ops::Range;
use std::task::Waker;

use bytes::Bytes;

use super::out::Out;
use crate::core::{ClientId, Line, Outlet, WorkerId};
use crate::framing::Framing;

/// What leads to a client.
#[derive(Debug)]
pub(crate) enum Mouth {
    /// A connection.
    Wire(Out),
    /// A call from our own process.
    Call(Inbox),
}

/// What a call has been sent and has not taken.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    pub(crate) lines: VecDeque<Bytes>,
    pub(crate) bytes: usize,
    pub(crate) waker: Option<Waker>,
}

/// A peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    Worker(WorkerId),
    Client(ClientId),
}

/// The peers' queues.
#[derive(Debug, Default)]
pub(crate) struct Mouths {
    pub(super) workers: Vec<Out>,
    /// By slot; the core never names a client that has left.
    pub(super) clients: Vec<Option<Mouth>>,
    dirty: Vec<Peer>,
}

/// Gathers the lines of one chunk.
#[derive(Debug)]
pub(crate) struct Post<'a> {
    mouths: &'a mut Mouths,
    source: &'a [u8],
    /// The line being routed, with its newline, if it may be sent from where it lies.
    at: Option<Range<usize>>,
    run: Option<(Peer, Range<usize>)>,
}

impl Mouths {
    pub(super) fn new(workers: Vec<Out>) -> Self {
        Self {
            workers,
            ..Self::default()
        }
    }

    pub(super) fn out(&mut self, peer: Peer) -> Option<&mut Out> {
        match peer {
            Peer::Worker(id) => self.workers.get_mut(id.0 as usize),
            Peer::Client(id) => match self.clients.get_mut(id.slot as usize)? {
                Some(Mouth::Wire(out)) => Some(out),
                _ => None,
            },
        }
    }

    pub(super) fn client(&mut self, id: ClientId) -> Option<&mut Mouth> {
        self.clients.get_mut(id.slot as usize)?.as_mut()
    }

    pub(super) fn wire(&mut self, id: ClientId) -> Option<&mut Out> {
        self.out(Peer::Client(id))
    }

    pub(super) fn inbox(&mut self, id: ClientId) -> Option<&mut Inbox> {
        match self.client(id)? {
            Mouth::Call(inbox) => Some(inbox),
            Mouth::Wire(_) => None,
        }
    }

    pub(super) fn place(&mut self, id: ClientId, mouth: Option<Mouth>) {
        let slot = id.slot as usize;
        if self.clients.len() <= slot {
            self.clients.resize_with(slot + 1, || None);
        }
        self.clients[slot] = mouth;
    }

    /// Starts gathering lines that are not part of a chunk.
    pub(super) fn post(&mut self) -> Post<'_> {
        self.post_from(&[])
    }

    /// Starts gathering the lines of a chunk.
    pub(super) fn post_from<'a>(&'a mut self, source: &'a [u8]) -> Post<'a> {
        Post {
            mouths: self,
            source,
            at: None,
            run: None,
        }
    }
}

impl Post<'_> {
    /// Says which line of the chunk is routed next; `None` if it cannot be sent in place.
    pub(super) fn now_at(&mut self, at: Option<Range<usize>>) {
        self.at = at;
    }

    /// Sends everything.
    pub(super) fn finish(mut self) {
        if let Some((peer, range)) = self.run.take()
            && let Some(out) = self.mouths.out(peer)
        {
            out.send_run(&self.source[range]);
        }
        self.end_batches();
    }

    /// Sends everything but what is for a worker, whose task is told to.
    pub(super) fn finish_later(self, worker: WorkerId) {
        if let Some(out) = self.mouths.workers.get_mut(worker.0 as usize) {
            out.hold_batch();
        }
        self.finish();
    }

    /// Sends everything, unless the whole chunk is a run for one peer: then returns that peer,
    /// whose queue may have the chunk's buffer itself.
    pub(super) fn finish_unless_whole(mut self) -> Option<Peer> {
        match self.run.take() {
            Some((peer, range)) if range == (0..self.source.len()) => {
                self.end_batches();
                Some(peer)
            }
            run => {
                self.run = run;
                self.finish();
                None
            }
        }
    }

    fn end_batches(&mut self) {
        let mut dirty = std::mem::take(&mut self.mouths.dirty);
        for peer in dirty.drain(..) {
            if let Some(out) = self.mouths.out(peer) {
                out.end_batch_unless_held();
            }
        }
        self.mouths.dirty = dirty;
    }

    fn send(&mut self, peer: Peer, line: Line<'_>) {
        let Some(framing) = self.mouths.out(peer).map(|out| out.framing()) else {
            return self.deliver(peer, line);
        };
        if let (Line::Same(_), Some(at), Framing::Ndjson) = (line, self.at.clone(), framing) {
            return self.extend_run(peer, at);
        }
        // What comes before a line of the same peer must stay before it.
        if self.run.as_ref().is_some_and(|(of, _)| *of == peer) {
            self.copy_run();
        }
        if let Some(out) = self.mouths.out(peer) {
            out.stage(line);
        }
        self.note(peer);
    }

    fn extend_run(&mut self, peer: Peer, at: Range<usize>) {
        if let Some((of, run)) = &mut self.run
            && *of == peer
            && run.end == at.start
        {
            run.end = at.end;
            return;
        }
        self.copy_run();
        self.run = Some((peer, at));
        self.note(peer);
    }

    fn copy_run(&mut self) {
        if let Some((peer, range)) = self.run.take()
            && let Some(out) = self.mouths.out(peer)
        {
            out.stage_run(&self.source[range]);
        }
    }

    fn note(&mut self, peer: Peer) {
        let first = self.mouths.out(peer).is_some_and(Out::note);
        if first {
            self.mouths.dirty.push(peer);
        }
    }

    /// Hands a line to a call.
    fn deliver(&mut self, peer: Peer, line: Line<'_>) {
        let Peer::Client(id) = peer else {
            return;
        };
        let Some(inbox) = self.mouths.inbox(id) else {
            return;
        };
        let line = match line {
            Line::Same(bytes) | Line::Own(bytes) => Bytes::copy_from_slice(bytes),
            Line::Spliced(before, id, after) => [before, id, after].concat().into(),
        };
        inbox.bytes += line.len();
        inbox.lines.push_back(line);
        if let Some(waker) = inbox.waker.take() {
            waker.wake();
        }
    }
}

impl Outlet for Post<'_> {
    fn worker(&mut self, to: WorkerId, line: Line<'_>) {
        self.send(Peer::Worker(to), line);
    }

    fn client(&mut self, to: ClientId, line: Line<'_>) {
        self.send(Peer::Client(to), line);
    }
}
