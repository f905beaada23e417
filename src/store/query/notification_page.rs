//! Pages of notifications, in the order in which they are due.

use sea_orm::sea_query::{Condition, Expr, ExprTrait};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, JoinType, QueryFilter,
    QueryOrder, QuerySelect, QueryTrait, RelationTrait,
};

use crate::domain::booking_request::state::State::Invited;
use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::DisplayState;
use crate::domain::notification::State;
use crate::domain::notification::list::NotificationCursor;
use crate::domain::notification::list::NotificationFilter;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{in_buckets, membership};
use crate::store::entity::booking_request as request;
use crate::store::entity::notification::{Column, Entity, Relation};
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::query::in_byte_order;

/// Returns the cursors of one page of notifications, in the order in which they are due.
pub async fn page(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    filter: &NotificationFilter,
    now: Instant,
    after: Option<&NotificationCursor>,
    limit: u32,
) -> Result<Vec<NotificationCursor>, Error> {
    let backend = connection.get_database_backend();
    let in_units = in_units(shards, &filter.care_units, backend);
    let channels = filter.channels.iter().map(|it| it.code());
    let mut select = Entity::find()
        .select_only()
        .columns([
            Column::DueAt,
            Column::CareUnit,
            Column::BookingRequest,
            Column::Id,
        ])
        .join(JoinType::InnerJoin, Relation::BookingRequest.def())
        .filter(in_units)
        .filter(in_effective_state(&filter.states, now))
        .filter(Column::Channel.is_in(channels))
        .limit(u64::from(limit));
    for column in order(backend) {
        select = select.order_by_asc(column);
    }
    if let Some(due_before) = filter.due_before {
        select = select.filter(Column::DueAt.lt(micros(due_before)));
    }
    if let Some(after) = after {
        select = select.filter(after_cursor(backend, after));
    }
    let rows = connection.query_all_raw(select.build(backend)).await?;
    rows.iter()
        .map(|row| {
            Ok(NotificationCursor {
                due_at: from_micros(row.try_get("", "due_at")?),
                request: request::key((
                    row.try_get("", "care_unit")?,
                    row.try_get("", "booking_request")?,
                )),
                notification: row.try_get("", "id")?,
            })
        })
        .collect()
}

/// Returns the condition that a notification is of these care units. Where there are several shards it names their buckets, of
/// its request too, so that the statement goes to no others.
fn in_units(shards: &Shards, care_units: &[HsaId], backend: DbBackend) -> Condition {
    let (table, of_request) = (Entity.table_name(), request::Entity.table_name());
    match shards.of_units(care_units) {
        None => Condition::all().add(membership(table, unit_rows(care_units), backend)),
        Some(buckets) => Condition::all()
            .add(in_buckets(table, buckets.clone()))
            .add(in_buckets(of_request, buckets))
            .add(Column::CareUnit.is_in(care_units.iter().map(HsaId::as_str))),
    }
}

/// Returns care units as rows, with their buckets, which come first in the primary key.
fn unit_rows(care_units: &[HsaId]) -> Rows {
    let columns = [Column::Bucket, Column::CareUnit];
    let mut rows = Rows::new(columns.map(RowColumn::of::<Entity>).to_vec());
    for care_unit in care_units {
        rows.push([bucket(care_unit).into(), care_unit.as_str().into()]);
    }
    rows
}

/// Returns the columns of the order: the due time, then the name.
fn order(backend: DbBackend) -> [Expr; 4] {
    let column = |column| Expr::col((Entity, column));
    [
        column(Column::DueAt),
        in_byte_order(backend, column(Column::CareUnit)),
        column(Column::BookingRequest),
        column(Column::Id),
    ]
}

/// Returns the condition of the rows after a cursor.
fn after_cursor(backend: DbBackend, after: &NotificationCursor) -> Expr {
    Expr::tuple(order(backend)).gt(Expr::tuple([
        Expr::val(micros(after.due_at)),
        Expr::val(after.request.care_unit.as_str()),
        Expr::val(after.request.id),
        Expr::val(after.notification),
    ]))
}

/// Returns the condition that a notification has one of these effective states at `now`: one that is scheduled, leased or
/// parked on a live invitation, or that was dispatching when its lease expired, counts as skipped once the period has passed,
/// or if it is due after the period.
fn in_effective_state(states: &[DisplayState], now: Instant) -> Condition {
    let expires_at = request::Column::ExpiresAt;
    let waits =
        Column::State.is_in([State::Scheduled, State::Leased, State::Parked].map(|it| it.code()));
    let is_unanswered = Column::State
        .eq(State::Dispatching.code())
        .and(Column::LeaseExpiresAt.lte(micros(now)));
    let may_be_skipped = waits.or(is_unanswered);
    let live = request::Column::State.eq(Invited.code());
    let over = expires_at
        .lte(micros(now))
        .or(expires_at.into_expr().lte(Column::DueAt.into_expr()));
    let skipped = may_be_skipped.and(live).and(over);
    let stored = states.iter().filter_map(|state| match state {
        DisplayState::Planned(state) => Some(state.code()),
        DisplayState::Projected | DisplayState::Skipped => None,
    });
    let stored = Column::State.is_in(stored).and(skipped.clone().not());
    let mut any = Condition::any().add(stored);
    if states.contains(&DisplayState::Skipped) {
        any = any.add(skipped);
    }
    any
}
