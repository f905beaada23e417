//! Metrics for operators: plain HTTP on an address of its own, in the text format of Prometheus. Nothing of a patient, a care
//! unit or a caller is in them, and their number is bounded by the contract.

mod contents;
mod numbers;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ALLOW, CONTENT_TYPE};
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus_client::encoding::prometheus_text::encode;
use prometheus_client::registry::Registry;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{sleep, timeout};
use tracing::debug;

use super::tls::Tls;
use crate::clock::Clock;
use crate::dispatch::metrics::DispatchMetrics;
use crate::grpc::middleware::metrics::CallMetrics;
use crate::readiness::{Readiness, SkewSeconds};
use crate::store::Store;
use crate::telemetry::traces::Traces;
use contents::Observer;

/// Path of the metrics.
const PATH: &str = "/metrics";
/// Media type of the text format of Prometheus.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// Maximum connections at once; more wait.
const CONNECTIONS_MAX: usize = 8;
/// Longest time for a connection, which carries one answer.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(15);
/// Pause after a connection could not be accepted.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The parts of the service whose numbers are shown.
pub struct Sources<'a> {
    /// Store.
    pub store: &'a Store,
    /// Clock by which something is due.
    pub clock: &'a Clock,
    /// Numbers of calls.
    pub calls: &'a CallMetrics,
    /// Numbers of subscriptions.
    pub dispatch: &'a DispatchMetrics,
    /// Numbers of spans.
    pub traces: &'a Traces,
    /// TLS of the listener; none for plain text.
    pub tls: Option<Tls>,
    /// Result of the last check.
    pub readiness: watch::Receiver<Readiness>,
    /// Distance of the clocks at the last check.
    pub skew_seconds: SkewSeconds,
}

/// The page of the metrics.
pub struct Page {
    /// Numbers that are kept.
    kept: Registry,
    store: Store,
    tls: Option<Tls>,
    readiness: watch::Receiver<Readiness>,
    observer: Observer,
}

impl Page {
    /// Makes the page of these parts.
    pub fn new(sources: Sources<'_>) -> Self {
        let mut kept = Registry::default();
        sources.calls.register(&mut kept);
        sources.dispatch.register(&mut kept);
        sources.traces.register(&mut kept);
        sources.store.metrics().register(&mut kept);
        kept.register(
            "care_invitation_clock_skew_seconds",
            "Seconds between the clocks of this machine and of the database",
            sources.skew_seconds,
        );
        numbers::register_build(&mut kept);
        Self {
            kept,
            store: sources.store.clone(),
            tls: sources.tls,
            readiness: sources.readiness,
            observer: Observer::start(sources.store.clone(), sources.clock.clone()),
        }
    }

    /// Returns the metrics as of now.
    async fn text(&self) -> String {
        let mut text = String::new();
        let mut now = Registry::default();
        let readiness = *self.readiness.borrow();
        numbers::add_readiness(&mut now, readiness);
        numbers::add_state(&mut now, &self.store.state());
        if let Some(end) = self.tls.as_ref().and_then(Tls::certificate_end) {
            numbers::add_certificate(&mut now, end);
        }
        if let Some(seen) = self.observer.look().await {
            numbers::add_contents(&mut now, &seen);
        }
        for registry in [&self.kept, &now] {
            encode(&mut text, registry).expect("a text takes what is written");
        }
        text
    }

    async fn answer(&self, request: &Request<Incoming>) -> Response<Full<Bytes>> {
        if request.uri().path() != PATH {
            return plain(StatusCode::NOT_FOUND, format!("metrics are at {PATH}\n"));
        }
        if request.method() != Method::GET {
            let mut refused = plain(StatusCode::METHOD_NOT_ALLOWED, String::new());
            let headers = refused.headers_mut();
            headers.insert(ALLOW, http::HeaderValue::from_static("GET"));
            return refused;
        }
        plain(StatusCode::OK, self.text().await)
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, http::HeaderValue::from_static(TEXT));
    response
}

/// Serves the page on a listener, for as long as the future is polled.
pub async fn serve(listener: TcpListener, page: Page) {
    let page = Arc::new(page);
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = places.clone().acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let page = page.clone();
                tokio::spawn(async move {
                    let _place = place;
                    if timeout(CONNECTION_TIME_MAX, connection(stream, page))
                        .await
                        .is_err()
                    {
                        debug!("a reader of the metrics is too slow");
                    }
                });
            }
            Err(error) => {
                debug!(%error, "accepting a reader of the metrics failed");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// Answers the one request of a connection.
async fn connection(stream: TcpStream, page: Arc<Page>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let page = page.clone();
        async move { Ok::<_, Infallible>(page.answer(&request).await) }
    });
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = serving.await {
        debug!(%error, "a reader of the metrics has gone");
    }
}
