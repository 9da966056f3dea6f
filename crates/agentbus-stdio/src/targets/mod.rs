//! Pools as targets of a bus: whoever invokes or streams from `{pool}` reaches a worker, without
//! knowing that it is a process.
//!
//! Each pool is a bus of its own here, so a session of one pool means nothing in another. What a
//! worker says meanwhile becomes delta frames, its answer the final frame, its error an error
//! reply; a caller that gives up has the worker told. [`OPERATOR`] is one more target, for people
//! and programs that look after the pools.
//!
//! What may surprise: **a worker's request is seen by the caller and refused for it**, because a
//! call on the bus has no way back. A worker that must ask is reached over its own protocol.

use std::collections::BTreeMap;
use std::sync::Arc;

use agentbus::{Bus, Error};
use parking_lot::Mutex;
use serde::Serialize;

use crate::config::{Config, PoolConfig};
use crate::limits::POOL_CALLS;
use crate::{Pools, WorkerStatus};

mod call;
mod chunks;
mod figures;
mod operator;
mod refusal;

/// Target through which pools are listed, restarted, drained and read.
pub const OPERATOR: &str = "agentbus.pools";

/// The pools that a bus serves. A handle that can be cloned and shared.
#[derive(Debug, Clone)]
pub struct PoolTargets {
    pools: Arc<BTreeMap<String, Arc<Served>>>,
}

/// One pool behind its target.
#[derive(Debug)]
struct Served {
    name: String,
    /// Method of a payload that names none.
    method: Option<String>,
    config: Config,
    /// `None` while the pool is drained.
    running: Mutex<Option<Pools>>,
    /// Held while an operator changes the pool, so that two orders take turns.
    turn: tokio::sync::Mutex<()>,
}

/// What there is to know of a pool.
#[derive(Debug, Clone, Serialize)]
pub struct PoolStatus {
    /// Its name, which is its target.
    pub pool: String,
    /// `running` or `drained`.
    pub state: &'static str,
    /// Its workers; none while it is drained.
    pub workers: Vec<WorkerStatus>,
}

impl PoolTargets {
    /// Starts the pools of a configuration and serves each under its name.
    ///
    /// # Errors
    ///
    /// The bus's, for example when a name cannot be a target; no worker is left then.
    pub async fn start(bus: &Bus, config: Config) -> Result<Self, Error> {
        let mut pools = BTreeMap::new();
        for (name, config) in by_pool(config) {
            let served = Arc::new(Served::start(name.clone(), config).await);
            pools.insert(name, served);
        }
        let targets = Self {
            pools: Arc::new(pools),
        };
        match targets.serve(bus).await {
            Ok(()) => Ok(targets),
            Err(error) => {
                targets.abort().await;
                Err(error)
            }
        }
    }

    async fn serve(&self, bus: &Bus) -> Result<(), Error> {
        for (name, served) in self.pools.iter() {
            let served = Arc::clone(served);
            let handler = move |request, out| call::run(Arc::clone(&served), request, out);
            let handle = bus.handle_stream(name.as_str(), handler);
            handle.concurrency(POOL_CALLS).await?;
        }
        let targets = self.clone();
        let handler = move |request| operator::answer(targets.clone(), request);
        bus.handle(OPERATOR, handler).await?;
        Ok(())
    }

    /// Tells about every pool.
    #[must_use]
    pub fn list(&self) -> Vec<PoolStatus> {
        self.pools.values().map(|served| served.status()).collect()
    }

    /// Finishes what is under way and ends every worker.
    pub async fn shutdown(&self) {
        let ending = self.pools.values().map(|served| served.drain());
        futures_util::future::join_all(ending).await;
    }

    async fn abort(&self) {
        for served in self.pools.values() {
            let running = served.running.lock().take();
            if let Some(pools) = running {
                pools.abort().await;
            }
        }
    }

    fn find(&self, name: &str) -> Result<&Arc<Served>, Error> {
        self.pools.get(name).ok_or_else(|| {
            let known: Vec<&str> = self.pools.keys().map(String::as_str).collect();
            let known = known.join(", ");
            Error::invalid_request(format!("there is no pool `{name}`; there is {known}"))
        })
    }
}

impl Served {
    async fn start(name: String, config: Config) -> Self {
        let method = config.pools.iter().find_map(|pool| pool.method.clone());
        let pools = Pools::start(config.clone()).await;
        Self {
            name,
            method,
            config,
            running: Mutex::new(Some(pools)),
            turn: tokio::sync::Mutex::new(()),
        }
    }

    /// Returns the running pool.
    fn pools(&self) -> Result<Pools, Error> {
        self.running.lock().clone().ok_or_else(|| {
            let name = &self.name;
            Error::agent(format!(
                "the pool `{name}` is drained; `agentbus pool restart {name}` starts it again"
            ))
        })
    }

    fn status(&self) -> PoolStatus {
        let running = self.running.lock().clone();
        PoolStatus {
            pool: self.name.clone(),
            state: if running.is_some() {
                "running"
            } else {
                "drained"
            },
            workers: running.map(|pools| pools.status()).unwrap_or_default(),
        }
    }

    /// Replaces every process once it has no work, or starts a drained pool.
    async fn restart(&self) {
        let _turn = self.turn.lock().await;
        let running = self.running.lock().clone();
        match running {
            Some(pools) => drop(pools.restart(&self.name).await),
            None => {
                let pools = Pools::start(self.config.clone()).await;
                *self.running.lock() = Some(pools);
            }
        }
    }

    /// Takes no new work, finishes what is under way, and ends the workers.
    async fn drain(&self) {
        let _turn = self.turn.lock().await;
        let running = self.running.lock().take();
        if let Some(pools) = running {
            pools.shutdown().await;
        }
    }
}

/// Gives each pool a configuration of its own; entries that share a name stay together.
fn by_pool(config: Config) -> BTreeMap<String, Config> {
    let Config { pools, limits, .. } = config;
    let mut by_name: BTreeMap<String, Vec<PoolConfig>> = BTreeMap::new();
    for pool in pools {
        by_name.entry(pool.id.clone()).or_default().push(pool);
    }
    let alone = |(name, pools)| {
        let config = Config {
            pools,
            limits,
            ..Config::default()
        };
        (name, config)
    };
    by_name.into_iter().map(alone).collect()
}
