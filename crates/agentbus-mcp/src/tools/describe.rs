//! `bus_tools`: the tools that are not listed.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Call, Catalog, CatalogError, Fault, Profile, Reply, Tool};

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// Only the tool of this name, with the schema of what it takes.
    name: Option<String>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Described {
    tools: Vec<OneTool>,
    /// How to have all of them listed.
    note: &'static str,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Tool")]
struct OneTool {
    name: String,
    description: String,
    /// What it takes.
    input_schema: Map<String, Value>,
}

pub(super) fn install(catalog: &Catalog) -> Result<(), CatalogError> {
    let about = Tool::new(
        "bus_tools",
        "Describe the tools that are not listed here but can be called: settings and deletion of \
         threads, templates, edit history, the agent registry, calls of agents on the bus, events, \
         what waits for a person.",
    )
    .titled("More tools")
    .gives::<Described>()
    .read_only();
    let all = catalog.clone();
    catalog.add_tool(about, move |_: Call, asked: Asked| {
        let all = all.clone();
        async move { Ok::<_, Fault>(describe(&all, asked.name.as_deref())) }
    })
}

fn describe(catalog: &Catalog, name: Option<&str>) -> Reply {
    let wanted = |tool: &Tool| match name {
        Some(name) => tool.name == name,
        None => tool.profile == Profile::Full,
    };
    let tools = catalog.tools();
    let tools: Vec<OneTool> = tools
        .iter()
        .filter(|entry| wanted(&entry.about))
        .map(|entry| OneTool {
            name: entry.about.name.clone(),
            description: entry.about.description.clone(),
            input_schema: (**entry.input()).clone(),
        })
        .collect();
    if let (Some(name), true) = (name, tools.is_empty()) {
        return super::refusal::refused(&format!(
            "there is no tool `{name}`; call bus_tools without a name to see which there are"
        ));
    }
    Reply::data(&Described {
        tools,
        note: "Connect to /mcp?profile=full to have all tools listed.",
    })
}
