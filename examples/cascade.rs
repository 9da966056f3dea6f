//! A gateway asks a planner, which asks two workers; one trace runs through all of them.
//!
//! `cargo run -p agentbus --example cascade`

#![allow(
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "an example prints and is read whole"
)]

use agentbus::middleware::Trace;
use agentbus::protocol::TraceParent;
use agentbus::{Bus, Error, Request, mint};
use serde_json::{Value, json};

/// What every agent here reports: who it is and which trace it works in.
fn seen(request: &Request, agent: &str) -> Value {
    json!({ "agent": agent, "trace_id": request.envelope().context.trace_id.as_str() })
}

async fn plan(request: Request) -> Result<Value, Error> {
    let bus = request.bus();
    // Nested calls inherit session and trace without a word.
    let (research, write) = tokio::try_join!(
        bus.invoke("research", &1).send(),
        bus.invoke("write", &1).send()
    )?;
    let mut steps = vec![seen(&request, "planner")];
    for reply in [research, write] {
        steps.extend(
            reply
                .payload
                .map(|payload| payload.decode::<Value>())
                .transpose()?,
        );
    }
    Ok(json!(steps))
}

pub async fn run(transport: &str) -> Result<String, Error> {
    let bus = Bus::builder("gateway")
        .transport(transport)
        .layer(Trace)
        .connect()
        .await?;
    bus.handle("plan", plan).await?;
    for worker in ["research", "write"] {
        bus.handle(worker, move |request: Request| async move {
            Ok(seen(&request, worker))
        })
        .await?;
    }
    let trace: TraceParent = mint::trace();
    let reply = bus
        .invoke("plan", "a trip")
        .traceparent(trace.to_string())
        .session("s1")
        .await?;
    let steps: Vec<Value> = reply
        .payload
        .map(|p| p.decode())
        .transpose()?
        .unwrap_or_default();
    let agents: Vec<_> = steps
        .iter()
        .filter_map(|step| step["agent"].as_str())
        .collect();
    let one = steps
        .iter()
        .all(|step| step["trace_id"] == trace.trace_id().as_str());
    bus.shutdown().await;
    Ok(format!("{} in one trace: {one}", agents.join(", ")))
}

#[allow(dead_code, reason = "the tests call `run`")]
#[tokio::main]
async fn main() -> Result<(), Error> {
    let transport = std::env::var("AGENTBUS_URL").unwrap_or_else(|_| "memory://".to_owned());
    println!("{}", run(&transport).await?);
    Ok(())
}
