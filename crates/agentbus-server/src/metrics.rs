//! Figures for operators, in Prometheus text.

mod amb;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use agentbus::transport::QueueStats;
use axum::http::StatusCode;
use metrics::{counter, gauge};
use metrics_exporter_prometheus::PrometheusBuilder;
use parking_lot::Mutex;

use crate::limits;
use crate::state::App;

/// The label of queues beyond the limit; no pattern has a parenthesis as all of its tokens.
const OTHERS: &str = "(others)";

/// What the host itself counts; the bus and the transport count for themselves.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    requests: Mutex<BTreeMap<String, BTreeMap<u16, u64>>>,
    refused: AtomicU64,
    /// Requests whose answer has not begun.
    in_flight: AtomicU64,
    pub(crate) sockets: AtomicU64,
}

impl Metrics {
    pub(crate) fn answered(&self, route: &str, status: StatusCode) {
        let mut requests = self.requests.lock();
        // Routes are patterns of the router, so the map stays small whatever clients ask for.
        if !requests.contains_key(route) {
            requests.insert(route.to_owned(), BTreeMap::new());
        }
        if let Some(by_status) = requests.get_mut(route) {
            *by_status.entry(status.as_u16()).or_default() += 1;
        }
    }

    /// Counts a request as in flight, until [`end`](Self::end).
    pub(crate) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn end(&self) {
        self.in_flight.fetch_sub(1, Ordering::AcqRel);
    }

    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Acquire)
    }

    pub(crate) fn refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

/// Writes everything that is known at this moment. A recorder of its own per call keeps the
/// figures where they are counted and needs no global.
pub(crate) fn render(app: &App) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    metrics::with_local_recorder(&recorder, || {
        record_host(app);
        record_targets(app);
        record_transport(app);
        amb::record(app);
        if let Some(figures) = &app.config.figures {
            figures.record();
        }
    });
    let mut text = recorder.handle().render();
    amb::write_times(app, &mut text);
    text
}

fn record_host(app: &App) {
    gauge!("agentbus_uptime_seconds").set(app.started.elapsed().as_secs_f64());
    gauge!("agentbus_websockets").set(as_gauge(app.metrics.sockets.load(Ordering::Relaxed)));
    counter!("agentbus_http_refused_total").absolute(app.metrics.refused.load(Ordering::Relaxed));
    for (route, by_status) in &*app.metrics.requests.lock() {
        for (status, count) in by_status {
            let labels = [("route", route.clone()), ("status", status.to_string())];
            counter!("agentbus_http_requests_total", &labels).absolute(*count);
        }
    }
}

fn record_targets(app: &App) {
    for target in app.bus.targets() {
        let labels = [
            ("target", target.name),
            ("kind", target.kind.as_str().to_owned()),
        ];
        gauge!("agentbus_handler_in_flight", &labels).set(as_gauge(target.in_flight));
        counter!("agentbus_handled_total", &labels).absolute(target.handled);
        counter!("agentbus_failed_total", &labels).absolute(target.failed);
        counter!("agentbus_cancelled_total", &labels).absolute(target.cancelled);
    }
}

fn record_transport(app: &App) {
    let stats = app.bus.transport().stats();
    counter!("agentbus_published_total").absolute(stats.published);
    gauge!("agentbus_calls_open").set(as_gauge(stats.inboxes as u64));
    for ((pattern, group), sum) in by_label(stats.queues) {
        let labels = [("pattern", pattern), ("group", group)];
        gauge!("agentbus_queue_depth", &labels).set(as_gauge(sum.depth as u64));
        counter!("agentbus_delivered_total", &labels).absolute(sum.delivered);
        counter!("agentbus_dropped_total", &labels).absolute(sum.dropped);
        counter!("agentbus_expired_total", &labels).absolute(sum.expired);
        counter!("agentbus_backpressure_total", &labels).absolute(sum.stalled);
    }
}

/// Adds up the queues that have the same labels. Whoever subscribes invents labels, so beyond a
/// limit the rest share one.
fn by_label(queues: Vec<QueueStats>) -> BTreeMap<(String, String), QueueStats> {
    let mut sums: BTreeMap<_, QueueStats> = BTreeMap::new();
    for queue in queues {
        let mut label = (
            queue.pattern.clone(),
            queue.group.clone().unwrap_or_default(),
        );
        if sums.len() >= limits::METRIC_SERIES_MAX && !sums.contains_key(&label) {
            label = (OTHERS.to_owned(), String::new());
        }
        match sums.get_mut(&label) {
            Some(sum) => add(sum, &queue),
            None => drop(sums.insert(label, queue)),
        }
    }
    sums
}

fn add(sum: &mut QueueStats, queue: &QueueStats) {
    sum.depth += queue.depth;
    sum.delivered += queue.delivered;
    sum.dropped += queue.dropped;
    sum.expired += queue.expired;
    sum.stalled += queue.stalled;
}

/// Gauges are floating point; counts beyond 2^53 do not occur.
fn as_gauge(count: u64) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(pattern: &str, delivered: u64) -> QueueStats {
        QueueStats {
            pattern: pattern.to_owned(),
            group: None,
            depth: 1,
            capacity: 10,
            delivered,
            dropped: 0,
            expired: 0,
            redelivered: 0,
            stalled: 0,
        }
    }

    #[test]
    fn queues_with_one_label_are_added_up_and_labels_are_limited() {
        let mut queues = vec![queue("a", 1), queue("a", 2)];
        queues.extend((0..limits::METRIC_SERIES_MAX + 5).map(|n| queue(&format!("p{n}"), 1)));
        let sums = by_label(queues);
        assert_eq!(sums.len(), limits::METRIC_SERIES_MAX + 1);
        assert_eq!(sums[&("a".to_owned(), String::new())].delivered, 3);
        assert_eq!(sums[&(OTHERS.to_owned(), String::new())].delivered, 6);
    }
}
