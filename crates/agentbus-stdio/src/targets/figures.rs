//! What pools count, for whoever records metrics.

use metrics::{counter, gauge};

use super::PoolTargets;
use crate::WorkerStatus;

/// States that a worker can be in; one of them is 1.
const STATES: [&str; 5] = ["running", "starting", "asleep", "restarting", "given_up"];

impl PoolTargets {
    /// Records the figures of every worker with the recorder that is in place.
    pub fn record(&self) {
        for pool in self.list() {
            let up = if pool.state == "running" { 1.0 } else { 0.0 };
            gauge!("agentbus_pool_up", "pool" => pool.pool.clone()).set(up);
            pool.workers.iter().for_each(record);
        }
    }
}

fn record(worker: &WorkerStatus) {
    let labels = [
        ("pool", worker.pool.clone()),
        ("instance", worker.instance.to_string()),
    ];
    for state in STATES {
        let labels = [
            labels[0].clone(),
            labels[1].clone(),
            ("state", state.to_owned()),
        ];
        let is = if worker.state == state { 1.0 } else { 0.0 };
        gauge!("agentbus_pool_worker_state", &labels).set(is);
    }
    // Counts beyond 2^53 do not occur.
    gauge!("agentbus_pool_epoch", &labels).set(worker.epoch as f64);
    gauge!("agentbus_pool_in_flight", &labels).set(worker.in_flight as f64);
    gauge!("agentbus_pool_queued_bytes", &labels).set(worker.queued_bytes as f64);
    let counters = &worker.counters;
    counter!("agentbus_pool_restarts_total", &labels).absolute(worker.restarts);
    counter!("agentbus_pool_dropped_total", &labels).absolute(counters.dropped);
    for (direction, messages, bytes) in [
        ("in", counters.messages_in, counters.bytes_in),
        ("out", counters.messages_out, counters.bytes_out),
    ] {
        let labels = [
            labels[0].clone(),
            labels[1].clone(),
            ("direction", direction.to_owned()),
        ];
        counter!("agentbus_pool_messages_total", &labels).absolute(messages);
        counter!("agentbus_pool_bytes_total", &labels).absolute(bytes);
    }
    record_latency(worker, &labels);
}

/// Writes the histogram as its cumulative buckets, which is how scrapers read one.
fn record_latency(worker: &WorkerStatus, labels: &[(&'static str, String); 2]) {
    let mut below = 0;
    for (index, count) in worker.latency.buckets.iter().enumerate() {
        below += count;
        let seconds = (1u64 << index) as f64 / 1e6;
        let labels = [
            labels[0].clone(),
            labels[1].clone(),
            ("le", seconds.to_string()),
        ];
        counter!("agentbus_pool_latency_seconds_bucket", &labels).absolute(below);
    }
    let last = [
        labels[0].clone(),
        labels[1].clone(),
        ("le", "+Inf".to_owned()),
    ];
    counter!("agentbus_pool_latency_seconds_bucket", &last).absolute(below);
    counter!("agentbus_pool_latency_seconds_count", labels).absolute(below);
}
