//! Queries of worklists: pages, counts, and transitions by the passing of time.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use sea_orm::sea_query::{
    self, Condition, Expr, ExprTrait, Func, Order, SelectStatement, SimpleExpr, UnionType,
};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityName, EntityTrait, QueryFilter, QuerySelect,
    QueryTrait, Select,
};
use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{Instant, civil_date, from_micros, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::{Cursor, OrderBy, Query, Worklist, guarantee_at_risk_until};
use crate::store::entity::booking_request::{Column, Entity, key};
use crate::store::entity::document::day;
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;
use crate::store::quarantine::RowKey;
use crate::store::query::aggregate;
use crate::store::query::in_byte_order;
use crate::store::query::request_keys::is_patient;

/// Maximum requests on an unknown list that are named at once.
const UNLISTED_MAX: u64 = 100;

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
    let keys = match query.order_by == OrderBy::StartDate && has_index_order(query.worklist) {
        true => page_by_index_walk(backend, query, now, after, limit),
        false => Some(page_by_sort(backend, query, now, after, limit)),
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

/// Returns the query for the keys of a page with their sort keys, by sorting the whole list.
fn page_by_sort(
    backend: DbBackend,
    query: &Query,
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> SelectStatement {
    let sort_key = sort_key(query.order_by, now);
    let units = query.care_units.iter().map(HsaId::as_str);
    let mut keys = keys(&sort_key);
    keys.and_where(Column::CareUnit.is_in(units))
        .cond_where(in_worklist(query.worklist, now))
        .cond_where(filters(query));
    if let Some(after) = after {
        let [first, second] = sort_key;
        keys.and_where(after_cursor(backend, first, second, after));
    }
    limit_sorted(backend, keys, limit)
}

/// Names of the two columns of a sort key.
const SORT_KEY: [&str; 2] = ["first_rank", "second_rank"];

/// Returns the query for the keys of requests with their sort keys.
fn keys([first, second]: &[SimpleExpr; 2]) -> SelectStatement {
    sea_query::Query::select()
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

/// Returns true when the index `booking_request_worklist` has the requests of this list, and no others, in the order of
/// their first days.
fn has_index_order(worklist: Worklist) -> bool {
    match worklist {
        Worklist::BookingRequests
        | Worklist::CareInvitations
        | Worklist::ManualHandling
        | Worklist::SlotIssues
        | Worklist::Declined => true,
        // Some of their requests are in the index under the list from which the passing of time has moved them.
        Worklist::FollowUp | Worklist::GuaranteeAtRisk | Worklist::All => false,
    }
}

/// Returns the query of [`page_by_sort`] along the index: of each care unit it reads at most a page of requests with a
/// first day and a page of those without, however long the list is. `None` when nothing can follow.
fn page_by_index_walk(
    backend: DbBackend,
    query: &Query,
    now: Instant,
    after: Option<&Cursor>,
    limit: u32,
) -> Option<SelectStatement> {
    let sort_key = sort_key(query.order_by, now);
    let walk = |unit: &HsaId, first_day| {
        let after_cursor = after_cursor_in_unit(unit, first_day, after)?;
        let mut walk = keys(&sort_key);
        walk.and_where(Column::CareUnit.eq(unit.as_str()))
            .cond_where(in_worklist(query.worklist, now))
            .cond_where(filters(query))
            .cond_where(after_cursor)
            .order_by(Column::StartDay, Order::Asc)
            .order_by(Column::Id, Order::Asc)
            .limit(u64::from(limit));
        // In SQLite a query with a limit must be a subquery to be part of a union.
        let all = sea_query::Query::select()
            .expr(Expr::cust("*"))
            .from_subquery(walk, "walk")
            .take();
        Some(all)
    };
    // Requests without a period come last.
    let (dated, undated) = (query.care_units.iter(), query.care_units.iter());
    let dated = dated.filter_map(|unit| walk(unit, FirstDay::Given));
    let undated = undated.filter_map(|unit| walk(unit, FirstDay::Missing));
    let walks = dated.chain(undated);
    let all = walks.reduce(|mut all, walk| all.union(UnionType::All, walk).take())?;
    let all = sea_query::Query::select()
        .expr(Expr::cust("*"))
        .from_subquery(all, "walks")
        .take();
    Some(limit_sorted(backend, all, limit))
}

/// The requests of a care unit that a walk covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum FirstDay {
    Given,
    Missing,
}

/// Returns the condition of the requests of a care unit, with or without a first day, after a cursor; `None` when there can
/// be none.
fn after_cursor_in_unit(
    unit: &HsaId,
    first_day: FirstDay,
    after: Option<&Cursor>,
) -> Option<Condition> {
    let of_walk = match first_day {
        FirstDay::Given => Column::StartDay.is_not_null(),
        FirstDay::Missing => Column::StartDay.is_null(),
    };
    let all = Condition::all().add(of_walk);
    let Some(after) = after else { return Some(all) };
    let same_day = unit.cmp(&after.key.care_unit);
    let after_id = || Column::Id.gt(after.key.id);
    match (first_day, i32::try_from(after.sort_key[0]).ok()) {
        (FirstDay::Given, Some(day)) => {
            // The same condition whatever the care unit is, so that the statement stays prepared.
            let (day, id) = match same_day {
                Ordering::Less => (day, Uuid::max()),
                Ordering::Equal => (day, after.key.id),
                Ordering::Greater => (day.saturating_sub(1), Uuid::max()),
            };
            let columns = [Column::StartDay, Column::Id].map(Expr::col);
            Some(all.add(Expr::tuple(columns).gt(Expr::tuple([Expr::val(day), Expr::val(id)]))))
        }
        // All that have a first day came before.
        (FirstDay::Given, None) => None,
        (FirstDay::Missing, Some(_)) => Some(all),
        (FirstDay::Missing, None) => match same_day {
            Ordering::Less => None,
            Ordering::Equal => Some(all.add(after_id())),
            Ordering::Greater => Some(all),
        },
    }
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
    Expr::tuple([
        first,
        second,
        in_byte_order(backend, Expr::col(Column::CareUnit)),
        Expr::col(Column::Id),
    ])
    .gt(Expr::tuple([
        Expr::val(after.sort_key[0]),
        Expr::val(after.sort_key[1]),
        Expr::val(after.key.care_unit.as_str()),
        Expr::val(after.key.id),
    ]))
}

/// Returns the condition that a request is on a list at `now`. The domain has stored its list and the instant at which the
/// passing of time moves it to FOLLOW_UP.
fn in_worklist(worklist: Worklist, now: Instant) -> Condition {
    let moved = || Column::FollowUpAt.lte(micros(now));
    match worklist {
        Worklist::BookingRequests
        | Worklist::CareInvitations
        | Worklist::ManualHandling
        | Worklist::SlotIssues
        | Worklist::Declined => Condition::all()
            .add(Column::Worklist.eq(worklist.code()))
            .add(
                Condition::any()
                    .add(Column::FollowUpAt.is_null())
                    .add(Column::FollowUpAt.gt(micros(now))),
            ),
        Worklist::FollowUp => Condition::all().add(Column::Worklist.is_not_null()).add(
            Condition::any()
                .add(Column::Worklist.eq(worklist.code()))
                .add(moved()),
        ),
        Worklist::GuaranteeAtRisk => at_risk(now),
        Worklist::All => Condition::all(),
    }
}

fn at_risk(now: Instant) -> Condition {
    let until = guarantee_at_risk_until(civil_date(now));
    let open = [State::Requested.code(), State::Invited.code()];
    Condition::all()
        .add(Column::CareGuaranteeDay.lte(day(until)))
        .add(Column::State.is_in(open))
}

fn filters(query: &Query) -> Condition {
    let mut condition = Condition::all();
    if let Some(kind) = query.visit_kind {
        condition = condition.add(Column::VisitKind.eq(kind.code()));
    }
    if !query.visit_type_codes.is_empty() {
        condition = condition.add(Column::VisitTypeCode.is_in(&query.visit_type_codes));
    }
    if let Some(personal_id) = &query.personal_id {
        condition = condition.add(is_patient(personal_id));
    }
    if let Some(referral_id) = &query.referral_id {
        condition = condition.add(Column::ReferralId.eq(referral_id));
    }
    if let Some(period) = query.period {
        condition = condition
            .add(Column::StartDay.lte(day(period.last)))
            .add(Column::EndDay.gte(day(period.first)));
    }
    // Every request has at least the lowest priority, and the indexes on lists do not have the column.
    if query.minimum_priority > Priority::Routine {
        condition = condition.add(Column::Priority.gte(query.minimum_priority.code()));
    }
    condition
}

/// Returns the number of requests on each list of these care units at `now`; empty lists are omitted.
pub async fn counts(
    connection: &impl ConnectionTrait,
    care_units: &[HsaId],
    now: Instant,
) -> Result<Vec<(Worklist, i64)>, Error> {
    // An index has all the columns that are counted, in the order in which they are grouped.
    let moved: SimpleExpr = Expr::case(Column::FollowUpAt.lte(micros(now)), 1_i64).into();
    let by_list = in_any_worklist(care_units)
        .column(Column::Worklist)
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .expr_as(Func::count(moved), "moved")
        .group_by(Column::CareUnit)
        .group_by(Column::Worklist)
        .build(connection.get_database_backend());
    let mut counts = BTreeMap::new();
    let mut all_known = true;
    for row in connection.query_all_raw(by_list).await? {
        let requests: i64 = row.try_get("", "requests")?;
        let moved: i64 = row.try_get("", "moved")?;
        let worklist = row.try_get("", "worklist").ok();
        match worklist.and_then(Worklist::from_code) {
            Some(worklist) => *counts.entry(worklist).or_default() += requests - moved,
            None => all_known = false,
        }
        *counts.entry(Worklist::FollowUp).or_default() += moved;
    }
    if !all_known {
        name_unlisted(connection, care_units).await?;
    }
    let at_risk = Entity::find()
        .select_only()
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .filter(Column::CareUnit.is_in(care_units.iter().map(HsaId::as_str)))
        .filter(at_risk(now))
        .build(connection.get_database_backend());
    if let Some(row) = connection.query_one_raw(at_risk).await? {
        counts.insert(Worklist::GuaranteeAtRisk, row.try_get("", "requests")?);
    }
    counts.retain(|_, requests| *requests != 0);
    Ok(counts.into_iter().collect())
}

/// Names in the log, some at a time, the requests that are on an unknown list.
async fn name_unlisted(
    connection: &impl ConnectionTrait,
    care_units: &[HsaId],
) -> Result<(), Error> {
    let known = Worklist::ALL.iter().map(|it| it.code());
    let keys: Vec<(String, Uuid)> = in_any_worklist(care_units)
        .columns([Column::CareUnit, Column::Id])
        .filter(Column::Worklist.is_not_in(known))
        .limit(UNLISTED_MAX)
        .into_tuple()
        .all(connection)
        .await?;
    for key in keys.into_iter().map(key) {
        let row = RowKey::of(Entity.table_name(), &key, None);
        row.accept::<()>(Err(Error::internal("worklist: a list that is not known")));
    }
    Ok(())
}

/// Returns the requests that the passing of time has changed after `since` and until `now`: moved to FOLLOW_UP, expired, or
/// brought to the day from which their guarantee is at risk.
pub async fn timed_transitions(
    connection: &impl ConnectionTrait,
    care_units: &[HsaId],
    since: Instant,
    now: Instant,
) -> Result<Vec<RequestKey>, Error> {
    let at_risk_until = |at| day(guarantee_at_risk_until(civil_date(at)));
    let passed = |column: Column| {
        Condition::all()
            .add(column.gt(micros(since)))
            .add(column.lte(micros(now)))
    };
    let at_risk = Condition::all()
        .add(Column::CareGuaranteeDay.gt(at_risk_until(since)))
        .add(Column::CareGuaranteeDay.lte(at_risk_until(now)));
    let keys: Vec<(String, Uuid)> = in_any_worklist(care_units)
        .columns([Column::CareUnit, Column::Id])
        .filter(
            Condition::any()
                .add(passed(Column::FollowUpAt))
                .add(passed(Column::ExpiresAt))
                .add(at_risk),
        )
        .into_tuple()
        .all(connection)
        .await?;
    Ok(keys.into_iter().map(key).collect())
}

/// Returns the first instant after `now` at which the passing of time changes a request of these care units.
pub async fn next_transition_at(
    connection: &impl ConnectionTrait,
    care_units: &[HsaId],
    now: Instant,
) -> Result<Option<Instant>, Error> {
    let mut next = None;
    for column in [Column::FollowUpAt, Column::ExpiresAt] {
        let first = in_any_worklist(care_units)
            .expr(column.min())
            .filter(column.gt(micros(now)))
            .build(connection.get_database_backend());
        let first = connection.query_one_raw(first).await?;
        // A value that is no instant never comes.
        let first: Option<i64> = first.and_then(|row| row.try_get_by_index(0).ok());
        next = [next, first].into_iter().flatten().min();
    }
    Ok(next.map(from_micros))
}

/// Returns the query for the requests of these care units that are on a list.
fn in_any_worklist(care_units: &[HsaId]) -> Select<Entity> {
    Entity::find()
        .select_only()
        .filter(Column::CareUnit.is_in(care_units.iter().map(HsaId::as_str)))
        .filter(Column::Worklist.is_not_null())
}
