//! Fuzzes what `bodies/framing.rs` promises.

#![no_main]

#[path = "../bodies/framing.rs"]
mod body;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: (bool, u8, Vec<u8>, Vec<u8>)| { body::check(input) });
