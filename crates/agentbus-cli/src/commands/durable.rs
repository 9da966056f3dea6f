//! `agentbus durable`.

use serde_json::{Value, json};

use super::{Api, escaped};
use crate::args::DurableVerb;
use crate::failure::Failure;
use crate::plain;

pub(crate) async fn durable(api: &Api, verb: DurableVerb) -> Result<(), Failure> {
    match verb {
        DurableVerb::List => {
            let listed = api.get("/v1/durables").await?;
            api.rows(&listed["durables"], name)
        }
        DurableVerb::Remove { name } => {
            let path = format!("/v1/durables/{}", escaped(&name));
            api.delete(&path).await?;
            api.say(&json!({ "removed": name }), &format!("removed {name}"))
        }
    }
}

/// What it listens on, with whom, and what it has before it.
fn name(durable: &Value) -> String {
    let text = |field: &str| durable[field].as_str().unwrap_or_default();
    let number = |field: &str| durable[field].as_u64().unwrap_or_default();
    let group = match text("group") {
        "" => String::new(),
        group => format!(" in the group {group}"),
    };
    let users = match number("members") {
        0 => "nobody uses it".to_owned(),
        1 => "1 subscriber".to_owned(),
        members => format!("{members} subscribers"),
    };
    let (name, pattern) = (text("name"), text("pattern"));
    plain::line(&format!(
        "{name}  {pattern}{group}: {users}, {} unsettled, looked at up to {}, {} behind",
        number("unsettled"),
        number("seen"),
        number("behind"),
    ))
}
