//! The `agentbus` command.

fn main() {}
