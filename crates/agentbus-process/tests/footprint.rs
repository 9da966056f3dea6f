//! A program goes on with less of its own file in memory.
#![cfg(target_os = "linux")]
#![allow(
    clippy::unwrap_used,
    reason = "a test that cannot go on should say where"
)]

use agentbus_process::unmap_program;

/// Kilobytes of files that this process has mapped.
fn mapped() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("RssFile:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse().unwrap()
}

static WORDS: [&str; 3] = ["one", "two", "three"];

#[test]
fn a_program_goes_on_with_less_of_its_file_in_memory() {
    let before = mapped();
    let bytes = unmap_program().unwrap();
    let after = mapped();
    assert!(bytes > 0);
    assert!(after < before, "{before} kB before, {after} kB after");
    // Code and constants are there again when they are used.
    assert_eq!(WORDS.concat(), "onetwothree");
    let again = std::thread::spawn(unmap_program).join().unwrap().unwrap();
    assert!(again <= bytes, "{bytes} bytes at first, {again} then");
}
