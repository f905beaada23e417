//! Pages of worklists: along an index where it has their order, otherwise sorted.

use sea_orm::sea_query::{
    self, Expr, ExprTrait, Func, Order, SelectStatement, SimpleExpr, UnionType,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend};

use super::walk::{Walk, after_place, walks};
use super::{filters, in_worklists, merge, scope};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::{Instant, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::query::{Cursor, OrderBy, Query};
use crate::store::bucket::bucket;
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::query::aggregate;
use crate::store::query::in_byte_order;

/// Maximum walks along an index that are joined by one statement. More are merged, each read as far as the page needs.
const JOINED_WALKS_MAX: usize = 8;

/// Returns whether a page takes several statements, which must see the same state of the database.
pub fn needs_snapshot(query: &Query) -> bool {
    walks(query).is_some_and(|walks| walks.len() > JOINED_WALKS_MAX)
}

/// Returns one page of requests with their notifications, each with its cursor; none in place of one that cannot be
/// decoded.
pub async fn page(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<(Cursor, Option<BookingRequest>)>, Error> {
    let backend = connection.get_database_backend();
    let keys = match walks(query) {
        Some(walks) if walks.len() > JOINED_WALKS_MAX => {
            return merge::page(connection, shards, query, &walks, now, after, limit).await;
        }
        Some(walks) => page_by_index_walk(backend, (query, shards), walks, now, after, limit),
        None => Some(page_by_sort(backend, (query, shards), now, after, limit)),
    };
    let Some(keys) = keys else {
        return Ok(Vec::new());
    };
    let sort_key = |row_reader: &mut RowReader| Ok([row_reader.take()?, row_reader.take()?]);
    let buckets = shards.named(&query.care_units);
    let records = aggregate::load_selected(connection, keys, buckets, &SORT_KEY, sort_key).await?;
    let placed = records.into_iter().map(|found| {
        let cursor = Cursor {
            sort_key: found.extra_columns,
            key: found.key,
        };
        (cursor, found.record.map(|record| record.request))
    });
    let mut page: Vec<(Cursor, Option<BookingRequest>)> = placed.collect();
    page.sort_by(|(one, _), (other, _)| {
        (one.sort_key, &one.key).cmp(&(other.sort_key, &other.key))
    });
    Ok(page)
}

/// Returns the query for the keys of a page with their sort keys, by sorting all that is asked for.
fn page_by_sort(
    backend: DbBackend,
    (query, shards): (&Query, &Shards),
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> SelectStatement {
    let sort_key = sort_key(query.order_by, now);
    let mut keys = keys(Expr::col(Column::Bucket), &sort_key);
    keys.cond_where(scope(query, shards))
        .cond_where(in_worklists(query, now))
        .cond_where(filters(query, now));
    if let Some(after) = after {
        let [first, second] = sort_key;
        keys.and_where(after_cursor(backend, first, second, after));
    }
    limit_sorted(backend, keys, limit)
}

/// Returns the condition that a request is in the bucket of a care unit; none when everything lies in one place.
fn in_bucket_of(unit: &HsaId, shards: &Shards) -> Option<SimpleExpr> {
    (!shards.is_whole()).then(|| Column::Bucket.eq(bucket(unit)))
}

/// Names of the two columns of a sort key.
const SORT_KEY: [&str; 2] = ["first_rank", "second_rank"];

/// Returns the query for the keys of requests, which are in this bucket, with their sort keys.
fn keys(bucket: SimpleExpr, [first, second]: &[SimpleExpr; 2]) -> SelectStatement {
    sea_query::Query::select()
        .expr_as(bucket, Column::Bucket)
        .columns([Column::CareUnit, Column::Id])
        .expr_as(first.clone(), SORT_KEY[0])
        .expr_as(second.clone(), SORT_KEY[1])
        .from(Entity)
        .take()
}

/// Returns the query for the first `limit` of these keys.
fn limit_sorted(backend: DbBackend, mut keys: SelectStatement, limit: u32) -> SelectStatement {
    keys.order_by(SORT_KEY[0], Order::Asc)
        .order_by(SORT_KEY[1], Order::Asc)
        .order_by_expr(
            in_byte_order(backend, Expr::col(Column::CareUnit)),
            Order::Asc,
        )
        .order_by(Column::Id, Order::Asc)
        .limit(u64::from(limit))
        .take()
}

/// Returns the query of [`page_by_sort`] along the index: each walk reads at most a page of requests, however long the
/// lists are. `None` when nothing can follow.
fn page_by_index_walk(
    backend: DbBackend,
    (query, shards): (&Query, &Shards),
    walks: Vec<Walk>,
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> Option<SelectStatement> {
    let sort_key = sort_key(query.order_by, now);
    let keys_of = |walk: Walk| {
        let after_cursor = walk.after(backend, after)?;
        // The index on lists does not have the bucket, and whoever knows the care unit knows it.
        let bucket = walk.unit.map(|unit| Expr::val(bucket(unit)));
        let bucket = bucket.map(|it| it.cast_as("smallint"));
        let bucket = bucket.unwrap_or_else(|| Expr::col(Column::Bucket));
        let mut keys = keys(bucket, &sort_key);
        keys.cond_where(walk.part.condition(now))
            .cond_where(filters(query, now))
            .cond_where(after_cursor)
            .order_by(Column::StartDay, Order::Asc);
        match walk.unit {
            Some(unit) => keys
                .and_where(Column::CareUnit.eq(unit.as_str()))
                .and_where_option(in_bucket_of(unit, shards)),
            None => keys.cond_where(scope(query, shards)).order_by_expr(
                in_byte_order(backend, Expr::col(Column::CareUnit)),
                Order::Asc,
            ),
        };
        keys.order_by(Column::Id, Order::Asc)
            .limit(u64::from(limit));
        // In SQLite a query with a limit must be a subquery to be part of a union.
        let all = sea_query::Query::select()
            .expr(Expr::cust("*"))
            .from_subquery(keys, "walk")
            .take();
        Some(all)
    };
    let walks = walks.into_iter().filter_map(keys_of);
    let all = walks.reduce(|mut all, walk| all.union(UnionType::All, walk).take())?;
    let all = sea_query::Query::select()
        .expr(Expr::cust("*"))
        .from_subquery(all, "walks")
        .take();
    Some(limit_sorted(backend, all, limit))
}

/// Returns the two expressions by which an order sorts; missing values come last.
fn sort_key(order_by: OrderBy, now: Instant) -> [SimpleExpr; 2] {
    let big = |expr: SimpleExpr| expr.cast_as("bigint");
    let zero = || big(Expr::val(0_i64));
    let or_last = |column: Column| -> SimpleExpr {
        let value = Expr::col(column).cast_as("bigint");
        Func::coalesce([value, Expr::val(i64::MAX)]).into()
    };
    match order_by {
        OrderBy::StartDate => [or_last(Column::StartDay), zero()],
        OrderBy::CreateTime => [big(Expr::col(Column::CreatedAt)), zero()],
        OrderBy::NextNotification => {
            // After the end of the period no notification follows, whatever is planned.
            let live = Expr::col(Column::ExpiresAt).gt(micros(now));
            let next = Expr::case(live, or_last(Column::NextNotificationAt));
            [next.finally(Expr::val(i64::MAX)).into(), zero()]
        }
        OrderBy::Priority => [
            big(Expr::val(0_i64).sub(Expr::col(Column::Priority))),
            big(Expr::col(Column::CreatedAt)),
        ],
        OrderBy::CareGuarantee => [or_last(Column::CareGuaranteeDay), zero()],
    }
}

/// Returns the condition of the requests after a cursor.
fn after_cursor(
    backend: DbBackend,
    first: SimpleExpr,
    second: SimpleExpr,
    after: &Cursor,
) -> SimpleExpr {
    let values = after.sort_key.map(Expr::val).to_vec();
    after_place(backend, vec![first, second], values, after)
}
