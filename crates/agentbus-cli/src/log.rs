//! Standard error of a program that logs, written by a thread of its own.
//!
//! Whoever started this program may not read its standard error. Its pipe is full after 64 KiB, and
//! a write to it then stands still, and would the bus with it. So lines wait in a queue, those of
//! the log and what is said to a person beside it. When the queue is full they are dropped and
//! counted, and the count is told once there is room again.

use std::io::{self, IsTerminal, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use agentbus_server::LogLines;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::failure::{Exit, Failure};
use crate::output::Output;

/// Lines that wait to be written.
const WAITING: usize = 1024;

/// How long the end waits for the last lines.
const PATIENCE: Duration = Duration::from_millis(500);

/// The queue, once there is a log.
static QUEUE: OnceLock<Queue> = OnceLock::new();

/// The newest lines, where somebody may look at them from elsewhere.
static KEPT: OnceLock<LogLines> = OnceLock::new();

/// The running log. Dropping it writes what waits.
#[must_use = "what waits is lost when nobody drops this at the end"]
pub(crate) struct Log(());

enum Job {
    Line(Vec<u8>),
    /// Tell that everything before it is written.
    Flush(SyncSender<()>),
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
        let lost = Arc::<AtomicU64>::default();
        let counted = Arc::clone(&lost);
        std::thread::Builder::new()
            .name("log".to_owned())
            .spawn(move || write_all(&waiting, &counted))
            .map_err(|error| Failure::unexpected(format!("cannot start the log: {error}")))?;
        let queue = QUEUE.get_or_init(|| Queue { jobs, lost }).clone();
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(queue);
        if output.is_json() {
            log.json().init();
        } else {
            log.with_ansi(io::stderr().is_terminal()).init();
        }
        Ok(Self(()))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        flush();
    }
}

/// Keeps the newest lines of the log from now on. What is said to a person is not among them: it
/// may be a secret, such as the link that signs a browser in.
pub(crate) fn keep() -> LogLines {
    KEPT.get_or_init(LogLines::default).clone()
}

/// Says something on standard error, behind the lines of the log where there is one.
pub(crate) fn tell(line: &str) {
    match QUEUE.get() {
        Some(queue) => queue.put(format!("{line}\n").into_bytes()),
        None => {
            let _ = writeln!(io::stderr(), "{line}");
        }
    }
}

/// Waits until what was said is written, but not for somebody who does not read.
pub(crate) fn flush() {
    let Some(queue) = QUEUE.get() else { return };
    let (done, written) = sync_channel(1);
    let begun = Instant::now();
    let mut job = Job::Flush(done);
    while let Err(TrySendError::Full(back)) = queue.jobs.try_send(job) {
        if begun.elapsed() > PATIENCE {
            return;
        }
        job = back;
        std::thread::sleep(PATIENCE / 100);
    }
    let _ = written.recv_timeout(PATIENCE);
}

/// Writes lines until nobody can read them any more.
fn write_all(waiting: &Receiver<Job>, lost: &AtomicU64) {
    let mut stderr = io::stderr();
    for job in waiting {
        match job {
            Job::Line(line) => match stderr.write_all(&line) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return,
                // A disk that is full may have room again.
                Err(_) => drop(lost.fetch_add(1, Ordering::Relaxed)),
            },
            // Fails when nobody waits for it any more.
            Job::Flush(done) => drop(done.send(())),
        }
        let dropped = lost.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            tracing::warn!(dropped, "lines of the log were dropped; nobody took them");
        }
    }
}

impl Queue {
    fn put(&self, line: Vec<u8>) {
        if let Err(TrySendError::Full(_)) = self.jobs.try_send(Job::Line(line)) {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Write for Queue {
    /// Takes a whole line, as the log hands them over.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        if let Some(kept) = KEPT.get() {
            kept.push(&String::from_utf8_lossy(line));
        }
        self.put(line.to_vec());
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
