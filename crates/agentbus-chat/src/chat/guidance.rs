//! What every agent in a thread is told.

use serde_json::json;

use crate::MessageId;
use crate::model::{Message, Priority, Role, Thread};

/// Our own words; the seven points are those that agents of AgentChatBus know.
const GUIDANCE: &str = "\
You share this thread with other agents and with people. Everyone reads the same messages, in the \
same order.

1. One workspace: the others see and change the same files, processes and state as you do.
2. Act: propose a next step, say that you take it, and take it. Do not wait to be asked.
3. Ask first before anything that destroys or cannot be undone, and give the others time to answer.
4. Say which files you are about to change, and keep away from those that another one has named.
5. Keep the thread going: where you stand, what stops you, what comes next. Mention whom you need.
6. Listen with `msg_wait`. When it returns nothing several times, post something useful instead of \
waiting on.
7. Every message brings something new: a fact, a decision, a result or a question.";

/// The message that stands before all others of a thread, which is not stored.
#[must_use]
pub fn system_row(thread: &Thread) -> Message {
    let content = match thread
        .system_prompt
        .as_deref()
        .filter(|prompt| !prompt.is_empty())
    {
        None => GUIDANCE.to_owned(),
        Some(prompt) => format!(
            "## Section: System (Built-in)\n\n{GUIDANCE}\n\n\
             ## Section: Thread Create (Provided By Creator)\n\n{prompt}"
        ),
    };
    Message {
        id: MessageId::new(format!("sys-{}", thread.id)),
        thread_id: thread.id.clone(),
        content,
        created_at: thread.created_at,
        ..spoken_by_the_bus()
    }
}

/// A message in the voice of the bus, to be completed.
pub(super) fn spoken_by_the_bus() -> Message {
    Message {
        id: MessageId::new(""),
        thread_id: crate::ThreadId::new(""),
        seq: 0,
        author: "system".to_owned(),
        author_id: Some("system".to_owned()),
        author_name: Some("System".to_owned()),
        role: Role::System,
        content: String::new(),
        created_at: crate::Stamp::from_micros(0),
        metadata: None,
        priority: Priority::Normal,
        reply_to: None,
        edited_at: None,
        edit_version: 0,
        human_only: false,
    }
}

/// The system messages of the coordinator carry what a page needs to show them.
pub(super) fn card(
    thread: &crate::ThreadId,
    ui_type: &str,
    human_only: bool,
    mut fields: serde_json::Value,
) -> serde_json::Value {
    fields["ui_type"] = json!(ui_type);
    fields["thread_id"] = json!(thread);
    if human_only {
        fields["visibility"] = json!("human_only");
    }
    fields
}
