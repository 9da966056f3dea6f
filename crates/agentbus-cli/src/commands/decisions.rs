//! `agentbus decisions`.

use serde_json::{Value, json};

use super::{Api, escaped};
use crate::args::DecisionVerb;
use crate::failure::{Exit, Failure};
use crate::plain;

pub(crate) async fn decisions(api: &Api, verb: DecisionVerb) -> Result<(), Failure> {
    match verb {
        DecisionVerb::List => {
            let open = api.get("/api/decisions").await?;
            api.rows(&open["decisions"], question)
        }
        DecisionVerb::Answer {
            id,
            option,
            content,
        } => {
            let path = format!("/api/decisions/{}", escaped(&id));
            let mut body = json!({ "option": option });
            if let Some(content) = content {
                body["content"] = fields(&content)?;
            }
            let answered = api.post(&path, &body).await?;
            api.say(&answered, &format!("answered {id}"))
        }
    }
}

fn fields(content: &str) -> Result<Value, Failure> {
    let fields = serde_json::from_str(content);
    let fields = fields.ok().filter(Value::is_object);
    fields.ok_or_else(|| {
        let text = "`--content` is a JSON object with the fields of the form, such as '{\"name\": \"Ada\"}'";
        Failure::new(Exit::Usage, text)
    })
}

/// One line: what is asked by whom until when, and what can be answered. A form says its fields
/// too, and an address where it is.
fn question(open: &Value) -> String {
    let text = |name: &str| open[name].as_str().unwrap_or_default();
    let options = open["options"].as_array().into_iter().flatten();
    let options = options.filter_map(|option| option["id"].as_str());
    let options = options.collect::<Vec<_>>().join(" | ");
    let (id, title) = (text("id"), text("title"));
    let asker = open["asker"]["name"].as_str().unwrap_or_default();
    let fields = open["form"]["properties"].as_object().into_iter().flatten();
    let fields: Vec<&str> = fields.map(|(name, _)| name.as_str()).collect();
    let more = match (fields.is_empty(), text("url")) {
        (false, _) => format!("  {{{}}}", fields.join(", ")),
        (true, "") => String::new(),
        (true, url) => format!("  {url}"),
    };
    let until = match text("until") {
        "" => String::new(),
        until => format!("  until {until}"),
    };
    // All of it is of whoever asks, and it is one line.
    plain::line(&format!("{id}  {asker}: {title}  [{options}]{more}{until}"))
}
