//! What happens when the broker refuses, dies, comes back, or is told too much.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus_protocol::{Pattern, Subject};
use agentbus_transport::{
    PublishOptions, Received, Subscribe, Transport, TransportError, dead_letter,
};
use agentbus_transport_rabbitmq::{RabbitTransport, limits};
use lapin::options::{BasicGetOptions, BasicPublishOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

use support::broker::Broker;
use support::messages::{all_of, message, number, receive, to, within};
use support::proxy::Proxy;

async fn open(url: &str) -> Arc<dyn Transport> {
    Arc::new(RabbitTransport::connect(url).await.unwrap())
}

async fn refusal(url: &str) -> TransportError {
    within("an answer", RabbitTransport::connect(url))
        .await
        .unwrap_err()
}

async fn publish(transport: &Arc<dyn Transport>, tail: &str, n: u64) -> Result<(), TransportError> {
    let sent = transport.publish(message(tail, n), PublishOptions::default());
    within("an outcome", sent).await.map(drop)
}

fn durable(tail: &str) -> Subscribe {
    let mut kept = all_of(tail);
    kept.durable = Some(tail.into());
    kept
}

fn agents(tail: &str) -> Subscribe {
    let mut shared = all_of(tail);
    shared.group = Some("agents".into());
    shared
}

fn required() -> PublishOptions {
    PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    }
}

/// A channel of no bus, to look and to do harm by.
async fn raw() -> Channel {
    let connecting = Connection::connect(support::shared(), ConnectionProperties::default());
    let connection = connecting.await.unwrap();
    connection.create_channel().await.unwrap()
}

#[tokio::test]
async fn a_refused_connection_is_said_at_once() {
    let begun = Instant::now();
    // Nobody listens at the first port, and none is given it by chance.
    let error = refusal("amqp://127.0.0.1:1").await;
    let said = error.to_string();
    assert!(matches!(error, TransportError::Carrier { .. }), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(error.is_retryable());
    assert!(begun.elapsed() < limits::CONNECT_TIMEOUT);
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_no_broker() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            let written = tokio::io::AsyncWriteExt::write_all(&mut socket, answer);
            written.await.unwrap();
        }
    });
    let error = refusal(&format!("amqp://127.0.0.1:{port}")).await;
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
}

#[tokio::test]
async fn what_the_broker_does_not_allow_is_a_refusal() {
    let place = support::place();
    for url in [
        format!("amqp://guest:wrong-secret@{place}"),
        format!("amqp://guest:guest@{place}/no-such-host"),
    ] {
        let error = refusal(&url).await;
        let said = error.to_string();
        assert!(matches!(error, TransportError::Refused { .. }), "{said}");
        assert!(!error.is_retryable());
        assert!(!said.contains("wrong-secret"), "{said}");
    }
}

#[tokio::test]
async fn buses_of_different_namespaces_do_not_meet() {
    let (one, two) = (open(&support::alone()).await, open(&support::alone()).await);
    let mut heard = one.subscribe(all_of("*")).await.unwrap();
    publish(&two, "apart", 1).await.unwrap();
    publish(&one, "apart", 2).await.unwrap();
    assert_eq!(number(&receive(&mut heard).await), 2);
}

#[tokio::test]
async fn a_subject_that_cannot_be_routed_is_refused() {
    let transport = open(&support::alone()).await;
    let long = Subject::parse(&"s".repeat(300)).unwrap();
    let sent = transport.publish(to(long.clone(), 1), PublishOptions::default());
    let error = sent.await.unwrap_err();
    assert!(error.to_string().contains("at most 255"), "{error}");
    let pattern = Subscribe::new(Pattern::from(&long));
    assert!(transport.subscribe(pattern).await.is_err());
    publish(&transport, "short", 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_accepted_over_a_cut_connection_is_there() {
    let proxy = Proxy::before(support::place()).await;
    let url = format!("{}?namespace={}", proxy.url(), support::namespace());
    let transport = open(&url).await;
    let mut all = transport.subscribe(durable("sure")).await.unwrap();
    let mut accepted = BTreeSet::new();
    for round in 0..5 {
        let numbers = round * 50..(round + 1) * 50;
        let sent: Vec<_> = numbers
            .clone()
            .map(|n| transport.publish(message("sure", n), PublishOptions::default()))
            .collect();
        proxy.cut();
        for (n, sent) in numbers.zip(sent) {
            if within("an outcome", sent).await.is_ok() {
                accepted.insert(n);
            }
        }
        // By itself, and without being told, it is there again; until it has noticed the cut, a
        // publish is in doubt.
        let again = async {
            let mut n = 1000 * (round + 1);
            while let Err(error) = publish(&transport, "sure", n).await {
                assert!(error.is_retryable(), "{error}");
                n += 1;
            }
            n
        };
        accepted.insert(within("a publish after the cut", again).await);
    }
    let mut attempts = BTreeMap::<u64, Vec<u32>>::new();
    while !accepted.iter().all(|n| attempts.contains_key(n)) {
        let delivery = receive(&mut all).await;
        let seen = attempts.entry(number(&delivery)).or_default();
        seen.push(delivery.attempt());
        delivery.ack().await.unwrap();
    }
    for (n, attempts) in attempts {
        assert!(attempts.is_sorted_by(|a, b| a < b), "{n}: {attempts:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_verdict_over_a_cut_connection_is_too_late_and_said_so() {
    let proxy = Proxy::before(support::place()).await;
    let url = format!("{}?namespace={}", proxy.url(), support::namespace());
    let transport = open(&url).await;
    let mut all = transport.subscribe(durable("settled")).await.unwrap();
    for n in 0..10 {
        publish(&transport, "settled", n).await.unwrap();
    }
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(receive(&mut all).await);
    }
    proxy.cut();
    // They come again, and only those attempts count.
    let mut again = Vec::new();
    for _ in 0..10 {
        let delivery = receive(&mut all).await;
        assert_eq!(delivery.attempt(), 2);
        again.push(delivery);
    }
    for late in held {
        let error = late.ack().await.unwrap_err();
        assert!(
            matches!(error, TransportError::LeaseEnded { .. }),
            "{error}"
        );
    }
    for delivery in again {
        delivery.ack().await.unwrap();
    }
    publish(&transport, "settled", 99).await.unwrap();
    assert_eq!(number(&receive(&mut all).await), 99);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_waits_for_a_broker_that_is_away() {
    let proxy = Proxy::before(support::place()).await;
    let url = format!("{}?namespace={}", proxy.url(), support::namespace());
    let transport = open(&url).await;
    let direct = open(&url.replace(&proxy.url(), support::shared())).await;
    let mut all = direct.subscribe(all_of("later")).await.unwrap();
    proxy.close();
    // Until it has noticed, a publish may be lost on the way, and is an error then.
    within("a publish that waits", async {
        while publish_soon(&transport, "later", 0).await.is_some() {}
    })
    .await;
    let waiting: Vec<_> = (1..20)
        .map(|n| transport.publish(message("later", n), PublishOptions::default()))
        .map(tokio::spawn)
        .collect();
    proxy.open();
    for sent in waiting {
        within("an outcome", sent).await.unwrap().unwrap();
    }
    let mut seen = Vec::new();
    while seen.last() != Some(&19) {
        let n = number(&receive(&mut all).await);
        seen.extend((n > 0).then_some(n));
    }
    assert_eq!(seen, (1..20).collect::<Vec<_>>());
}

/// The outcome of a publish, if there is one soon.
async fn publish_soon(transport: &Arc<dyn Transport>, tail: &str, n: u64) -> Option<()> {
    let sent = transport.publish(message(tail, n), PublishOptions::default());
    let soon = tokio::time::timeout(Duration::from_secs(2), sent).await;
    soon.ok().map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_both_directions_go_on_after_a_cut() {
    let proxy = Proxy::before(support::place()).await;
    let url = format!("{}?namespace={}", proxy.url(), support::namespace());
    let (agent, caller) = (open(&url).await, open(&url).await);
    let mut served = agent.subscribe(agents("ask")).await.unwrap();
    let answering = tokio::spawn(async move {
        while let Some(received) = served.receive().await {
            let Received::Live(request) = received else {
                continue;
            };
            let inbox = Subject::parse(&request.envelope().reply_to).unwrap();
            // A caller that was cut off asks again.
            let _ = agent
                .publish(to(inbox, number(&request)), PublishOptions::default())
                .await;
            let _ = request.ack().await;
        }
    });
    for n in 1..=3 {
        within("an answer", async {
            while ask(&caller, n).await != Some(n) {}
        })
        .await;
        proxy.cut();
    }
    answering.abort();
}

/// Asks once and gives up soon.
async fn ask(caller: &Arc<dyn Transport>, n: u64) -> Option<u64> {
    let mut inbox = caller.open_inbox().unwrap();
    let mut request = (*message("ask", n)).clone();
    request.envelope.reply_to = inbox.subject().as_str().into();
    let asking = async {
        let sent = caller.publish(Arc::new(request), required());
        sent.await.ok()?;
        match inbox.receive().await {
            Some(Received::Live(reply)) => Some(number(&reply)),
            _ => None,
        }
    };
    let soon = tokio::time::timeout(Duration::from_secs(2), asking).await;
    soon.ok().flatten()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_streams_to_a_closed_inbox_elsewhere_hears_of_it() {
    let url = support::alone();
    let (agent, caller) = (open(&url).await, open(&url).await);
    let inbox = caller.open_inbox().unwrap();
    let reply_to = inbox.subject().clone();
    drop(inbox);
    within("the news", streams_until_nobody_reads(&agent, &reply_to)).await;
    // So does one whose caller went with all it had.
    let inbox = caller.open_inbox().unwrap();
    let reply_to = inbox.subject().clone();
    caller.close(Duration::ZERO).await;
    within("the news", streams_until_nobody_reads(&agent, &reply_to)).await;
}

async fn streams_until_nobody_reads(agent: &Arc<dyn Transport>, reply_to: &Subject) {
    loop {
        let frame = to(reply_to.clone(), 1);
        match agent.publish(frame, PublishOptions::default()).await {
            Ok(_) => tokio::task::yield_now().await,
            Err(error) => {
                assert!(
                    matches!(error, TransportError::NoResponder { .. }),
                    "{error}"
                );
                return;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_nobody_is_known_when_the_agent_said_goodbye() {
    let url = support::alone();
    let (agent, caller) = (open(&url).await, open(&url).await);
    let mut served = agent.subscribe(agents("bye")).await.unwrap();
    let sent = caller.publish(message("bye", 1), required());
    sent.await.unwrap();
    receive(&mut served).await.ack().await.unwrap();
    agent.close(Duration::ZERO).await;
    let sent = caller.publish(message("bye", 2), required());
    let error = sent.await.unwrap_err();
    assert!(
        matches!(error, TransportError::NoResponder { .. }),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_come_back_and_those_that_do_not_are_told_apart() {
    let url = support::alone();
    let (one, two) = (open(&url).await, open(&url).await);
    let caller = open(&url).await;
    // One member is busy, so all that follows goes to the other.
    let (mut busy, mut going) = (agents("apart"), agents("apart"));
    (busy.prefetch, going.prefetch) = (1, 2);
    let mut staying = two.subscribe(busy).await.unwrap();
    publish(&caller, "apart", 9).await.unwrap();
    let held = receive(&mut staying).await;
    let mut going = one.subscribe(going).await.unwrap();
    let mut inboxes = Vec::new();
    for n in 0..2 {
        let inbox = caller.open_inbox().unwrap();
        let mut request = (*message("apart", n)).clone();
        request.envelope.reply_to = inbox.subject().as_str().into();
        let sent = caller.publish(Arc::new(request), required());
        sent.await.unwrap();
        inboxes.push(inbox);
    }
    // The first is begun, the second waits behind it.
    let begun = receive(&mut going).await;
    assert_eq!(number(&begun), 0);
    drop(going);
    drop(begun);
    let lost = within("the notice", inboxes[0].receive()).await;
    assert!(matches!(lost, Some(Received::Lost)), "{lost:?}");
    held.ack().await.unwrap();
    let taken = receive(&mut staying).await;
    assert_eq!((number(&taken), taken.attempt()), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_loses_the_oldest_and_is_told() {
    let transport = open(&support::alone()).await;
    let mut small = all_of("slow");
    small.capacity = 4;
    let mut slow = transport.subscribe(small).await.unwrap();
    for n in 0..100 {
        publish(&transport, "slow", n).await.unwrap();
    }
    let (mut seen, mut missed, mut last) = (0, 0, 0);
    while last != 99 {
        let delivery = receive(&mut slow).await;
        seen += 1;
        missed += delivery.missed();
        last = number(&delivery);
    }
    assert_eq!(seen + missed, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_message_is_buried_and_the_rest_goes_on() {
    let namespace = support::namespace();
    let url = format!("{}?namespace={namespace}", support::shared());
    let transport = open(&url).await;
    let graves = Subscribe::new(Pattern::parse("acp.v1.dlq.>").unwrap());
    let mut letters = transport.subscribe(graves).await.unwrap();
    let mut kept = durable("poison");
    kept.max_attempts = Some(3);
    let mut all = transport.subscribe(kept).await.unwrap();
    let raw = raw().await;
    let dead = dead_letters(&raw, &namespace).await;
    // A peer that writes garbage to the queue harms nobody either.
    let queue = format!("{namespace}.agentbus.name.poison");
    let garbage = raw.basic_publish(
        "".into(),
        queue.into(),
        BasicPublishOptions::default(),
        b"garbage",
        BasicProperties::default(),
    );
    garbage.await.unwrap();
    for n in [13, 14] {
        publish(&transport, "poison", n).await.unwrap();
    }
    let (mut attempts, mut well) = (Vec::new(), false);
    while attempts.len() < 3 || !well {
        let delivery = receive(&mut all).await;
        if number(&delivery) == 13 {
            attempts.push(delivery.attempt());
            drop(delivery);
        } else {
            well = true;
            delivery.ack().await.unwrap();
        }
    }
    assert_eq!(attempts, [1, 2, 3]);
    let letter = receive(&mut letters).await;
    let metadata = &letter.envelope().metadata;
    assert_eq!(number(&letter), 13);
    assert_eq!(letter.subject().as_str(), "acp.v1.dlq.failure.case");
    assert_eq!(metadata.get::<u32>(dead_letter::ATTEMPTS), Some(3));
    assert_eq!(next_dead(&raw, &dead).await, b"garbage");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_durable_name_rejects_goes_to_the_dead_letter_exchange() {
    let namespace = support::namespace();
    let url = format!("{}?namespace={namespace}", support::shared());
    let transport = open(&url).await;
    let raw = raw().await;
    let mut all = transport.subscribe(durable("refused")).await.unwrap();
    let dead = dead_letters(&raw, &namespace).await;
    publish(&transport, "refused", 7).await.unwrap();
    receive(&mut all).await.reject().await.unwrap();
    let body = next_dead(&raw, &dead).await;
    let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body["topic"], "acp.v1.events.refused");
}

/// A queue that collects what the dead-letter exchange of a namespace gets.
async fn dead_letters(raw: &Channel, namespace: &str) -> String {
    let queue = raw.queue_declare(
        "".into(),
        QueueDeclareOptions {
            exclusive: true,
            ..QueueDeclareOptions::default()
        },
        FieldTable::default(),
    );
    let queue = queue.await.unwrap().name().clone();
    let bound = raw.queue_bind(
        queue.clone(),
        format!("{namespace}.amb.dead").into(),
        "#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    queue.as_str().to_owned()
}

async fn next_dead(raw: &Channel, queue: &str) -> Vec<u8> {
    within("a dead letter", async {
        loop {
            let got = raw.basic_get(queue.into(), BasicGetOptions { no_ack: true });
            if let Some(got) = got.await.unwrap() {
                return got.delivery.data;
            }
            tokio::task::yield_now().await;
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn attempts_are_limited_without_a_name_as_well() {
    let transport = open(&support::alone()).await;
    let graves = Subscribe::new(Pattern::parse("acp.v1.dlq.>").unwrap());
    let mut letters = transport.subscribe(graves).await.unwrap();
    let mut lone = all_of("lone");
    lone.max_attempts = Some(2);
    let mut all = transport.subscribe(lone).await.unwrap();
    publish(&transport, "lone", 1).await.unwrap();
    for attempt in 1..=2 {
        let delivery = receive(&mut all).await;
        assert_eq!(delivery.attempt(), attempt);
        delivery.nak(Duration::ZERO).await.unwrap();
    }
    let letter = receive(&mut letters).await;
    let attempts = letter.envelope().metadata.get::<u32>(dead_letter::ATTEMPTS);
    assert_eq!((number(&letter), attempts), (1, Some(2)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_name_has_one_user_on_all_connections() {
    let url = support::alone();
    let (one, two) = (open(&url).await, open(&url).await);
    let first = one.subscribe(durable("mine")).await.unwrap();
    let error = two.subscribe(durable("mine")).await.unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    drop(first);
    within("the end of the first use", async {
        while two.subscribe(durable("mine")).await.is_err() {}
    })
    .await;
    let mut other = durable("mine");
    other.group = Some("g".into());
    let error = two.subscribe(other).await.unwrap_err();
    assert!(error.to_string().contains("acp.v1.events.mine"), "{error}");
}

/// Time after which RabbitMQ has written down that there is a new quorum queue. One that is killed
/// before finds the queue again and never gives it a leader, so that nobody can use it.
const SETTLED: Duration = Duration::from_secs(10);

/// How long to listen for an event before it is published once more.
const AGAIN: Duration = Duration::from_secs(3);

// One test for all that needs a broker to die, because each start of one takes seconds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_goes_on_over_a_broker_that_is_killed_and_nothing_stays_behind() {
    let mut broker = Broker::start();
    let (sender, receiver) = (open(&broker.url()).await, open(&broker.url()).await);
    let mut all = receiver.subscribe(durable("load")).await.unwrap();
    let mut heard = receiver.subscribe(all_of("load")).await.unwrap();
    let mut served = receiver.subscribe(agents("ask")).await.unwrap();
    const LAST: u64 = 4000;
    let accepted = Arc::new(AtomicU64::new(0));
    let publisher = {
        let accepted = Arc::clone(&accepted);
        tokio::spawn(async move {
            for n in 0..=LAST {
                // What is in doubt is published again, as an application would.
                while let Err(error) = publish(&sender, "load", n).await {
                    assert!(error.is_retryable(), "{error}");
                }
                accepted.store(n, Ordering::Release);
            }
            sender
        })
    };
    let consumer = tokio::spawn(async move {
        let mut seen = BTreeSet::new();
        while seen.len() <= usize::try_from(LAST).unwrap() {
            let delivery = receive(&mut all).await;
            seen.insert(number(&delivery));
            // A verdict that comes too late brings the message again.
            let _ = delivery.ack().await;
        }
    });
    tokio::time::sleep(SETTLED).await;
    for restart in 1..=2 {
        within("more load", async {
            while accepted.load(Ordering::Acquire) < restart * 1000 {
                tokio::task::yield_now().await;
            }
        })
        .await;
        broker.kill();
        broker.restart();
    }
    let sender = within("the publisher's end", publisher).await.unwrap();
    within("the consumer's end", consumer).await.unwrap();
    // Whoever only listens hears again, and the group's queue, which the broker forgot, is back.
    // It may be back a moment after the durable name is, so that it is told more than once.
    within("the last event", async {
        loop {
            publish(&sender, "load", LAST + 1).await.unwrap();
            let hears = async { while number(&receive(&mut heard).await) != LAST + 1 {} };
            if tokio::time::timeout(AGAIN, hears).await.is_ok() {
                return;
            }
        }
    })
    .await;
    let answering = tokio::spawn(async move { number(&receive(&mut served).await) });
    within("a request that is taken", async {
        while sender.publish(message("ask", 7), required()).await.is_err() {}
    })
    .await;
    assert_eq!(within("the request", answering).await.unwrap(), 7);
    drop(heard);
    sender.close(Duration::ZERO).await;
    receiver.close(Duration::ZERO).await;
    // What belonged to a connection goes a moment after it.
    broker.keeps(&["agentbus.name.load"]).await;
}
