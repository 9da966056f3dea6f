//! A transport that reaches a running agentbus server over one WebSocket.
