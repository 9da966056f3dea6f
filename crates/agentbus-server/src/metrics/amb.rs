//! The names that the dashboard of AMB reads (`agent-os-amb`, 13 panels), so that it shows a bus of
//! ours without a change.

use std::fmt::Write;
use std::time::Duration;

use agentbus::Priority;
use agentbus::meter::{BOUNDS, Reading, Times};
use metrics::{counter, gauge};

use super::{as_gauge, by_label};
use crate::state::App;

pub(super) fn record(app: &App) {
    let stats = app.bus.transport().stats();
    let targets = app.bus.targets();
    let durable = app.bus.transport().capabilities().durable;
    let waiting: u64 = stats.queues.iter().map(|queue| queue.depth as u64).sum();
    let stalled = stats.queues.iter().map(|queue| queue.stalled).sum();
    counter!("amb_backpressure_activated_total").absolute(stalled);
    let failed = targets.iter().map(|target| target.failed).sum();
    counter!("amb_delivery_failures_total").absolute(failed);
    gauge!("amb_persistence_enabled").set(as_gauge(u64::from(durable)));
    gauge!("amb_wal_messages_pending").set(as_gauge(if durable { waiting } else { 0 }));
    for ((pattern, _), sum) in by_label(stats.queues) {
        // Groups of one topic are one line of the dashboard.
        let topic = topic_of(&pattern);
        gauge!("amb_queue_depth", "topic" => topic).increment(as_gauge(sum.depth as u64));
    }
    if let Some(meter) = app.bus.meter() {
        record_reading(&meter.read());
    }
}

/// The topic, as publishers call it, in the pattern of a subscription.
fn topic_of(pattern: &str) -> String {
    match (
        pattern.split_once(".events."),
        pattern.split_once(".invoke."),
    ) {
        (Some((_, topic)), _) => topic.to_owned(),
        (None, Some((_, target))) => format!("invoke.{target}"),
        (None, None) => pattern.to_owned(),
    }
}

fn record_reading(reading: &Reading) {
    counter!("amb_dlq_messages_total").absolute(reading.dead_letters);
    gauge!("amb_broker_connected").set(as_gauge(u64::from(reading.connected)));
    for (name, topic) in &reading.topics {
        for priority in Priority::ALL {
            let published = topic.published[priority.lane()];
            if published > 0 {
                let labels = [
                    ("topic", name.clone()),
                    ("priority", priority.name().to_owned()),
                ];
                counter!("amb_messages_published_total", &labels).absolute(published);
            }
        }
        counter!("amb_messages_delivered_total", "topic" => name.clone()).absolute(topic.delivered);
    }
}

/// Appends the histograms. The recorder of the library takes single samples, and these are counted
/// already.
pub(super) fn write_times(app: &App, text: &mut String) {
    let Some(meter) = app.bus.meter() else {
        return;
    };
    let reading = meter.read();
    write_histogram(text, "amb_publish_duration_seconds", &reading.publishes);
    write_histogram(text, "amb_delivery_duration_seconds", &reading.deliveries);
}

fn write_histogram(text: &mut String, name: &str, times: &Times) {
    let bounds = BOUNDS.iter().map(Duration::as_secs_f64);
    let bounds = bounds.map(|bound| bound.to_string());
    let bounds = bounds.chain(std::iter::once("+Inf".to_owned()));
    // Writing to a text cannot fail.
    let _ = writeln!(text, "# TYPE {name} histogram");
    for (bound, count) in bounds.zip(times.up_to) {
        let _ = writeln!(text, "{name}_bucket{{le=\"{bound}\"}} {count}");
    }
    let sum = times.sum.as_secs_f64();
    let _ = writeln!(text, "{name}_sum {sum}\n{name}_count {}\n", times.count());
}
