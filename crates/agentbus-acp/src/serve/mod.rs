//! The bus as an ACP agent to editors: behind it stand the agents that it drives and the targets
//! that others serve.
//!
//! It promises that a session outlives its editor: turns belong to the bus, what happens in them is
//! in the log, and an editor is told from there, so that one that comes back is told exactly what
//! the one that left would have been. Any number of editors may be with a session.
//!
//! It knows nothing of what carries the messages, and does not start agents itself.
//!
//! The surprising invariant: **no update goes from an agent to an editor directly.** An editor
//! follows the log at its own pace, and one that does not read holds up nobody else.

mod attached;
mod choice;
mod door;
mod elsewhere;
mod feed;
mod listener;
mod opening;
mod refusal;
mod settings;
mod speech;
mod turn;

use std::collections::HashMap;
use std::io;
use std::sync::Arc;

use agentbus::Bus;
use agentbus::protocol::jsonrpc::scan;
use futures_util::{Sink, Stream, StreamExt, TryStreamExt};
use parking_lot::Mutex;
use serde::de::IgnoredAny;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::client::AgentTargets;
use crate::company::Company;
use crate::limits::{GARBAGE_LINES, QUOTED_BYTES};
use crate::line::Line;
use crate::log::SessionLog;
use crate::sdk::serving;

pub use choice::Targets;
use door::Door;

/// The bus as an agent. Cloning gives another handle.
#[derive(Debug, Clone)]
pub struct Editors(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    bus: Bus,
    agents: Option<AgentTargets>,
    log: SessionLog,
    company: Company,
    /// Turns of each session that somebody is with, or that has one.
    lines: Mutex<HashMap<String, Arc<Line>>>,
    /// The turns. They go on when their editor has left.
    turns: TaskTracker,
    stopping: CancellationToken,
}

/// Who connects, and to what.
#[derive(Debug)]
pub struct Visit {
    /// The one agent or target that serves every session; without it, each session chooses.
    pub agent: Option<String>,
    /// What can be chosen besides the agents that the bus drives.
    pub targets: Targets,
    /// The tenant whose those targets are, if that is not the one of the bus, in which its agents
    /// are too.
    pub tenant: Option<String>,
}

/// The connection to an editor failed.
#[derive(Debug, thiserror::Error)]
#[error("the connection to an editor failed: {0}")]
pub struct ConnectionError(String);

impl Editors {
    /// Serves these agents, and whatever else is on the bus, with sessions that are kept in the log.
    #[must_use]
    pub fn new(bus: Bus, agents: Option<AgentTargets>, log: SessionLog) -> Self {
        let company = agents.as_ref().map(|agents| agents.company().clone());
        Self(Arc::new(Inner {
            bus,
            company: company.unwrap_or_default(),
            agents,
            log,
            lines: Mutex::default(),
            turns: TaskTracker::new(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Serves one editor until its input ends or `stop` fires. Each item is one JSON-RPC message.
    ///
    /// # Errors
    /// The failure of the input or the output; the end of the input is none.
    pub async fn serve(
        &self,
        visit: Visit,
        incoming: impl Stream<Item = io::Result<String>> + Send + 'static,
        outgoing: impl Sink<String, Error = io::Error> + Send + 'static,
        stop: CancellationToken,
    ) -> Result<(), ConnectionError> {
        let door = Door::new(self.clone(), visit);
        let served = serving::serve(Arc::new(door), patient(incoming), outgoing, stop).await;
        served.map_err(|error| ConnectionError(error.to_string()))
    }

    /// Ends the turns of editors, and those of the agents behind them, because the bus does. Begins
    /// no other.
    pub fn stop(&self) {
        // The agents first: whose turn is dropped afterwards says why it ended.
        if let Some(agents) = &self.0.agents {
            agents.stop();
        }
        self.0.stopping.cancel();
    }

    /// The same, and waits until the turns have ended.
    pub async fn close(&self) {
        self.stop();
        self.0.turns.close();
        self.0.turns.wait().await;
    }

    /// The turns of a session, for as long as somebody holds on to them.
    fn line(&self, session: &str) -> Arc<Line> {
        let mut lines = self.0.lines.lock();
        lines.retain(|_, line| Arc::strong_count(line) > 1);
        Arc::clone(lines.entry(session.to_owned()).or_default())
    }

    /// The agents, if this is one of those that the bus drives.
    fn driving(&self, name: &str) -> Option<&AgentTargets> {
        let agents = self.0.agents.as_ref()?;
        agents.names().any(|it| it == name).then_some(agents)
    }
}

/// Ends the input of an editor that sends too much that is no message.
fn patient(
    incoming: impl Stream<Item = io::Result<String>> + Send + 'static,
) -> impl Stream<Item = io::Result<String>> + Send + 'static {
    let mut garbage = 0;
    let patient = incoming.take_while(move |line| {
        if let Ok(line) = line
            && scan(line.as_bytes()).is_err()
        {
            garbage += 1;
        }
        std::future::ready(garbage <= GARBAGE_LINES)
    });
    patient.map_ok(quotable)
}

/// Cuts a line that is no JSON: its answer quotes it, and could be longer than a message may be.
fn quotable(line: String) -> String {
    let cut = line.floor_char_boundary(QUOTED_BYTES);
    if cut == line.len() || serde_json::from_str::<IgnoredAny>(&line).is_ok() {
        return line;
    }
    // Whatever stands in front of it, the dots make no JSON of it.
    format!("{}…", &line[..cut])
}
