//! The backlog: how much is due, and since when, and how much is leased. Asked for by operators and not by calls, along the
//! index of what may be claimed.

use chrono::Duration;
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{
    ColumnTrait, ConnectionTrait, EntityTrait, JoinType, QueryFilter, QuerySelect, RelationTrait,
    Select,
};

use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{DeliveryChannel, State};
use crate::store::entity::booking_request as request;
use crate::store::entity::notification::{Column, Entity, Relation};
use crate::store::error::Error;

/// Time after which no lease that is given now goes on.
const LEASE_MAX: Duration = Duration::hours(3);

/// Notifications that are due through one channel and wait for a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    /// Channel.
    pub channel: DeliveryChannel,
    /// Number.
    pub count: i64,
    /// Time since which the first of them may be claimed; none when there are none.
    pub since: Option<Instant>,
}

/// Returns what waits at `now` through each channel, without the care units that are paused.
pub async fn waiting(
    connection: &impl ConnectionTrait,
    now: Instant,
    paused: &[HsaId],
) -> Result<Vec<Waiting>, Error> {
    let rows: Vec<(i16, i64, Option<i64>)> = due(now, paused)
        .select_only()
        .column(Column::Channel)
        .expr_as(count(), "waiting")
        .expr_as(Func::min(Column::ClaimableAt.into_expr()), "since")
        .group_by(Column::Channel)
        .into_tuple()
        .all(connection)
        .await?;
    let of_channel = |channel: &DeliveryChannel| {
        let row = rows.iter().find(|(code, ..)| *code == channel.code());
        Waiting {
            channel: *channel,
            count: row.map_or(0, |(_, count, _)| *count),
            since: row.and_then(|(.., since)| since.map(from_micros)),
        }
    };
    Ok(DeliveryChannel::ALL.iter().map(of_channel).collect())
}

/// Returns how many of those are for patients with protected identity, whom few consumers may see.
pub async fn waiting_protected(
    connection: &impl ConnectionTrait,
    now: Instant,
    paused: &[HsaId],
) -> Result<i64, Error> {
    let protected = due(now, paused)
        .select_only()
        .expr_as(count(), "waiting")
        .join(JoinType::InnerJoin, Relation::BookingRequest.def())
        .filter(request::Column::IsProtected.eq(true));
    Ok(protected.into_tuple().one(connection).await?.unwrap_or(0))
}

/// Returns how many notifications are leased at `now`, and how many of them a consumer is authorized to hand over.
pub async fn leased(connection: &impl ConnectionTrait, now: Instant) -> Result<(i64, i64), Error> {
    let rows: Vec<(i16, i64)> = Entity::find()
        .select_only()
        .column(Column::State)
        .expr_as(count(), "leased")
        .filter(Column::ClaimableAt.gt(micros(now)))
        .filter(Column::ClaimableAt.lte(micros(now + LEASE_MAX)))
        .filter(Column::State.is_in([State::Leased.code(), State::Dispatching.code()]))
        .group_by(Column::State)
        .into_tuple()
        .all(connection)
        .await?;
    let of = |state: State| {
        let row = rows.iter().find(|(code, _)| *code == state.code());
        row.map_or(0, |(_, count)| *count)
    };
    Ok((of(State::Leased), of(State::Dispatching)))
}

fn count() -> Expr {
    Expr::cust("COUNT(*)")
}

/// Returns the query for what may be claimed at `now`, without the care units that are paused.
fn due(now: Instant, paused: &[HsaId]) -> Select<Entity> {
    let due = Entity::find().filter(Column::ClaimableAt.lte(micros(now)));
    match paused {
        [] => due,
        paused => due.filter(Column::CareUnit.is_not_in(paused.iter().map(HsaId::as_str))),
    }
}
