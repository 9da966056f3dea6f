//! What goes with each message to an agent that a provider hands tokens out for: the member
//! `headers` with an `Authorization`, as the launcher's clients know it from elsewhere.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::auth::{Auth, AuthError};
use super::codes::Refusal;

/// The tokens of one provider for one agent.
#[derive(Debug)]
pub(super) struct Bearer {
    pub(super) auth: Arc<Auth>,
    pub(super) provider: String,
    /// Whether the agent is of no use without a token.
    pub(super) required: bool,
}

impl Bearer {
    /// Sees to it that there is a token.
    pub(super) async fn ready(&self, agent: &str) -> Result<(), Refusal> {
        self.header(agent).await.map(drop)
    }

    /// Puts the token into a request or a notification; an answer needs none.
    pub(super) async fn stamped(&self, agent: &str, line: String) -> Result<String, Refusal> {
        let Ok(mut message) = serde_json::from_str::<Map<String, Value>>(&line) else {
            return Ok(line);
        };
        if !message.contains_key("method") {
            return Ok(line);
        }
        if let Some(header) = self.header(agent).await? {
            message.insert("headers".to_owned(), json!({ "Authorization": header }));
        }
        Ok(Value::Object(message).to_string())
    }

    async fn header(&self, agent: &str) -> Result<Option<String>, Refusal> {
        match self.auth.token(&self.provider).await {
            Ok(token) => Ok(Some(format!("Bearer {}", token.secret()))),
            Err(AuthError::LoggedOut { .. }) if !self.required => Ok(None),
            Err(error) => Err(Refusal::no_token(Some(agent), &self.provider, &error)),
        }
    }
}
