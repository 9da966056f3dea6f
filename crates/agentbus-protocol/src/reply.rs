//! How a reply follows from its request.

use crate::{Envelope, ErrorPayload, EventType, FrameKind, Payload, Stamp, Text};

impl Envelope {
    /// Makes an empty reply of the given type: addressed back to the caller, correlated with the
    /// request, with its context and its inherited metadata, and never with a `reply_to`.
    #[must_use]
    #[inline]
    pub fn reply_shell(&self, stamp: Stamp, from: Text, event_type: EventType) -> Self {
        let kind = event_type.frame_kind();
        let mut reply = Self::BLANK;
        reply.become_reply(self, stamp, from);
        reply.frame_type = kind.map_or(Text::new_static(""), FrameKind::text);
        reply.event_type = event_type;
        reply
    }

    /// Makes the one reply of an invoked handler that returned a value.
    #[must_use]
    #[inline]
    pub fn final_reply(&self, stamp: Stamp, from: Text, payload: Option<Payload>) -> Self {
        let mut reply = Self::BLANK;
        reply.become_final_reply(self, stamp, from, payload);
        reply
    }

    /// Becomes the one reply to a request, in the place where it stands.
    #[inline]
    pub fn become_final_reply(
        &mut self,
        request: &Self,
        stamp: Stamp,
        from: Text,
        payload: Option<Payload>,
    ) {
        self.become_reply(request, stamp, from);
        self.event_type = EventType::RESPONSE_FINAL;
        self.frame_type = FrameKind::Final.text();
        self.is_final = true;
        self.payload = payload;
    }

    #[inline]
    fn become_reply(&mut self, request: &Self, stamp: Stamp, from: Text) {
        self.event_id = stamp.event_id;
        self.occurred_at = stamp.occurred_at;
        self.from = from;
        self.to = crate::copied(&request.from);
        self.correlation_id = request.event_id.clone();
        self.context = request.context.clone();
        self.metadata = request.metadata.inherited();
    }

    /// Makes the reply of a call that failed.
    #[must_use]
    pub fn error_reply(&self, stamp: Stamp, from: Text, error: &ErrorPayload) -> Self {
        let mut reply = self.reply_shell(stamp, from, EventType::RESPONSE_ERROR);
        reply.is_final = true;
        // Text, a flag and JSON that was read before always have a JSON form.
        reply.payload = Payload::json(error).ok();
        reply
    }

    /// Turns an envelope that a handler made itself into the reply to this request.
    ///
    /// Fields that the handler set stay; empty ones are filled. The frame type of a known event
    /// type is always the canonical one, and of equal metadata keys the handler's wins.
    #[must_use]
    pub fn adopt_reply(&self, mut reply: Self, from: &Text) -> Self {
        fill(&mut reply.from, from);
        fill(&mut reply.to, &self.from);
        if reply.correlation_id.is_absent() {
            reply.correlation_id = self.event_id.clone();
        }
        self.lend_context(&mut reply);
        if reply.event_type.is_terminal() {
            reply.is_final = true;
        }
        if let Some(kind) = reply.event_type.frame_kind() {
            reply.frame_type = kind.text();
        }
        reply.metadata = self
            .metadata
            .inherited()
            .merged_with(&reply.metadata.inherited());
        reply
    }

    /// Fills the context fields that an adopted reply takes over when they are empty. Span, user
    /// and channel are not among them: they describe the request's sender, not the replier.
    fn lend_context(&self, reply: &mut Self) {
        if self.context.is_empty() {
            return;
        }
        let ours = &*self.context;
        let theirs = reply.context.edit();
        fill(&mut theirs.session_id, &ours.session_id);
        fill(&mut theirs.conversation_id, &ours.conversation_id);
        fill(&mut theirs.tenant_id, &ours.tenant_id);
        fill(&mut theirs.trace_id, &ours.trace_id);
        fill(&mut theirs.traceparent, &ours.traceparent);
    }

    /// Fills the context fields that a nested request inherits from the request being handled:
    /// session, conversation and trace, but never the user, the channel or the tenant.
    pub fn inherit_call_context(&mut self, outer: &Self) {
        if outer.context.is_empty() {
            return;
        }
        if self.context.is_empty() && outer.context.is_call_context_only() {
            self.context = outer.context.clone();
            return;
        }
        let ours = &*outer.context;
        let nested = self.context.edit();
        fill(&mut nested.session_id, &ours.session_id);
        fill(&mut nested.conversation_id, &ours.conversation_id);
        fill(&mut nested.trace_id, &ours.trace_id);
        fill(&mut nested.span_id, &ours.span_id);
        fill(&mut nested.traceparent, &ours.traceparent);
    }
}

fn fill(field: &mut Text, value: &Text) {
    if field.is_empty() {
        field.clone_from(value);
    }
}
