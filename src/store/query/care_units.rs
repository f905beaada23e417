//! Care units: as a condition, and those that have requests.

use sea_orm::sea_query::{
    ArrayType, CommonTableExpression, Expr, ExprTrait, Func, Query, SelectStatement, UnionType,
    WithClause,
};
use sea_orm::{ColumnTrait, ConnectionTrait, QueryResult};

use crate::domain::care_units::CareUnits;
use crate::domain::hsa_id::HsaId;
use crate::store::bucket::bucket;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{in_buckets, query_beside};
use crate::store::entity::booking_request::Column;
use crate::store::entity::notification;
use crate::store::error::Error;

/// Names of the list of care units and of its columns.
pub const UNITS: &str = "units";
pub const BUCKET: &str = "bucket_of_unit";
pub const UNIT: &str = "unit";
/// A text that comes before the name of every care unit.
const BEFORE_ALL: &str = "";

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

/// Returns care units as rows of the list.
pub fn rows<'u>(care_units: impl IntoIterator<Item = &'u HsaId>) -> Rows {
    let mut rows = Rows::new(vec![
        RowColumn::new(BUCKET, ArrayType::SmallInt),
        RowColumn::new(UNIT, ArrayType::String),
    ]);
    for care_unit in care_units {
        rows.push([bucket(care_unit).into(), care_unit.as_str().into()]);
    }
    rows
}

/// Returns those of these care units that have requests and come after `after`, at most `limit`, in the order of their
/// buckets, of these buckets or of any.
pub async fn page(
    connection: &impl ConnectionTrait,
    care_units: &CareUnits,
    buckets: Option<Vec<i16>>,
    after: Option<&HsaId>,
    limit: u32,
) -> Result<Vec<HsaId>, Error> {
    match care_units.named() {
        Some(named) => page_of_named(connection, named, buckets, after, limit).await,
        None => page_by_walk(connection, care_units, buckets, after, limit).await,
    }
}

/// Returns a page by a look at each of the care units: their names alone may be many times as many as a walk would compare
/// at each step.
async fn page_of_named(
    connection: &impl ConnectionTrait,
    mut named: Vec<&HsaId>,
    buckets: Option<Vec<i16>>,
    after: Option<&HsaId>,
    limit: u32,
) -> Result<Vec<HsaId>, Error> {
    let place = |unit: &HsaId| (bucket(unit), unit.clone());
    named.retain(|unit| {
        let is_asked_for = |buckets: &Vec<i16>| buckets.contains(&bucket(unit));
        buckets.as_ref().is_none_or(is_asked_for)
            && after.is_none_or(|after| place(after) < place(unit))
    });
    let in_these = buckets.map(|it| in_buckets(Walked::Requests.table(), it));
    let request = Query::select()
        .expr(Expr::val(1))
        .from(Walked::Requests.table())
        .and_where(Expr::col(Column::Bucket).equals((UNITS, BUCKET)))
        .and_where(Expr::col(Column::CareUnit).equals((UNITS, UNIT)))
        .and_where_option(in_these)
        .take();
    let select = Query::select()
        .column(UNIT)
        .from(UNITS)
        .and_where(Expr::exists(request))
        .take();
    let found = query_beside(connection, [(UNITS, rows(named))], &select).await?;
    let mut page = units_of(&found)?;
    page.sort_by_cached_key(place);
    page.truncate(limit as usize);
    Ok(page)
}

/// Returns a page by going from each care unit to the next along the primary key, however many requests they have: those of
/// others too where an organisation is meant, since they may stand between. Within a bucket they have the order of the database.
async fn page_by_walk(
    connection: &impl ConnectionTrait,
    care_units: &CareUnits,
    buckets: Option<Vec<i16>>,
    after: Option<&HsaId>,
    limit: u32,
) -> Result<Vec<HsaId>, Error> {
    let page = Query::select()
        .column(UNIT)
        .from(UNITS)
        .and_where(is_care_unit())
        .and_where(Expr::col(UNIT).ne(after.map_or(BEFORE_ALL, HsaId::as_str)))
        .and_where_option(in_units(Expr::col((UNITS, UNIT)), care_units))
        .limit(u64::from(limit))
        .take()
        .with(with_units(Walked::Requests, buckets, after));
    let statement = connection.get_database_backend().build(&page);
    units_of(&connection.query_all_raw(statement).await?)
}

/// Returns the care units that rows begin with.
fn units_of(rows: &[QueryResult]) -> Result<Vec<HsaId>, Error> {
    let unit = |row: &QueryResult| Ok(HsaId::from_stored(row.try_get_by_index(0)?));
    rows.iter().map(unit).collect()
}

/// The rows whose care units are walked, each by an index that begins with the bucket and the care unit.
#[derive(Clone, Copy)]
pub enum Walked {
    /// Requests, by their primary key.
    Requests,
    /// Notifications that may be claimed at some time, by the due index.
    Due,
}

impl Walked {
    fn table(self) -> &'static str {
        match self {
            Self::Requests => "booking_request",
            Self::Due => "notification",
        }
    }

    /// Returns the condition of the rows that the index has.
    fn condition(self) -> Option<Expr> {
        match self {
            Self::Requests => None,
            Self::Due => Some(notification::Column::ClaimableAt.is_not_null()),
        }
    }
}

/// Returns the list of the care units that have rows in these buckets or in any, from the one after `after` on, with their
/// buckets, and [places before care units](is_care_unit).
pub fn with_units(walked: Walked, buckets: Option<Vec<i16>>, after: Option<&HsaId>) -> WithClause {
    let mut units = CommonTableExpression::new();
    units
        .query(walk(walked, buckets, after))
        .table_name(UNITS)
        .columns([BUCKET, UNIT]);
    let mut with = Query::with();
    with.recursive(true).cte(units);
    with
}

/// Returns whether a row of the list is a care unit, not a place before all those of a bucket.
pub fn is_care_unit() -> Expr {
    Expr::col(UNIT).ne(BEFORE_ALL)
}

/// Returns the recursive query that goes from each bucket and care unit to the next: to the first of the bucket that comes
/// after the care unit or, when there is none, to the place before all care units of the next bucket that has any.
fn walk(walked: Walked, buckets: Option<Vec<i16>>, after: Option<&HsaId>) -> SelectStatement {
    let in_these = || Some(in_buckets(walked.table(), buckets.clone()?));
    let (bucket, unit) = match after {
        Some(after) => (bucket(after), after.as_str()),
        None => (0, BEFORE_ALL),
    };
    let here = || (Expr::col((UNITS, BUCKET)), Expr::col((UNITS, UNIT)));
    let next_in_bucket = || {
        let mut first = first_after(walked, here());
        Expr::from(first.and_where_option(in_these()).take())
    };
    let next_bucket = Query::select()
        .expr(Func::min(Expr::col(Column::Bucket)))
        .from(walked.table())
        .and_where(Expr::col(Column::Bucket).gt(here().0))
        .and_where_option(walked.condition())
        .and_where_option(in_these())
        .take();
    let to_bucket = Expr::case(next_in_bucket().is_not_null(), here().0).finally(next_bucket);
    let to_unit = Func::coalesce([next_in_bucket(), Expr::val(BEFORE_ALL)]);
    let next = Query::select()
        .expr(to_bucket)
        .expr(to_unit)
        .from(UNITS)
        .and_where(here().0.is_not_null())
        .take();
    Query::select()
        .expr(Expr::val(bucket).cast_as("smallint"))
        .expr(Expr::val(unit).cast_as("text"))
        .union(UnionType::All, next)
        .take()
}

/// Returns the query for the first care unit of a bucket after a name.
fn first_after(walked: Walked, (bucket, unit): (Expr, Expr)) -> SelectStatement {
    Query::select()
        .expr(Func::min(Expr::col(Column::CareUnit)))
        .from(walked.table())
        .and_where(Expr::col(Column::Bucket).eq(bucket))
        .and_where(Expr::col(Column::CareUnit).gt(unit))
        .and_where_option(walked.condition())
        .take()
}
