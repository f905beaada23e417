//! The server: the services behind the middleware, with health and reflection, on a listener that
//! is handed in. Stops when it is told to, in an order that callers can follow.

mod connection;

use std::io;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};
use tracing::{error, info, warn};

use crate::clock::Clock;
use crate::dispatch::Dispatch;
use crate::domain::RegionPolicy;
use crate::grpc::Service;
use crate::grpc::descriptors::Descriptors;
use crate::grpc::middleware::{Limits, MiddlewareLayer};
use crate::readiness::{self, Readiness};
use crate::store::Store;

/// How long calls in flight may take to finish once the server is told to stop.
pub const DRAIN_MAX: Duration = Duration::from_secs(15);
/// How long the store may take to close after that.
pub const CLOSE_MAX: Duration = Duration::from_secs(2);
/// The process ends this long after a signal told it to stop, come what may.
const EXIT_MAX: Duration = Duration::from_secs(19);
/// The time that the last line of the log has to be written.
const LAST_LINE: Duration = Duration::from_millis(100);

/// What the server is made of.
pub struct Dependencies {
    /// Where requests are kept. Closed when the server has stopped.
    pub store: Store,
    /// What time it is; a sandbox clock is served.
    pub clock: Clock,
    /// What the region has settled.
    pub policy: RegionPolicy,
    /// How much is done at once.
    pub limits: Limits,
}

/// Returns a token that SIGTERM and Ctrl-C cancel. From then on the process has 19 seconds to end.
///
/// # Errors
///
/// The system does not hand signals on.
pub fn stop_on_signals() -> io::Result<CancellationToken> {
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
        // A thread of its own, which waits for nothing that could hang.
        std::thread::spawn(|| {
            std::thread::sleep(EXIT_MAX);
            // Logging waits for nobody; a line that standard error does not take is lost.
            error!("did not stop in time");
            std::thread::sleep(LAST_LINE);
            std::process::exit(1);
        });
    });
    Ok(shutdown)
}

/// Serves on `listener` until `shutdown` is cancelled and what was under way has ended.
///
/// Then health turns NOT_SERVING, streams end with UNAVAILABLE, no new connection is taken, calls
/// in flight finish, and the store is closed; all of it within [`DRAIN_MAX`] and [`CLOSE_MAX`],
/// whatever is left by then.
pub async fn run(listener: TcpListener, parts: Dependencies, shutdown: CancellationToken) {
    let store = parts.store.clone();
    let draining = CancellationToken::new();
    let descriptors = Descriptors::served_with(&parts.clock);
    let limits = connection::within_handles(parts.limits);
    let middleware = MiddlewareLayer::new(descriptors.methods(), limits, draining.clone());
    let (health, health_service) = health_reporter();
    let clock = parts.clock.clone();
    store.go_by(move || clock.reading());
    let condition = readiness::watch(store.clone(), parts.clock.clone(), shutdown.clone()).await;
    let first = *condition.borrow();
    report(&health, &descriptors, status(first)).await;
    let (trust, trusts_clock) = watch::channel(first.trusts_clock());
    let routes = service(parts, trusts_clock, draining.clone())
        .routes()
        .add_service(health_service)
        .add_service(descriptors.reflection())
        .add_service(descriptors.reflection_alpha());
    let stop = async {
        let tell = tell(&health, &descriptors, &trust, condition);
        shutdown.run_until_cancelled(tell).await;
        report(&health, &descriptors, ServingStatus::NotServing).await;
        draining.cancel();
    };
    let serving = connection::serve(listener, middleware, limits, routes.prepare(), stop);
    tokio::select! {
        () = serving => {}
        () = overdue(&shutdown) => warn!("calls were still under way and are cut"),
    }
    close(&store).await;
    info!("stopped");
}

fn service(
    parts: Dependencies,
    trusts_clock: watch::Receiver<bool>,
    draining: CancellationToken,
) -> Service {
    let Dependencies {
        store,
        clock,
        policy,
        limits: _,
    } = parts;
    Service {
        dispatch: Dispatch::start(store.clone(), clock.clone(), policy, trusts_clock, draining),
        store,
        clock,
        policy,
    }
}

/// Keeps health, and whether streams trust the clock, as the readiness says, for ever.
async fn tell(
    health: &HealthReporter,
    descriptors: &Descriptors,
    trust: &watch::Sender<bool>,
    mut condition: watch::Receiver<Readiness>,
) {
    loop {
        let condition_now = *condition.borrow_and_update();
        report(health, descriptors, status(condition_now)).await;
        trust.send_replace(condition_now.trusts_clock());
        if condition.changed().await.is_err() {
            // The readiness ends when the server drains, which is told elsewhere.
            return std::future::pending().await;
        }
    }
}

fn status(condition: Readiness) -> ServingStatus {
    match condition {
        Readiness::Ready => ServingStatus::Serving,
        Readiness::DatabaseUnavailable
        | Readiness::ReadOnly
        | Readiness::ClockStepped
        | Readiness::ClockSkew => ServingStatus::NotServing,
    }
}

/// Sets the health of the whole, which has no name, and of each service.
async fn report(health: &HealthReporter, descriptors: &Descriptors, status: ServingStatus) {
    health.set_service_status("", status).await;
    for service in descriptors.services() {
        health.set_service_status(service, status).await;
    }
}

/// Waits until the server was told to stop and has had its time for it.
async fn overdue(shutdown: &CancellationToken) {
    shutdown.cancelled().await;
    sleep(DRAIN_MAX).await;
}

async fn close(store: &Store) {
    if timeout(CLOSE_MAX, store.close()).await.is_err() {
        warn!("the store did not close in time");
    }
}
