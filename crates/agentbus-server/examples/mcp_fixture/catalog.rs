//! Tools, resources and prompts that need nothing from their client.

use std::time::Duration;

use agentbus_mcp::{
    Call, Catalog, CatalogError, Content, Document, Fault, Filled, LogLevel, Prompt, Reply,
    Resource, Speaker, Tool, Values,
};
use serde_json::{Map, Value, json};

use crate::samples;

/// The arguments of a tool that takes none, or does not care.
pub(crate) type Anything = Map<String, Value>;

/// Between two steps of a tool that tells how far it is.
const STEP: Duration = Duration::from_millis(50);

pub(crate) fn register(catalog: &Catalog) -> Result<(), CatalogError> {
    plain(catalog)?;
    telling(catalog)?;
    changing(catalog)?;
    schemas(catalog)?;
    resources(catalog)?;
    prompts(catalog)
}

/// Adds a tool that takes nothing.
pub(crate) fn tool<F, R>(catalog: &Catalog, name: &str, run: F) -> Result<(), CatalogError>
where
    F: Fn(Call) -> R + Send + Sync + 'static,
    R: Future<Output = Result<Reply, Fault>> + Send + 'static,
{
    let about =
        Tool::new(name, format!("The fixture tool {name}.")).takes_schema(Map::from_iter([
            ("type".to_owned(), json!("object")),
            ("properties".to_owned(), json!({})),
        ]));
    catalog.add_tool(about, move |call, _: Anything| run(call))
}

fn plain(catalog: &Catalog) -> Result<(), CatalogError> {
    tool(catalog, "test_simple_text", |_| async {
        Ok(Reply::text("This is a simple text response for testing."))
    })?;
    tool(catalog, "test_image_content", |_| async {
        Ok(Reply::blocks(vec![samples::image()]))
    })?;
    tool(catalog, "test_audio_content", |_| async {
        Ok(Reply::blocks(vec![samples::audio()]))
    })?;
    tool(catalog, "test_embedded_resource", |_| async {
        let text = "This is an embedded resource content.";
        let document = Document::text("test://embedded-resource", "text/plain", text);
        Ok(Reply::blocks(vec![Content::Resource(document)]))
    })?;
    tool(catalog, "test_multiple_content_types", |_| async {
        let value = json!({ "test": "data", "value": 123 }).to_string();
        let document = Document::text("test://mixed-content-resource", "application/json", value);
        Ok(Reply::blocks(vec![
            Content::text("Multiple content types test:"),
            samples::image(),
            Content::Resource(document),
        ]))
    })?;
    tool(catalog, "test_error_handling", |_| async {
        Ok(Reply::error(
            "This tool intentionally returns an error for testing",
        ))
    })
}

fn telling(catalog: &Catalog) -> Result<(), CatalogError> {
    for name in ["test_tool_with_logging", "test_logging_tool"] {
        tool(catalog, name, |call| async move {
            let lines = [
                "Tool execution started",
                "Tool processing data",
                "Tool execution completed",
            ];
            for line in lines {
                call.log(LogLevel::Info, line).await;
                tokio::time::sleep(STEP).await;
            }
            Ok(Reply::text("logged"))
        })?;
    }
    tool(catalog, "test_tool_with_progress", |call| async move {
        for done in [0.0, 50.0, 100.0] {
            call.progress(done, Some(100.0), None).await;
            tokio::time::sleep(STEP).await;
        }
        Ok(Reply::text("done"))
    })?;
    tool(catalog, "test_reconnection", |_| async {
        tokio::time::sleep(2 * STEP).await;
        Ok(Reply::text("Reconnection test completed"))
    })
}

/// Tools that change the lists while clients listen.
fn changing(catalog: &Catalog) -> Result<(), CatalogError> {
    let all = catalog.clone();
    tool(catalog, "test_trigger_tool_change", move |_| {
        let all = all.clone();
        async move {
            all.remove_tool("test_new_tool");
            tool(&all, "test_new_tool", |_| async { Ok(Reply::text("new")) })
                .map_err(Fault::failed)?;
            Ok(Reply::text("changed"))
        }
    })?;
    let all = catalog.clone();
    tool(catalog, "test_trigger_prompt_change", move |_| {
        let all = all.clone();
        async move {
            all.remove_prompt("test_new_prompt");
            all.add_prompt(Prompt::new("test_new_prompt", "New."), |_, _| async {
                Ok::<_, Fault>(Filled::default().user("new"))
            })
            .map_err(Fault::failed)?;
            Ok(Reply::text("changed"))
        }
    })
}

/// Tools whose schemas say more than Rust types can.
fn schemas(catalog: &Catalog) -> Result<(), CatalogError> {
    let schema = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "$defs": { "address": { "$anchor": "addressDef", "type": "object",
            "properties": { "street": { "type": "string" }, "city": { "type": "string" } } } },
        "properties": {
            "name": { "type": "string" },
            "address": { "$ref": "#/$defs/address" },
            "contactMethod": { "type": "string", "enum": ["phone", "email"] },
            "phone": { "type": "string" },
            "email": { "type": "string" },
        },
        "allOf": [{ "anyOf": [{ "required": ["phone"] }, { "required": ["email"] }] }],
        "if": { "properties": { "contactMethod": { "const": "phone" } },
            "required": ["contactMethod"] },
        "then": { "required": ["phone"] },
        "else": { "required": ["email"] },
        "additionalProperties": false,
    });
    with_schema(catalog, "json_schema_2020_12_tool", schema)?;
    let schema = json!({ "type": "object", "properties": {
        "region": { "type": "string", "x-mcp-header": "Region" },
        "query": { "type": "string" },
    } });
    with_schema(catalog, "test_custom_header", schema)
}

fn with_schema(catalog: &Catalog, name: &str, schema: Value) -> Result<(), CatalogError> {
    let Value::Object(schema) = schema else {
        return Ok(());
    };
    let about = Tool::new(name, format!("The fixture tool {name}.")).takes_schema(schema);
    catalog.add_tool(about, |_: Call, given: Anything| async move {
        Ok::<_, Fault>(Reply::text(Value::Object(given).to_string()))
    })
}

fn resources(catalog: &Catalog) -> Result<(), CatalogError> {
    let about = Resource::new("test://static-text", "Static text").mime("text/plain");
    catalog.add_resource(about, |_, uri, _| async {
        let text = "This is the content of the static text resource.";
        Ok(vec![Document::text(uri, "text/plain", text)])
    })?;
    let about = Resource::new("test://static-binary", "Static binary").mime("image/png");
    catalog.add_resource(about, |_, uri, _| async { Ok(vec![samples::binary(uri)]) })?;
    let about = Resource::new("test://watched-resource", "Watched").mime("text/plain");
    catalog.add_resource(about, |_, uri, _| async {
        Ok(vec![Document::text(uri, "text/plain", "watched")])
    })?;
    let about = Resource::new("test://template/{id}/data", "Data").mime("application/json");
    catalog.add_resource(about, |_, uri: String, values: Values| async move {
        let id = values.get("id").cloned().unwrap_or_default();
        let data = format!("Data for ID: {id}");
        let value = json!({ "id": id, "templateTest": true, "data": data });
        Ok(vec![Document::json(uri, &value)])
    })
}

fn prompts(catalog: &Catalog) -> Result<(), CatalogError> {
    let about = Prompt::new("test_simple_prompt", "A prompt without arguments.");
    catalog.add_prompt(about, |_, _| async {
        Ok(Filled::default().user("This is a simple prompt for testing."))
    })?;
    let about = Prompt::new("test_prompt_with_arguments", "A prompt with two arguments.")
        .needs("arg1", "First test argument")
        .needs("arg2", "Second test argument");
    let complete = |_, typed: String| async move {
        let all = ["paris", "park", "party", "test"].map(str::to_owned);
        all.into_iter()
            .filter(|one| one.starts_with(&typed))
            .collect()
    };
    catalog.add_prompt_with(about, complete, |_, values: Values| async move {
        let (arg1, arg2) = (&values["arg1"], &values["arg2"]);
        Ok(Filled::default().user(format!(
            "Prompt with arguments: arg1='{arg1}', arg2='{arg2}'"
        )))
    })?;
    let about = Prompt::new(
        "test_prompt_with_embedded_resource",
        "A prompt with a resource.",
    )
    .needs("resourceUri", "The resource to embed");
    catalog.add_prompt(about, |_, values: Values| async move {
        let text = "Embedded resource content for testing.";
        let document = Document::text(values["resourceUri"].clone(), "text/plain", text);
        Ok(Filled::default()
            .says(Speaker::User, Content::Resource(document))
            .user("Please process the embedded resource above."))
    })?;
    let about = Prompt::new("test_prompt_with_image", "A prompt with an image.");
    catalog.add_prompt(about, |_, _| async {
        Ok(Filled::default()
            .says(Speaker::User, samples::image())
            .user("Please analyze the image above."))
    })
}
