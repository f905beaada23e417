//! Queries of the stream of changes: history entries in the order in which they were dated, those of some requests, and the
//! instants at which time alone changes requests. Each goes along an index that begins with the instant.

use std::sync::LazyLock;

use sea_orm::sea_query::{ArrayType, Condition, Expr, ExprTrait, Query, SelectStatement};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityName, EntityTrait, FromQueryResult, Iterable, QueryFilter,
    QueryOrder, QueryResult, QuerySelect, QueryTrait,
};
use uuid::Uuid;

use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::care_units::CareUnits;
use crate::domain::change_stream::{Page, Place, PlacedEntry};
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{Reach, RowQuery, in_buckets, query_with};
use crate::store::entity::booking_request as request;
use crate::store::entity::history::{Column, Entity, Model};
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::quarantine::RowKey;
use crate::store::query::care_units::in_units;

/// Returns the history entries of these care units after a place and dated before `until`, at most `limit`.
pub async fn entries_between(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    care_units: &CareUnits,
    after: &Place,
    until: Instant,
    limit: usize,
) -> Result<Page<PlacedEntry>, Error> {
    let place = Expr::tuple([
        Column::RecordedAt.into_expr(),
        Column::BookingRequest.into_expr(),
        Column::Ordinal.into_expr(),
    ]);
    let after = place.gt(Expr::tuple([
        Expr::val(micros(after.at)),
        Expr::val(after.request),
        Expr::val(after.ordinal),
    ]));
    let buckets = shards.named(care_units);
    let buckets = buckets.map(|it| in_buckets(Entity.table_name(), it));
    let select = Entity::find()
        .filter(after)
        .filter(Column::RecordedAt.lt(micros(until)))
        .filter(
            Condition::all()
                .add_option(in_units(Column::CareUnit.into_expr(), care_units))
                .add_option(buckets),
        )
        .order_by_asc(Column::RecordedAt)
        .order_by_asc(Column::BookingRequest)
        .order_by_asc(Column::Ordinal)
        .limit(limit as u64)
        .build(connection.get_database_backend());
    let rows = connection.query_all_raw(select).await?;
    let items: Vec<PlacedEntry> = rows.iter().map(placed_entry).collect::<Result<_, _>>()?;
    let end = items.last().filter(|_| items.len() == limit);
    Ok(Page {
        end: end.map(|it| it.place),
        items,
    })
}

/// Returns the history entries of these requests that are dated `since` then or later: those of a request in their order.
pub async fn entries_of(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    keys: &[RequestKey],
    since: Instant,
) -> Result<Vec<PlacedEntry>, Error> {
    static QUERY: LazyLock<RowQuery> = LazyLock::new(|| RowQuery::new(select_entries));
    let rows = query_with(connection, shards, [("k", dated_keys(keys, since))], &QUERY).await?;
    let found = rows.iter().map(placed_entry);
    let mut found: Vec<PlacedEntry> = found.collect::<Result<_, _>>()?;
    found.sort_by_cached_key(|it| (it.request.clone(), it.place.ordinal));
    Ok(found)
}

/// Name of the column that has the instant since which entries are wanted.
const SINCE: &str = "since";

/// Returns the keys as rows, with the columns of a history entry and an instant.
fn dated_keys(keys: &[RequestKey], since: Instant) -> Rows {
    let columns = [Column::Bucket, Column::CareUnit, Column::BookingRequest];
    let columns = columns.map(RowColumn::of::<Entity>).into_iter();
    let since_column = RowColumn::new(SINCE, ArrayType::BigInt);
    let mut rows = Rows::new(columns.chain([since_column]).collect());
    for RequestKey { care_unit, id } in keys {
        rows.push([
            bucket(care_unit).into(),
            care_unit.as_str().into(),
            (*id).into(),
            micros(since).into(),
        ]);
    }
    rows
}

/// Returns the query for the entries of the requests in the table `k`, from the instants there on.
fn select_entries(reach: Reach) -> SelectStatement {
    let of_list = |column: Column| ("k", column);
    Query::select()
        .columns(Column::iter().map(|column| (Entity, column)))
        .from("k")
        .cross_join(Entity)
        .and_where(Column::Bucket.into_expr().equals(of_list(Column::Bucket)))
        .and_where(
            Column::CareUnit
                .into_expr()
                .equals(of_list(Column::CareUnit)),
        )
        .and_where(
            Column::BookingRequest
                .into_expr()
                .equals(of_list(Column::BookingRequest)),
        )
        .and_where(Column::RecordedAt.into_expr().gte(Expr::col(("k", SINCE))))
        .and_where_option(reach.of(Entity.table_name()))
        .take()
}

fn placed_entry(row: &QueryResult) -> Result<PlacedEntry, Error> {
    let request = request::key((
        row.try_get("", "care_unit")?,
        row.try_get("", "booking_request")?,
    ));
    let place = Place {
        at: from_micros(row.try_get("", "recorded_at")?),
        request: request.id,
        ordinal: row.try_get("", "ordinal")?,
    };
    let decoded = Model::from_query_result(row, "").map_err(Error::from);
    let row = RowKey::of(Entity.table_name(), &request, Some(place.ordinal.into()));
    let entry = row.accept(decoded.and_then(Model::into_domain));
    Ok(PlacedEntry {
        request,
        place,
        entry,
    })
}

/// Returns the requests of these care units that the passing of time may change after a place and before `until`, each with
/// the place, at most `limit`. One that was changed since then is among them too.
pub async fn transitions_between(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    care_units: &CareUnits,
    after: &Place,
    until: Instant,
    limit: usize,
) -> Result<Page<(Place, RequestKey)>, Error> {
    let mut items = Vec::new();
    let mut end: Option<Place> = None;
    for column in [request::Column::FollowUpAt, request::Column::ExpiresAt] {
        let mut select = request::Entity::find()
            .select_only()
            .columns([column, request::Column::CareUnit, request::Column::Id])
            .filter(is_after(column, after))
            .filter(column.lt(micros(until)))
            .filter(request::Column::WorklistGroup.is_not_null())
            .order_by_asc(column)
            .order_by_asc(request::Column::Id)
            .limit(limit as u64);
        if let Some(in_units) = in_units(request::Column::CareUnit.into_expr(), care_units) {
            select = select.filter(in_units);
        }
        if let Some(buckets) = shards.named(care_units) {
            select = select.filter(in_buckets(request::Entity.table_name(), buckets));
        }
        let found: Vec<(i64, String, Uuid)> = select.into_tuple().all(connection).await?;
        let is_full = found.len() == limit;
        let found = found.into_iter().map(|(at, care_unit, id)| {
            let place = Place::of_elapsed(from_micros(at), id);
            (place, request::key((care_unit, id)))
        });
        items.extend(found);
        let last = items.last().filter(|_| is_full).map(|(place, _)| *place);
        end = [end, last].into_iter().flatten().min();
    }
    items.retain(|(place, _)| end.is_none_or(|end| *place <= end));
    items.sort();
    items.dedup();
    Ok(Page { items, end })
}

/// Returns the condition that the instant in a column comes after a place.
fn is_after(column: request::Column, after: &Place) -> Expr {
    let place = Expr::tuple([column.into_expr(), request::Column::Id.into_expr()]);
    let after_that = Expr::tuple([Expr::val(micros(after.at)), Expr::val(after.request)]);
    match after.ordinal {
        i32::MAX => place.gt(after_that),
        _ => place.gte(after_that),
    }
}
