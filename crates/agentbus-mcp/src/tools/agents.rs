//! `agent_list`: who is there.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::views::{self, AgentView};
use super::{Services, refusal, tool};
use crate::{Call, Catalog, CatalogError, Fault, Reply, Tool};

/// A tool that takes nothing.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Nothing {}

#[derive(Debug, Serialize, JsonSchema)]
struct Agents {
    agents: Vec<AgentView>,
}

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Tool::new(
        "agent_list",
        "List the agents that are registered: who they are, what they can do, whether they are \
         online.",
    )
    .titled("List agents")
    .gives::<Agents>()
    .read_only();
    tool!(catalog, services, about, list)
}

async fn list(services: &Services, _: &Call, _: Nothing) -> Result<Reply, Fault> {
    match services.chat.agents().await {
        Ok(agents) => {
            let agents = agents.iter().map(|one| views::agent(one, &services.chat));
            let data = json!(Agents {
                agents: agents.collect()
            });
            Ok(Reply::text(data["agents"].to_string()).with_data(data))
        }
        Err(error) => refusal::answer(&error),
    }
}
