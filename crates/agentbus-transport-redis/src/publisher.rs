//! The one way out: publishes leave in batches, in the order in which they came.
//!
//! One batch is on its way at a time. That keeps the order of every publisher over reconnects, and
//! costs little: while one is under way the next gathers.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use agentbus_protocol::Subject;
use agentbus_transport::clock::millis;
use agentbus_transport::{Durability, Receipt, TransportError};
use bytes::Bytes;
use parking_lot::Mutex;
use redis::{Cmd, RedisError, Value};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::address::Settings;
use crate::commands::{Backoff, Commands, NAME, carrier, failed, may_pass};
use crate::limits;
use crate::line::Line;
use crate::names::Names;
use crate::routes::Routes;
use crate::scripts::PUBLISH;

pub(crate) type Outcome = Result<Receipt, TransportError>;

/// A message on its way out.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) subject: Subject,
    pub(crate) channel: String,
    pub(crate) data: Bytes,
    /// The key under which it is published once; empty for none.
    pub(crate) key: String,
    /// Whether the log keeps it.
    pub(crate) logged: bool,
    /// Whether somebody must listen.
    pub(crate) required: bool,
    pub(crate) done: oneshot::Sender<Outcome>,
}

/// What publishers, subscribers and the writer share.
#[derive(Debug)]
pub(crate) struct Desk {
    pub(crate) commands: Arc<Commands>,
    pub(crate) names: Names,
    pub(crate) settings: Settings,
    pub(crate) client: String,
    pub(crate) durability: Durability,
    routes: Mutex<Arc<Routes>>,
}

impl Desk {
    pub(crate) fn new(
        commands: Arc<Commands>,
        settings: Settings,
        client: String,
        durability: Durability,
    ) -> Self {
        Self {
            commands,
            names: Names::new(&settings.namespace),
            settings,
            client,
            durability,
            routes: Mutex::default(),
        }
    }

    /// The routes as they were last seen.
    pub(crate) fn routes(&self) -> Arc<Routes> {
        Arc::clone(&self.routes.lock())
    }

    /// The routes as they are.
    pub(crate) async fn reload(&self) -> Result<Arc<Routes>, TransportError> {
        let routes = Routes::load(&self.commands, &self.names).await?;
        *self.routes.lock() = Arc::clone(&routes);
        Ok(routes)
    }
}

/// Takes messages and sends them. Ends when nobody can hand it any more.
pub(crate) struct Writer {
    desk: Arc<Desk>,
    line: Option<Line>,
    batches: AtomicU64,
}

impl Writer {
    pub(crate) const fn new(desk: Arc<Desk>) -> Self {
        Self {
            desk,
            line: None,
            batches: AtomicU64::new(0),
        }
    }

    pub(crate) async fn run(mut self, mut waiting: mpsc::Receiver<Outgoing>) {
        let mut gathered = Vec::with_capacity(limits::BATCH);
        while waiting.recv_many(&mut gathered, limits::BATCH).await > 0 {
            let mut rest = gathered.drain(..).peekable();
            while rest.peek().is_some() {
                let mut bytes = 0;
                let mut batch = Vec::new();
                while let Some(next) = rest.next_if(|next| {
                    batch.is_empty() || bytes + next.data.len() <= limits::BATCH_BYTES
                }) {
                    bytes += next.data.len();
                    batch.push(next);
                }
                self.send(batch).await;
            }
        }
    }

    /// Sends a batch until the server has answered it.
    async fn send(&mut self, batch: Vec<Outgoing>) {
        let number = self.batches.fetch_add(1, Ordering::Relaxed) + 1;
        let deadline = Instant::now() + limits::PUBLISH_TIMEOUT;
        let (mut pause, mut stale) = (Backoff::default(), 0);
        loop {
            let answer = match self.attempt(&batch, number).await {
                Ok(answer) => answer,
                Err(error) => {
                    let over = self.desk.commands.over();
                    if !may_pass(&error) || over.is_cancelled() || Instant::now() >= deadline {
                        return fail(batch, &doubtful(&error));
                    }
                    self.line = None;
                    tokio::select! {
                        () = over.cancelled() => {}
                        () = pause.wait() => {}
                    }
                    continue;
                }
            };
            if !is_stale(&answer) || stale >= limits::STALE_ROUTES {
                return self.settle(batch, answer);
            }
            stale += 1;
            if let Err(error) = self.desk.reload().await {
                return fail(batch, &error);
            }
        }
    }

    /// Sends a batch once; a script that the server does not know is made known to it.
    async fn attempt(&mut self, batch: &[Outgoing], number: u64) -> Result<Value, RedisError> {
        let call = self.call(batch, number);
        let line = match &mut self.line {
            Some(line) => line,
            none => none.insert(Line::open(self.desk.commands.client()).await?),
        };
        line.send(call);
        match line.answer().await {
            Err(error) if error.code() == Some("NOSCRIPT") => {}
            outcome => return outcome,
        }
        line.send(PUBLISH.load());
        line.answer().await?;
        let call = self.call(batch, number);
        let Some(line) = &mut self.line else {
            return Err(std::io::Error::from(std::io::ErrorKind::BrokenPipe).into());
        };
        line.send(call);
        line.answer().await
    }

    fn call(&self, batch: &[Outgoing], number: u64) -> Cmd {
        let (desk, routes) = (&self.desk, self.desk.routes());
        let mut cmd = PUBLISH.call();
        cmd.arg(desk.names.base()).arg(&desk.client).arg(number);
        cmd.arg(&routes.version).arg(desk.settings.log);
        cmd.arg(limits::QUEUE_ENTRIES)
            .arg(u8::from(desk.settings.amb));
        cmd.arg(millis(limits::KEY_WINDOW)).arg(batch.len());
        cmd.arg(batch.iter().filter(|message| message.logged).count());
        for message in batch {
            let queues = routes.of(message.subject.as_str());
            let more = message.required || !message.key.is_empty() || !queues.is_empty();
            cmd.arg(message.asks(more)).arg(&message.channel);
            cmd.arg(&message.data[..]);
            if more {
                cmd.arg(&message.key).arg(queues.len());
                queues.iter().for_each(|queue| {
                    cmd.arg(&**queue);
                });
            }
        }
        cmd
    }

    /// Tells everybody what became of their message.
    fn settle(&self, batch: Vec<Outgoing>, answer: Value) {
        let answers = redis::from_redis_value::<Vec<u64>>(answer).unwrap_or_default();
        if answers.len() != 3 * batch.len() {
            return fail(batch, &unreadable());
        }
        for (message, answer) in batch.into_iter().zip(answers.chunks_exact(3)) {
            let outcome = self.outcome(&message, answer);
            // Whoever gave up waiting wants no answer.
            let _ = message.done.send(outcome);
        }
    }

    fn outcome(&self, message: &Outgoing, answer: &[u64]) -> Outcome {
        let &[number, heard, code] = answer else {
            return Err(unreadable());
        };
        let subject = || message.subject.clone();
        // A reply that no connection hears, and a request that nobody serves.
        let unheard = message.subject.is_inbox() && heard == 0;
        match code {
            2 => return Err(TransportError::NoResponder { subject: subject() }),
            3 => {
                return Err(TransportError::QueueFull {
                    subject: subject(),
                    capacity: usize::try_from(limits::QUEUE_ENTRIES).unwrap_or(usize::MAX),
                });
            }
            _ if unheard => return Err(TransportError::NoResponder { subject: subject() }),
            _ => {}
        }
        let receipt = if message.logged {
            Receipt::logged(self.desk.durability, None, number)
        } else {
            Receipt::new(Durability::Memory, None)
        };
        Ok(if code == 1 {
            receipt.repeated()
        } else {
            receipt
        })
    }
}

impl Outgoing {
    /// What the script is asked for, in its letters.
    const fn asks(&self, more: bool) -> &'static str {
        match (self.logged, self.required, more) {
            (true, false, false) => "l",
            (false, false, false) => "",
            (true, true, _) => "lrm",
            (true, false, true) => "lm",
            (false, true, _) => "rm",
            (false, false, true) => "m",
        }
    }
}

fn is_stale(answer: &Value) -> bool {
    matches!(answer, Value::BulkString(word) if word == b"stale")
        || matches!(answer, Value::SimpleString(word) if word == "stale")
}

fn unreadable() -> TransportError {
    carrier("the server's answer to a publish cannot be read")
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

fn fail(batch: Vec<Outgoing>, error: &TransportError) {
    for message in batch {
        let _ = message.done.send(Err(error.clone()));
    }
}
