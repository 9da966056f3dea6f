//! Event types and the frame kinds that belong to them.

use std::fmt;

use crate::Text;

/// Says what happened; in publish and subscribe it is also the routing key.
///
/// The nine types of the protocol are constants here. Every other text is a business event; the
/// advice is `domain.entity.action`, for example `shop.order.paid`.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct EventType(Text);

impl EventType {
    /// The type of an envelope that has not been given one.
    pub(crate) const BLANK: Self = Self(Text::new_static(""));
    /// A request to an agent.
    pub const MESSAGE_RECEIVED: Self = Self(Text::new_static("agent.message.received"));
    /// The first frame of a stream: the agent has begun.
    pub const RESPONSE_STARTED: Self = Self(Text::new_static("agent.response.started"));
    /// A part of the answer.
    pub const RESPONSE_DELTA: Self = Self(Text::new_static("agent.response.delta"));
    /// The answer, or the end of a stream.
    pub const RESPONSE_FINAL: Self = Self(Text::new_static("agent.response.final"));
    /// The call failed; the payload is an [`ErrorPayload`](crate::ErrorPayload).
    pub const RESPONSE_ERROR: Self = Self(Text::new_static("agent.response.error"));
    /// An agent asks for a tool.
    pub const TOOL_CALL: Self = Self(Text::new_static("agent.tool.call"));
    /// What the tool returned.
    pub const TOOL_RESULT: Self = Self(Text::new_static("agent.tool.result"));
    /// A task was accepted.
    pub const TASK_CREATED: Self = Self(Text::new_static("agent.task.created"));
    /// A task has ended.
    pub const TASK_COMPLETED: Self = Self(Text::new_static("agent.task.completed"));

    /// Makes an event type from its wire text.
    #[must_use]
    pub fn new(text: impl Into<Text>) -> Self {
        Self(text.into())
    }

    /// The wire text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The frame kind that the protocol fixes for this type, if it fixes one.
    #[must_use]
    pub fn frame_kind(&self) -> Option<FrameKind> {
        let kind = match self.as_str().strip_prefix("agent.")? {
            "message.received" => FrameKind::Request,
            "response.started" => FrameKind::Started,
            "response.delta" => FrameKind::Delta,
            "response.final" => FrameKind::Final,
            "response.error" => FrameKind::Error,
            "tool.call" => FrameKind::ToolCall,
            "tool.result" => FrameKind::ToolResult,
            _ => return None,
        };
        Some(kind)
    }

    /// Whether an envelope of this type only leads up to the reply, as frames of a target that
    /// streams do for a caller who wants one reply.
    #[must_use]
    pub fn is_underway(&self) -> bool {
        // Asked of every reply, so nothing is looked up.
        matches!(
            self.as_str(),
            "agent.response.started" | "agent.response.delta"
        )
    }

    /// Whether an envelope of this type ends what it belongs to.
    ///
    /// A stream reader must not use this: a stream ends with `is_final` alone.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        let terminal = [
            Self::RESPONSE_FINAL,
            Self::RESPONSE_ERROR,
            Self::TOOL_RESULT,
            Self::TASK_COMPLETED,
        ];
        terminal.contains(self)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EventType({})", self.0)
    }
}

impl<T: Into<Text>> From<T> for EventType {
    fn from(text: T) -> Self {
        Self(text.into())
    }
}

/// The role of an envelope in a call, as the wire field `frame_type` spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FrameKind {
    /// `request`
    Request,
    /// `response.started`
    Started,
    /// `response.delta`
    Delta,
    /// `response.final`
    Final,
    /// `response.error`
    Error,
    /// `tool.call`
    ToolCall,
    /// `tool.result`
    ToolResult,
}

impl FrameKind {
    /// The wire text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Started => "response.started",
            Self::Delta => "response.delta",
            Self::Final => "response.final",
            Self::Error => "response.error",
            Self::ToolCall => "tool.call",
            Self::ToolResult => "tool.result",
        }
    }

    /// The wire text as an owned value that needs no allocation.
    #[must_use]
    pub const fn text(self) -> Text {
        Text::new_static(self.as_str())
    }
}
