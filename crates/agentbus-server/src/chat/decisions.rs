//! Questions that wait for a person.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde_json::{Value, json};

use super::refusal::Refusal;
use super::request::Written;
use crate::decisions::NotTaken;
use crate::state::App;

/// The questions that are open, the oldest first.
#[utoipa::path(get, path = "/api/decisions", tag = "decisions",
    responses((status = 200, description = "decisions: id, agent, session, title, kind, detail, options, since, until")))]
pub(super) async fn list(State(app): State<Arc<App>>) -> Json<Value> {
    Json(json!({ "decisions": app.decisions.list() }))
}

/// Answers a question; the first answer counts.
#[utoipa::path(post, path = "/api/decisions/{id}", tag = "decisions", params(("id" = String, Path)),
    request_body(content = Value, description = "option: the id of one of its options"),
    responses(
        (status = 200, description = "id, option"), (status = 400, description = "No such option"),
        (status = 404, description = "No such question"), (status = 409, description = "It was answered before, or is out of time"),
    ))]
pub(super) async fn answer(
    State(app): State<Arc<App>>,
    Path(id): Path<String>,
    mut asked: Written,
) -> Result<Json<Value>, Refusal> {
    let option = asked.fields.text("option");
    asked.fields.check()?;
    let option = option.ok_or_else(|| Refusal::bad("say which `option` you choose"))?;
    match app.decisions.answer(&id, &option) {
        Ok(()) => Ok(Json(json!({ "id": id, "option": option }))),
        Err(NotTaken::Unknown) => Err(Refusal::not_found(format!("Decision '{id}' not found"))),
        Err(NotTaken::Closed) => Err(Refusal::text(
            StatusCode::CONFLICT,
            "the decision was made before, or is out of time",
        )),
        Err(NotTaken::NoOption(options)) => Err(Refusal::bad(format!(
            "`{option}` is no option of this decision; there is {}",
            options.join(", ")
        ))),
    }
}
