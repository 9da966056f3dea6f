//! The Model Context Protocol gateway of AgentBus.
//!
//! A [`Gateway`] offers conversations and the bus as tools, resources and prompts, to clients of
//! the revisions 2024-11-05 to 2026-07-28: over Streamable HTTP ([`Gateway::http`]), over the older
//! HTTP transport ([`Gateway::open_pipe`]), and over lines ([`Gateway::serve_lines`]). An
//! application adds its own to the [`Catalog`].
//!
//! What it promises: a handler is written once, whatever revision its client speaks, also when it
//! asks the client something in between; arguments fit their schema before a handler sees them; a
//! call that its client gives up is dropped; a session, and the sealed state of a call that waits
//! for answers, are of use only to the principal who began them.
//!
//! What it does not do: it authenticates nobody. The host has checked who calls, and says so in the
//! [`Visitor`].
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use agentbus_mcp::{Call, Catalog, Fault, Reply, Tool};
//!
//! #[derive(serde::Deserialize, schemars::JsonSchema)]
//! struct Add { a: i64, b: i64 }
//!
//! let catalog = Catalog::new();
//! let about = Tool::new("add", "Adds two numbers.").read_only();
//! catalog.add_tool(about, |_: Call, add: Add| async move {
//!     Ok::<_, Fault>(Reply::data(&serde_json::json!({ "sum": add.a + add.b })))
//! })?;
//! # Ok(())
//! # }
//! ```

mod ask;
mod call;
mod catalog;
mod content;
mod fault;
mod gateway;
pub mod limits;
mod pipes;
mod schema;
mod sdk;
mod tools;
mod uploads;
mod visitor;

pub use ask::{Ability, Answer, Ask};
pub use call::{Call, LogLevel};
pub use catalog::{Catalog, CatalogError, Prompt, PromptArgument, Resource, Tool, Values};
pub use content::{Body, Content, Document, Filled, Reply, Speaker};
pub use fault::Fault;
pub use gateway::{Gateway, GatewayFigures, McpConfig};
pub use pipes::Pipes;
pub use sdk::{HttpBody, HttpService, Pipe, PipeError};
pub use uploads::Uploads;
pub use visitor::{Principal, Profile, Session, Visitor};
