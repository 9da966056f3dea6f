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
    let users = match durable["members"].as_u64() {
        None => "subscribers not known".to_owned(),
        Some(0) => "nobody uses it".to_owned(),
        Some(1) => "1 subscriber".to_owned(),
        Some(members) => format!("{members} subscribers"),
    };
    let (name, pattern) = (text("name"), text("pattern"));
    plain::line(&format!(
        "{name}  {pattern}{group}: {users}, {} unsettled, looked at up to {}, {} behind",
        number("unsettled"),
        number("seen"),
        number("behind"),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_with_what_is_known_of_it() {
        for (members, users) in [
            (json!(null), "subscribers not known"),
            (json!(0), "nobody uses it"),
            (json!(1), "1 subscriber"),
            (json!(2), "2 subscribers"),
        ] {
            let shown = name(&json!({
                "name": "jobs", "pattern": "a.*", "group": "g", "members": members,
                "unsettled": 3, "seen": 20, "behind": 4,
            }));
            let rest = "3 unsettled, looked at up to 20, 4 behind";
            assert_eq!(shown, format!("jobs  a.* in the group g: {users}, {rest}"));
        }
    }
}
