//! Whether this replica may be sent calls: its database answers and takes writes, and the two agree
//! on the time.
//!
//! Asks twice a second, on the real clock, whatever a sandbox clock shows. Never decides anything
//! but that; what is done about it is the server's.

use std::error::Error;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::clock;
use crate::domain::calendar::Instant;
use crate::store::{Answer, Store};

/// How often the database is asked.
const INTERVAL: Duration = Duration::from_millis(500);
/// How long it may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// How far apart the clocks may be.
const APART_MAX: TimeDelta = TimeDelta::seconds(2);

/// What stands in the way of serving.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing.
    Ready,
    /// The database does not answer, or is in trouble.
    Away,
    /// The database takes no writes.
    ReadOnly,
    /// The machine's clock and the database's are too far apart.
    ClocksApart,
}

/// Looks once, and from then on again and again until `shutdown` is cancelled. Each change is logged
/// and told.
pub async fn watch(store: Store, shutdown: CancellationToken) -> watch::Receiver<Condition> {
    let (condition, told) = watch::channel(Condition::Ready);
    let monitor = Monitor { store, condition };
    monitor.look().await;
    tokio::spawn(async move { shutdown.run_until_cancelled(monitor.run()).await });
    told
}

struct Monitor {
    store: Store,
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
        let before = clock::wall();
        let answer = timeout(ANSWER_MAX, self.store.ask()).await;
        let after = clock::wall();
        let (condition, cause, apart) = match answer {
            Ok(Ok(answer)) => {
                let distance = |now| distance(now, before, after);
                let apart = answer.now.map_or(TimeDelta::zero(), distance);
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

/// How far the database's clock was from the machine's at the least, when it was read between two
/// readings of the machine's.
fn distance(database: Instant, before: Instant, after: Instant) -> TimeDelta {
    let behind = before - database;
    let ahead = database - after;
    behind.max(ahead).max(TimeDelta::zero())
}

fn log(condition: Condition, cause: &str, apart: TimeDelta) {
    match condition {
        Condition::Ready => tracing::info!("ready: the database answers and the clocks agree"),
        Condition::Away => tracing::warn!(cause, "not ready: the database is unavailable"),
        Condition::ReadOnly => tracing::warn!(
            "not ready: the database takes no writes; it is a standby, or told to be read-only"
        ),
        Condition::ClocksApart => tracing::error!(
            apart_seconds = apart.as_seconds_f64(),
            "not ready: this machine's clock and the database's are more than {} seconds apart",
            APART_MAX.num_seconds(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_as_far_apart_as_the_readings_prove() {
        let at = |text: &str| -> Instant { text.parse().expect("a test instant") };
        let before = at("2026-03-02T09:00:00Z");
        let after = at("2026-03-02T09:00:00.800Z");
        for (database, millis) in [
            ("2026-03-02T09:00:00Z", 0),
            ("2026-03-02T09:00:00.500Z", 0),
            ("2026-03-02T09:00:00.800Z", 0),
            ("2026-03-02T09:00:03.300Z", 2_500),
            ("2026-03-02T08:59:57.500Z", 2_500),
        ] {
            let apart = distance(at(database), before, after);
            assert_eq!(apart, TimeDelta::milliseconds(millis), "{database}");
        }
    }
}
