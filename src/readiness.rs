//! Whether this replica may be sent calls: its database answers and takes writes, its clock has not
//! just been stepped, and the two agree on the time. A sandbox clock is compared with nothing.
//!
//! Asks twice a second, by the monotonic clock. Never decides anything but that; what is done about
//! it is the server's.

use std::error::Error;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::domain::calendar::ClockReading;
use crate::store::skew::{CLOCK_SKEW_MAX, distance};
use crate::store::{DatabaseStatus, Store};

/// How often the database is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What stands in the way of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Nothing.
    Ready,
    /// The database does not answer, or is in trouble.
    DatabaseUnavailable,
    /// The database takes no writes.
    ReadOnly,
    /// The machine's clock was stepped, and may be wrong.
    ClockStepped,
    /// The machine's clock and the database's are too far apart.
    ClockSkew,
}

impl Readiness {
    /// Returns whether nothing is known to be wrong with the clock.
    pub fn trusts_clock(self) -> bool {
        match self {
            Self::Ready | Self::DatabaseUnavailable | Self::ReadOnly => true,
            Self::ClockStepped | Self::ClockSkew => false,
        }
    }
}

/// Looks once, and from then on again and again until `shutdown` is cancelled. Each change is logged
/// and told.
pub async fn watch(
    store: Store,
    clock: Clock,
    shutdown: CancellationToken,
) -> watch::Receiver<Readiness> {
    let (condition, told) = watch::channel(Readiness::Ready);
    let monitor = Monitor {
        store,
        clock,
        condition,
    };
    monitor.check().await;
    tokio::spawn(async move { shutdown.run_until_cancelled(monitor.run()).await });
    told
}

struct Monitor {
    store: Store,
    clock: Clock,
    condition: watch::Sender<Readiness>,
}

impl Monitor {
    async fn run(self) {
        loop {
            sleep(INTERVAL).await;
            self.check().await;
        }
    }

    async fn check(&self) {
        let before = self.clock.reading();
        let answer = timeout(ANSWER_MAX, self.store.probe()).await;
        let after = self.clock.reading();
        let (condition, cause, apart) = match answer {
            // Said first, so that nothing that a stepped clock shows outlasts an absence.
            _ if is_in_doubt(before) || is_in_doubt(after) => {
                (Readiness::ClockStepped, String::new(), TimeDelta::zero())
            }
            Ok(Ok(answer)) => {
                let apart = match (answer.now, after) {
                    (Some(now), ClockReading::Machine(after)) => distance(now, before.now(), after),
                    _ => TimeDelta::zero(),
                };
                (evaluate(answer, apart), String::new(), apart)
            }
            Ok(Err(error)) => (
                Readiness::DatabaseUnavailable,
                cause(&error),
                TimeDelta::zero(),
            ),
            Err(_) => {
                let cause = "no answer in time".to_owned();
                (Readiness::DatabaseUnavailable, cause, TimeDelta::zero())
            }
        };
        if self.condition.send_replace(condition) != condition {
            log(condition, &cause, apart);
        }
    }
}

fn is_in_doubt(reading: ClockReading) -> bool {
    match reading {
        ClockReading::Sandbox(_) | ClockReading::Machine(_) => false,
        ClockReading::InDoubt(_) => true,
    }
}

/// Returns what lies beneath the store's own words.
fn cause(error: &dyn Error) -> String {
    error.source().unwrap_or(error).to_string()
}

fn evaluate(answer: DatabaseStatus, apart: TimeDelta) -> Readiness {
    if answer.read_only {
        Readiness::ReadOnly
    } else if CLOCK_SKEW_MAX < apart {
        Readiness::ClockSkew
    } else {
        Readiness::Ready
    }
}

fn log(condition: Readiness, cause: &str, apart: TimeDelta) {
    match condition {
        Readiness::Ready => tracing::info!("ready: the database answers and the clocks agree"),
        Readiness::DatabaseUnavailable => {
            tracing::warn!(cause, "not ready: the database is unavailable")
        }
        Readiness::ReadOnly => tracing::warn!(
            "not ready: the database takes no writes; it is a standby, or told to be read-only"
        ),
        Readiness::ClockStepped => {
            tracing::warn!("not ready: this machine's clock was stepped and is in doubt");
        }
        Readiness::ClockSkew => tracing::error!(
            apart_seconds = apart.as_seconds_f64(),
            "not ready: this machine's clock and the database's are more than {} seconds apart",
            CLOCK_SKEW_MAX.num_seconds(),
        ),
    }
}
