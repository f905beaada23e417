//! Care units that have requests.

use sea_orm::ConnectionTrait;
use sea_orm::sea_query::{
    CommonTableExpression, Expr, ExprTrait, Func, Query, SelectStatement, UnionType,
};

use super::worklist::in_units;
use crate::domain::hsa_id::HsaId;
use crate::domain::worklist::query::CareUnits;
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::error::Error;

/// Names of the list of care units and of its column.
const UNITS: &str = "units";
const UNIT: &str = "unit";

/// Returns those of these care units that have requests and come after `after`, at most `limit`, in the order of the
/// database. It goes from each to the next along the primary key, however many requests they have.
pub async fn page(
    connection: &impl ConnectionTrait,
    care_units: &CareUnits,
    after: Option<&HsaId>,
    limit: u32,
) -> Result<Vec<HsaId>, Error> {
    // Every name of a care unit comes after no name.
    let mut first = first_after(care_units, Expr::val(after.map_or("", HsaId::as_str)));
    let next = first_after(care_units, Expr::col((UNITS, UNIT)));
    let rest = Query::select()
        .expr(Expr::from(next))
        .from(UNITS)
        .and_where(Expr::col((UNITS, UNIT)).is_not_null())
        .take();
    let mut units = CommonTableExpression::new();
    units
        .query(first.union(UnionType::All, rest).take())
        .table_name(UNITS)
        .column(UNIT);
    let mut with = Query::with();
    with.recursive(true).cte(units);
    let page = Query::select()
        .column(UNIT)
        .from(UNITS)
        .and_where(Expr::col(UNIT).is_not_null())
        .limit(u64::from(limit))
        .take()
        .with(with);
    let statement = connection.get_database_backend().build(&page);
    let rows = connection.query_all_raw(statement).await?;
    let unit = |row: &sea_orm::QueryResult| Ok(HsaId::from_stored(row.try_get_by_index(0)?));
    rows.iter().map(unit).collect()
}

/// Returns the query for the first care unit after a name.
fn first_after(care_units: &CareUnits, after: Expr) -> SelectStatement {
    let mut first = Query::select();
    first
        .expr(Func::min(Expr::col(Column::CareUnit)))
        .from(Entity)
        .and_where(Expr::col(Column::CareUnit).gt(after));
    if let Some(in_units) = in_units(care_units) {
        first.and_where(in_units);
    }
    first
}
