//! Sends spans to a collector, by OTLP over HTTP with protobuf bodies.

use std::env;
use std::time::Duration;

use agentbus_protocol::TraceParent;
use opentelemetry::trace::{
    Link, SpanContext, SpanId, SpanKind as OtelKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, SpanData, SpanEvents, SpanLinks, SpanProcessor,
};

use super::{Failure, Span, SpanKind, SpanSink};
use crate::Error;

/// Sends spans to an OpenTelemetry collector.
///
/// It has a bounded queue and a thread of its own; spans that find the queue full are dropped and
/// counted in a warning, so a slow collector never slows the bus.
#[derive(Debug)]
pub struct Otlp {
    processor: BatchSpanProcessor,
    scope: InstrumentationScope,
}

impl Otlp {
    /// What the standard environment variables ask for; `None` when they name no collector.
    ///
    /// `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT` or `OTEL_EXPORTER_OTLP_ENDPOINT` switches it on,
    /// `OTEL_SDK_DISABLED=true` and `OTEL_TRACES_EXPORTER=none` switch it off. The SDK reads the
    /// others: `OTEL_EXPORTER_OTLP_HEADERS`, `_TIMEOUT`, `OTEL_BSP_*`, `OTEL_RESOURCE_ATTRIBUTES`
    /// and `OTEL_SERVICE_NAME`, which is `service` unless set.
    ///
    /// # Errors
    /// Fails when an endpoint is no URL.
    pub fn from_env(service: &str) -> Result<Option<Self>, Error> {
        let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
        let off = set("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true"))
            || set("OTEL_TRACES_EXPORTER").is_some_and(|value| value == "none");
        let named = set("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT").is_some()
            || set("OTEL_EXPORTER_OTLP_ENDPOINT").is_some();
        if off || !named {
            return Ok(None);
        }
        let named_service = set("OTEL_SERVICE_NAME").is_some();
        let exporter = SpanExporter::builder()
            .with_http()
            .with_protocol(Protocol::HttpBinary)
            .build()
            .map_err(|error| {
                Error::Setup(format!(
                    "spans cannot be exported: {error}; look at OTEL_EXPORTER_OTLP_ENDPOINT"
                ))
            })?;
        let mut resource = Resource::builder();
        if !named_service {
            resource = resource.with_service_name(service.to_owned());
        }
        let mut processor =
            BatchSpanProcessor::new(exporter, BatchConfigBuilder::default().build());
        processor.set_resource(&resource.build());
        let scope = InstrumentationScope::builder("agentbus")
            .with_version(env!("CARGO_PKG_VERSION"))
            .build();
        Ok(Some(Self { processor, scope }))
    }

    /// Sends what is queued and ends. It blocks: call it where that is allowed.
    pub fn shutdown(&self, limit: Duration) {
        if let Err(error) = self.processor.shutdown_with_timeout(limit) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

impl SpanSink for Otlp {
    fn ended(&self, span: Span) {
        let parent = span
            .parent
            .map_or(SpanId::INVALID, |parent| parent.raw_span_id().into());
        let came_from_elsewhere = matches!(span.kind, SpanKind::Consumer | SpanKind::Server);
        let mut links = SpanLinks::default();
        links
            .links
            .extend(span.link.map(|link| Link::with_context(place(link, true))));
        let attributes = span.attributes.into_iter();
        self.processor.on_end(SpanData {
            span_context: place(span.context, false),
            parent_span_id: parent,
            parent_span_is_remote: span.parent.is_some() && came_from_elsewhere,
            span_kind: kind(span.kind),
            name: span.name.into(),
            start_time: span.started,
            end_time: span.ended,
            attributes: attributes
                .map(|(key, value)| KeyValue::new(key, value))
                .chain(error_type(span.failure.as_ref()))
                .collect(),
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: span
                .failure
                .map_or(Status::Unset, |failure| Status::error(failure.message)),
            instrumentation_scope: self.scope.clone(),
        });
    }
}

/// A span as others name it.
fn place(span: TraceParent, remote: bool) -> SpanContext {
    let flags = match span.is_sampled() {
        true => TraceFlags::SAMPLED,
        false => TraceFlags::default(),
    };
    SpanContext::new(
        TraceId::from(span.raw_trace_id()),
        SpanId::from(span.raw_span_id()),
        flags,
        remote,
        TraceState::default(),
    )
}

const fn kind(kind: SpanKind) -> OtelKind {
    match kind {
        SpanKind::Client => OtelKind::Client,
        SpanKind::Producer => OtelKind::Producer,
        SpanKind::Consumer => OtelKind::Consumer,
        SpanKind::Server => OtelKind::Server,
    }
}

fn error_type(failure: Option<&Failure>) -> Option<KeyValue> {
    failure.map(|failure| KeyValue::new("error.type", failure.kind.clone()))
}
