//! The store in a SQLite file keeps the contract.
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use std::sync::Arc;

use agentbus_chat::contract::Fixture;
use agentbus_chat::store::{SqliteStore, Store};
use agentbus_chat::{BoxFuture, contract_tests};
use tempfile::TempDir;

struct File(TempDir);

impl Fixture for File {
    fn open(&self) -> BoxFuture<'_, Arc<dyn Store>> {
        Box::pin(async {
            let store = SqliteStore::open(self.0.path().join("chat.db")).await;
            Arc::new(store.unwrap()) as Arc<dyn Store>
        })
    }
}

fn fixture() -> Arc<dyn Fixture> {
    Arc::new(File(tempfile::tempdir().unwrap()))
}

contract_tests!(fixture);
