//! What settings there are, for those who show a form of them.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use agentbus_chat::ChatConfig;
use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::settings;
use crate::DEFAULT_PORT;
use crate::state::App;

/// The form of what is answered. It changes when a client would have to.
const VERSION: &str = "agentbus.settings/1";

/// Where AgentChatBus and this bus listen unless they are told otherwise.
const LISTEN: (IpAddr, u16) = (IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT);

/// Fields that stand together.
struct Section {
    id: &'static str,
    label: &'static str,
    title: &'static str,
    fields: &'static [Field],
}

/// A setting in the words of people.
struct Field {
    key: &'static str,
    label: &'static str,
    kind: &'static str,
    description: &'static str,
}

const fn field(
    key: &'static str,
    label: &'static str,
    kind: &'static str,
    description: &'static str,
) -> Field {
    Field {
        key,
        label,
        kind,
        description,
    }
}

const SECTIONS: [Section; 5] = [
    Section {
        id: "agent",
        label: "Agents",
        title: "Times",
        fields: &[
            field(
                "AGENT_HEARTBEAT_TIMEOUT",
                "Heartbeat timeout",
                "duration_seconds",
                "Seconds after its last sign of life for which an agent counts as online.",
            ),
            field(
                "MSG_WAIT_TIMEOUT",
                "Default wait",
                "duration_seconds",
                "Seconds that a wait lasts which names no time.",
            ),
        ],
    },
    Section {
        id: "attention",
        label: "Attention",
        title: "What agents see and set",
        fields: &[
            field(
                "ENABLE_HANDOFF_TARGET",
                "Handoff target",
                "feature_flag",
                "Whether a message names the agent that shall go on.",
            ),
            field(
                "ENABLE_STOP_REASON",
                "Stop reason",
                "feature_flag",
                "Whether a message says why its author stops.",
            ),
            field(
                "ENABLE_PRIORITY",
                "Priority",
                "feature_flag",
                "Whether a message says how pressing it is.",
            ),
        ],
    },
    Section {
        id: "network",
        label: "Network",
        title: "Where the bus listens",
        fields: &[
            field("HOST", "Host", "host", "The address."),
            field("PORT", "Port", "port", "The port."),
        ],
    },
    Section {
        id: "advanced",
        label: "Advanced",
        title: "Staying in step",
        fields: &[
            field(
                "SEQ_TOLERANCE",
                "Tolerance",
                "text",
                "Messages that the author of a strict post may have missed.",
            ),
            field(
                "SEQ_MISMATCH_MAX_MESSAGES",
                "Messages of a refusal",
                "text",
                "Most messages that a refused post is shown.",
            ),
            field(
                "REPLY_TOKEN_LEASE_SECONDS",
                "Life of a reply token",
                "duration_seconds",
                "Told to clients; a reply token is good until it is spent.",
            ),
            field(
                "EXPOSE_THREAD_RESOURCES",
                "Threads as resources",
                "feature_flag",
                "Whether MCP clients find each thread in the list of resources.",
            ),
        ],
    },
    Section {
        id: "diagnostics",
        label: "Diagnostics",
        title: "How the bus was started",
        fields: &[field(
            ADMIN_TOKEN,
            "Admin token",
            "feature_flag",
            "Whether saving settings needs X-Admin-Token.",
        )],
    },
];

const ADMIN_TOKEN: &str = "ADMIN_TOKEN_CONFIGURED";

/// The settings with what a form of them shows.
#[utoipa::path(get, path = "/api/settings/manifest", tag = "conversations",
    responses((status = 200, description = "schema_version, save_message, sections; values are those from the next start on")))]
pub(super) async fn read(State(app): State<Arc<App>>) -> Json<Value> {
    let (coming, kept) = settings::coming(&app).await;
    let values = settings::shown((app.address.ip(), app.address.port()), &coming);
    let defaults = settings::shown(LISTEN, &ChatConfig::default());
    let shown = |field: &Field| {
        if field.key == ADMIN_TOKEN {
            let value = json!(app.config.admin_token.is_some());
            return described(field, &value, &Value::Null, "derived");
        }
        let (value, usual) = (&values[field.key], &defaults[field.key]);
        let source = if *value == kept[field.key] {
            "persisted"
        } else if value == usual {
            "default"
        } else {
            "env"
        };
        described(field, value, usual, source)
    };
    let sections = (1..).zip(&SECTIONS).map(|(place, section)| {
        let fields: Vec<_> = section.fields.iter().map(shown).collect();
        json!({ "id": section.id, "nav_label": section.label, "title": section.title,
            "order": place * 10, "fields": fields })
    });
    let sections: Vec<Value> = sections.collect();
    Json(json!({
        "schema_version": VERSION, "save_message": settings::SAVED, "sections": sections,
    }))
}

fn described(field: &Field, value: &Value, usual: &Value, source: &str) -> Value {
    let kind = match value {
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        _ => "string",
    };
    let why_not = match field.key {
        ADMIN_TOKEN => Some(
            "it is so where AGENTCHATBUS_ADMIN_TOKEN is in the environment of the bus".to_owned(),
        ),
        key => settings::not_here(key),
    };
    let editable = why_not.is_none();
    let mut shown = json!({
        "key": field.key, "value_source": source, "label": field.label,
        "input_id": format!("setting-{}", field.key.to_lowercase().replace('_', "-")),
        "type": kind, "kind": field.kind, "description": field.description,
        "scope": if editable { "editable" } else { "readonly" }, "sensitivity": "public",
        "restart_required": true, "value": value, "default_value": usual, "editable": editable,
    });
    if let Some(reason) = why_not {
        shown["readonly_reason"] = json!(reason);
    }
    if editable && value.is_number() {
        shown["min"] = json!(0);
        shown["step"] = json!(1);
    }
    shown
}
