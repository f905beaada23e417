//! Metrics that the database is asked for: no more often than every five seconds, one question at a time, and for no more
//! than a twentieth of the time, so that calls have the database for themselves.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tracing::debug;

use crate::clock::Clock;
use crate::domain::calendar;
use crate::store::Store;
use crate::store::observe::Contents;

/// Minimum time between two questions.
const INTERVAL_MIN: Duration = Duration::from_secs(5);
/// Minimum time between two questions, as a multiple of the time that the first took.
const INTERVAL_FACTOR: u32 = 20;
/// Longest time for which a reader waits for the answer to a new question; then it gets the last one.
const ANSWER_MAX: Duration = Duration::from_secs(2);

/// An answer of the database, and its time.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Contents.
    pub contents: Contents,
    /// Time by the service's clock as of which they are.
    pub now: calendar::Instant,
    /// Moment of the question.
    pub at: Instant,
}

/// Asks the database when somebody looks. Ends when it is dropped.
pub struct Observer {
    wanted: Arc<Notify>,
    seen: watch::Receiver<Option<Seen>>,
    _task: AbortOnDropHandle<()>,
}

impl Observer {
    /// Starts one that has asked nothing yet.
    pub fn start(store: Store, clock: Clock) -> Self {
        let wanted = Arc::new(Notify::new());
        let (sender, seen) = watch::channel(None);
        let asking = ask(store, clock, wanted.clone(), sender);
        Self {
            wanted,
            seen,
            _task: AbortOnDropHandle::new(tokio::spawn(asking)),
        }
    }

    /// Returns the last answer; none when it does not answer.
    pub async fn look(&self) -> Option<Seen> {
        let mut seen = self.seen.clone();
        let current = seen.borrow_and_update().clone();
        if current.is_some_and(|seen| seen.at.elapsed() < INTERVAL_MIN) {
            return self.seen.borrow().clone();
        }
        self.wanted.notify_one();
        // The last answer is better than none.
        let _ = timeout(ANSWER_MAX, seen.changed()).await;
        self.seen.borrow().clone()
    }
}

/// Asks the database each time that it is wanted, for ever.
async fn ask(store: Store, clock: Clock, wanted: Arc<Notify>, sender: watch::Sender<Option<Seen>>) {
    loop {
        wanted.notified().await;
        let (at, now) = (Instant::now(), clock.now());
        let answer = store.contents(now).await;
        if let Err(error) = &answer {
            debug!(%error, "no contents for the metrics");
        }
        let seen = answer.ok().map(|contents| Seen { contents, now, at });
        sender.send_replace(seen);
        let pause = (at.elapsed() * INTERVAL_FACTOR).max(INTERVAL_MIN);
        sleep_until(at + pause).await;
    }
}
