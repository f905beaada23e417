//! Notifications as rows, and the due index.

use sea_orm::entity::prelude::*;
use sea_orm::sea_query::{Condition, ExprTrait, Order};
use sea_orm::{ConnectionTrait, DbBackend, Value};

use crate::domain::booking_request::state::State::Invited;
use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::Channel;
use crate::domain::notification::ChannelReason;
use crate::domain::notification::DisplayState;
use crate::domain::notification::Kind;
use crate::domain::notification::Lease;
use crate::domain::notification::Notification;
use crate::domain::notification::Outcome;
use crate::domain::notification::State;
use crate::domain::notification::list::NotificationCursor;
use crate::domain::notification::list::NotificationFilter;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Column as BulkColumn, Kind as Type, Table};
use crate::store::database::connection::RowLock;
use crate::store::entity::booking_request as request;
use crate::store::entity::document::{code, instant, optional};
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;
use crate::store::query::in_byte_order;

/// A row of `notification`: the key, and the columns that built queries use.
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "notification")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub care_unit: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub booking_request: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub ordinal: i16,
    pub id: Uuid,
    pub state: i16,
    pub channel: i16,
    pub due_at: i64,
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The table, for bulk writes.
pub const TABLE: Table = Table {
    name: "notification",
    key: &[
        ("care_unit", Type::Text),
        ("booking_request", Type::Uuid),
        ("ordinal", Type::Integer),
    ],
    mutable: &[
        ("channel", Type::Integer),
        ("channel_reason", Type::Integer),
        ("due_at", Type::Integer),
        ("expired_lease_count", Type::Integer),
        ("retry_count", Type::Integer),
        ("possible_repeat", Type::Boolean),
        ("changed_since_lease", Type::Boolean),
        ("cause", Type::Optional(&Type::Text)),
        ("superseded", Type::Boolean),
        ("read_at", Type::Optional(&Type::Integer)),
        ("unread_at", Type::Optional(&Type::Integer)),
        ("returned_at", Type::Optional(&Type::Integer)),
        ("released_at", Type::Optional(&Type::Integer)),
        ("version", Type::Integer),
        ("state", Type::Integer),
        ("retry_at", Type::Optional(&Type::Integer)),
        ("claimable_at", Type::Optional(&Type::Integer)),
        ("lease_token", Type::Optional(&Type::Uuid)),
        ("lease_expires_at", Type::Optional(&Type::Integer)),
        ("lease_first_at", Type::Optional(&Type::Integer)),
        ("lease_answer", Type::Optional(&Type::Integer)),
        ("attempt_count", Type::Integer),
        ("sent_at", Type::Optional(&Type::Integer)),
    ],
    fixed: &[
        ("id", Type::Uuid),
        ("round", Type::Integer),
        ("kind", Type::Integer),
        ("channel_fixed", Type::Boolean),
    ],
};

/// The last of the mutable columns: those that a lease or a hand-over changes. Most updates change no others, and then
/// assign these alone.
pub const LEASE_COLUMNS: &[BulkColumn] = TABLE.mutable.split_at(LASTING).1;

/// Number of mutable columns before them.
const LASTING: usize = 13;

/// Returns the key of the notification that was planned as number `ordinal` of its request.
pub fn key_values(request: &RequestKey, ordinal: usize) -> Vec<Value> {
    let mut values = request::key_values(request);
    let ordinal = i16::try_from(ordinal).expect("a request has a few notifications");
    values.push(ordinal.into());
    values
}

/// Returns the values of the mutable columns, in their order.
pub fn mutable_values(notification: &Notification, version: i32) -> Vec<Value> {
    [
        lasting_values(notification),
        lease_values(notification, version),
    ]
    .concat()
}

/// Returns the values of [`LEASE_COLUMNS`], in their order.
pub fn lease_values(notification: &Notification, version: i32) -> Vec<Value> {
    let lease = notification.lease.as_ref();
    vec![
        version.into(),
        notification.state.code().into(),
        notification.retry_at.map(micros).into(),
        notification.claimable_at.map(micros).into(),
        lease.map(|it| it.token).into(),
        lease.map(|it| micros(it.expires_at)).into(),
        lease.map(|it| micros(it.first_at)).into(),
        lease.and_then(|it| it.answer).map(|it| it.code()).into(),
        notification.attempt_count.into(),
        notification.sent_at.map(micros).into(),
    ]
}

/// Returns the values of the mutable columns before [`LEASE_COLUMNS`], in their order.
pub fn lasting_values(notification: &Notification) -> Vec<Value> {
    vec![
        notification.channel.code().into(),
        notification.channel_reason.code().into(),
        micros(notification.due_at).into(),
        notification.expired_lease_count.into(),
        notification.retry_count.into(),
        notification.possible_repeat.into(),
        notification.changed_since_lease.into(),
        notification.cause.clone().into(),
        notification.superseded.into(),
        notification.read_at.map(micros).into(),
        notification.unread_at.map(micros).into(),
        notification.returned_at.map(micros).into(),
        notification.released_at.map(micros).into(),
    ]
}

/// Returns the values of the columns that are written once, in their order.
pub fn fixed_values(notification: &Notification) -> Vec<Value> {
    vec![
        notification.id.into(),
        notification.round.into(),
        notification.kind.code().into(),
        notification.channel_fixed.into(),
    ]
}

/// Returns the columns of a notification in the order in which [`read`] takes them: its ordinal, then the columns of
/// [`TABLE`].
pub fn columns() -> impl Iterator<Item = String> {
    let columns = TABLE.mutable.iter().chain(TABLE.fixed);
    let names = std::iter::once("ordinal").chain(columns.map(|(name, _)| *name));
    names.map(|name| format!("n.{name}"))
}

/// A notification as it is stored.
pub struct StoredNotification {
    /// Ordinal among those of its request.
    pub ordinal: i16,
    /// Version of the row.
    pub version: i32,
    /// The notification.
    pub notification: Notification,
}

/// Reads the notification that a row holds from its [`columns`] on; `None` where the request has none.
pub fn read(row_reader: &mut RowReader) -> Result<Option<StoredNotification>, Error> {
    let Some(ordinal) = row_reader.take()? else {
        return Ok(None);
    };
    // In the order of the columns.
    let channel = code(Channel::from_code, row_reader.take()?)?;
    let channel_reason = code(ChannelReason::from_code, row_reader.take()?)?;
    let due_at = instant(row_reader.take()?)?;
    let (expired_lease_count, retry_count) = (row_reader.take()?, row_reader.take()?);
    let (possible_repeat, changed_since_lease) = (row_reader.take()?, row_reader.take()?);
    let (cause, superseded) = (row_reader.take()?, row_reader.take()?);
    let (read_at, unread_at, returned_at) = (
        optional_instant(row_reader)?,
        optional_instant(row_reader)?,
        optional_instant(row_reader)?,
    );
    let released_at = optional_instant(row_reader)?;
    let version = row_reader.take()?;
    let state = code(State::from_code, row_reader.take()?)?;
    let (retry_at, claimable_at) = (optional_instant(row_reader)?, optional_instant(row_reader)?);
    let lease: (Option<Uuid>, _, _) = (
        row_reader.take()?,
        optional_instant(row_reader)?,
        optional_instant(row_reader)?,
    );
    let lease_answer = optional(Outcome::from_code, row_reader.take()?)?;
    let lease = match lease {
        (Some(token), Some(expires_at), Some(first_at)) => Some(Lease {
            token,
            expires_at,
            first_at,
            answer: lease_answer,
        }),
        _ => None,
    };
    let (attempt_count, sent_at) = (row_reader.take()?, optional_instant(row_reader)?);
    let notification = Notification {
        id: row_reader.take()?,
        round: row_reader.take()?,
        kind: code(Kind::from_code, row_reader.take()?)?,
        channel_fixed: row_reader.take()?,
        state,
        channel,
        channel_reason,
        due_at,
        retry_at,
        claimable_at,
        lease,
        attempt_count,
        expired_lease_count,
        retry_count,
        possible_repeat,
        released_at,
        changed_since_lease,
        sent_at,
        cause,
        superseded,
        read_at,
        unread_at,
        returned_at,
    };
    Ok(Some(StoredNotification {
        ordinal,
        version,
        notification,
    }))
}

fn optional_instant(row_reader: &mut RowReader) -> Result<Option<Instant>, Error> {
    row_reader.take::<Option<i64>>()?.map(instant).transpose()
}

/// The notifications that a consumer may lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Channels.
    pub channels: Vec<Channel>,
    /// Care units; none means all.
    pub care_units: Option<Vec<HsaId>>,
}

/// Returns the notifications that are claimable at `now`, the earliest first, at most `limit`, without those of the
/// requests in `excluded`. Locks them where the database locks rows, and skips locked ones.
pub async fn claimable(
    connection: &impl ConnectionTrait,
    due: &Due,
    now: Instant,
    limit: usize,
    excluded: &[RequestKey],
) -> Result<Vec<(RequestKey, Uuid)>, Error> {
    let statement = claimable_statement(connection, due, now, limit, excluded);
    let mut found: Vec<(i64, RequestKey, Uuid)> = Vec::new();
    for row in connection.query_all_raw(statement).await? {
        let key = (
            row.try_get("", "care_unit")?,
            row.try_get("", "booking_request")?,
        );
        let request = request::key(key);
        found.push((
            row.try_get("", "claimable_at")?,
            request,
            row.try_get("", "id")?,
        ));
    }
    found.sort();
    found.truncate(limit);
    Ok(found
        .into_iter()
        .map(|(_, request, id)| (request, id))
        .collect())
}

/// Returns the statement for claimable notifications. It walks the partial index `notification_due` once for each
/// channel, in one statement, so that a notification that moves to another channel meanwhile is seen under one of them.
fn claimable_statement(
    connection: &impl ConnectionTrait,
    due: &Due,
    now: Instant,
    limit: usize,
    excluded: &[RequestKey],
) -> sea_orm::Statement {
    let backend = connection.get_database_backend();
    let lock = RowLock::SkipLocked.clause(backend, "notification");
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let mut values: Vec<Value> = vec![micros(now).into(), limit.into()];
    let exclusion = exclusion(backend, excluded, &mut values);
    let mut numbered = |value: Value| {
        values.push(value);
        format!("${}", values.len())
    };
    let in_units = due.care_units.as_ref().map_or_else(String::new, |units| {
        let units = units.iter().map(|unit| numbered(unit.as_str().into()));
        let units: Vec<String> = units.collect();
        format!("AND care_unit IN ({}) ", units.join(", "))
    });
    let walk = |channel: &Channel| {
        let channel = numbered(channel.code().into());
        format!(
            "SELECT * FROM (SELECT care_unit, booking_request, id, claimable_at FROM notification \
             WHERE channel = {channel} AND claimable_at <= $1 {in_units}{exclusion}ORDER BY claimable_at \
             LIMIT $2{lock}) AS due"
        )
    };
    let walks: Vec<String> = due.channels.iter().map(walk).collect();
    sea_orm::Statement::from_sql_and_values(backend, walks.join(" UNION ALL "), values)
}

/// Returns the condition that a notification is of none of these requests; nothing when there are none.
fn exclusion(backend: DbBackend, requests: &[RequestKey], values: &mut Vec<Value>) -> String {
    if requests.is_empty() {
        return String::new();
    }
    let first = values.len() + 1;
    if backend == DbBackend::Postgres {
        let (keys, arrays) = request::key_rows(requests).take(backend, first);
        values.extend(arrays);
        return format!("AND (care_unit, booking_request) NOT IN {keys} ");
    }
    // A list of parameters would need a statement of its own for each number of requests.
    let hex = |id: Uuid| id.simple().to_string().to_uppercase();
    let keys = requests
        .iter()
        .map(|key| (key.care_unit.as_str(), hex(key.id)));
    let keys = serde_json::json!(keys.collect::<Vec<_>>()).to_string();
    values.push(keys.into());
    format!(
        "AND (care_unit, hex(booking_request)) NOT IN \
         (SELECT value ->> 0, value ->> 1 FROM json_each(${first})) "
    )
}

/// Returns the first instant after `now` at which a notification becomes claimable.
pub async fn next_claimable_at(
    connection: &impl ConnectionTrait,
    now: Instant,
) -> Result<Option<Instant>, Error> {
    let mut next: Option<i64> = None;
    for channel in Channel::ALL {
        let statement = sea_orm::Statement::from_sql_and_values(
            connection.get_database_backend(),
            "SELECT claimable_at FROM notification WHERE channel = $1 AND claimable_at > $2 \
             ORDER BY claimable_at LIMIT 1",
            [channel.code().into(), micros(now).into()],
        );
        if let Some(row) = connection.query_one_raw(statement).await? {
            // A value that is no instant is never due.
            let at: Option<i64> = row.try_get("", "claimable_at").ok();
            next = [next, at].into_iter().flatten().min();
        }
    }
    Ok(next.map(from_micros))
}

/// Returns the cursors of one page of notifications, in the order in which they are due.
pub async fn page(
    connection: &impl ConnectionTrait,
    filter: &NotificationFilter,
    now: Instant,
    after: Option<&NotificationCursor>,
    limit: u32,
) -> Result<Vec<NotificationCursor>, Error> {
    let units = filter.care_units.iter().map(HsaId::as_str);
    let request = Expr::col((request::Entity, request::Column::CareUnit))
        .equals((Entity, Column::CareUnit))
        .and(
            Expr::col((request::Entity, request::Column::Id))
                .equals((Entity, Column::BookingRequest)),
        );
    let mut select = sea_orm::sea_query::Query::select();
    select
        .columns([
            (Entity, Column::DueAt),
            (Entity, Column::CareUnit),
            (Entity, Column::BookingRequest),
            (Entity, Column::Id),
        ])
        .from(Entity)
        .inner_join(request::Entity, request)
        .and_where(Expr::col((Entity, Column::CareUnit)).is_in(units))
        .cond_where(in_effective_state(&filter.states, now))
        .limit(u64::from(limit));
    let backend = connection.get_database_backend();
    for column in order(backend) {
        select.order_by_expr(column, Order::Asc);
    }
    let codes = filter.channels.iter().map(|it| it.code());
    select.and_where(Expr::col((Entity, Column::Channel)).is_in(codes));
    if let Some(due_before) = filter.due_before {
        select.and_where(Expr::col((Entity, Column::DueAt)).lt(micros(due_before)));
    }
    if let Some(after) = after {
        select.and_where(after_cursor(backend, after));
    }
    let rows = connection.query_all_raw(backend.build(&select)).await?;
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
/// parked on a live invitation counts as skipped once the period has passed, or if it is due after the period.
fn in_effective_state(states: &[DisplayState], now: Instant) -> Condition {
    let state = || Expr::col((Entity, Column::State));
    let expires_at = || Expr::col((request::Entity, request::Column::ExpiresAt));
    let may_be_skipped =
        state().is_in([State::Scheduled, State::Leased, State::Parked].map(|it| it.code()));
    let live = Expr::col((request::Entity, request::Column::State)).eq(Invited.code());
    let over = expires_at()
        .lte(micros(now))
        .or(expires_at().lte(Expr::col((Entity, Column::DueAt))));
    let skipped = may_be_skipped.and(live).and(over);
    let stored = states.iter().filter_map(|state| match state {
        DisplayState::Planned(state) => Some(state.code()),
        DisplayState::Projected | DisplayState::Skipped => None,
    });
    let stored = state().is_in(stored).and(skipped.clone().not());
    let mut any = Condition::any().add(stored);
    if states.contains(&DisplayState::Skipped) {
        any = any.add(skipped);
    }
    any
}
