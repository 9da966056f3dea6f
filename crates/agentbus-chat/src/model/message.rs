//! Messages, what became of them, and what others thought of them.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{AgentId, MessageId, Seq, Stamp, ThreadId};

/// One message of a thread.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: MessageId,
    /// The thread it belongs to.
    pub thread_id: ThreadId,
    /// Its place on the bus.
    pub seq: Seq,
    /// Who wrote it: the name of an agent, or what a person called themself.
    pub author: String,
    /// The agent, if the author was a registered one.
    pub author_id: Option<String>,
    /// The name to show.
    pub author_name: Option<String>,
    /// In what role it was written.
    pub role: Role,
    /// The text.
    pub content: String,
    /// When it was stored.
    pub created_at: Stamp,
    /// Mentions, attachments, and whatever else the author said about it.
    pub metadata: Option<Value>,
    /// How pressing it is.
    pub priority: Priority,
    /// The message that it answers.
    pub reply_to: Option<MessageId>,
    /// When it was last edited.
    pub edited_at: Option<Stamp>,
    /// How often it was edited.
    pub edit_version: i64,
    /// Whether only people may read it.
    pub human_only: bool,
}

impl Message {
    /// The name to show.
    #[must_use]
    pub fn shown_name(&self) -> &str {
        self.author_name.as_deref().unwrap_or(&self.author)
    }

    /// A text of the metadata.
    #[must_use]
    pub fn meta(&self, key: &str) -> Option<&str> {
        self.metadata.as_ref()?.get(key)?.as_str()
    }
}

/// Whether metadata keeps a message from agents.
#[must_use]
pub(crate) fn is_human_only(metadata: Option<&Value>) -> bool {
    let says = |key: &str, word: &str| {
        let value = metadata.and_then(|metadata| metadata.get(key)?.as_str());
        value.is_some_and(|value| value.trim().eq_ignore_ascii_case(word))
    };
    says("visibility", "human_only") || says("audience", "human")
}

/// Why an agent may say that it stops.
pub const STOP_REASONS: [&str; 5] = ["complete", "convergence", "error", "impasse", "timeout"];

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name {
            $($(#[$vdoc])* #[serde(rename = $word)] $variant),*
        }

        impl $name {
            /// The words, for those who list them.
            pub const WORDS: &'static [&'static str] = &[$($word),*];

            /// The word for it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }

            /// Finds what a word means.
            #[must_use]
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words!(
    /// In what role a message was written.
    Role {
        /// By someone who asks.
        User = "user",
        /// By someone who helps.
        Assistant = "assistant",
        /// By the bus.
        System = "system",
    }
);

words!(
    /// How pressing a message is.
    Priority {
        /// As usual.
        Normal = "normal",
        /// Now, please.
        Urgent = "urgent",
        /// From the bus.
        System = "system",
    }
);

/// An earlier text of a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edit {
    /// Which edit replaced it, counted from 1.
    pub version: i64,
    /// The text before the edit.
    pub old_content: String,
    /// Who edited.
    pub edited_by: String,
    /// When.
    pub created_at: Stamp,
}

/// What someone thought of a message, as a free label.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// Its id.
    pub id: String,
    /// The message.
    pub message_id: MessageId,
    /// Who reacted; not checked, so any text.
    pub agent_id: Option<AgentId>,
    /// The agent's name, if it is registered.
    pub agent_name: Option<String>,
    /// The label.
    pub reaction: String,
    /// When.
    pub created_at: Stamp,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_marked_metadata_keeps_agents_out() {
        assert!(is_human_only(Some(
            &json!({ "visibility": " Human_Only " })
        )));
        assert!(is_human_only(Some(&json!({ "audience": "human" }))));
        assert!(!is_human_only(Some(
            &json!({ "visibility": "all", "audience": 1 })
        )));
        assert!(!is_human_only(None));
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for word in Role::WORDS {
            assert_eq!(Role::parse(word).unwrap().as_str(), *word);
        }
        assert_eq!(Priority::parse("huge"), None);
    }
}
