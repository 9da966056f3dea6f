//! Durable names are removed by whoever asks, and taken from nobody.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::time::Duration;

use agentbus_transport::{PublishOptions, Subscribe, Transport, TransportError};
use agentbus_transport_kafka::KafkaTransport;
use rdkafka::Message as _;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer, StreamConsumer};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use support::messages::{all_of, message, number, receive, within};

/// Times that a name is removed and joined at once.
const ROUNDS: u64 = 6;

async fn open(url: &str) -> Arc<dyn Transport> {
    Arc::new(KafkaTransport::connect(url).await.unwrap())
}

fn kept(tail: &str) -> Subscribe {
    let mut request = all_of(tail);
    request.durable = Some(tail.into());
    request
}

async fn publish(transport: &Arc<dyn Transport>, tail: &str, n: u64) {
    let sent = transport.publish(message(tail, n), PublishOptions::default());
    sent.await.unwrap();
}

async fn remove(transport: &Arc<dyn Transport>, name: &str) -> Result<(), TransportError> {
    within("a removal", transport.remove_durable(name)).await
}

async fn refused(transport: &Arc<dyn Transport>, name: &str, words: &str) {
    let error = remove(transport, name).await.unwrap_err();
    assert!(matches!(error, TransportError::Durable { .. }), "{error}");
    assert!(error.to_string().contains(words), "{error}");
}

/// The servers and the namespace of a URL.
fn parts(url: &str) -> (&str, &str) {
    let (servers, namespace) = url.split_once("?namespace=").unwrap();
    (servers.trim_start_matches("kafka://"), namespace)
}

fn config(url: &str) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", parts(url).0);
    config
}

/// The place of a durable name, as any tool reads it.
async fn place(url: &str, name: &str) -> Option<i64> {
    let (mut config, namespace) = (config(url), parts(url).1.to_owned());
    config.set("group.id", format!("{namespace}.{name}"));
    let asked = tokio::task::spawn_blocking(move || {
        let reader: BaseConsumer = config.create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition(&format!("{namespace}.events"), 0);
        let found = reader.committed_offsets(asked, Duration::from_secs(30));
        match found.unwrap().elements()[0].offset() {
            Offset::Offset(offset) => Some(offset),
            _ => None,
        }
    });
    asked.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_is_used_elsewhere_is_removed_when_it_is_not() {
    let url = support::url();
    let (here, there) = (open(&url).await, open(&url).await);
    refused(&here, "far", "does not exist").await;
    let mut used = there.subscribe(kept("far")).await.unwrap();
    publish(&here, "far", 1).await;
    refused(&here, "far", "is in use").await;
    // The refused removal took nothing.
    assert_eq!(number(&receive(&mut used).await), 1);
    publish(&here, "far", 2).await;
    drop(used);
    there.close(Duration::ZERO).await;
    assert!(place(&url, "far").await.is_some());
    remove(&here, "far").await.unwrap();
    assert_eq!(place(&url, "far").await, None);
    refused(&here, "far", "does not exist").await;
    let mut anew = here.subscribe(kept("far")).await.unwrap();
    publish(&here, "far", 3).await;
    assert_eq!(number(&receive(&mut anew).await), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removed_name_may_be_for_something_else() {
    let transport = open(&support::url()).await;
    drop(transport.subscribe(kept("old")).await.unwrap());
    let mut other = all_of("new");
    other.durable = Some("old".into());
    let error = transport.subscribe(other.clone()).await.unwrap_err();
    assert!(matches!(error, TransportError::Durable { .. }), "{error}");
    remove(&transport, "old").await.unwrap();
    let mut anew = transport.subscribe(other).await.unwrap();
    publish(&transport, "old", 1).await;
    publish(&transport, "new", 2).await;
    assert_eq!(number(&receive(&mut anew).await), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_takes_no_name_from_somebody_who_joins() {
    let url = support::url();
    let (here, there) = (open(&url).await, open(&url).await);
    drop(there.subscribe(kept("race")).await.unwrap());
    for round in 0..ROUNDS {
        let both = async { tokio::join!(there.subscribe(kept("race")), remove(&here, "race")) };
        let (joined, removed) = within("both", both).await;
        let mut joined = joined.unwrap();
        if let Err(error) = removed {
            assert!(error.to_string().contains("is in use"), "{error}");
        }
        publish(&here, "race", round).await;
        assert_eq!(number(&receive(&mut joined).await), round);
        drop(joined);
        // Whoever was first: the name is there, with what it has not settled.
        let mut again = there.subscribe(kept("race")).await.unwrap();
        let delivery = receive(&mut again).await;
        assert_eq!(number(&delivery), round);
        delivery.ack().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_removals_one_finds_the_name() {
    let url = support::url();
    let maker = open(&url).await;
    drop(maker.subscribe(kept("twice")).await.unwrap());
    // It has left when it is closed; a beat of one that leaves says that it is there.
    within("its leaving", maker.close(Duration::ZERO)).await;
    let (here, there) = (open(&url).await, open(&url).await);
    let both = async {
        let (one, other) = (remove(&here, "twice"), remove(&here, "twice"));
        tokio::join!(one, other, remove(&there, "twice"))
    };
    let (one, other, third) = within("all", both).await;
    let outcomes = [one, other, third];
    assert_eq!(outcomes.iter().filter(|it| it.is_ok()).count(), 1);
    for error in outcomes.into_iter().filter_map(Result::err) {
        assert!(error.to_string().contains("does not exist"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_removal_that_nobody_waits_for_is_finished() {
    let url = support::url();
    let transport = open(&url).await;
    drop(transport.subscribe(kept("gone")).await.unwrap());
    tokio::select! {
        biased;
        done = transport.remove_durable("gone") => panic!("it asked nobody: {done:?}"),
        () = std::future::ready(()) => {}
    }
    within("the end of the group", async {
        while place(&url, "gone").await.is_some() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    refused(&transport, "gone", "does not exist").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_another_program_has_joined_is_left_to_it() {
    let url = support::url();
    let transport = open(&url).await;
    drop(transport.subscribe(kept("theirs")).await.unwrap());
    let namespace = parts(&url).1;
    let reader: StreamConsumer = config(&url)
        .set("group.id", format!("{namespace}.theirs"))
        .create()
        .unwrap();
    let events = format!("{namespace}.events");
    reader.subscribe(&[events.as_str()]).unwrap();
    within("its place in the group", async {
        while reader.assignment().unwrap().count() == 0 {
            // Without a reader that is read from, nothing is assigned.
            let _ = tokio::time::timeout(Duration::from_millis(50), reader.recv()).await;
        }
    })
    .await;
    refused(&transport, "theirs", "is in use").await;
    drop(reader);
    within("the end of the other program", async {
        while let Err(error) = remove(&transport, "theirs").await {
            assert!(error.to_string().contains("is in use"), "{error}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_was_taken_for_gone_learns_that_its_name_was_removed() {
    let url = support::url();
    let (here, there) = (open(&url).await, open(&url).await);
    let mut lost = there.subscribe(kept("lost")).await.unwrap();
    publish(&here, "lost", 1).await;
    receive(&mut lost).await.ack().await.unwrap();
    take_away(&url, "lost").await;
    let ended = within("the end", lost.receive()).await;
    assert!(ended.is_none(), "{ended:?}");
    drop(lost);
    within("its leaving", there.close(Duration::ZERO)).await;
    refused(&here, "lost", "does not exist").await;
    let mut anew = here.subscribe(kept("lost")).await.unwrap();
    publish(&here, "lost", 2).await;
    assert_eq!(number(&receive(&mut anew).await), 2);
}

/// Takes the members of a name for gone, and removes the name, as a client does that did not hear of
/// them for long.
async fn take_away(url: &str, name: &str) {
    let topic = format!("{}.members", parts(url).1);
    let members = members(url, &topic, name).await;
    assert_eq!(members.len(), 1);
    let producer: FutureProducer = config(url).create().unwrap();
    for key in members.into_iter().chain([format!("durable {name}")]) {
        let record = FutureRecord::<str, [u8]>::to(&topic).partition(0).key(&key);
        producer
            .send(record, Duration::from_secs(30))
            .await
            .unwrap();
    }
}

/// The keys of the records of a name's members.
async fn members(url: &str, topic: &str, name: &str) -> Vec<String> {
    let reader: StreamConsumer = config(url)
        .set("group.id", "unused")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut all = TopicPartitionList::new();
    all.add_partition_offset(topic, 0, Offset::Beginning)
        .unwrap();
    reader.assign(&all).unwrap();
    let wanted = format!("\"durable\":\"{name}\"");
    let mut found = Vec::new();
    within("a member", async {
        while found.is_empty() {
            let record = reader.recv().await.unwrap();
            let value = String::from_utf8_lossy(record.payload().unwrap_or_default()).into_owned();
            let key = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            if key.starts_with("member ") && value.contains(&wanted) {
                found.push(key);
            }
        }
    })
    .await;
    found
}
