//! After a restore: says of which time commits were lost, so that what falls due then counts as a possible repeat.
//!
//! The interval is stored first. From then on each claim reads whether a notification falls due in one, whenever that was
//! planned. Then the notifications that are there and may still be sent are marked, page by page, so that one keeps the
//! mark when its due time is moved. On PostgreSQL the service may run at the same time; on SQLite this needs the file to
//! itself.

use sea_orm::ActiveValue::Set;
use sea_orm::sea_query::{Condition, Expr, OnConflict, ValueTuple};
use sea_orm::{ColumnTrait, DatabaseConnection, EntityTrait, ExprTrait, QueryFilter};
use tokio_util::sync::CancellationToken;

use crate::domain::calendar::{ClockReading, Instant, micros};
use crate::domain::notification::State;
use crate::store::admin::{
    Page, Progress, buckets_by_shard, check_clock, open_admin, page_after, with_retry,
};
use crate::store::database::connection::AdminConnection;
use crate::store::entity::{lost_interval, notification};
use crate::store::error::{Error, OpenError};

/// The time of which commits were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LostInterval {
    since: Instant,
    until: Instant,
}

/// A time that has not come yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("must not be in the future")]
pub struct InFuture;

impl LostInterval {
    /// Returns the interval from a time up to which the database has every commit until `now`.
    ///
    /// # Errors
    ///
    /// [`InFuture`] when that time has not come yet.
    pub fn new(since: Instant, now: Instant) -> Result<Self, InFuture> {
        match since <= now {
            true => Ok(Self { since, until: now }),
            false => Err(InFuture),
        }
    }
}

/// The reason why it did not complete.
#[derive(Debug, thiserror::Error)]
pub enum AfterRestoreError {
    /// Another process has the file of SQLite.
    #[error(
        "the database file {0} is in use: on SQLite this runs with nothing else running, so stop the service first"
    )]
    InUse(String),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The end of the interval comes from a clock that is wrong.
    #[error("nothing was marked")]
    Clock(#[source] Error),
    /// A statement failed.
    #[error("not everything was marked; run the same command again")]
    Failed(#[source] Error),
}

impl From<OpenError> for AfterRestoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked(path) => Self::InUse(path),
            error => Self::Open(error),
        }
    }
}

/// Makes whatever falls due in the interval, which ends by `clock`, a possible repeat, if that agrees with the database's
/// clock. Returns the number of notifications that were planned already and were none.
///
/// # Errors
///
/// [`AfterRestoreError`]; what was marked before stays marked.
pub async fn after_restore(
    url: &str,
    interval: LostInterval,
    clock: impl Fn() -> ClockReading + Send + Sync + 'static,
    progress: Progress<'_>,
) -> Result<u64, AfterRestoreError> {
    let admin = open_admin(url).await?;
    let checked = check_clock(url, &admin.connection, clock).await;
    checked.map_err(AfterRestoreError::Clock)?;
    let marked = store_and_mark(&admin, interval, progress).await;
    // It is done; a connection that cannot be closed ends with the process.
    let _ = admin.connection.close_by_ref().await;
    drop(admin.file);
    marked.map_err(AfterRestoreError::Failed)
}

/// Stores the interval, and marks the notifications in it.
async fn store_and_mark(
    admin: &AdminConnection,
    interval: LostInterval,
    progress: Progress<'_>,
) -> Result<u64, Error> {
    let connection = &admin.connection;
    // Nothing asks it to stop: it may be killed at any point, and run again.
    let never = CancellationToken::new();
    with_retry(&never, || store(connection, interval)).await?;
    let mut marked = 0;
    for buckets in buckets_by_shard(admin).await? {
        let mut after: Option<ValueTuple> = None;
        loop {
            progress("notifications", marked, None);
            let page = || {
                let (buckets, after) = (buckets.clone(), after.clone());
                page_after::<notification::Entity>(connection, buckets, after)
            };
            let Page { rows, last } = with_retry(&never, page).await?;
            marked += with_retry(&never, || mark(connection, interval, rows.clone())).await?;
            if last.is_none() {
                break;
            }
            after = last;
        }
    }
    progress("notifications", marked, None);
    Ok(marked)
}

/// Stores the interval. Of two that begin together the one that ends later stays.
async fn store(connection: &DatabaseConnection, interval: LostInterval) -> Result<(), Error> {
    use lost_interval::Column::{Since, Until};
    let row = lost_interval::ActiveModel {
        since: Set(micros(interval.since)),
        until: Set(micros(interval.until)),
    };
    let stored = Expr::col((lost_interval::Entity, Until));
    let later = OnConflict::column(Since)
        .update_column(Until)
        .action_and_where(stored.lt(Expr::col(("excluded", Until))))
        .to_owned();
    let insert = lost_interval::Entity::insert(row).on_conflict(later);
    insert.exec_without_returning(connection).await?;
    Ok(())
}

/// Marks the notifications among `rows` that fall due in the interval and may still be sent, and raises their versions, so
/// that nobody writes over the mark. Returns their number.
async fn mark(
    connection: &DatabaseConnection,
    interval: LostInterval,
    rows: Condition,
) -> Result<u64, Error> {
    use notification::Column::{DueAt, PossibleRepeat, State as StateColumn, Version};
    let unsent = State::ALL.iter().filter(|it| may_be_sent(**it));
    let marked = notification::Entity::update_many()
        .col_expr(PossibleRepeat, Expr::val(true))
        .col_expr(Version, Version.into_expr().add(1))
        .filter(rows)
        .filter(DueAt.between(micros(interval.since), micros(interval.until)))
        .filter(StateColumn.is_in(unsent.map(|it| it.code())))
        .filter(PossibleRepeat.eq(false))
        .exec(connection)
        .await?;
    Ok(marked.rows_affected)
}

/// Returns whether a notification in this state may still be sent.
fn may_be_sent(state: State) -> bool {
    match state {
        State::Scheduled | State::Leased | State::Dispatching | State::Parked => true,
        State::Sent | State::Cancelled => false,
    }
}
