//! What happens when a broker refuses, dies, comes back, or is told too much.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus_protocol::{Payload, Subject};
use agentbus_transport::{
    PublishOptions, Received, Subscribe, Transport, TransportError, dead_letter,
};
use agentbus_transport_kafka::{KafkaTransport, limits};
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use support::Broker;
use support::messages::{all_of, message, number, receive, to, within};

const REQUIRED: PublishOptions = PublishOptions {
    confirm: false,
    require_responder: true,
    idempotency_key: None,
};

async fn open(url: &str) -> Arc<dyn Transport> {
    Arc::new(KafkaTransport::connect(url).await.unwrap())
}

async fn refusal(url: &str) -> TransportError {
    within("an answer", KafkaTransport::connect(url))
        .await
        .unwrap_err()
}

fn kept(tail: &str) -> Subscribe {
    let mut request = all_of(tail);
    request.durable = Some(tail.into());
    request
}

fn agents(tail: &str) -> Subscribe {
    let mut request = all_of(tail);
    request.group = Some("agents".into());
    request
}

async fn publish(transport: &Arc<dyn Transport>, tail: &str, n: u64) {
    let sent = transport.publish(message(tail, n), PublishOptions::default());
    sent.await.unwrap();
}

#[tokio::test]
async fn a_refused_connection_is_said_in_time() {
    let begun = Instant::now();
    // Nobody listens at the first port, and none is given it by chance.
    let error = refusal("kafka://127.0.0.1:1").await;
    let said = error.to_string();
    assert!(matches!(error, TransportError::Carrier { .. }), "{said}");
    assert!(said.contains("127.0.0.1:1"), "{said}");
    assert!(said.contains("is a Kafka broker running there?"), "{said}");
    assert!(error.is_retryable());
    assert!(begun.elapsed() < limits::CONNECT_TIMEOUT * 6);
}

#[tokio::test]
async fn a_port_that_speaks_something_else_is_no_broker() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let web = tokio::spawn(async move {
        loop {
            let (mut socket, _) = listener.accept().await.unwrap();
            let answer = b"HTTP/1.1 400 Bad Request\r\n\r\n";
            // Whoever hung up has seen enough.
            let _ = tokio::io::AsyncWriteExt::write_all(&mut socket, answer).await;
        }
    });
    let error = refusal(&format!("kafka://127.0.0.1:{port}")).await;
    assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
    web.abort();
}

#[tokio::test]
async fn buses_of_different_namespaces_do_not_meet() {
    let (one, two) = (open(&support::url()).await, open(&support::url()).await);
    let mut heard = one.subscribe(all_of("*")).await.unwrap();
    publish(&two, "apart", 1).await;
    publish(&one, "apart", 2).await;
    assert_eq!(number(&receive(&mut heard).await), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_publish_over_a_dying_broker_is_taken_once_and_in_order() {
    let mut broker = Broker::start();
    let transport = open(&broker.url()).await;
    let mut all = transport.subscribe(kept("sure")).await.unwrap();
    let mut heard = transport.subscribe(all_of("sure")).await.unwrap();
    for round in 0..2 {
        let sent: Vec<_> = (0..50)
            .map(|n| transport.publish(message("sure", round * 50 + n), PublishOptions::default()))
            .collect();
        broker.kill();
        broker.restart();
        // The broker came back within the time for which a publish is tried.
        for sent in sent {
            within("an outcome", sent).await.unwrap();
        }
    }
    for n in 0..100 {
        let delivery = receive(&mut all).await;
        assert_eq!((number(&delivery), delivery.attempt()), (n, 1));
        delivery.ack().await.unwrap();
        assert_eq!(number(&receive(&mut heard).await), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ack_over_a_dying_broker_is_heard() {
    let mut broker = Broker::start();
    let transport = open(&broker.url()).await;
    let mut all = transport.subscribe(kept("settled")).await.unwrap();
    for n in 0..20 {
        publish(&transport, "settled", n).await;
    }
    let mut acks = Vec::new();
    for _ in 0..20 {
        acks.push(receive(&mut all).await.ack());
    }
    broker.kill();
    broker.restart();
    for ack in acks {
        within("an ack", ack).await.unwrap();
    }
    drop(all);
    let mut again = within("the name", transport.subscribe(kept("settled")))
        .await
        .unwrap();
    publish(&transport, "settled", 99).await;
    assert_eq!(number(&receive(&mut again).await), 99);
}

#[test]
fn a_bus_whose_broker_is_gone_ends_all_the_same() {
    ends(async {
        let mut broker = Broker::start();
        let transport = open(&broker.url()).await;
        let mut all = transport.subscribe(kept("over")).await.unwrap();
        publish(&transport, "over", 1).await;
        receive(&mut all).await.ack().await.unwrap();
        // It leaves its name while the broker is still there to be asked, and then is not.
        drop(all);
        broker.kill();
        within("the close", transport.close(Duration::from_secs(1))).await;
    });
}

#[test]
fn a_program_that_forgets_to_close_ends_without_its_broker() {
    ends(async {
        let mut broker = Broker::start();
        let transport = open(&broker.url()).await;
        let mut all = transport.subscribe(kept("left")).await.unwrap();
        for n in 0..20 {
            publish(&transport, "left", n).await;
            receive(&mut all).await.ack().await.unwrap();
        }
        broker.kill();
        // By now it has tried to commit what it can no longer commit.
        tokio::time::sleep(limits::COMMIT_INTERVAL * 2).await;
    });
}

/// Fails unless a program's runtime ends, which waits for whatever still blocks a thread. The
/// library alone would ask for the broker for 45 seconds, or for ever.
fn ends(program: impl Future<Output = ()> + Send + 'static) {
    let (sender, end) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        // As a task, so that the threads of the runtime are those that end it.
        runtime.block_on(async { tokio::spawn(program).await.unwrap() });
        sender.send(()).unwrap();
        drop(runtime);
        sender.send(()).unwrap();
    });
    end.recv_timeout(Duration::from_secs(600)).unwrap();
    end.recv_timeout(Duration::from_secs(40)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_goes_on_over_restarts_by_itself() {
    const LAST: u64 = 1000;
    let mut broker = Broker::start();
    let (sender, receiver) = (open(&broker.url()).await, open(&broker.url()).await);
    let mut all = receiver.subscribe(kept("load")).await.unwrap();
    let mut heard = receiver.subscribe(all_of("load")).await.unwrap();
    let accepted = Arc::new(AtomicU64::new(0));
    let publisher = {
        let accepted = Arc::clone(&accepted);
        tokio::spawn(async move {
            for n in 0..=LAST {
                publish(&sender, "load", n).await;
                accepted.store(n, Ordering::Release);
            }
        })
    };
    let consumer = tokio::spawn(async move {
        let mut seen = BTreeMap::<u64, Vec<u32>>::new();
        while seen.len() <= usize::try_from(LAST).unwrap() {
            let delivery = receive(&mut all).await;
            seen.entry(number(&delivery))
                .or_default()
                .push(delivery.attempt());
            delivery.ack().await.unwrap();
        }
        seen
    });
    for restart in 1..=2 {
        within("more load", async {
            while accepted.load(Ordering::Acquire) < restart * 300 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        broker.kill();
        broker.restart();
    }
    within("the publisher's end", publisher).await.unwrap();
    let seen = within("the consumer's end", consumer).await.unwrap();
    for (n, attempts) in seen {
        assert!(attempts.is_sorted_by(|a, b| a < b), "{n}: {attempts:?}");
    }
    // Whoever only listens misses nothing either, because it reads on where it was.
    for n in 0..=LAST {
        assert_eq!(number(&receive(&mut heard).await), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_and_its_stream_go_on_over_a_restart() {
    let mut broker = Broker::start();
    let (agent, caller) = (open(&broker.url()).await, open(&broker.url()).await);
    let mut served = agent.subscribe(agents("ask")).await.unwrap();
    let mut inbox = caller.open_inbox().unwrap();
    let mut asked = (*message("ask", 7)).clone();
    asked.envelope.reply_to = inbox.subject().as_str().into();
    let sent = caller.publish(Arc::new(asked), REQUIRED);
    within("the request", sent).await.unwrap();
    let delivery = receive(&mut served).await;
    let reply_to = Subject::from_text(&delivery.envelope().reply_to).unwrap();
    let streaming = tokio::spawn(async move {
        for n in 0..40 {
            let frame = agent.publish(to(reply_to.clone(), n), PublishOptions::default());
            frame.await.unwrap();
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        delivery.ack().await.unwrap();
        agent
    });
    for n in 0..40 {
        if n == 10 {
            broker.kill();
            broker.restart();
        }
        match within("a frame", inbox.receive()).await {
            Some(Received::Live(frame)) => assert_eq!(number(&frame), n),
            other => panic!("expected frame {n}, got {other:?}"),
        }
    }
    drop(within("the end of the stream", streaming).await.unwrap());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_listener_loses_the_oldest_and_is_told() {
    let transport = open(&support::url()).await;
    let mut small = all_of("slow");
    small.capacity = 4;
    let mut slow = transport.subscribe(small).await.unwrap();
    for n in 0..100 {
        publish(&transport, "slow", n).await;
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
    let url = support::url();
    let transport = open(&url).await;
    let graves = agentbus_protocol::Pattern::parse("acp.v1.dlq.>").unwrap();
    let mut letters = transport.subscribe(Subscribe::new(graves)).await.unwrap();
    let mut poisoned = kept("poison");
    poisoned.max_attempts = Some(3);
    let mut all = transport.subscribe(poisoned).await.unwrap();
    let mut heard = transport.subscribe(all_of("poison")).await.unwrap();
    // A peer that writes garbage into the topics harms nobody either.
    garbage(&url).await;
    for n in [13, 14] {
        publish(&transport, "poison", n).await;
    }
    let mut attempts = Vec::new();
    let mut well = false;
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
    assert_eq!(metadata.get::<u32>(dead_letter::ATTEMPTS), Some(3));
    for n in [13, 14] {
        assert_eq!(number(&receive(&mut heard).await), n);
    }
}

/// Writes what nobody can read into each topic of a bus.
async fn garbage(url: &str) {
    let (servers, namespace) = url.split_once("?namespace=").unwrap();
    let producer: FutureProducer = ClientConfig::new()
        .set("bootstrap.servers", servers.trim_start_matches("kafka://"))
        .create()
        .unwrap();
    for topic in ["events", "calls", "replies", "members", "work"] {
        let topic = format!("{namespace}.{topic}");
        for key in ["acp.v1.events.poison", "poison", "member x/1", "durable y"] {
            let record = FutureRecord::to(&topic).key(key).payload("{\"garbage");
            producer.send(record, Duration::from_secs(5)).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_is_refused_and_the_next_goes_on() {
    let transport = open(&support::url()).await;
    let mut heard = transport.subscribe(all_of("large")).await.unwrap();
    let mut large = (*message("large", 1)).clone();
    large.envelope.payload = Some(Payload::text(&"x".repeat(6 << 20)));
    let sent = transport.publish(Arc::new(large), PublishOptions::default());
    let error = sent.await.unwrap_err();
    assert!(matches!(error, TransportError::TooLarge { .. }), "{error}");
    publish(&transport, "large", 2).await;
    assert_eq!(number(&receive(&mut heard).await), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_streams_to_a_closed_inbox_elsewhere_hears_of_it() {
    let url = support::url();
    let (agent, caller) = (open(&url).await, open(&url).await);
    let inbox = caller.open_inbox().unwrap();
    let reply_to = inbox.subject().clone();
    drop(inbox);
    within("the news", async {
        loop {
            let frame = to(reply_to.clone(), 1);
            match agent.publish(frame, PublishOptions::default()).await {
                Ok(_) => tokio::task::yield_now().await,
                Err(error) => break assert!(matches!(error, TransportError::NoResponder { .. })),
            }
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_to_nobody_is_known_when_the_agent_said_goodbye() {
    let url = support::url();
    let (agent, caller) = (open(&url).await, open(&url).await);
    let mut served = agent.subscribe(agents("bye")).await.unwrap();
    let sent = caller.publish(message("bye", 1), REQUIRED);
    within("the request", sent).await.unwrap();
    receive(&mut served).await.ack().await.unwrap();
    agent.close(Duration::ZERO).await;
    // The caller reads of it a moment later; a request that it sent before is lost, and it is told.
    let mut inbox = caller.open_inbox().unwrap();
    let mut asked = (*message("bye", 2)).clone();
    asked.envelope.reply_to = inbox.subject().as_str().into();
    match caller.publish(Arc::new(asked), REQUIRED).await {
        Err(TransportError::NoResponder { .. }) => {}
        Err(error) => panic!("{error}"),
        Ok(_) => {
            let told = within("the news", inbox.receive()).await;
            assert!(matches!(told, Some(Received::Lost)), "{told:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_in_two_programs_share_a_durable_name() {
    let url = support::url();
    let (one, two) = (open(&url).await, open(&url).await);
    let mut shared = kept("two");
    shared.group = Some("g".into());
    shared.prefetch = 1;
    let mut first = one.subscribe(shared.clone()).await.unwrap();
    let mut second = two.subscribe(shared).await.unwrap();
    for n in 0..20 {
        publish(&one, "two", n).await;
    }
    let mut seen = Vec::new();
    for _ in 0..10 {
        // Both hold one at the same time.
        let held = [receive(&mut first).await, receive(&mut second).await];
        for delivery in held {
            seen.push(number(&delivery));
            delivery.ack().await.unwrap();
        }
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_durable_name_without_a_group_is_refused_to_another_program() {
    let url = support::url();
    let (one, two) = (open(&url).await, open(&url).await);
    let held = one.subscribe(kept("alone")).await.unwrap();
    let error = within("a refusal", two.subscribe(kept("alone")))
        .await
        .unwrap_err();
    assert!(matches!(error, TransportError::Durable { .. }), "{error}");
    drop(held);
    drop(
        within("the place", two.subscribe(kept("alone")))
            .await
            .unwrap(),
    );
}
