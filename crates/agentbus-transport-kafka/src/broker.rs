//! The brokers: topics, clients of the library, and what its errors mean.

use std::time::Duration;

use agentbus_transport::TransportError;
use agentbus_transport::clock::millis;
use rdkafka::admin::{AdminClient, AdminOptions, GroupResult, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::{ClientConfig, RDKafkaLogLevel};
use rdkafka::consumer::{Consumer, ConsumerContext};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::FutureProducer;
use tokio::time::{Instant, sleep};

use crate::address::Address;
use crate::limits;
use crate::reader::Reader;

/// The transport's name.
pub(crate) const NAME: &str = "kafka";

pub(crate) type Producer = FutureProducer<Quiet>;

/// Lets the library speak to our log. It says what it does by itself to recover, which concerns
/// nobody unless it fails.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quiet;

impl ClientContext for Quiet {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, text: &str) {
        if (level as i32) <= (RDKafkaLogLevel::Critical as i32) {
            tracing::warn!(facility, "{text}");
        } else {
            tracing::debug!(facility, "{text}");
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the Kafka client recovers");
    }
}

impl ConsumerContext for Quiet {}

/// The names of a bus's topics.
#[derive(Debug, Clone)]
pub(crate) struct Topics {
    pub(crate) events: String,
    pub(crate) calls: String,
    pub(crate) replies: String,
    pub(crate) members: String,
    pub(crate) work: String,
}

impl Topics {
    pub(crate) fn new(namespace: &str) -> Self {
        let name = |kind| format!("{namespace}.{kind}");
        Self {
            events: name("events"),
            calls: name("calls"),
            replies: name("replies"),
            members: name("members"),
            work: name("work"),
        }
    }

    /// Makes those that are missing. One that is there keeps the settings that its operator gave.
    pub(crate) async fn create(&self, address: &Address) -> Result<(), TransportError> {
        let admin: AdminClient<Quiet> = config(address)
            .create_with_context(Quiet)
            .map_err(|error| failed(&error))?;
        let retention = millis(limits::CALLS_RETENTION).to_string();
        let largest = limits::RECORD_BYTES_MAX.to_string();
        let replicas = address.replicas.unwrap_or(-1);
        let topic = |name, partitions| {
            NewTopic::new(name, partitions, TopicReplication::Fixed(replicas))
                .set("max.message.bytes", &largest)
                // Leases and replays count by the clock of the broker, which all clients share.
                .set("message.timestamp.type", "LogAppendTime")
        };
        let brief = |name, partitions| {
            topic(name, partitions)
                .set("retention.ms", &retention)
                .set("segment.ms", &retention)
        };
        let amb = address
            .amb
            .iter()
            .map(|subject| NewTopic::new(subject.as_str(), 1, TopicReplication::Fixed(replicas)));
        let mut wanted = vec![
            topic(&self.events, 1),
            topic(&self.work, limits::WORK_PARTITIONS),
            topic(&self.members, 1)
                .set("cleanup.policy", "compact")
                .set("segment.ms", &retention),
            brief(&self.calls, 1),
            brief(&self.replies, limits::REPLY_PARTITIONS),
        ];
        wanted.extend(amb);
        let options = AdminOptions::new().operation_timeout(Some(limits::RESPONSE_TIMEOUT));
        let made = admin.create_topics(&wanted, &options).await;
        for outcome in made.map_err(|error| failed(&error))? {
            match outcome {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(carrier(&format!(
                        "the topic `{topic}` could not be made: {code}"
                    )));
                }
            }
        }
        Ok(())
    }
}

/// What every client of the library is told.
fn config(address: &Address) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &address.servers)
        .set("client.id", "agentbus")
        .set("socket.nagle.disable", "true")
        .set("reconnect.backoff.ms", "20")
        .set(
            "reconnect.backoff.max.ms",
            millis(limits::RECONNECT_DELAY_MAX).to_string(),
        )
        .set("allow.auto.create.topics", "false")
        .set("log.connection.close", "false");
    config
}

/// A producer that writes each message once, in order, on every replica that is in step.
pub(crate) fn producer(address: &Address) -> Result<Producer, TransportError> {
    config(address)
        .set("enable.idempotence", "true")
        .set("acks", "all")
        // What waits for an earlier request to come back is a batch already; waiting longer would
        // only add to the latency of calls.
        .set("linger.ms", "0")
        .set(
            "message.timeout.ms",
            millis(limits::PUBLISH_TIMEOUT).to_string(),
        )
        .set("message.max.bytes", limits::RECORD_BYTES_MAX.to_string())
        .set("queue.buffering.max.messages", limits::OUTGOING.to_string())
        .set(
            "queue.buffering.max.kbytes",
            (limits::OUTGOING_BYTES >> 10).to_string(),
        )
        .create_with_context(Quiet)
        .map_err(|error| failed(&error))
}

/// A reader that is told what to read and commits only when asked.
pub(crate) fn reader(address: &Address, group: &str) -> Result<Reader, TransportError> {
    config(address)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .set("enable.auto.offset.store", "false")
        // What was deleted before it was read is passed over, not waited for.
        .set("auto.offset.reset", "earliest")
        .set("fetch.wait.max.ms", millis(limits::FETCH_WAIT).to_string())
        .set("fetch.error.backoff.ms", "20")
        .set("fetch.queue.backoff.ms", "10")
        .set(
            "queued.max.messages.kbytes",
            (limits::INCOMING_BYTES >> 10).to_string(),
        )
        .create_with_context(Quiet)
        .map(Reader::new)
        .map_err(|error| failed(&error))
}

/// The consumer group of a durable name.
pub(crate) fn group_of(address: &Address, name: &str) -> String {
    format!("{}.{name}", address.namespace)
}

/// Deletes a consumer group with its offsets. Returns whether it is gone, which one that was not
/// there is; one with members by Kafka's own protocol stays, and ours are none of those.
pub(crate) async fn delete_group(address: &Address, group: &str) -> Result<bool, TransportError> {
    let admin: AdminClient<Quiet> = config(address)
        .create_with_context(Quiet)
        .map_err(|error| failed(&error))?;
    let options = AdminOptions::new().request_timeout(Some(limits::RESPONSE_TIMEOUT));
    let deadline = Instant::now() + limits::READY_TIMEOUT;
    let outcome = loop {
        let answer = admin.delete_groups(&[group], &options).await;
        match is_deleted(answer).map_err(|error| failed(&error)) {
            Err(TransportError::Carrier { .. }) if Instant::now() < deadline => {
                sleep(limits::RETRY_PAUSE).await;
            }
            outcome => break outcome,
        }
    };
    // Its end waits for a thread of the library.
    let _ = tokio::task::spawn_blocking(move || drop(admin)).await;
    outcome
}

fn is_deleted(answer: KafkaResult<Vec<GroupResult>>) -> KafkaResult<bool> {
    match answer?.into_iter().next() {
        Some(Ok(_) | Err((_, RDKafkaErrorCode::GroupIdNotFound))) => Ok(true),
        Some(Err((_, RDKafkaErrorCode::NonEmptyGroup))) => Ok(false),
        Some(Err((_, code))) => Err(KafkaError::AdminOp(code)),
        None => Err(KafkaError::Canceled),
    }
}

/// Asks whether anybody answers at the address. About one topic, because brokers may have thousands.
pub(crate) async fn meet(address: &Address, reader: Reader) -> Result<Reader, TransportError> {
    let topic = Topics::new(&address.namespace).events;
    let (reader, met) = blocking(reader, move |reader: &Reader| {
        reader
            .fetch_metadata(Some(&topic), limits::CONNECT_TIMEOUT)
            .map(drop)
    })
    .await?;
    met.map(|()| reader).map_err(|error| {
        let place = &address.servers;
        carrier(&format!(
            "cannot reach {place}: {error}; is a Kafka broker running there?"
        ))
    })
}

/// The numbers of the oldest message of a partition and of the one after the newest.
pub(crate) async fn ends(
    reader: Reader,
    topic: &str,
    partition: i32,
) -> Result<(Reader, (i64, i64)), TransportError> {
    let topic = topic.to_owned();
    patiently(reader, move |reader: &Reader, left| {
        reader.fetch_watermarks(&topic, partition, left)
    })
    .await
}

/// How many partitions a topic has.
pub(crate) fn partitions(reader: &Reader, topic: &str, patience: Duration) -> KafkaResult<i32> {
    let metadata = reader.fetch_metadata(Some(topic), patience)?;
    let found = metadata
        .topics()
        .iter()
        .map(|topic| topic.partitions().len());
    let found = found.max().and_then(|count| i32::try_from(count).ok());
    let unknown = KafkaError::MetadataFetch(RDKafkaErrorCode::UnknownTopicOrPartition);
    found.filter(|count| *count > 0).ok_or(unknown)
}

/// Asks until the answer comes; a broker that restarts, or does not know a new topic yet, is asked
/// again.
pub(crate) async fn patiently<C: Send + 'static, T: Send + 'static>(
    mut client: C,
    question: impl Fn(&C, Duration) -> KafkaResult<T> + Clone + Send + 'static,
) -> Result<(C, T), TransportError> {
    let deadline = Instant::now() + limits::READY_TIMEOUT;
    loop {
        let ask = question.clone();
        let (back, answer) =
            blocking(client, move |client| ask(client, limits::RESPONSE_TIMEOUT)).await?;
        client = back;
        match answer {
            Ok(answer) => return Ok((client, answer)),
            Err(error) if Instant::now() >= deadline => return Err(failed(&error)),
            Err(_) => sleep(limits::RETRY_PAUSE).await,
        }
    }
}

/// Runs a call of the library that waits for the network where it holds up nobody.
async fn blocking<C: Send + 'static, T: Send + 'static>(
    client: C,
    call: impl FnOnce(&C) -> T + Send + 'static,
) -> Result<(C, T), TransportError> {
    let run = tokio::task::spawn_blocking(move || {
        let answer = call(&client);
        (client, answer)
    });
    run.await
        .map_err(|_| carrier("the Kafka client ended in the middle of a call"))
}

pub(crate) fn carrier(reason: &str) -> TransportError {
    TransportError::Carrier {
        transport: NAME,
        reason: reason.to_owned(),
    }
}

pub(crate) fn failed(error: &KafkaError) -> TransportError {
    let code = match error {
        KafkaError::AdminOp(code) => Some(*code),
        _ => error.rdkafka_error_code(),
    };
    match code {
        Some(
            code @ (RDKafkaErrorCode::TopicAuthorizationFailed
            | RDKafkaErrorCode::GroupAuthorizationFailed
            | RDKafkaErrorCode::ClusterAuthorizationFailed
            | RDKafkaErrorCode::SaslAuthenticationFailed),
        ) => TransportError::Refused {
            transport: NAME,
            reason: code.to_string(),
        },
        _ => carrier(&error.to_string()),
    }
}

/// A publish whose outcome nobody knows.
pub(crate) fn doubtful(error: &KafkaError) -> TransportError {
    match failed(error) {
        TransportError::Carrier { reason, .. } => carrier(&format!(
            "{reason}; the message may or may not have been taken"
        )),
        other => other,
    }
}
