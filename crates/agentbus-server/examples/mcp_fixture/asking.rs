//! Tools and a prompt that ask their client something in between.

use agentbus_mcp::{
    Ability, Answer, Ask, Call, Catalog, CatalogError, Fault, Filled, Prompt, Reply, Tool,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::catalog::tool;

pub(crate) fn register(catalog: &Catalog) -> Result<(), CatalogError> {
    sessions(catalog)?;
    forms(catalog)?;
    one_question(catalog)?;
    several_questions(catalog)?;
    abilities(catalog)?;
    prompt(catalog)
}

/// A form with one field that must be filled in.
fn form(message: &str, name: &str, kind: &str) -> Ask {
    let properties = json!({ name: { "type": kind } });
    Ask::form(
        message,
        &json!({ "type": "object", "properties": properties, "required": [name] }),
    )
}

fn field(answer: &Answer, name: &str) -> String {
    let value = answer.fields().and_then(|fields| fields.get(name));
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "nobody".to_owned(),
    }
}

fn completed(answer: &Answer) -> Reply {
    let content = answer
        .fields()
        .map(|fields| json!(fields))
        .unwrap_or_default();
    let action = answer.action();
    Reply::text(format!(
        "Elicitation completed: action={action}, content={content}"
    ))
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Prompted {
    prompt: String,
}

#[derive(Deserialize, schemars::JsonSchema)]
struct Messaged {
    message: String,
}

/// The tools that the session revisions are tested with.
fn sessions(catalog: &Catalog) -> Result<(), CatalogError> {
    let about = Tool::new("test_sampling", "Asks the client's model.");
    catalog.add_tool(about, |call: Call, asked: Prompted| async move {
        let answer = call.ask("sample", Ask::model(&asked.prompt, 100)).await?;
        Ok::<_, Fault>(Reply::text(format!("LLM response: {}", answer.text())))
    })?;
    let about = Tool::new("test_elicitation", "Asks the person.");
    catalog.add_tool(about, |call: Call, asked: Messaged| async move {
        let fields = json!({ "type": "object", "required": ["username", "email"],
            "properties": { "username": { "type": "string", "description": "User's response" },
                "email": { "type": "string", "description": "User's email address" } } });
        let answer = call.ask("user", Ask::form(&asked.message, &fields)).await?;
        Ok::<_, Fault>(completed(&answer))
    })
}

fn forms(catalog: &Catalog) -> Result<(), CatalogError> {
    tool(
        catalog,
        "test_elicitation_sep1034_defaults",
        |call| async move {
            let fields = json!({ "type": "object", "properties": {
            "name": { "type": "string", "default": "John Doe" },
            "age": { "type": "integer", "default": 30 },
            "score": { "type": "number", "default": 95.5 },
            "status": { "type": "string", "enum": ["active", "inactive", "pending"],
                "default": "active" },
            "verified": { "type": "boolean", "default": true },
        } });
            let answer = call
                .ask("defaults", Ask::form("Are these right?", &fields))
                .await?;
            Ok(completed(&answer))
        },
    )?;
    tool(
        catalog,
        "test_elicitation_sep1330_enums",
        |call| async move {
            let titled = |word: &str| {
                let one = |n: i32, ordinal: &str| json!({ "const": format!("value{n}"), "title": format!("{ordinal} {word}") });
                json!([one(1, "First"), one(2, "Second"), one(3, "Third")])
            };
            let options = json!(["option1", "option2", "option3"]);
            let fields = json!({ "type": "object", "properties": {
            "untitledSingle": { "type": "string", "enum": options },
            "titledSingle": { "type": "string", "oneOf": titled("Option") },
            "legacyEnum": { "type": "string", "enum": ["opt1", "opt2", "opt3"],
                "enumNames": ["Option One", "Option Two", "Option Three"] },
            "untitledMulti": { "type": "array", "items": { "type": "string", "enum": options } },
            "titledMulti": { "type": "array", "items": { "anyOf": titled("Choice") } },
        } });
            let answer = call.ask("enums", Ask::form("Choose.", &fields)).await?;
            Ok(completed(&answer))
        },
    )
}

fn one_question(catalog: &Catalog) -> Result<(), CatalogError> {
    tool(
        catalog,
        "test_input_required_result_elicitation",
        |call| async move {
            let ask = form("What is your name?", "name", "string");
            let answer = call.ask("user_name", ask).await?;
            Ok(Reply::text(format!("Hello, {}!", field(&answer, "name"))))
        },
    )?;
    tool(catalog, "test_streaming_elicitation", |call| async move {
        let ask = form("What is your name?", "name", "string");
        let answer = call.ask("user_name", ask).await?;
        Ok(Reply::text(field(&answer, "name")))
    })?;
    tool(
        catalog,
        "test_input_required_result_sampling",
        |call| async move {
            let ask = Ask::model("What is the capital of France?", 100);
            let answer = call.ask("capital_question", ask).await?;
            Ok(Reply::text(answer.text()))
        },
    )?;
    tool(
        catalog,
        "test_input_required_result_list_roots",
        |call| async move {
            let answer = call.ask("client_roots", Ask::roots()).await?;
            Ok(Reply::text(answer.roots().join(", ")))
        },
    )?;
    let confirmed = ["request_state", "tampered_state"];
    for name in confirmed.map(|name| format!("test_input_required_result_{name}")) {
        tool(catalog, &name, |call| async move {
            call.ask("confirm", form("Please confirm", "ok", "boolean"))
                .await?;
            // The answer is here, so the state was ours and unchanged, if there was one.
            let state = if call.is_resumed() {
                "state-ok"
            } else {
                "no state"
            };
            Ok(Reply::text(state))
        })?;
    }
    Ok(())
}

fn several_questions(catalog: &Catalog) -> Result<(), CatalogError> {
    tool(
        catalog,
        "test_input_required_result_multiple_inputs",
        |call| async move {
            let asks = [
                ("user_name", form("What is your name?", "name", "string")),
                ("greeting", Ask::model("Generate a greeting", 50)),
                ("client_roots", Ask::roots()),
            ];
            let answers = call.ask_all(asks).await?;
            let (name, greeting) = (field(&answers[0], "name"), answers[1].text());
            let roots = answers[2].roots().len();
            Ok(Reply::text(format!("{greeting} {name}: {roots} roots")))
        },
    )?;
    tool(
        catalog,
        "test_input_required_result_multi_round",
        |call| async move {
            let first = form("Step 1: What is your name?", "name", "string");
            let name = call.ask("step1", first).await?;
            let second = form("Step 2: What is your favorite color?", "color", "string");
            let color = call.ask("step2", second).await?;
            let (name, color) = (field(&name, "name"), field(&color, "color"));
            Ok(Reply::text(format!("{name} likes {color}")))
        },
    )
}

fn abilities(catalog: &Catalog) -> Result<(), CatalogError> {
    tool(catalog, "test_missing_capability", |call| async move {
        let answer = call.ask("sample", Ask::model("Say something", 10)).await?;
        Ok(Reply::text(answer.text()))
    })?;
    tool(
        catalog,
        "test_input_required_result_capabilities",
        |call| async move {
            let mut asks = Vec::new();
            if call.can(Ability::Elicitation) {
                asks.push(("name", form("What is your name?", "name", "string")));
            }
            if call.can(Ability::Sampling) {
                asks.push(("sample", Ask::model("Say something", 10)));
            }
            let answers = call.ask_all(asks).await?;
            Ok(Reply::text(format!("{} answers", answers.len())))
        },
    )
}

fn prompt(catalog: &Catalog) -> Result<(), CatalogError> {
    let about = Prompt::new(
        "test_input_required_result_prompt",
        "A prompt that asks first.",
    );
    catalog.add_prompt(about, |call: Call, _| async move {
        let ask = form("What context should the prompt use?", "context", "string");
        let answer = call.ask("user_context", ask).await?;
        let context = field(&answer, "context");
        Ok(Filled::default().user(format!("Use this context: {context}")))
    })
}
