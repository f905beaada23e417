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

use super::error::Error;
use super::row::announcement::{self, Key};
use super::row::write::Write;
use super::{Committed, Store};

/// How often it is asked.
const POLL: Duration = Duration::from_millis(400);
/// How far each question reaches back, in microseconds: longer than a batch may take, its commit
/// included, since an announcement carries the time before that and appears after it.
const REACH: i64 = 75_000_000;
/// How long announcements are kept, in microseconds: whoever has not asked for that long has had a
/// failure meanwhile, and looks for himself.
const KEPT: i64 = 180_000_000;
/// How often those that are older are deleted.
const SWEEP: Duration = Duration::from_secs(10);

impl Store {
    /// Passes on what others commit, for as long as the future is polled. Returns at once where
    /// there are no others.
    pub async fn follow_others(&self) {
        let Some(replica) = self.inner.replica else {
            return;
        };
        let mut seen = Seen::default();
        let mut swept = Moment::now();
        let mut failed = false;
        loop {
            tokio::time::sleep(POLL).await;
            match self.announced(replica, &mut seen).await {
                Ok(announced) => {
                    let gap = std::mem::take(&mut failed).then(Committed::gap);
                    for committed in announced.into_iter().chain(gap) {
                        // Nobody may be listening.
                        let _ = self.inner.commits.send(Arc::new(committed));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "other replicas could not be followed");
                    failed = true;
                }
            }
            if swept.elapsed() >= SWEEP {
                swept = Moment::now();
                if let Err(error) = self.sweep(seen.asked_at).await {
                    tracing::debug!(%error, "old announcements could not be deleted");
                }
            }
        }
    }

    /// What others have announced since it was asked last; from now on at first.
    async fn announced(&self, replica: Uuid, seen: &mut Seen) -> Result<Vec<Committed>, Error> {
        let since = seen.asked_at;
        let (now, keys) = self
            .read(move |snapshot| {
                Box::pin(async move {
                    let now = announcement::database_now(snapshot).await?;
                    let since = since.unwrap_or(now) - REACH;
                    let keys = announcement::keys_since(snapshot, replica, since).await?;
                    Ok((now, keys))
                })
            })
            .await?;
        let fresh = seen.fresh(keys);
        let wanted = fresh.clone();
        let announced = match fresh.is_empty() {
            true => Vec::new(),
            false => {
                self.read_at_once(move |readers| {
                    Box::pin(async move { announcement::load(readers, &wanted).await })
                })
                .await?
            }
        };
        seen.note(fresh, now);
        Ok(announced.into_iter().map(|(_, it)| it).collect())
    }

    /// Deletes what nobody asks for any more.
    async fn sweep(&self, asked_at: Option<i64>) -> Result<(), Error> {
        let Some(asked_at) = asked_at else {
            return Ok(());
        };
        announcement::delete_before(&self.inner.maintenance, asked_at - KEPT).await
    }
}

/// Tells what a commit means: other replicas by a row in the commit, listeners here after it.
#[derive(Clone)]
pub struct Announcer {
    commits: broadcast::Sender<Arc<Committed>>,
    replica: Option<Uuid>,
    number: Arc<AtomicI64>,
}

impl Announcer {
    /// For listeners here, and for other replicas where this is one.
    pub fn new(commits: broadcast::Sender<Arc<Committed>>, replica: Option<Uuid>) -> Self {
        Self {
            commits,
            replica,
            number: Arc::default(),
        }
    }

    /// What tells other replicas, if it is written by the commit.
    pub fn announcement(&self, committed: &Committed) -> Option<Write> {
        let replica = self.replica.filter(|_| !committed.is_empty())?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Some(announcement::write((replica, number), committed))
    }

    /// Tells listeners here, after the commit.
    pub fn tell(&self, committed: Committed) {
        // Nobody may be listening.
        let _ = self.commits.send(Arc::new(committed));
    }
}

/// What was seen lately, so that it is passed on once.
#[derive(Default)]
struct Seen {
    /// When it was asked last, by the database's clock.
    asked_at: Option<i64>,
    /// When each was seen first.
    at: HashMap<Key, i64>,
}

impl Seen {
    /// Those that were not seen before.
    fn fresh(&self, mut keys: Vec<Key>) -> Vec<Key> {
        keys.retain(|key| !self.at.contains_key(key));
        keys
    }

    /// Takes note of what was seen at `now`, and forgets what no question reaches any more.
    fn note(&mut self, keys: Vec<Key>, now: i64) {
        self.at.extend(keys.into_iter().map(|key| (key, now)));
        self.at.retain(|_, at| now - 2 * REACH < *at);
        self.asked_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_announcement_is_passed_on_once() {
        let key = |number| (Uuid::from_u128(1), number);
        let mut seen = Seen::default();
        assert_eq!(seen.fresh(vec![key(1), key(2)]), [key(1), key(2)]);
        seen.note(vec![key(1), key(2)], 20);
        assert_eq!(seen.fresh(vec![key(1), key(2), key(3)]), [key(3)]);
        assert_eq!(seen.asked_at, Some(20));
    }

    #[test]
    fn what_no_question_reaches_any_more_is_forgotten() {
        let mut seen = Seen::default();
        seen.note(vec![(Uuid::from_u128(1), 1)], 20);
        seen.note(vec![], 20 + REACH);
        assert_eq!(seen.at.len(), 1);
        seen.note(vec![], 20 + 2 * REACH);
        assert!(seen.at.is_empty());
    }
}
