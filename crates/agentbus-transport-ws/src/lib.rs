//! A transport that reaches a running `agentbus serve` over one WebSocket.

pub mod wire;
