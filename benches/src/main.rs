//! `cargo xtask bench NAME`: what the bus costs, each figure beside its raw baseline of the same
//! run.
//!
//! One program for all: linking it takes longer than any of its benchmarks.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a benchmark prints its figures"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a benchmark that cannot run should say where"
)]

mod acp;
mod bus;
mod chat;
mod report;
mod resident;
mod served;
mod stdio;
mod transports;

use std::process::ExitCode;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ACP: &str = "acp";

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    let (name, rest) = match arguments.split_first() {
        Some((name, rest)) => (name.as_str(), rest),
        None => ("", &[][..]),
    };
    match name {
        "bus" => bus::run(rest),
        ACP => acp::run(rest),
        "chat" => chat::run(rest),
        "stdio" => stdio::run(rest),
        "transports" => transports::run(rest),
        _ => {
            eprintln!(
                "there is no benchmark `{name}`; there are acp, bus, chat, stdio and transports"
            );
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Runtime::new().unwrap()
}
