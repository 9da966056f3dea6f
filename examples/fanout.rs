//! Three workers share the events of a topic; an observer sees all of them.
//!
//! `cargo run -p agentbus --example fanout`

#![allow(
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "an example prints and is read whole"
)]

use std::collections::BTreeMap;

use agentbus::{Bus, Error, Request};
use serde_json::json;
use tokio::sync::mpsc;

const JOBS: u64 = 30;

pub async fn run(transport: &str) -> Result<String, Error> {
    let bus = Bus::builder("fanout")
        .transport(transport)
        .connect()
        .await?;
    let (done, mut finished) = mpsc::unbounded_channel();
    for worker in ["ann", "bob", "cleo"] {
        let done = done.clone();
        let work = move |request: Request| {
            let done = done.clone();
            async move {
                let job: u64 = request.json()?;
                tokio::task::yield_now().await;
                // The receiver lives until all jobs are done.
                let _ = done.send((worker, job));
                Ok(())
            }
        };
        // One group: each job goes to one of them.
        bus.on("job.created", work).queue("workers").await?;
    }
    // No group: the observer gets every job.
    let mut observer = bus.subscribe("job.*").await?;
    for job in 0..JOBS {
        bus.publish("job.created", &json!(job)).await?;
    }
    let mut observed = 0;
    while observed < JOBS {
        let Some(delivery) = observer.next().await else {
            break;
        };
        delivery.ack().await?;
        observed += 1;
    }
    let mut shares = BTreeMap::new();
    for _ in 0..JOBS {
        let Some((worker, _)) = finished.recv().await else {
            break;
        };
        *shares.entry(worker).or_insert(0) += 1;
    }
    bus.shutdown().await;
    Ok(format!("{observed} jobs seen, done by {shares:?}"))
}

#[allow(dead_code, reason = "the tests call `run`")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let transport = std::env::var("AGENTBUS_URL").unwrap_or_else(|_| "memory://".to_owned());
    println!("{}", run(&transport).await?);
    Ok(())
}
