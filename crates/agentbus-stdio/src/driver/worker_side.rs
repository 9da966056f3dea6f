//! A worker's pipes: reads what it says and gives it what waits.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use agentbus_protocol::jsonrpc::{MessageKind, scan};
use rustix::io::Errno;
use smol_str::SmolStr;

use super::link::{Side, Wish};
use super::{Inner, Shared};
use crate::core::WorkerId;
use crate::framing::{Decoder, Frame, Framing};

/// Id of the handshake's request, which no client's answer can have: clients do not see it.
pub(super) const HANDSHAKE_ID: &str = "agentbus:handshake";

/// Why a worker's task stopped reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The worker closed its output, or its input.
    Closed,
    /// It wrote something that is no message.
    BadOutput,
    /// It answered its handshake.
    Shaken,
    /// It refused its handshake.
    Refused,
}

#[derive(Debug)]
pub(super) struct WorkerSide {
    shared: Arc<Shared>,
    id: WorkerId,
    /// Its pool and its place there, by which the log names it.
    pool: SmolStr,
    instance: u32,
    decoder: Decoder,
    /// Whether the answer to the handshake is still to come.
    shaking: bool,
    pub(super) end: Option<End>,
}

impl WorkerSide {
    pub(super) fn new(shared: Arc<Shared>, id: WorkerId, shaking: bool) -> Self {
        let limit = usize::try_from(shared.limits.max_input_buffer).unwrap_or(usize::MAX);
        let (pool, instance) = {
            let inner = shared.lock();
            let worker = inner.core.worker(id);
            let pool = &inner.core.pools[worker.pool];
            (pool.name.clone(), worker.instance)
        };
        Self {
            shared,
            id,
            pool,
            instance,
            decoder: Decoder::new(Framing::Ndjson, limit),
            shaking,
            end: None,
        }
    }

    /// Reads what a worker that has ended left in its pipe.
    pub(super) fn drain(&mut self, descriptor: &OwnedFd) {
        // A process that escaped from the group may write for ever.
        for _ in 0..4 {
            let (_, drained) = self.readable(descriptor);
            if drained || self.end.is_some() {
                return;
            }
        }
    }

    fn wish(&self, inner: &Inner) -> Wish {
        let out = &inner.mouths.workers[self.id.0 as usize];
        Wish {
            read: !inner.held_up,
            write: out.needs_room(),
            until: None,
            ended: self.end.is_some() || out.is_broken(),
        }
    }

    /// Routes the messages of a chunk.
    fn route(&mut self, inner: &mut Inner, now: u64, chunk: &[u8]) {
        let mut position = 0;
        loop {
            let Inner { core, mouths, .. } = inner;
            let mut post = mouths.post_from(chunk);
            let found = loop {
                let frame = self.decoder.next(chunk, &mut position);
                let Frame::Here(range) = frame else {
                    break frame;
                };
                let line = &chunk[range.clone()];
                if self.shaking && self.shake(line) {
                    continue;
                }
                post.now_at(Some(range.start..range.end + 1));
                if let Err(error) = core.worker_says(now, self.id, line, &mut post) {
                    self.complain(&error, line);
                    break Frame::More;
                }
            };
            post.finish();
            match found {
                Frame::Assembled(message) => self.route_assembled(inner, now, message),
                Frame::TooLarge => {
                    let limit = self.shared.limits.max_input_buffer;
                    tracing::error!(
                        pool = self.pool.as_str(),
                        instance = self.instance,
                        limit,
                        "a worker wrote a line over the limit"
                    );
                    self.end = Some(End::BadOutput);
                }
                Frame::Here(_) | Frame::More => return,
            }
            if self.end == Some(End::BadOutput) {
                return;
            }
        }
    }

    fn route_assembled(&mut self, inner: &mut Inner, now: u64, mut message: Vec<u8>) {
        if self.shaking && self.shake(&message) {
            return;
        }
        message.push(b'\n');
        let Inner { core, mouths, .. } = inner;
        let mut post = mouths.post_from(&message);
        post.now_at(Some(0..message.len()));
        let line = &message[..message.len() - 1];
        if let Err(error) = core.worker_says(now, self.id, line, &mut post) {
            self.complain(&error, line);
        }
        if let Some(peer) = post.finish_unless_whole()
            && let Some(out) = mouths.out(peer)
        {
            out.send_owned(message);
        }
    }

    fn complain(&mut self, error: &dyn std::fmt::Display, line: &[u8]) {
        let start = String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
        let (pool, instance) = (self.pool.as_str(), self.instance);
        tracing::error!(pool, instance, %error, start, "a worker wrote no JSON-RPC and is ended");
        self.end = Some(End::BadOutput);
    }

    /// Takes a line that comes before the worker is ready. Returns whether it was for us.
    fn shake(&mut self, line: &[u8]) -> bool {
        let Ok(routing) = scan(line) else {
            return false;
        };
        let ours = routing
            .id
            .as_ref()
            .is_some_and(|id| id.text == HANDSHAKE_ID);
        if !ours || routing.kind() != MessageKind::Response {
            return false;
        }
        self.shaking = false;
        let refused = routing.error.is_some() && routing.result.is_none();
        if refused {
            let answer = String::from_utf8_lossy(line).into_owned();
            let (pool, instance) = (self.pool.as_str(), self.instance);
            tracing::error!(pool, instance, answer, "a worker refused its handshake");
        }
        self.end = Some(if refused { End::Refused } else { End::Shaken });
        true
    }
}

impl Side for WorkerSide {
    fn readable(&mut self, descriptor: &OwnedFd) -> (Wish, bool) {
        let now = self.shared.now();
        let shared = Arc::clone(&self.shared);
        let mut inner = shared.lock();
        let mut buffer = std::mem::take(&mut inner.buffer);
        let drained = match rustix::io::read(descriptor, &mut buffer[..]) {
            Ok(0) => {
                if let Some(rest) = self.decoder.finish() {
                    self.route_assembled(&mut inner, now, rest);
                }
                self.end = self.end.or(Some(End::Closed));
                true
            }
            Ok(count) => {
                self.route(&mut inner, now, &buffer[..count]);
                count < buffer.len()
            }
            Err(Errno::AGAIN) => true,
            Err(Errno::INTR) => false,
            Err(_) => {
                self.end = Some(End::Closed);
                true
            }
        };
        inner.buffer = buffer;
        (self.wish(&inner), drained)
    }

    fn writable(&mut self) -> (Wish, bool) {
        let mut inner = self.shared.lock();
        let out = &mut inner.mouths.workers[self.id.0 as usize];
        out.flush();
        let full = out.needs_room();
        inner.weigh(self.id);
        (self.wish(&inner), full)
    }

    fn look(&mut self) -> Wish {
        let mut inner = self.shared.lock();
        inner.mouths.workers[self.id.0 as usize].end_held_batch();
        self.wish(&inner)
    }

    fn writer(&self) -> Option<Arc<OwnedFd>> {
        let inner = self.shared.lock();
        let out = &inner.mouths.workers[self.id.0 as usize];
        out.descriptor().map(Arc::clone)
    }
}
