//! `agentbus targets`.

use serde_json::Value;

use super::Api;
use crate::failure::Failure;
use crate::plain;

/// Lists the targets and who serves them.
pub(crate) async fn targets(api: &Api) -> Result<(), Failure> {
    let overview = api.get("/v1/targets").await?;
    api.rows(&overview["targets"], target)
}

fn target(target: &Value) -> String {
    let text = |name: &str| target[name].as_str().unwrap_or_default();
    let group = match text("group") {
        "" => String::new(),
        group => format!(", in the group {group}"),
    };
    // Said only of those that serve elsewhere than in the tenant of the bus.
    let tenant = match target["tenant"].as_str() {
        None => String::new(),
        Some("") => ", outside of all tenants".to_owned(),
        Some(tenant) => format!(", in the tenant {tenant}"),
    };
    let (name, agent) = (text("name"), text("agent"));
    plain::line(&format!("{name}  {agent}{group}{tenant}"))
}
