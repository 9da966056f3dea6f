//! The one way out: publishes leave in batches, in the order in which they came.
//!
//! A few batches are on their way at a time, so that the next is made ready while the server takes
//! one. Each but the oldest says that it follows another, and the server refuses it until that one
//! was taken. Whatever goes wrong, all that has no answer is sent again in its order: the server
//! answers a batch that it has taken already as it did before.

use std::collections::VecDeque;
use std::sync::Arc;

use agentbus_transport::TransportError;
use redis::{RedisError, Value};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::batch::{Batch, Outgoing};
use crate::commands::{Backoff, NAME, failed, is_loss, may_pass};
use crate::desk::Desk;
use crate::limits;
use crate::line::Line;
use crate::scripts::PUBLISH;

/// Takes messages and sends them. Ends when nobody can hand it any more.
pub(crate) struct Writer {
    desk: Arc<Desk>,
    waiting: mpsc::Receiver<Outgoing>,
    /// Whether nothing more will come from there.
    closed: bool,
    /// Taken from there, and in no batch yet.
    gathered: VecDeque<Outgoing>,
    batches: u64,
    /// What the server has not answered, the oldest first.
    under_way: VecDeque<Batch>,
    /// How many of them were sent on this line, from the oldest on; so many answers will come.
    sent: usize,
    line: Option<Line>,
    pause: Backoff,
}

impl Writer {
    pub(crate) fn new(desk: Arc<Desk>, waiting: mpsc::Receiver<Outgoing>) -> Self {
        Self {
            desk,
            waiting,
            closed: false,
            gathered: VecDeque::new(),
            batches: 0,
            under_way: VecDeque::with_capacity(limits::BATCHES),
            sent: 0,
            line: None,
            pause: Backoff::default(),
        }
    }

    pub(crate) async fn run(mut self) {
        let mut come = Vec::with_capacity(limits::BATCH);
        let over = self.desk.commands.over().clone();
        loop {
            self.gather();
            self.send().await;
            // Sending gives up what there is no hope for, and then no answer is to come.
            if self.under_way.is_empty() {
                if !self.gathered.is_empty() {
                    continue;
                }
                if self.closed {
                    return;
                }
            }
            let room = !self.closed && self.under_way.len() < limits::BATCHES;
            tokio::select! {
                biased;
                // Also while nothing is under way, to hear of the connection's end.
                answer = answer(&mut self.line) => self.hear(answer).await,
                count = self.waiting.recv_many(&mut come, limits::BATCH), if room => {
                    self.closed = count == 0;
                    self.gathered.extend(come.drain(..));
                }
                // A publish that nobody waits for keeps its place in the queue, and must not keep
                // the writer.
                () = over.cancelled(), if !self.waiting.is_closed() => self.waiting.close(),
            }
        }
    }

    /// Makes batches of what has gathered, as far as they may leave.
    fn gather(&mut self) {
        while self.under_way.len() < limits::BATCHES && !self.gathered.is_empty() {
            self.batches += 1;
            let batch = Batch::gather(self.batches, &mut self.gathered);
            self.under_way.push_back(batch);
        }
    }

    /// Sends what is under way and was not sent on this line.
    async fn send(&mut self) {
        while let Some(batch) = self.under_way.get(self.sent) {
            let line = match &mut self.line {
                Some(line) => line,
                none => match Line::open(self.desk.commands.client()).await {
                    Ok(line) => none.insert(line),
                    Err(error) => {
                        self.recover(&error).await;
                        continue;
                    }
                },
            };
            line.send(batch.call(&self.desk, self.sent > 0));
            self.sent += 1;
        }
    }

    /// Takes the answer to the oldest batch.
    async fn hear(&mut self, answer: Result<Value, RedisError>) {
        self.sent = self.sent.saturating_sub(1);
        let Some(oldest) = self.under_way.front_mut() else {
            // The server hung up while nothing was under way.
            self.line = None;
            return;
        };
        match answer {
            Ok(word) if is(&word, b"early") => self.skip_answers().await,
            Ok(word) if is(&word, b"stale") && oldest.outdate() => self.look_again().await,
            Ok(answer) => {
                self.pause = Backoff::default();
                if let Some(batch) = self.under_way.pop_front() {
                    batch.settle(&self.desk, answer);
                }
            }
            Err(error) if error.code() == Some("NOSCRIPT") && !oldest.taught => {
                oldest.taught = true;
                self.teach().await;
            }
            Err(error) => self.recover(&error).await,
        }
    }

    /// Hears the answers to what was sent behind a batch that was not taken. None of it was taken
    /// either, and if it had been, the server would answer the same when it comes again.
    async fn skip_answers(&mut self) {
        while self.sent > 0 {
            match answer(&mut self.line).await {
                Err(error) if is_loss(&error) || error.is_timeout() => self.hang_up(),
                _ => self.sent -= 1,
            }
        }
    }

    /// Looks at the routes, which have changed.
    async fn look_again(&mut self) {
        self.skip_answers().await;
        if let Err(error) = self.desk.reload().await {
            self.give_up(&error);
        }
    }

    /// Makes the script known to the server.
    async fn teach(&mut self) {
        self.skip_answers().await;
        let Some(line) = &mut self.line else { return };
        line.send(PUBLISH.load());
        if let Err(error) = line.answer().await {
            self.recover(&error).await;
        }
    }

    /// Goes on after an error: over a new connection, or without the oldest batch when there is no
    /// hope for it.
    async fn recover(&mut self, error: &RedisError) {
        let over = self.desk.commands.over();
        let late = |oldest: &Batch| Instant::now() >= oldest.deadline;
        let hopeless = !may_pass(error) || over.is_cancelled();
        if hopeless || self.under_way.front().is_some_and(late) {
            self.give_up(&doubtful(error));
        }
        if may_pass(error) {
            self.hang_up();
            let over = self.desk.commands.over();
            tokio::select! {
                () = over.cancelled() => {}
                () = self.pause.wait() => {}
            }
        }
    }

    fn give_up(&mut self, error: &TransportError) {
        if let Some(batch) = self.under_way.pop_front() {
            batch.fail(error);
        }
    }

    /// Lets go of a connection that is of no more use; what was sent over it is sent again.
    fn hang_up(&mut self) {
        self.line = None;
        self.sent = 0;
        for batch in &mut self.under_way {
            batch.taught = false;
        }
    }
}

/// The next answer; without a line none comes.
async fn answer(line: &mut Option<Line>) -> Result<Value, RedisError> {
    match line {
        Some(line) => line.answer().await,
        None => std::future::pending().await,
    }
}

fn is(answer: &Value, expected: &[u8]) -> bool {
    matches!(answer, Value::BulkString(word) if word == expected)
}

fn doubtful(error: &RedisError) -> TransportError {
    match failed(error) {
        TransportError::Carrier { reason, .. } => TransportError::Carrier {
            transport: NAME,
            reason: format!(
                "{reason}; the message may or may not have been taken, so publish it again under an idempotency key"
            ),
        },
        other => other,
    }
}
