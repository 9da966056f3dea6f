//! The store in PostgreSQL keeps the contract, and several nodes share it.
#![cfg(feature = "postgres")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

#[path = "support/postgres.rs"]
mod server;

#[path = "support/old.rs"]
mod old;

#[path = "postgres/importing.rs"]
mod importing;

#[path = "postgres/killed.rs"]
mod killed;

#[path = "postgres/nodes.rs"]
mod nodes;

#[path = "postgres/survey.rs"]
mod survey;

#[path = "postgres/tls.rs"]
mod tls;

use std::sync::Arc;

use agentbus_chat::contract::Fixture;
use agentbus_chat::store::{PostgresStore, Store};
use agentbus_chat::{BoxFuture, contract_tests};

struct Schema(String);

impl Fixture for Schema {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async {
            let store = PostgresStore::open(self.0.as_str()).await;
            Arc::new(store.unwrap()) as Arc<dyn Store>
        })
    }
}

fn fixture() -> Arc<dyn Fixture> {
    // Asked on a thread of its own: the client of the tests has a runtime inside.
    let url = std::thread::spawn(server::schema).join().unwrap();
    Arc::new(Schema(url))
}

contract_tests!(fixture);
