//! Tools for what waits for a person.
//!
//! They are for a program that speaks for its person. An agent that the bus drives, and a session on
//! which an agent proved itself, see what they wait for themselves and answer nothing.

use agentbus_decisions::{Answer, Board, Voice};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::agents::Nothing;
use super::refusal::refused;
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

#[derive(Debug, Serialize, JsonSchema)]
struct Listed {
    /// Each with id, type, asker, session, title, detail, options, since, until; `form` or `url`.
    decisions: Vec<Map<String, Value>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Asked {
    /// The decision.
    decision_id: String,
    /// The id of one of its options.
    option: String,
    /// The fields of a form that is accepted.
    content: Option<Map<String, Value>>,
}

#[derive(Debug, Serialize, JsonSchema)]
struct Done {
    decision_id: String,
    option: String,
    /// Whether it had been decided before, in the same way.
    already_decided: bool,
}

pub(super) fn install(catalog: &Catalog, board: &Board) -> Result<(), CatalogError> {
    let about = Tool::new(
        "decision_list",
        "List what agents on the bus wait for: permissions, forms, addresses to go to.",
    )
    .gives::<Listed>()
    .read_only()
    .extended();
    let on = board.clone();
    catalog.add_tool(about, move |call, asked| list(on.clone(), call, asked))?;
    let about = Tool::new(
        "decision_answer",
        "Answer a decision for the person that you speak for. Ask that person first. The first \
         answer counts; agents that work on the bus cannot answer.",
    )
    .gives::<Done>()
    .destructive()
    .idempotent()
    .extended();
    let on = board.clone();
    catalog.add_tool(about, move |call, asked| answer(on.clone(), call, asked))
}

async fn list(board: Board, call: Call, _: Nothing) -> Result<Reply, Fault> {
    let open = board.list(&voice(&call)).await.map_err(Fault::failed)?;
    Ok(Reply::data(&json!({ "decisions": open })))
}

async fn answer(board: Board, call: Call, asked: Asked) -> Result<Reply, Fault> {
    let given = Answer {
        option: asked.option,
        content: asked.content,
    };
    let id = asked.decision_id;
    match board.answer(&id, given, &voice(&call)).await {
        Ok(taken) => Ok(Reply::data(&Done {
            decision_id: id,
            option: taken.option,
            already_decided: taken.already_decided,
        })),
        Err(not) => Ok(refused(&not.to_string())),
    }
}

/// For whom a call speaks.
fn voice(call: &Call) -> Voice {
    let principal = &call.visitor().principal;
    if let Some(agent) = principal.as_agent() {
        return Voice::Agent(agent.to_owned());
    }
    match call.session().agent() {
        Some(agent) => Voice::Agent(agent.to_string()),
        None => Voice::Assistant(principal.as_str().to_owned()),
    }
}
