//! Due notifications, by the index on the instants from which they may be claimed.

use std::collections::{BTreeMap, BTreeSet};

use chrono::Duration;
use sea_orm::sea_query::{
    ArrayType, Condition, Expr, Func, IntoTableRef, JoinType, LockBehavior, LockType, Order, Query,
    SelectStatement,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, ExprTrait, QueryFilter,
    QuerySelect,
};
use uuid::Uuid;

use crate::domain::calendar::{Instant, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{DeliveryChannel, State};
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{exclusion, in_buckets, query_beside};
use crate::store::entity::booking_request as request;
use crate::store::entity::lost_interval;
use crate::store::entity::notification::{Column, Entity};
use crate::store::error::Error;

/// Name of the table.
const TABLE: &str = "notification";
/// Name of what the walks find.
const FOUND: &str = "found";

/// The notifications that a consumer may lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Channels.
    pub channels: Vec<DeliveryChannel>,
    /// Care units.
    pub care_units: Vec<HsaId>,
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

/// Notifications that are due, in turns: the first of each care unit, then the second of each.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The notifications, those of a care unit the earliest first and those of a request as they were planned.
    pub notifications: Vec<DueNotification>,
    /// Care units that gave as many as were asked of them through a channel, and may have more.
    pub open: BTreeSet<HsaId>,
}

/// Returns the notifications that are claimable at `now`, at most `share` of each care unit and channel, without those of the
/// requests in `excluded`. Locks them where the database locks rows, and skips locked ones.
pub async fn claimable(
    connection: &impl ConnectionTrait,
    due: &Due,
    now: Instant,
    share: usize,
    excluded: &[RequestKey],
) -> Result<Found, Error> {
    let backend = connection.get_database_backend();
    let walks = walk_rows(due);
    let select = select_claimable(backend, due, now, share, excluded);
    let mut walked: BTreeMap<(HsaId, i16), usize> = BTreeMap::new();
    let mut by_unit: BTreeMap<HsaId, Vec<FoundRow>> = BTreeMap::new();
    for row in query_beside(connection, [(WALK, walks)], &select).await? {
        let care_unit = HsaId::from_stored(row.try_get("", "care_unit")?);
        let channel: i16 = row.try_get("", WALK_CHANNEL)?;
        // SQLite gives all notifications of the requests that it has found.
        let at: Option<i64> = row.try_get("", "claimable_at")?;
        let Some(at) = at.filter(|at| *at <= micros(now)) else {
            continue;
        };
        if row.try_get::<i16>("", "channel")? != channel {
            continue;
        }
        *walked.entry((care_unit.clone(), channel)).or_default() += 1;
        by_unit.entry(care_unit).or_default().push((
            at,
            row.try_get("", "booking_request")?,
            row.try_get("", "ordinal")?,
            row.try_get("", "id")?,
            row.try_get("", "in_lost_interval")?,
        ));
    }
    let full = walked.into_iter().filter(|(_, count)| *count >= share);
    Ok(Found {
        notifications: in_turns(by_unit),
        open: full.map(|((care_unit, _), _)| care_unit).collect(),
    })
}

/// A notification that was found: from when it may be claimed, its request, its place there, its id, and whether it falls due in an
/// interval of which commits were lost.
type FoundRow = (i64, Uuid, i16, Uuid, bool);

/// Puts the notifications of care units in turns, by their places among those of their care unit.
fn in_turns(by_unit: BTreeMap<HsaId, Vec<FoundRow>>) -> Vec<DueNotification> {
    let mut found = Vec::new();
    for (care_unit, mut of_unit) in by_unit {
        of_unit.sort();
        let places = of_unit.into_iter().enumerate();
        found.extend(
            places.map(|(place, (at, request, _, id, in_lost_interval))| {
                let request = RequestKey {
                    care_unit: care_unit.clone(),
                    id: request,
                };
                let due = DueNotification {
                    request,
                    id,
                    in_lost_interval,
                };
                ((place, at), due)
            }),
        );
    }
    // Equal ones stay in the order of their care units.
    found.sort_by_key(|(order, _)| *order);
    found.into_iter().map(|(_, due)| due).collect()
}

/// Name of the table of walks, and of its columns.
const WALK: &str = "walk";
const WALK_BUCKET: &str = "walk_bucket";
const WALK_UNIT: &str = "walk_unit";
const WALK_CHANNEL: &str = "walk_channel";

/// Returns a row for each walk along the index: of a care unit, through a channel.
fn walk_rows(due: &Due) -> Rows {
    let mut rows = Rows::new(vec![
        RowColumn::new(WALK_BUCKET, ArrayType::SmallInt),
        RowColumn::new(WALK_UNIT, ArrayType::String),
        RowColumn::new(WALK_CHANNEL, ArrayType::SmallInt),
    ]);
    for care_unit in &due.care_units {
        for channel in &due.channels {
            let unit = care_unit.as_str().into();
            rows.push([bucket(care_unit).into(), unit, channel.code().into()]);
        }
    }
    rows
}

/// Returns the query for claimable notifications: the first of each walk along the partial index `notification_due`, in
/// one statement, so that a notification that moves to another channel meanwhile is seen under one of them.
fn select_claimable(
    backend: DbBackend,
    due: &Due,
    now: Instant,
    share: usize,
    excluded: &[RequestKey],
) -> SelectStatement {
    let of_walk = |column| Expr::col((WALK, column));
    let mut walk = Query::select();
    walk.from(Entity)
        .and_where(Column::Bucket.into_expr().eq(of_walk(WALK_BUCKET)))
        .and_where(Column::CareUnit.into_expr().eq(of_walk(WALK_UNIT)))
        .and_where(Column::Channel.into_expr().eq(of_walk(WALK_CHANNEL)))
        .and_where(Column::ClaimableAt.lte(micros(now)))
        .order_by(Column::ClaimableAt, Order::Asc)
        .limit(share as u64);
    if due.hides_protected {
        walk.and_where(is_of_protected(due.buckets.clone()).not());
    }
    if let Some(buckets) = &due.buckets {
        walk.and_where(in_buckets(TABLE, buckets.clone()));
    }
    if !excluded.is_empty() {
        walk.and_where(exclusion(TABLE, excluded_rows(excluded), backend));
    }
    let columns = [
        Column::CareUnit,
        Column::BookingRequest,
        Column::Ordinal,
        Column::Id,
        Column::Channel,
        Column::ClaimableAt,
    ];
    let lost = "in_lost_interval";
    let mut all = Query::select();
    all.column((WALK, WALK_CHANNEL)).from(WALK);
    match backend {
        DbBackend::Postgres => {
            walk.columns(columns)
                .expr_as(falls_due_in_lost_interval(TABLE), lost)
                .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
            all.columns(columns.map(|it| (FOUND, it)))
                .column((FOUND, lost))
                .join_lateral(JoinType::InnerJoin, walk, FOUND, Condition::all());
        }
        // It has no lateral joins, but reads the list of a sub-select for each row; and no row locks. More conditions would
        // make it walk all that is due instead of looking the requests up.
        _ => {
            let found = |column: Column| Expr::col((FOUND, column));
            walk.column(Column::BookingRequest);
            all.columns(columns.map(|it| (FOUND, it)))
                .expr_as(falls_due_in_lost_interval(FOUND), lost)
                .cross_join(Entity.into_table_ref().alias(FOUND))
                .and_where(found(Column::Bucket).eq(of_walk(WALK_BUCKET)))
                .and_where(found(Column::CareUnit).eq(of_walk(WALK_UNIT)))
                .and_where(found(Column::BookingRequest).in_subquery(walk));
        }
    }
    all
}

/// Returns whether a notification in these buckets, or in any, is for a patient with protected identity. Few are due: staff must
/// have released each. Looked up for each notification: as a condition on both tables it would read all requests of a care unit.
fn is_of_protected(buckets: Option<Vec<i16>>) -> Expr {
    let in_these = buckets.map(|buckets| in_buckets(request::Entity.table_name(), buckets));
    let of_notification = |column| Expr::col((Entity, column));
    let of_request = |column| Expr::col((request::Entity, column));
    let protected = Query::select()
        .column((request::Entity, request::Column::IsProtected))
        .from(request::Entity)
        .and_where(of_request(request::Column::Bucket).eq(of_notification(Column::Bucket)))
        .and_where(of_request(request::Column::CareUnit).eq(of_notification(Column::CareUnit)))
        .and_where(of_request(request::Column::Id).eq(of_notification(Column::BookingRequest)))
        .and_where_option(in_these)
        .take();
    Func::coalesce([Expr::from(protected), Expr::val(false)]).into()
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

/// Returns whether a notification of a table falls due in an interval of which commits were lost. There are a few in the
/// life of a database, mostly none.
fn falls_due_in_lost_interval(table: &'static str) -> Expr {
    use lost_interval::Column::{Since, Until};
    let due_at = || Expr::col((table, Column::DueAt));
    let interval = Query::select()
        .expr(Expr::val(1))
        .from(lost_interval::Entity)
        .and_where(Since.into_expr().lte(due_at()))
        .and_where(Until.into_expr().gte(due_at()))
        .take();
    Expr::exists(interval)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_has_few_parameters_however_many_requests_are_excluded() {
        let due = Due {
            channels: DeliveryChannel::ALL.to_vec(),
            care_units: vec![HsaId::from_stored("SE2321000131-P1".into())],
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
            let statement = backend.build(&select);
            let parameters = statement.values.map_or(0, |values| values.0.len());
            assert!(parameters < 20, "{parameters} on {backend:?}");
        }
    }
}
