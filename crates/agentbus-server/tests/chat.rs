//! Conversations over HTTP: the exchanges captured from AgentChatBus 0.1.8, and what they do not show.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on, or is skipped, should say so"
)]

#[path = "chat/agent_tokens.rs"]
mod agent_tokens;
#[path = "chat/client.rs"]
mod client;
#[path = "chat/decisions.rs"]
mod decisions;
#[path = "chat/errors.rs"]
mod errors;
#[path = "chat/faults.rs"]
mod faults;
#[path = "chat/golden.rs"]
mod golden;
#[path = "chat/images.rs"]
mod images;
#[path = "chat/live.rs"]
mod live;
#[path = "chat/logs.rs"]
mod logs;
#[path = "chat/manifest.rs"]
mod manifest;
#[path = "chat/mcp_agent.rs"]
mod mcp_agent;
#[path = "chat/mcp_session.rs"]
mod mcp_session;
#[path = "chat/pages.rs"]
mod pages;
#[path = "chat/profiles.rs"]
mod profiles;
#[path = "chat/repeats.rs"]
mod repeats;
#[path = "chat/soak.rs"]
mod soak;
#[path = "chat/tools.rs"]
mod tools;
#[path = "chat/transcript.rs"]
mod transcript;
