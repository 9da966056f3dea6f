//! Spans that are kept to be looked at.

use std::time::Duration;

use parking_lot::Mutex;

use super::within;
use crate::telemetry::{Span, SpanSink};

/// How long to wait before the spans are looked at once more.
const LOOK: Duration = Duration::from_millis(5);

/// Keeps every span that it is told.
#[derive(Debug, Default)]
pub struct Collected(Mutex<Vec<Span>>);

impl SpanSink for Collected {
    fn ended(&self, span: Span) {
        self.0.lock().push(span);
    }
}

impl Collected {
    /// Whether nothing has been told.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.lock().is_empty()
    }

    /// The first span of this name, which must be there.
    #[must_use]
    pub fn named(&self, name: &str) -> Span {
        let found = self.find(name);
        found.unwrap_or_else(|| panic!("no span {name} among {:?}", self.names()))
    }

    /// The first span of this name, which may end a moment later than what it was about.
    pub async fn soon(&self, name: &str) -> Span {
        let look = async {
            loop {
                if let Some(span) = self.find(name) {
                    return span;
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        within(name, look).await
    }

    fn find(&self, name: &str) -> Option<Span> {
        let spans = self.0.lock();
        spans.iter().find(|span| span.name == name).cloned()
    }

    fn names(&self) -> Vec<String> {
        self.0.lock().iter().map(|span| span.name.clone()).collect()
    }
}

/// One span was caused by the other.
pub fn check_child(child: &Span, parent: &Span) {
    assert_eq!(child.context.raw_trace_id(), parent.context.raw_trace_id());
    assert_eq!(child.parent, Some(parent.context), "{}", child.name);
}
