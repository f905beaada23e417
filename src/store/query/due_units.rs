//! The instants at which notifications next become claimable in each care unit, by the index of what is due.

use std::collections::BTreeMap;

use sea_orm::sea_query::{Expr, ExprTrait, Func, Query, SelectStatement};
use sea_orm::{ColumnTrait, ConnectionTrait};

use crate::domain::calendar::{Instant, from_micros, micros};
use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::DeliveryChannel;
use crate::store::bulk::{in_buckets, query_beside};
use crate::store::entity::notification::{Column, Entity};
use crate::store::error::Error;
use crate::store::query::care_units::{
    BUCKET, UNIT, UNITS, Walked, in_units, is_care_unit, rows, with_units,
};

/// Instants at which notifications become claimable, in each care unit through each channel.
pub type Claimable = BTreeMap<(HsaId, DeliveryChannel), Instant>;

/// Returns when the first notification becomes claimable after `since` in each of these care units, through each channel: of
/// those in these buckets, or in any. It goes from one care unit to the next along the index, however many notifications they have.
pub async fn first_claimable(
    connection: &impl ConnectionTrait,
    care_units: &CareUnits,
    since: Instant,
    buckets: Option<Vec<i16>>,
) -> Result<Claimable, Error> {
    let mut first = select_first(since, buckets.as_ref());
    let rows = match care_units.named() {
        Some(named) => query_beside(connection, [(UNITS, rows(named))], &first).await?,
        None => {
            first.and_where_option(in_units(Expr::col((UNITS, UNIT)), care_units));
            let all = first.and_where(is_care_unit()).take();
            let all = all.with(with_units(Walked::Due, buckets, None));
            let statement = connection.get_database_backend().build(&all);
            connection.query_all_raw(statement).await?
        }
    };
    let mut found = Claimable::new();
    for row in &rows {
        let care_unit = HsaId::from_stored(row.try_get("", UNIT)?);
        for &channel in DeliveryChannel::ALL {
            let at: Option<i64> = row.try_get("", &first_through(channel))?;
            if let Some(at) = at {
                found.insert((care_unit.clone(), channel), from_micros(at));
            }
        }
    }
    Ok(found)
}

/// Returns the query for the first instants after `since` of each care unit in the list, all of which are in these buckets,
/// or in any.
fn select_first(since: Instant, buckets: Option<&Vec<i16>>) -> SelectStatement {
    let of_list = |column| Expr::col((UNITS, column));
    let in_these = || Some(in_buckets("notification", buckets?.clone()));
    let mut select = Query::select();
    select.column((UNITS, UNIT)).from(UNITS);
    for channel in DeliveryChannel::ALL {
        let first = Query::select()
            .expr(Func::min(Expr::col(Column::ClaimableAt)))
            .from(Entity)
            .and_where(Column::Bucket.into_expr().eq(of_list(BUCKET)))
            .and_where(Column::CareUnit.into_expr().eq(of_list(UNIT)))
            .and_where(Column::Channel.eq(channel.code()))
            .and_where(Column::ClaimableAt.gt(micros(since)))
            .and_where_option(in_these())
            .take();
        select.expr_as(Expr::from(first), first_through(*channel));
    }
    select
}

/// Returns the name of the column with the first instant through a channel.
fn first_through(channel: DeliveryChannel) -> String {
    format!("first_{}", channel.code())
}
