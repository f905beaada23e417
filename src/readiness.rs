//! Readiness: this replica may be sent calls while its database answers and takes writes, its clock has
//! not just been stepped, the two agree on the time, and there are keys for the tokens that calls bring. A
//! sandbox clock is compared with nothing.
//!
//! Checks twice a second, by the monotonic clock, and decides nothing else: the server acts on it.

mod nodes;

use std::error::Error;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use chrono::TimeDelta;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::auth::Authenticator;
use crate::clock::Clock;
use crate::domain::calendar::ClockReading;
use crate::store::skew::{CLOCK_SKEW_MAX, distance};
use crate::store::{DatabaseStatus, Store};

/// Interval between two checks.
const INTERVAL: Duration = Duration::from_millis(500);
/// Longest time for which a check waits for the database's answer.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

/// Seconds between the machine's clock and the database's at the last check, for metrics.
pub type SkewSeconds = Gauge<f64, AtomicU64>;

/// State of readiness: ready, or the reason for which not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// No check fails.
    Ready,
    /// The database does not answer, or reports an error.
    DatabaseUnavailable,
    /// The database takes no writes.
    ReadOnly,
    /// The machine's clock was stepped, and may be wrong.
    ClockStepped,
    /// The machine's clock and the database's are too far apart.
    ClockSkew,
    /// No keys of the issuer have been read yet, without which every call is refused.
    KeysMissing,
}

impl Readiness {
    /// All states.
    pub const ALL: [Self; 6] = [
        Self::Ready,
        Self::DatabaseUnavailable,
        Self::ReadOnly,
        Self::ClockStepped,
        Self::ClockSkew,
        Self::KeysMissing,
    ];

    /// Returns true unless the clock is known to be wrong or in doubt.
    pub fn trusts_clock(self) -> bool {
        match self {
            Self::Ready | Self::DatabaseUnavailable | Self::ReadOnly | Self::KeysMissing => true,
            Self::ClockStepped | Self::ClockSkew => false,
        }
    }
}

/// Checks once before it returns, and from then on at intervals until `shutdown` is cancelled. Each
/// change is logged and sent to the receiver.
pub async fn watch(
    store: Store,
    clock: Clock,
    authenticator: Authenticator,
    skew_seconds: SkewSeconds,
    shutdown: CancellationToken,
) -> watch::Receiver<Readiness> {
    let (sender, receiver) = watch::channel(Readiness::Ready);
    let checker = Checker {
        has_nodes: nodes::watch(store.clone(), shutdown.clone()),
        store,
        clock,
        authenticator,
        readiness: sender,
        skew_seconds,
    };
    checker.check().await;
    tokio::spawn(async move { shutdown.run_until_cancelled(checker.run()).await });
    receiver
}

struct Checker {
    store: Store,
    clock: Clock,
    authenticator: Authenticator,
    /// Shows false while no node of the database can be reached.
    has_nodes: watch::Receiver<bool>,
    readiness: watch::Sender<Readiness>,
    skew_seconds: SkewSeconds,
}

impl Checker {
    async fn run(self) {
        loop {
            sleep(INTERVAL).await;
            self.check().await;
        }
    }

    async fn check(&self) {
        let before = self.clock.reading();
        let answer = timeout(PROBE_TIMEOUT, self.store.probe()).await;
        let after = self.clock.reading();
        let (readiness, cause, skew) = match answer {
            // This comes first, so that a stepped clock is noticed while the database is unavailable too.
            _ if is_in_doubt(before) || is_in_doubt(after) => {
                (Readiness::ClockStepped, String::new(), TimeDelta::zero())
            }
            Ok(Ok(_)) if !*self.has_nodes.borrow() => {
                let cause = "no node can be reached".to_owned();
                (Readiness::DatabaseUnavailable, cause, TimeDelta::zero())
            }
            Ok(Ok(status)) => {
                let skew = match (status.now, after) {
                    (Some(now), ClockReading::Machine(after)) => distance(now, before.now(), after),
                    _ => TimeDelta::zero(),
                };
                let has_keys = self.authenticator.has_keys();
                (evaluate(status, skew, has_keys), String::new(), skew)
            }
            Ok(Err(error)) => (
                Readiness::DatabaseUnavailable,
                cause(&error),
                TimeDelta::zero(),
            ),
            Err(_) => {
                let cause = "probe timed out".to_owned();
                (Readiness::DatabaseUnavailable, cause, TimeDelta::zero())
            }
        };
        self.skew_seconds.set(skew.as_seconds_f64());
        if self.readiness.send_replace(readiness) != readiness {
            log(readiness, &cause, skew);
        }
    }
}

fn is_in_doubt(reading: ClockReading) -> bool {
    match reading {
        ClockReading::Sandbox(_) | ClockReading::Machine(_) => false,
        ClockReading::InDoubt(_) => true,
    }
}

/// Returns the text of an error's source, or its own where it has none.
fn cause(error: &dyn Error) -> String {
    error.source().unwrap_or(error).to_string()
}

fn evaluate(status: DatabaseStatus, skew: TimeDelta, has_keys: bool) -> Readiness {
    if status.read_only {
        Readiness::ReadOnly
    } else if CLOCK_SKEW_MAX < skew {
        Readiness::ClockSkew
    } else if !has_keys {
        Readiness::KeysMissing
    } else {
        Readiness::Ready
    }
}

fn log(readiness: Readiness, cause: &str, skew: TimeDelta) {
    match readiness {
        Readiness::Ready => tracing::info!("ready: the database answers and the clocks agree"),
        Readiness::DatabaseUnavailable => {
            tracing::warn!(cause, "not ready: database unavailable")
        }
        Readiness::ReadOnly => tracing::warn!(
            "not ready: the database is read-only; it is a standby, or configured so"
        ),
        Readiness::KeysMissing => {
            tracing::warn!("not ready: no keys of the issuer yet, every call is refused");
        }
        Readiness::ClockStepped => {
            tracing::warn!("not ready: this machine's clock was stepped and is in doubt");
        }
        Readiness::ClockSkew => tracing::error!(
            skew_seconds = skew.as_seconds_f64(),
            "not ready: clock skew: this machine's clock and the database's are more than {} seconds apart",
            CLOCK_SKEW_MAX.num_seconds(),
        ),
    }
}
