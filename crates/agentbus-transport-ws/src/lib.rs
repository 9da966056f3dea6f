//! A transport that reaches a running `agentbus serve` over one WebSocket.
//!
//! Programs in other processes join a bus with it: they publish, subscribe, serve targets and
//! call them as if the broker were their own. Everything a program has on the bus hangs on its
//! connection: when it breaks, pending operations fail, subscriptions end, and the server cancels
//! what the program had asked for. There is no reconnection; a program that wants to go on
//! connects again.

pub mod carrier;
mod connect;
pub mod credentials;
pub mod durable;
mod link;
mod listener;
mod source;
mod transport;
pub mod wire;

pub use connect::{Builder, Texts, token_to_show};
pub use transport::WsTransport;
