//! Operations on worklists: pages, counts, and transitions by the passing of time.

use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::{Cursor, Query, Worklist};
use crate::store::Store;
use crate::store::error::Error;
use crate::store::query::worklist as row;

impl Store {
    /// Returns a page of a worklist at `now`: the requests after the cursor `after`, at most `limit`; none in place of a
    /// request that cannot be decoded.
    pub async fn list_worklist(
        &self,
        query: &Query,
        now: Instant,
        after: Option<&Cursor>,
        limit: u32,
    ) -> Result<Vec<(Cursor, Option<BookingRequest>)>, Error> {
        let (query, after) = (query.clone(), after.cloned());
        self.read_statement(move |readers| {
            Box::pin(async move { row::page(readers, &query, now, after.as_ref(), limit).await })
        })
        .await
    }

    /// Returns the number of requests on each list of these care units at `now`; empty lists are omitted.
    pub async fn counts(
        &self,
        care_units: &[HsaId],
        now: Instant,
    ) -> Result<Vec<(Worklist, i64)>, Error> {
        let units = care_units.to_vec();
        self.read(move |snapshot| Box::pin(async move { row::counts(snapshot, &units, now).await }))
            .await
    }

    /// Returns the requests of these care units that the passing of time has moved to another list, or to
    /// [`Worklist::GuaranteeAtRisk`], after `since` and until `now`.
    pub async fn timed_transitions(
        &self,
        care_units: &[HsaId],
        since: Instant,
        now: Instant,
    ) -> Result<Vec<RequestKey>, Error> {
        let units = care_units.to_vec();
        self.read_statement(move |readers| {
            Box::pin(async move { row::timed_transitions(readers, &units, since, now).await })
        })
        .await
    }

    /// Returns the first instant after `now` at which the passing of time moves a request of these care units to another
    /// list.
    pub async fn next_transition_at(
        &self,
        care_units: &[HsaId],
        now: Instant,
    ) -> Result<Option<Instant>, Error> {
        let units = care_units.to_vec();
        self.read(move |snapshot| {
            Box::pin(async move { row::next_transition_at(snapshot, &units, now).await })
        })
        .await
    }
}
