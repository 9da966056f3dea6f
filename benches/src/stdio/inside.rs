//! Calls from tokio tasks of the process that has the pool.

use std::time::Instant;

use agentbus_stdio::{Call, Config, Pools};
use tokio::runtime::{Builder, Runtime};

use super::subject::program;
use crate::report::percentile;

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

async fn pools() -> Pools {
    let config = serde_json::json!({
        "pools": [{"id": "p", "command": program("stdio-worker"), "instances": 1}],
    });
    Pools::start(Config::parse(config.to_string().as_bytes()).unwrap()).await
}

/// A request of about 100 bytes.
async fn call(pools: &Pools) {
    let params = r#"{"text":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}"#;
    let call = Call::new("m").pool("p").params(params);
    let answer = pools.call(&call).unwrap().finish().await.unwrap();
    assert!(answer.result().is_some());
}

/// The median of so many calls, one at a time, in microseconds.
pub(crate) fn latency(rounds: u64) -> f64 {
    runtime().block_on(async {
        let pools = pools().await;
        let caller = pools.clone();
        // A task, as the outermost future of a runtime costs another system call to wake.
        let calling = tokio::spawn(async move {
            let mut spans = Vec::new();
            for _ in 0..rounds {
                let begun = Instant::now();
                call(&caller).await;
                spans.push(begun.elapsed());
            }
            spans
        });
        let mut spans = calling.await.unwrap();
        pools.abort().await;
        percentile(&mut spans, 50)
    })
}

/// Calls a second of so many tasks.
pub(crate) fn rate(messages: u64, tasks: u64) -> f64 {
    runtime().block_on(async {
        let pools = pools().await;
        let begun = Instant::now();
        let running: Vec<_> = (0..tasks)
            .map(|_| {
                let pools = pools.clone();
                tokio::spawn(async move {
                    for _ in 0..messages / tasks {
                        call(&pools).await;
                    }
                })
            })
            .collect();
        for task in running {
            task.await.unwrap();
        }
        let rate = messages as f64 / begun.elapsed().as_secs_f64();
        pools.abort().await;
        rate
    })
}
