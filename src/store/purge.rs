//! Purge: deletes settled requests with their notifications, history, and the idempotency keys of calls that changed
//! nothing.
//!
//! Nothing is deleted unless an operator starts a purge. It runs in small batches, each a short transaction of its own, so
//! that it can be interrupted at any point and started again. On PostgreSQL the service may run at the same time; on
//! SQLite the purge needs the file to itself.

use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction, Statement, Value};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::calendar::{ClockReading, Instant, from_micros, micros};
use crate::domain::notification::State;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{self, Kind, Table};
use crate::store::commit::committer::random;
use crate::store::database::connection::{RowLock, connect_admin, write_options};
use crate::store::database::postgres::is_postgres;
use crate::store::database::sqlite::require_existing_file;
use crate::store::database::transaction::Pool;
use crate::store::entity::booking_request as request;
use crate::store::entity::change_event::database_now;
use crate::store::entity::{history, idempotency_key};
use crate::store::error::{Error, OpenError};
use crate::store::schema;
use crate::store::skew::Timepiece;

/// Days for which idempotency keys are kept: 30, and one more for clocks that differ. The rows that carry them cannot be
/// purged before.
const KEY_RETENTION_DAYS: i64 = 31;
/// Maximum requests that a batch deletes, with their notifications.
const REQUESTS_MAX: u64 = 200;
/// Rows of a page, in tables that are swept from end to end.
const ROWS_MAX: u64 = 2_000;
/// Maximum attempts at a batch that has a conflict, or for which the database is unavailable.
const ATTEMPTS_MAX: u32 = 8;
/// Maximum pause, before the last attempt; all pauses together are less than twice as long.
const PAUSE_MAX: Duration = Duration::from_secs(8);

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
    let timepiece = Timepiece::default();
    timepiece.set(clock);
    let date = timepiece.date(None);
    Ok(date.check(from_micros(database_now(connection).await?))?)
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
            self.sweep(&HISTORY, before).await?;
        }
        self.sweep(&IDEMPOTENCY_KEYS, cutoffs.idempotency_keys)
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
    async fn sweep(&mut self, sweep: &TableSweep, before: Instant) -> Result<(), Error> {
        let connection = &self.connection;
        let deleted = (sweep.count)(&mut self.purged);
        let mut after: Option<Vec<Value>> = None;
        while !self.stop.is_cancelled() {
            (self.progress)(sweep.kind, *deleted, None);
            let start = after.as_deref();
            let page = || page_end(connection, &sweep.table, start);
            let last = with_retry(self.stop, page).await?;
            let range = Range {
                after: start,
                last: last.as_deref(),
            };
            let statement = range.delete(connection, sweep, before);
            *deleted += with_retry(self.stop, || async {
                let deleted = connection.execute_raw(statement.clone()).await?;
                Ok(deleted.rows_affected())
            })
            .await?;
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
        (self.progress)(sweep.kind, *deleted, None);
        Ok(())
    }
}

/// A table that is swept from end to end.
struct TableSweep {
    /// Kind of rows, as progress names it.
    kind: &'static str,
    table: Table,
    /// Condition of the rows to delete, where `$1` is the cutoff.
    condition: &'static str,
    /// Count of the deleted rows.
    count: fn(&mut Purged) -> &mut u64,
}

const HISTORY: TableSweep = TableSweep {
    kind: "history",
    table: history::TABLE,
    condition: "recorded_at < $1 AND NOT EXISTS (SELECT 1 FROM booking_request AS r \
            WHERE r.care_unit = history.care_unit AND r.id = history.booking_request)",
    count: |purged| &mut purged.history,
};

const IDEMPOTENCY_KEYS: TableSweep = TableSweep {
    kind: "idempotency keys",
    table: idempotency_key::TABLE,
    condition: "recorded_at < $1",
    count: |purged| &mut purged.idempotency_keys,
};

/// Tries work again that has a conflict, or for which the database is unavailable, with a pause before each attempt.
async fn with_retry<T, F: Future<Output = Result<T, Error>>>(
    stop: &CancellationToken,
    mut work: impl FnMut() -> F,
) -> Result<T, Error> {
    for attempt in 1..ATTEMPTS_MAX {
        match work().await {
            Err(error) if error.is_contention() || matches!(error, Error::Unavailable(_)) => {
                stop.run_until_cancelled(sleep(pause(attempt))).await;
            }
            outcome => return outcome,
        }
    }
    work().await
}

/// Returns the pause after so many attempts: random, and up to twice as long each time.
fn pause(attempt: u32) -> Duration {
    let longest = PAUSE_MAX.as_millis() as u64 >> (ATTEMPTS_MAX - 1 - attempt);
    Duration::from_millis(longest / 2 + random() % (longest / 2))
}

/// Counts the settled requests before the cutoff.
async fn count(connection: &DatabaseConnection, before: Instant) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM booking_request WHERE settled_at < $1";
    let backend = connection.get_database_backend();
    let count = Statement::from_sql_and_values(backend, sql, [micros(before).into()]);
    let row = connection.query_one_raw(count).await?;
    let count: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
    Ok(count.and_then(|it| u64::try_from(it).ok()).unwrap_or(0))
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
    let notifications = delete(&transaction, "notification", "booking_request", &keys).await?;
    let requests = delete(&transaction, "booking_request", "id", &keys).await?;
    transaction.commit().await?;
    Ok((requests, notifications))
}

/// Locks the requests of a batch and returns their keys. Skips requests of which a notification may still be sent or
/// waits for staff, and those that another writer has locked.
async fn settled(
    transaction: &DatabaseTransaction,
    before: Instant,
) -> Result<Vec<RequestKey>, Error> {
    let backend = transaction.get_database_backend();
    // The notifications are counted by key, request by request: the planner may turn NOT EXISTS into a join with the
    // whole table.
    let sql = format!(
        "SELECT r.care_unit, r.id FROM booking_request AS r WHERE r.settled_at < $1 \
         AND (SELECT count(*) FROM notification AS n WHERE n.care_unit = r.care_unit \
         AND n.booking_request = r.id AND (n.claimable_at IS NOT NULL OR n.state = $2)) = 0 \
         ORDER BY r.settled_at LIMIT {REQUESTS_MAX}{}",
        RowLock::SkipLocked.clause(backend, "r"),
    );
    let values = [micros(before).into(), State::Parked.code().into()];
    let rows = transaction
        .query_all_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    rows.iter()
        .map(|row| {
            let key = (row.try_get("", "care_unit")?, row.try_get("", "id")?);
            Ok(request::key(key))
        })
        .collect()
}

/// Deletes the rows of these requests from a table whose column `id` has the request's id.
async fn delete(
    transaction: &DatabaseTransaction,
    table: &str,
    id: &str,
    keys: &[RequestKey],
) -> Result<u64, Error> {
    let sql = |keys: &str| {
        format!(
            "DELETE FROM {table} WHERE (care_unit, {id}) IN (SELECT care_unit, id FROM {keys} AS k)"
        )
    };
    Ok(request::key_rows(keys).execute(transaction, sql).await?)
}

/// Returns the key of the last row of the page after `after`; none when the page is the last.
async fn page_end(
    connection: &DatabaseConnection,
    table: &Table,
    after: Option<&[Value]>,
) -> Result<Option<Vec<Value>>, Error> {
    let key = key_of(table);
    let sql = format!(
        "SELECT {key} FROM {} WHERE {} ORDER BY {key} LIMIT 1 OFFSET {}",
        table.name,
        after.map_or("TRUE".to_owned(), |_| format!("({key}) > ($1, $2, $3)")),
        ROWS_MAX - 1,
    );
    let values = after.unwrap_or_default().to_vec();
    let backend = connection.get_database_backend();
    let row = connection
        .query_one_raw(Statement::from_sql_and_values(backend, sql, values))
        .await?;
    let Some(row) = row else { return Ok(None) };
    let value = |(name, kind): &rows::Column| match kind {
        Kind::Text => row.try_get::<String>("", name).map(Value::from),
        Kind::Uuid => row.try_get::<Uuid>("", name).map(Value::from),
        Kind::Integer | Kind::Boolean | Kind::Bytes | Kind::Optional(_) => {
            row.try_get::<i32>("", name).map(Value::from)
        }
    };
    let last: Result<Vec<Value>, _> = table.key.iter().map(value).collect();
    Ok(Some(last?))
}

/// Returns the three columns of a table's key, as a list.
fn key_of(table: &Table) -> String {
    let names: Vec<&str> = table.key.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// A range of keys: after the one, up to the other, or without an end.
struct Range<'a> {
    after: Option<&'a [Value]>,
    last: Option<&'a [Value]>,
}

impl Range<'_> {
    /// Returns the statement that deletes the rows of the sweep in this range.
    fn delete(
        &self,
        connection: &DatabaseConnection,
        sweep: &TableSweep,
        before: Instant,
    ) -> Statement {
        let key = key_of(&sweep.table);
        let mut sql = format!("DELETE FROM {} WHERE {}", sweep.table.name, sweep.condition);
        let mut values = vec![Value::from(micros(before))];
        for (bound, compared) in [(self.after, ">"), (self.last, "<=")] {
            if let Some(bound) = bound {
                let first = values.len() + 1;
                let (second, third) = (first + 1, first + 2);
                sql += &format!(" AND ({key}) {compared} (${first}, ${second}, ${third})");
                values.extend_from_slice(bound);
            }
        }
        Statement::from_sql_and_values(connection.get_database_backend(), sql, values)
    }
}
