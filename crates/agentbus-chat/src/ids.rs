//! Names of things: one type each, so that a thread is never taken for a message.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes a text as it is; whether it names anything is the store's to say.
            #[must_use]
            pub fn new(text: impl Into<String>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self(text.to_owned())
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self(text)
            }
        }
    };
}

text_id!(
    /// Names a thread.
    ThreadId
);
text_id!(
    /// Names a message.
    MessageId
);
text_id!(
    /// Names a registered agent.
    AgentId
);
text_id!(
    /// Names a template of threads.
    TemplateId
);

/// Cursor of messages: strictly increasing over the whole bus, never given out twice.
pub type Seq = i64;

/// Cursor of events, with the same promises as [`Seq`].
pub type EventId = i64;
