//! Prompts for people who work with agents.

use std::sync::Arc;

use agentbus_chat::model::ThreadQuery;

use super::Services;
use crate::{Call, Catalog, CatalogError, Fault, Filled, Prompt, Values};

pub(super) fn install(catalog: &Catalog, services: &Arc<Services>) -> Result<(), CatalogError> {
    let about = Prompt::new(
        "summarize_thread",
        "Asks for a short summary of what was said in a thread.",
    )
    .titled("Summarize a thread")
    .needs("topic", "The topic of the thread.")
    .needs("transcript", "What was said in it.");
    let shared = Arc::clone(services);
    let complete = move |name, typed| topics(Arc::clone(&shared), name, typed);
    catalog.add_prompt_with(about, complete, |_: Call, values| async move {
        Ok::<_, Fault>(summarize(&values))
    })?;
    let about = Prompt::new("handoff_to_agent", "Hands a task over to another agent.")
        .titled("Hand a task over")
        .needs("from_agent", "Who hands the task over.")
        .needs("to_agent", "Who takes it.")
        .needs("task_description", "What is to be done.")
        .takes("context", "What helps to do it.");
    catalog.add_prompt(about, |_: Call, values| async move {
        Ok::<_, Fault>(hand_over(&values))
    })
}

/// The topics of threads that begin as typed.
async fn topics(services: Arc<Services>, name: String, typed: String) -> Vec<String> {
    if name != "topic" {
        return Vec::new();
    }
    let page = services.chat.threads(ThreadQuery::default()).await;
    let threads = page.map(|page| page.threads).unwrap_or_default();
    let topics = threads.into_iter().map(|thread| thread.topic);
    let typed = typed.to_lowercase();
    topics
        .filter(|topic| topic.to_lowercase().starts_with(&typed))
        .collect()
}

fn value<'a>(values: &'a Values, name: &str) -> &'a str {
    values.get(name).map_or("", String::as_str)
}

fn summarize(values: &Values) -> Filled {
    let (topic, transcript) = (value(values, "topic"), value(values, "transcript"));
    Filled::new("Summarize what was said in a thread.").user(format!(
        "Below is what was said in a thread about \"{topic}\". Summarize it briefly: what was \
         decided and why, and which questions are still open.\n\n\
         --- TRANSCRIPT ---\n{transcript}\n--- END ---"
    ))
}

fn hand_over(values: &Values) -> Filled {
    let (from, to) = (value(values, "from_agent"), value(values, "to_agent"));
    let mut text = format!(
        "Hello {to}, {from} hands a task over to you.\n\n**Task:** {}\n\n",
        value(values, "task_description")
    );
    let context = value(values, "context");
    if !context.is_empty() {
        text += &format!("What helps to do it:\n{context}\n\n");
    }
    text += "Say that you take it, and begin.";
    Filled::new("Hand a task over to another agent.").user(text)
}
