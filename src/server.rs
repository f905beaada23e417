//! The server: the services behind the middleware, with health and reflection, on a listener that
//! is handed in. Shuts down gracefully, in an order that callers can follow.

mod connection;
mod metrics;
mod streams;
pub mod tls;
pub mod web;

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tracing::{error, info, warn};

use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::domain::RegionPolicy;
use crate::grpc::Service;
use crate::grpc::descriptors::Descriptors;
use crate::grpc::middleware::access::AccessLog;
use crate::grpc::middleware::{Limits, MiddlewareLayer};
use crate::readiness::{self, Readiness, SkewSeconds};
use crate::store::Store;
use crate::telemetry::traces::Traces;
use connection::Doorway;
use metrics::Sources;
use tls::Tls;
use web::Web;

/// Longest time for which a server that shuts down waits for calls in flight.
pub const DRAIN_MAX: Duration = Duration::from_secs(15);
/// Longest time for which it then waits for the store to close.
pub const CLOSE_MAX: Duration = Duration::from_secs(2);
/// Time after the signal, and the delay before it drains, at which the process exits in any case.
const EXIT_MAX: Duration = Duration::from_secs(19);
/// Time in which the last line of the log can be written before that exit.
const LAST_LINE: Duration = Duration::from_millis(100);

/// The parts that the server is made of.
pub struct Dependencies {
    /// Store of the requests. Closed when the server has stopped.
    pub store: Store,
    /// Clock of the service; a sandbox clock gets its gRPC service.
    pub clock: Clock,
    /// Services that are served with this clock.
    pub descriptors: Descriptors,
    /// Settings of the region.
    pub policy: RegionPolicy,
    /// Limits on concurrent calls, connections and bytes.
    pub limits: Limits,
    /// Authentication of calls.
    pub authenticator: Authenticator,
    /// TLS of the listener; none for plain text.
    pub tls: Option<Tls>,
    /// Way in for web pages; none where they do not call.
    pub web: Option<Web>,
    /// Time for which it goes on serving while health is NOT_SERVING, before it drains.
    pub drain_delay: Duration,
    /// Longest silence of a stream, after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// Days for which changes are kept for streams that are resumed.
    pub changes_days: u32,
    /// Listener on which the metrics are served; none to serve none.
    pub metrics: Option<TcpListener>,
    /// Traces of calls. Ended when the server has stopped.
    pub traces: Traces,
}

/// Returns a token that SIGTERM and Ctrl-C cancel. From then on the process has 19 seconds to end, beside the delay before it drains.
///
/// # Errors
///
/// The system refuses to deliver signals.
pub fn stop_on_signals(drain_delay: Duration) -> io::Result<CancellationToken> {
    let mut terminated = signal(SignalKind::terminate())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminated.recv() => {}
            _ = interrupted.recv() => {}
        }
        info!("stopping");
        stop.cancel();
        // On a thread of its own, which waits for nothing that could hang.
        std::thread::spawn(move || {
            std::thread::sleep(drain_delay + EXIT_MAX);
            // Logging does not block; a line that standard error does not take is lost.
            error!("shutdown timed out: exiting");
            std::thread::sleep(LAST_LINE);
            std::process::exit(1);
        });
    });
    Ok(shutdown)
}

/// Serves on `listener` until `shutdown` is cancelled, and then shuts down.
///
/// Health turns NOT_SERVING; after the delay for those who look at it, streams end with UNAVAILABLE, no new connection is accepted, calls in
/// flight finish, and the store is closed. Returns within the delay, [`DRAIN_MAX`],
/// [`CLOSE_MAX`] and a second for the last spans; calls that are still in flight after [`DRAIN_MAX`] are cancelled.
pub async fn run(
    listener: TcpListener,
    mut dependencies: Dependencies,
    shutdown: CancellationToken,
) {
    let store = dependencies.store.clone();
    let metrics = dependencies.metrics.take();
    let draining = CancellationToken::new();
    let descriptors = dependencies.descriptors.clone();
    let drain_delay = dependencies.drain_delay;
    let limits = connection::within_open_files_limit(dependencies.limits);
    let authenticator = dependencies.authenticator.clone();
    let door = Doorway::new(
        dependencies.tls.clone(),
        dependencies.web.clone(),
        dependencies.clock.clone(),
    );
    let methods = descriptors.methods();
    let access_log = Some(AccessLog {
        store: store.clone(),
        clock: dependencies.clock.clone(),
    });
    let authenticated = authenticator.clone();
    let (traces, drained) = (dependencies.traces.clone(), draining.clone());
    let tls = dependencies.tls.clone();
    let middleware = MiddlewareLayer::new(
        methods,
        limits,
        authenticated,
        access_log,
        traces.clone(),
        drained,
    );
    let (health, health_service) = health_reporter();
    let clock = dependencies.clock.clone();
    store.go_by(move || clock.reading());
    let clock = dependencies.clock.clone();
    let skew_seconds = SkewSeconds::default();
    let readiness = readiness::watch(
        store.clone(),
        clock.clone(),
        authenticator.clone(),
        skew_seconds.clone(),
        shutdown.clone(),
    );
    let readiness = readiness.await;
    let first = *readiness.borrow();
    set_health(&health, &descriptors, status(first)).await;
    let (trust, trusts_clock) = watch::channel(first.trusts_clock());
    let service = service(dependencies, trusts_clock, draining.clone());
    let page = metrics::Page::new(Sources {
        store: &store,
        clock: &clock,
        calls: middleware.metrics(),
        dispatch: service.dispatch.metrics(),
        traces: &traces,
        tls,
        readiness: readiness.clone(),
        skew_seconds,
    });
    // Until everything is closed, so that the end is seen too.
    let _metrics = metrics
        .map(|listener| AbortOnDropHandle::new(tokio::spawn(metrics::serve(listener, page))));
    let routes = service
        .routes()
        .add_service(health_service)
        .add_service(descriptors.reflection())
        .add_service(descriptors.reflection_alpha());
    let drained_from = draining.clone();
    let stop = async {
        let publish = publish_health(&health, &descriptors, &trust, readiness);
        shutdown.run_until_cancelled(publish).await;
        set_health(&health, &descriptors, ServingStatus::NotServing).await;
        sleep(drain_delay).await;
        draining.cancel();
    };
    let serving = connection::serve(listener, door, middleware, limits, routes.prepare(), stop);
    tokio::select! {
        () = serving => {}
        () = drain_timeout(&drained_from) => warn!("draining timed out: calls in flight are cancelled"),
    }
    close(&store).await;
    traces.end().await;
    info!("stopped");
}

fn service(
    dependencies: Dependencies,
    trusts_clock: watch::Receiver<bool>,
    draining: CancellationToken,
) -> Service {
    let Dependencies {
        store,
        clock,
        descriptors: _,
        policy,
        limits: _,
        authenticator: _,
        tls: _,
        web: _,
        drain_delay: _,
        heartbeat,
        changes_days,
        metrics: _,
        traces: _,
    } = dependencies;
    let (feed, by) = (store.clone(), clock.clone());
    Service {
        dispatch: Dispatch::start(feed, by, policy, heartbeat, trusts_clock, draining),
        store,
        clock,
        policy,
        changes_days,
    }
}

/// Publishes every change of readiness as health, and to the streams that depend on the clock, for ever.
async fn publish_health(
    health: &HealthReporter,
    descriptors: &Descriptors,
    trust: &watch::Sender<bool>,
    mut readiness: watch::Receiver<Readiness>,
) {
    loop {
        let current = *readiness.borrow_and_update();
        // Whoever sees the health can open streams by then, or none any more.
        trust.send_replace(current.trusts_clock());
        set_health(health, descriptors, status(current)).await;
        if readiness.changed().await.is_err() {
            // The checks end when the server shuts down, which sets the health itself.
            return std::future::pending().await;
        }
    }
}

fn status(readiness: Readiness) -> ServingStatus {
    match readiness {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::DatabaseUnavailable
        | Readiness::ReadOnly
        | Readiness::ClockStepped
        | Readiness::KeysMissing
        | Readiness::ClockSkew => ServingStatus::NotServing,
    }
}

/// Sets the health of the server as a whole, which has an empty name, and of each service.
async fn set_health(health: &HealthReporter, descriptors: &Descriptors, status: ServingStatus) {
    health.set_service_status("", status).await;
    for service in descriptors.services() {
        health.set_service_status(service, status).await;
    }
}

/// Waits until the time for draining is over, counted from its beginning.
async fn drain_timeout(draining: &CancellationToken) {
    draining.cancelled().await;
    sleep(DRAIN_MAX).await;
}

async fn close(store: &Store) {
    if timeout(CLOSE_MAX, store.close()).await.is_err() {
        warn!("closing the store timed out");
    }
}
