//! Agents for tests: `agent` does what its prompts say, also what no agent should; `tap` runs any
//! other agent and writes down every line that passes, both ways; `mcp` is a server of tools that
//! asks.

#![allow(
    clippy::unwrap_used,
    clippy::exit,
    reason = "a test that cannot go on should say where"
)]

mod agent;
mod mcp;
mod tap;

fn main() {
    let mut args = std::env::args().skip(1);
    match args.next().as_deref() {
        Some("agent") => agent::run(&args.collect::<Vec<_>>()),
        Some("mcp") => mcp::run(),
        Some("tap") => tap::run(&args.next().unwrap(), args.collect()),
        other => panic!("no such part: {other:?}"),
    }
}
