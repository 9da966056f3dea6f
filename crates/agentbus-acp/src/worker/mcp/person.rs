//! The person behind a session, as its MCP servers can ask them: through the client of the session.
//!
//! A server is told of exactly the ways of asking that the client has. What it asks reaches the
//! client as it is, and so does the answer.

use rmcp::ErrorData;
use rmcp::handler::client::ClientHandler;
use rmcp::model::{
    ClientCapabilities, ClientConfig, CustomNotification, ElicitRequestParams, ElicitResult,
    ElicitationCapability, FormElicitationCapability, Implementation, UrlElicitationCapability,
};
use rmcp::service::{NotificationContext, RequestContext, RoleClient};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::sdk::elicitation::Modes;
use crate::sdk::serving::Client;
use crate::sdk::serving::schema::SessionId;

/// The client's side of a connection to an MCP server.
#[derive(Debug, Clone)]
pub(in super::super) struct Person {
    client: Client,
    session: SessionId,
    modes: Modes,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Completed {
    elicitation_id: String,
}

/// The ways of a client in the words of MCP; nothing if there is none at all.
fn told(modes: Modes) -> Option<ElicitationCapability> {
    let mut told = ElicitationCapability::default();
    if modes.form {
        told = told.with_form(FormElicitationCapability::default());
    }
    if modes.url {
        told = told.with_url(UrlElicitationCapability::default());
    }
    (modes.form || modes.url).then_some(told)
}

impl Person {
    pub(in super::super) const fn new(client: Client, session: SessionId, modes: Modes) -> Self {
        Self {
            client,
            session,
            modes,
        }
    }

    async fn ask(&self, params: ElicitRequestParams) -> Result<ElicitResult, ErrorData> {
        let mut asked = serde_json::to_value(&params).map_err(|error| unreadable(&error))?;
        let known = match asked["mode"].as_str() {
            Some("form") => self.modes.form,
            Some("url") => self.modes.url,
            _ => false,
        };
        if !known {
            let text = "the person behind this session cannot be asked in this way";
            return Err(ErrorData::invalid_params(text, None));
        }
        asked["sessionId"] = json!(self.session);
        let request = serde_json::from_value(asked).map_err(|error| unreadable(&error))?;
        let answer = self.client.elicit(request).await.map_err(|error| {
            ErrorData::internal_error(format!("the client did not ask its person: {error}"), None)
        })?;
        let answer = serde_json::to_value(answer).map_err(|error| unreadable(&error))?;
        serde_json::from_value(answer).map_err(|error| unreadable(&error))
    }
}

fn unreadable(error: &serde_json::Error) -> ErrorData {
    ErrorData::invalid_params(
        format!("the elicitation cannot be passed on: {error}"),
        None,
    )
}

impl ClientHandler for Person {
    fn get_info(&self) -> ClientConfig {
        let us = Implementation::new("agentbus-worker", env!("CARGO_PKG_VERSION"));
        let mut abilities = ClientCapabilities::default();
        abilities.elicitation = told(self.modes);
        ClientConfig::new(abilities, us)
    }

    async fn create_elicitation(
        &self,
        params: ElicitRequestParams,
        context: RequestContext<RoleClient>,
    ) -> Result<ElicitResult, ErrorData> {
        tokio::select! {
            answer = self.ask(params) => answer,
            () = context.ct.cancelled() => {
                Err(ErrorData::internal_error("the question was withdrawn", None))
            }
        }
    }

    async fn on_custom_notification(
        &self,
        notification: CustomNotification,
        _: NotificationContext<RoleClient>,
    ) {
        if notification.method != "notifications/elicitation/complete" {
            return;
        }
        let params = notification.params.unwrap_or(Value::Null);
        if let Ok(done) = serde_json::from_value::<Completed>(params) {
            // A client that is gone need not know.
            let _ = self.client.completed(&done.elicitation_id);
        }
    }
}
