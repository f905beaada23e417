//! Operations of the stream of changes: what has been recorded and what time has changed, and how far that is settled.

use std::sync::Arc;

use chrono::TimeDelta;

use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::change_stream::{Page, Place, PlacedEntry};
use crate::domain::request_key::RequestKey;
use crate::store::Store;
use crate::store::change_event::ChangeEvent;
use crate::store::change_feed::LOOKBACK;
use crate::store::commit::read_set::ReadSet;
use crate::store::error::Error;
use crate::store::query::change_stream as query;
use crate::store::skew::CLOCKS_APART_MAX;

impl Store {
    /// Returns the history entries of these care units after a place and dated before `until`, at most `limit`, in the order
    /// of changes.
    pub async fn entries_between(
        &self,
        care_units: &CareUnits,
        after: Place,
        until: Instant,
        limit: usize,
    ) -> Result<Page<PlacedEntry>, Error> {
        let (care_units, shards) = (care_units.clone(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move {
                query::entries_between(readers, &shards, &care_units, &after, until, limit).await
            })
        })
        .await
    }

    /// Returns the history entries of these requests that are dated `since` then or later: those of a request in their
    /// order.
    pub async fn entries_of(
        &self,
        keys: &[RequestKey],
        since: Instant,
    ) -> Result<Vec<PlacedEntry>, Error> {
        let (keys, shards) = (keys.to_vec(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move { query::entries_of(readers, &shards, &keys, since).await })
        })
        .await
    }

    /// Returns the requests of these care units that the passing of time may change after a place and before `until`, at
    /// most `limit`, in the order of changes.
    pub async fn transitions_between(
        &self,
        care_units: &CareUnits,
        after: Place,
        until: Instant,
        limit: usize,
    ) -> Result<Page<(Place, RequestKey)>, Error> {
        let (care_units, shards) = (care_units.clone(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move {
                query::transitions_between(readers, &shards, &care_units, &after, until, limit)
                    .await
            })
        })
        .await
    }

    /// Returns the instant before which nothing more will be dated, when everything that was committed until `followed` is
    /// known: a batch is dated when it is decided, and becomes visible within the look-back of the change feed. On SQLite
    /// what is followed is settled, since batches are committed in the order in which they are decided.
    pub fn settled_before(&self, followed: Instant) -> Instant {
        match self.inner.replica {
            Some(_) => followed - TimeDelta::microseconds(LOOKBACK),
            None => followed,
        }
    }

    /// Returns the earliest date that a change may get which is decided from `now` on, by this replica or another.
    pub fn dated_from(&self, now: Instant) -> Instant {
        match self.inner.replica {
            Some(_) => now - CLOCKS_APART_MAX,
            None => now,
        }
    }

    /// Tells listeners, after the change events of all commits that were decided before `now`, that they have followed
    /// until then. On PostgreSQL each poll of the change feed does that.
    pub async fn tell_followed(&self, now: Instant) -> Result<(), Error> {
        if self.inner.replica.is_some() {
            return Ok(());
        }
        let read_set = ReadSet {
            tolerates_clock_fault: true,
            ..ReadSet::default()
        };
        // Batches are executed one after the other, so that those before it are committed and published.
        self.call_queue()?.submit(read_set, |_, _| Ok(())).await?;
        // There may be no listeners.
        let _ = self
            .inner
            .commits
            .send(Arc::new(ChangeEvent::followed(now)));
        Ok(())
    }
}
