//! Parts that the commands of an operator share: the database, opened for them alone, its clock, another attempt at work that
//! failed, and tables that are walked from end to end.

use backon::Retryable;
use sea_orm::sea_query::{BinOper, Condition, Expr, IntoValueTuple, ValueTuple};
use sea_orm::{
    ColumnTrait, DatabaseConnection, EntityTrait, ExprTrait, Iterable, PrimaryKeyToColumn,
    PrimaryKeyTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::domain::calendar::ClockReading;
use crate::store::bulk::in_buckets;
use crate::store::database::connection::{AdminConnection, connect_admin};
use crate::store::database::postgres::is_postgres;
use crate::store::database::probe::database_now;
use crate::store::database::sqlite::require_existing_file;
use crate::store::error::{Error, OpenError};
use crate::store::placement::Placement;
use crate::store::retry;
use crate::store::schema;
use crate::store::skew::DecisionClock;

/// Rows of a page, in tables that are walked from end to end.
const ROWS_MAX: u64 = 2_000;

/// A callback for progress: the kind of rows, the number done so far, and the total where that is known.
pub type Progress<'a> = &'a mut (dyn FnMut(&'static str, u64, Option<u64>) + Send);

/// Opens a database that exists, with the schema that this version needs. That of SQLite is brought up to date.
pub async fn open_admin(url: &str) -> Result<AdminConnection, OpenError> {
    require_existing_file(url)?;
    let admin = connect_admin(url, schema::refuse_newer).await?;
    if !is_postgres(url) {
        schema::migrate_connection(&admin.connection).await?;
    }
    schema::require_current(&admin.connection).await?;
    Ok(admin)
}

/// Compares the clock with the database's, where that has one.
pub async fn check_clock(
    url: &str,
    connection: &DatabaseConnection,
    clock: impl Fn() -> ClockReading + Send + Sync + 'static,
) -> Result<(), Error> {
    if !is_postgres(url) {
        return Ok(());
    }
    let decision_clock = DecisionClock::default();
    decision_clock.set(clock);
    let date = decision_clock.date(None);
    Ok(date.check(database_now(connection).await?)?)
}

/// Attempts work again that has a conflict, or for which the database is unavailable. A command that is to stop does not
/// pause any more.
pub async fn with_retry<T, F: Future<Output = Result<T, Error>>>(
    stop: &CancellationToken,
    work: impl FnMut() -> F,
) -> Result<T, Error> {
    let stop = stop.clone();
    let pause = move |pause| stop.clone().run_until_cancelled_owned(sleep(pause));
    work.retry(retry::COMMAND_BATCH)
        .sleep(pause)
        .when(|error| error.is_contention() || error.is_temporary())
        .await
}

/// Returns the buckets of each shard, since a statement of a command is about one of them; none, once, when everything lies in one
/// place.
pub async fn buckets_by_shard(admin: &AdminConnection) -> Result<Vec<Option<Vec<i16>>>, Error> {
    let placement = Placement::ask(&*admin.connection, admin.spread).await?;
    let shards = placement.shards();
    Ok((0..shards.count())
        .map(|it| shards.buckets_of(it))
        .collect())
}

/// A page of a table, in the order of its key.
pub struct Page {
    /// Condition of its rows.
    pub rows: Condition,
    /// Key of its last row; none when the page is the last.
    pub last: Option<ValueTuple>,
}

/// Returns the page after the row with this key, the first without one, of the rows in these buckets or in all.
pub async fn page_after<E: EntityTrait>(
    connection: &DatabaseConnection,
    buckets: Option<Vec<i16>>,
    after: Option<ValueTuple>,
) -> Result<Page, Error> {
    let of_shard = buckets.map(|buckets| in_buckets(E::default().table_name(), buckets));
    let mut rows = Condition::all().add_option(of_shard);
    let last = page_end::<E>(connection, rows.clone(), after.clone()).await?;
    for (bound, compared) in [
        (after, BinOper::GreaterThan),
        (last.clone(), BinOper::SmallerThanOrEqual),
    ] {
        if let Some(bound) = bound {
            rows = rows.add(key_of::<E>().binary(compared, bound_expr(bound)));
        }
    }
    Ok(Page { rows, last })
}

/// Returns the key of the last row of the page after `after`; none when the page is the last.
async fn page_end<E: EntityTrait>(
    connection: &DatabaseConnection,
    of_shard: Condition,
    after: Option<ValueTuple>,
) -> Result<Option<ValueTuple>, Error> {
    let mut rows = E::find()
        .filter(of_shard)
        .select_only()
        .offset(ROWS_MAX - 1)
        .limit(1);
    for column in E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column) {
        rows = rows.column(column).order_by_asc(column);
    }
    if let Some(after) = after {
        rows = rows.filter(key_of::<E>().gt(bound_expr(after)));
    }
    let last = rows.into_tuple::<<E::PrimaryKey as PrimaryKeyTrait>::ValueType>();
    Ok(last
        .one(connection)
        .await?
        .map(IntoValueTuple::into_value_tuple))
}

/// Returns the primary key of a table as a tuple of columns.
fn key_of<E: EntityTrait>() -> Expr {
    let columns = E::PrimaryKey::iter().map(PrimaryKeyToColumn::into_column);
    Expr::tuple(columns.map(|column| column.into_expr()))
}

/// Returns a key as a tuple of values.
fn bound_expr(key: ValueTuple) -> Expr {
    Expr::tuple(key.into_iter().map(Expr::val))
}
