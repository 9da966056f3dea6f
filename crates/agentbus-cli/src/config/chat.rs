//! Settings of conversations, and the names that AgentChatBus had for them.

use std::str::FromStr;
use std::time::Duration;

use agentbus_chat::ChatConfig;

use super::Config;
use super::keys::NOT_KEPT;
use crate::failure::{Exit, Failure};

/// What the variables of AgentChatBus begin with.
const PREFIX: &str = "AGENTCHATBUS_";

/// Looks a variable of the environment up.
type Look<'l> = &'l dyn Fn(&str) -> Option<String>;

impl Config {
    /// What the conversations are told.
    pub(crate) fn chat(&self) -> ChatConfig {
        ChatConfig {
            heartbeat_timeout: Duration::from_secs(self.chat_heartbeat_timeout_s),
            wait_timeout: Duration::from_secs(self.chat_wait_timeout_s),
            wait_min: Duration::from_millis(self.chat_wait_min_ms),
            wait_min_enforced: self.chat_wait_min_enforced,
            seq_tolerance: self.chat_seq_tolerance,
            mismatch_messages_max: self.chat_mismatch_messages_max,
            rate_limit: self.chat_rate_limit,
            content_filter: self.chat_content_filter,
            thread_timeout: Duration::from_secs(60 * self.chat_thread_timeout_min),
            sweep_interval: Duration::from_secs(self.chat_sweep_interval_s),
            allow_posts_in_closed: self.chat_allow_posts_in_closed,
            enable_handoff_target: self.chat_enable_handoff_target,
            enable_stop_reason: self.chat_enable_stop_reason,
            enable_priority: self.chat_enable_priority,
            expose_thread_resources: self.chat_expose_thread_resources,
            max_image_bytes: self.chat_max_image_bytes,
        }
    }

    /// Lays the environment of this program over the file, as far as no flag has it.
    pub(crate) fn in_this_environment(mut self) -> Result<Self, Failure> {
        self.read_agentchatbus(&|name| std::env::var(name).ok())?;
        Ok(self)
    }

    /// Lays the environment of AgentChatBus over the file. An empty variable is none.
    pub(super) fn read_agentchatbus(&mut self, look: Look<'_>) -> Result<(), Failure> {
        if let Some(host) = parsed(look, "HOST", "address")? {
            self.listen.set_ip(host);
        }
        if let Some(port) = parsed(look, "PORT", "number")? {
            self.listen.set_port(port);
        }
        if let Some(path) = text(look, "DB") {
            self.chat_database = Some(path.into());
        }
        number(
            look,
            "HEARTBEAT_TIMEOUT",
            &mut self.chat_heartbeat_timeout_s,
        )?;
        number(look, "WAIT_TIMEOUT", &mut self.chat_wait_timeout_s)?;
        number(look, "WAIT_MIN_TIMEOUT_MS", &mut self.chat_wait_min_ms)?;
        number(look, "SEQ_TOLERANCE", &mut self.chat_seq_tolerance)?;
        let mismatch = &mut self.chat_mismatch_messages_max;
        number(look, "SEQ_MISMATCH_MAX_MESSAGES", mismatch)?;
        number(look, "RATE_LIMIT", &mut self.chat_rate_limit)?;
        number(look, "THREAD_TIMEOUT", &mut self.chat_thread_timeout_min)?;
        number(
            look,
            "TIMEOUT_SWEEP_INTERVAL",
            &mut self.chat_sweep_interval_s,
        )?;
        number(look, "MAX_IMAGE_BYTES", &mut self.chat_max_image_bytes)?;
        self.read_switches(look);
        Ok(())
    }

    fn read_switches(&mut self, look: Look<'_>) {
        let mut limited = true;
        switch(look, "RATE_LIMIT_ENABLED", &mut limited);
        if !limited {
            self.chat_rate_limit = 0;
        }
        let enforced = &mut self.chat_wait_min_enforced;
        switch(look, "ENFORCE_MSG_WAIT_MIN_TIMEOUT", enforced);
        switch(
            look,
            "CONTENT_FILTER_ENABLED",
            &mut self.chat_content_filter,
        );
        switch(
            look,
            "ENABLE_HANDOFF_TARGET",
            &mut self.chat_enable_handoff_target,
        );
        switch(
            look,
            "ENABLE_STOP_REASON",
            &mut self.chat_enable_stop_reason,
        );
        switch(look, "ENABLE_PRIORITY", &mut self.chat_enable_priority);
        switch(
            look,
            "EXPOSE_THREAD_RESOURCES",
            &mut self.chat_expose_thread_resources,
        );
    }
}

/// A line for the log if variables are set that mean nothing here.
pub(crate) fn not_kept() -> Option<String> {
    let names = std::env::vars_os().map(|(name, _)| name);
    told_of(names.filter_map(|name| name.into_string().ok()))
}

pub(super) fn told_of(set: impl Iterator<Item = String>) -> Option<String> {
    let gone = |name: &str| NOT_KEPT.iter().any(|gone| gone.names.contains(&name));
    let mut set: Vec<String> = set
        .filter(|name| name.strip_prefix(PREFIX).is_some_and(gone))
        .collect();
    set.sort();
    (!set.is_empty()).then(|| {
        let names = set.join(", ");
        format!("these variables mean nothing here: {names}; docs/configuration.md says what there is instead")
    })
}

fn text(look: Look<'_>, name: &str) -> Option<String> {
    look(&format!("{PREFIX}{name}")).filter(|value| !value.trim().is_empty())
}

fn parsed<T: FromStr>(look: Look<'_>, name: &str, what: &str) -> Result<Option<T>, Failure> {
    let Some(value) = text(look, name) else {
        return Ok(None);
    };
    value.trim().parse().map(Some).map_err(|_| {
        let message = format!("{PREFIX}{name} is `{value}`, which is no {what}");
        Failure::new(Exit::Configuration, message)
    })
}

fn number<T: FromStr>(look: Look<'_>, name: &str, setting: &mut T) -> Result<(), Failure> {
    if let Some(value) = parsed(look, name, "number")? {
        *setting = value;
    }
    Ok(())
}

/// `1`, `true`, `yes` and `on` switch on, as they always did; everything else switches off.
fn switch(look: Look<'_>, name: &str, setting: &mut bool) {
    if let Some(value) = text(look, name) {
        let value = value.trim().to_lowercase();
        *setting = ["1", "true", "yes", "on"].contains(&value.as_str());
    }
}
