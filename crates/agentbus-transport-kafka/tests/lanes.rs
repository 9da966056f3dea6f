//! What a client reads: the lanes while it listens, and nothing of them while it does not.

#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use agentbus_protocol::Payload;
use agentbus_transport::remote::amb::{self, Extra};
use agentbus_transport::{Message, PublishOptions, Received, Subscribe, Transport, TransportError};
use agentbus_transport_kafka::{KafkaTransport, limits};
use futures_util::future::join_all;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers as _, Message as _, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use support::Broker;
use support::messages::{all_of, message, number, receive, to, within};

/// Messages of a batch.
const MESSAGES: u64 = 100;

/// Bytes of each.
const PAYLOAD: usize = 20_000;

/// More bytes than a client hears beside the batch, and fewer than of the batch.
const LITTLE: u64 = 200_000;

async fn open(url: &str) -> Arc<dyn Transport> {
    Arc::new(KafkaTransport::connect(url).await.unwrap())
}

async fn publish(transport: &Arc<dyn Transport>, tail: &str, n: u64) {
    let sent = transport.publish(message(tail, n), PublishOptions::default());
    sent.await.unwrap();
}

/// Passes connections on to a broker, and counts what comes back.
struct Wire {
    port: u16,
    heard: Arc<AtomicU64>,
    _broker: Broker,
}

impl Wire {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let broker = tokio::task::spawn_blocking(move || Broker::start_behind(port));
        let broker = broker.await.unwrap();
        let (heard, behind) = (Arc::new(AtomicU64::new(0)), broker.port());
        let counted = Arc::clone(&heard);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.unwrap();
                tokio::spawn(pass_on(client, behind, Arc::clone(&counted)));
            }
        });
        Self {
            port,
            heard,
            _broker: broker,
        }
    }

    fn url(&self) -> String {
        format!("kafka://127.0.0.1:{}", self.port)
    }

    /// Bytes that came back while a batch was published.
    async fn heard_of(&self, transport: &Arc<dyn Transport>) -> u64 {
        let before = self.heard.load(Ordering::Relaxed);
        let mut large = (*message("wire", 1)).clone();
        large.envelope.payload = Some(Payload::text(&"x".repeat(PAYLOAD)));
        let large = Arc::new(large);
        let send = |_| transport.publish(Arc::clone(&large), PublishOptions::default());
        for sent in join_all((0..MESSAGES).map(send)).await {
            sent.unwrap();
        }
        // With an answer comes what the broker has of everything else that was asked for with it;
        // a question may have been on its way before the batch, and a second is asked for all.
        let mut inbox = transport.open_inbox().unwrap();
        for n in 0..3 {
            let last = to(inbox.subject().clone(), n);
            let sent = transport.publish(last, PublishOptions::default());
            sent.await.unwrap();
            within("the last word", inbox.receive()).await.unwrap();
        }
        self.heard.load(Ordering::Relaxed) - before
    }
}

async fn pass_on(mut client: TcpStream, behind: u16, heard: Arc<AtomicU64>) {
    // Whoever tries before the broker is there tries again.
    let Ok(mut broker) = TcpStream::connect(("127.0.0.1", behind)).await else {
        return;
    };
    let (mut asks, mut hears) = client.split();
    let (mut answers, mut takes) = broker.split();
    let there = tokio::io::copy(&mut asks, &mut takes);
    let back = async {
        let mut chunk = vec![0; 1 << 16];
        while let Ok(count @ 1..) = answers.read(&mut chunk).await {
            heard.fetch_add(count as u64, Ordering::Relaxed);
            if hears.write_all(&chunk[..count]).await.is_err() {
                break;
            }
        }
    };
    // Whichever end hangs up first ends both ways.
    tokio::select! {
        _ = there => {}
        () = back => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_listens_is_sent_what_is_published() {
    let wire = Wire::start().await;
    let transport = open(&wire.url()).await;
    assert!(wire.heard_of(&transport).await < LITTLE);
    for _ in 0..3 {
        let mut heard = transport.subscribe(all_of("wire")).await.unwrap();
        let other = transport.subscribe(all_of("else")).await.unwrap();
        assert!(wire.heard_of(&transport).await > LITTLE);
        for _ in 0..MESSAGES {
            receive(&mut heard).await;
        }
        drop(heard);
        // There is still one that listens, if to nothing of this.
        assert!(wire.heard_of(&transport).await > LITTLE);
        drop(other);
        within("silence", async {
            while wire.heard_of(&transport).await > LITTLE {}
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_by_who_begins_to_listen() {
    let url = support::url();
    let (listener, elsewhere) = (open(&url).await, open(&url).await);
    for n in 0..100 {
        // The last of the round before may be on its way out, or gone.
        let mut heard = listener.subscribe(all_of("begun")).await.unwrap();
        publish(&elsewhere, "begun", 2 * n).await;
        publish(&listener, "begun", 2 * n + 1).await;
        assert_eq!(number(&receive(&mut heard).await), 2 * n);
        assert_eq!(number(&receive(&mut heard).await), 2 * n + 1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_missed_by_many_who_begin_and_end_at_once() {
    let url = support::url();
    let (listener, elsewhere) = (open(&url).await, open(&url).await);
    let rounds = (0..4).map(|task| {
        let (listener, elsewhere) = (Arc::clone(&listener), Arc::clone(&elsewhere));
        tokio::spawn(async move {
            let tail = format!("many-{task}");
            for n in 0..50 {
                let mut request = all_of(&tail);
                if n % 5 == 4 {
                    // One of its own: what is dealt to a member that has just left is lost.
                    request.group = Some(format!("agents-{n}").as_str().into());
                }
                let mut heard = listener.subscribe(request).await.unwrap();
                publish(&elsewhere, &tail, n).await;
                assert_eq!(number(&receive(&mut heard).await), n);
            }
        })
    });
    for round in join_all(rounds).await {
        round.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_gives_up_before_it_listens_leaves_the_others_alone() {
    let transport = open(&support::url()).await;
    for n in 0..50 {
        let mut given_up = Box::pin(transport.subscribe(all_of("given-up")));
        // By now it has asked; where the lanes were open still, it may have begun as well.
        let begun = futures_util::poll!(&mut given_up);
        tokio::task::yield_now().await;
        let asked = transport.subscribe(all_of("patient"));
        drop((given_up, begun));
        let mut heard = within("a subscription", asked).await.unwrap();
        publish(&transport, "patient", n).await;
        assert_eq!(number(&receive(&mut heard).await), n);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_one_hands_out_what_was_published_before_it_stopped() {
    let transport = open(&support::url()).await;
    for round in 0..10 {
        let mut heard = transport.subscribe(all_of("last")).await.unwrap();
        let send = |n| transport.publish(message("last", n), PublishOptions::default());
        for sent in join_all((0..200).map(send)).await {
            sent.unwrap();
        }
        heard.stop();
        for n in 0..200 {
            assert_eq!(number(&receive(&mut heard).await), n, "in round {round}");
        }
        assert!(within("the end", heard.receive()).await.is_none());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asked_a_member_that_has_left_is_told_though_nobody_listens() {
    let url = support::url();
    let (agent, caller) = (open(&url).await, open(&url).await);
    let mut served = agent.subscribe(agents("left")).await.unwrap();
    let mut inbox = caller.open_inbox().unwrap();
    let mut asked = (*message("left", 1)).clone();
    asked.envelope.reply_to = inbox.subject().as_str().into();
    // A publisher that has not read of the member yet deals to nobody; one that needs it reads on.
    let needed = PublishOptions {
        require_responder: true,
        ..PublishOptions::default()
    };
    let sent = caller.publish(Arc::new(asked.clone()), needed);
    sent.await.unwrap();
    drop(receive(&mut served).await);
    assert!(matches!(
        within("the news", inbox.receive()).await,
        Some(Received::Lost)
    ));
    drop(served);
    // Somebody who has not read that it left deals to it all the same.
    let servers = url.split_once("?namespace=").unwrap();
    let mut inbox = caller.open_inbox().unwrap();
    asked.envelope.reply_to = inbox.subject().as_str().into();
    deal_again(servers, &asked).await;
    assert!(matches!(
        within("the news", inbox.receive()).await,
        Some(Received::Lost)
    ));
}

/// Writes a request as it would be written to whom the first on the topic was dealt.
async fn deal_again((servers, namespace): (&str, &str), request: &Message) {
    let servers = servers.trim_start_matches("kafka://");
    let topic = format!("{namespace}.calls");
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", servers)
        .set("group.id", "t");
    let dealt = tokio::task::spawn_blocking({
        let (config, topic) = (config.clone(), topic.clone());
        move || dealt_first(&config, &topic)
    });
    let producer: FutureProducer = config.create().unwrap();
    let data = amb::encode(request, &Extra::default());
    let record = FutureRecord::to(&topic)
        .key(request.subject.as_str())
        .payload(&data)
        .headers(dealt.await.unwrap());
    producer.send(record, Duration::from_secs(5)).await.unwrap();
}

/// The headers of the first record of a topic.
fn dealt_first(config: &ClientConfig, topic: &str) -> OwnedHeaders {
    let reader: BaseConsumer = config.create().unwrap();
    let mut first = TopicPartitionList::new();
    first
        .add_partition_offset(topic, 0, Offset::Offset(0))
        .unwrap();
    reader.assign(&first).unwrap();
    let record = reader.poll(Duration::from_secs(30)).unwrap().unwrap();
    let headers = record.headers().unwrap();
    assert!(headers.count() > 1, "it was dealt to nobody");
    headers.detach()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_begins_to_listen_while_the_broker_is_away_waits_for_it_and_not_for_ever() {
    let mut broker = Broker::start();
    let transport = open(&broker.url()).await;
    broker.kill();
    let waiting = {
        let transport = Arc::clone(&transport);
        tokio::spawn(async move { transport.subscribe(all_of("away")).await })
    };
    broker.restart();
    let mut heard = within("a subscription", waiting).await.unwrap().unwrap();
    publish(&transport, "away", 1).await;
    assert_eq!(number(&receive(&mut heard).await), 1);
    drop(heard);
    broker.kill();
    let begun = Instant::now();
    let refused = |_| transport.subscribe(all_of("away"));
    for refused in within("refusals", join_all((0..3).map(refused))).await {
        let error = refused.unwrap_err();
        assert!(matches!(error, TransportError::Carrier { .. }), "{error}");
        assert!(error.is_retryable());
    }
    assert!(begun.elapsed() < limits::READY_TIMEOUT + limits::RESPONSE_TIMEOUT * 6);
    broker.restart();
    let mut heard = within("a subscription", transport.subscribe(all_of("away")))
        .await
        .unwrap();
    publish(&transport, "away", 2).await;
    assert_eq!(number(&receive(&mut heard).await), 2);
}

fn agents(tail: &str) -> Subscribe {
    let mut request = all_of(tail);
    request.group = Some("agents".into());
    request
}
