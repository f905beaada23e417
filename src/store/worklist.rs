//! Worklists: pages, counts, and what time moves.

use super::Store;
use super::error::Error;
use super::row::worklist as row;
use crate::domain::booking_request::{BookingRequest, RequestKey};
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::{Position, Query, Worklist};

impl Store {
    /// A page of a worklist at `now`: what comes after `after`, `limit` at most; none in the place of a
    /// request that cannot be decoded.
    pub async fn list(
        &self,
        query: &Query,
        now: Instant,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<(Position, Option<BookingRequest>)>, Error> {
        let (query, after) = (query.clone(), after.cloned());
        self.read_at_once(move |readers| {
            Box::pin(async move { row::page(readers, &query, now, after.as_ref(), limit).await })
        })
        .await
    }

    /// How many requests each list of these units holds at `now`; empty lists are left out.
    pub async fn counts(
        &self,
        care_units: &[HsaId],
        now: Instant,
    ) -> Result<Vec<(Worklist, i64)>, Error> {
        let units = care_units.to_vec();
        self.read(move |snapshot| Box::pin(async move { row::counts(snapshot, &units, now).await }))
            .await
    }

    /// The requests of these units that time has moved to another list, or over the edge of
    /// [`Worklist::GuaranteeAtRisk`], after `since` and until `now`.
    pub async fn moved_by_time(
        &self,
        care_units: &[HsaId],
        since: Instant,
        now: Instant,
    ) -> Result<Vec<RequestKey>, Error> {
        let units = care_units.to_vec();
        self.read_at_once(move |readers| {
            Box::pin(async move { row::moved_by_time(readers, &units, since, now).await })
        })
        .await
    }

    /// When time next moves a request of these units to another list, after `now`.
    pub async fn next_move_at(
        &self,
        care_units: &[HsaId],
        now: Instant,
    ) -> Result<Option<Instant>, Error> {
        let units = care_units.to_vec();
        self.read(move |snapshot| {
            Box::pin(async move { row::next_move_at(snapshot, &units, now).await })
        })
        .await
    }
}
