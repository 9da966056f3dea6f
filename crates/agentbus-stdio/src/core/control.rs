//! The methods that the bus answers itself, and what it logs for an audit.
//!
//! `stdio_bus/hello` negotiates, `stdio_bus/stats` counts, `stdio_bus/health` tells whether every
//! pool can work. The extensions `identity` and `audit` travel in the member `_ext` of a message,
//! which passes unchanged and is logged, also for clients that did not say hello.

use std::collections::BTreeMap;

use agentbus_protocol::jsonrpc::Routing;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{ClientId, Core, Line, Outlet, Reach};
use crate::codes::Fault;

/// Version of the protocol between SDKs and the bus, and of the extensions.
const PROTOCOL_VERSION: &str = "0.1.0";

/// Extensions that the bus passes through and logs.
const EXTENSIONS: [&str; 2] = ["identity", "audit"];

#[derive(Debug, Deserialize)]
struct Request<P> {
    params: Option<P>,
}

#[derive(Debug, Default, Deserialize)]
struct Hello {
    #[serde(default)]
    extensions: BTreeMap<String, Extension>,
}

#[derive(Debug, Deserialize)]
struct Extension {
    #[serde(default)]
    required: bool,
}

impl Core {
    /// Answers a method of the reserved namespace.
    pub(super) fn serve_bus_method(
        &mut self,
        client: ClientId,
        routing: &Routing<'_>,
        line: &[u8],
        out: &mut impl Outlet,
    ) {
        let Some(span) = routing.id_span() else {
            self.counters.dropped += 1;
            return;
        };
        let result = match routing.method.as_deref() {
            Some("stdio_bus/hello") => self.hello(routing, line),
            Some("stdio_bus/stats") => Ok(self.stats()),
            Some("stdio_bus/health") => Ok(self.health()),
            _ => Err((Fault::UnknownBusMethod, Map::new())),
        };
        let id = &line[span];
        match result {
            Err((fault, data)) => self.answer_error(client, id, fault, data, out),
            Ok(result) => {
                let mut answer = Vec::with_capacity(256);
                answer.extend_from_slice(b"{\"jsonrpc\":\"2.0\",\"id\":");
                answer.extend_from_slice(id);
                answer.extend_from_slice(b",\"result\":");
                answer.extend_from_slice(result.to_string().as_bytes());
                if let Some(session) = &routing.session_id {
                    answer.extend_from_slice(b",\"sessionId\":");
                    answer.extend_from_slice(json!(session).to_string().as_bytes());
                }
                answer.push(b'}');
                out.client(client, Line::Own(&answer));
            }
        }
    }

    fn hello(&mut self, routing: &Routing<'_>, line: &[u8]) -> Result<Value, super::pick::Refusal> {
        let request: Request<Hello> =
            serde_json::from_slice(line).map_err(|_| (Fault::BadBusParams, Map::new()))?;
        let hello = request.params.unwrap_or_default();
        let mut answers = Map::new();
        for (name, wanted) in &hello.extensions {
            let offered = EXTENSIONS.contains(&name.as_str());
            if wanted.required && !offered {
                let data = [("extension".to_owned(), name.as_str().into())];
                return Err((Fault::ExtensionUnavailable, Map::from_iter(data)));
            }
            let answer = match offered {
                true => json!({ "selected": PROTOCOL_VERSION, "active": true }),
                false => json!({ "active": false }),
            };
            answers.insert(name.clone(), answer);
        }
        let session = match &routing.session_id {
            Some(session) => session.to_string(),
            None => self.mint_session(),
        };
        Ok(json!({
            "negotiatedProtocolVersion": PROTOCOL_VERSION,
            "sessionId": session,
            "extensions": answers,
            "busVersion": env!("CARGO_PKG_VERSION"),
        }))
    }

    /// Makes up a session name that no other client and no other run has.
    fn mint_session(&mut self) -> String {
        self.minted += 1;
        // An odd multiplier permutes the numbers, so names differ as long as counters do.
        let mixed = (self.salt ^ self.minted).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        format!("bus-{mixed:016x}-{}", self.minted)
    }

    fn stats(&self) -> Value {
        let counters = &self.counters;
        json!({
            "messagesIn": counters.messages_in,
            "messagesOut": counters.messages_out,
            "bytesIn": counters.bytes_in,
            "bytesOut": counters.bytes_out,
            "workerRestarts": counters.restarts,
            "errors": counters.errors,
            "dropped": counters.dropped,
            "clientConnects": counters.connects,
            "clientDisconnects": counters.disconnects,
            "clients": self.clients.len(),
            "sessions": self.sessions.len(),
            "inFlight": self.in_flight(),
            "workers": self.worker_ids().map(|id| self.worker_stats(id)).collect::<Vec<_>>(),
        })
    }

    fn worker_stats(&self, id: super::WorkerId) -> Value {
        let worker = self.worker(id);
        json!({
            "pool": self.pools[worker.pool].name.as_str(),
            "instance": worker.instance,
            "state": worker.reach.name(),
            "epoch": worker.epoch,
            "inFlight": worker.desk.in_flight(),
            "messagesIn": worker.counters.messages_in,
            "messagesOut": worker.counters.messages_out,
            "bytesIn": worker.counters.bytes_in,
            "bytesOut": worker.counters.bytes_out,
            "latencyMicros": {
                "p50": worker.latency.quantile(0.5),
                "p99": worker.latency.quantile(0.99),
            },
        })
    }

    fn health(&self) -> Value {
        let pools: Vec<Value> = self
            .pools
            .iter()
            .map(|pool| {
                let usable = |id: &&super::WorkerId| {
                    !matches!(self.worker(**id).reach, Reach::Down | Reach::GivenUp)
                };
                let running = pool.workers.iter().filter(usable).count();
                json!({
                    "pool": pool.name.as_str(),
                    "workers": pool.workers.len(),
                    "running": running,
                    "healthy": running > 0,
                })
            })
            .collect();
        let healthy = !self.stopping && pools.iter().all(|pool| pool["healthy"] == true);
        json!({ "healthy": healthy, "stopping": self.stopping, "pools": pools })
    }

    /// Logs who asked for what, as SDKs write it beside the message.
    pub(super) fn audit(&self, client: ClientId, routing: &Routing<'_>, line: &[u8]) {
        let Some(span) = routing.extensions.clone() else {
            return;
        };
        let method = routing.method.as_deref().unwrap_or_default();
        let extensions = String::from_utf8_lossy(&line[span]);
        tracing::info!(
            target: "agentbus::audit",
            client = client.slot,
            method,
            ext = &*extensions,
            "request"
        );
    }
}

impl Reach {
    /// Returns the word for it in answers and lists.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Up => "running",
            Self::Starting => "starting",
            Self::Asleep => "asleep",
            Self::Down => "restarting",
            Self::GivenUp => "given_up",
        }
    }
}
