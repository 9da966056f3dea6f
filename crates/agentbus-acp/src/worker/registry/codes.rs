//! What the launcher itself answers: its codes and the sentences that go with them.

use serde_json::{Value, json};

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

    pub(super) fn login(agent: &str, methods: &[Value]) -> Self {
        let hint = format!("put a key for {agent} into the API keys file");
        let data = json!({
            "agentId": agent,
            "requiredMethod": "api-key",
            "supportedMethods": methods,
            "remediation": { "type": "login_required", "hint": hint },
        });
        Self::new(-32004, &format!("Authentication required: {hint}"), data)
    }

    fn new(code: i32, sentence: &str, data: Value) -> Self {
        Self {
            code,
            message: sentence.to_owned(),
            data,
        }
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
