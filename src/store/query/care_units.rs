//! Care units: as a condition, and those that have requests.

use sea_orm::sea_query::{
    CommonTableExpression, Expr, ExprTrait, Func, Query, SelectStatement, UnionType,
};
use sea_orm::{ColumnTrait, ConnectionTrait};

use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::store::entity::booking_request::{Column, Entity};
use crate::store::error::Error;

/// Names of the list of care units and of its column.
const UNITS: &str = "units";
const UNIT: &str = "unit";

/// Returns the condition that a column has one of these care units; none for all. Organisations are compared by the
/// beginnings of their HSA-ids, for which no index serves: one on something else must find the rows.
pub fn in_units(column: Expr, care_units: &CareUnits) -> Option<Expr> {
    match care_units {
        CareUnits::Every => None,
        CareUnits::These(units) => Some(column.is_in(units.iter().map(HsaId::as_str))),
        CareUnits::Within(units) => {
            let named = units.named.iter().map(HsaId::as_str);
            let named = column.clone().is_in(named);
            // No organisation's HSA-id has a character that stands for others.
            let begins_with = |it: &String| column.clone().like(format!("{it}%"));
            let organisations = units.organisations.iter().map(begins_with);
            Some(organisations.fold(named, ExprTrait::or))
        }
    }
}

/// Returns those of these care units that have requests and come after `after`, at most `limit`, in the order of the
/// database. It goes from each to the next along the primary key, however many requests they have: those of others
/// too where an organisation is meant, since they may stand between.
pub async fn page(
    connection: &impl ConnectionTrait,
    care_units: &CareUnits,
    after: Option<&HsaId>,
    limit: u32,
) -> Result<Vec<HsaId>, Error> {
    let (walked, among) = match care_units {
        CareUnits::Within(units) if !units.organisations.is_empty() => (
            &CareUnits::Every,
            in_units(Expr::col((UNITS, UNIT)), care_units),
        ),
        CareUnits::Every | CareUnits::These(_) | CareUnits::Within(_) => (care_units, None),
    };
    // Every name of a care unit comes after no name.
    let mut first = first_after(walked, Expr::val(after.map_or("", HsaId::as_str)));
    let next = first_after(walked, Expr::col((UNITS, UNIT)));
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
        .and_where_option(among)
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
    if let Some(in_units) = in_units(Column::CareUnit.into_expr(), care_units) {
        first.and_where(in_units);
    }
    first
}
