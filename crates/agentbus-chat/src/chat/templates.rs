//! Templates.

use serde_json::{Value, json};

use crate::model::Template;
use crate::{Chat, ChatError, TemplateId, limits};

use super::{json_within, within};

/// A template before it is made.
#[derive(Debug, Clone)]
pub struct NewTemplate {
    /// Its id.
    pub id: TemplateId,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// What threads made from it tell every agent.
    pub system_prompt: Option<String>,
    /// Metadata of threads made from it.
    pub default_metadata: Option<Value>,
}

impl Chat {
    /// All templates: those that come with the bus first, then by name.
    ///
    /// # Errors
    /// Fails when the store does.
    pub async fn templates(&self) -> Result<Vec<Template>, ChatError> {
        self.read(|_, tx| Ok(tx.templates()?)).await
    }

    /// Finds a template.
    ///
    /// # Errors
    /// Fails when there is none.
    pub async fn template(&self, id: TemplateId) -> Result<Template, ChatError> {
        self.read(move |_, tx| tx.template(&id)?.ok_or(ChatError::TemplateNotFound(id)))
            .await
    }

    /// Makes a template.
    ///
    /// # Errors
    /// Fails when the id is empty or taken, or a text is not allowed.
    pub async fn create_template(&self, new: NewTemplate) -> Result<Template, ChatError> {
        if new.id.as_str().trim().is_empty() {
            return Err(ChatError::invalid("id must not be empty"));
        }
        let texts = [&new.description, &new.system_prompt];
        for text in texts.into_iter().flatten() {
            within("template", text.len(), limits::PROMPT_BYTES_MAX)?;
        }
        within(
            "id",
            new.id.as_str().len().max(new.name.len()),
            limits::NAME_BYTES_MAX,
        )?;
        json_within("default_metadata", new.default_metadata.as_ref())?;
        self.write(move |core, tx| {
            core.filter(
                "system_prompt",
                new.system_prompt.as_deref().unwrap_or_default(),
            )?;
            if tx.templates()?.len() >= limits::TEMPLATES_MAX {
                let (what, limit) = ("templates", limits::TEMPLATES_MAX);
                return Err(ChatError::TooMany { what, limit });
            }
            let template = Template {
                id: new.id,
                name: new.name,
                description: new.description,
                system_prompt: new.system_prompt,
                default_metadata: new.default_metadata,
                created_at: core.now(),
                is_builtin: false,
            };
            if !tx.insert_template(&template)? {
                return Err(ChatError::Conflict(format!(
                    "Template with id '{}' already exists.",
                    template.id
                )));
            }
            let id = template.id.as_str();
            core.emit(tx, "template.new", None, json!({ "template_id": id }))?;
            core.audit(tx, "", "template.create", None, Some(id))?;
            Ok(template)
        })
        .await
    }

    /// Removes a template of one's own.
    ///
    /// # Errors
    /// Fails when there is none, or when it comes with the bus.
    pub async fn delete_template(&self, id: TemplateId) -> Result<(), ChatError> {
        self.write(move |core, tx| {
            let found = tx.template(&id)?;
            let template = found.ok_or_else(|| ChatError::TemplateNotFound(id.clone()))?;
            if template.is_builtin {
                return Err(ChatError::Forbidden(format!(
                    "Template '{id}' is built-in and cannot be deleted."
                )));
            }
            tx.delete_template(&id)?;
            core.emit(tx, "template.deleted", None, json!({ "template_id": id }))?;
            core.audit(tx, "", "template.delete", None, Some(id.as_str()))
        })
        .await
    }
}
