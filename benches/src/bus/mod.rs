//! `cargo xtask bench bus`: what the bus costs, each figure beside its raw baseline.
//!
//! A baseline is the same work with nothing but tokio's channels, or a bare axum handler, measured
//! in the same run. Read the ratios; absolute times differ from machine to machine.

mod http;
mod memory;
mod serve;
mod wire;

use crate::report::Report;

/// Measures what the first argument is a part of, or everything.
pub(crate) fn run(wanted: &[String]) {
    let runtime = crate::runtime();
    let wanted = wanted.first().map_or("", String::as_str);
    let chosen = |name: &str| name.contains(wanted);
    let mut report = Report::default();
    runtime.block_on(async {
        if chosen("publish") {
            memory::publish_to_handler(&mut report).await;
        }
        if chosen("request") {
            memory::request_reply(&mut report).await;
        }
        if chosen("one") {
            memory::one_publisher(&mut report).await;
        }
        if chosen("fan-out") {
            memory::fan_out(&mut report).await;
        }
        if chosen("frames") {
            memory::stream_frames(&mut report).await;
        }
        if chosen("http") {
            http::invoke(&mut report).await;
        }
    });
    if chosen("envelope") {
        wire::envelopes(&mut report);
    }
    if chosen("scan") {
        wire::scan_lines(&mut report);
    }
    if chosen("serve") {
        serve::start(&mut report);
    }
    print!("{report}");
}
