//! Fuzzes what `bodies/subject.rs` promises.

#![no_main]

#[path = "../bodies/subject.rs"]
mod body;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|texts: (&str, &str)| { body::check(texts) });
