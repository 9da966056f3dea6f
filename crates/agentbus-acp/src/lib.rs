//! The Agent Client Protocol in both directions.
//!
//! [`AgentTargets`] drives ACP agents: each is a process that is started when it is first needed
//! and served as a target of the bus, where a prompt is a call and an update a frame. What an agent
//! wants to be allowed is a [`Question`] to a [`Decider`].
//!
//! What may surprise: **a turn outlives its caller.** Whoever leaves has the agent told to stop, and
//! the next turn of the session begins when the agent has.

pub mod client;
pub mod config;
pub mod decide;
pub mod limits;
mod line;
pub mod log;
mod sdk;
pub mod worker;

pub use client::{AgentStatus, AgentTargets, BusServer};
pub use config::{AgentConfig, AgentLimits, Policy};
pub use decide::{Choice, Decider, Question};
pub use log::SessionLog;
