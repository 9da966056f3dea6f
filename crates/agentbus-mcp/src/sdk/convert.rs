//! From the catalogue's words to those of the SDK.

use std::sync::Arc;

use rmcp::ErrorData;
use rmcp::model::{
    CallToolResult, ClientCapabilities, ContentBlock, ErrorCode, GetPromptResult,
    PromptArgument as SdkArgument, PromptMessage, ReadResourceResult, ResourceContents, Role,
    ToolAnnotations,
};
use serde_json::json;

use crate::catalog::{PromptEntry, Resource, ToolEntry};
use crate::content::{Body, Content, Document, Filled, Reply, Speaker, encoded};
use crate::{Ability, Fault};

pub(super) fn tool(entry: &ToolEntry) -> rmcp::model::Tool {
    let about = &entry.about;
    let hints = ToolAnnotations::new()
        .read_only(about.read_only)
        .destructive(about.destructive)
        .idempotent(about.idempotent)
        .open_world(about.open_world);
    let mut tool = rmcp::model::Tool::new(
        about.name.clone(),
        about.description.clone(),
        Arc::clone(entry.input()),
    )
    .with_annotations(hints);
    if let Some(title) = &about.title {
        tool = tool.with_title(title.clone());
    }
    if let Some(output) = entry.output() {
        tool = tool.with_raw_output_schema(Arc::clone(output));
    }
    tool
}

pub(super) fn prompt(entry: &PromptEntry) -> rmcp::model::Prompt {
    let about = &entry.about;
    let arguments = about.arguments.iter().map(|argument| {
        SdkArgument::new(argument.name.clone())
            .with_description(argument.description.clone())
            .with_required(argument.required)
    });
    let arguments: Vec<_> = arguments.collect();
    let arguments = (!arguments.is_empty()).then_some(arguments);
    let prompt = rmcp::model::Prompt::new(
        about.name.clone(),
        Some(about.description.clone()),
        arguments,
    );
    match &about.title {
        Some(title) => prompt.with_title(title.clone()),
        None => prompt,
    }
}

pub(super) fn resource(about: &Resource) -> rmcp::model::Resource {
    let mut resource = rmcp::model::Resource::new(about.uri.clone(), about.name.clone());
    if let Some(description) = &about.description {
        resource = resource.with_description(description.clone());
    }
    if let Some(mime) = &about.mime {
        resource = resource.with_mime_type(mime.clone());
    }
    resource
}

pub(super) fn template(about: &Resource) -> rmcp::model::ResourceTemplate {
    let mut template = rmcp::model::ResourceTemplate::new(about.uri.clone(), about.name.clone());
    if let Some(description) = &about.description {
        template = template.with_description(description.clone());
    }
    if let Some(mime) = &about.mime {
        template = template.with_mime_type(mime.clone());
    }
    template
}

pub(super) fn reply(reply: Reply) -> CallToolResult {
    let content = reply.content.into_iter().map(block).collect();
    let mut result = if reply.is_error {
        CallToolResult::error(content)
    } else {
        CallToolResult::success(content)
    };
    result.structured_content = reply.structured;
    result
}

pub(super) fn filled(filled: Filled) -> GetPromptResult {
    let messages = filled.messages.into_iter().map(|(speaker, content)| {
        let role = match speaker {
            Speaker::User => Role::User,
            Speaker::Assistant => Role::Assistant,
        };
        PromptMessage::new(role, block(content))
    });
    let result = GetPromptResult::new(messages.collect());
    match filled.description {
        Some(description) => result.with_description(description),
        None => result,
    }
}

pub(super) fn documents(documents: Vec<Document>) -> ReadResourceResult {
    ReadResourceResult::new(documents.into_iter().map(contents).collect())
}

fn block(content: Content) -> ContentBlock {
    match content {
        Content::Text(text) => ContentBlock::text(text),
        Content::Image { data, mime } => ContentBlock::image(encoded(&data), mime),
        Content::Audio { data, mime } => ContentBlock::audio(encoded(&data), mime),
        Content::Resource(document) => ContentBlock::resource(contents(document)),
    }
}

fn contents(document: Document) -> ResourceContents {
    let contents = match document.body {
        Body::Text(text) => ResourceContents::text(text, document.uri),
        Body::Bytes(bytes) => ResourceContents::blob(encoded(&bytes), document.uri),
    };
    match document.mime {
        Some(mime) => contents.with_mime_type(mime),
        None => contents,
    }
}

/// A fault as the error of the protocol.
pub(super) fn error(fault: Fault) -> ErrorData {
    let text = fault.to_string();
    match fault {
        Fault::Invalid(_) => ErrorData::invalid_params(text, None),
        Fault::NoResource(uri) => ErrorData::invalid_params(text, Some(json!({ "uri": uri }))),
        Fault::Unable(ability) => {
            let mut error = ErrorData::missing_required_client_capability(required(ability));
            error.message = text.into();
            error
        }
        Fault::Cancelled => ErrorData::new(ErrorCode::INVALID_REQUEST, text, None),
        _ => ErrorData::internal_error(text, None),
    }
}

/// What a client has to declare for an ability.
fn required(ability: Ability) -> ClientCapabilities {
    let declared = json!({ ability.name(): {} });
    serde_json::from_value(declared).unwrap_or_default()
}
