//! An editor that is told of one session.

use serde_json::json;

use crate::sdk::serving::{Client, Error};

/// Where the words about one session go.
pub(super) struct Listener {
    pub(super) client: Client,
    /// What the editor calls the session.
    pub(super) id: String,
    /// Whether the editor shows notices.
    pub(super) notices: bool,
}

impl Listener {
    /// Tells an update as it is.
    pub(super) async fn update(&self, update: &str) -> Result<(), Error> {
        self.client.update_json(&self.id, update).await
    }

    /// Tells the person what neither they nor the agent said: as a notice, or else among the words
    /// of the agent, marked for programs and in brackets for people.
    pub(super) async fn notice(&self, sentence: &str) -> Result<(), Error> {
        let update = match self.notices {
            true => json!({ "sessionUpdate": "notice", "severity": "warning", "title": sentence }),
            false => json!({ "sessionUpdate": "agent_message_chunk",
                "content": { "type": "text", "text": format!("\n[AgentBus: {sentence}]\n") },
                "_meta": { "agentbus.notice": true } }),
        };
        self.update(&update.to_string()).await
    }
}
