//! Fuzzes what `bodies/jsonrpc.rs` promises.

#![no_main]

#[path = "../bodies/jsonrpc.rs"]
mod body;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|line: &[u8]| { body::check(line) });
