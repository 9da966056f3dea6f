//! What all routes share.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Instant;

use agentbus::{Bus, DeadLetters};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use utoipa::ToSchema;

use crate::auth::Auth;
use crate::chat::ChatHost;
use crate::guard::AllowList;
use crate::idempotency::Outcomes;
use crate::mcp::McpHost;
use crate::metrics::Metrics;
use crate::{Board, ServerConfig};

#[derive(Debug)]
pub(crate) struct App {
    pub(crate) bus: Bus,
    /// Ends with the bus.
    pub(crate) letters: DeadLetters,
    pub(crate) chat: ChatHost,
    pub(crate) mcp: McpHost,
    pub(crate) decisions: Board,
    pub(crate) config: ServerConfig,
    pub(crate) address: SocketAddr,
    pub(crate) auth: Auth,
    pub(crate) allowed: AllowList,
    pub(crate) outcomes: Outcomes,
    pub(crate) metrics: Metrics,
    pub(crate) started: Instant,
    pub(crate) agents: Agents,
    /// Fires when the host begins to stop: no new work is taken, `/readyz` says no.
    pub(crate) stopping: CancellationToken,
    /// Fires when the accepted work is done or overdue: what is long-lived ends.
    pub(crate) hang_up: CancellationToken,
    /// Tasks that belong to no connection's own task.
    pub(crate) tasks: TaskTracker,
}

impl App {
    /// Whether nothing that was accepted is still being worked on.
    pub(crate) fn is_idle(&self) -> bool {
        self.metrics.in_flight() == 0
            && self.mcp.gateway.running() == 0
            && self.bus.transport().stats().inboxes == 0
    }
}

/// What an agent on a WebSocket serves.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, ToSchema)]
pub(crate) struct Served {
    /// The target, or the pattern of full subjects.
    pub(crate) name: String,
    /// The agent id of the connection.
    pub(crate) agent: String,
    /// The queue group.
    pub(crate) group: Option<String>,
    /// The tenant, if it is another than that of the bus; empty for none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) tenant: Option<String>,
}

/// Who is connected and what they serve.
#[derive(Debug, Default)]
pub(crate) struct Agents(Mutex<BTreeMap<(u64, u64), Served>>);

impl Agents {
    pub(crate) fn add(&self, connection: u64, sub: u64, served: Served) {
        self.0.lock().insert((connection, sub), served);
    }

    pub(crate) fn remove(&self, connection: u64, sub: u64) {
        self.0.lock().remove(&(connection, sub));
    }

    pub(crate) fn remove_all(&self, connection: u64) {
        self.0.lock().retain(|(of, _), _| *of != connection);
    }

    pub(crate) fn list(&self) -> Vec<Served> {
        self.0.lock().values().cloned().collect()
    }
}
