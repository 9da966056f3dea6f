//! The consumer behind a subscription: how it is named, made and found again.

use std::sync::Arc;
use std::time::Duration;

use agentbus_protocol::Text;
use agentbus_transport::{Start, Subscribe, TransportError, limits as common};
use async_nats::jetstream::consumer::pull::Config;
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use futures_util::TryStreamExt;
use rand::RngExt;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::limits;

use super::names::{self, Described};
use super::store::Store;

/// What a subscription needs to know to open its consumer, again and again.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    pub(super) config: Config,
    pub(super) sharing: Sharing,
    pub(super) group: Option<Text>,
    /// The most messages in a member's hands.
    pub(super) prefetch: usize,
}

/// Who else takes messages from the consumer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    /// Nobody; it goes with its subscription.
    Alone,
    /// Members of a group, while there are any.
    Group,
    /// Whoever uses the durable name, for as long as it exists.
    Durable,
}

impl Plan {
    pub(super) async fn new(store: &Store, request: &Subscribe) -> Result<Self, TransportError> {
        let pattern = request.pattern.as_str();
        let (sharing, name) = match (&request.durable, &request.group) {
            (Some(durable), _) => {
                check_name(durable)?;
                (Sharing::Durable, names::durable(durable))
            }
            (None, Some(group)) => (Sharing::Group, names::group(group, pattern)),
            (None, None) => (Sharing::Alone, names::lone(rand::rng().random())),
        };
        let durable = sharing == Sharing::Durable;
        let lease = request.lease.unwrap_or(store.ack_wait);
        let config = Config {
            durable_name: durable.then(|| name.clone()),
            name: Some(name),
            description: Some(names::description(
                request.durable.as_deref(),
                request.group.as_deref(),
            )),
            filter_subject: pattern.to_owned(),
            deliver_policy: deliver_policy(store, request.start).await?,
            ack_policy: AckPolicy::Explicit,
            ack_wait: lease.clamp(limits::LEASE_MIN, common::LEASE_MAX),
            // Whoever gets a message that has used up its attempts writes its dead letter. The
            // server alone would only stop to hand it out.
            max_deliver: -1,
            max_ack_pending: limits::UNSETTLED_MAX,
            inactive_threshold: if durable {
                Duration::ZERO
            } else {
                limits::EPHEMERAL_LINGER
            },
            ..Config::default()
        };
        Ok(Self {
            config,
            sharing,
            group: request.group.clone(),
            prefetch: request.prefetch.clamp(1, limits::PREFETCH_MAX),
        })
    }

    pub(super) fn name(&self) -> &str {
        self.config.name.as_deref().unwrap_or_default()
    }

    /// Whether it is a durable name that nobody shares.
    pub(super) fn has_one_user(&self) -> bool {
        self.sharing == Sharing::Durable && self.group.is_none()
    }

    fn misuse(&self, reason: String) -> TransportError {
        TransportError::Durable {
            name: self.name().to_owned(),
            reason,
        }
    }
}

/// Refuses a durable name that is empty or too long.
pub(super) fn check_name(name: &str) -> Result<(), TransportError> {
    if name.is_empty() || name.len() > common::DURABLE_NAME_BYTES_MAX {
        return Err(TransportError::Durable {
            name: name.to_owned(),
            reason: format!(
                "has {} bytes; a name has 1 to {}",
                name.len(),
                common::DURABLE_NAME_BYTES_MAX
            ),
        });
    }
    Ok(())
}

async fn deliver_policy(store: &Store, start: Start) -> Result<DeliverPolicy, TransportError> {
    // A work queue hands out what nobody has done yet; it has no other beginning.
    if store.is_work_queue {
        return Ok(DeliverPolicy::All);
    }
    Ok(match start {
        Start::New => DeliverPolicy::New,
        Start::Beginning => DeliverPolicy::All,
        Start::Sequence(number) => {
            // The server would wait for a number that is not there yet.
            let info = store.stream.get_info().await;
            let last = info.map_err(|error| store.failed(error))?;
            DeliverPolicy::ByStartSequence {
                start_sequence: number.clamp(1, last.state.last_sequence + 1),
            }
        }
        Start::Time(time) => {
            let nanos = agentbus_protocol::Timestamp::from_system_time(time).unix_nanos();
            let start_time = async_nats::datetime::from_nanos(nanos);
            DeliverPolicy::ByStartTime {
                start_time: start_time.map_err(|error| store.failed(error))?,
            }
        }
    })
}

/// A member's place at its consumer, for as long as it is subscribed.
#[derive(Debug)]
pub(super) struct Place {
    store: Arc<Store>,
    name: String,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut members = self.store.members.lock();
        if let Some(count) = members.get_mut(&self.name) {
            *count -= 1;
            if *count == 0 {
                members.remove(&self.name);
            }
        }
    }
}

/// Takes a place at a consumer; a durable name without group has only one.
pub(super) fn claim(store: &Arc<Store>, plan: &Plan) -> Result<Place, TransportError> {
    let mut members = store.members.lock();
    let count = members.entry(plan.name().to_owned()).or_default();
    if plan.has_one_user() && *count > 0 {
        return Err(in_use(plan));
    }
    *count += 1;
    drop(members);
    Ok(Place {
        store: Arc::clone(store),
        name: plan.name().to_owned(),
    })
}

/// Takes all places at a consumer, if nobody on this connection has one.
pub(super) fn claim_whole(store: &Arc<Store>, name: &str) -> Option<Place> {
    let mut members = store.members.lock();
    if members.contains_key(name) {
        return None;
    }
    members.insert(name.to_owned(), 1);
    drop(members);
    Some(Place {
        store: Arc::clone(store),
        name: name.to_owned(),
    })
}

fn in_use(plan: &Plan) -> TransportError {
    plan.misuse(
        "is in use; stop the other user, or give all of them the same group to share its messages"
            .to_owned(),
    )
}

/// Refuses a durable name that somebody on another connection waits at.
pub(super) async fn wait_until_alone(store: &Store, plan: &Plan) -> Result<(), TransportError> {
    let until = Instant::now() + limits::OTHER_USER_LINGERS;
    loop {
        let info = store.stream.consumer_info(plan.name()).await;
        if info.map_err(|error| store.failed(error))?.num_waiting == 0 {
            return Ok(());
        }
        if Instant::now() >= until {
            return Err(in_use(plan));
        }
        sleep(limits::OTHER_USER_PAUSE).await;
    }
}

/// Opens the consumer of a plan, which is made if there is none of its name.
pub(super) async fn open(store: &Store, plan: &Plan) -> Result<(), TransportError> {
    let opened = store
        .stream
        .get_or_create_consumer(plan.name(), plan.config.clone());
    let consumer: PullConsumer = opened.await.map_err(|error| store.failed(error))?;
    let found = &consumer.cached_info().config;
    let listens = &found.filter_subject;
    if *listens != plan.config.filter_subject {
        return Err(plan.misuse(format!(
            "listens on `{listens}` already; use another name for another pattern"
        )));
    }
    // One that somebody else has made says nothing about groups.
    let said = found.description.as_deref().and_then(names::described);
    let said = said.filter(|_| plan.sharing == Sharing::Durable);
    let another = |said: &Described| said.group.as_deref() != plan.group.as_deref();
    if said.as_ref().is_some_and(another) {
        return Err(plan.misuse(
            "was first used with another group, or with none; keep to that, or use another name"
                .to_owned(),
        ));
    }
    // One of an earlier version does not say its name, which a list needs.
    let nameless = said.is_some_and(|said| said.name.is_none())
        && found.description != plan.config.description;
    if found.ack_wait == plan.config.ack_wait && !nameless {
        return Ok(());
    }
    // Where it began cannot be changed, and need not be.
    let mut config = plan.config.clone();
    config.deliver_policy = found.deliver_policy;
    let changed = store.stream.create_consumer(config).await;
    changed.map(drop).map_err(|error| store.failed(error))
}

/// Refuses a group whose members would get one message more than once: one consumer has one
/// pattern here.
pub(super) async fn check_group(
    store: &Store,
    group: &str,
    plan: &Plan,
) -> Result<(), TransportError> {
    let prefix = names::group_prefix(group);
    let mut consumers = store.stream.consumers();
    loop {
        let next = consumers.try_next().await;
        let Some(info) = next.map_err(|error| store.failed(error))? else {
            return Ok(());
        };
        let other = info.name.starts_with(&prefix) && info.name != plan.name();
        if other
            && agentbus_protocol::overlap(&info.config.filter_subject, &plan.config.filter_subject)
        {
            return Err(super::mixed_group());
        }
    }
}

/// Opens a consumer again that was lost, with patience: its server may be starting. A consumer
/// that is gone for good is made anew behind the last message that was seen.
pub(super) async fn reopen(store: &Store, mut plan: Plan, seen: u64, given_up: &CancellationToken) {
    if seen > 0 && !store.is_work_queue {
        plan.config.deliver_policy = DeliverPolicy::ByStartSequence {
            start_sequence: seen + 1,
        };
    }
    let mut delay = limits::REOPEN_DELAY_MIN;
    while let Err(error) = open(store, &plan).await {
        tracing::warn!(consumer = plan.name(), %error, "opening the consumer again");
        tokio::select! {
            () = given_up.cancelled() => return,
            () = sleep(delay) => {}
        }
        delay = (delay * 2).min(limits::RECONNECT_DELAY_MAX);
    }
}

/// Removes a consumer that nobody else uses.
pub(super) fn remove(store: &Arc<Store>, name: &str) {
    let (held, name) = (Arc::clone(store), name.to_owned());
    store.link.spawn(async move {
        // It goes by itself after a while, so a failure costs the server that while.
        let removed = held.stream.delete_consumer(&name);
        drop(timeout(limits::CONFIRM_TIMEOUT, removed).await);
    });
}
