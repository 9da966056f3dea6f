//! The two threads that start programs and bury them.
//!
//! **Spawner.** The kernel's parent-death signal follows the *thread* that forked, not its
//! process: a program forked on a runtime's pool thread is killed when that thread retires,
//! for no visible reason. So every fork happens on one thread that lives as long as the
//! process: a command goes in, a [`Spawned`] comes out.
//!
//! **Reaper.** A killed child stays a zombie until somebody waits for it. `Drop` cannot wait,
//! and the runtime may be gone by then, so the child moves to a thread that can.
//!
//! Both start with the first program and never end. The surprising invariant: **a reply that
//! nobody awaits any more kills its program**, because what is in it does so when dropped.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use std::sync::mpsc as std_mpsc;
use std::thread;

use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};

use crate::group::Group;
use crate::limits::SPAWN_QUEUE;
use crate::parent_death;

/// A started program: its group and our ends of its pipes.
#[derive(Debug)]
pub(crate) struct Spawned {
    pub(crate) group: Group,
    pub(crate) stdin: Option<ChildStdin>,
    pub(crate) stdout: Option<ChildStdout>,
    pub(crate) stderr: Option<ChildStderr>,
}

struct Job {
    command: Command,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

#[derive(Clone)]
struct Threads {
    spawner: mpsc::Sender<Job>,
    // Unbounded, because Drop cannot wait; it holds at most the children that exist.
    reaper: std_mpsc::Sender<Child>,
}

static THREADS: Mutex<Option<Threads>> = Mutex::new(None);

/// Starts `command`, which leads a process group, tied to the life of this process.
///
/// Cancel safe: a program whose spawn is abandoned half-way is killed.
pub(crate) async fn spawn(command: Command) -> io::Result<Spawned> {
    let gone = || io::Error::other("the thread that starts programs has ended");
    let (reply, answer) = oneshot::channel();
    let spawner = threads()?.spawner;
    spawner
        .send(Job { command, reply })
        .await
        .map_err(|_| gone())?;
    answer.await.map_err(|_| gone())?
}

/// Hands over a killed child, to be waited for in the background.
pub(crate) fn reap(child: Child) {
    // Only fails if the reaper could not live, and then this process is about to end too.
    if let Some(threads) = THREADS.lock().as_ref() {
        let _ = threads.reaper.send(child);
    }
}

fn threads() -> io::Result<Threads> {
    let mut threads = THREADS.lock();
    if let Some(threads) = threads.as_ref() {
        return Ok(threads.clone());
    }
    let (reaper, killed) = std_mpsc::channel();
    thread::Builder::new()
        .name("agentbus-reap".to_owned())
        .spawn(move || run_reaper(&killed))?;
    let (spawner, jobs) = mpsc::channel(SPAWN_QUEUE);
    thread::Builder::new()
        .name("agentbus-spawn".to_owned())
        .spawn(move || run_spawner(jobs))?;
    Ok(threads.insert(Threads { spawner, reaper }).clone())
}

fn run_spawner(mut jobs: mpsc::Receiver<Job>) {
    while let Some(Job { command, reply }) = jobs.blocking_recv() {
        // A panic must not end this thread: the kernel would kill every program it forked.
        let spawned = catch_unwind(AssertUnwindSafe(|| fork(command)))
            .unwrap_or_else(|_| Err(io::Error::other("starting the program panicked")));
        let _ = reply.send(spawned);
    }
}

fn fork(mut command: Command) -> io::Result<Spawned> {
    let leash = parent_death::tie(&mut command)?;
    let mut child = command.spawn()?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    Ok(Spawned {
        group: Group::new(child, leash),
        stdin,
        stdout,
        stderr,
    })
}

fn run_reaper(killed: &std_mpsc::Receiver<Child>) {
    while let Ok(mut child) = killed.recv() {
        // In turn is good enough: every child here has been sent SIGKILL.
        if let Err(error) = child.wait() {
            tracing::debug!(pid = child.id(), %error, "a killed program had no exit to collect");
        }
    }
}
