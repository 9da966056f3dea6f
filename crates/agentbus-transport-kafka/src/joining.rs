//! Joining a durable name, or beginning a replay.
//!
//! A durable name is a consumer group of Kafka's whose members assign themselves: its committed
//! offsets say up to where all is settled, and any tool that shows how far a group is behind shows
//! it. Its pattern and group stand in the table, where the first to use the name decides.
//!
//! A member stands in the line of its name before it looks where the name is: so nobody removes it
//! in between.

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::clock::millis;
use agentbus_transport::remote::Drain;
use agentbus_transport::{Start, Subscribe, TransportError};
use rdkafka::consumer::{CommitMode, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::broker::{self, failed};
use crate::keeper::{Keeper, Work};
use crate::limits;
use crate::line::{self, Standing};
use crate::link::Link;
use crate::member::{Member, MemberSource, Plan, misuse};
use crate::reader::Reader;
use crate::table::{self, Durable, Key};
use crate::verdicts::partition_of;

/// Takes part; when this returns, every later event reaches it.
pub(crate) async fn join(
    link: &Arc<Link>,
    request: Subscribe,
) -> Result<MemberSource, TransportError> {
    let place = link.take_durable()?;
    let member = Member::new(link, link.number(), Plan::of(&request));
    let (reader, from) = prepare(&member, request.start).await?;
    let seen: std::sync::Weak<dyn Drain> = Arc::downgrade(&member) as _;
    link.enter(member.number, seen)?;
    link.enter_member(&member);
    let mut standing = Standing::new(link, member.number);
    announce(&member).await?;
    let (reader, next, work) = begin(&member, reader, from).await?;
    member.begin(next);
    assign(&reader, link, next, work.as_ref())?;
    standing.keep();
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
        removes: false,
    };
    member.link.announce(Key::Member(&member.id), &record).await
}

/// Opens a reader and finds out where a replay begins, and a name that is new. Before anybody hears
/// of the member: what is published from then on is for it.
async fn prepare(member: &Member, start: Start) -> Result<(Reader, i64), TransportError> {
    let (link, plan) = (&member.link, &member.plan);
    let group = match (&plan.name, &plan.group) {
        (Some(name), _) => {
            link.leaving.wait(name, limits::READY_TIMEOUT).await;
            check(link, name, &wanted(plan))?;
            broker::group_of(&link.address, name)
        }
        (None, Some(group)) => {
            let reason = "is a group without a durable name, and on Kafka only a durable name has a queue that waits; give the subscription a durable name";
            return Err(misuse(group, reason.to_owned()));
        }
        (None, None) => link.inbox.client.clone(),
    };
    resolve(link, broker::reader(&link.address, &group)?, start).await
}

/// Where a member goes on, once the name is its to use.
async fn begin(
    member: &Member,
    reader: Reader,
    from: i64,
) -> Result<(Reader, i64, Option<Work>), TransportError> {
    let (link, plan) = (&member.link, &member.plan);
    let Some(name) = &plan.name else {
        return Ok((reader, from, None));
    };
    line::outwait(link, name, &member.id).await?;
    if plan.group.is_none() && !line::is_first(link, name, &member.id).await {
        let reason = "is in use; give it a group to share it, or use another name";
        return Err(misuse(name, reason.to_owned()));
    }
    let partition = partition_of(name);
    let (reader, life) = find(member, name, reader, (partition, from)).await?;
    let (reader, (from, since)) = committed(link, reader, partition).await?;
    let (reader, (_, known_until)) = broker::ends(reader, &link.topics.work, partition).await?;
    let work = Work {
        partition,
        next: since,
        known_until,
        life,
    };
    Ok((reader, from, Some(work)))
}

/// Finds a durable name, or makes it. Returns which life of it this is.
async fn find(
    member: &Member,
    name: &str,
    reader: Reader,
    (partition, from): (i32, i64),
) -> Result<(Reader, i64), TransportError> {
    let (link, wanted) = (&member.link, wanted(&member.plan));
    if let Some(life) = check(link, name, &wanted)? {
        return Ok((reader, life));
    }
    let (reader, (_, end)) = broker::ends(reader, &link.topics.work, partition).await?;
    let reader = commit(link, reader, from, (partition, end)).await?;
    link.announce(Key::Durable(name), &wanted).await?;
    match check(link, name, &wanted)? {
        Some(life) => Ok((reader, life)),
        None => Err(TransportError::TooMany {
            transport: broker::NAME,
            what: "durable names",
            limit: limits::TABLE_ENTRIES,
        }),
    }
}

/// What a member wants a durable name to be.
fn wanted(plan: &Plan) -> Durable {
    Durable {
        pattern: plan.pattern.as_str().to_owned(),
        group: plan.group.clone(),
    }
}

/// Which life of a name this is, if it is known; fails when it is known as something else.
fn check(link: &Link, name: &str, wanted: &Durable) -> Result<Option<i64>, TransportError> {
    let Some((known, life)) = link.table.durable(name) else {
        return Ok(None);
    };
    let described = |what: &Durable| match &what.group {
        Some(group) => format!("{} in the group `{group}`", what.pattern),
        None => format!("{} without a group", what.pattern),
    };
    if known == *wanted {
        return Ok(Some(life));
    }
    let reason = format!(
        "is for {}, not for {}; use another name",
        described(&known),
        described(wanted)
    );
    Err(misuse(name, reason))
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
