//! The log on standard error, written by a thread of its own.
//!
//! Whoever started this program may not read its standard error. Its pipe is full after 64 KiB, and
//! a write to it then stands still, and would the bus with it. So lines wait in a queue. When that
//! is full they are dropped and counted, and the count is told once there is room again.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::time::Duration;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Lines that wait to be written.
const WAITING: usize = 4096;

/// How long the end waits for the last lines.
const PATIENCE: Duration = Duration::from_millis(500);

/// The running log. Dropping it writes what waits.
#[must_use = "what waits is lost when nobody drops this at the end"]
pub(crate) struct Log {
    jobs: SyncSender<Job>,
    ended: Receiver<()>,
}

enum Job {
    Line(Vec<u8>),
    End,
}

/// Where lines are handed in.
#[derive(Clone)]
struct Queue {
    jobs: SyncSender<Job>,
    lost: Arc<AtomicU64>,
}

impl Log {
    /// Starts to log what passes a filter.
    pub(crate) fn start(filter: &str, output: &Output) -> Result<Self, Failure> {
        // The libraries tell of every session and of clients that leave (MCP), of every refusal
        // (ACP), and of every message that nobody wanted (RabbitMQ). Who wants that names them.
        let quieter = format!("rmcp=off,agent_client_protocol=off,lapin=error,{filter}");
        let filter = EnvFilter::try_new(quieter).map_err(|error| {
            Failure::new(
                Exit::Configuration,
                format!("`{filter}` is no log filter: {error}"),
            )
        })?;
        let (jobs, waiting) = sync_channel(WAITING);
        let (end, ended) = sync_channel(1);
        let queue = Queue {
            jobs: jobs.clone(),
            lost: Arc::default(),
        };
        let (lost, json) = (Arc::clone(&queue.lost), output.is_json());
        let work = move || {
            write_all(&waiting, &lost, json);
            let _ = end.send(());
        };
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(work)
            .map_err(|error| Failure::unexpected(format!("cannot start the log: {error}")))?;
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(queue);
        if json {
            log.json().init();
        } else {
            log.with_ansi(io::stderr().is_terminal()).init();
        }
        Ok(Self { jobs, ended })
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        // A queue that is full belongs to somebody who does not read.
        if self.jobs.try_send(Job::End).is_ok() {
            let _ = self.ended.recv_timeout(PATIENCE);
        }
    }
}

/// Writes lines until the end, or until nobody can read them any more.
fn write_all(waiting: &Receiver<Job>, lost: &AtomicU64, json: bool) {
    let mut stderr = io::stderr();
    while let Ok(Job::Line(line)) = waiting.recv() {
        if stderr.write_all(&line).is_err() {
            return;
        }
        let count = lost.swap(0, Ordering::Relaxed);
        if count > 0 && stderr.write_all(told(count, json).as_bytes()).is_err() {
            return;
        }
    }
}

/// That lines were dropped, in the form of the others.
fn told(count: u64, json: bool) -> String {
    let message = format!("{count} lines of the log were dropped; nobody read standard error");
    match json {
        true => {
            let fields = serde_json::json!({ "message": message, "dropped": count });
            format!(
                "{}\n",
                serde_json::json!({ "level": "WARN", "fields": fields })
            )
        }
        false => format!(" WARN {message}\n"),
    }
}

impl Write for Queue {
    /// Takes a whole line, as the log hands them over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Line(line.to_vec())) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Queue {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
