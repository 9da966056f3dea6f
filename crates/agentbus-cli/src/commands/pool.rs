//! `agentbus pool`.

use agentbus::{Error, ErrorCode};
use agentbus_stdio::targets::OPERATOR;
use serde_json::{Value, json};

use super::client::Client;
use crate::args::{Pool, PoolArgs};
use crate::failure::{Exit, Failure};
use crate::output::Output;
use crate::plain;

const NO_POOLS: &str = "this bus has no pools; add [[pools]] to its configuration";

pub(crate) async fn pool(client: &Client, args: PoolArgs) -> Result<(), Failure> {
    let PoolArgs { space, order } = args;
    let bus = client.connect(&space).await?;
    let asked = match &order {
        Pool::List => json!({ "do": "list" }),
        Pool::Restart { pool } => json!({ "do": "restart", "pool": pool }),
        Pool::Drain { pool } => json!({ "do": "drain", "pool": pool }),
        Pool::Logs { pool } => json!({ "do": "logs", "pool": pool }),
    };
    // A drain takes as long as the work that is under way.
    let reply = bus.invoke(OPERATOR, &asked).no_timeout().await;
    bus.shutdown().await;
    let reply = match (&order, reply) {
        (Pool::List, Err(Error::NoHandler { .. })) => return none(&client.output),
        (_, reply) => reply.map_err(explain)?,
    };
    let Some(payload) = &reply.payload else {
        return Err(Failure::unexpected(
            "the bus answered without saying anything",
        ));
    };
    if client.output.is_json() {
        return client.output.line(payload.as_str());
    }
    let answer = payload.decode::<Value>().map_err(Error::from)?;
    print(&order, &answer, &client.output)
}

/// Prints a list without pools: nobody looks after them where there are none.
fn none(output: &Output) -> Result<(), Failure> {
    if output.is_json() {
        return output.line(&json!({ "pools": [] }).to_string());
    }
    output.note(NO_POOLS);
    Ok(())
}

fn explain(error: Error) -> Failure {
    match error {
        Error::NoHandler { .. } => Failure::new(Exit::NoHandler, NO_POOLS),
        // The bus itself answers here, and what it calls invalid is what was typed.
        Error::Remote(said) if said.code == ErrorCode::InvalidRequest => {
            Failure::usage(said.message)
        }
        error => error.into(),
    }
}

fn print(order: &Pool, answer: &Value, output: &Output) -> Result<(), Failure> {
    let list = |name: &str| answer[name].as_array().cloned().unwrap_or_default();
    match order {
        Pool::List => list("pools")
            .iter()
            .try_for_each(|pool| print_pool(pool, output)),
        Pool::Logs { .. } => list("lines").iter().try_for_each(|line| {
            let text = plain::body(line["line"].as_str().unwrap_or_default());
            output.line(&format!("{}: {text}", line["instance"]))
        }),
        Pool::Restart { pool } => output.line(&format!(
            "{pool}: restarting, each worker once it has no work"
        )),
        Pool::Drain { pool } => output.line(&format!("{pool}: drained")),
    }
}

/// Prints a pool and, below it, its workers.
fn print_pool(pool: &Value, output: &Output) -> Result<(), Failure> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    output.line(&format!(
        "{}: {}",
        text(&pool["pool"]),
        text(&pool["state"])
    ))?;
    for worker in pool["workers"].as_array().into_iter().flatten() {
        let pid = worker["pid"]
            .as_i64()
            .map_or("no process".to_owned(), |pid| format!("process {pid}"));
        output.line(&format!(
            "  {}  {}, {pid}, epoch {}, {} in flight, {} answered, {} bytes waiting",
            worker["instance"],
            text(&worker["state"]),
            worker["epoch"],
            worker["in_flight"],
            worker["messages_out"],
            worker["queued_bytes"],
        ))?;
    }
    Ok(())
}
