//! The stream: how it is found or made, and what it keeps.

use std::collections::HashMap;
use std::sync::Arc;

use agentbus_transport::{Durability, TransportError};
use async_nats::jetstream::context::{CreateStreamError, GetStreamError, GetStreamErrorKind};
use async_nats::jetstream::stream::{Config, RetentionPolicy, StorageType, Stream};
use async_nats::jetstream::{Context, ErrorCode, context::ContextBuilder};
use parking_lot::Mutex;
use tokio::sync::Semaphore;

use crate::address::{Address, Retention, Scheme, StreamSettings, invalid};
use crate::limits;
use crate::link::Link;

use super::leaving::Leaving;
use super::names;

/// The stream of one transport.
pub(super) struct Store {
    pub(super) link: Arc<Link>,
    pub(super) stream: Stream,
    /// The consumers that this connection takes messages from, with the number of members.
    pub(super) members: Mutex<HashMap<String, usize>>,
    pub(super) leaving: Leaving,
    name: String,
    subjects: Vec<String>,
    /// Whether the stream forgets what one consumer has acknowledged.
    pub(super) is_work_queue: bool,
    pub(super) ack_wait: std::time::Duration,
    durability: Durability,
    /// Places for publishes that wait for their confirmation.
    pub(super) in_flight: Semaphore,
}

impl Store {
    /// Opens the stream of the address, which is made if there is none.
    pub(super) async fn open(
        link: &Arc<Link>,
        address: &Address,
    ) -> Result<Arc<Self>, TransportError> {
        if !link.client().server_info().jetstream {
            return Err(is_off(address));
        }
        let context = ContextBuilder::new()
            .timeout(limits::API_TIMEOUT)
            .build(link.client().clone());
        let settings = &address.stream;
        let stream = find_or_make(&context, address).await?;
        let config = stream.cached_info().config.clone();
        let in_memory = config.storage == StorageType::Memory;
        if config.subjects != settings.subjects {
            let (stream, keeps) = (&settings.name, config.subjects.join(", "));
            tracing::info!(%stream, %keeps, "the stream was there already and keeps what it kept");
        }
        Ok(Arc::new(Self {
            link: Arc::clone(link),
            stream,
            members: Mutex::default(),
            leaving: Leaving::default(),
            name: config.name,
            subjects: config.subjects,
            is_work_queue: config.retention == RetentionPolicy::WorkQueue,
            ack_wait: settings.ack_wait,
            durability: super::durability(settings, in_memory, config.num_replicas),
            in_flight: Semaphore::new(limits::UNCONFIRMED_PUBLISHES),
        }))
    }

    pub(super) const fn durability(&self) -> Durability {
        self.durability
    }

    /// Whether the stream keeps all that a pattern matches.
    pub(super) fn keeps(&self, pattern: &str) -> bool {
        self.subjects
            .iter()
            .any(|kept| names::covers(kept, pattern))
    }

    /// Where a consumer is asked for messages.
    pub(super) fn next_message(&self, consumer: &str) -> String {
        format!("$JS.API.CONSUMER.MSG.NEXT.{}.{consumer}", self.name)
    }

    /// The error for what is to be kept, or read from the past, and is not kept.
    pub(super) fn does_not_keep(&self, pattern: &str) -> TransportError {
        let (name, keeps) = (&self.name, self.subjects.join(", "));
        TransportError::Address(format!(
            "the stream {name} keeps {keeps} and not `{pattern}`; open jetstream:// with ?stream=NAME&subjects=… that name it, for example subjects=acp.v1.TENANT.events.>"
        ))
    }

    /// The error for a stream that takes nothing new.
    pub(super) fn full(&self, reason: String) -> TransportError {
        TransportError::StreamFull {
            stream: self.name.clone(),
            reason,
        }
    }

    /// The error for something that the stream API refused.
    pub(super) fn failed(&self, reason: impl std::fmt::Display) -> TransportError {
        self.link.failed(format!("stream {}: {reason}", self.name))
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store")
            .field("name", &self.name)
            .field("subjects", &self.subjects)
            .finish_non_exhaustive()
    }
}

async fn find_or_make(context: &Context, address: &Address) -> Result<Stream, TransportError> {
    let settings = &address.stream;
    match context.get_stream(&settings.name).await {
        Ok(stream) => Ok(stream),
        Err(error) if is_missing(&error) => {
            let made = context.create_stream(config(settings)).await;
            made.map_err(|error| not_made(address, &error))
        }
        Err(error) => Err(not_found(address, &error)),
    }
}

fn is_missing(error: &GetStreamError) -> bool {
    match error.kind() {
        GetStreamErrorKind::JetStream(reason) => reason.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    }
}

fn config(settings: &StreamSettings) -> Config {
    Config {
        name: settings.name.clone(),
        description: Some("Events of AgentBus".to_owned()),
        subjects: settings.subjects.clone(),
        retention: match settings.retention {
            Retention::Limits => RetentionPolicy::Limits,
            Retention::Interest => RetentionPolicy::Interest,
            Retention::WorkQueue => RetentionPolicy::WorkQueue,
        },
        storage: if settings.in_memory {
            StorageType::Memory
        } else {
            StorageType::File
        },
        num_replicas: settings.replicas,
        max_age: settings.max_age,
        max_bytes: settings.max_bytes.unwrap_or(-1),
        max_messages: settings.max_messages.unwrap_or(-1),
        duplicate_window: limits::DUPLICATE_WINDOW.min(settings.max_age),
        ..Config::default()
    }
}

/// Words the failure to look a stream up; often the account may not use JetStream.
fn not_found(address: &Address, error: &GetStreamError) -> TransportError {
    match error.kind() {
        GetStreamErrorKind::JetStream(reason)
            if [
                ErrorCode::JETSTREAM_NOT_ENABLED,
                ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT,
            ]
            .contains(&reason.error_code()) =>
        {
            is_off(address)
        }
        _ => failed(address, format!("{}: {error}", address.shown())),
    }
}

fn is_off(address: &Address) -> TransportError {
    let shown = address.shown();
    let reason = format!(
        "{shown} has no JetStream for this account; start the server with `nats-server -js`, or use nats://"
    );
    invalid(Scheme::JetStream, reason)
}

fn not_made(address: &Address, error: &CreateStreamError) -> TransportError {
    let name = &address.stream.name;
    failed(
        address,
        format!("the stream {name} could not be made: {error}; ?stream=NAME uses another"),
    )
}

fn failed(address: &Address, reason: String) -> TransportError {
    TransportError::Carrier {
        transport: address.scheme.name(),
        reason,
    }
}
