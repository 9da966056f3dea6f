//! The client's end of a call.

use agentbus_chat::BoxFuture;
use rmcp::RoleServer;
use rmcp::model::{
    CancelledNotificationParam, ClientCapabilities, ClientResult, CreateMessageRequestParams,
    ElicitRequest, ElicitRequestParams, LoggingLevel, LoggingMessageNotificationParam,
    ProgressNotificationParam, ProgressToken, ServerRequest,
};
use rmcp::service::{Peer, PeerRequestOptions, RequestContext, ServiceError};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::call::Client;
use crate::{Ability, Ask, Fault, LogLevel, limits};

/// Who wrote a line of a client's log.
const LOGGER: &str = "agentbus";

/// A client on a connection of the SDK.
pub(super) struct Remote {
    peer: Peer<RoleServer>,
    abilities: ClientCapabilities,
    progress: Option<ProgressToken>,
    /// The least level of the lines that the client reads; it reads none without.
    log: Option<LoggingLevel>,
    /// Whether the client takes requests while it waits.
    in_between: bool,
}

impl Remote {
    pub(super) fn new(
        context: &RequestContext<RoleServer>,
        log: Option<LoggingLevel>,
        in_between: bool,
    ) -> Self {
        Self {
            peer: context.peer.clone(),
            abilities: context.client_capabilities().unwrap_or_default(),
            progress: context.meta.get_progress_token(),
            log,
            in_between,
        }
    }
}

impl Client for Remote {
    fn can(&self, ability: Ability) -> bool {
        match ability {
            Ability::Elicitation => self.abilities.elicitation.is_some(),
            Ability::Sampling => self.abilities.sampling.is_some(),
            Ability::Roots => self.abilities.roots.is_some(),
        }
    }

    fn progress(
        &self,
        done: f64,
        total: Option<f64>,
        message: Option<String>,
    ) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(token) = self.progress.clone() else {
                return;
            };
            let mut note = ProgressNotificationParam::new(token, done);
            note.total = total;
            note.message = message;
            // A client that has left does not hear it.
            let _ = self.peer.notify_progress(note).await;
        })
    }

    fn log(&self, level: LogLevel, data: Value) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let level = match level {
                LogLevel::Debug => LoggingLevel::Debug,
                LogLevel::Info => LoggingLevel::Info,
                LogLevel::Warning => LoggingLevel::Warning,
                LogLevel::Error => LoggingLevel::Error,
            };
            if self
                .log
                .is_none_or(|least| severity(level) < severity(least))
            {
                return;
            }
            let line = LoggingMessageNotificationParam::new(level, data).with_logger(LOGGER);
            let _ = self.peer.notify_logging_message(line).await;
        })
    }

    fn asks_in_between(&self) -> bool {
        self.in_between
    }

    fn request(
        &self,
        ask: Ask,
        withdrawn: CancellationToken,
    ) -> BoxFuture<'_, Result<Value, Fault>> {
        Box::pin(async move {
            let answering = answer(&self.peer, ask, &withdrawn);
            match tokio::time::timeout(limits::ASK_TIMEOUT, answering).await {
                Ok(answer) => answer,
                Err(_) => Err(Fault::failed(
                    "the client did not answer the question in time",
                )),
            }
        })
    }
}

async fn answer(
    peer: &Peer<RoleServer>,
    ask: Ask,
    withdrawn: &CancellationToken,
) -> Result<Value, Fault> {
    match ask.ability {
        Ability::Elicitation => {
            let params: ElicitRequestParams = read(ask.params)?;
            elicit(peer, params, withdrawn).await
        }
        Ability::Sampling => {
            let params: CreateMessageRequestParams = read(ask.params)?;
            written(peer.create_message(params).await)
        }
        Ability::Roots => written(peer.list_roots().await),
    }
}

/// Asks the person, until somebody else has answered.
async fn elicit(
    peer: &Peer<RoleServer>,
    params: ElicitRequestParams,
    withdrawn: &CancellationToken,
) -> Result<Value, Fault> {
    let request = ServerRequest::ElicitRequest(ElicitRequest::new(params));
    let options = PeerRequestOptions::no_options();
    let asked = peer.send_cancellable_request(request, options).await;
    let asked = asked.map_err(|error| unanswered(&error))?;
    let id = asked.id.clone();
    tokio::select! {
        answer = asked.await_response() => match answer {
            Ok(ClientResult::ElicitResult(result)) => written(Ok(result)),
            Ok(_) => Err(unanswered(&ServiceError::UnexpectedResponse)),
            Err(error) => Err(unanswered(&error)),
        },
        () = withdrawn.cancelled() => {
            let reason = Some("somebody else has answered".to_owned());
            // A client that is gone needs no telling.
            let _ = peer.notify_cancelled(CancelledNotificationParam::new(Some(id), reason)).await;
            Err(Fault::Cancelled)
        }
    }
}

fn unanswered(error: &ServiceError) -> Fault {
    Fault::Failed(format!("the client did not answer the question: {error}"))
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, Fault> {
    serde_json::from_value(params)
        .map_err(|error| Fault::Failed(format!("a question is not valid: {error}")))
}

fn written<T: Serialize>(answer: Result<T, ServiceError>) -> Result<Value, Fault> {
    let answer = answer.map_err(|error| unanswered(&error))?;
    serde_json::to_value(answer).map_err(Fault::failed)
}

const fn severity(level: LoggingLevel) -> u8 {
    match level {
        LoggingLevel::Debug => 0,
        LoggingLevel::Info => 1,
        LoggingLevel::Notice => 2,
        LoggingLevel::Warning => 3,
        LoggingLevel::Error => 4,
        LoggingLevel::Critical => 5,
        LoggingLevel::Alert => 6,
        LoggingLevel::Emergency => 7,
    }
}
