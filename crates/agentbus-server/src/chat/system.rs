//! What operators and health checks ask.

use std::sync::Arc;
use std::time::Instant;

use agentbus_chat::model::STOP_REASONS;
use axum::Json;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// The layout of the database, as AgentChatBus counts it.
const SCHEMA_VERSION: u32 = 1;

/// Says that the process lives, as AgentChatBus does; `/healthz` is the one that needs no token.
#[utoipa::path(get, path = "/health", tag = "conversations", responses((status = 200, description = "It lives")))]
pub(super) async fn health() -> Json<Value> {
    Json(json!({
        "status": "ok", "service": "AgentChatBus", "engine": "rust", "runtime": "agentbus",
        "version": env!("CARGO_PKG_VERSION"), "transport": "http",
        "startup_mode": "external-service-manual",
    }))
}

/// Counts of threads, messages and agents.
#[utoipa::path(get, path = "/api/metrics", tag = "conversations", responses((status = 200, description = "Counts")))]
pub(super) async fn metrics(State(app): State<Arc<App>>) -> Answer {
    let overview = app.chat.chat.overview().await?;
    let figures = overview.figures;
    let [last_1m, last_5m, last_15m] = figures.recent;
    let mut stops: Map<String, Value> = STOP_REASONS
        .iter()
        .map(|reason| ((*reason).to_owned(), json!(0)))
        .collect();
    stops.extend(
        figures
            .stop_reasons
            .into_iter()
            .map(|(reason, n)| (reason, json!(n))),
    );
    let uptime = app.started.elapsed().as_secs_f64();
    Ok(Json(json!({
        "status": "ok", "uptime_seconds": rounded(uptime), "started_at": app.chat.started,
        "threads": { "total": figures.threads.values().sum::<usize>(),
            "by_status": figures.threads },
        "messages": { "total": figures.messages,
            "rate": { "last_1m": last_1m, "last_5m": last_5m, "last_15m": last_15m },
            "avg_latency_ms": figures.mean_gap_ms.map(rounded), "stop_reasons": stops },
        "agents": { "total": overview.agents, "online": overview.agents_online },
        "schema_version": SCHEMA_VERSION,
    })))
}

/// One decimal.
fn rounded(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Looks whether everything works.
#[utoipa::path(get, path = "/api/system/diagnostics", tag = "conversations", responses((status = 200, description = "What was found")))]
pub(super) async fn diagnostics(State(app): State<Arc<App>>) -> Answer {
    let begin = Instant::now();
    let chat = &app.chat.chat;
    let overview = chat.overview().await?;
    let took = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
    let threads: usize = overview.figures.threads.values().sum();
    let messages = overview.figures.messages;
    let logs = [
        format!("The database answered in {took} ms."),
        format!("It holds {threads} threads and {messages} messages."),
        format!(
            "{} of {} agents are online.",
            overview.agents_online, overview.agents
        ),
    ];
    let mcp = app.mcp.gateway.figures();
    // MCP is a part of this host, so it is there when this is.
    Ok(Json(json!({
        "db_ok": true, "db_latency_ms": took, "mcp_ok": true, "mcp_tools_count": mcp.tools,
        "mcp_prompts_count": mcp.prompts, "mcp_resources_count": mcp.resources,
        "active_sse_connections": followers(&app), "sse_simulated_ok": true,
        "online_agents_total": overview.agents_online, "sse_agents_count": overview.waits,
        "stdio_agents_count": 0, "server_time_utc": chat.now(), "total_latency_ms": took,
        "app_dir": app.config.data_dir, "db_path": app.chat.place,
        "uptime_seconds": app.started.elapsed().as_secs(), "total_threads": threads,
        "total_messages": messages, "logs": logs, "pid": std::process::id(),
    })))
}

/// How many follow events. The bridge to the bus is one of them, and not meant.
fn followers(app: &App) -> usize {
    let feed = app.chat.chat.store().feed();
    feed.followers().saturating_sub(1)
}

/// Counts the sessions of MCP. The lists of AgentChatBus stay empty: ids of sessions are secrets of
/// those who have them, and which agent speaks on a session only the session knows.
#[utoipa::path(get, path = "/api/debug/sse-status", tag = "conversations", responses((status = 200, description = "Counts")))]
pub(super) async fn sse_status(State(app): State<Arc<App>>) -> Json<Value> {
    let mcp = app.mcp.gateway.figures();
    Json(json!({
        "live_mcp_sse_stream_count": mcp.pipes, "live_mcp_sse_streams": [],
        "active_session_count": mcp.sessions + mcp.pipes, "mapped_agent_count": 0,
        "sessions": [],
    }))
}
