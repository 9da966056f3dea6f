//! What a stream adds: names that outlive a connection, the past, and redelivery.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use agentbus_protocol::{
    Envelope, EventId, EventType, Pattern, Payload, Stamp, Subject, Timestamp,
};
use agentbus_transport::{
    Delivery, Durability, DurableInfo, Message, Overflow, PublishOptions, Received, Start,
    Subscribe, Subscription, Transport, TransportError,
};

use async_nats::jetstream::stream::{Config, DiscardPolicy};
use futures_util::TryStreamExt;
use support::Server;

const GUARD: Duration = Duration::from_secs(120);

async fn open(url: &str) -> Arc<dyn Transport> {
    agentbus_transport_nats::open(url).await.unwrap()
}

fn message(subject: &str, n: u64) -> Message {
    let stamp = Stamp {
        event_id: EventId::v7(n, &[0; 10]),
        occurred_at: Timestamp::UNIX_EPOCH,
    };
    let mut envelope = Envelope::new(stamp, EventType::new("kept"));
    envelope.payload = Some(Payload::json(&n).unwrap());
    Message::new(Subject::parse(subject).unwrap(), envelope)
}

async fn publish(
    transport: &Arc<dyn Transport>,
    subject: &str,
    numbers: impl IntoIterator<Item = u64>,
) {
    for n in numbers {
        let sent = transport.publish(Arc::new(message(subject, n)), PublishOptions::default());
        sent.await.unwrap();
    }
}

fn all_of(pattern: &str) -> Subscribe {
    Subscribe::new(Pattern::parse(pattern).unwrap())
}

fn from(pattern: &str, start: Start) -> Subscribe {
    let mut request = all_of(pattern);
    request.start = start;
    request
}

fn durable(pattern: &str, name: &str) -> Subscribe {
    let mut request = from(pattern, Start::Beginning);
    request.durable = Some(name.into());
    request
}

async fn receive(subscription: &mut Subscription) -> Delivery {
    match tokio::time::timeout(GUARD, subscription.receive()).await {
        Ok(Some(Received::Live(delivery))) => delivery,
        other => panic!("expected a delivery, got {other:?}"),
    }
}

fn number(delivery: &Delivery) -> u64 {
    delivery
        .envelope()
        .payload
        .as_ref()
        .unwrap()
        .decode()
        .unwrap()
}

async fn next(subscription: &mut Subscription) -> u64 {
    let delivery = receive(subscription).await;
    let n = number(&delivery);
    delivery.ack().await.unwrap();
    n
}

const EVENTS: &str = "acp.v1.events.kept";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_past_is_read_from_wherever_one_likes() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    publish(&transport, EVENTS, 1..=5).await;
    let between = SystemTime::now();
    publish(&transport, EVENTS, 6..=8).await;
    for (start, first) in [
        (Start::Beginning, 1),
        (Start::Sequence(4), 4),
        (Start::Time(between), 6),
    ] {
        let mut past = transport.subscribe(from(EVENTS, start)).await.unwrap();
        for n in first..=8 {
            assert_eq!(next(&mut past).await, n, "{start:?}");
        }
    }
    let mut new = transport.subscribe(all_of(EVENTS)).await.unwrap();
    publish(&transport, EVENTS, [9]).await;
    assert_eq!(next(&mut new).await, 9);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_name_goes_on_where_it_was() {
    let server = Server::start();
    let url = format!("{}?ack_wait=3s", server.jetstream());
    let transport = open(&url).await;
    publish(&transport, EVENTS, 1..=3).await;
    let mut first = transport
        .subscribe(durable(EVENTS, "billing"))
        .await
        .unwrap();
    assert_eq!((next(&mut first).await, next(&mut first).await), (1, 2));
    let third = receive(&mut first).await;
    assert_eq!((number(&third), third.attempt()), (3, 1));
    // Not settled, and the whole connection is given up.
    std::mem::drop(first);
    transport.close(Duration::ZERO).await;
    drop(third);

    let transport = open(&url).await;
    publish(&transport, EVENTS, [4]).await;
    let mut second = transport
        .subscribe(durable(EVENTS, "billing"))
        .await
        .unwrap();
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let delivery = receive(&mut second).await;
        seen.push((number(&delivery), delivery.attempt()));
        delivery.ack().await.unwrap();
    }
    seen.sort_unstable();
    assert_eq!(seen, [(3, 2), (4, 1)]);
    drop(second);
    let other = transport
        .subscribe(durable("acp.v1.events.other", "billing"))
        .await
        .unwrap_err();
    assert!(matches!(other, TransportError::Durable { .. }), "{other}");
    assert!(other.to_string().contains(EVENTS), "{other}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_ends_gives_the_message_to_somebody_else() {
    let server = Server::start();
    let transport = open(&format!("{}?ack_wait=4s", server.jetstream())).await;
    let mut group = all_of(EVENTS);
    group.group = Some("workers".into());
    group.prefetch = 1;
    let mut idle = transport.subscribe(group.clone()).await.unwrap();
    publish(&transport, EVENTS, [1]).await;
    let mut held = receive(&mut idle).await;
    let mut busy = transport.subscribe(group).await.unwrap();
    // Extended three times it stays where it is for longer than the lease.
    for _ in 0..3 {
        held.extend(Duration::from_secs(4)).await.unwrap();
        let early = tokio::time::timeout(Duration::from_millis(1500), busy.receive()).await;
        assert!(early.is_err(), "{early:?}");
    }
    let again = receive(&mut busy).await;
    assert_eq!((number(&again), again.attempt()), (1, 2));
    again.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_delivery_comes_again() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let mut all = transport.subscribe(all_of(EVENTS)).await.unwrap();
    publish(&transport, EVENTS, [1]).await;
    drop(receive(&mut all).await);
    let again = receive(&mut all).await;
    assert_eq!((number(&again), again.attempt()), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_that_expired_in_the_stream_is_not_acted_on() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let mut short = message(EVENTS, 1);
    let mut ttl = Duration::from_millis(50);
    // On a busy machine it may have expired before it is taken; it gets more time then.
    let deadline = loop {
        let deadline = std::time::Instant::now() + ttl;
        short.expires_at = Some(deadline);
        let sent = transport.publish(Arc::new(short.clone()), PublishOptions::default());
        match sent.await {
            Err(TransportError::Expired { .. }) => ttl *= 2,
            outcome => break outcome.map(|_| deadline).unwrap(),
        }
    };
    publish(&transport, EVENTS, [2]).await;
    tokio::time::sleep_until(deadline.into()).await;
    let mut past = transport
        .subscribe(from(EVENTS, Start::Beginning))
        .await
        .unwrap();
    let first = tokio::time::timeout(GUARD, past.receive()).await.unwrap();
    assert!(matches!(first, Some(Received::Expired(_))), "{first:?}");
    assert_eq!(next(&mut past).await, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_work_queue_forgets_what_was_done() {
    let server = Server::start();
    let url = format!(
        "{}?stream=JOBS&subjects=jobs.>&retention=workqueue",
        server.jetstream()
    );
    let transport = open(&url).await;
    publish(&transport, "jobs.print", 1..=20).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut member = all_of("jobs.print");
        member.group = Some("printers".into());
        member.prefetch = 1;
        members.push(transport.subscribe(member).await.unwrap());
    }
    let [one, two] = &mut members[..] else {
        unreachable!()
    };
    let mut done = Vec::new();
    while done.len() < 20 {
        done.push(tokio::select! { n = next(one) => n, n = next(two) => n });
    }
    done.sort_unstable();
    assert_eq!(done, (1..=20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_stream_does_not_keep_is_an_error() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let tenant = "acp.v1.acme.events.kept";
    let lost = transport
        .publish(Arc::new(message(tenant, 1)), PublishOptions::default())
        .await;
    let said = lost.unwrap_err().to_string();
    assert!(said.contains("subjects=acp.v1.TENANT.events.>"), "{said}");
    let past = transport
        .subscribe(from(tenant, Start::Beginning))
        .await
        .unwrap_err();
    assert!(matches!(past, TransportError::Address(_)), "{past}");

    let acme = format!(
        "{}?stream=ACME&subjects=acp.v1.acme.events.>",
        server.jetstream()
    );
    let acme = open(&acme).await;
    publish(&acme, tenant, [1]).await;
    let mut kept = acme
        .subscribe(from(tenant, Start::Beginning))
        .await
        .unwrap();
    assert_eq!(next(&mut kept).await, 1);
    // Another stream over the same subjects would store everything twice.
    let twice = format!("{}?stream=TWICE&subjects=acp.v1.acme.>", server.jetstream());
    let twice = agentbus_transport_nats::open(&twice).await.unwrap_err();
    assert!(twice.to_string().contains("could not be made"), "{twice}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_required_listener_is_looked_for() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let wanted = PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    };
    let sent = |n| transport.publish(Arc::new(message(EVENTS, n)), wanted.clone());
    let nobody = sent(1).await.unwrap_err();
    assert!(
        matches!(nobody, TransportError::NoResponder { .. }),
        "{nobody}"
    );
    let mut all = transport
        .subscribe(all_of("acp.v1.events.>"))
        .await
        .unwrap();
    let listening = async {
        // The consumer counts once its subscriber waits at it.
        while sent(2).await.is_err() {}
    };
    let (n, ()) = tokio::join!(next(&mut all), listening);
    assert_eq!(n, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_listener_may_rather_lose_the_oldest() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let mut lossy = all_of(EVENTS);
    lossy.overflow = Overflow::DropOldest;
    lossy.capacity = 8;
    let mut lossy = transport.subscribe(lossy).await.unwrap();
    let mut patient = transport.subscribe(all_of(EVENTS)).await.unwrap();
    publish(&transport, EVENTS, 0..200).await;
    for n in 0..200 {
        assert_eq!(next(&mut patient).await, n);
    }
    let mut seen = 0;
    loop {
        let delivery = receive(&mut lossy).await;
        seen += 1 + delivery.missed();
        if number(&delivery) == 199 {
            break assert_eq!(seen, 200);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receipt_says_what_is_known_and_no_more() {
    let server = Server::start();
    for (query, level) in [
        ("stream=A&subjects=a.>", Durability::Os),
        ("stream=B&subjects=b.>&storage=memory", Durability::Memory),
        ("stream=C&subjects=c.>&durability=disk", Durability::Disk),
    ] {
        let transport = open(&format!("{}?{query}", server.jetstream())).await;
        let subject = format!("{}.x", &query[7..8].to_lowercase());
        let sent = transport.publish(Arc::new(message(&subject, 1)), PublishOptions::default());
        assert_eq!(sent.await.unwrap().durability, level);
        assert_eq!(transport.capabilities().durability, level);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn consumers_do_not_stay_behind() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
    let count = || async {
        raw.get_stream("AGENTBUS")
            .await
            .unwrap()
            .cached_info()
            .state
            .consumer_count
    };
    let lone = transport.subscribe(all_of(EVENTS)).await.unwrap();
    assert_eq!(count().await, 1);
    drop(lone);
    let gone = async { while count().await > 0 {} };
    tokio::time::timeout(GUARD, gone)
        .await
        .expect("the consumer stays behind");
}

/// A stream that discards what is new says at once that it is full, and goes on when there is room.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_stream_refuses_at_once() {
    let by_messages = Config {
        max_messages: 3,
        ..Config::default()
    };
    let by_bytes = Config {
        max_bytes: 4096,
        ..Config::default()
    };
    for (limits, words) in [(by_messages, "messages"), (by_bytes, "bytes")] {
        let server = Server::start();
        let raw = async_nats::jetstream::new(async_nats::connect(server.url()).await.unwrap());
        let made = raw.create_stream(Config {
            name: "SMALL".to_owned(),
            subjects: vec!["acp.v1.events.>".to_owned()],
            discard: DiscardPolicy::New,
            ..limits
        });
        let stream = made.await.unwrap();
        let transport = open(&format!("{}?stream=SMALL", server.jetstream())).await;
        let send = |n| {
            let sent = transport.publish(Arc::new(message(EVENTS, n)), PublishOptions::default());
            async move { tokio::time::timeout(GUARD, sent).await.unwrap() }
        };
        let mut kept = 0;
        let full = loop {
            match send(kept).await {
                Ok(_) => kept += 1,
                Err(error) => break error,
            }
            assert!(kept < 100, "it takes whatever comes");
        };
        assert!(kept > 0, "{full}");
        let TransportError::StreamFull {
            stream: name,
            reason,
        } = &full
        else {
            panic!("{full}");
        };
        assert_eq!((&**name, reason.contains(words)), ("SMALL", true), "{full}");
        assert!(full.is_retryable());
        stream.purge().await.unwrap();
        send(kept).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_name_that_is_used_elsewhere_is_not_removed() {
    let server = Server::start();
    let (here, there) = (
        open(&server.jetstream()).await,
        open(&server.jetstream()).await,
    );
    let mut used = there.subscribe(durable(EVENTS, "billing")).await.unwrap();
    publish(&here, EVENTS, [1]).await;
    // The rest of what it asked for is waited for at the server.
    assert_eq!(next(&mut used).await, 1);
    let error = here.remove_durable("billing").await.unwrap_err();
    assert!(error.to_string().contains("is in use"), "{error}");
    publish(&here, EVENTS, [2]).await;
    assert_eq!(next(&mut used).await, 2);
    drop(used);
    there.close(Duration::ZERO).await;
    here.remove_durable("billing").await.unwrap();
    let mut anew = here.subscribe(durable(EVENTS, "billing")).await.unwrap();
    assert_eq!((next(&mut anew).await, next(&mut anew).await), (1, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_of_another_program_is_not_removed() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    let client = async_nats::connect(server.url()).await.unwrap();
    let streams = async_nats::jetstream::new(client);
    let stream = streams.get_stream("AGENTBUS").await.unwrap();
    let config = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("theirs".to_owned()),
        ..Default::default()
    };
    stream.create_consumer(config).await.unwrap();
    let error = transport.remove_durable("theirs").await.unwrap_err();
    assert!(error.to_string().contains("another program"), "{error}");
    stream.consumer_info("theirs").await.unwrap();
}

/// What is listed, once as much as this is still before the one name there is.
async fn the_one(transport: &Arc<dyn Transport>, before_it: u64) -> DurableInfo {
    let counted = async {
        loop {
            let mut listed = transport.durables().await.unwrap();
            assert_eq!(listed.len(), 1, "{listed:?}");
            let told = listed.remove(0);
            if told.behind + told.unsettled as u64 == before_it {
                break told;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(GUARD, counted).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_are_listed_as_they_were_said_and_those_of_others_are_not() {
    let server = Server::start();
    let (here, there) = (
        open(&server.jetstream()).await,
        open(&server.jetstream()).await,
    );
    publish(&here, EVENTS, 1..=3).await;
    publish(&here, "acp.v1.events.other", [4]).await;
    let said = "jobs of \"Ann\" of the group x";
    let mut request = durable(EVENTS, said);
    request.group = Some("g of h".into());
    let mut used = there.subscribe(request.clone()).await.unwrap();
    // Neither the consumer of a group without a name nor that of another program is one.
    let mut group = all_of(EVENTS);
    group.group = Some("passing".into());
    let _passing = there.subscribe(group).await.unwrap();
    let client = async_nats::connect(server.url()).await.unwrap();
    let streams = async_nats::jetstream::new(client);
    let stream = streams.get_stream("AGENTBUS").await.unwrap();
    let theirs = async_nats::jetstream::consumer::pull::Config {
        durable_name: Some("theirs".to_owned()),
        description: Some("something".to_owned()),
        ..Default::default()
    };
    stream.create_consumer(theirs).await.unwrap();
    let told = DurableInfo {
        name: said.to_owned(),
        group: Some("g of h".to_owned()),
        pattern: EVENTS.to_owned(),
        members: None,
        unsettled: 0,
        seen: 0,
        behind: 3,
    };
    assert_eq!(the_one(&here, 3).await, told);
    assert_eq!(next(&mut used).await, 1);
    let told = the_one(&here, 2).await;
    // It may have looked past the fourth, which is not for it.
    assert_eq!(told.seen.min(3) + told.behind, 3, "{told:?}");
    // The name does not hide where its group begins.
    request.group = Some("another".into());
    let error = here.subscribe(request).await.unwrap_err();
    assert!(error.to_string().contains("another group"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_does_not_say_its_name_is_told_it_when_it_is_used() {
    let server = Server::start();
    let transport = open(&server.jetstream()).await;
    publish(&transport, EVENTS, [1]).await;
    let request = durable(EVENTS, "my jobs");
    drop(transport.subscribe(request.clone()).await.unwrap());
    let client = async_nats::connect(server.url()).await.unwrap();
    let streams = async_nats::jetstream::new(client);
    let stream = streams.get_stream("AGENTBUS").await.unwrap();
    let kept = stream.consumers().try_next().await.unwrap().unwrap();
    let mut earlier = kept.config;
    earlier.description = Some("AgentBus subscription".to_owned());
    stream.create_consumer(earlier).await.unwrap();
    assert_eq!(the_one(&transport, 1).await.name, kept.name);
    let mut used = transport.subscribe(request).await.unwrap();
    assert_eq!(the_one(&transport, 1).await.name, "my jobs");
    assert_eq!(next(&mut used).await, 1);
}
