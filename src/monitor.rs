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
use crate::store::skew::{APART_MAX, distance};
use crate::store::{Answer, Store};

/// How often the database is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);

/// What stands in the way of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Ready,
    /// The database does not answer, or is in trouble.
    Away,
    /// The database takes no writes.
    ReadOnly,
    /// The machine's clock was stepped, and may be wrong.
    ClockStepped,
    /// The machine's clock and the database's are too far apart.
    ClocksApart,
}

impl Condition {
    /// Whether nothing is known to be wrong with the clock.
    pub fn trusts_clock(self) -> bool {
        match self {
            Self::Ready | Self::Away | Self::ReadOnly => true,
            Self::ClockStepped | Self::ClocksApart => false,
        }
    }
}

/// Looks once, and from then on again and again until `shutdown` is cancelled. Each change is logged
/// and told.
pub async fn watch(
    store: Store,
    clock: Clock,
    shutdown: CancellationToken,
) -> watch::Receiver<Condition> {
    let (condition, told) = watch::channel(Condition::Ready);
    let monitor = Monitor {
        store,
        clock,
        condition,
    };
    monitor.look().await;
    tokio::spawn(async move { shutdown.run_until_cancelled(monitor.run()).await });
    told
}

struct Monitor {
    store: Store,
    clock: Clock,
    condition: watch::Sender<Condition>,
}

impl Monitor {
    async fn run(self) {
        loop {
            sleep(INTERVAL).await;
            self.look().await;
        }
    }

    async fn look(&self) {
        let before = self.clock.reading();
        let answer = timeout(ANSWER_MAX, self.store.ask()).await;
        let after = self.clock.reading();
        let (condition, cause, apart) = match answer {
            // Said first, so that nothing that a stepped clock shows outlasts an absence.
            _ if is_in_doubt(before) || is_in_doubt(after) => {
                (Condition::ClockStepped, String::new(), TimeDelta::zero())
            }
            Ok(Ok(answer)) => {
                let apart = match (answer.now, after) {
                    (Some(now), ClockReading::Machine(after)) => distance(now, before.now(), after),
                    _ => TimeDelta::zero(),
                };
                (judge(answer, apart), String::new(), apart)
            }
            Ok(Err(error)) => (Condition::Away, cause(&error), TimeDelta::zero()),
            Err(_) => {
                let cause = "no answer in time".to_owned();
                (Condition::Away, cause, TimeDelta::zero())
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

/// What lies beneath the store's own words.
fn cause(error: &dyn Error) -> String {
    error.source().unwrap_or(error).to_string()
}

fn judge(answer: Answer, apart: TimeDelta) -> Condition {
    if answer.read_only {
        Condition::ReadOnly
    } else if APART_MAX < apart {
        Condition::ClocksApart
    } else {
        Condition::Ready
    }
}

fn log(condition: Condition, cause: &str, apart: TimeDelta) {
    match condition {
        Condition::Ready => tracing::info!("ready: the database answers and the clocks agree"),
        Condition::Away => tracing::warn!(cause, "not ready: the database is unavailable"),
        Condition::ReadOnly => tracing::warn!(
            "not ready: the database takes no writes; it is a standby, or told to be read-only"
        ),
        Condition::ClockStepped => {
            tracing::warn!("not ready: this machine's clock was stepped and is in doubt");
        }
        Condition::ClocksApart => tracing::error!(
            apart_seconds = apart.as_seconds_f64(),
            "not ready: this machine's clock and the database's are more than {} seconds apart",
            APART_MAX.num_seconds(),
        ),
    }
}
