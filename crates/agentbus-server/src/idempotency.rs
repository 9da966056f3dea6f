//! Repeated requests with the same `Idempotency-Key` get the outcome of the first.

use std::collections::{HashMap, VecDeque};
use std::future::Future;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Instant;

use agentbus::{ErrorCode, ErrorPayload};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::error::Failure;
use crate::limits;

/// The part of an answer that is kept: status and body. All of them are JSON or empty.
#[derive(Debug, Clone)]
pub(crate) struct Stored {
    pub(crate) status: StatusCode,
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
}

#[derive(Debug, Clone)]
struct Entry {
    /// Hash of the request, to tell a repetition from another request under the same key.
    request: u64,
    outcome: Arc<OnceCell<Stored>>,
}

impl Outcomes {
    /// Runs a request once per key. A repetition that comes while the first still runs waits for
    /// it; when the first was cut off, a repetition runs in its place.
    pub(crate) async fn once(
        &self,
        key: &str,
        route: &str,
        body: &[u8],
        run: impl Future<Output = Stored>,
    ) -> Result<Stored, Failure> {
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES_MAX {
            return Err(Failure::invalid(
                "an Idempotency-Key has 1 to 255 characters",
            ));
        }
        let request = self.hasher.hash_one((route, body));
        let entry = self.entry(key, request);
        if entry.request != request {
            let message = "this Idempotency-Key was used for another request; choose a new one";
            return Err(Failure::new(
                StatusCode::UNPROCESSABLE_ENTITY,
                ErrorPayload::new(ErrorCode::InvalidRequest, message),
            ));
        }
        Ok(entry.outcome.get_or_init(|| run).await.clone())
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
        };
        kept.by_key.insert(key.to_owned(), entry.clone());
        kept.order.push_back((key.to_owned(), Instant::now()));
        entry
    }
}

impl Kept {
    fn forget_old(&mut self) {
        while let Some((key, since)) = self.order.front() {
            let full = self.order.len() > limits::IDEMPOTENCY_KEYS_MAX;
            if !full && since.elapsed() < limits::IDEMPOTENCY_TTL {
                return;
            }
            self.by_key.remove(key);
            self.order.pop_front();
        }
    }
}

impl Stored {
    /// Keeps a failure as it would have been answered.
    pub(crate) fn failed(failure: Failure) -> Self {
        let (status, body) = failure.into_parts();
        Self {
            status,
            body: body.into(),
        }
    }
}

impl IntoResponse for Stored {
    fn into_response(self) -> Response {
        if self.body.is_empty() {
            return self.status.into_response();
        }
        let json = [(header::CONTENT_TYPE, "application/json")];
        (self.status, json, self.body).into_response()
    }
}
