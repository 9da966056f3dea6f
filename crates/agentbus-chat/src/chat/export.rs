//! A thread as a document.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::model::{Message, Reaction, Thread};
use crate::store::{MessageQuery, Tx};
use crate::{Chat, ChatError, MessageId, Stamp, ThreadId};

/// Longest name of a file, without its ending.
const FILE_NAME_CHARS: usize = 80;

impl Chat {
    /// Writes a thread as Markdown: the file's name and its text. Messages for people only are in it.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn export_markdown(&self, id: ThreadId) -> Result<(String, String), ChatError> {
        self.read(move |core, tx| {
            let thread = core.thread(tx, &id)?;
            let messages = tx.messages(&id, &MessageQuery::default())?;
            let name = format!("{}.md", file_name(&thread.topic));
            Ok((name, markdown(&thread, &messages, core.now())))
        })
        .await
    }

    /// Writes a thread as JSON with everything that belongs to it: the file's name and the value.
    ///
    /// # Errors
    /// Fails when there is no such thread.
    pub async fn export_json(&self, id: ThreadId) -> Result<(String, Value), ChatError> {
        self.read(move |core, tx| {
            let thread = core.thread(tx, &id)?;
            let messages = tx.messages(&id, &MessageQuery::default())?;
            let ids: Vec<MessageId> = messages.iter().map(|one| one.id.clone()).collect();
            let reactions = tx.reactions(&ids)?;
            let whole = messages
                .iter()
                .map(|message| whole(tx, message, &reactions));
            let messages = whole.collect::<Result<Vec<_>, _>>()?;
            let document = json!({ "format": "agentbus.thread/1", "exported_at": core.now(),
                "thread": thread, "settings": tx.settings(&id)?, "messages": messages });
            Ok((format!("{}.json", file_name(&thread.topic)), document))
        })
        .await
    }
}

fn whole(tx: &dyn Tx, message: &Message, reactions: &[Reaction]) -> Result<Value, ChatError> {
    let mut value = json!(message);
    if message.edit_version > 0 {
        value["edits"] = json!(tx.edits(&message.id)?);
    }
    let own = reactions.iter().filter(|one| one.message_id == message.id);
    value["reactions"] = json!(own.collect::<Vec<_>>());
    Ok(value)
}

fn markdown(thread: &Thread, messages: &[Message], now: Stamp) -> String {
    let mut text = format!(
        "# {}\n\n> **Status:** {} | **Created:** {}\n> **Messages:** {} | **Exported:** {}\n\n---\n",
        thread.topic,
        thread.status.as_str(),
        thread.created_at.to_minute(),
        messages.len(),
        now.to_minute(),
    );
    for message in messages {
        let (name, at) = (message.shown_name(), message.created_at.to_minute());
        // Writing to a string cannot fail.
        let _ = write!(text, "\n### {name} — {at}\n\n{}\n\n---\n", message.content);
    }
    text
}

/// Makes a file name of a topic, of letters that every system takes.
fn file_name(topic: &str) -> String {
    let lower = topic.to_lowercase();
    let plain = lower.chars().map(|c| match c {
        'a'..='z' | '0'..='9' | '_' => c,
        _ => '-',
    });
    let mut name = String::new();
    for c in plain {
        if c != '-' || !name.ends_with('-') {
            name.push(c);
        }
    }
    let name: String = name
        .trim_matches('-')
        .chars()
        .take(FILE_NAME_CHARS)
        .collect();
    match name.trim_end_matches('-') {
        "" => "thread".to_owned(),
        name => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(topic: &str, expect: &str) {
        assert_eq!(file_name(topic), expect);
    }

    #[test]
    fn topics_become_file_names() {
        check("Design review", "design-review");
        check("  a/../b  ", "a-b");
        check("日本", "thread");
        check(&"x".repeat(200), &"x".repeat(80));
    }
}
