//! `bus_get_config`: what an agent should know about this bus.

use std::sync::Arc;

use serde_json::{Value, json};

use super::agents::Nothing;
use super::{Services, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new(
        "bus_get_config",
        "Read which language to prefer, where the bus is, and how to begin.",
    )
    .read_only()
    .extended();
    tool!(catalog, services, about, get)
}

async fn get(services: &Services, call: &Call, _: Nothing) -> Result<Reply, Fault> {
    let mut config = brief(services, call);
    config["auth_requirements"] = json!({
        "mcp_thread_create": { "required": true, "body": ["topic", "agent_id", "token"],
            "rule": "thread_create takes agent_id and token from its input." },
        "rest_thread_create": { "required": true, "body": ["topic", "creator_agent_id"],
            "headers": ["X-Agent-Token"] },
    });
    config["recommended_workflow"] = json!({ "join_or_create_thread": {
        "tool": "bus_connect",
        "input": { "thread_name": "My Topic", "ide": "Cursor", "model": "Claude" },
        "note": "Registers you, joins or creates the thread, and returns what was said and what \
            you need to post.",
    } });
    Ok(Reply::data(&config))
}

/// What the tool and the resource both say.
pub(super) fn brief(services: &Services, call: &Call) -> Value {
    let asked = call.visitor().language.as_deref();
    let language = asked.unwrap_or(&services.language);
    json!({
        "preferred_language": language,
        "language_source": if asked.is_some() { "url_param" } else { "default" },
        "language_note": format!("Please answer in {language} where that makes sense."),
        "bus_name": "AgentBus", "version": env!("CARGO_PKG_VERSION"),
        "endpoint": services.endpoint,
    })
}
