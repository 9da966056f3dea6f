//! The conversational context that travels with every call.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use crate::Text;

/// The eight fields that a reply copies from its request.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ContextFields {
    /// Trace id, free text; 32 hexadecimal digits by convention.
    pub trace_id: Text,
    /// Span id, free text; 16 hexadecimal digits by convention.
    pub span_id: Text,
    /// W3C trace context, `traceparent` (Trace Context level 1, section 3.2).
    pub traceparent: Text,
    /// The session that calls of one conversation share; routing affinity for pools.
    pub session_id: Text,
    /// The conversation as the outside world knows it.
    pub conversation_id: Text,
    /// Where the request came from: `web`, `slack`, …
    pub channel: Text,
    /// The tenant; selects the tenant segment of the subject.
    pub tenant_id: Text,
    /// The person on whose behalf the call is made.
    pub user_id: Text,
}

static EMPTY: ContextFields = ContextFields {
    trace_id: Text::new_static(""),
    span_id: Text::new_static(""),
    traceparent: Text::new_static(""),
    session_id: Text::new_static(""),
    conversation_id: Text::new_static(""),
    channel: Text::new_static(""),
    tenant_id: Text::new_static(""),
    user_id: Text::new_static(""),
};

/// A [`ContextFields`] behind a reference count.
///
/// Replies and stream frames carry the context of their request, so it is shared rather than
/// copied; the empty context, the common case between programs, costs nothing at all.
#[derive(Clone, Default)]
pub struct Context(Option<Arc<ContextFields>>);

impl Context {
    /// The context in which nothing is set.
    pub const EMPTY: Self = Self(None);

    /// Whether every field is empty.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|fields| **fields == EMPTY)
    }

    /// Whether no field is set that belongs to one caller alone: tenant, user or channel.
    pub(crate) fn is_call_context_only(&self) -> bool {
        self.tenant_id.is_empty() && self.user_id.is_empty() && self.channel.is_empty()
    }

    /// Gives write access; copies the fields first when another envelope shares them.
    pub fn edit(&mut self) -> &mut ContextFields {
        Arc::make_mut(self.0.get_or_insert_default())
    }
}

impl Deref for Context {
    type Target = ContextFields;

    fn deref(&self) -> &ContextFields {
        self.0.as_deref().unwrap_or(&EMPTY)
    }
}

impl From<ContextFields> for Context {
    fn from(fields: ContextFields) -> Self {
        if fields == EMPTY {
            Self(None)
        } else {
            Self(Some(Arc::new(fields)))
        }
    }
}

impl PartialEq for Context {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Context {}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        (**self).fmt(f)
    }
}
