//! The target for those who look after the pools.

use agentbus::{Error, Json, Request};
use serde::Deserialize;
use serde_json::{Value, json};

use super::PoolTargets;

/// What can be asked for, as `{"do":"restart","pool":"reviewer"}`.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "lowercase", deny_unknown_fields)]
enum Order {
    /// Tell about all pools.
    List,
    /// Replace the processes of a pool, or start it again.
    Restart { pool: String },
    /// Finish what is under way and end the workers.
    Drain { pool: String },
    /// Return what the workers last wrote to standard error.
    Logs { pool: String },
}

pub(super) async fn answer(targets: PoolTargets, request: Request) -> Result<Json<Value>, Error> {
    match request.json()? {
        Order::List => Ok(Json(json!({ "pools": targets.list() }))),
        Order::Restart { pool } => {
            targets.find(&pool)?.restart().await;
            Ok(Json(json!({ "restarted": pool })))
        }
        Order::Drain { pool } => {
            targets.find(&pool)?.drain().await;
            Ok(Json(json!({ "drained": pool })))
        }
        Order::Logs { pool } => {
            let lines = targets.find(&pool)?.pools()?.logs(&pool);
            let lines = lines
                .into_iter()
                .map(|(instance, line)| json!({ "instance": instance, "line": line }));
            Ok(Json(json!({ "lines": lines.collect::<Vec<Value>>() })))
        }
    }
}
