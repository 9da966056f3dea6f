//! An agent that answers word by word.
//!
//! `cargo run -p agentbus --example stream`

#![allow(
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "an example prints and is read whole"
)]

use agentbus::{Bus, Error, Request, StreamWriter};
use serde_json::{Value, json};

async fn speak(request: Request, out: StreamWriter) -> Result<(), Error> {
    let text: String = request.json()?;
    out.started(&json!({ "meta": { "agent": "speaker" } }))
        .await?;
    for word in text.split_whitespace() {
        out.delta(&json!({ "delta": word })).await?;
    }
    out.finish(&json!({ "result": { "words": text.split_whitespace().count() } }))
        .await
}

pub async fn run(transport: &str) -> Result<String, Error> {
    let bus = Bus::builder("speaker")
        .transport(transport)
        .connect()
        .await?;
    bus.handle_stream("speak", speak).await?;

    let mut frames = bus.stream("speak", "one word after the other").await?;
    let mut lines = Vec::new();
    while let Some(frame) = frames.next().await {
        let frame = frame?;
        let payload: Option<Value> = frame
            .payload
            .as_ref()
            .map(agentbus::Payload::decode)
            .transpose()?;
        lines.push(format!(
            "{} {} {}",
            frame.seq,
            frame.event_type,
            payload.unwrap_or_default()
        ));
    }
    bus.shutdown().await;
    Ok(lines.join("\n"))
}

#[allow(dead_code, reason = "the tests call `run`")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let transport = std::env::var("AGENTBUS_URL").unwrap_or_else(|_| "memory://".to_owned());
    println!("{}", run(&transport).await?);
    Ok(())
}
