//! One worker: its program, started again and again.

use std::os::fd::AsFd;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_process::{Process, Program, SpawnError};
use rand::RngExt;
use rustix::fs::OFlags;

use super::Shared;
use super::hub::End;
use super::inlet;
use super::outlet::Outlet;
use crate::config::{Framing, Pool};
use crate::framing::Splitter;
use crate::limits::TERMINATE_AFTER;
use crate::router::WorkerId;
use crate::supervise::{State, Supervisor};

/// Time from SIGTERM to SIGKILL for a worker that printed garbage or closed its output.
const BROKEN_GRACE: Duration = Duration::from_secs(5);

/// Keeps a worker running until the bus is over.
pub(super) async fn keep(shared: Arc<Shared>, worker: WorkerId, pool: Pool) {
    let mut supervisor = Supervisor::new(&shared.config.limits);
    loop {
        let success = run(&shared, worker, &pool, &mut supervisor).await;
        if shared.over.is_cancelled() {
            return supervisor.stop();
        }
        let jitter = rand::rng().random::<f64>();
        match supervisor.ended(success, Instant::now(), jitter) {
            State::Resting { until } => {
                let rest = until.saturating_duration_since(Instant::now());
                tracing::info!(
                    worker = worker.0,
                    pool = pool.id,
                    ?rest,
                    "restarting the worker"
                );
                tokio::select! {
                    () = tokio::time::sleep(rest) => supervisor.rested(),
                    () = shared.over.cancelled() => return supervisor.stop(),
                }
            }
            State::GivenUp => {
                tracing::error!(
                    worker = worker.0,
                    pool = pool.id,
                    "the worker ended too often within limits.restart_window_sec; it stays down"
                );
                return;
            }
            State::Starting | State::Running | State::Stopped => return,
        }
    }
}

/// Runs the program once and says whether it ended well.
async fn run(
    shared: &Arc<Shared>,
    worker: WorkerId,
    pool: &Pool,
    supervisor: &mut Supervisor,
) -> bool {
    let mut process = match start(worker, pool).await {
        Ok(process) => process,
        Err(error) => {
            tracing::error!(worker = worker.0, pool = pool.id, %error, "the worker cannot be started");
            shared.hub.lock().tried(worker);
            shared.changed.notify_waiters();
            return false;
        }
    };
    let (Some(stdin), Some(stdout)) = (process.take_stdin(), process.take_stdout()) else {
        return false;
    };
    let Ok(stdin) = stdin.into_owned_fd() else {
        return false;
    };
    // Nothing of it works on a descriptor that blocks.
    if let Err(error) = rustix::fs::fcntl_setfl(stdin.as_fd(), OFlags::NONBLOCK) {
        tracing::error!(worker = worker.0, %error, "the worker's input cannot be used");
        return false;
    }
    supervisor.started();
    shared
        .hub
        .lock()
        .add_worker(worker, Outlet::new(Arc::new(stdin)));
    shared.spawn_flusher(End::Worker(worker));
    shared.changed.notify_waiters();
    tracing::info!(
        worker = worker.0,
        pool = pool.id,
        pid = process.id(),
        "worker started"
    );
    read(shared, worker, stdout).await;
    shared.hub.lock().remove_worker(worker);
    shared.changed.notify_waiters();
    end(shared, worker, process).await
}

async fn start(worker: WorkerId, pool: &Pool) -> Result<Process, SpawnError> {
    let mut program = Program::new(&pool.command).args(&pool.args);
    for (name, value) in &pool.env {
        program = program.env(name, value);
    }
    if let Some(directory) = &pool.cwd {
        program = program.current_dir(directory);
    }
    let (number, pool) = (worker.0, pool.id.clone());
    program
        .on_stderr(move |line| tracing::info!(worker = number, pool, line, "stderr"))
        .spawn()
        .await
}

/// Reads the worker's output until it ends, makes no sense, or the bus is over.
async fn read(shared: &Shared, worker: WorkerId, mut stdout: agentbus_process::Stdout) {
    let max = shared.config.limits.max_input_buffer;
    let mut splitter = Splitter::new(Framing::Ndjson, max);
    let mut over = pin!(shared.over.cancelled());
    loop {
        let taken = tokio::select! {
            taken = inlet::read(&mut stdout, |bytes| take(shared, worker, &mut splitter, bytes)) => taken,
            () = &mut over => return,
        };
        match taken {
            Some(Ok(())) => shared.changed.notify_waiters(),
            Some(Err(fault)) => {
                tracing::warn!(worker = worker.0, fault, "ending the worker");
                return;
            }
            None => return,
        }
    }
}

fn take(
    shared: &Shared,
    worker: WorkerId,
    splitter: &mut Splitter,
    bytes: &[u8],
) -> Result<(), String> {
    let mut hub = shared.hub.lock();
    let mut garbage = None;
    let fed = splitter.feed(bytes, |line| {
        if garbage.is_none() {
            garbage = hub.route_from_worker(worker, line).err();
        }
    });
    hub.write();
    match (garbage, fed) {
        (Some(garbage), _) => Err(garbage.to_string()),
        (None, Err(error)) => Err(error.to_string()),
        (None, Ok(())) => Ok(()),
    }
}

/// Ends the program, whose input is closed by now, and says whether it ended well.
async fn end(shared: &Shared, worker: WorkerId, mut process: Process) -> bool {
    if let Ok(outcome) = tokio::time::timeout(TERMINATE_AFTER, process.wait()).await {
        tracing::info!(worker = worker.0, exit = %outcome.exit, "worker ended");
        return outcome.success();
    }
    let grace = if shared.over.is_cancelled() {
        shared.time_left()
    } else {
        BROKEN_GRACE
    };
    let outcome = process.terminate(grace).await;
    tracing::info!(worker = worker.0, exit = %outcome.exit, "worker was ended");
    outcome.success()
}
