//! Pages over many care units: the walks of all of them merged, each read only as far as the page needs.
//!
//! Each walk gives a few requests first. Those that may have more before the page's last place are asked again, for more of
//! them, until none is left.

use std::collections::HashMap;

use sea_orm::sea_query::{
    ArrayType, Condition, Expr, ExprTrait, IntoTableRef, JoinType, Order, Query as Select,
    SelectStatement,
};
use sea_orm::{ConnectionTrait, DbBackend, EntityName};

use super::walk::{BEGIN, FirstDay, Place, Walk};
use super::{Part, filters};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::query::{Cursor, Query};
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{in_buckets, query_beside};
use crate::store::entity::booking_request::{Column, Entity, key};
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::query::aggregate;

/// Minimum requests that each walk gives at first.
const FIRST_SHARE_MIN: usize = 2;
/// Growth of the requests that a walk is asked for, each time that it is asked again.
const SHARE_GROWTH: usize = 4;

/// Returns one page of requests with their notifications, each with its cursor; none in place of one that cannot be
/// decoded. The connection shows one state of the database.
pub async fn page(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    walks: &[Walk<'_>],
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<(Cursor, Option<BookingRequest>)>, Error> {
    let limit = limit as usize;
    let mut cursors = Vec::new();
    for first_day in [FirstDay::Given, FirstDay::Missing] {
        let of_day = walks.iter().filter(|walk| walk.first_day == first_day);
        let begins = of_day.filter_map(|walk| Position::begin(*walk, after));
        let (begins, left) = (begins.collect(), limit - cursors.len());
        cursors.append(&mut merged(connection, shards, query, begins, now, left).await?);
    }
    let keys: Vec<RequestKey> = cursors.iter().map(|it| it.key.clone()).collect();
    let found = aggregate::load(connection, shards, &keys).await?;
    let records = found
        .into_iter()
        .map(|found| (found.key, found.record.map(|record| record.request)));
    let mut records: HashMap<RequestKey, Option<BookingRequest>> = records.collect();
    let with_record = |cursor: Cursor| {
        let record = records.remove(&cursor.key)?;
        Some((cursor, record))
    };
    Ok(cursors.into_iter().filter_map(with_record).collect())
}

/// Returns the first `limit` requests of walks with or without a first day, in their order.
async fn merged(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    mut open: Vec<Position<'_>>,
    now: Instant,
    limit: usize,
) -> Result<Vec<Cursor>, Error> {
    let mut page: Vec<Cursor> = Vec::new();
    let mut share = (2 * limit).div_ceil(open.len().max(1)).max(FIRST_SHARE_MIN);
    while limit > 0 && !open.is_empty() {
        share = share.min(limit);
        for of_part in open.chunk_by_mut(|one, other| one.part == other.part) {
            page.append(&mut advance(connection, shards, query, of_part, now, share).await?);
        }
        page.sort_by(|one, other| (one.sort_key, &one.key).cmp(&(other.sort_key, &other.key)));
        page.truncate(limit);
        let last = page.get(limit - 1);
        open.retain(|it| it.given == share && last.is_none_or(|last| it.is_before(last)));
        share *= SHARE_GROWTH;
    }
    Ok(page)
}

/// A walk along the index in one care unit, and the place after which it goes on.
struct Position<'q> {
    part: Part,
    unit: &'q HsaId,
    first_day: FirstDay,
    place: Place,
    /// Number of requests that it gave when it was last asked.
    given: usize,
}

impl<'q> Position<'q> {
    /// Returns the place after which a walk begins that goes on after a cursor; `None` when nothing can follow.
    fn begin(walk: Walk<'q>, after: Option<&Cursor>) -> Option<Self> {
        let unit = walk.unit?;
        let place = after.map_or(Some(BEGIN), |after| walk.place_after(unit, after))?;
        Some(Self {
            part: walk.part,
            unit,
            first_day: walk.first_day,
            place,
            given: 0,
        })
    }

    /// Moves behind the next request, and returns its cursor.
    fn advance(&mut self, day: Option<i32>, key: RequestKey) -> Cursor {
        // Requests without a day have the order of their ids.
        let next = (day.unwrap_or(BEGIN.0), key.id);
        self.place = self.place.max(next);
        self.given += 1;
        Cursor {
            sort_key: [day.map_or(i64::MAX, i64::from), 0],
            key,
        }
    }

    fn is_before(&self, cursor: &Cursor) -> bool {
        let day = match self.first_day {
            FirstDay::Given => self.place.0.into(),
            FirstDay::Missing => i64::MAX,
        };
        let place = ([day, 0], self.unit, self.place.1);
        place < (cursor.sort_key, &cursor.key.care_unit, cursor.key.id)
    }
}

/// Reads the next requests of these walks of one part, at most `share` of each, and moves the walks behind them.
async fn advance(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    walks: &mut [Position<'_>],
    now: Instant,
    share: usize,
) -> Result<Vec<Cursor>, Error> {
    let Some(first) = walks.first() else {
        return Ok(Vec::new());
    };
    let backend = connection.get_database_backend();
    let keys = keys_after(first.part, first.first_day, query, now, share);
    let mut by_unit = HashMap::new();
    let mut units = Vec::new();
    for walk in walks {
        walk.given = 0;
        units.push(walk.unit);
        by_unit.insert(walk.unit.as_str(), walk);
    }
    let mut found = Vec::new();
    for part in shards.split(units, |unit| unit) {
        let places = part.elements.iter().map(|unit| &*by_unit[unit.as_str()]);
        let rows = walk_rows(places);
        let mut keys = keys.clone();
        if let Some(buckets) = shards.of_units(part.elements) {
            keys.and_where(in_buckets(Entity.table_name(), buckets));
        }
        let select = of_every_row(backend, keys);
        for row in query_beside(connection, [("walk", rows)], &select).await? {
            let key = key((row.try_get("", "care_unit")?, row.try_get("", "id")?));
            let Some(walk) = by_unit.get_mut(key.care_unit.as_str()) else {
                return Err(Error::internal(
                    "a request of a care unit that was not asked for",
                ));
            };
            found.push(walk.advance(row.try_get("", "start_day")?, key));
        }
    }
    Ok(found)
}

/// Returns walks as rows, with the places after which they go on.
fn walk_rows<'w>(walks: impl Iterator<Item = &'w Position<'w>>) -> Rows {
    let mut rows = Rows::new(vec![
        RowColumn::new("walk_bucket", ArrayType::SmallInt),
        RowColumn::new("walk_unit", ArrayType::String),
        RowColumn::new("walk_day", ArrayType::Int),
        RowColumn::new("walk_id", ArrayType::Uuid),
    ]);
    for walk in walks {
        let (day, id) = walk.place;
        let unit = walk.unit.as_str().into();
        rows.push([bucket(walk.unit).into(), unit, day.into(), id.into()]);
    }
    rows
}

/// Returns the query for the next requests of the walk that the table `walk` has a row of.
fn keys_after(
    part: Part,
    first_day: FirstDay,
    query: &Query,
    now: Instant,
    share: usize,
) -> SelectStatement {
    let [day, id] = ["walk_day", "walk_id"].map(|it| Expr::col(("walk", it)));
    Select::select()
        .column(Column::Id)
        .from(Entity)
        .and_where(Expr::col(Column::CareUnit).equals(("walk", "walk_unit")))
        .cond_where(part.condition(now))
        .cond_where(filters(query, now))
        .and_where(first_day.condition())
        .and_where(first_day.is_after((day, id)))
        .order_by(Column::StartDay, Order::Asc)
        .order_by(Column::Id, Order::Asc)
        .limit(share as u64)
        .take()
}

/// Returns the query for the requests whose keys `keys` selects for any row of the table `walk`.
fn of_every_row(backend: DbBackend, mut keys: SelectStatement) -> SelectStatement {
    let mut all = Select::select();
    all.from("walk");
    match backend {
        DbBackend::Postgres => {
            keys.columns([Column::CareUnit, Column::StartDay]);
            all.columns([Column::CareUnit, Column::Id, Column::StartDay])
                .join_lateral(JoinType::InnerJoin, keys, "found", Condition::all());
        }
        // It has no lateral joins, but reads the list of a sub-select for each row.
        _ => {
            let found = |column: Column| Expr::col(("found", column));
            all.columns([Column::CareUnit, Column::Id, Column::StartDay].map(|it| ("found", it)))
                .cross_join(Entity.into_table_ref().alias("found"))
                .and_where(found(Column::Bucket).equals(("walk", "walk_bucket")))
                .and_where(found(Column::CareUnit).equals(("walk", "walk_unit")))
                .and_where(found(Column::Id).in_subquery(keys));
        }
    }
    all
}
