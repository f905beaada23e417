//! Counts of worklists.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, Func, SimpleExpr};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityName, EntityTrait, QueryFilter, QuerySelect, QueryTrait,
    Select,
};
use uuid::Uuid;

use super::{Part, filters, in_any_group, in_worklists, is_at_risk, is_in, parts, scope};
use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::query::Query;
use crate::domain::worklist::{Group, Worklist};
use crate::store::entity::booking_request::{Column, Entity, key};
use crate::store::error::Error;
use crate::store::placement::Shards;
use crate::store::quarantine::RowKey;

/// Maximum requests in an unknown group that are named at once.
const UNKNOWN_MAX: u64 = 100;

/// The number of requests on each list of each care unit; empty lists are omitted.
pub type Counts = BTreeMap<(HsaId, Worklist), i64>;

/// Returns the number of requests that a query means, each counted once, at `now`.
pub async fn total(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    now: Instant,
) -> Result<i64, Error> {
    let all = Entity::find()
        .select_only()
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .filter(scope(query, shards))
        .filter(in_worklists(query, now))
        .filter(filters(query, now))
        .build(connection.get_database_backend());
    let row = connection.query_one_raw(all).await?;
    let row = row.ok_or_else(|| Error::internal("a count without a row"))?;
    Ok(row.try_get("", "requests")?)
}

/// Returns the number of requests on each list but [`Worklist::All`] at `now`, over all care units.
pub async fn totals(
    connection: &impl ConnectionTrait,
    now: Instant,
) -> Result<BTreeMap<Worklist, i64>, Error> {
    let moved: SimpleExpr = Expr::case(Column::FollowUpAt.lte(micros(now)), 1_i64).into();
    let by_group: Vec<(i16, i64, i64)> = Entity::find()
        .select_only()
        .column(Column::WorklistGroup)
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .expr_as(Func::count(moved), "moved")
        .filter(Column::WorklistGroup.is_not_null())
        .group_by(Column::WorklistGroup)
        .into_tuple()
        .all(connection)
        .await?;
    let lists = Worklist::ALL.iter().filter(|it| **it != Worklist::All);
    let mut totals: BTreeMap<Worklist, i64> = lists.map(|list| (*list, 0)).collect();
    for (group, requests, moved) in by_group {
        // An unknown group is named where its care unit is counted.
        let Some(group) = Group::from_code(group) else {
            continue;
        };
        for (list, total) in &mut totals {
            for (moved, requests) in [(true, moved), (false, requests - moved)] {
                if group.is_on(*list, moved) {
                    *total += requests;
                }
            }
        }
    }
    let at_risk = Entity::find()
        .select_only()
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .filter(is_at_risk(now));
    let at_risk = at_risk.into_tuple().one(connection).await?;
    totals.insert(Worklist::GuaranteeAtRisk, at_risk.unwrap_or(0));
    Ok(totals)
}

/// Returns the number of requests on each of a query's lists at `now`, each list by itself, and the first instant after `now` at
/// which the passing of time moves one of them to another list.
pub async fn counts(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    now: Instant,
) -> Result<(Counts, Option<Instant>), Error> {
    let mut counts = Counts::new();
    let moves_at = count_groups(connection, shards, query, now, &mut counts).await?;
    for list in [Worklist::GuaranteeAtRisk, Worklist::All] {
        if query.worklists.contains(&list) {
            count_list(connection, shards, query, list, now, &mut counts).await?;
        }
    }
    counts.retain(|_, requests| *requests != 0);
    Ok((counts, moves_at))
}

/// Counts the lists that are made of groups. Returns when time next moves a request to another.
async fn count_groups(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    now: Instant,
    counts: &mut Counts,
) -> Result<Option<Instant>, Error> {
    let parts = parts(query);
    if parts.is_empty() {
        return Ok(None);
    }
    // An index has all the columns that are counted, in the order in which they are grouped.
    let moved: SimpleExpr = Expr::case(Column::FollowUpAt.lte(micros(now)), 1_i64).into();
    let moves_at = Expr::case(
        Column::FollowUpAt.gt(micros(now)),
        Column::FollowUpAt.into_expr(),
    );
    let by_group = in_groups(query, shards, &parts)
        .filter(filters(query, now))
        .column(Column::CareUnit)
        .column(Column::WorklistGroup)
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .expr_as(Func::count(moved), "moved")
        .expr_as(Func::min(moves_at), "moves_at")
        .group_by(Column::CareUnit)
        .group_by(Column::WorklistGroup)
        .build(connection.get_database_backend());
    let (mut all_known, mut next) = (true, None);
    for row in connection.query_all_raw(by_group).await? {
        let moves_at: Option<i64> = row.try_get("", "moves_at")?;
        next = [next, moves_at].into_iter().flatten().min();
        let requests: i64 = row.try_get("", "requests")?;
        let moved: i64 = row.try_get("", "moved")?;
        let group: Option<i16> = row.try_get("", "worklist_group").ok();
        let Some(group) = group.and_then(Group::from_code) else {
            all_known = false;
            continue;
        };
        let care_unit = HsaId::from_stored(row.try_get("", "care_unit")?);
        for list in &query.worklists {
            for (moved, requests) in [(true, moved), (false, requests - moved)] {
                if group.is_on(*list, moved) {
                    *counts.entry((care_unit.clone(), *list)).or_default() += requests;
                }
            }
        }
    }
    if !all_known {
        name_unknown(connection, shards, query).await?;
    }
    // A value that is no instant never comes.
    Ok(next.map(from_micros))
}

/// Returns the query for the requests of the groups of these parts.
fn in_groups(query: &Query, shards: &Shards, parts: &[Part]) -> Select<Entity> {
    let in_any = in_any_group(query, shards);
    match parts.len() == Group::ALL.len() {
        true => in_any,
        false => in_any.filter(is_in(parts.iter().map(|it| it.group))),
    }
}

/// Counts a list that is not made of groups.
async fn count_list(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    list: Worklist,
    now: Instant,
    counts: &mut Counts,
) -> Result<(), Error> {
    let mut requests = Entity::find()
        .select_only()
        .column(Column::CareUnit)
        .expr_as(Expr::cust("COUNT(*)"), "requests")
        .filter(scope(query, shards))
        .filter(filters(query, now))
        .group_by(Column::CareUnit);
    if list == Worklist::GuaranteeAtRisk {
        requests = requests.filter(is_at_risk(now));
    }
    let by_unit = requests.build(connection.get_database_backend());
    for row in connection.query_all_raw(by_unit).await? {
        let care_unit = HsaId::from_stored(row.try_get("", "care_unit")?);
        counts.insert((care_unit, list), row.try_get("", "requests")?);
    }
    Ok(())
}

/// Names in the log, some at a time, the requests that are in an unknown group.
async fn name_unknown(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
) -> Result<(), Error> {
    let known = Group::ALL.iter().map(|it| it.code());
    let keys: Vec<(String, Uuid)> = in_any_group(query, shards)
        .columns([Column::CareUnit, Column::Id])
        .filter(Column::WorklistGroup.is_not_in(known))
        .limit(UNKNOWN_MAX)
        .into_tuple()
        .all(connection)
        .await?;
    for key in keys.into_iter().map(key) {
        let row = RowKey::of(Entity.table_name(), &key, None);
        row.accept::<()>(Err(Error::internal(
            "worklist_group: a group that is not known",
        )));
    }
    Ok(())
}
