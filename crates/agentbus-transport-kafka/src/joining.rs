//! Joining a durable name, or beginning a replay.
//!
//! A durable name is a consumer group of Kafka's whose members assign themselves: its committed
//! offsets say up to where all is settled, and any tool that shows how far a group is behind shows
//! it. Its pattern and group stand in the table, where the first to use the name decides.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::clock::millis;
use agentbus_transport::remote::Drain;
use agentbus_transport::{Start, Subscribe, TransportError};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::time::{Instant, sleep};

use crate::broker::{self, failed};
use crate::keeper::{Keeper, Work};
use crate::limits;
use crate::link::Link;
use crate::member::{Member, MemberSource, Plan, misuse};
use crate::reader::Reader;
use crate::table::{self, Durable, Key, client_of};
use crate::verdicts::partition_of;

/// Takes part; when this returns, every later event reaches it.
pub(crate) async fn join(
    link: &Arc<Link>,
    request: Subscribe,
) -> Result<MemberSource, TransportError> {
    let place = link.take_durable()?;
    let (plan, number) = (Plan::of(&request), link.number());
    let (reader, next, work) = match &plan.name {
        Some(name) => enter(link, name, &plan, request.start).await?,
        None => begin(link, &plan, request.start).await?,
    };
    let member = Member::new(link, number, plan, next);
    let seen: std::sync::Weak<dyn Drain> = Arc::downgrade(&member) as _;
    link.enter(number, seen)?;
    link.enter_member(&member);
    let ready = async {
        announce(&member).await?;
        if let (Some(name), None) = (&member.plan.name, &member.plan.group) {
            contest(link, name, &member.id).await?;
        }
        assign(&reader, link, next, work.as_ref())
    };
    if let Err(error) = ready.await {
        link.leave(number);
        link.retract(&member.id);
        return Err(error);
    }
    let keeper = Keeper::new(Arc::clone(&member), reader, work, place);
    link.spawn_lasting(keeper.run());
    Ok(MemberSource(member))
}

/// Writes the record of a member.
pub(crate) async fn announce(member: &Member) -> Result<(), TransportError> {
    let plan = &member.plan;
    let record = table::Member {
        pattern: plan.pattern.as_str().to_owned(),
        group: plan.group.clone(),
        durable: Some(plan.name.clone().unwrap_or_default()),
    };
    member.link.announce(Key::Member(&member.id), &record).await
}

type Begun = (Reader, i64, Option<Work>);

/// Begins a replay.
async fn begin(link: &Arc<Link>, plan: &Plan, start: Start) -> Result<Begun, TransportError> {
    if let Some(group) = &plan.group {
        let reason = "is a group without a durable name, and on Kafka only a durable name has a queue that waits; give the subscription a durable name";
        return Err(misuse(group, reason.to_owned()));
    }
    let reader = broker::reader(&link.address, &link.inbox.client)?;
    let (reader, next) = resolve(link, reader, start).await?;
    Ok((reader, next, None))
}

/// Finds a durable name, or makes it. Returns where it goes on.
async fn enter(
    link: &Arc<Link>,
    name: &str,
    plan: &Plan,
    start: Start,
) -> Result<Begun, TransportError> {
    link.leaving.wait(name, limits::READY_TIMEOUT).await;
    let wanted = Durable {
        pattern: plan.pattern.as_str().to_owned(),
        group: plan.group.clone(),
    };
    let is_known = check(link, name, &wanted)?;
    let group = format!("{}.{name}", link.address.namespace);
    let mut reader = broker::reader(&link.address, &group)?;
    let partition = partition_of(name);
    if !is_known {
        let (back, from) = resolve(link, reader, start).await?;
        let (back, (_, end)) = broker::ends(back, &link.topics.work, partition).await?;
        reader = commit(link, back, from, (partition, end)).await?;
        link.announce(Key::Durable(name), &wanted).await?;
        check(link, name, &wanted)?;
    }
    let (reader, (from, since)) = committed(link, reader, partition).await?;
    let (reader, (_, known_until)) = broker::ends(reader, &link.topics.work, partition).await?;
    let work = Work {
        partition,
        next: since,
        known_until,
    };
    Ok((reader, from, Some(work)))
}

/// Whether a name is known; fails when it is known as something else.
fn check(link: &Link, name: &str, wanted: &Durable) -> Result<bool, TransportError> {
    let Some(known) = link.table.durable(name) else {
        return Ok(false);
    };
    let described = |what: &Durable| match &what.group {
        Some(group) => format!("{} in the group `{group}`", what.pattern),
        None => format!("{} without a group", what.pattern),
    };
    if known == *wanted {
        return Ok(true);
    }
    let reason = format!(
        "is for {}, not for {}; use another name",
        described(&known),
        described(wanted)
    );
    Err(misuse(name, reason))
}

/// Claims the one place of a name without a group. Whoever was there first keeps it, unless that
/// client has ended without a word.
async fn contest(link: &Link, name: &str, id: &str) -> Result<(), TransportError> {
    let first = || link.table.members_of(name).into_iter().next();
    let Some(holder) = first().filter(|first| **first != *id) else {
        return Ok(());
    };
    let client = client_of(&holder);
    let heard = link.table.last_heard(client);
    let deadline = Instant::now() + limits::CLIENT_LIFE * 2;
    while client != link.inbox.client && link.table.last_heard(client) == heard {
        if first().is_none_or(|first| *first == *id) {
            return Ok(());
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(limits::RETRY_PAUSE).await;
    }
    if first().is_none_or(|first| *first == *id) {
        return Ok(());
    }
    let reason = "is in use; give it a group to share it, or use another name";
    Err(misuse(name, reason.to_owned()))
}

/// Which event a start means.
async fn resolve(
    link: &Link,
    reader: Reader,
    start: Start,
) -> Result<(Reader, i64), TransportError> {
    let events = link.topics.events.clone();
    let (reader, (low, high)) = broker::ends(reader, &events, 0).await?;
    let next = match start {
        Start::New => high,
        Start::Beginning => low,
        Start::Sequence(number) => i64::try_from(number).unwrap_or(high).clamp(low, high),
        Start::Time(time) => {
            let since = time
                .duration_since(std::time::UNIX_EPOCH)
                .unwrap_or_default();
            let since = i64::try_from(millis(since)).unwrap_or(i64::MAX);
            let (reader, found) = broker::patiently(reader, move |reader: &Reader, left| {
                first_since(reader, &events, since, left)
            })
            .await?;
            return Ok((reader, found.unwrap_or(high)));
        }
    };
    Ok((reader, next))
}

/// The first event at or after a time; `None` when there is none yet.
fn first_since(
    reader: &Reader,
    events: &str,
    time: i64,
    patience: Duration,
) -> KafkaResult<Option<i64>> {
    let mut asked = TopicPartitionList::new();
    asked.add_partition_offset(events, 0, Offset::Offset(time))?;
    let found = reader.offsets_for_times(asked, patience)?;
    Ok(offset_of(&found, events, 0))
}

fn offset_of(list: &TopicPartitionList, topic: &str, partition: i32) -> Option<i64> {
    match list.find_partition(topic, partition)?.offset() {
        Offset::Offset(offset) => Some(offset),
        _ => None,
    }
}

/// Commits where a name goes on: the event, and the step of its ledger.
async fn commit(
    link: &Link,
    reader: Reader,
    from: i64,
    (partition, since): (i32, i64),
) -> Result<Reader, TransportError> {
    let (events, work) = (link.topics.events.clone(), link.topics.work.clone());
    let committed = broker::patiently(reader, move |reader: &Reader, _| {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition_offset(&events, 0, Offset::Offset(from))?;
        offsets.add_partition_offset(&work, partition, Offset::Offset(since))?;
        reader.commit(&offsets, CommitMode::Sync)
    });
    committed.await.map(|(reader, ())| reader)
}

/// Where a name goes on. One whose offsets Kafka has dropped, because nobody used it for as long
/// as brokers keep them, goes on with the oldest event: rather again than never.
async fn committed(
    link: &Link,
    reader: Reader,
    partition: i32,
) -> Result<(Reader, (i64, i64)), TransportError> {
    let (events, work) = (link.topics.events.clone(), link.topics.work.clone());
    let (reader, (low, _)) = broker::ends(reader, &events, 0).await?;
    let (reader, (work_low, _)) = broker::ends(reader, &work, partition).await?;
    let asked = broker::patiently(reader, move |reader: &Reader, left| {
        let mut offsets = TopicPartitionList::new();
        offsets.add_partition(&events, 0);
        offsets.add_partition(&work, partition);
        let found = reader.committed_offsets(offsets, left)?;
        let from = offset_of(&found, &events, 0).unwrap_or(low);
        let since = offset_of(&found, &work, partition).unwrap_or(work_low);
        Ok((from.max(low), since.max(work_low)))
    });
    asked.await
}

fn assign(
    reader: &Reader,
    link: &Link,
    next: i64,
    work: Option<&Work>,
) -> Result<(), TransportError> {
    let mut assignment = TopicPartitionList::new();
    let mut assigned =
        assignment.add_partition_offset(&link.topics.events, 0, Offset::Offset(next));
    if let Some(work) = work {
        let offset = Offset::Offset(work.next);
        assigned = assigned.and_then(|()| {
            assignment.add_partition_offset(&link.topics.work, work.partition, offset)
        });
    }
    assigned
        .and_then(|()| reader.assign(&assignment))
        .map_err(|error| failed(&error))
}
