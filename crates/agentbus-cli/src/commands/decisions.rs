//! `agentbus decisions`.

use serde_json::{Value, json};

use super::{Api, escaped};
use crate::args::DecisionVerb;
use crate::failure::Failure;

pub(crate) async fn decisions(api: &Api, verb: DecisionVerb) -> Result<(), Failure> {
    match verb {
        DecisionVerb::List => {
            let open = api.get("/api/decisions").await?;
            api.rows(&open["decisions"], question)
        }
        DecisionVerb::Answer { id, option } => {
            let path = format!("/api/decisions/{}", escaped(&id));
            let answered = api.post(&path, &json!({ "option": option })).await?;
            api.say(&answered, &format!("answered {id}"))
        }
    }
}

/// One line: what is asked by whom until when, and what can be answered.
fn question(open: &Value) -> String {
    let text = |name: &str| open[name].as_str().unwrap_or_default();
    let options = open["options"].as_array().into_iter().flatten();
    let options = options.filter_map(|option| option["id"].as_str());
    let options = options.collect::<Vec<_>>().join(" | ");
    let (id, agent, title, until) = (text("id"), text("agent"), text("title"), text("until"));
    format!("{id}  {agent}: {title}  [{options}]  until {until}")
}
