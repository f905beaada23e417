//! The way of spans to a collector: a bounded queue, batches, a connection. Nothing that a call does waits for any of it: what the
//! queue has no room for, and what the collector does not take in time, is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use opentelemetry::trace::TracerProvider;
use opentelemetry::{Context, KeyValue};
use opentelemetry_otlp::{WithExportConfig, WithTonicConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::{OTelSdkError, OTelSdkResult};
use opentelemetry_sdk::trace::{
    BatchConfigBuilder, BatchSpanProcessor, Sampler, SdkTracer, SdkTracerProvider, Span, SpanData,
    SpanExporter, SpanProcessor,
};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::runtime::Handle;
use tokio::time::timeout;
use tonic::transport::{ClientTlsConfig, Endpoint};
use tracing::warn;

use super::Unusable;
use crate::config::traces::Traces as Settings;
use crate::telemetry::seldom::Seldom;

/// Name of the service, and of what makes its spans.
const NAME: &str = env!("CARGO_PKG_NAME");
/// Maximum spans that wait; a few hundred bytes each.
const WAITING_SPANS_MAX: usize = 8_192;
/// Maximum spans that are exported at once.
const BATCH_SPANS_MAX: usize = 512;
/// Longest time for which a span waits while fewer do.
const EXPORT_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time for which a collector is waited for.
const EXPORT_TIME_MAX: Duration = Duration::from_secs(5);
/// Longest time that the last spans have.
const END_TIME_MAX: Duration = Duration::from_secs(1);
/// Interval in which spans that are lost are logged once at most.
const WARNING_INTERVAL: Duration = Duration::from_secs(60);

/// The numbers of spans that have ended. A clone is another handle to the same.
#[derive(Clone, Debug)]
pub struct Counts(Family<SpanLabels, Counter>);

/// The end of a span.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct SpanLabels {
    outcome: &'static str,
}

impl Default for Counts {
    fn default() -> Self {
        let counts = Self(Family::default());
        for outcome in ["exported", "failed", "dropped"] {
            counts.add(outcome, 0);
        }
        counts
    }
}

impl Counts {
    fn add(&self, outcome: &'static str, count: usize) {
        let spans = self.0.get_or_create(&SpanLabels { outcome });
        spans.inc_by(count as u64);
    }

    /// Registers the numbers under their name.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "care_invitation_spans",
            "Spans that were exported, were not taken by the collector, or found the queue full",
            self.0.clone(),
        );
    }
}

/// The export to a collector.
pub struct Exporter {
    /// Maker of spans.
    pub tracer: SdkTracer,
    provider: SdkTracerProvider,
}

impl Exporter {
    /// Starts the export, on a thread of its own.
    ///
    /// # Errors
    ///
    /// The endpoint is of no use.
    pub fn start(settings: &Settings, counts: Counts) -> Result<Self, Unusable> {
        let otlp = opentelemetry_otlp::SpanExporter::builder()
            .with_tonic()
            .with_channel(endpoint(settings)?.connect_lazy())
            .with_timeout(EXPORT_TIME_MAX)
            .build();
        let otlp = otlp.map_err(|error| Unusable(error.to_string()))?;
        let queue = Arc::new(Queue::new(counts));
        let batches = BatchConfigBuilder::default()
            // Room for those of the batch that is being made too.
            .with_max_queue_size(WAITING_SPANS_MAX + BATCH_SPANS_MAX)
            .with_max_export_batch_size(BATCH_SPANS_MAX)
            .with_scheduled_delay(EXPORT_INTERVAL)
            .build();
        let timed = Timed {
            otlp: Arc::new(otlp),
            queue: queue.clone(),
            runtime: Handle::current(),
        };
        let batches = BatchSpanProcessor::builder(timed).with_batch_config(batches);
        let ratio = f64::from(settings.sampled_per_million) / 1_000_000.0;
        let ratio = Sampler::TraceIdRatioBased(ratio);
        let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
        let resource = Resource::builder().with_service_name(NAME);
        let provider = SdkTracerProvider::builder()
            .with_sampler(Sampler::ParentBased(Box::new(ratio)))
            .with_resource(resource.with_attribute(version).build())
            .with_span_processor(Bounded {
                queue,
                batches: batches.build(),
            })
            .build();
        Ok(Self {
            tracer: provider.tracer(NAME),
            provider,
        })
    }

    /// Exports what has ended, within a second.
    pub async fn end(&self) {
        let provider = self.provider.clone();
        let ending = move || provider.shutdown_with_timeout(END_TIME_MAX);
        let ended = tokio::task::spawn_blocking(ending).await;
        if !matches!(ended, Ok(Ok(()))) {
            warn!("the last spans were not exported");
        }
    }
}

/// Asks whether the collector can be connected to.
///
/// # Errors
///
/// The reason for which it cannot.
pub async fn reach(settings: &Settings) -> Result<(), String> {
    let endpoint = endpoint(settings).map_err(|error| error.to_string())?;
    match timeout(EXPORT_TIME_MAX, endpoint.connect()).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(root(&error)),
        Err(_) => Err("it does not answer".to_owned()),
    }
}

/// Returns the text of the first cause.
fn root(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |&it| it.source());
    causes.last().unwrap_or(error).to_string()
}

fn endpoint(settings: &Settings) -> Result<Endpoint, Unusable> {
    let endpoint = Endpoint::from(settings.endpoint.clone())
        .connect_timeout(EXPORT_TIME_MAX)
        .timeout(EXPORT_TIME_MAX);
    match settings.endpoint.scheme_str() {
        Some("https") => endpoint
            .tls_config(ClientTlsConfig::new().with_native_roots())
            .map_err(|error| Unusable(root(&error))),
        _ => Ok(endpoint),
    }
}

/// The spans that wait for their export.
#[derive(Debug)]
struct Queue {
    waiting: AtomicUsize,
    counts: Counts,
    dropped: Seldom,
    failed: Seldom,
}

impl Queue {
    fn new(counts: Counts) -> Self {
        Self {
            waiting: AtomicUsize::new(0),
            counts,
            dropped: Seldom::new(WARNING_INTERVAL),
            failed: Seldom::new(WARNING_INTERVAL),
        }
    }

    /// Returns whether there is room for one more, which is taken then.
    fn enter(&self) -> bool {
        let has_room = self.waiting.fetch_add(1, Ordering::Relaxed) < WAITING_SPANS_MAX;
        if !has_room {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            self.counts.add("dropped", 1);
            if let Some(spans) = self.dropped.count() {
                warn!(spans, "spans dropped: the collector takes them too slowly");
            }
        }
        has_room
    }

    /// Counts spans that have left it, by what became of them.
    fn leave(&self, spans: usize, exported: &OTelSdkResult) {
        let Err(error) = exported else {
            return self.counts.add("exported", spans);
        };
        self.counts.add("failed", spans);
        if let Some(attempts) = self.failed.count() {
            warn!(attempts, %error, "spans lost: the collector does not take them");
        }
    }
}

/// The queue before the batches. The library's own is bounded too, and tells nobody what it drops.
#[derive(Debug)]
struct Bounded {
    queue: Arc<Queue>,
    batches: BatchSpanProcessor,
}

impl SpanProcessor for Bounded {
    fn on_start(&self, _: &mut Span, _: &Context) {}

    fn on_end(&self, span: SpanData) {
        if self.queue.enter() {
            self.batches.on_end(span);
        }
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.batches.force_flush()
    }

    fn shutdown_with_timeout(&self, timeout: Duration) -> OTelSdkResult {
        self.batches.shutdown_with_timeout(timeout)
    }

    fn set_resource(&mut self, resource: &Resource) {
        self.batches.set_resource(resource);
    }
}

/// The export of a batch with a limit on its time, which the library's own has not for a single attempt. It runs among the tasks that
/// serve calls, which have timers.
#[derive(Debug)]
struct Timed {
    otlp: Arc<opentelemetry_otlp::SpanExporter>,
    queue: Arc<Queue>,
    runtime: Handle,
}

impl SpanExporter for Timed {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let spans = batch.len();
        self.queue.waiting.fetch_sub(spans, Ordering::Relaxed);
        let (otlp, queue) = (self.otlp.clone(), self.queue.clone());
        let exporting = self.runtime.spawn(async move {
            let exported = timeout(EXPORT_TIME_MAX, otlp.export(batch)).await;
            let exported = exported.unwrap_or(Err(OTelSdkError::Timeout(EXPORT_TIME_MAX)));
            queue.leave(spans, &exported);
            exported
        });
        let exported = exporting.await;
        exported.unwrap_or(Err(OTelSdkError::AlreadyShutdown))
    }

    fn set_resource(&mut self, resource: &Resource) {
        // Nothing is exported yet, so that there is no other handle.
        if let Some(otlp) = Arc::get_mut(&mut self.otlp) {
            otlp.set_resource(resource);
        }
    }
}
