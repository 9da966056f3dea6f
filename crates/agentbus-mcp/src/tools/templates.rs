//! Tools of templates.

use std::sync::Arc;

use agentbus_chat::model::Template;
use agentbus_chat::{Chat, ChatError, NewTemplate, TemplateId};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::agents::Nothing;
use super::{Services, refusal, tool, writing_tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct Get {
    /// The template.
    template_id: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Create {
    /// A new id, such as `my-review`.
    id: String,
    /// A name for people.
    name: String,
    /// When to use it.
    description: Option<String>,
    /// How agents shall work together in its threads.
    system_prompt: Option<String>,
    /// The metadata of its threads.
    default_metadata: Option<Map<String, Value>>,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new("template_list", "List the templates of threads.").read_only();
    tool!(catalog, services, about.extended(), list)?;
    let about = Tool::new("template_get", "Read a template of threads.").read_only();
    tool!(catalog, services, about.extended(), get)?;
    let about = Tool::new("template_create", "Add a template of threads.").extended();
    writing_tool!(catalog, services, about, create)
}

fn short(template: &Template) -> Value {
    json!({ "id": template.id, "name": template.name, "description": template.description,
        "is_builtin": template.is_builtin, "created_at": template.created_at })
}

async fn list(services: &Services, _: &Call, _: Nothing) -> Result<Reply, Fault> {
    match services.chat.templates().await {
        Ok(templates) => {
            let list: Vec<Value> = templates.iter().map(short).collect();
            let text = Value::Array(list.clone()).to_string();
            Ok(Reply::text(text).with_data(json!({ "templates": list })))
        }
        Err(error) => refusal::answer(&error),
    }
}

async fn get(services: &Services, _: &Call, asked: Get) -> Result<Reply, Fault> {
    match services
        .chat
        .template(TemplateId::new(asked.template_id))
        .await
    {
        Ok(template) => {
            let mut whole = short(&template);
            whole["system_prompt"] = json!(template.system_prompt);
            whole["default_metadata"] = json!(template.default_metadata);
            Ok(Reply::data(&whole))
        }
        Err(ChatError::TemplateNotFound(_)) => Ok(refusal::refused("Template not found")),
        Err(error) => refusal::answer(&error),
    }
}

async fn create(_: &Services, _: &Call, (asked, chat): (Create, Chat)) -> Result<Reply, Fault> {
    let new = NewTemplate {
        id: TemplateId::new(asked.id),
        name: asked.name,
        description: asked.description,
        system_prompt: asked.system_prompt,
        default_metadata: asked.default_metadata.map(Value::Object),
    };
    match chat.create_template(new).await {
        Ok(template) => Ok(Reply::data(&short(&template))),
        Err(error) => refusal::answer(&error),
    }
}
