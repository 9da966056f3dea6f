//! Fuzzes what `bodies/envelope.rs` promises.

#![no_main]

#[path = "../bodies/envelope.rs"]
mod body;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| { body::check(bytes) });
