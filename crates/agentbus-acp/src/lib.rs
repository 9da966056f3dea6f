//! The Agent Client Protocol in both directions.
//!
//! [`AgentTargets`] drives ACP agents: each is a process that is started when it is first needed
//! and served as a target of the bus, where a prompt is a call and an update a frame. What an agent
//! wants to be allowed is a [`Question`] to a [`Decider`]. [`Editors`] is the other direction: the
//! bus as one agent to editors, behind which stand all of those.
//!
//! What may surprise: **a turn outlives its caller.** Whoever leaves has the agent told to stop, and
//! the next turn of the session begins when the agent has.

pub mod client;
mod company;
pub mod config;
pub mod decide;
pub mod limits;
mod line;
pub mod log;
mod sdk;
pub mod serve;
pub mod worker;

pub use client::{AgentStatus, AgentTargets, BusServer};
pub use config::{AgentConfig, AgentLimits, Policy};
pub use decide::{Choice, Decider, Question};
pub use log::SessionLog;
pub use serve::Editors;
