//! What an operator decides about conversations.

use std::time::Duration;

/// Settings of the conversation model, complete before the store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChatConfig {
    /// How long an agent counts as online after its last sign of life.
    pub heartbeat_timeout: Duration,
    /// How long a wait lasts that names no time.
    pub wait_timeout: Duration,
    /// Shortest wait; shorter ones are raised to it. Zero honours every wait.
    pub wait_min: Duration,
    /// Whether a shorter wait is refused instead.
    pub wait_min_enforced: bool,
    /// How many numbers a thread may have moved on before a strict post is refused.
    pub seq_tolerance: i64,
    /// Most messages that a refused post is shown.
    pub mismatch_messages_max: usize,
    /// Most messages of one author in a minute; zero switches the limit off.
    pub rate_limit: u32,
    /// Whether texts that look like secrets are refused.
    pub content_filter: bool,
    /// Silence after which a thread in discussion is closed; zero switches it off.
    pub thread_timeout: Duration,
    /// How often silent threads are looked for.
    pub sweep_interval: Duration,
    /// Whether closed threads take messages, as they did in AgentChatBus.
    pub allow_posts_in_closed: bool,
    /// Whether agents see and set `handoff_target`.
    pub enable_handoff_target: bool,
    /// Whether agents see and set `stop_reason`.
    pub enable_stop_reason: bool,
    /// Whether agents see and set priorities.
    pub enable_priority: bool,
    /// Whether every thread is listed as a resource.
    pub expose_thread_resources: bool,
    /// Largest image that may be uploaded.
    pub max_image_bytes: usize,
}

impl Default for ChatConfig {
    fn default() -> Self {
        Self {
            heartbeat_timeout: Duration::from_secs(60),
            wait_timeout: Duration::from_secs(300),
            wait_min: Duration::ZERO,
            wait_min_enforced: false,
            seq_tolerance: 0,
            mismatch_messages_max: 100,
            rate_limit: 30,
            content_filter: true,
            thread_timeout: Duration::ZERO,
            sweep_interval: Duration::from_secs(60),
            allow_posts_in_closed: false,
            enable_handoff_target: false,
            enable_stop_reason: false,
            enable_priority: false,
            expose_thread_resources: false,
            max_image_bytes: 5 * 1024 * 1024,
        }
    }
}
