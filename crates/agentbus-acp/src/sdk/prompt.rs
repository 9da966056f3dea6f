//! A prompt as it is sent, and how its turn ended.

use agent_client_protocol::v1::schema::ContentBlock;
use serde_json::Value;

use super::driving::Abilities;

/// What one side added for whoever understands it, `_meta` of the protocol.
pub(crate) type Meta = serde_json::Map<String, Value>;

/// How a turn ended, and what the agent added.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Ending {
    pub(crate) stop: Stop,
    pub(crate) meta: Option<Meta>,
}

/// Why a turn ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stop {
    EndTurn,
    MaxTokens,
    MaxTurnRequests,
    Refusal,
    Cancelled,
    /// A reason that this version of the protocol does not know.
    Other,
}

/// The content of a prompt, and what its sender added.
#[derive(Debug, Clone)]
pub(crate) struct Prompt {
    pub(super) blocks: Vec<ContentBlock>,
    pub(super) meta: Option<Meta>,
}

impl From<Stop> for Ending {
    fn from(stop: Stop) -> Self {
        Self { stop, meta: None }
    }
}

impl Stop {
    /// The word of the protocol.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::EndTurn => "end_turn",
            Self::MaxTokens => "max_tokens",
            Self::MaxTurnRequests => "max_turn_requests",
            Self::Refusal => "refusal",
            Self::Cancelled => "cancelled",
            Self::Other => "other",
        }
    }
}

impl Prompt {
    /// A prompt that is one text.
    pub(crate) fn text(text: &str) -> Self {
        Self {
            blocks: vec![text.into()],
            meta: None,
        }
    }

    /// Reads content blocks.
    pub(crate) fn blocks(blocks: Value) -> Result<Self, String> {
        let blocks: Vec<ContentBlock> =
            serde_json::from_value(blocks).map_err(|error| error.to_string())?;
        match blocks.is_empty() {
            true => Err("a prompt has at least one block".to_owned()),
            false => Ok(Self { blocks, meta: None }),
        }
    }

    /// The same with what its sender added.
    pub(crate) fn meta(self, meta: Option<Meta>) -> Self {
        Self { meta, ..self }
    }

    /// The same within a trace, where there is one.
    pub(crate) fn traced(mut self, traceparent: &str) -> Self {
        if !traceparent.is_empty() {
            let meta = self.meta.get_or_insert_default();
            meta.insert("traceparent".to_owned(), traceparent.into());
        }
        self
    }

    /// The blocks as they are sent.
    pub(crate) fn as_json(&self) -> Value {
        serde_json::to_value(&self.blocks).unwrap_or_default()
    }

    /// Names the kind of content that the agent does not take, if there is one.
    pub(crate) fn beyond(&self, abilities: &Abilities) -> Option<&'static str> {
        let can = &abilities.prompt;
        self.blocks.iter().find_map(|block| match block {
            ContentBlock::Image(_) if !can.image => Some("image"),
            ContentBlock::Audio(_) if !can.audio => Some("audio"),
            ContentBlock::Resource(_) if !can.embedded_context => Some("resource"),
            _ => None,
        })
    }
}
