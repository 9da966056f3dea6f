//! What waits for a person, whoever asks.

use std::sync::Arc;

use agentbus_decisions::{Answer, NotTaken, Question};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::{Path, Written};
use super::views;
use crate::state::App;

/// The decisions that are open, the oldest first.
#[utoipa::path(get, path = "/api/decisions", tag = "decisions",
    responses((status = 200, description = "decisions: id, type (permission, form, url or card), asker, session, thread, title, detail, options, since, until; kind of a permission, form as a JSON Schema, url")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<Json<Value>, Refusal> {
    let open = app.decisions.list(&app.auth.voice(&headers)).await;
    let open = open.map_err(|error| Refusal::text(StatusCode::SERVICE_UNAVAILABLE, error))?;
    Ok(Json(json!({ "decisions": open })))
}

/// Answers a decision; the first answer counts.
#[utoipa::path(post, path = "/api/decisions/{id}", tag = "decisions", params(("id" = String, Path)),
    request_body(content = Value, description = "option: the id of one of its options; content: the fields of a form that is accepted"),
    responses(
        (status = 200, description = "id, option; already_decided if it is the same answer once more"),
        (status = 400, description = "No such option, or the content does not fit the form"),
        (status = 403, description = "Agents do not answer"), (status = 404, description = "No such decision"),
        (status = 409, description = "It was decided otherwise before, or is out of time"),
    ))]
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    mut asked: Written,
) -> Result<Json<Value>, Refusal> {
    let (option, content) = (asked.fields.text("option"), asked.fields.object("content"));
    asked.fields.check()?;
    let option = match (option, &content) {
        (Some(option), _) => option,
        // Whoever fills a form in accepts it.
        (None, Some(_)) => Question::ACCEPT.to_owned(),
        (None, None) => return Err(Refusal::bad("say which `option` you choose")),
    };
    let content = content.and_then(|content| content.as_object().cloned());
    let given = Answer { option, content };
    let voice = app.auth.voice(&asked.headers);
    let taken = app.decisions.answer(&id, given, &voice).await?;
    Ok(Json(views::with(json!({ "id": id }), json!(taken))))
}

impl From<NotTaken> for Refusal {
    fn from(not: NotTaken) -> Self {
        let status = match &not {
            NotTaken::Unknown(_) => StatusCode::NOT_FOUND,
            NotTaken::Closed { .. } | NotTaken::Refused(_) => StatusCode::CONFLICT,
            NotTaken::NoOption { .. } | NotTaken::Unfit(_) => StatusCode::BAD_REQUEST,
            NotTaken::NotYours(_) => StatusCode::FORBIDDEN,
            NotTaken::Failed(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::text(status, not.to_string())
    }
}
