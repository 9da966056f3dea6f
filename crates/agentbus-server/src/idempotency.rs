//! Repeated requests with the same `Idempotency-Key` get the outcome of the first.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, Hash, Hasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use agentbus::{Context, ErrorCode, ErrorPayload};
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::error::Failure;
use crate::limits;

/// The part of an answer that is kept: status, body, and the headers that say what the body is.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Outcomes by key, the oldest forgotten first.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    kept: Mutex<Kept>,
    hasher: RandomState,
}

#[derive(Debug, Default)]
struct Kept {
    by_key: HashMap<String, Entry>,
    order: VecDeque<(String, Instant)>,
    /// What all outcomes together occupy.
    bytes: usize,
}

#[derive(Debug, Clone)]
struct Entry {
    /// Hash of the request, to tell a repetition from another request under the same key.
    request: u64,
    outcome: Arc<OnceCell<Stored>>,
    /// What the outcome occupies, 0 until there is one.
    bytes: usize,
}

/// What was asked under a key; another request under the same key is a mistake.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked<'a> {
    pub(crate) route: &'a str,
    pub(crate) body: &'a [u8],
    pub(crate) context: &'a Context,
}

impl Hash for Asked<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // The trace is new with every attempt; the rest says for whom the request is.
        let context = self.context;
        (self.route, self.body).hash(state);
        (&context.tenant_id, &context.user_id, &context.channel).hash(state);
        (&context.session_id, &context.conversation_id).hash(state);
    }
}

impl Outcomes {
    /// Runs a request once per key. A repetition that comes while the first still runs waits for
    /// it; when the first was cut off, a repetition runs in its place.
    pub(crate) async fn once(
        &self,
        key: &str,
        asked: Asked<'_>,
        run: impl Future<Output = Stored>,
    ) -> Result<Stored, Failure> {
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Failure::invalid(
                "an Idempotency-Key has 1 to 255 characters",
            ));
        }
        let request = self.hasher.hash_one(asked);
        // A tenant neither sees nor blocks the keys of another.
        let key = format!("{}\0{key}", asked.context.tenant_id);
        let entry = self.entry(&key, request);
        if entry.request != request {
            let message = "this Idempotency-Key was used for another request; choose a new one";
            return Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                ErrorPayload::new(ErrorCode::InvalidRequest, message),
            ));
        }
        let outcome = entry.outcome.get_or_init(|| run).await.clone();
        self.forget_unless_kept(&key, &entry, &outcome);
        Ok(outcome)
    }

    /// Counts what a finished request occupies, or forgets it when it may succeed the next time.
    fn forget_unless_kept(&self, key: &str, entry: &Entry, outcome: &Stored) {
        let mut kept = self.kept.lock();
        let present = kept.by_key.get_mut(key);
        let Some(present) = present.filter(|present| Arc::ptr_eq(&present.outcome, &entry.outcome))
        else {
            return;
        };
        if may_succeed_later(outcome.status) {
            kept.remove(key);
            // Its place too, or whoever tries again and again would push out what others keep.
            if let Some(place) = kept.order.iter().rposition(|(placed, _)| placed == key) {
                kept.order.remove(place);
            }
        } else if present.bytes == 0 {
            present.bytes = outcome.bytes();
            kept.bytes += outcome.bytes();
        }
        kept.forget_old();
    }

    fn entry(&self, key: &str, request: u64) -> Entry {
        let mut kept = self.kept.lock();
        kept.forget_old();
        if let Some(entry) = kept.by_key.get(key) {
            return entry.clone();
        }
        let entry = Entry {
            request,
            outcome: Arc::default(),
            bytes: 0,
        };
        kept.by_key.insert(key.to_owned(), entry.clone());
        kept.order.push_back((key.to_owned(), Instant::now()));
        entry
    }
}

impl Kept {
    fn forget_old(&mut self) {
        while let Some((key, since)) = self.order.front() {
            let full = self.order.len() > limits::IDEMPOTENCY_KEYS_MAX
                || self.bytes > limits::IDEMPOTENCY_BYTES_MAX;
            if !full && since.elapsed() < limits::IDEMPOTENCY_TTL {
                return;
            }
            let key = key.clone();
            self.order.pop_front();
            self.remove(&key);
        }
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.by_key.remove(key) {
            self.bytes = self.bytes.saturating_sub(entry.bytes);
        }
    }
}

/// Whether the same request can end otherwise the next time: nobody serves the target yet, there was
/// no time or no room, or something failed that is no fault of the request.
fn may_succeed_later(status: StatusCode) -> bool {
    status.is_server_error()
        || matches!(
            status,
            StatusCode::NOT_FOUND | StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS
        )
}

impl Stored {
    /// Keeps a failure as it would have been answered.
    pub(crate) fn failed(failure: Failure) -> Self {
        let (status, body) = failure.into_parts();
        Self::json(status, body)
    }

    /// JSON, or nothing.
    pub(crate) fn json(status: StatusCode, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let mut headers = HeaderMap::new();
        if !body.is_empty() {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        Self {
            status,
            headers,
            body,
        }
    }

    /// About what it occupies; never 0, which stands for an outcome that is not there yet.
    fn bytes(&self) -> usize {
        let headers = self.headers.iter();
        let headers = headers.map(|(name, value)| name.as_str().len() + value.len());
        (headers.sum::<usize>() + self.body.len()).max(1)
    }
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        *response.headers_mut() = self.headers;
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(outcomes: &Outcomes, status: StatusCode) -> StatusCode {
        let asked = Asked {
            route: "r",
            body: b"1",
            context: &Context::default(),
        };
        let stored = Stored::json(status, Bytes::new());
        let outcome = outcomes.once("k", asked, std::future::ready(stored)).await;
        outcome.unwrap_or_else(|_| unreachable!()).status
    }

    #[tokio::test]
    async fn attempts_that_fail_take_no_places() {
        let outcomes = Outcomes::default();
        let failed = StatusCode::TOO_MANY_REQUESTS;
        for _ in 0..3 {
            assert_eq!(ask(&outcomes, failed).await, failed);
        }
        let places = || {
            let kept = outcomes.kept.lock();
            (kept.by_key.len(), kept.order.len())
        };
        assert_eq!(places(), (0, 0));
        assert_eq!(ask(&outcomes, StatusCode::OK).await, StatusCode::OK);
        assert_eq!(ask(&outcomes, failed).await, StatusCode::OK, "it is kept");
        assert_eq!(places(), (1, 1));
    }
}
