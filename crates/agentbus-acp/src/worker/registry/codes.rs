//! What the launcher itself answers: its codes and the sentences that go with them.

use serde_json::{Value, json};

use super::auth::AuthError;
use crate::worker::limits::LAUNCHED_PENDING_MAX;

/// Why a message was not passed on.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    code: i32,
    message: String,
    data: Value,
}

impl Refusal {
    pub(super) fn no_json() -> Self {
        Self::new(-32700, "the line is no JSON object", Value::Null)
    }

    pub(super) fn no_agent_named() -> Self {
        let sentence =
            "Missing agentId: name an agent of the registry in the top-level member agentId";
        Self::new(-32600, sentence, Value::Null)
    }

    pub(super) fn unknown_answer() -> Self {
        let sentence = "nobody asked with this id, or whoever did is gone";
        Self::new(-32600, sentence, Value::Null)
    }

    pub(super) fn too_many(agent: &str) -> Self {
        let sentence = format!("too much waits for the agent {agent}; wait for its answers");
        Self::new(-32603, &sentence, json!({ "agentId": agent }))
    }

    /// Said to an agent.
    pub(super) fn unheard() -> Self {
        let sentence = format!(
            "{LAUNCHED_PENDING_MAX} questions of agents wait for the client already; ask again when some are answered"
        );
        Self::new(-32603, &sentence, Value::Null)
    }

    pub(super) fn not_found(agent: &str) -> Self {
        let sentence = format!("Agent not found: no agent of the registry is called {agent}");
        Self::new(-32001, &sentence, json!({ "agentId": agent }))
    }

    pub(super) fn no_platform(agent: &str, platform: &str) -> Self {
        let sentence = format!("Platform not supported: {agent} has no program for {platform}");
        let data = json!({ "agentId": agent, "platform": platform });
        Self::new(-32002, &sentence, data)
    }

    pub(super) fn not_started(agent: &str, error: &str) -> Self {
        let sentence = format!("Agent spawn failed: {error}");
        Self::new(
            -32003,
            &sentence,
            json!({ "agentId": agent, "error": error }),
        )
    }

    pub(super) fn ended(agent: &str, how: &str) -> Self {
        let sentence = format!(
            "the agent {agent} ended before it answered ({how}); send the request again, and it is started again"
        );
        Self::new(-32603, &sentence, json!({ "agentId": agent, "ended": how }))
    }

    /// The agent needs a key and no provider hands one out.
    pub(super) fn no_key(agent: &str, methods: &[Value]) -> Self {
        let hint = format!("put a key for {agent} into the API keys file");
        let data = json!({
            "agentId": agent,
            "requiredMethod": "api-key",
            "supportedMethods": methods,
            "remediation": { "type": "login_required", "hint": hint },
        });
        Self::new(-32004, &format!("Authentication required: {hint}"), data)
    }

    /// There is no token that could go with the message.
    pub(super) fn no_token(agent: Option<&str>, provider: &str, error: &AuthError) -> Self {
        let word = match error {
            AuthError::Timeout(_) => "Authentication timeout",
            _ if error.wants_login() => "Authentication required",
            _ => "Authentication failed",
        };
        let kind = match error.wants_login() {
            true => "login_required",
            false => "retry",
        };
        let command = format!("agentbus worker registry --login {provider}");
        let mut data = json!({
            "requiredMethod": "oauth2",
            "supportedMethods": ["oauth2", "api-key"],
            "providerId": provider,
            "reason": error.reason(),
            "remediation": { "type": kind, "provider": provider, "commands": [command], "hint": error.to_string() },
        });
        if let Some(agent) = agent {
            data["agentId"] = agent.into();
        }
        Self::new(-32004, &format!("{word}: {error}"), data)
    }

    /// A person is being asked already.
    pub(super) fn login_under_way(provider: &str) -> Self {
        let sentence = format!(
            "a login at {provider} is under way; finish it in the browser, or wait until it has ended"
        );
        Self::new(-32004, &sentence, json!({ "providerId": provider }))
    }

    fn new(code: i32, sentence: &str, data: Value) -> Self {
        Self {
            code,
            message: sentence.to_owned(),
            data,
        }
    }

    /// Returns what a person reads.
    pub(super) fn sentence(&self) -> &str {
        &self.message
    }

    /// Returns the line that answers a request.
    pub(super) fn answer(&self, id: &Value, routing: Option<&Value>) -> String {
        let mut error = json!({ "code": self.code, "message": self.message });
        if !self.data.is_null() {
            error["data"] = self.data.clone();
        }
        let mut answer = json!({ "jsonrpc": "2.0", "id": id, "error": error });
        if let Some(routing) = routing {
            answer["sessionId"] = routing.clone();
        }
        answer.to_string()
    }
}
