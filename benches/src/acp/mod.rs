//! `cargo xtask bench acp`: what the bus costs between an agent that speaks ACP and its readers.
//!
//! The baseline is the same agent on bare pipes, in the same run. Chunks are counted by a reader of
//! server-sent events that does nothing else: the caller of the turn, and one who follows the
//! session, whose updates pass through the log on disk.

mod agent;
mod bare;
mod readers;

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus::{Bus, FrameKind};
use agentbus_acp::decide::Nobody;
use agentbus_acp::{AgentConfig, AgentTargets, SessionLog};
use agentbus_server::{AuthMode, RunningServer, Server, ServerConfig};
use serde_json::Value;

use crate::report::{Report, median, percentile};
use crate::resident;

use bare::Bare;

/// Chunks of one turn.
const CHUNKS: usize = 200_000;

/// Turns of which the first chunk is timed.
const TURNS: usize = 2_000;

/// Runs of each figure, ours and the baseline's in turn.
const RUNS: usize = 5;

/// The argument that makes this benchmark the agent that it measures.
const AGENT: &str = "agent";

/// The command of the agent.
fn agent() -> Vec<String> {
    let here = std::env::current_exe().unwrap();
    vec![
        here.display().to_string(),
        super::ACP.to_owned(),
        AGENT.to_owned(),
    ]
}

/// A bus with the agent, and its HTTP host.
struct House {
    bus: Bus,
    agents: AgentTargets,
    log: SessionLog,
    server: RunningServer,
    _directory: tempfile::TempDir,
}

impl House {
    async fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let bus = Bus::builder("bench").connect().await.unwrap();
        let log = SessionLog::open(directory.path().join("sessions.db")).unwrap();
        let agent = AgentConfig::new("bench", agent());
        let agents = AgentTargets::start(&bus, vec![agent], Arc::new(Nobody), Some(log.clone()));
        let agents = agents.await.unwrap();
        let mut config = ServerConfig::new(directory.path().join("data"));
        config.listen = "127.0.0.1:0".parse().unwrap();
        config.auth = AuthMode::Off;
        config.sessions = Some(log.clone());
        let server = Server::start(config, bus.clone()).await.unwrap();
        Self {
            bus,
            agents,
            log,
            server,
            _directory: directory,
        }
    }

    /// From a prompt to its first chunk.
    async fn first_chunk(&self) -> Duration {
        let begun = Instant::now();
        let mut frames = self
            .bus
            .stream("bench", &Value::from("1"))
            .session("timed")
            .await
            .unwrap();
        let mut first = None;
        while let Some(frame) = frames.next().await {
            if frame.unwrap().event_type.frame_kind() == Some(FrameKind::Delta) {
                first.get_or_insert(begun.elapsed());
            }
        }
        first.unwrap()
    }

    async fn close(self) {
        self.agents.shutdown().await;
        self.server.shutdown().await;
        self.log.close().await;
    }
}

/// Measures everything, or is the agent.
pub(crate) fn run(arguments: &[String]) {
    if arguments.first().map(String::as_str) == Some(AGENT) {
        return agent::serve().unwrap();
    }
    crate::runtime().block_on(measure());
}

async fn measure() {
    let house = House::open().await;
    let mut bare = Bare::start(&agent());
    let mut report = Report::default();
    first_chunk(&house, &mut bare, &mut report).await;
    throughput(&house, &mut bare, &mut report).await;
    print!("{report}");
    house.close().await;
}

async fn first_chunk(house: &House, bare: &mut Bare, report: &mut Report) {
    let (mut ours, mut raw) = ((Vec::new(), Vec::new()), (Vec::new(), Vec::new()));
    house.first_chunk().await;
    for _ in 0..RUNS {
        let mut samples = Vec::new();
        for _ in 0..TURNS {
            samples.push(house.first_chunk().await);
        }
        ours.0.push(percentile(&mut samples, 50));
        ours.1.push(percentile(&mut samples, 99));
        let mut samples: Vec<_> = (0..TURNS).map(|_| bare.first_chunk()).collect();
        raw.0.push(percentile(&mut samples, 50));
        raw.1.push(percentile(&mut samples, 99));
    }
    let (ours, raw) = (
        (median(ours.0), median(ours.1)),
        (median(raw.0), median(raw.1)),
    );
    report.latency(
        "prompt to first chunk, p50 (baseline: pipes)",
        ours.0,
        raw.0,
        "≤ baseline + 1 ms",
    );
    report.latency(
        "prompt to first chunk, p99 (baseline: pipes)",
        ours.1,
        raw.1,
        "",
    );
}

async fn throughput(house: &House, bare: &mut Bare, report: &mut Report) {
    let address = house.server.local_addr();
    let (mut caller, mut follower, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let resident = || resident::mb(std::process::id());
    let before = resident();
    let mut most = before;
    for run in 0..RUNS {
        raw.push(bare.rate(CHUNKS));
        caller.push(readers::caller(address, CHUNKS).await);
        most = most.max(resident());
        // A session of its own, so that no run reads what an earlier one left.
        follower.push(readers::follower(&house.bus, address, &format!("run-{run}"), CHUNKS).await);
        most = most.max(resident());
    }
    let raw = median(raw);
    let what = "chunks to the caller of a turn over SSE (baseline: pipes)";
    report.rate(what, median(caller), raw, "≥ 100 k/s");
    let what = "chunks to a follower of the session over SSE, through the log (baseline: pipes)";
    report.rate(what, median(follower), raw, "≥ 100 k/s");
    let grown = format!("{:.1} MB more", most - before);
    report.plain(
        "resident memory after a million chunks to each",
        grown,
        "bounded",
    );
}
