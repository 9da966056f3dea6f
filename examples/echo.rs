//! An agent that answers with what it was asked.
//!
//! `cargo run -p agentbus --example echo`, alone or, with `AGENTBUS_URL` set, on a running bus.

#![allow(
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "an example prints and is read whole"
)]

use agentbus::{Bus, Error, Request};
use serde_json::json;

pub async fn run(transport: &str) -> Result<String, Error> {
    let bus = Bus::builder("echo-agent")
        .transport(transport)
        .connect()
        .await?;
    bus.handle("echo", |request: Request| async move {
        Ok(request.payload().cloned())
    })
    .await?;

    let reply = bus.invoke("echo", &json!({ "msg": "hello" })).await?;
    let said = reply
        .payload
        .map(|payload| payload.as_str().to_owned())
        .unwrap_or_default();
    bus.shutdown().await;
    Ok(said)
}

#[allow(dead_code, reason = "the tests call `run`")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let transport = std::env::var("AGENTBUS_URL").unwrap_or_else(|_| "memory://".to_owned());
    println!("{}", run(&transport).await?);
    Ok(())
}
