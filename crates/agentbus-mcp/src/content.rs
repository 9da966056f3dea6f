//! What tools, resources and prompts answer with.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

/// One piece of an answer.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Content {
    /// Text.
    Text(String),
    /// An image, as it is in its file.
    Image {
        /// The bytes.
        data: Vec<u8>,
        /// Such as `image/png`.
        mime: String,
    },
    /// Sound, as it is in its file.
    Audio {
        /// The bytes.
        data: Vec<u8>,
        /// Such as `audio/wav`.
        mime: String,
    },
    /// A resource with its content.
    Resource(Document),
}

impl Content {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }
}

/// The content of a resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// Where it is.
    pub uri: String,
    /// What it is, such as `text/plain`.
    pub mime: Option<String>,
    /// What it says.
    pub body: Body,
}

/// The body of a resource.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// Text.
    Text(String),
    /// Anything else.
    Bytes(Vec<u8>),
}

impl Document {
    /// A resource that is text.
    #[must_use]
    pub fn text(uri: impl Into<String>, mime: &str, text: impl Into<String>) -> Self {
        Self {
            uri: uri.into(),
            mime: Some(mime.to_owned()),
            body: Body::Text(text.into()),
        }
    }

    /// A resource that is JSON.
    #[must_use]
    pub fn json(uri: impl Into<String>, value: &Value) -> Self {
        Self::text(uri, "application/json", format!("{value:#}"))
    }

    /// A resource that is bytes.
    #[must_use]
    pub fn bytes(uri: impl Into<String>, mime: &str, bytes: Vec<u8>) -> Self {
        Self {
            uri: uri.into(),
            mime: Some(mime.to_owned()),
            body: Body::Bytes(bytes),
        }
    }
}

/// The answer of a tool: blocks to read, and the same as data.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Reply {
    pub(crate) content: Vec<Content>,
    pub(crate) structured: Option<Value>,
    pub(crate) is_error: bool,
}

impl Reply {
    /// Text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::blocks(vec![Content::text(text)])
    }

    /// Blocks.
    #[must_use]
    pub fn blocks(content: Vec<Content>) -> Self {
        Self {
            content,
            ..Self::default()
        }
    }

    /// Data, which is also the text.
    #[must_use]
    pub fn data(value: &impl Serialize) -> Self {
        let value = serde_json::to_value(value).unwrap_or_default();
        Self::text(value.to_string()).with_data(value)
    }

    /// What went wrong, for the model to read.
    #[must_use]
    pub fn error(text: impl Into<String>) -> Self {
        Self {
            is_error: true,
            ..Self::text(text)
        }
    }

    /// The same with data beside the blocks. A list stands under a name in it, because clients of
    /// the older revisions take only objects.
    #[must_use]
    pub fn with_data(mut self, value: Value) -> Self {
        self.structured = Some(value);
        self
    }

    /// The blocks.
    #[must_use]
    pub fn content(&self) -> &[Content] {
        &self.content
    }

    /// The data.
    #[must_use]
    pub const fn structured(&self) -> Option<&Value> {
        self.structured.as_ref()
    }
}

/// Who says a message of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speaker {
    /// The person.
    User,
    /// The model.
    Assistant,
}

/// A prompt that was filled in.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Filled {
    pub(crate) description: Option<String>,
    pub(crate) messages: Vec<(Speaker, Content)>,
}

impl Filled {
    /// A prompt with a description and no message yet.
    #[must_use]
    pub fn new(description: impl Into<String>) -> Self {
        Self {
            description: Some(description.into()),
            messages: Vec::new(),
        }
    }

    /// The same with another message.
    #[must_use]
    pub fn says(mut self, speaker: Speaker, content: Content) -> Self {
        self.messages.push((speaker, content));
        self
    }

    /// The same with another text of the person.
    #[must_use]
    pub fn user(self, text: impl Into<String>) -> Self {
        self.says(Speaker::User, Content::text(text))
    }
}

pub(crate) fn encoded(bytes: &[u8]) -> String {
    STANDARD.encode(bytes)
}
