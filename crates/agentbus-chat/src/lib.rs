//! Conversations: threads that people and agents write in, kept by a store.
//!
//! [`Chat`] is the whole of it: posting in step with the others, waiting for what they post,
//! registering agents, searching, and a coordinator that notices when everyone waits for everyone.
//! It knows neither HTTP nor MCP; gateways translate. It keeps nothing in memory that a restart
//! would miss, and takes time and randomness from outside, so that tests decide both.
//!
//! What it promises: a post is answered when it is stored; messages have one order, over all
//! threads, that never changes and never has a number twice; whoever follows that order misses
//! nothing, also across a restart; a strict post is refused when its author has not seen what came
//! before it, a relaxed one never is; what is for people only never reaches an agent.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use agentbus_chat::{Chat, ChatConfig, Draft, NewAgent, NewThread};
//!
//! let directory = std::env::temp_dir().join(format!("chat-{}", std::process::id()));
//! std::fs::create_dir_all(&directory)?;
//! let chat = Chat::open(directory.join("chat.db"), ChatConfig::default()).await?;
//! let agent = chat.register(NewAgent::new("Terminal", "Person")).await?;
//! let thread = chat.create_thread(NewThread::new("Plans", agent.agent.id)).await?.thread;
//! let posted = chat.post(Draft::new(thread.id, "human", "What shall we do?")).await?;
//! assert_eq!(posted.message.seq, 1);
//! chat.close().await;
//! # Ok(())
//! # }
//! ```

mod ambient;
mod chat;
mod config;
#[cfg(feature = "contract")]
pub mod contract;
pub mod emoji;
mod error;
pub mod filter;
mod ids;
pub mod limits;
pub mod model;
mod secret;
mod stamp;
pub mod store;
mod turns;

pub use ambient::{
    Ambient, BoxFuture, Clock, Entropy, ManualClock, SeededEntropy, SystemClock, SystemEntropy,
};
pub use chat::{
    AgentUpdate, Background, Card, Chat, ClosedMeeting, Connected, Credentials, Decided, Decision,
    DecisionAction, Draft, Edited, EventReader, Followed, IdempotencyKey, Join, Kicked, NewAgent,
    NewTemplate, NewThread, Opened, Overview, Posted, Proof, ProvenAgent, Registered,
    SettingsUpdate, Sync, Transcript, WaitRequest, Waited, system_row,
};
pub use config::ChatConfig;
pub use error::{AuthProblem, ChatError};
pub use ids::{AgentId, EventId, MessageId, Seq, TemplateId, ThreadId};
pub use stamp::Stamp;
pub use turns::{Turns, TurnsConfig};
