//! Keeps one worker alive: turns the supervisor's actions into processes.
//!
//! One task per worker owns its process and ends with it. Whatever way the task ends, the
//! process group dies.

use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agentbus_process::{Process, Program, StdoutMark};
use rustix::fs::OFlags;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout};

use super::bell::Bell;
use super::link::drive;
use super::watch::watch;
use super::worker_side::{End, WorkerSide};
use super::{Shared, handshake};
use crate::codes::Fault;
use crate::config::PoolConfig;
use crate::core::{Reach, WorkerId};
use crate::limits::{ENLARGED_WORKERS, HOUSEKEEPING, LOG_LINES, PIPE_BYTES};
use crate::supervisor::{Action, After, Event, Policy, State, Supervisor};

/// Time that a worker has to exit once it has closed its output or is being replaced.
const PARTING: Duration = Duration::from_secs(2);

/// Time between two looks at a worker that is to be replaced as soon as it is idle.
const IMPATIENCE: Duration = Duration::from_millis(50);

/// What an operator or the end of the bus asks of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Command {
    /// Start it, or replace its process once it has no work.
    Restart,
    /// End it by then.
    Stop {
        /// When it is killed.
        deadline: Instant,
    },
}

/// A process with its pipes.
#[derive(Debug)]
struct Life {
    process: Process,
    reader: AsyncFd<Arc<OwnedFd>>,
    /// Until it has been attached, which gives it to the queue.
    writer: Option<Arc<OwnedFd>>,
    side: WorkerSide,
    bell: Arc<Bell>,
    since: Instant,
    _mark: StdoutMark,
}

/// The task of one worker.
#[derive(Debug)]
pub(crate) struct Keeper {
    shared: Arc<Shared>,
    id: WorkerId,
    /// Its place in its pool, by which the log names it.
    instance: u32,
    config: Arc<PoolConfig>,
    program: Program,
    supervisor: Supervisor,
    commands: mpsc::Receiver<Command>,
    /// Told once the first start has succeeded or failed.
    started: Option<oneshot::Sender<()>>,
    life: Option<Life>,
    /// When the process has to be gone.
    deadline: Option<Instant>,
    /// Since when an operator wants it replaced.
    wanted: Option<Instant>,
    fault: Fault,
    success: bool,
}

impl Life {
    /// Writes a line of our own before anybody else may write. Returns whether it went out whole.
    fn write(&self, line: &[u8]) -> bool {
        let Some(writer) = &self.writer else {
            return false;
        };
        rustix::io::write(writer, line) == Ok(line.len())
    }
}

impl Keeper {
    pub(crate) fn new(
        shared: Arc<Shared>,
        id: WorkerId,
        config: Arc<PoolConfig>,
        commands: mpsc::Receiver<Command>,
        started: oneshot::Sender<()>,
    ) -> Self {
        let policy = Policy::new(config.restart, &shared.limits);
        let instance = shared.lock().core.worker(id).instance;
        let program = program(&shared, id, instance, &config);
        Self {
            shared,
            id,
            instance,
            config,
            program,
            supervisor: Supervisor::new(policy),
            commands,
            started: Some(started),
            life: None,
            deadline: None,
            wanted: None,
            fault: Fault::WorkerDied,
            success: false,
        }
    }

    /// Runs until the worker is stopped.
    pub(crate) async fn run(mut self) {
        let mut event = Event::Start;
        loop {
            let actions = self
                .supervisor
                .step(self.shared.age(), event, rand::random());
            for action in actions {
                self.perform(action);
            }
            event = match self.supervisor.state() {
                State::Stopped => return,
                State::Starting => self.start().await,
                State::Running => self.work().await,
                State::Retiring(_) | State::Stopping => self.part().await,
                State::Backoff { until } => self.rest(Some(until)).await,
                State::Asleep | State::GivenUp => self.rest(None).await,
            };
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Attach => self.attach(),
            Action::Fail => self.fail(),
            Action::Spawn => {
                let mut inner = self.shared.lock();
                inner.core.worker_mut(self.id).reach = Reach::Starting;
            }
            Action::Terminate if self.supervisor.state() == State::Stopping => {
                self.let_go(Reach::Down);
            }
            // What is due to be replaced was let go of when it was found idle, and the waits are
            // the states' own affair.
            Action::Terminate | Action::Wait { .. } => {}
        }
    }

    /// Starts a process and shakes hands with it.
    async fn start(&mut self) -> Event {
        let event = self.start_once().await;
        if let Some(started) = self.started.take() {
            let _ = started.send(());
        }
        event
    }

    async fn start_once(&mut self) -> Event {
        let began = tokio::select! {
            began = self.program.spawn() => began,
            deadline = stop_asked(&mut self.commands) => {
                self.deadline = Some(deadline);
                return Event::Stop;
            }
        };
        (self.fault, self.success) = (Fault::WorkerDied, false);
        let life = match began {
            Ok(process) => self.equip(process),
            Err(error) => {
                let (pool, instance) = (&self.config.id, self.instance);
                tracing::error!(pool, instance, %error, "a worker did not start");
                return Event::Exited { success: false };
            }
        };
        match life {
            Ok(life) => self.life = Some(life),
            Err(error) => {
                let (pool, instance) = (&self.config.id, self.instance);
                tracing::error!(pool, instance, %error, "a worker has no usable pipes");
                return Event::Exited { success: false };
            }
        }
        match self.config.handshake.clone() {
            None => Event::Ready,
            Some(wanted) => self.shake(&wanted).await,
        }
    }

    /// Takes the pipes of a new process.
    fn equip(&mut self, mut process: Process) -> std::io::Result<Life> {
        let missing = || std::io::Error::other("the program came without its pipes");
        let writer = process.take_stdin().ok_or_else(missing)?.into_owned_fd()?;
        let (reader, mark) = process
            .take_stdout()
            .ok_or_else(missing)?
            .into_descriptor()?;
        for descriptor in [&writer, &reader] {
            let flags = rustix::fs::fcntl_getfl(descriptor)?;
            rustix::fs::fcntl_setfl(descriptor, flags | OFlags::NONBLOCK)?;
            #[cfg(target_os = "linux")]
            if self.id.0 < ENLARGED_WORKERS {
                // The kernel may refuse: its limit is per user, and small pipes work too.
                let _ = rustix::pipe::fcntl_setpipe_size(descriptor, PIPE_BYTES);
            }
        }
        let bell = {
            let mut inner = self.shared.lock();
            inner.worker_state(self.id).pid = Some(process.id());
            Arc::clone(&inner.mouths.workers[self.id.0 as usize].bell)
        };
        let shaking = self.config.handshake.is_some();
        Ok(Life {
            process,
            reader: watch(Arc::new(reader), Interest::READABLE)?,
            writer: Some(Arc::new(writer)),
            side: WorkerSide::new(Arc::clone(&self.shared), self.id, shaking),
            bell,
            since: Instant::now(),
            _mark: mark,
        })
    }

    async fn shake(&mut self, wanted: &crate::config::Handshake) -> Event {
        let Some(life) = &mut self.life else {
            return Event::Exited { success: false };
        };
        let request = handshake::request(wanted);
        // A fresh pipe holds more than any handshake should say.
        let sent = life.write(&request);
        let answered = tokio::select! {
            driven = timeout(wanted.timeout, drive(&mut life.side, &life.reader, &life.bell)) => driven.is_ok(),
            deadline = stop_asked(&mut self.commands) => {
                self.deadline = Some(deadline);
                return Event::Stop;
            }
        };
        if sent && answered && life.side.end == Some(End::Shaken) {
            life.side.end = None;
            if let Some(method) = &wanted.then_notify {
                life.write(&handshake::notification(method));
            }
            return Event::Ready;
        }
        tracing::error!(
            pool = self.config.id,
            instance = self.instance,
            "a worker did not complete its handshake"
        );
        self.end_life(Duration::ZERO).await
    }

    /// Gives the process work.
    fn attach(&mut self) {
        let Some(life) = &mut self.life else {
            return;
        };
        let Some(writer) = life.writer.take() else {
            return;
        };
        let mut inner = self.shared.lock();
        let worker = inner.core.worker_mut(self.id);
        worker.reach = Reach::Up;
        worker.epoch += 1;
        let epoch = worker.epoch;
        inner.core.counters.restarts += u64::from(epoch > 1);
        inner.mouths.workers[self.id.0 as usize].attach(writer);
        inner.weigh(self.id);
        inner.room.notify_waiters();
        drop(inner);
        let pid = life.process.id();
        tracing::info!(
            pool = self.config.id,
            instance = self.instance,
            pid,
            epoch,
            "a worker runs"
        );
    }

    /// Lets lines wait from now on, or be refused, and closes the worker's input.
    fn let_go(&mut self, reach: Reach) {
        let mut inner = self.shared.lock();
        inner.core.worker_mut(self.id).reach = reach;
        inner.mouths.workers[self.id.0 as usize].detach();
    }

    /// Answers what the worker owed.
    fn fail(&mut self) {
        let reach = match self.supervisor.state() {
            State::Backoff { .. } => Reach::Down,
            _ => Reach::GivenUp,
        };
        let (id, mut fault) = (self.id, self.fault);
        if self.supervisor.state() == State::Stopped {
            fault = Fault::ShuttingDown;
        }
        let mut inner = self.shared.lock();
        inner.core.worker_mut(id).reach = reach;
        let out = &mut inner.mouths.workers[id.0 as usize];
        out.detach();
        out.clear();
        inner.weigh(id);
        inner.worker_state(id).pid = None;
        inner.with_post(|core, post| core.worker_ended(id, fault, post));
        inner.room.notify_waiters();
        drop(inner);
        match self.supervisor.state() {
            State::GivenUp => tracing::error!(
                pool = self.config.id,
                instance = self.instance,
                "a worker is not restarted any more"
            ),
            State::Backoff { until } => {
                let wait = until.saturating_sub(self.shared.age());
                tracing::warn!(
                    pool = self.config.id,
                    instance = self.instance,
                    ?wait,
                    "a worker ended and is restarted"
                );
            }
            _ => {}
        }
    }

    /// Lets the process work until it ends or has to.
    async fn work(&mut self) -> Event {
        loop {
            let pause = self.pause_until_look();
            let Some(life) = &mut self.life else {
                return Event::Exited { success: false };
            };
            tokio::select! {
                // In this order, so that a worker that never stops talking can be told to stop.
                biased;
                command = self.commands.recv() => match command {
                    Some(Command::Restart) => self.want(),
                    Some(Command::Stop { deadline }) => {
                        self.deadline = Some(deadline);
                        return Event::Stop;
                    }
                    None => return self.abandoned(),
                },
                _ = life.process.wait() => return self.end_life(PARTING).await,
                () = sleep(pause), if pause.is_some() => {
                    if let Some(event) = self.inspect().await {
                        return event;
                    }
                }
                _ = drive(&mut life.side, &life.reader, &life.bell) => return self.closed().await,
            }
        }
    }

    /// Nobody holds the pool any more.
    fn abandoned(&mut self) -> Event {
        self.deadline = Some(Instant::now());
        Event::Stop
    }

    fn want(&mut self) {
        self.wanted.get_or_insert_with(Instant::now);
        self.shared.lock().core.worker_mut(self.id).retiring = true;
    }

    /// Handles a worker that closed a pipe or broke the rules.
    async fn closed(&mut self) -> Event {
        let bad = self.life.as_ref().and_then(|life| life.side.end) == Some(End::BadOutput);
        if bad {
            self.fault = Fault::BadWorkerOutput;
        } else if let Some(life) = &mut self.life {
            // It is most likely exiting; what it said last is still to be read.
            let _ = timeout(PARTING, life.process.wait()).await;
        }
        self.end_life(PARTING).await
    }

    /// Ends the process if it has not ended, and reads what it left.
    async fn end_life(&mut self, grace: Duration) -> Event {
        let Some(mut life) = self.life.take() else {
            return Event::Exited { success: false };
        };
        {
            let mut inner = self.shared.lock();
            inner.mouths.workers[self.id.0 as usize].detach();
        }
        drop(life.writer.take());
        let outcome = life.process.terminate(grace).await;
        if life.side.end != Some(End::BadOutput) {
            life.side.drain(life.reader.get_ref());
        }
        let (pool, instance) = (&self.config.id, self.instance);
        tracing::debug!(pool, instance, %outcome, "a worker has ended");
        self.success = outcome.success();
        Event::Exited {
            success: self.success,
        }
    }

    /// Ends a process that has no work, or whose bus stops.
    async fn part(&mut self) -> Event {
        let deadline = match (self.supervisor.state(), self.deadline) {
            (State::Stopping, Some(deadline)) => deadline,
            _ => Instant::now() + PARTING,
        };
        let Some(life) = &mut self.life else {
            return Event::Exited { success: true };
        };
        // A worker that cannot write cannot end.
        let grace = deadline.saturating_duration_since(Instant::now());
        let reading = async {
            let _ = drive(&mut life.side, &life.reader, &life.bell).await;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            _ = life.process.terminate(grace) => {}
            () = reading => {}
            stop = stop_asked(&mut self.commands) => {
                self.deadline = Some(stop);
                return Event::Stop;
            }
        }
        self.forget_process();
        self.end_life(Duration::ZERO).await
    }

    /// Notes that what comes next is another process.
    fn forget_process(&mut self) {
        self.wanted = None;
        let mut inner = self.shared.lock();
        inner.worker_state(self.id).pid = None;
        inner.core.worker_renewed(self.id);
    }

    /// Waits without a process.
    async fn rest(&mut self, until: Option<Duration>) -> Event {
        let needed = Arc::clone(&self.shared.lock().worker_state(self.id).needed);
        let pause = until.map(|until| until.saturating_sub(self.shared.age()));
        tokio::select! {
            () = sleep(pause), if pause.is_some() => Event::Timer,
            () = needed.notified() => Event::Wake,
            command = self.commands.recv() => match command {
                Some(Command::Restart) => Event::Start,
                Some(Command::Stop { .. }) | None => Event::Stop,
            },
        }
    }

    /// Returns how long until the process has to be looked at, if ever.
    fn pause_until_look(&self) -> Option<Duration> {
        let recycle = &self.config.recycle;
        let watched = self.config.hibernate_after.is_some()
            || recycle.max_age.is_some()
            || recycle.max_requests.is_some()
            || recycle.max_rss_bytes.is_some();
        match self.wanted {
            Some(_) => Some(IMPATIENCE),
            None => watched.then_some(HOUSEKEEPING),
        }
    }

    /// Decides whether the process is to be replaced or to sleep.
    async fn inspect(&mut self) -> Option<Event> {
        let after = self.let_go_if_idle();
        let patience = Duration::from_secs(self.shared.limits.drain_timeout_sec);
        let overdue = self.wanted.is_some_and(|since| since.elapsed() > patience);
        match after {
            Some(After::Renew) => Some(Event::Recycle),
            Some(After::Sleep) => Some(Event::Hibernate),
            None if overdue => Some(self.end_life(PARTING).await),
            None => None,
        }
    }

    /// Takes an idle worker out of reach, in one step with finding it idle.
    fn let_go_if_idle(&mut self) -> Option<After> {
        let tired = self.wanted.is_some() || self.is_tired();
        let now = self.shared.now();
        let mut inner = self.shared.lock();
        let idle = inner.core.in_flight_of(self.id) == 0 && inner.queued_for(self.id) == 0;
        let worker = inner.core.worker_mut(self.id);
        worker.retiring |= tired;
        let silence = Duration::from_micros(now.saturating_sub(worker.last_used));
        let sleepy = self
            .config
            .hibernate_after
            .is_some_and(|limit| silence > limit);
        let after = match (idle, tired, sleepy) {
            (true, true, _) => After::Renew,
            (true, false, true) => After::Sleep,
            _ => return None,
        };
        worker.reach = match after {
            After::Renew => Reach::Starting,
            After::Sleep => Reach::Asleep,
        };
        inner.mouths.workers[self.id.0 as usize].detach();
        Some(after)
    }

    fn is_tired(&self) -> bool {
        let Some(life) = &self.life else {
            return false;
        };
        let recycle = &self.config.recycle;
        let requests = self.shared.lock().core.worker(self.id).requests;
        recycle
            .max_age
            .is_some_and(|limit| life.since.elapsed() > limit)
            || recycle.max_requests.is_some_and(|limit| requests >= limit)
            || recycle
                .max_rss_bytes
                .is_some_and(|limit| resident_bytes(life.process.id()) > limit)
    }
}

/// Says what to run, and where its standard error goes.
fn program(shared: &Arc<Shared>, id: WorkerId, instance: u32, config: &PoolConfig) -> Program {
    let mut program = Program::new(&config.command).args(&config.args);
    for (name, value) in &config.env {
        program = program.env(name, value);
    }
    if let Some(directory) = &config.cwd {
        program = program.current_dir(directory);
    }
    // Weak, because the program belongs to a task that the bus waits for.
    let shared = Arc::downgrade(shared);
    let pool = config.id.clone();
    program.on_stderr(move |line| {
        tracing::info!(target: "agentbus::worker", pool, instance, "{line}");
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let mut inner = shared.lock();
        let log = &mut inner.worker_state(id).log;
        if log.len() >= LOG_LINES {
            log.pop_front();
        }
        log.push_back(line.to_owned());
    })
}

/// Waits for the command to stop and returns its deadline.
async fn stop_asked(commands: &mut mpsc::Receiver<Command>) -> Instant {
    loop {
        match commands.recv().await {
            Some(Command::Stop { deadline }) => return deadline,
            // It is being started already.
            Some(Command::Restart) => {}
            None => return Instant::now(),
        }
    }
}

async fn sleep(pause: Option<Duration>) {
    if let Some(pause) = pause {
        tokio::time::sleep(pause).await;
    }
}

/// Returns the resident memory of a process, 0 where the system does not tell.
fn resident_bytes(pid: i32) -> u64 {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(Path::new(&path)).unwrap_or_default();
    let kilobytes = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| {
            rest.trim()
                .trim_end_matches("kB")
                .trim()
                .parse::<u64>()
                .ok()
        });
    kilobytes.unwrap_or(0) * 1024
}
