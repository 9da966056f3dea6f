//! `msg_wait`: sleep until somebody posts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use agentbus_chat::{AgentId, AuthProblem, ChatError, Credentials, ThreadId, WaitRequest, Waited};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::messages::Format;
use super::views::{self, MessageView, SyncView};
use super::{Services, images, refusal, tool};
use crate::{Call, Catalog, CatalogError, Content, Fault, Reply, Tool, limits};

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The thread.
    thread_id: String,
    /// The last message number that you have seen.
    after_seq: i64,
    /// How long to wait in milliseconds; 300000 without it.
    timeout_ms: Option<u64>,
    /// Blocks to read, or one text of JSON.
    #[serde(default)]
    return_format: Format,
    /// Your id, if this connection does not know it. Needs `token`.
    agent_id: Option<String>,
    /// Your token.
    token: Option<String>,
    /// Only return for messages that were handed to this agent.
    for_agent: Option<String>,
    /// Whether images come with the messages.
    include_attachments: Option<bool>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct News {
    /// New messages; none when the time was up.
    messages: Vec<MessageView>,
    #[serde(flatten)]
    sync: SyncView,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let handoff = services.chat.config().enable_handoff_target;
    let about = Tool::new(
        "msg_wait",
        "Wait until somebody posts to a thread after the message number that you have seen. \
         Returns at once if there is something already, and with nothing when the time is up. \
         Always gives you the reply_token for your next msg_post.",
    )
    .titled("Wait for messages")
    .with_optional("for_agent", handoff)
    .gives::<News>()
    .idempotent();
    tool!(catalog, services, about, wait)
}

async fn wait(services: &Services, call: &Call, asked: Asked) -> Result<Reply, Fault> {
    let credentials = match (asked.agent_id, asked.token) {
        (None, None) => None,
        (id, token) => Some(Credentials {
            agent_id: AgentId::new(id.unwrap_or_default()),
            token: token.unwrap_or_default(),
        }),
    };
    let known = call.session().proven();
    let request = WaitRequest {
        timeout: asked.timeout_ms.map(Duration::from_millis),
        credentials,
        known,
        for_agent: asked.for_agent,
        ..WaitRequest::new(ThreadId::new(asked.thread_id), asked.after_seq)
    };
    let limit = request
        .timeout
        .unwrap_or(services.chat.config().wait_timeout);
    let waited = tokio::select! {
        waited = services.chat.wait(request) => waited,
        never = tell_progress(call, limit) => match never {},
        () = call.stopping().cancelled() => return Err(Fault::Stopping),
    };
    match waited {
        Ok(waited) => {
            if let Some(agent) = &waited.agent {
                call.session().bind(agent.clone());
            }
            let images = asked.include_attachments.unwrap_or(true);
            Ok(news(services, &waited, asked.return_format, images).await)
        }
        Err(ChatError::Unauthenticated(problem)) => Ok(invalid_credentials(problem)),
        Err(error) => refusal::answer(&error),
    }
}

/// Tells the client now and then that the wait goes on, which keeps it from giving up.
async fn tell_progress(call: &Call, limit: Duration) -> std::convert::Infallible {
    let began = Instant::now();
    loop {
        tokio::time::sleep(limits::PROGRESS_INTERVAL).await;
        let waited = began.elapsed().as_secs_f64().floor();
        let total = Some(limit.as_secs_f64());
        call.progress(waited, total, Some("waiting for messages"))
            .await;
    }
}

fn invalid_credentials(problem: AuthProblem) -> Reply {
    let detail = match problem {
        AuthProblem::Incomplete => {
            "msg_wait requires both agent_id and token when explicit credentials are supplied."
        }
        AuthProblem::Token => {
            "The agent of this connection was sent away or has left; call bus_connect to join again."
        }
        _ => "Invalid agent_id/token for msg_wait.",
    };
    refusal::refused_with("InvalidCredentials", json!({ "detail": detail }))
}

async fn news(services: &Services, waited: &Waited, format: Format, shown: bool) -> Reply {
    let config = services.chat.config();
    let messages = waited.messages.iter();
    let news = News {
        messages: messages.map(|one| views::message(one, config)).collect(),
        sync: views::sync(&waited.sync),
    };
    let data = json!(news);
    match format {
        Format::Json => Reply::text(data.to_string()).with_data(data),
        Format::Blocks => {
            let mut sync = json!(news.sync);
            sync["type"] = json!("sync_context");
            let mut content = vec![Content::text(sync.to_string())];
            content.extend(images::blocks(services, &waited.messages, shown).await);
            Reply::blocks(content).with_data(data)
        }
    }
}
