//! What an agent asks a person for beside permissions, between the wire and our own words.

use agent_client_protocol::v1::schema::{
    ClientCapabilities, CreateElicitationRequest, CreateElicitationResponse,
    ElicitationAcceptAction, ElicitationAction, ElicitationCapabilities, ElicitationContentValue,
    ElicitationFormCapabilities, ElicitationMode, ElicitationScope, ElicitationUrlCapabilities,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::driving::Ask;
use crate::decide::{Answer, Question};

/// A request for facts, or for something to be done elsewhere.
#[derive(Debug)]
pub(crate) struct Elicit {
    /// The session it belongs to; `None` while one is opened, or somebody logs in.
    pub(crate) session: Option<String>,
    pub(crate) message: String,
    pub(crate) detail: Value,
    pub(crate) want: Want,
}

#[derive(Debug)]
pub(crate) enum Want {
    /// The fields of a form, as its schema.
    Fields(Value),
    /// A visit to an address, under the agent's name for it.
    Visit { url: String, name: String },
}

/// How a client can ask its person.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Modes {
    pub(crate) form: bool,
    pub(crate) url: bool,
}

impl Modes {
    /// Reads what a client says of itself.
    pub(crate) fn of(capabilities: &ClientCapabilities) -> Self {
        let asks = capabilities.elicitation.as_ref();
        Self {
            form: asks.is_some_and(|asks| asks.form.is_some()),
            url: asks.is_some_and(|asks| asks.url.is_some()),
        }
    }
}

/// The modes that a board serves.
pub(crate) fn modes() -> ElicitationCapabilities {
    ElicitationCapabilities::new()
        .form(ElicitationFormCapabilities::new())
        .url(ElicitationUrlCapabilities::new())
}

/// Reads a request; a mode that is not known must not be taken for one that is.
pub(super) fn read(request: CreateElicitationRequest) -> Ask {
    let (want, scope) = match request.mode {
        ElicitationMode::Form(form) => {
            let schema = serde_json::to_value(form.requested_schema).unwrap_or_default();
            (Want::Fields(schema), form.scope)
        }
        ElicitationMode::Url(visit) => {
            let name = visit.elicitation_id.0.to_string();
            let url = visit.url;
            (Want::Visit { url, name }, visit.scope)
        }
        _ => return Ask::Unknown("elicitation/create in this mode".to_owned()),
    };
    let (session, detail) = match scope {
        ElicitationScope::Session(scope) => {
            let call = scope.tool_call_id.map(|call| json!({ "toolCallId": call }));
            (Some(scope.session_id.to_string()), call.unwrap_or_default())
        }
        _ => (None, Value::Null),
    };
    Ask::Elicit(Elicit {
        session,
        message: request.message,
        detail,
        want,
    })
}

/// What an agent is answered; nobody's answer is a cancellation.
pub(super) fn response(answer: Option<Answer>) -> CreateElicitationResponse {
    let Some(answer) = answer else {
        return CreateElicitationResponse::new(ElicitationAction::Cancel);
    };
    let action = match answer.option.as_str() {
        Question::ACCEPT => {
            let content = answer.content.map(|content| {
                let fields = content.into_iter();
                fields
                    .filter_map(|(name, value)| Some((name, filled(value)?)))
                    .collect()
            });
            ElicitationAction::Accept(ElicitationAcceptAction::new().content(content))
        }
        Question::DECLINE => ElicitationAction::Decline,
        _ => ElicitationAction::Cancel,
    };
    CreateElicitationResponse::new(action)
}

/// Reads what a client answers; `None` for what this version of the protocol does not know.
pub(crate) fn given(answer: &Value) -> Option<Answer> {
    let known = CreateElicitationResponse::deserialize(answer).ok()?;
    Some(match known.action {
        ElicitationAction::Accept(_) => Answer {
            content: answer["content"].as_object().cloned(),
            ..Answer::option(Question::ACCEPT)
        },
        ElicitationAction::Decline => Answer::option(Question::DECLINE),
        ElicitationAction::Cancel => Answer::option(Question::CANCEL),
        _ => return None,
    })
}

/// A value in the protocol's own types; a form has no others.
fn filled(value: Value) -> Option<ElicitationContentValue> {
    serde_json::from_value(value).ok()
}
