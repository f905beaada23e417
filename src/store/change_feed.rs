//! Telling what was committed: listeners here, and other replicas over the same database.
//!
//! A commit leaves an announcement. One task a process reads those of the others, and passes them on
//! as if they had been made here. They appear only when their writer commits, so each question
//! reaches back a while, and what was seen is left out.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::time::Instant as Moment;
use uuid::Uuid;

use crate::store::Store;
use crate::store::bulk::write::Write;
use crate::store::change_event::ChangeEvent;
use crate::store::entity::change_event::{self, Key};
use crate::store::error::Error;

/// How often it is asked.
const POLL_INTERVAL: Duration = Duration::from_millis(400);
/// How far each question reaches back, in microseconds: longer than a batch may take, its commit
/// included, since an announcement carries the time before that and appears after it.
const LOOKBACK: i64 = 75_000_000;
/// How long announcements are kept, in microseconds: whoever has not asked for that long has had a
/// failure meanwhile, and looks for himself.
const RETENTION: i64 = 180_000_000;
/// How often those that are older are deleted.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(10);

impl Store {
    /// Passes on what others commit, for as long as the future is polled. Returns at once where
    /// there are no others.
    pub async fn poll_change_feed(&self) {
        let Some(replica) = self.inner.replica else {
            return;
        };
        let mut seen = DedupWindow::default();
        let mut swept = Moment::now();
        let mut failed = false;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            match self.announced(replica, &mut seen).await {
                Ok(announced) => {
                    let resync = std::mem::take(&mut failed).then(ChangeEvent::resync);
                    for committed in announced.into_iter().chain(resync) {
                        // Nobody may be listening.
                        let _ = self.inner.commits.send(Arc::new(committed));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "other replicas could not be followed");
                    failed = true;
                }
            }
            if swept.elapsed() >= CLEANUP_INTERVAL {
                swept = Moment::now();
                if let Err(error) = self.sweep(seen.asked_at).await {
                    tracing::debug!(%error, "old announcements could not be deleted");
                }
            }
        }
    }

    /// Returns what others have announced since it was asked last; from now on at first.
    async fn announced(
        &self,
        replica: Uuid,
        seen: &mut DedupWindow,
    ) -> Result<Vec<ChangeEvent>, Error> {
        let since = seen.asked_at;
        let (now, keys) = self
            .read(move |snapshot| {
                Box::pin(async move {
                    let now = change_event::database_now(snapshot).await?;
                    let since = since.unwrap_or(now) - LOOKBACK;
                    let keys = change_event::keys_since(snapshot, replica, since).await?;
                    Ok((now, keys))
                })
            })
            .await?;
        let unseen = seen.unseen(keys);
        let wanted = unseen.clone();
        let announced = match unseen.is_empty() {
            true => Vec::new(),
            false => {
                self.read_statement(move |readers| {
                    Box::pin(async move { change_event::load(readers, &wanted).await })
                })
                .await?
            }
        };
        seen.note(unseen, now);
        Ok(announced.into_iter().map(|(_, it)| it).collect())
    }

    /// Deletes what nobody asks for any more.
    async fn sweep(&self, asked_at: Option<i64>) -> Result<(), Error> {
        let Some(asked_at) = asked_at else {
            return Ok(());
        };
        change_event::delete_before(&self.inner.maintenance, asked_at - RETENTION).await
    }
}

/// Tells what a commit means: other replicas by a row in the commit, listeners here after it.
#[derive(Clone)]
pub struct ChangePublisher {
    commits: broadcast::Sender<Arc<ChangeEvent>>,
    replica: Option<Uuid>,
    number: Arc<AtomicI64>,
}

impl ChangePublisher {
    /// For listeners here, and for other replicas where this is one.
    pub fn new(commits: broadcast::Sender<Arc<ChangeEvent>>, replica: Option<Uuid>) -> Self {
        Self {
            commits,
            replica,
            number: Arc::default(),
        }
    }

    /// Returns what tells other replicas, if it is written by the commit.
    pub fn outbox_row(&self, committed: &ChangeEvent) -> Option<Write> {
        let replica = self.replica.filter(|_| !committed.is_empty())?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Some(change_event::write((replica, number), committed))
    }

    /// Tells listeners here, after the commit.
    pub fn publish(&self, committed: ChangeEvent) {
        // Nobody may be listening.
        let _ = self.commits.send(Arc::new(committed));
    }
}

/// What was seen lately, so that it is passed on once.
#[derive(Default)]
struct DedupWindow {
    /// When it was asked last, by the database's clock.
    asked_at: Option<i64>,
    /// When each was seen first.
    at: HashMap<Key, i64>,
}

impl DedupWindow {
    /// Returns those that were not seen before.
    fn unseen(&self, mut keys: Vec<Key>) -> Vec<Key> {
        keys.retain(|key| !self.at.contains_key(key));
        keys
    }

    /// Takes note of what was seen at `now`, and forgets what no question reaches any more.
    fn note(&mut self, keys: Vec<Key>, now: i64) {
        self.at.extend(keys.into_iter().map(|key| (key, now)));
        self.at.retain(|_, at| now - 2 * LOOKBACK < *at);
        self.asked_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_announcement_is_passed_on_once() {
        let key = |number| (Uuid::from_u128(1), number);
        let mut seen = DedupWindow::default();
        assert_eq!(seen.unseen(vec![key(1), key(2)]), [key(1), key(2)]);
        seen.note(vec![key(1), key(2)], 20);
        assert_eq!(seen.unseen(vec![key(1), key(2), key(3)]), [key(3)]);
        assert_eq!(seen.asked_at, Some(20));
    }

    #[test]
    fn what_no_question_reaches_any_more_is_forgotten() {
        let mut seen = DedupWindow::default();
        seen.note(vec![(Uuid::from_u128(1), 1)], 20);
        seen.note(vec![], 20 + LOOKBACK);
        assert_eq!(seen.at.len(), 1);
        seen.note(vec![], 20 + 2 * LOOKBACK);
        assert!(seen.at.is_empty());
    }
}
