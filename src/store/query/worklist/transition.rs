//! Transitions of worklists by the passing of time.

use sea_orm::sea_query::Condition;
use sea_orm::{ColumnTrait, ConnectionTrait, QueryFilter, QuerySelect, QueryTrait};
use uuid::Uuid;

use super::in_any_group;
use crate::domain::calendar::{Instant, civil_date, from_micros, micros};
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::guarantee_at_risk_until;
use crate::domain::worklist::query::Query;
use crate::store::entity::booking_request::{Column, key};
use crate::store::entity::document::day;
use crate::store::error::Error;
use crate::store::placement::Shards;

/// Returns the requests of a query's care units and subject that the passing of time has changed after `since` and until
/// `now`: moved to FOLLOW_UP, expired, or brought to the day from which their guarantee is at risk.
pub async fn timed_transitions(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
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
    let keys: Vec<(String, Uuid)> = in_any_group(query, shards)
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

/// Returns the first instant after `now` at which the passing of time changes a request of a query's care units and
/// subject.
pub async fn next_transition_at(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    query: &Query,
    now: Instant,
) -> Result<Option<Instant>, Error> {
    let mut next = None;
    for column in [Column::FollowUpAt, Column::ExpiresAt] {
        let first = in_any_group(query, shards)
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
