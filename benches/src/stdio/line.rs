//! The client: one thread that keeps a window of requests in flight on each of its lines.
//!
//! It is the same for the bus and for the baseline. It never waits while there is something to
//! read or room to write, and a batch is no unit: each answer makes room for one request.

use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

/// Different requests of a line; enough that an id is never used while it is pending.
const PERIOD: u64 = 4096;

/// Bytes of requests that are made ahead.
const AHEAD: usize = 16 << 20;

/// The two ends of a way to a worker; of a socket they are one.
pub(crate) struct Line {
    pub(crate) input: OwnedFd,
    pub(crate) output: OwnedFd,
}

/// What one line sends.
#[derive(Clone, Copy)]
pub(crate) struct Load {
    /// Requests.
    pub(crate) messages: u64,
    /// Bytes of each, its newline included.
    pub(crate) bytes: usize,
    /// Bytes of each answer.
    pub(crate) answer: usize,
    /// Unanswered requests at a time.
    pub(crate) window: u64,
    /// The first id; lines with equal first ids use equal ids.
    pub(crate) first_id: u64,
    /// The session of each request.
    pub(crate) session: Option<u64>,
}

impl Load {
    pub(crate) fn new(messages: u64, bytes: usize, window: u64) -> Self {
        Self {
            messages,
            bytes,
            answer: bytes,
            window,
            first_id: 10_000_000,
            session: None,
        }
    }

    fn message(&self, number: u64) -> Vec<u8> {
        let id = self.first_id + number;
        let session = self
            .session
            .map(|session| format!(r#""sessionId":"session-{session}","#));
        let session = session.unwrap_or_default();
        let mut text = format!(r#"{{"id":{id},{session}"method":""#).into_bytes();
        assert!(text.len() + 3 <= self.bytes, "no room for a request");
        text.resize(self.bytes - 3, b'x');
        text.extend_from_slice(b"\"}\n");
        text
    }
}

/// A line under load.
struct Pump<'a> {
    line: &'a Line,
    load: Load,
    ring: Vec<u8>,
    sent: usize,
    received: usize,
    /// Whether the line takes no more at the moment.
    full: bool,
}

impl<'a> Pump<'a> {
    fn new(line: &'a Line, load: Load) -> Self {
        for descriptor in [&line.input, &line.output] {
            let flags = fcntl_getfl(descriptor).unwrap();
            fcntl_setfl(descriptor, flags | OFlags::NONBLOCK).unwrap();
        }
        let period = PERIOD
            .min((AHEAD / load.bytes) as u64)
            .max(load.window)
            .max(2);
        Self {
            line,
            load,
            ring: (0..period)
                .flat_map(|number| load.message(number))
                .collect(),
            sent: 0,
            received: 0,
            full: false,
        }
    }

    fn is_done(&self) -> bool {
        self.received == self.load.messages as usize * self.load.answer
    }

    fn send(&mut self) {
        let answered = (self.received / self.load.answer) as u64;
        let allowed = (answered + self.load.window).min(self.load.messages) as usize;
        let allowed = allowed * self.load.bytes;
        while self.sent < allowed {
            let at = self.sent % self.ring.len();
            let most = (allowed - self.sent).min(self.ring.len() - at);
            match rustix::io::write(&self.line.output, &self.ring[at..at + most]) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => break,
                Err(error) => panic!("the other side has hung up: {error}"),
            }
        }
        self.full = self.sent < allowed;
    }

    /// Takes what has come; the sizes of answers are known, so lines need not be looked for.
    fn receive(&mut self, buffer: &mut [u8]) {
        match rustix::io::read(&self.line.input, &mut *buffer) {
            Ok(0) => panic!("the other side has hung up"),
            Ok(count) => {
                self.received += count;
                if self.received.is_multiple_of(self.load.answer) {
                    assert_eq!(buffer[count - 1], b'\n', "an answer of another size");
                }
            }
            Err(Errno::AGAIN) => {}
            Err(error) => panic!("{error}"),
        }
    }
}

/// Requests a second over all lines, each with its load.
pub(crate) fn rate(lines: &[Line], loads: &[Load]) -> f64 {
    let mut buffer = vec![0; 1 << 20];
    let pairs = lines.iter().zip(loads);
    let mut pumps: Vec<Pump<'_>> = pairs.map(|(line, load)| Pump::new(line, *load)).collect();
    let messages: u64 = loads.iter().map(|load| load.messages).sum();
    let begun = Instant::now();
    pumps.iter_mut().for_each(Pump::send);
    while pumps.iter().any(|pump| !pump.is_done()) {
        let ready = wait(&pumps);
        for (pump, (readable, writable)) in pumps.iter_mut().zip(ready) {
            if readable {
                pump.receive(&mut buffer);
            }
            if readable || writable {
                pump.send();
            }
        }
    }
    messages as f64 / begun.elapsed().as_secs_f64()
}

fn wait(pumps: &[Pump<'_>]) -> Vec<(bool, bool)> {
    let mut watched: Vec<PollFd<'_>> = Vec::with_capacity(2 * pumps.len());
    for pump in pumps {
        let write = if pump.full {
            PollFlags::OUT
        } else {
            PollFlags::empty()
        };
        watched.push(PollFd::from_borrowed_fd(
            pump.line.input.as_fd(),
            PollFlags::IN,
        ));
        watched.push(PollFd::from_borrowed_fd(pump.line.output.as_fd(), write));
    }
    poll(&mut watched, None).unwrap();
    let ready = |fd: &PollFd<'_>| !fd.revents().is_empty();
    watched
        .chunks(2)
        .map(|pair| (ready(&pair[0]), ready(&pair[1])))
        .collect()
}

/// The times of so many round trips of 100 bytes, one at a time.
pub(crate) fn round_trips(line: &Line, rounds: u64) -> Vec<std::time::Duration> {
    let load = Load::new(rounds, 100, 1);
    let requests: Vec<Vec<u8>> = (0..PERIOD).map(|number| load.message(number)).collect();
    let mut buffer = vec![0; 1 << 16];
    let trip = |number: u64| {
        let request = &requests[(number % PERIOD) as usize];
        let begun = Instant::now();
        assert_eq!(rustix::io::write(&line.output, request), Ok(request.len()));
        assert_eq!(rustix::io::read(&line.input, &mut buffer[..]), Ok(100));
        begun.elapsed()
    };
    (0..rounds).map(trip).collect()
}
