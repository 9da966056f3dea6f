//! The methods that the bus answers itself: `stdio_bus/hello`, `/stats` and `/health`.

use agentbus_protocol::jsonrpc::Routing;
use rand::RngExt;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ClientId, Ports, Router};
use crate::code::Code;

/// The protocol version that is spoken.
const PROTOCOL_VERSION: &str = "0.1.0";

/// The extensions that are passed on and logged.
const EXTENSIONS: [&str; 2] = ["identity", "audit"];

#[derive(Deserialize, Default)]
struct Hello {
    #[serde(default)]
    params: HelloParams,
}

#[derive(Deserialize, Default)]
struct HelloParams {
    #[serde(default)]
    extensions: Map<String, Value>,
}

impl Router {
    pub(super) fn answer_own(
        &mut self,
        client: ClientId,
        line: &[u8],
        routing: &Routing<'_>,
        ports: &mut impl Ports,
    ) {
        let Some(span) = routing.id_span() else {
            return;
        };
        let id = &line[span];
        let result = match routing.method.as_deref() {
            Some("stdio_bus/hello") => hello(line, routing.session_id.as_deref()),
            Some("stdio_bus/stats") => self.stats(),
            Some("stdio_bus/health") => self.health(),
            _ => return self.refuse(client, id, Code::UnknownMethod, None, ports),
        };
        self.answer(client, id, &result, ports);
    }

    /// What the bus has done and what it is doing.
    #[must_use]
    pub fn stats(&self) -> Value {
        let workers: Vec<_> = self
            .workers
            .iter()
            .enumerate()
            .map(|(index, worker)| {
                json!({
                    "worker": index,
                    "pool": self.pools[worker.pool].id,
                    "running": worker.running,
                    "epoch": worker.epoch,
                    "restarts": worker.epoch.saturating_sub(1),
                    "pending": worker.pending.len(),
                })
            })
            .collect();
        let counts = self.counts;
        json!({
            "clients": self.clients.len(),
            "sessions": self.sessions.len(),
            "pending": self.clients.values().map(|client| client.pending).sum::<usize>(),
            "messages_in": counts.messages_in,
            "messages_out": counts.messages_out,
            "refused": counts.refused,
            "undeliverable": counts.undeliverable,
            "dropped": counts.dropped,
            "malformed": counts.malformed,
            "workers": workers,
        })
    }

    /// Whether the bus can do its work.
    fn health(&self) -> Value {
        let mut all_running = true;
        let pools: Map<_, _> = self
            .pools
            .iter()
            .map(|pool| {
                let running = |worker: &&super::WorkerId| self.workers[worker.0].running;
                let count = pool.workers.iter().filter(running).count();
                all_running &= count == pool.workers.len();
                let state = json!({"running": count, "instances": pool.workers.len()});
                (pool.id.clone(), state)
            })
            .collect();
        let status = match (self.draining, all_running) {
            (true, _) => "draining",
            (false, true) => "ok",
            (false, false) => "degraded",
        };
        json!({"status": status, "pools": pools})
    }
}

fn hello(line: &[u8], session: Option<&str>) -> Value {
    // The line was read as an object before; other params than ours have no extensions.
    let hello: Hello = serde_json::from_slice(line).unwrap_or_default();
    let wanted = hello.params.extensions;
    let extensions: Map<_, _> = wanted
        .iter()
        .map(|(name, extension)| {
            let active = EXTENSIONS.contains(&name.as_str());
            let version = extension.get("version").cloned().unwrap_or(Value::Null);
            let state = if active {
                json!({"selected": version, "active": true})
            } else {
                json!({"active": false})
            };
            (name.clone(), state)
        })
        .collect();
    let session = session.map_or_else(
        || format!("s-{:016x}", rand::rng().random::<u64>()),
        str::to_owned,
    );
    json!({
        "negotiatedProtocolVersion": PROTOCOL_VERSION,
        "sessionId": session,
        "extensions": extensions,
    })
}
