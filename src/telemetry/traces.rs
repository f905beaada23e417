//! Traces for OpenTelemetry: a span for each call, and below it one for each thing that the call waits for.
//!
//! A span holds names, codes, counts and times: nothing that a call carries, and nobody who calls. Where nothing is exported there
//! are no spans, and no more is asked than whether there are.

mod export;
pub mod w3c;

use std::sync::Arc;

use http::HeaderMap;
use opentelemetry::trace::{
    FutureExt, Link, SpanBuilder, SpanKind, Status, TraceContextExt, Tracer,
};
use opentelemetry::{Context, ContextGuard, KeyValue};
use opentelemetry_sdk::trace::SdkTracer;
use prometheus_client::registry::Registry;

use crate::config::traces::Traces as Settings;
use export::{Counts, Exporter};
use w3c::Caller;

/// Attributes, by OpenTelemetry's conventions for RPC, databases and errors.
const RPC_SYSTEM: &str = "rpc.system.name";
const RPC_METHOD: &str = "rpc.method";
const RPC_CODE: &str = "rpc.response.status_code";
const DB_SYSTEM: &str = "db.system.name";
const ERROR_TYPE: &str = "error.type";

/// Reason for which traces cannot be exported.
#[derive(Debug, thiserror::Error)]
#[error("--otlp-endpoint cannot be used: {0}")]
pub struct Unusable(String);

/// Source of spans; the default makes none. A clone is another handle to the same.
#[derive(Clone, Default)]
pub struct Traces {
    counts: Counts,
    exporter: Option<Arc<Exporter>>,
}

impl Traces {
    /// Starts the export to a collector. Connects once there is something to export.
    ///
    /// # Errors
    ///
    /// The endpoint is of no use, whether it can be reached or not.
    pub fn start(settings: &Settings) -> Result<Self, Unusable> {
        let counts = Counts::default();
        let exporter = Exporter::start(settings, counts.clone())?;
        Ok(Self {
            counts,
            exporter: Some(Arc::new(exporter)),
        })
    }

    /// Begins the span of a call, below its caller's, if the caller has named one.
    pub fn begin_call(
        &self,
        method: &Arc<str>,
        caller: Option<&Caller>,
        headers: &HeaderMap,
    ) -> Span {
        let Some(exporter) = &self.exporter else {
            return Span::default();
        };
        let mut above = Context::new().with_value(exporter.tracer.clone());
        if let Some(caller) = caller {
            above = above.with_remote_span_context(caller.with_state(headers));
        }
        let call = SpanBuilder::from_name(method.to_string())
            .with_kind(SpanKind::Server)
            .with_attributes([
                KeyValue::new(RPC_SYSTEM, "grpc"),
                KeyValue::new(RPC_METHOD, method.clone()),
            ]);
        Span::begin(&exporter.tracer, call, &above)
    }

    /// Exports what has ended, for a second at most. What ends later is not exported.
    pub async fn end(&self) {
        if let Some(exporter) = &self.exporter {
            exporter.end().await;
        }
    }

    /// Registers the numbers of spans under their names.
    pub fn register(&self, registry: &mut Registry) {
        self.counts.register(registry);
    }
}

/// Asks whether a collector can be reached.
///
/// # Errors
///
/// The reason for which it cannot.
pub async fn reach(settings: &Settings) -> Result<(), String> {
    export::reach(settings).await
}

/// A span, and the place below which others begin. Ends with the last handle to it, unless it was ended before. The
/// default is none.
#[derive(Clone, Debug, Default)]
pub struct Span(Option<Context>);

impl Span {
    /// Returns the span that the present work belongs to.
    pub fn current() -> Self {
        Self(Context::map_current(|context| {
            let is_ours = context.get::<SdkTracer>().is_some();
            is_ours.then(|| context.clone())
        }))
    }

    fn begin(tracer: &SdkTracer, span: SpanBuilder, above: &Context) -> Self {
        let span = tracer.build_with_context(span, above);
        Self(Some(above.with_span(span)))
    }

    /// Begins a span below this one, if this one is sampled.
    pub fn child(&self, name: &'static str) -> Self {
        self.below(SpanBuilder::from_name(name))
    }

    /// Begins the span of something that is asked of a database, below this one.
    pub fn child_in_database(&self, name: &'static str, system: &'static str) -> Self {
        let asked = SpanBuilder::from_name(name).with_kind(SpanKind::Client);
        self.below(asked.with_attributes([KeyValue::new(DB_SYSTEM, system)]))
    }

    fn below(&self, span: SpanBuilder) -> Self {
        let sampled = self
            .0
            .as_ref()
            .filter(|it| it.span().span_context().is_sampled());
        let begun = sampled.and_then(|above| {
            let tracer = above.get::<SdkTracer>()?;
            Some(Self::begin(tracer, span, above))
        });
        begun.unwrap_or_default()
    }

    /// Begins a trace of its own, whose first span is linked to this one: for work that others go on with when this one
    /// is still open.
    pub fn begin_trace(&self, name: &'static str) -> Self {
        let begun = self.0.as_ref().and_then(|from| {
            let tracer = from.get::<SdkTracer>()?;
            let link = Link::with_context(from.span().span_context().clone());
            let first = SpanBuilder::from_name(name)
                .with_kind(SpanKind::Producer)
                .with_links(vec![link]);
            let above = Context::new().with_value(tracer.clone());
            Some(Self::begin(tracer, first, &above))
        });
        begun.unwrap_or_default()
    }

    /// Makes this the span that the work belongs to which is polled until the guard is dropped.
    pub fn enter(&self) -> Option<ContextGuard> {
        self.0.clone().map(Context::attach)
    }

    /// Runs work that belongs to this span.
    pub async fn run<T>(&self, work: impl Future<Output = T>) -> T {
        match &self.0 {
            Some(context) => work.with_context(context.clone()).await,
            None => work.await,
        }
    }

    /// Notes a count.
    pub fn count(&self, name: &'static str, count: usize) {
        if let Some(context) = &self.0 {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            context.span().set_attribute(KeyValue::new(name, count));
        }
    }

    /// Notes that it has failed, and in which way.
    pub fn fail(&self, kind: &'static str) {
        if let Some(context) = &self.0 {
            let span = context.span();
            span.set_attribute(KeyValue::new(ERROR_TYPE, kind));
            span.set_status(Status::error(""));
        }
    }

    /// Ends the span of a call that is answered with this code, which may be a failure of ours.
    pub fn end_call(&self, code: &'static str, is_failure: bool) {
        if let Some(context) = &self.0 {
            context.span().set_attribute(KeyValue::new(RPC_CODE, code));
            if is_failure {
                self.fail(code);
            }
            context.span().end();
        }
    }

    /// Returns the id of the trace, if it is sampled.
    pub fn trace_id(&self) -> Option<String> {
        let context = self.0.as_ref()?;
        let span = context.span();
        let span = span.span_context();
        span.is_sampled().then(|| span.trace_id().to_string())
    }

    /// Returns the span for others to go on from, as a header has it.
    pub fn traceparent(&self) -> Option<Arc<str>> {
        let context = self.0.as_ref()?;
        Some(w3c::traceparent(context.span().span_context()).into())
    }
}
