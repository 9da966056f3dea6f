//! `cargo xtask bench transports`: what a stored message costs, beside the raw store.
//!
//! The baseline of a publish is a loop in one thread that appends the same row with rusqlite and
//! syncs, on the same disk in the same minute; that of a replay reads the same rows. Disks that
//! others use change from second to second, so both sides take turns and the medians are compared.

#![allow(clippy::print_stdout, reason = "a benchmark prints its figures")]
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should say where"
)]

#[path = "../report.rs"]
mod report;
mod sqlite;

use report::Report;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    let wanted = std::env::args().nth(1).unwrap_or_default();
    let chosen = |name: &str| name.contains(&wanted);
    let mut report = Report::default();
    runtime.block_on(async {
        if chosen("sqlite single") {
            sqlite::single(&mut report).await;
        }
        if chosen("sqlite group") {
            sqlite::group(&mut report).await;
        }
        if chosen("sqlite deliver") {
            sqlite::deliver(&mut report).await;
        }
        if chosen("sqlite redeliver") {
            sqlite::redeliver(&mut report).await;
        }
        if chosen("sqlite replay") {
            sqlite::replay(&mut report).await;
        }
    });
    print!("{report}");
}
