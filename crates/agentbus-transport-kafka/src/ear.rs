//! The one reader of a client: replies and the table, and the lanes while somebody listens.

use std::sync::{Arc, Weak};
use std::time::Duration;

use agentbus_protocol::Subject;
use agentbus_transport::remote::amb;
use agentbus_transport::{Message as Envelope, TransportError};
use bytes::Bytes;
use rdkafka::Message;
use rdkafka::consumer::Consumer;
use rdkafka::message::BorrowedMessage;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::broker::{self, failed};
use crate::feed;
use crate::lanes::Lane;
use crate::link::Link;
use crate::reader::Reader;
use crate::record::Deal;
use crate::table::{Change, client_of};

/// Begins to read: the replies from now on, the table from its beginning.
pub(crate) async fn open(link: &Link) -> Result<Reader, TransportError> {
    let reader = broker::reader(&link.address, &link.inbox.client)?;
    let mut assignment = TopicPartitionList::new();
    let mut add = |topic: &str, partition, offset| {
        assignment
            .add_partition_offset(topic, partition, Offset::Offset(offset))
            .map_err(|error| failed(&error))
    };
    let (replies, partition) = (&link.topics.replies, link.inbox.partition());
    let (reader, (_, end)) = broker::ends(reader, replies, partition).await?;
    add(replies, partition, end)?;
    add(&link.topics.members, 0, 0)?;
    reader.assign(&assignment).map_err(|error| failed(&error))?;
    Ok(reader)
}

/// Reads until the transport ends.
pub(crate) async fn run(link: Weak<Link>, reader: Arc<Reader>) {
    let known = |link: Arc<Link>| (link.over.clone(), Arc::clone(&link.gate));
    let Some((ending, gate)) = link.upgrade().map(known) else {
        return;
    };
    loop {
        let read = tokio::select! {
            () = ending.cancelled() => break,
            () = gate.due() => None,
            read = reader.recv() => Some(read),
        };
        let Some(link) = link.upgrade() else { break };
        match read {
            None => gate.turn(&link.lanes, &reader),
            Some(Ok(record)) => take(&link, &record),
            Some(Err(error)) => {
                tracing::debug!(%error, "the Kafka client recovers");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    // A listener that still asks it something is the last to let it go.
    if let Some(reader) = Arc::into_inner(reader) {
        reader.close().await;
    }
}

fn take(link: &Arc<Link>, record: &BorrowedMessage<'_>) {
    if record.topic() == link.topics.replies {
        return take_reply(link, record);
    }
    if record.topic() == link.topics.members {
        return take_member(link, record);
    }
    if let Some(lane) = link.lanes.lane(record.topic()) {
        hand_out(link, lane, record);
        link.lanes
            .note_read((lane, record.partition()), record.offset() + 1);
    }
}

fn key<'a>(record: &'a BorrowedMessage<'_>) -> &'a str {
    let key = record.key().and_then(|key| std::str::from_utf8(key).ok());
    key.unwrap_or_default()
}

fn take_reply(link: &Arc<Link>, record: &BorrowedMessage<'_>) {
    if !link.inbox.concerns(key(record)) {
        return;
    }
    let data = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    match amb::decode(&data) {
        Ok(read) => {
            if let Some((client, partition, data)) = link.inbox.take(read) {
                link.tell(&client, partition, &data);
            }
        }
        Err(error) => tracing::warn!(%error, "a reply cannot be read"),
    }
}

fn take_member(link: &Arc<Link>, record: &BorrowedMessage<'_>) {
    let time = record.timestamp().to_millis().unwrap_or_default();
    // An empty value arrives as none: the library does not tell them apart from removals.
    let value = record.payload().filter(|value| !value.is_empty());
    let own = &link.inbox.client;
    match link
        .table
        .apply(record.offset(), time, key(record), value, own)
    {
        Change::None => {}
        Change::Left(client) => link.note_left(&client),
        Change::Overwritten(name, first) => link.restore(&name, &first),
    }
    link.table_moved.notify_waiters();
}

/// Gives a message to those here whom it is for.
fn hand_out(link: &Arc<Link>, lane: Lane, record: &BorrowedMessage<'_>) {
    let subject = match lane {
        Lane::Amb(_) => record.topic(),
        Lane::Events | Lane::Calls => key(record),
    };
    let place = (lane, record.partition());
    let heard = link.feeds.of(subject);
    let deal = Deal::of(record.headers());
    let own = &link.inbox.client;
    let is_ours = |member: &str| client_of(member) == own;
    if heard.is_empty() && !deal.to.iter().any(|(member, _)| is_ours(member)) {
        return;
    }
    let Some(message) = message(lane, record) else {
        return;
    };
    let message = Arc::new(message);
    for feed in heard.iter().filter_map(Weak::upgrade) {
        let takes = match &feed.group {
            None => feed.hears(place, record.offset()),
            Some(group) if deal.to.iter().any(|(_, dealt)| **dealt == **group) => {
                deal.to.iter().any(|(member, _)| **member == *feed.id)
            }
            Some(group) => link.table.steps_in(&feed.id, group, subject, deal.seen),
        };
        if takes {
            feed.put(&message);
        }
    }
    let orphaned = |member: &str| is_ours(member) && link.feeds.get(member).is_none();
    if deal.to.iter().any(|(member, _)| orphaned(member)) {
        feed::lose(link, &message);
    }
}

/// Reads a message; one that nobody can read is reported and passed over.
pub(crate) fn message(lane: Lane, record: &BorrowedMessage<'_>) -> Option<Envelope> {
    let data = Bytes::copy_from_slice(record.payload().unwrap_or_default());
    match amb::decode(&data) {
        Ok(read) => {
            let mut message = read.message;
            if matches!(lane, Lane::Amb(_)) {
                // What an AMB peer says about its topic is what it was published to, or wrong.
                message.subject = Subject::parse(record.topic()).ok()?;
            }
            Some(message)
        }
        Err(error) => {
            let (topic, number) = (record.topic(), record.offset());
            tracing::warn!(%error, topic, number, "a message cannot be read and is passed over");
            None
        }
    }
}
