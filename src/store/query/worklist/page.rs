//! Pages of worklists: along an index where it has their order, otherwise sorted.

use std::cmp::Ordering;

use sea_orm::sea_query::{
    self, Condition, Expr, ExprTrait, Func, Order, SelectStatement, SimpleExpr, UnionType,
};
use sea_orm::{ColumnTrait, ConnectionTrait, DbBackend};
use uuid::Uuid;

use super::{Part, filters, have_all_open, in_worklists, parts, scope};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::{Instant, micros};
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::{Cursor, OrderBy, Query};
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;
use crate::store::placement::bucket;
use crate::store::query::aggregate;
use crate::store::query::in_byte_order;

/// Maximum walks along an index that are joined to one page; planning more takes longer than sorting.
const WALKS_MAX: usize = 120;

/// Returns one page of requests with their notifications, each with its cursor; none in place of one that cannot be
/// decoded.
pub async fn page(
    connection: &impl ConnectionTrait,
    query: &Query,
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> Result<Vec<(Cursor, Option<BookingRequest>)>, Error> {
    let backend = connection.get_database_backend();
    let keys = match walks(query) {
        Some(walks) => page_by_index_walk(backend, query, walks, now, after, limit),
        None => Some(page_by_sort(backend, query, now, after, limit)),
    };
    let Some(keys) = keys else {
        return Ok(Vec::new());
    };
    let sort_key = |row_reader: &mut RowReader| Ok([row_reader.take()?, row_reader.take()?]);
    let records = aggregate::load_selected(connection, keys, &SORT_KEY, sort_key).await?;
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
    query: &Query,
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> SelectStatement {
    let sort_key = sort_key(query.order_by, now);
    let mut keys = keys(Expr::col(Column::Bucket), &sort_key);
    keys.cond_where(scope(query))
        .cond_where(in_worklists(query, now))
        .cond_where(filters(query, now));
    if let Some(after) = after {
        let [first, second] = sort_key;
        keys.and_where(after_cursor(backend, first, second, after));
    }
    limit_sorted(backend, keys, limit)
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

/// A walk along an index: the requests of a group, in one care unit or in all, with or without a first day, in the order of
/// these.
#[derive(Clone, Copy)]
struct Walk<'q> {
    part: Part,
    unit: Option<&'q HsaId>,
    first_day: FirstDay,
}

/// The requests that a walk covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstDay {
    Given,
    Missing,
}

/// Returns the walks that make up a page; `None` when sorting is the better way, or the only one: in another order, when
/// few requests are meant anyway, and when lists are asked for that are not made of groups.
fn walks(query: &Query) -> Option<Vec<Walk<'_>>> {
    let parts = parts(query);
    let made_of_groups = |list: &Worklist| match list {
        Worklist::GuaranteeAtRisk => have_all_open(&parts),
        Worklist::All => false,
        Worklist::BookingRequests
        | Worklist::CareInvitations
        | Worklist::FollowUp
        | Worklist::ManualHandling
        | Worklist::SlotIssues
        | Worklist::Declined
        | Worklist::AllInvitations
        | Worklist::AllBookingRequests => true,
    };
    let in_order = query.order_by == OrderBy::StartDate
        && !query.names_its_subject()
        && query.worklists.iter().all(made_of_groups);
    if !in_order {
        return None;
    }
    let units: Vec<Option<&HsaId>> = match &query.care_units {
        CareUnits::Every | CareUnits::Within(_) => vec![None],
        CareUnits::These(units) => units.iter().map(Some).collect(),
    };
    let mut walks = Vec::new();
    // Requests without a period come last.
    for first_day in [FirstDay::Given, FirstDay::Missing] {
        for part in &parts {
            let of_part = units.iter().map(|unit| Walk {
                part: *part,
                unit: *unit,
                first_day,
            });
            walks.extend(of_part);
        }
    }
    (walks.len() <= WALKS_MAX).then_some(walks)
}

/// Returns the query of [`page_by_sort`] along the index: each walk reads at most a page of requests, however long the
/// lists are. `None` when nothing can follow.
fn page_by_index_walk(
    backend: DbBackend,
    query: &Query,
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
            Some(unit) => keys.and_where(Column::CareUnit.eq(unit.as_str())),
            None => keys.cond_where(scope(query)).order_by_expr(
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

impl Walk<'_> {
    /// Returns the condition of its requests after a cursor; `None` when there can be none.
    fn after(self, backend: DbBackend, after: Option<&Cursor>) -> Option<Condition> {
        let of_walk = match self.first_day {
            FirstDay::Given => Column::StartDay.is_not_null(),
            FirstDay::Missing => Column::StartDay.is_null(),
        };
        let all = Condition::all().add(of_walk);
        let Some(after) = after else { return Some(all) };
        let day = i32::try_from(after.sort_key[0]).ok();
        match (self.first_day, day, self.unit) {
            (FirstDay::Given, Some(day), Some(unit)) => Some(all.add(in_unit(unit, day, after))),
            (FirstDay::Given, Some(day), None) => {
                let day = SimpleExpr::from(day);
                let first = Expr::col(Column::StartDay);
                let from = first.clone().gte(day.clone());
                Some(
                    all.add(from)
                        .add(after_place(backend, vec![first], vec![day], after)),
                )
            }
            // All that have a first day came before.
            (FirstDay::Given, None, _) => None,
            (FirstDay::Missing, Some(_), _) => Some(all),
            (FirstDay::Missing, None, None) => {
                Some(all.add(after_place(backend, vec![], vec![], after)))
            }
            (FirstDay::Missing, None, Some(unit)) => match unit.cmp(&after.key.care_unit) {
                Ordering::Less => None,
                Ordering::Equal => Some(all.add(Column::Id.gt(after.key.id))),
                Ordering::Greater => Some(all),
            },
        }
    }
}

/// Returns the condition of the requests of a care unit after a cursor on `day`. It is the same whatever the care unit is,
/// so that the statement stays prepared.
fn in_unit(unit: &HsaId, day: i32, after: &Cursor) -> SimpleExpr {
    let (day, id) = match unit.cmp(&after.key.care_unit) {
        Ordering::Less => (day, Uuid::max()),
        Ordering::Equal => (day, after.key.id),
        Ordering::Greater => (day.saturating_sub(1), Uuid::max()),
    };
    let columns = [Column::StartDay, Column::Id].map(Expr::col);
    Expr::tuple(columns).gt(Expr::tuple([Expr::val(day), Expr::val(id)]))
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

/// Returns the condition of the requests after these values, and after the key of a cursor where they are the same.
fn after_place(
    backend: DbBackend,
    mut columns: Vec<SimpleExpr>,
    mut values: Vec<SimpleExpr>,
    after: &Cursor,
) -> SimpleExpr {
    columns.push(in_byte_order(backend, Expr::col(Column::CareUnit)));
    columns.push(Expr::col(Column::Id));
    values.push(Expr::val(after.key.care_unit.as_str()));
    values.push(Expr::val(after.key.id));
    Expr::tuple(columns).gt(Expr::tuple(values))
}
