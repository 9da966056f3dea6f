//! `cargo xtask bench transports`: what a stored message costs, beside the raw store.
//!
//! The baseline is the raw store with the same bytes in the same minute: a thread that appends rows
//! with rusqlite and syncs, or the client of a server. Disks and processors that others use change
//! from second to second, so both sides take turns and the medians are compared.
//! Arguments choose the figures whose name contains one of them.

mod kafka;
mod messages;
mod nats;
mod rabbitmq;
mod redis;
mod sqlite;

use crate::report::Report;

/// Measures the figures whose name contains one of these words, or all.
pub(crate) fn run(wanted: &[String]) {
    let wanted = wanted.to_vec();
    // In a task of its own: the outermost future of a runtime runs on a thread of its own.
    let measured = async { tokio::spawn(measure(wanted)).await.unwrap() };
    print!("{}", crate::runtime().block_on(measured));
}

async fn measure(wanted: Vec<String>) -> Report {
    let chosen = |name: &str| wanted.is_empty() || wanted.iter().any(|part| name.contains(part));
    let mut report = Report::default();
    if chosen("sqlite single") {
        sqlite::single(&mut report).await;
    }
    if chosen("sqlite group") {
        sqlite::group(&mut report).await;
    }
    if chosen("sqlite deliver") {
        sqlite::deliver(&mut report).await;
    }
    if chosen("sqlite redeliver") {
        sqlite::redeliver(&mut report).await;
    }
    if chosen("sqlite replay") {
        sqlite::replay(&mut report).await;
    }
    if chosen("nats request") {
        nats::requests(&mut report).await;
    }
    if chosen("nats one way") {
        nats::one_way(&mut report).await;
    }
    if chosen("nats events") {
        nats::events(&mut report).await;
    }
    if chosen("jetstream confirmed") {
        nats::confirmed(&mut report).await;
    }
    if chosen("rabbitmq single") {
        rabbitmq::single(&mut report).await;
    }
    if chosen("rabbitmq pipelined") {
        rabbitmq::pipelined(&mut report).await;
    }
    if chosen("redis single") {
        redis::single(&mut report).await;
    }
    if chosen("redis pipelined") {
        redis::pipelined(&mut report).await;
    }
    if chosen("redis deliver") {
        redis::deliver(&mut report).await;
    }
    if chosen("kafka batched") {
        kafka::batched(&mut report).await;
    }
    if chosen("kafka request") {
        kafka::requests(&mut report).await;
    }
    if chosen("kafka deliver") {
        kafka::deliver(&mut report).await;
    }
    report
}
