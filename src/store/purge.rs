//! Deleting what is kept no longer: settled requests with their messages, history, and the ids of
//! calls that changed nothing.
//!
//! Nothing is deleted unless somebody asks for it. It goes in small batches, each a short
//! transaction of its own: whatever interrupts it, what is done is done, and it can be repeated.
//! On PostgreSQL the service goes on beside it; on SQLite it read_set the file to itself.

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
use crate::store::database::connection::{
    RowLock, connect_admin, is_postgres, require_existing_file, write_options,
};
use crate::store::database::transaction::Pool;
use crate::store::entity::booking_request as request;
use crate::store::entity::change_event::database_now;
use crate::store::entity::{history, idempotency_key};
use crate::store::error::{Error, OpenError};
use crate::store::schema;
use crate::store::skew::Timepiece;

/// The ids of calls are remembered for 30 days, and one more for clocks that differ. What carries
/// them cannot be purged before.
const REMEMBERED_DAYS: i64 = 31;
/// How many requests a batch deletes, with their messages.
const REQUESTS_MAX: u64 = 200;
/// How many rows a batch looks through, of tables that are walked from end to end.
const ROWS_MAX: u64 = 2_000;
/// How often a batch is tried that other writers have spoilt, or for which the database was away.
const TRIES_MAX: u32 = 8;
/// The longest pause before the last try; all of them together are less than twice as long.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// What is to be deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoffs {
    settled: Instant,
    history: Option<Instant>,
    calls: Instant,
}

/// A cutoff that is not far enough back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is younger than {REMEMBERED_DAYS} days cannot be purged: repeated calls rest on it")]
pub struct TooRecent;

impl Cutoffs {
    /// Returns the latest instant that a cutoff may be.
    pub fn latest(now: Instant) -> Instant {
        now - chrono::Duration::days(REMEMBERED_DAYS)
    }

    /// Requests that were settled, and not changed since, before `settled`; the history that was
    /// written before `history` of requests that are no more, none without it; the ids of quiet
    /// calls as soon as they need not be remembered.
    pub fn new(
        now: Instant,
        settled: Instant,
        history: Option<Instant>,
    ) -> Result<Self, TooRecent> {
        let calls = Self::latest(now);
        if [Some(settled), history].into_iter().flatten().max() > Some(calls) {
            return Err(TooRecent);
        }
        Ok(Self {
            settled,
            history,
            calls,
        })
    }
}

/// How many rows of each kind were deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Purged {
    /// Requests.
    pub requests: u64,
    /// Their messages.
    pub notifications: u64,
    /// Entries of the history.
    pub history: u64,
    /// Calls that changed nothing.
    pub idempotency_keys: u64,
    /// Whether it was told to stop before the end.
    pub stopped: bool,
}

/// Why a purge did not come to its end.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// It is SQLite, and another process has the file.
    #[error("the database file {0} is in use: SQLite is purged admin, so stop the service first")]
    InUse(String),
    /// The database cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// What would be deleted is worked out by a clock that is wrong.
    #[error("nothing was deleted")]
    Clock(#[source] Error),
    /// A batch failed; those before it, of which this much is known, stand.
    #[error("a batch failed, those before it stand; the same command goes on from here")]
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

/// How far a purge is: what is deleted now, how much of it, and out of how much where that is known.
pub type Progress<'a> = &'a mut (dyn FnMut(&'static str, u64, Option<u64>) + Send);

/// Deletes what lies before the cutoffs, which were worked out by `clock`, if that agrees with the
/// database's. Stops between two batches once it is told to.
///
/// # Errors
///
/// [`PurgeError`]; what was deleted before stays deleted.
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
    let mut run = Purge {
        connection: admin.connection,
        stop,
        progress,
        purged: Purged::default(),
    };
    let outcome = run.all(cutoffs).await;
    let purged = run.purged;
    // What was to be done is done; a connection that does not close goes with the process.
    let _ = run.connection.close_by_ref().await;
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
    async fn all(&mut self, cutoffs: Cutoffs) -> Result<(), Error> {
        self.requests(cutoffs.settled).await?;
        if let Some(before) = cutoffs.history {
            self.sweep(&HISTORY, before).await?;
        }
        self.sweep(&CALLS, cutoffs.calls).await?;
        self.purged.stopped = self.stop.is_cancelled();
        Ok(())
    }

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

    /// Goes through a table in the order of its key and deletes what the sweep says.
    async fn sweep(&mut self, sweep: &TableSweep, before: Instant) -> Result<(), Error> {
        let connection = &self.connection;
        let deleted = (sweep.count)(&mut self.purged);
        let mut after: Option<Vec<Value>> = None;
        while !self.stop.is_cancelled() {
            (self.progress)(sweep.what, *deleted, None);
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
        (self.progress)(sweep.what, *deleted, None);
        Ok(())
    }
}

/// What is deleted of a table that is gone through from end to end.
struct TableSweep {
    what: &'static str,
    table: Table,
    /// Which rows, where `$1` is the cutoff.
    which: &'static str,
    /// Where they are counted.
    count: fn(&mut Purged) -> &mut u64,
}

const HISTORY: TableSweep = TableSweep {
    what: "history",
    table: history::TABLE,
    which: "recorded_at < $1 AND NOT EXISTS (SELECT 1 FROM booking_request AS r \
            WHERE r.care_unit = history.care_unit AND r.id = history.booking_request)",
    count: |purged| &mut purged.history,
};

const CALLS: TableSweep = TableSweep {
    what: "calls",
    table: idempotency_key::TABLE,
    which: "recorded_at < $1",
    count: |purged| &mut purged.idempotency_keys,
};

/// Repeats what other writers have spoilt, or a database that was away, after a pause each time.
async fn with_retry<T, F: Future<Output = Result<T, Error>>>(
    stop: &CancellationToken,
    mut work: impl FnMut() -> F,
) -> Result<T, Error> {
    for tried in 1..TRIES_MAX {
        match work().await {
            Err(error) if error.is_contention() || matches!(error, Error::Unavailable(_)) => {
                stop.run_until_cancelled(sleep(pause(tried))).await;
            }
            outcome => return outcome,
        }
    }
    work().await
}

/// Returns the pause after so many tries: random, and up to twice as long each time.
fn pause(tried: u32) -> Duration {
    let longest = PAUSE_MAX.as_millis() as u64 >> (TRIES_MAX - 1 - tried);
    Duration::from_millis(longest / 2 + random() % (longest / 2))
}

async fn count(connection: &DatabaseConnection, before: Instant) -> Result<u64, Error> {
    let sql = "SELECT count(*) FROM booking_request WHERE settled_at < $1";
    let backend = connection.get_database_backend();
    let count = Statement::from_sql_and_values(backend, sql, [micros(before).into()]);
    let row = connection.query_one_raw(count).await?;
    let count: Option<i64> = row.map(|row| row.try_get_by_index(0)).transpose()?;
    Ok(count.and_then(|it| u64::try_from(it).ok()).unwrap_or(0))
}

/// Deletes a batch of settled requests, the oldest first, with their messages.
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

/// Returns the keys of the batch, locked. Requests of which a message may still go out or waits for staff
/// stay, and so do those that somebody changes now.
async fn settled(
    transaction: &DatabaseTransaction,
    before: Instant,
) -> Result<Vec<RequestKey>, Error> {
    let backend = transaction.get_database_backend();
    // Counted by the key, request by request: NOT EXISTS may be turned into a join with the whole
    // table.
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

/// Deletes the rows of these requests from a table that calls the request's id `id`.
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
    Ok(request::key_set(keys).execute(transaction, sql).await?)
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

/// Returns the three columns of a key.
fn key_of(table: &Table) -> String {
    let names: Vec<&str> = table.key.iter().map(|(name, _)| *name).collect();
    names.join(", ")
}

/// Rows by their keys: after the one, up to the other, or without an end.
struct Range<'a> {
    after: Option<&'a [Value]>,
    last: Option<&'a [Value]>,
}

impl Range<'_> {
    fn delete(
        &self,
        connection: &DatabaseConnection,
        sweep: &TableSweep,
        before: Instant,
    ) -> Statement {
        let key = key_of(&sweep.table);
        let mut sql = format!("DELETE FROM {} WHERE {}", sweep.table.name, sweep.which);
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
