//! Due notifications, by the index on the instants from which they may be claimed.

use std::collections::BTreeSet;

use chrono::Duration;
use sea_orm::sea_query::{
    Asterisk, Expr, LockBehavior, LockType, Query, SelectStatement, UnionType,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, ExprTrait, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{DeliveryChannel, State};
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{exclusion, in_buckets};
use crate::store::entity::booking_request as request;
use crate::store::entity::lost_interval;
use crate::store::entity::notification::{Column, Entity};
use crate::store::error::Error;
use crate::store::query::care_units::in_units;

/// Name of the table.
const TABLE: &str = "notification";

/// The notifications that a consumer may lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Channels.
    pub channels: Vec<DeliveryChannel>,
    /// Care units.
    pub care_units: CareUnits,
    /// Care units that are paused, of which nothing is leased.
    pub paused: Vec<HsaId>,
    /// True of a consumer that gets nothing of patients with protected identity.
    pub hides_protected: bool,
    /// Buckets of the shard that they are in; none when everything lies in one place.
    pub buckets: Option<Vec<i16>>,
}

/// Time after which a notification that is leased now is claimable again at the latest: a lease and the back-off after it
/// last an hour each at most.
const LEASE_AND_BACKOFF_MAX: Duration = Duration::hours(3);

/// A notification that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueNotification {
    /// Request that it belongs to.
    pub request: RequestKey,
    /// Id.
    pub id: Uuid,
    /// True if it falls due in an interval of which commits were lost.
    pub in_lost_interval: bool,
}

/// Returns the notifications that are claimable at `now`, the earliest first and those of a request as they were planned,
/// at most `limit`, without those of the requests in `excluded`. Locks them where the database locks rows, and skips locked ones.
pub async fn claimable(
    connection: &impl ConnectionTrait,
    due: &Due,
    now: Instant,
    limit: usize,
    excluded: &[RequestKey],
) -> Result<Vec<DueNotification>, Error> {
    let backend = connection.get_database_backend();
    let Some(select) = select_claimable(backend, due, now, limit, excluded) else {
        return Ok(Vec::new());
    };
    let mut found: Vec<(i64, RequestKey, i16, Uuid, bool)> = Vec::new();
    for row in connection.query_all_raw(backend.build(&select)).await? {
        let key = (
            row.try_get("", "care_unit")?,
            row.try_get("", "booking_request")?,
        );
        let request = request::key(key);
        found.push((
            row.try_get("", "claimable_at")?,
            request,
            row.try_get("", "ordinal")?,
            row.try_get("", "id")?,
            row.try_get("", "in_lost_interval")?,
        ));
    }
    found.sort();
    found.truncate(limit);
    Ok(found
        .into_iter()
        .map(|(_, request, _, id, in_lost_interval)| DueNotification {
            request,
            id,
            in_lost_interval,
        })
        .collect())
}

/// Returns the query for claimable notifications. It walks the partial index `notification_due` once for each channel, in
/// one statement, so that a notification that moves to another channel meanwhile is seen under one of them. `None` without
/// channels.
fn select_claimable(
    backend: DbBackend,
    due: &Due,
    now: Instant,
    limit: usize,
    excluded: &[RequestKey],
) -> Option<SelectStatement> {
    let walk = |channel: &DeliveryChannel| {
        let mut walk = Entity::find()
            .select_only()
            .columns([
                Column::CareUnit,
                Column::BookingRequest,
                Column::Ordinal,
                Column::Id,
                Column::ClaimableAt,
            ])
            .expr_as(falls_due_in_lost_interval(), "in_lost_interval")
            .filter(Column::Channel.eq(channel.code()))
            .filter(Column::ClaimableAt.lte(micros(now)))
            .order_by_asc(Column::ClaimableAt)
            .limit(limit as u64)
            // SQLite has no row locks, and is sent none.
            .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
        if let Some(in_units) = in_units(Column::CareUnit.into_expr(), &due.care_units) {
            walk = walk.filter(in_units);
        }
        if let Some(buckets) = &due.buckets {
            walk = walk.filter(in_buckets(TABLE, buckets.clone()));
        }
        if !due.paused.is_empty() {
            walk = walk.filter(exclusion(TABLE, unit_rows(&due.paused), backend));
        }
        if due.hides_protected {
            walk = walk.filter(is_of_protected(due.buckets.clone()).not());
        }
        if !excluded.is_empty() {
            walk = walk.filter(exclusion(TABLE, excluded_rows(excluded), backend));
        }
        // A query with a limit must be a subquery to be part of a union.
        Query::select()
            .column(Asterisk)
            .from_subquery(walk.into_query(), "due")
            .take()
    };
    let walks = due.channels.iter().map(walk);
    walks.reduce(|mut all, walk| all.union(UnionType::All, walk).take())
}

/// Returns whether a notification in these buckets, or in any, is for a patient with protected identity. Few are due: staff must
/// have released each.
fn is_of_protected(buckets: Option<Vec<i16>>) -> Expr {
    let in_these = buckets.map(|buckets| in_buckets(request::Entity.table_name(), buckets));
    let of_notification = |column| Expr::col((Entity, column));
    let of_request = |column| Expr::col((request::Entity, column));
    let protected = Query::select()
        .expr(Expr::val(1))
        .from(request::Entity)
        .and_where(of_request(request::Column::Bucket).eq(of_notification(Column::Bucket)))
        .and_where(of_request(request::Column::CareUnit).eq(of_notification(Column::CareUnit)))
        .and_where(of_request(request::Column::Id).eq(of_notification(Column::BookingRequest)))
        .and_where(of_request(request::Column::IsProtected).eq(true))
        .and_where_option(in_these)
        .take();
    Expr::exists(protected)
}

/// Returns these care units as rows.
fn unit_rows(care_units: &[HsaId]) -> Rows {
    let mut rows = Rows::new(vec![RowColumn::of::<Entity>(Column::CareUnit)]);
    for care_unit in care_units {
        rows.push([care_unit.as_str().into()]);
    }
    rows
}

/// Returns the keys of requests as rows, which need no bucket to be compared with those that a walk finds.
fn excluded_rows(requests: &[RequestKey]) -> Rows {
    let columns = [Column::CareUnit, Column::BookingRequest];
    let mut rows = Rows::new(columns.map(RowColumn::of::<Entity>).to_vec());
    for RequestKey { care_unit, id } in requests {
        rows.push([care_unit.as_str().into(), (*id).into()]);
    }
    rows
}

/// Returns requests of a care unit with leased notifications, at most `limit`, by the index on the instants from which they
/// are claimable again.
pub async fn leased_in(
    connection: &impl ConnectionTrait,
    care_unit: &HsaId,
    now: Instant,
    limit: usize,
) -> Result<Vec<RequestKey>, Error> {
    let channels = DeliveryChannel::ALL.iter().map(|channel| channel.code());
    let keys: Vec<(String, Uuid)> = Entity::find()
        .select_only()
        .columns([Column::CareUnit, Column::BookingRequest])
        .filter(Column::Channel.is_in(channels))
        .filter(Column::ClaimableAt.lte(micros(now + LEASE_AND_BACKOFF_MAX)))
        .filter(Column::Bucket.eq(bucket(care_unit)))
        .filter(Column::CareUnit.eq(care_unit.as_str()))
        .filter(Column::State.eq(State::Leased.code()))
        .limit(limit as u64)
        .into_tuple()
        .all(connection)
        .await?;
    Ok(keys.into_iter().map(request::key).collect())
}

/// Returns whether a notification falls due in an interval of which commits were lost. There are a few in the life of a
/// database, mostly none.
fn falls_due_in_lost_interval() -> Expr {
    use lost_interval::Column::{Since, Until};
    let due_at = || Expr::col((Entity, Column::DueAt));
    let interval = Query::select()
        .expr(Expr::val(1))
        .from(lost_interval::Entity)
        .and_where(Since.into_expr().lte(due_at()))
        .and_where(Until.into_expr().gte(due_at()))
        .take();
    Expr::exists(interval)
}

/// Care units in which notifications have fallen due, by channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FallenDue {
    /// Channel.
    pub channel: DeliveryChannel,
    /// Care units; none when they are too many to be told one by one.
    pub care_units: Option<BTreeSet<HsaId>>,
}

/// Maximum notifications that are read to learn whose they are.
const FALLEN_DUE_MAX: u64 = 1_000;

/// Returns where notifications have become claimable after `since` and until `now`, in these buckets or in any, those of the
/// `paused` care units aside.
pub async fn fallen_due(
    connection: &impl ConnectionTrait,
    since: Instant,
    now: Instant,
    paused: &[HsaId],
    buckets: Option<Vec<i16>>,
) -> Result<Vec<FallenDue>, Error> {
    let mut fallen_due = Vec::new();
    for &channel in DeliveryChannel::ALL {
        let mut due = Entity::find()
            .select_only()
            .column(Column::CareUnit)
            .filter(Column::Channel.eq(channel.code()))
            .filter(Column::ClaimableAt.gt(micros(since)))
            .filter(Column::ClaimableAt.lte(micros(now)))
            .order_by_asc(Column::ClaimableAt)
            .limit(FALLEN_DUE_MAX);
        if !paused.is_empty() {
            let backend = connection.get_database_backend();
            due = due.filter(exclusion(TABLE, unit_rows(paused), backend));
        }
        if let Some(buckets) = &buckets {
            due = due.filter(in_buckets(TABLE, buckets.clone()));
        }
        let due: Vec<String> = due.into_tuple().all(connection).await?;
        if due.is_empty() {
            continue;
        }
        let is_all = (due.len() as u64) < FALLEN_DUE_MAX;
        let care_units = due.into_iter().map(HsaId::from_stored);
        fallen_due.push(FallenDue {
            channel,
            care_units: is_all.then(|| care_units.collect()),
        });
    }
    Ok(fallen_due)
}

/// Returns the first instant after `now` at which a notification becomes claimable, in these buckets or in any, those of the
/// `paused` care units aside.
pub async fn next_claimable_at(
    connection: &impl ConnectionTrait,
    now: Instant,
    paused: &[HsaId],
    buckets: Option<Vec<i16>>,
) -> Result<Option<Instant>, Error> {
    let mut next: Option<i64> = None;
    for channel in DeliveryChannel::ALL {
        let mut first = Entity::find()
            .select_only()
            .column(Column::ClaimableAt)
            .filter(Column::Channel.eq(channel.code()))
            .filter(Column::ClaimableAt.gt(micros(now)))
            .order_by_asc(Column::ClaimableAt)
            .limit(1);
        let backend = connection.get_database_backend();
        if !paused.is_empty() {
            first = first.filter(exclusion(TABLE, unit_rows(paused), backend));
        }
        if let Some(buckets) = &buckets {
            first = first.filter(in_buckets(TABLE, buckets.clone()));
        }
        let first = first.build(backend);
        if let Some(row) = connection.query_one_raw(first).await? {
            // A value that is no instant is never due.
            let at: Option<i64> = row.try_get_by_index(0).ok();
            next = [next, at].into_iter().flatten().min();
        }
    }
    Ok(next.map(from_micros))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_few_parameters_however_many_requests_are_excluded() {
        let due = Due {
            channels: DeliveryChannel::ALL.to_vec(),
            care_units: CareUnits::Every,
            paused: Vec::new(),
            hides_protected: true,
            buckets: None,
        };
        let request = |id| RequestKey {
            care_unit: HsaId::from_stored("SE2321000131-P1".into()),
            id: Uuid::from_u128(id),
        };
        let excluded: Vec<RequestKey> = (0..10_000).map(request).collect();
        for backend in [DbBackend::Sqlite, DbBackend::Postgres] {
            let select = select_claimable(backend, &due, Instant::UNIX_EPOCH, 256, &excluded);
            let statement = backend.build(&select.expect("channels"));
            let parameters = statement.values.map_or(0, |values| values.0.len());
            assert!(parameters < 20, "{parameters} on {backend:?}");
        }
    }
}
