//! Routes of templates.

use std::sync::Arc;

use agentbus_chat::{AgentId, ChatError, Credentials, NewTemplate, TemplateId};
use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::paging::{self, Wanted};
use super::refusal::Refusal;
use super::request::{Path, QueryFields, Written};
use super::views;
use crate::state::App;

type Answer = Result<Json<Value>, Refusal>;

/// Templates: those that come with the bus first.
#[utoipa::path(get, path = "/api/templates", tag = "conversations",
    params(
        ("limit" = Option<i64>, Query, description = "At most so many; all without it"),
        ("cursor" = Option<String>, Query, description = "The `X-Next-Cursor` of the page before"),
    ),
    responses((status = 200, description = "Templates; X-Next-Cursor if there are more"), (status = 400, description = "The cursor is none, or of a template that is gone")))]
pub(super) async fn list(
    State(app): State<Arc<App>>,
    query: QueryFields,
) -> Result<Response, Refusal> {
    let mut fields = query.0;
    let wanted = Wanted::of(&mut fields)?;
    let mut templates = app.chat.chat.templates().await?;
    if let Some(after) = wanted.after() {
        let place = templates.iter().position(|one| one.id.as_str() == after);
        let place = place.ok_or_else(paging::no_cursor)?;
        templates.drain(..=place);
    }
    let (page, next) = wanted.cut(templates, |one| one.id.to_string());
    Ok(next.beside(page.iter().map(views::template).collect()))
}

/// One template with its prompt. Its metadata is text, as it always was here.
#[utoipa::path(get, path = "/api/templates/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, description = "The template"), (status = 404)))]
pub(super) async fn get(State(app): State<Arc<App>>, Path(id): Path<TemplateId>) -> Answer {
    let template = app
        .chat
        .chat
        .template(id)
        .await
        .map_err(|error| match error {
            ChatError::TemplateNotFound(_) => Refusal::not_found("Template not found"),
            other => other.into(),
        })?;
    let metadata = template.default_metadata.as_ref().map(Value::to_string);
    let more = json!({ "system_prompt": template.system_prompt, "default_metadata": metadata });
    Ok(Json(views::with(views::template(&template), more)))
}

/// Makes a template.
#[utoipa::path(post, path = "/api/templates", tag = "conversations",
    request_body(content = Value, description = "id*, name*, description, system_prompt, default_metadata, agent_id and token"),
    responses((status = 201, description = "The template"), (status = 400), (status = 401), (status = 409, description = "The id is taken"), (status = 422)))]
pub(super) async fn create(mut asked: Written) -> Result<Response, Refusal> {
    let fields = &mut asked.fields;
    let new = NewTemplate {
        id: TemplateId::new(fields.required("id")),
        name: fields.required("name"),
        description: fields.text("description"),
        system_prompt: fields.text("system_prompt"),
        default_metadata: fields.object("default_metadata"),
    };
    let who = fields.text("agent_id").zip(fields.text("token"));
    fields.check()?;
    if let Some((id, token)) = who {
        let agent_id = AgentId::new(id);
        let known = asked.chat.verify(Credentials { agent_id, token }).await;
        known.map_err(|_| Refusal::unauthorized("Invalid agent_id or token"))?;
    }
    let made = asked.chat.create_template(new).await?;
    let body = json!({ "id": made.id, "name": made.name, "description": made.description,
        "is_builtin": made.is_builtin });
    Ok((StatusCode::CREATED, Json(body)).into_response())
}

/// Removes a template.
#[utoipa::path(delete, path = "/api/templates/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 204, description = "It is gone"), (status = 403, description = "It comes with the bus"), (status = 404)))]
pub(super) async fn delete(
    Path(id): Path<TemplateId>,
    asked: Written,
) -> Result<StatusCode, Refusal> {
    asked.chat.delete_template(id).await?;
    Ok(StatusCode::NO_CONTENT)
}
