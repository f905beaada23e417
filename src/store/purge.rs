//! Purge: deletes settled requests with their notifications, history, and the idempotency keys of calls that changed
//! nothing.
//!
//! Nothing is deleted unless an operator starts a purge. It runs in small batches, each a short transaction of its own, so
//! that it can be interrupted at any point and started again. On PostgreSQL the service may run at the same time; on
//! SQLite the purge needs the file to itself.

use std::marker::PhantomData;

use backon::Retryable;
use sea_orm::sea_query::{
    BinOper, Condition, Expr, IntoValueTuple, LockBehavior, LockType, Query, ValueTuple,
};
use sea_orm::{
    ColumnTrait, DatabaseConnection, DatabaseTransaction, EntityTrait, ExprTrait, Iterable,
    PaginatorTrait, PrimaryKeyToColumn, PrimaryKeyTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::calendar::{ClockReading, Instant, micros};
use crate::domain::notification::State as NotificationState;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::membership;
use crate::store::database::connection::{connect_admin, write_options};
use crate::store::database::postgres::is_postgres;
use crate::store::database::probe::database_now;
use crate::store::database::sqlite::require_existing_file;
use crate::store::database::transaction::Pool;
use crate::store::entity::booking_request as request;
use crate::store::entity::{history, idempotency_key, notification};
use crate::store::error::{Error, OpenError};
use crate::store::query::request_keys::{key_rows, notification_key_rows};
use crate::store::retry;
use crate::store::schema;
use crate::store::skew::DecisionClock;

/// Days for which idempotency keys are kept: 30, and one more for clocks that differ. The rows that carry them cannot be
/// purged before.
const KEY_RETENTION_DAYS: i64 = 31;
/// Maximum requests that a batch deletes, with their notifications.
const REQUESTS_MAX: u64 = 200;
/// Rows of a page, in tables that are swept from end to end.
const ROWS_MAX: u64 = 2_000;
/// The cutoffs before which rows are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoffs {
    settled: Instant,
    history: Option<Instant>,
    idempotency_keys: Instant,
}

/// A cutoff that is not far enough back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is younger than {KEY_RETENTION_DAYS} days cannot be purged: replays depend on it")]
pub struct TooRecent;

impl Cutoffs {
    /// Returns the latest instant that a cutoff may be.
    pub fn latest(now: Instant) -> Instant {
        now - chrono::Duration::days(KEY_RETENTION_DAYS)
    }

    /// Returns the cutoffs for requests that were settled, and not changed since, before `settled`; for the history that
    /// was written before `history` of requests that no longer exist, none without it; and for idempotency keys, which
    /// are deleted as soon as their retention is over.
    pub fn new(
        now: Instant,
        settled: Instant,
        history: Option<Instant>,
    ) -> Result<Self, TooRecent> {
        let idempotency_keys = Self::latest(now);
        if [Some(settled), history].into_iter().flatten().max() > Some(idempotency_keys) {
            return Err(TooRecent);
        }
        Ok(Self {
            settled,
            history,
            idempotency_keys,
        })
    }
}

/// Numbers of deleted rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Requests.
    pub requests: u64,
    /// Their notifications.
    pub notifications: u64,
    /// Entries of the history.
    pub history: u64,
    /// Idempotency keys of calls that changed nothing.
    pub idempotency_keys: u64,
    /// True when it was told to stop before the end.
    pub stopped: bool,
}

/// The reason why a purge did not complete.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// Another process has the file of SQLite.
    #[error(
        "the database file {0} is in use: SQLite is purged with nothing else running, so stop the service first"
    )]
    InUse(String),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// The cutoffs come from a clock that is wrong.
    #[error("nothing was deleted")]
    Clock(#[source] Error),
    /// A batch failed; the batches before it were committed and deleted these rows.
    #[error("a batch failed, those before it were committed; run the same command again to go on")]
    Failed(Purged, #[source] Error),
}

impl From<OpenError> for PurgeError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked(path) => Self::InUse(path),
            error => Self::Open(error),
        }
    }
}

/// A callback for progress: the kind of rows, the number deleted so far, and the total where that is known.
pub type Progress<'a> = &'a mut (dyn FnMut(&'static str, u64, Option<u64>) + Send);

/// Deletes the rows before the cutoffs, which come from `clock`, if that agrees with the database's clock. Stops between
/// two batches once it is told to.
///
/// # Errors
///
/// [`PurgeError`]; rows that were deleted before stay deleted.
pub async fn purge(
    url: &str,
    cutoffs: Cutoffs,
    clock: impl Fn() -> ClockReading + Send + Sync + 'static,
    stop: &CancellationToken,
    progress: Progress<'_>,
) -> Result<Purged, PurgeError> {
    require_existing_file(url)?;
    let admin = connect_admin(url).await?;
    if !is_postgres(url) {
        schema::migrate_connection(&admin.connection).await?;
    }
    schema::require_current(&admin.connection).await?;
    if is_postgres(url) {
        let checked = check_clock(&admin.connection, clock).await;
        checked.map_err(PurgeError::Clock)?;
    }
    let mut purge = Purge {
        connection: admin.connection,
        stop,
        progress,
        purged: Purged::default(),
    };
    let outcome = purge.all(cutoffs).await;
    let purged = purge.purged;
    // The purge is done; a connection that cannot be closed ends with the process.
    let _ = purge.connection.close_by_ref().await;
    drop(admin.lock);
    match outcome {
        Ok(()) => Ok(purged),
        Err(error) => Err(PurgeError::Failed(purged, error)),
    }
}

/// Compares the clock with the database's.
async fn check_clock(
    connection: &DatabaseConnection,
    clock: impl Fn() -> ClockReading + Send + Sync + 'static,
) -> Result<(), Error> {
    let decision_clock = DecisionClock::default();
    decision_clock.set(clock);
    let date = decision_clock.date(None);
    Ok(date.check(database_now(connection).await?)?)
}

struct Purge<'a> {
    connection: Pool,
    stop: &'a CancellationToken,
    progress: Progress<'a>,
    purged: Purged,
}

impl Purge<'_> {
    /// Deletes rows of every kind.
    async fn all(&mut self, cutoffs: Cutoffs) -> Result<(), Error> {
        self.requests(cutoffs.settled).await?;
        if let Some(before) = cutoffs.history {
            self.sweep(history_sweep(before)).await?;
        }
        self.sweep(idempotency_key_sweep(cutoffs.idempotency_keys))
            .await?;
        self.purged.stopped = self.stop.is_cancelled();
        Ok(())
    }

    /// Deletes settled requests.
    async fn requests(&mut self, before: Instant) -> Result<(), Error> {
        let connection = &self.connection;
        let total = with_retry(self.stop, || count(connection, before)).await?;
        while !self.stop.is_cancelled() {
            (self.progress)("requests", self.purged.requests, Some(total));
            let (requests, notifications) =
                with_retry(self.stop, || delete_requests(connection, before)).await?;
            if requests == 0 {
                break;
            }
            self.purged.requests += requests;
            self.purged.notifications += notifications;
        }
        Ok(())
    }

    /// Sweeps a table in the order of its key, page by page.
    async fn sweep<E: EntityTrait>(&mut self, sweep: TableSweep<E>) -> Result<(), Error> {
        let connection = &self.connection;
        let deleted = (sweep.count)(&mut self.purged);
        let mut after: Option<ValueTuple> = None;
        while !self.stop.is_cancelled() {
            (self.progress)(sweep.kind, *deleted, None);
            let page = || page_end::<E>(connection, after.clone());
            let last = with_retry(self.stop, page).await?;
            let mut page = E::delete_many().filter(sweep.condition.clone());
            for (bound, compared) in [
                (after, BinOper::GreaterThan),
                (last.clone(), BinOper::SmallerThanOrEqual),
            ] {
                if let Some(bound) = bound {
                    page = page.filter(key_of::<E>().binary(compared, bound_expr(bound)));
                }
            }
            *deleted += with_retry(self.stop, || async {
                Ok(page.clone().exec(&**connection).await?.rows_affected)
            })
            .await?;
            if last.is_none() {
                break;
            }
            after = last;
        }
        (self.progress)(sweep.kind, *deleted, None);
        Ok(())
    }
}

/// A table that is swept from end to end.
struct TableSweep<E> {
    entity: PhantomData<E>,
    /// Kind of rows, as progress names it.
    kind: &'static str,
    /// Condition of the rows to delete.
    condition: Condition,
    /// Count of the deleted rows.
    count: fn(&mut Purged) -> &mut u64,
}

/// Returns the sweep of the history that was written before this time and whose request no longer exists.
fn history_sweep(before: Instant) -> TableSweep<history::Entity> {
    use history::Column::{BookingRequest, CareUnit, RecordedAt};
    let request = Query::select()
        .expr(Expr::val(1))
        .from(request::Entity)
        .and_where(
            request::Column::CareUnit
                .into_expr()
                .equals((history::Entity, CareUnit)),
        )
        .and_where(
            request::Column::Id
                .into_expr()
                .equals((history::Entity, BookingRequest)),
        )
        .take();
    TableSweep {
        entity: PhantomData,
        kind: "history",
        condition: Condition::all()
            .add(RecordedAt.lt(micros(before)))
            .add(Expr::exists(request).not()),
        count: |purged| &mut purged.history,
    }
}

/// Returns the sweep of the idempotency keys that were recorded before this time.
fn idempotency_key_sweep(before: Instant) -> TableSweep<idempotency_key::Entity> {
    let recorded_at = idempotency_key::Column::RecordedAt;
    TableSweep {
        entity: PhantomData,
        kind: "idempotency keys",
        condition: Condition::all().add(recorded_at.lt(micros(before))),
        count: |purged| &mut purged.idempotency_keys,
    }
}

/// Attempts work again that has a conflict, or for which the database is unavailable. A purge that is to stop does not
/// pause any more.
async fn with_retry<T, F: Future<Output = Result<T, Error>>>(
    stop: &CancellationToken,
    work: impl FnMut() -> F,
) -> Result<T, Error> {
    let stop = stop.clone();
    let pause = move |pause| stop.clone().run_until_cancelled_owned(sleep(pause));
    work.retry(retry::PURGE_BATCH)
        .sleep(pause)
        .when(|error| error.is_contention() || error.is_temporary())
        .await
}

/// Counts the settled requests before the cutoff.
async fn count(connection: &DatabaseConnection, before: Instant) -> Result<u64, Error> {
    let settled = request::Column::SettledAt.lt(micros(before));
    Ok(request::Entity::find()
        .filter(settled)
        .count(connection)
        .await?)
}

/// Deletes a batch of settled requests, the oldest first, with their notifications.
async fn delete_requests(connection: &Pool, before: Instant) -> Result<(u64, u64), Error> {
    let options = write_options(connection.get_database_backend());
    let transaction = connection.begin(options).await?;
    let keys = settled(&transaction, before).await?;
    if keys.is_empty() {
        transaction.rollback().await?;
        return Ok((0, 0));
    }
    let backend = connection.get_database_backend();
    let of_requests = membership(notification_key_rows(&keys), backend);
    let notifications = notification::Entity::delete_many()
        .filter(of_requests)
        .exec(&*transaction)
        .await?;
    let requests = request::Entity::delete_many()
        .filter(membership(key_rows(&keys), backend))
        .exec(&*transaction)
        .await?;
    transaction.commit().await?;
    Ok((requests.rows_affected, notifications.rows_affected))
}

/// Locks the requests of a batch and returns their keys. Skips requests of which a notification may still be sent or
/// waits for staff, and those that another writer has locked.
async fn settled(
    transaction: &DatabaseTransaction,
    before: Instant,
) -> Result<Vec<RequestKey>, Error> {
    use notification::Column::{BookingRequest, CareUnit, ClaimableAt, Id, State};
    // The notifications are counted by key, request by request: the planner may turn NOT EXISTS into a join with the
    // whole table.
    let open = Query::select()
        .expr(Id.count())
        .from(notification::Entity)
        .and_where(
            CareUnit
                .into_expr()
                .equals((request::Entity, request::Column::CareUnit)),
        )
        .and_where(
            BookingRequest
                .into_expr()
                .equals((request::Entity, request::Column::Id)),
        )
        .cond_where(
            Condition::any()
                .add(ClaimableAt.is_not_null())
                .add(State.eq(NotificationState::Parked.code())),
        )
        .take();
    let settled = request::Entity::find()
        .select_only()
        .columns([request::Column::CareUnit, request::Column::Id])
        .filter(request::Column::SettledAt.lt(micros(before)))
        .filter(Expr::from(open).eq(0))
        .order_by_asc(request::Column::SettledAt)
        .limit(REQUESTS_MAX)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let keys: Vec<(String, Uuid)> = settled.into_tuple().all(transaction).await?;
    Ok(keys.into_iter().map(request::key).collect())
}

/// Returns the key of the last row of the page after `after`; none when the page is the last.
async fn page_end<E: EntityTrait>(
    connection: &DatabaseConnection,
    after: Option<ValueTuple>,
) -> Result<Option<ValueTuple>, Error> {
    let mut rows = E::find().select_only().offset(ROWS_MAX - 1).limit(1);
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
