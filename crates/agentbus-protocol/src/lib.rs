//! The AgentBus wire: envelope, subjects, error payloads, stream reassembly, JSON-RPC line scan.
