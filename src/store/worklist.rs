//! Operations on worklists: pages, counts, and transitions by the passing of time.

use std::collections::HashMap;

use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::{Cursor, Query};
use crate::store::Store;
use crate::store::bucket::bucket;
use crate::store::counts::{ListCounts, countable_units};
use crate::store::error::Error;
use crate::store::query::care_units;
use crate::store::query::worklist::count::{self, Counts};
use crate::store::query::worklist::{page, transition};

impl Store {
    /// Returns a page of worklists at `now`: the requests after the cursor `after`, at most `limit`; none in place of a
    /// request that cannot be decoded.
    pub async fn list_worklist(
        &self,
        query: &Query,
        now: Instant,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<(Cursor, Option<BookingRequest>)>, Error> {
        let (query, after, shards) = (query.clone(), after.cloned(), self.shards());
        if page::needs_snapshot(&query) {
            let page = self.read(move |snapshot| {
                Box::pin(async move {
                    page::page(snapshot, &shards, &query, now, after.as_ref(), limit).await
                })
            });
            return page.await;
        }
        self.read_statement(move |readers| {
            Box::pin(async move {
                page::page(readers, &shards, &query, now, after.as_ref(), limit).await
            })
        })
        .await
    }

    /// Returns the number of requests that a query means, each counted once, at `now`.
    pub async fn total(&self, query: &Query, now: Instant) -> Result<i64, Error> {
        let (query, shards) = (query.clone(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move { count::total(readers, &shards, &query, now).await })
        })
        .await
    }

    /// Returns the number of requests on each of a query's lists and in each care unit at `now`; empty lists are omitted. Counts
    /// without filters may be those that were kept.
    pub async fn counts(&self, query: &Query, now: Instant) -> Result<Counts, Error> {
        let Some(units) = countable_units(query) else {
            let (query, shards) = (query.clone(), self.shards());
            let counts = self.read(move |snapshot| {
                Box::pin(async move { count::counts(snapshot, &shards, &query, now).await })
            });
            return counts.await.map(|(counts, _)| counts);
        };
        let kept = &self.inner.counts;
        let has_others = self.inner.replica.is_some();
        let mut known = kept.known(units, now, has_others);
        if known.len() < units.len() {
            let _turn = kept.turn().await;
            // Another may have counted them meanwhile.
            known = kept.known(units, now, has_others);
            let missing = units.iter().filter(|it| !known.contains_key(it));
            let missing: Vec<HsaId> = missing.cloned().collect();
            if !missing.is_empty() {
                known.extend(self.count_units(missing, now).await?);
            }
        }
        let mut counts = Counts::new();
        for (care_unit, lists) in known {
            let wanted = lists
                .iter()
                .filter(|(list, _)| query.worklists.contains(list));
            counts.extend(wanted.map(|(list, count)| ((care_unit.clone(), *list), *count)));
        }
        Ok(counts)
    }

    /// Counts every list of these care units, and keeps the counts.
    async fn count_units(
        &self,
        units: Vec<HsaId>,
        now: Instant,
    ) -> Result<HashMap<HsaId, ListCounts>, Error> {
        let lists = Worklist::ALL.iter().copied();
        let lists = lists.filter(|it| *it != Worklist::All).collect();
        let query = Query::of(lists, CareUnits::These(units.clone()));
        let next_day_at = query.next_day_at(now);
        let begun = self.inner.counts.begin(&units);
        let shards = self.shards();
        let (counts, moves_at) = self
            .read(move |snapshot| {
                Box::pin(async move { count::counts(snapshot, &shards, &query, now).await })
            })
            .await?;
        let none = units.into_iter().map(|it| (it, ListCounts::new()));
        let mut by_unit: HashMap<HsaId, ListCounts> = none.collect();
        for ((care_unit, list), count) in counts {
            by_unit.entry(care_unit).or_default().insert(list, count);
        }
        let until = [next_day_at, moves_at].into_iter().flatten().min();
        self.inner.counts.keep(begun, &by_unit, now, until);
        Ok(by_unit)
    }

    /// Returns those of these care units that have requests, after `after`, at most `limit`.
    pub async fn care_units(
        &self,
        care_units: &CareUnits,
        after: Option<&HsaId>,
        limit: u32,
    ) -> Result<Vec<HsaId>, Error> {
        let shards = self.shards();
        let mut found = Vec::new();
        for shard in 0..shards.count() {
            let (units, after) = (care_units.clone(), after.cloned());
            let buckets = shards.buckets_of(shard);
            let page = self.read_statement(move |readers| {
                Box::pin(async move {
                    care_units::page(readers, &units, buckets, after.as_ref(), limit).await
                })
            });
            found.push(page.await?);
        }
        Ok(merged(found, limit))
    }

    /// Returns the requests of a query's care units and subject that the passing of time has moved to another list, or
    /// shown in another state, after `since` and until `now`.
    pub async fn timed_transitions(
        &self,
        query: &Query,
        since: Instant,
        now: Instant,
    ) -> Result<Vec<RequestKey>, Error> {
        let (query, shards) = (query.clone(), self.shards());
        self.read_statement(move |readers| {
            Box::pin(async move {
                transition::timed_transitions(readers, &shards, &query, since, now).await
            })
        })
        .await
    }

    /// Returns the first instant after `now` at which the passing of time moves a request of a query's care units and subject
    /// to another list.
    pub async fn next_transition_at(
        &self,
        query: &Query,
        now: Instant,
    ) -> Result<Option<Instant>, Error> {
        let (query, shards) = (query.clone(), self.shards());
        self.read(move |snapshot| {
            Box::pin(
                async move { transition::next_transition_at(snapshot, &shards, &query, now).await },
            )
        })
        .await
    }
}

/// Merges pages of care units by their buckets; each is in their order already.
fn merged(mut pages: Vec<Vec<HsaId>>, limit: u32) -> Vec<HsaId> {
    if pages.len() == 1 {
        return pages.remove(0);
    }
    let mut all: Vec<HsaId> = pages.into_iter().flatten().collect();
    // The sort is stable, and each bucket is in one page.
    all.sort_by_key(bucket);
    all.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    all
}
