//! `agentbus pub`.

use agentbus::ErrorCode;
use serde_json::json;

use super::client::{Client, payload};
use crate::args::Publish;
use crate::failure::{Exit, Failure};

pub(crate) async fn publish(client: &Client, args: Publish) -> Result<(), Failure> {
    let payload = payload(args.payload.as_deref())?;
    let bus = client.connect(&args.space).await?;
    let mut event = bus.publish_payload(args.event_type.as_str(), payload);
    if let Some(priority) = args.priority {
        event = event.priority(priority);
    }
    if let Some(ttl) = args.ttl {
        event = event.ttl(ttl);
    }
    if let Some(key) = args.key {
        event = event.idempotency_key(key);
    }
    if args.confirm {
        event = event.confirm();
    }
    let receipt = event.await.map_err(|error| match error.code() {
        // To a publisher the subject says nothing, and the event is nobody's target.
        ErrorCode::NoHandler => {
            let message = format!(
                "nobody subscribes to `{}`, so nobody can confirm it; `agentbus sub{} {}` would",
                args.event_type,
                args.space.flags(),
                args.event_type
            );
            Failure {
                code: Some(ErrorCode::NoHandler),
                ..Failure::new(Exit::NoHandler, message)
            }
        }
        _ => error.into(),
    })?;
    bus.shutdown().await;
    if client.output.is_json() {
        let durability = receipt.durability.to_string();
        let line = json!({
            "receivers": receipt.receivers,
            "durability": durability,
            "sequence": receipt.sequence,
            "duplicate": receipt.duplicate,
        });
        return client.output.line(&line.to_string());
    }
    // Not every carrier knows how many listen, and none is not the same as nobody.
    let reached = match receipt.receivers {
        Some(1) => " to 1 subscriber".to_owned(),
        Some(number) => format!(" to {number} subscribers"),
        None => String::new(),
    };
    let stored = match (receipt.sequence, receipt.duplicate) {
        (Some(number), false) => format!(", kept as number {number}"),
        (Some(number), true) => format!(", which was number {number} already"),
        (None, _) => String::new(),
    };
    let type_ = &args.event_type;
    client
        .output
        .note(&format!("published {type_}{reached}{stored}"));
    Ok(())
}
