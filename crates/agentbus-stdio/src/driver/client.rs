//! A connection: reads it, routes what it says, and decides when it is paused or over.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::io::Errno;
use serde_json::Map;
use tokio::io::Interest;
use tokio::time::Instant;

use super::bell::Bell;
use super::link::{Side, Wish, drive};
use super::out::Out;
use super::post::Mouth;
use super::watch::watch;
use super::{Inner, Shared};
use crate::codes::Fault;
use crate::core::{ClientId, ClientKind, WorkerId};
use crate::framing::{Decoder, Frame, Framing};
use crate::limits::{HALF_CLOSED, WORKER_FULL_BYTES};

/// Time that a refused connection has to read why.
const FAREWELL: Duration = Duration::from_secs(1);

/// What a connection's task has to know.
#[derive(Debug)]
pub(crate) struct ClientState {
    id: ClientId,
    kind: ClientKind,
    /// Workers that have to catch up before this client is read again.
    waits_for: Vec<WorkerId>,
    phase: Phase,
    /// Since when its queue is over the limit.
    over_since: Option<Instant>,
}

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Both sides speak.
    Open,
    /// It will say no more, and waits for its answers.
    HalfClosed { since: Instant },
    /// It broke the rules: what it says is thrown away until it has read why.
    Refused { since: Instant },
}

/// The two ends of a connection; of a socket they are one descriptor.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) reader: Arc<OwnedFd>,
    pub(crate) writer: Arc<OwnedFd>,
    pub(crate) kind: ClientKind,
    pub(crate) framing: Framing,
}

struct ClientSide {
    shared: Arc<Shared>,
    id: ClientId,
    decoder: Decoder,
}

/// Serves a connection until it is over. Cancel safe: dropping it forgets the client.
pub(crate) async fn serve(shared: Arc<Shared>, connection: Connection) {
    let Some((mut side, bell)) = open(&shared, &connection) else {
        return;
    };
    let reader = watch(connection.reader, Interest::READABLE);
    let served = match reader {
        Ok(reader) => drive(&mut side, &reader, &bell).await,
        Err(error) => Err(error),
    };
    if let Err(error) = served {
        tracing::warn!(%error, "a connection cannot be watched");
    }
}

fn open(shared: &Arc<Shared>, connection: &Connection) -> Option<(ClientSide, Arc<Bell>)> {
    let mut out = Out::new(Some(Arc::clone(&connection.writer)), connection.framing);
    let bell = Arc::clone(&out.bell);
    let bytes = |limit: u64| usize::try_from(limit).unwrap_or(usize::MAX);
    let limits = &shared.limits;
    out.mark([
        bytes(limits.max_output_queue),
        bytes(limits.client_backlog()),
    ]);
    let mut inner = shared.lock();
    let id = match inner.core.open_client(connection.kind) {
        Ok(id) => id,
        Err(fault) => {
            // One write: who reads nothing of it is closed all the same.
            let mut line = Vec::new();
            crate::codes::write_error(&mut line, b"null", fault, Map::new());
            out.stage(crate::core::Line::Own(&line));
            out.end_batch();
            return None;
        }
    };
    inner.mouths.place(id, Some(Mouth::Wire(out)));
    let state = ClientState {
        id,
        kind: connection.kind,
        waits_for: Vec::new(),
        phase: Phase::Open,
        over_since: None,
    };
    let slot = id.slot as usize;
    if inner.clients.len() <= slot {
        inner.clients.resize_with(slot + 1, || None);
    }
    inner.clients[slot] = Some(state);
    drop(inner);
    let limit = bytes(limits.max_input_buffer);
    let side = ClientSide {
        shared: Arc::clone(shared),
        id,
        decoder: Decoder::new(connection.framing, limit),
    };
    Some((side, bell))
}

impl Drop for ClientSide {
    fn drop(&mut self) {
        self.shared.lock().close(self.id);
    }
}

impl Side for ClientSide {
    fn readable(&mut self, descriptor: &OwnedFd) -> (Wish, bool) {
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let mut buffer = std::mem::take(&mut inner.buffer);
        let read = rustix::io::read(descriptor, &mut buffer[..]);
        let drained = match read {
            Ok(0) => {
                if let Some(rest) = self.decoder.finish() {
                    inner.route_assembled(now, self.id, rest);
                }
                inner.half_close(self.id);
                true
            }
            Ok(count) => {
                if inner.listens_to(self.id) {
                    inner.route_chunk(now, self.id, &mut self.decoder, &buffer[..count]);
                }
                count < buffer.len()
            }
            Err(Errno::AGAIN) => true,
            Err(Errno::INTR) => false,
            Err(_) => {
                if let Some(out) = inner.mouths.wire(self.id) {
                    out.break_off();
                }
                true
            }
        };
        inner.buffer = buffer;
        (inner.wish_of(&self.shared, self.id), drained)
    }

    fn writable(&mut self) -> (Wish, bool) {
        let mut inner = self.shared.lock();
        let full = inner.mouths.wire(self.id).is_some_and(|out| {
            out.flush();
            out.needs_room()
        });
        (inner.wish_of(&self.shared, self.id), full)
    }

    fn look(&mut self) -> Wish {
        self.shared.lock().wish_of(&self.shared, self.id)
    }

    fn writer(&self) -> Option<Arc<OwnedFd>> {
        let mut inner = self.shared.lock();
        let out = inner.mouths.wire(self.id)?;
        out.descriptor().map(Arc::clone)
    }
}

impl Inner {
    fn state(&mut self, id: ClientId) -> Option<&mut ClientState> {
        let state = self.clients.get_mut(id.slot as usize)?.as_mut()?;
        (state.id == id).then_some(state)
    }

    fn listens_to(&mut self, id: ClientId) -> bool {
        let refused = |state: &mut ClientState| matches!(state.phase, Phase::Refused { .. });
        !self.state(id).is_some_and(refused)
    }

    /// Forgets a connection.
    fn close(&mut self, id: ClientId) {
        self.with_post(|core, post| core.close_client(id, post));
        self.mouths.place(id, None);
        if let Some(state) = self.clients.get_mut(id.slot as usize) {
            *state = None;
        }
        if std::mem::take(&mut self.held_up) {
            self.wake_workers();
        }
    }

    fn half_close(&mut self, id: ClientId) {
        if let Some(state) = self.state(id)
            && state.phase == Phase::Open
        {
            let since = Instant::now();
            state.phase = Phase::HalfClosed { since };
            if let Some(out) = self.mouths.wire(id) {
                out.watch();
            }
        } else if let Some(out) = self.mouths.wire(id) {
            // A refused client has read enough.
            out.break_off();
        }
    }

    /// Routes the messages of a chunk.
    fn route_chunk(&mut self, now: u64, id: ClientId, decoder: &mut Decoder, chunk: &[u8]) {
        let mut position = 0;
        let mut reached: Vec<WorkerId> = Vec::new();
        while self.listens_to(id) {
            match self.route_whole(now, id, decoder, (chunk, &mut position), &mut reached) {
                Frame::Assembled(message) => self.route_assembled(now, id, message),
                Frame::TooLarge => {
                    self.refuse(id, decoder.framing());
                    break;
                }
                Frame::Here(_) => {}
                Frame::More => break,
            }
        }
        for worker in reached {
            self.settle_with(id, worker);
        }
        self.wake_needed();
    }

    /// Routes messages that lie whole in the chunk, up to one that does not or cannot be read.
    fn route_whole(
        &mut self,
        now: u64,
        id: ClientId,
        decoder: &mut Decoder,
        (chunk, position): (&[u8], &mut usize),
        reached: &mut Vec<WorkerId>,
    ) -> Frame {
        let in_place = decoder.framing() == Framing::Ndjson;
        let Self { core, mouths, .. } = self;
        let mut post = mouths.post_from(chunk);
        let (found, readable) = loop {
            let frame = decoder.next(chunk, position);
            let Frame::Here(range) = frame else {
                break (frame, true);
            };
            let line = &chunk[range.clone()];
            post.now_at(in_place.then(|| range.start..range.end + 1));
            let to = match in_place {
                true => core.client_says(now, id, line, &mut post),
                false => core.client_says(now, id, &one_line(line), &mut post),
            };
            match to {
                Ok(Some(to)) if !reached.contains(&to) => reached.push(to),
                Ok(_) => {}
                Err(_) => break (Frame::Here(range), false),
            }
        };
        post.finish();
        if !readable {
            self.distrust(id);
        }
        found
    }

    fn is_sole(&self, id: ClientId) -> bool {
        let client = self.core.client(id);
        client.is_some_and(|client| client.kind == ClientKind::Sole)
    }

    /// Hears no more of a connection that said something unreadable.
    ///
    /// A web page can make a browser send anything to a port of this machine, a request among
    /// other lines; the first line gives it away. Who started the bus as its child is no stranger
    /// and may go on.
    fn distrust(&mut self, id: ClientId) {
        if !self.is_sole(id)
            && let Some(state) = self.state(id)
        {
            let since = Instant::now();
            state.phase = Phase::Refused { since };
        }
    }

    /// Routes a message that came in several chunks, and gives its buffer away if it can.
    fn route_assembled(&mut self, now: u64, id: ClientId, mut message: Vec<u8>) {
        if message.contains(&b'\n') {
            message = one_line(&message).into_owned();
        }
        message.push(b'\n');
        let Self { core, mouths, .. } = self;
        let mut post = mouths.post_from(&message);
        post.now_at(Some(0..message.len()));
        let to = core.client_says(now, id, &message[..message.len() - 1], &mut post);
        if let Some(peer) = post.finish_unless_whole()
            && let Some(out) = mouths.out(peer)
        {
            out.send_owned(message);
        }
        match to {
            Ok(Some(worker)) => self.settle_with(id, worker),
            Ok(None) => {}
            Err(_) => self.distrust(id),
        }
        self.wake_needed();
    }

    /// Pauses a client that sends faster than a worker takes.
    fn settle_with(&mut self, id: ClientId, worker: WorkerId) {
        self.weigh(worker);
        if !self.core.worker(worker).congested {
            return;
        }
        if let Some(state) = self.state(id)
            && !state.waits_for.contains(&worker)
        {
            state.waits_for.push(worker);
            self.workers[worker.0 as usize].waiters.push(id);
        }
        let queued = self.queued_for(worker);
        if queued > WORKER_FULL_BYTES {
            tracing::warn!(queued, "a worker takes nothing, and its clients are paused");
        }
    }

    /// Lets a client be read again, as far as this worker is concerned.
    pub(super) fn resume(&mut self, id: ClientId, worker: WorkerId) {
        if let Some(state) = self.state(id) {
            state.waits_for.retain(|other| *other != worker);
        }
        if let Some(out) = self.mouths.wire(id) {
            out.bell.ring();
        }
    }

    /// Answers a message that is too large. Nothing after it can be told apart.
    fn refuse(&mut self, id: ClientId, framing: Framing) {
        let fault = match framing {
            Framing::Ndjson => Fault::MessageTooLarge,
            Framing::Length => Fault::FrameTooLarge,
        };
        self.with_post(|core, post| core.answer_error(id, b"null", fault, Map::new(), post));
        if self.is_sole(id) {
            // There is no other way to say goodbye to the one client than to finish its work.
            return self.half_close(id);
        }
        self.distrust(id);
    }

    /// Decides what a connection's task waits for next.
    fn wish_of(&mut self, shared: &Shared, id: ClientId) -> Wish {
        let ended = Wish {
            ended: true,
            ..Wish::default()
        };
        let in_flight = self.core.client(id).map_or(0, |client| client.in_flight);
        let held_up = self.held_up;
        let Some(Mouth::Wire(out)) = self
            .mouths
            .clients
            .get(id.slot as usize)
            .and_then(Option::as_ref)
        else {
            return ended;
        };
        let Some(writer) = out.descriptor().map(Arc::clone) else {
            return ended;
        };
        let (queued, write, broken) = (out.queued() as u64, out.needs_room(), out.is_broken());
        let Some(state) = self.state(id).filter(|_| !broken) else {
            return ended;
        };
        if queued == 0 && matches!(state.phase, Phase::Refused { .. }) {
            // The client learns at once that there is no more; what it still sends is read and
            // thrown away, because closing on unread bytes would take the answer back.
            let _ = rustix::net::shutdown(&*writer, rustix::net::Shutdown::Write);
        }
        let over = queued > shared.limits.max_output_queue;
        state.over_since = over.then(|| state.over_since.unwrap_or_else(Instant::now));
        if state.is_over(shared, queued, in_flight) {
            return ended;
        }
        let wish = Wish {
            read: match state.phase {
                Phase::Open => state.waits_for.is_empty() && !over,
                Phase::HalfClosed { .. } => false,
                Phase::Refused { .. } => true,
            },
            write,
            until: state.moment(shared),
            ended: false,
        };
        if state.kind == ClientKind::Sole && held_up != over {
            self.held_up = over;
            self.wake_workers();
        }
        wish
    }

    /// Tells every worker's task to look again.
    pub(super) fn wake_workers(&self) {
        for out in &self.mouths.workers {
            out.bell.ring();
        }
    }
}

impl ClientState {
    /// Tells whether the connection is to be closed.
    fn is_over(&self, shared: &Shared, queued: u64, in_flight: u32) -> bool {
        // The clock is only read where a time runs, which is not once in a usual message.
        let passed = |since: Instant, time: Duration| Instant::now() >= since + time;
        let patience = Duration::from_secs(shared.limits.backpressure_timeout_sec);
        if self.over_since.is_some_and(|since| passed(since, patience)) {
            tracing::warn!(
                client = self.id.slot,
                queued,
                "a client that reads nothing is cut off"
            );
            return true;
        }
        if self.kind != ClientKind::Sole && queued > shared.limits.client_backlog() {
            tracing::warn!(
                client = self.id.slot,
                queued,
                "too much waits for a client: it is cut off"
            );
            return true;
        }
        match self.phase {
            Phase::Open => false,
            Phase::HalfClosed { .. } if in_flight == 0 && queued == 0 => true,
            Phase::HalfClosed { since } => {
                self.kind != ClientKind::Sole && passed(since, HALF_CLOSED)
            }
            Phase::Refused { since } => passed(since, FAREWELL),
        }
    }

    /// Returns when the connection's task has to look again by itself.
    fn moment(&self, shared: &Shared) -> Option<Instant> {
        let patience = Duration::from_secs(shared.limits.backpressure_timeout_sec);
        let cut = self.over_since.map(|since| since + patience);
        let farewell = match self.phase {
            Phase::Open => None,
            Phase::HalfClosed { since } => {
                Some(since + HALF_CLOSED).filter(|_| self.kind != ClientKind::Sole)
            }
            Phase::Refused { since } => Some(since + FAREWELL),
        };
        [cut, farewell].into_iter().flatten().min()
    }
}

/// Makes one line of a message: a newline between tokens means no more than a blank.
fn one_line(message: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !message.contains(&b'\n') {
        return message.into();
    }
    let blank = |byte: &u8| if *byte == b'\n' { b' ' } else { *byte };
    message.iter().map(blank).collect::<Vec<u8>>().into()
}
