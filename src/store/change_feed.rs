//! The change feed: publishes change events to listeners here, and to other replicas over the same database.
//!
//! A commit writes its change event as a row of the outbox. One task of each process polls the rows of the other
//! replicas, and publishes their events here as if they had been committed here; and rows of its own whose commits are in
//! doubt. A row becomes visible only when its writer commits, so each poll looks back a while and skips the rows that it has
//! seen.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityName, EntityTrait, ExprTrait, FromQueryResult, IdenStatic,
    QueryFilter, QueryOrder, QuerySelect, QueryTrait, Select,
};
use tokio::sync::broadcast;
use tokio::time::Instant as Moment;
use uuid::Uuid;

use crate::domain::calendar::{Instant, from_micros, micros};
use crate::store::Store;
use crate::store::change_event::ChangeEvent;
use crate::store::counts::KeptCounts;
use crate::store::database::connection::POSTGRES_TIMEOUTS;
use crate::store::database::probe::database_now;
use crate::store::doubts::Doubts;
use crate::store::entity::change_event::{ActiveModel, Column, Entity, Key, Model, row};
use crate::store::error::Error;
use crate::store::metrics::StoreMetrics;
use crate::store::quarantine::RowKey;

/// Interval of polls, failed ones too: each looks back over the time of those before, so that none is attempted again.
const POLL_INTERVAL: Duration = Duration::from_millis(400);
/// Time by which each poll looks back beyond the longest time that a batch may take.
const LOOKBACK_MARGIN: Duration = Duration::from_secs(5);
/// Time by which each poll looks back, in microseconds: longer than a batch may take, its commit included, since a row
/// is dated when it is written and becomes visible after the commit.
pub const LOOKBACK: i64 = (POSTGRES_TIMEOUTS.work.as_micros()
    + POSTGRES_TIMEOUTS.commit.as_micros()
    + LOOKBACK_MARGIN.as_micros()) as i64;
/// Time for which rows are kept, in microseconds: a replica that has not polled for that long has had a failure
/// meanwhile, and resyncs.
const RETENTION: i64 = 180_000_000;
/// Interval at which older rows are deleted.
const CLEANUP_INTERVAL: Duration = Duration::from_secs(10);

impl Store {
    /// Publishes the change events of other replicas, for as long as the future is polled, and after each poll until when
    /// that is: by the database's clock, or by `sandbox` where there is one. Returns at once on SQLite, where there are no
    /// others.
    pub async fn poll_change_feed(&self, sandbox: impl Fn() -> Option<Instant>) {
        let Some(replica) = self.inner.replica else {
            return;
        };
        let mut seen = DedupWindow::default();
        let mut cleaned_at = Moment::now();
        let mut failed = false;
        loop {
            tokio::time::sleep(POLL_INTERVAL).await;
            let begun = Moment::now();
            let sandbox = sandbox();
            let polled_at = seen.polled_at;
            match self.poll(replica, &mut seen).await {
                Ok(events) => {
                    failed |= has_paused(polled_at, seen.polled_at);
                    failed |= self
                        .inner
                        .doubts
                        .give_up(Duration::from_micros(LOOKBACK as u64));
                    let resync = std::mem::take(&mut failed).then(ChangeEvent::resync);
                    let followed = sandbox.or(seen.polled_at.map(from_micros));
                    let followed = followed.map(ChangeEvent::followed);
                    for event in events.into_iter().chain(resync).chain(followed) {
                        self.inner.counts.forget(&event);
                        // There may be no listeners.
                        let _ = self.inner.commits.send(Arc::new(event));
                    }
                    self.inner.counts.note_followed(begun);
                }
                Err(error) => {
                    tracing::debug!(%error, "change feed poll failed");
                    failed = true;
                }
            }
            if cleaned_at.elapsed() >= CLEANUP_INTERVAL {
                cleaned_at = Moment::now();
                if let Err(error) = self.delete_old_events(seen.polled_at).await {
                    tracing::debug!(%error, "change feed cleanup failed");
                }
            }
        }
    }

    /// Returns the change events of other replicas, and of commits here that were in doubt, that were not seen before. The
    /// first poll looks back from the present time.
    async fn poll(&self, replica: Uuid, seen: &mut DedupWindow) -> Result<Vec<ChangeEvent>, Error> {
        let since = seen.polled_at;
        let wanted = Wanted {
            replica,
            in_doubt: self.inner.doubts.numbers(),
        };
        let of_poll = wanted.clone();
        let (now, written) = self
            .read(move |snapshot| {
                Box::pin(async move {
                    let now = micros(database_now(snapshot).await?);
                    let since = since.unwrap_or(now) - LOOKBACK;
                    Ok((now, written_since(snapshot, &of_poll, since).await?))
                })
            })
            .await?;
        let unseen = seen.unseen(written.iter().map(|(key, _)| *key).collect());
        let mut events = Vec::new();
        if let Some((_, first)) = written.into_iter().find(|(key, _)| unseen.contains(key)) {
            let keys = unseen.clone();
            events = self
                .read_statement(move |readers| {
                    Box::pin(async move { load(readers, &wanted, first, &keys).await })
                })
                .await?;
        }
        let own = unseen.iter().filter(|(writer, _)| *writer == replica);
        self.inner.doubts.settle(own.map(|(_, number)| *number));
        seen.note(unseen, now);
        Ok(events)
    }

    /// Deletes the rows that are older than the retention time.
    async fn delete_old_events(&self, polled_at: Option<i64>) -> Result<(), Error> {
        let Some(polled_at) = polled_at else {
            return Ok(());
        };
        Entity::delete_many()
            .filter(Column::WrittenAt.lt(polled_at - RETENTION))
            .exec(&self.inner.maintenance)
            .await?;
        Ok(())
    }
}

/// Returns whether so much time lies between two polls that rows may have been deleted which neither has seen.
fn has_paused(before: Option<i64>, after: Option<i64>) -> bool {
    let pause = before.zip(after).map(|(before, after)| after - before);
    pause.is_some_and(|it| RETENTION - LOOKBACK <= it)
}

/// The rows that are wanted.
#[derive(Clone)]
struct Wanted {
    /// This replica: those of all others are wanted.
    replica: Uuid,
    /// Numbers of its own commits in doubt.
    in_doubt: Vec<i64>,
}

impl Wanted {
    /// Returns the query for the events, in the order in which they were written.
    fn select(&self) -> Select<Entity> {
        let of_others = Column::Replica.ne(self.replica);
        let rows = match self.in_doubt.is_empty() {
            true => of_others,
            false => of_others.or(Column::Number.is_in(self.in_doubt.iter().copied())),
        };
        Entity::find()
            .filter(rows)
            .order_by_asc(Column::WrittenAt)
            .order_by_asc(Column::Replica)
            .order_by_asc(Column::Number)
    }
}

/// Returns the keys of the wanted events that were written after `since`, in microseconds by the database's clock, each with
/// the time at which it was written, in this order. Events whose writers have not committed are not visible yet: a later poll
/// must look back.
async fn written_since(
    connection: &impl ConnectionTrait,
    wanted: &Wanted,
    since: i64,
) -> Result<Vec<(Key, i64)>, Error> {
    let written: Vec<(Uuid, i64, i64)> = wanted
        .select()
        .select_only()
        .columns([Column::Replica, Column::Number, Column::WrittenAt])
        .filter(Column::WrittenAt.gt(since))
        .into_tuple()
        .all(connection)
        .await?;
    let written = written.into_iter();
    Ok(written
        .map(|(replica, number, at)| ((replica, number), at))
        .collect())
}

/// Loads the wanted events with these keys, the first of which was written at `first`, in the order in which they were
/// written. One that cannot be decoded becomes a resync, since its content is unknown.
async fn load(
    connection: &impl ConnectionTrait,
    wanted: &Wanted,
    first: i64,
    keys: &HashSet<Key>,
) -> Result<Vec<ChangeEvent>, Error> {
    let select = wanted.select().filter(Column::WrittenAt.gte(first));
    let select = select.build(connection.get_database_backend());
    let mut events = Vec::new();
    for row in connection.query_all_raw(select).await? {
        let key: Key = (
            row.try_get("", Column::Replica.as_str())?,
            row.try_get("", Column::Number.as_str())?,
        );
        if !keys.contains(&key) {
            continue;
        }
        let decoded = Model::from_query_result(&row, "").map_err(Error::from);
        let row = RowKey {
            table: Entity.table_name(),
            care_unit: None,
            id: key.0,
            number: Some(key.1),
        };
        let event = row.accept(decoded.and_then(Model::into_domain));
        events.push(event.unwrap_or_else(ChangeEvent::resync));
    }
    Ok(events)
}

/// Publishes change events: to other replicas by a row in the commit, to listeners here after it.
#[derive(Clone)]
pub struct ChangePublisher {
    commits: broadcast::Sender<Arc<ChangeEvent>>,
    counts: KeptCounts,
    metrics: StoreMetrics,
    replica: Option<Uuid>,
    number: Arc<AtomicI64>,
    doubts: Doubts,
}

impl ChangePublisher {
    /// Returns a publisher for listeners here, and for other replicas if this process is one.
    pub fn new(
        commits: broadcast::Sender<Arc<ChangeEvent>>,
        counts: KeptCounts,
        metrics: StoreMetrics,
        replica: Option<Uuid>,
        doubts: Doubts,
    ) -> Self {
        Self {
            commits,
            counts,
            metrics,
            replica,
            number: Arc::default(),
            doubts,
        }
    }

    /// Returns the numbers that commits are counted in.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.metrics
    }

    /// Returns the row by which a commit that writes in a bucket publishes the event to other replicas, if there are any and it
    /// is not empty, and its number.
    pub fn outbox_row(&self, event: &ChangeEvent, bucket: i16) -> Option<(i64, ActiveModel)> {
        let replica = self.replica.filter(|_| !event.is_empty())?;
        let number = self.number.fetch_add(1, Ordering::Relaxed);
        Some((number, row(bucket, (replica, number), event)))
    }

    /// Publishes the event to listeners here, after the commit, unless it is empty: the access log commits as often as
    /// anything is read.
    pub fn publish(&self, event: ChangeEvent) {
        if self.doubts.take_unnumbered() {
            self.tell(ChangeEvent::resync());
        }
        if !event.is_empty() {
            self.tell(event);
        }
    }

    /// Notes that it is not known of a commit whether it was executed, which has this number in the outbox if it has a row.
    pub fn doubt(&self, event: &ChangeEvent, number: Option<i64>) {
        if !event.is_empty() {
            self.doubts.add(number);
        }
    }

    fn tell(&self, event: ChangeEvent) {
        // Before the call is answered, so that its caller's next count has it.
        self.counts.forget(&event);
        // There may be no listeners.
        let _ = self.commits.send(Arc::new(event));
    }
}

/// The rows that recent polls have seen, so that each is published once.
#[derive(Default)]
struct DedupWindow {
    /// Time of the last poll, by the database's clock.
    polled_at: Option<i64>,
    /// Time at which each row was seen first.
    seen_at: HashMap<Key, i64>,
}

impl DedupWindow {
    /// Returns the keys that were not seen before.
    fn unseen(&self, mut keys: HashSet<Key>) -> HashSet<Key> {
        keys.retain(|key| !self.seen_at.contains_key(key));
        keys
    }

    /// Adds the keys that were seen at `now`, and removes those to which no later poll looks back.
    fn note(&mut self, keys: HashSet<Key>, now: i64) {
        self.seen_at.extend(keys.into_iter().map(|key| (key, now)));
        self.seen_at
            .retain(|_, seen_at| now - 2 * LOOKBACK < *seen_at);
        self.polled_at = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_change_event_is_published_once() {
        let keys = |numbers: &[i64]| -> HashSet<Key> {
            numbers
                .iter()
                .map(|number| (Uuid::from_u128(1), *number))
                .collect()
        };
        let mut seen = DedupWindow::default();
        assert_eq!(seen.unseen(keys(&[1, 2])), keys(&[1, 2]));
        seen.note(keys(&[1, 2]), 20);
        assert_eq!(seen.unseen(keys(&[1, 2, 3])), keys(&[3]));
        assert_eq!(seen.polled_at, Some(20));
    }

    #[test]
    fn a_process_that_stood_still_for_long_has_missed_events() {
        for (pause, missed) in [(POLL_INTERVAL.as_micros() as i64, false), (RETENTION, true)] {
            assert_eq!(has_paused(Some(20), Some(20 + pause)), missed);
        }
        assert!(!has_paused(None, Some(20)));
    }

    #[test]
    fn keys_to_which_no_poll_looks_back_are_forgotten() {
        let mut seen = DedupWindow::default();
        seen.note(HashSet::from([(Uuid::from_u128(1), 1)]), 20);
        seen.note(HashSet::new(), 20 + LOOKBACK);
        assert_eq!(seen.seen_at.len(), 1);
        seen.note(HashSet::new(), 20 + 2 * LOOKBACK);
        assert!(seen.seen_at.is_empty());
    }
}
