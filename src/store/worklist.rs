//! Operations on worklists: pages, counts, and transitions by the passing of time.

use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::query::{Cursor, Query};
use crate::store::Store;
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
        let (query, after) = (query.clone(), after.cloned());
        if page::needs_snapshot(&query) {
            let page = self.read(move |snapshot| {
                Box::pin(
                    async move { page::page(snapshot, &query, now, after.as_ref(), limit).await },
                )
            });
            return page.await;
        }
        self.read_statement(move |readers| {
            Box::pin(async move { page::page(readers, &query, now, after.as_ref(), limit).await })
        })
        .await
    }

    /// Returns the number of requests that a query means, each counted once, at `now`.
    pub async fn total(&self, query: &Query, now: Instant) -> Result<i64, Error> {
        let query = query.clone();
        self.read_statement(move |readers| {
            Box::pin(async move { count::total(readers, &query, now).await })
        })
        .await
    }

    /// Returns the number of requests on each of a query's lists and in each care unit at `now`; empty lists are omitted.
    pub async fn counts(&self, query: &Query, now: Instant) -> Result<Counts, Error> {
        let query = query.clone();
        self.read(move |snapshot| {
            Box::pin(async move { count::counts(snapshot, &query, now).await })
        })
        .await
    }

    /// Returns those of these care units that have requests, after `after`, at most `limit`.
    pub async fn care_units(
        &self,
        care_units: &CareUnits,
        after: Option<&HsaId>,
        limit: u32,
    ) -> Result<Vec<HsaId>, Error> {
        let (units, after) = (care_units.clone(), after.cloned());
        self.read_statement(move |readers| {
            Box::pin(async move { care_units::page(readers, &units, after.as_ref(), limit).await })
        })
        .await
    }

    /// Returns the requests of a query's care units and subject that the passing of time has moved to another list, or
    /// shown in another state, after `since` and until `now`.
    pub async fn timed_transitions(
        &self,
        query: &Query,
        since: Instant,
        now: Instant,
    ) -> Result<Vec<RequestKey>, Error> {
        let query = query.clone();
        self.read_statement(move |readers| {
            Box::pin(
                async move { transition::timed_transitions(readers, &query, since, now).await },
            )
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
        let query = query.clone();
        self.read(move |snapshot| {
            Box::pin(async move { transition::next_transition_at(snapshot, &query, now).await })
        })
        .await
    }
}
