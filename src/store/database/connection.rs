//! Connecting, and what each connection is for.

use std::fs::File;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sea_orm::SqliteTransactionMode;
use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sea_orm::sqlx::{self, Connection, Row};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
    TransactionOptions,
};

use crate::domain::calendar::from_micros;
use crate::store::DatabaseStatus;
use crate::store::database::preflight::{IS_READ_ONLY, preflight};
use crate::store::database::transaction::{Pool, Record};
use crate::store::error::OpenError;

/// How many connections to SQLite read at once.
const SQLITE_READERS: u32 = 4;
/// How many to PostgreSQL read by one statement: more than write, since the server's processes share its
/// cores evenly, and whoever looks at a list is not to wait until the night's messages are out. More of
/// them would keep each other waiting.
const POSTGRES_READERS: u32 = 4;
/// How many there read by several statements.
const POSTGRES_SNAPSHOTS: u32 = 2;
/// How many batches of calls are under way at once on PostgreSQL.
const WRITERS: u32 = 2;
/// How long a call waits for a connection, or for the server to be there, before it fails.
const ACQUIRE_MAX: Duration = Duration::from_secs(1);
/// How long is waited for PostgreSQL, which may be away. A file is always there, if slowly.
const POSTGRES_TIMEOUTS: Timeouts = Timeouts {
    caller: Duration::from_millis(1_800),
    work: Duration::from_secs(10),
    commit: Duration::from_secs(60),
    attempts_max: 4,
};
/// How long is waited for SQLite: as long as a call may take at all.
const SQLITE_TIMEOUTS: Timeouts = Timeouts {
    caller: Duration::from_secs(60),
    work: Duration::from_secs(60),
    commit: Duration::from_secs(60),
    attempts_max: 2,
};
/// For how long a connection that has proved to be fit is taken to be there without asking it again.
const PING_AFTER_IDLE: Duration = Duration::from_millis(500);
/// How long a connection may take to prove that it is fit to be used again.
const RELEASE_MAX: Duration = Duration::from_secs(1);
/// How long a statement may take on PostgreSQL.
const STATEMENT_MAX: &str = "10s";
/// How long a statement waits for another's rows before the batch is repeated.
const LOCK_MAX: &str = "1s";
/// How long a transaction may stand idle before the server ends it.
const IDLE_IN_TRANSACTION_MAX: &str = "10s";
/// Statements of the service go by keys. A plan that reads whole tables is cheaper while they are
/// small, and is kept when they no longer are.
const PLANNER_SETTINGS: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // A plan that cannot do without looks too dear to be run as it is.
    ("jit", "off"),
];
/// Time for which SQLite waits for a lock that another connection has. The only writer of this process waits for
/// nobody, so that whoever has it is another process, which should not be there.
const SQLITE_BUSY_MAX: Duration = Duration::from_millis(250);
/// The same of the probe, which waits for the writer.
const SQLITE_PROBE_BUSY_MAX: Duration = Duration::from_millis(750);
/// Page cache of the SQLite connection that writes, in KiB; the default of 2 MB halves the insert
/// rate once the indexes have outgrown it, and what lies beyond this is in the system's cache.
const SQLITE_WRITER_CACHE_KIB: u32 = 32 * 1_024;
/// That of each that reads. What it lacks is in the system's cache.
const SQLITE_READER_CACHE_KIB: u32 = 2 * 1_024;
/// How many pages of 4 KiB the write-ahead log holds before the writer itself takes them into the
/// database, as far as they are not there yet.
const SQLITE_CHECKPOINT_PAGES: u32 = 20_000;
/// From how many on the log is taken in without pauses, so that little is left when it is the writer's
/// turn.
const SQLITE_LONG_LOG_PAGES: i32 = 16_000;
/// How many rows SQLite may read ahead of whoever takes them: a page and its messages.
const SQLITE_ROWS_AHEAD: usize = 1_024;
/// Statements that stay prepared on a SQLite connection: a set has one for each size of its pieces, a
/// list one for each number of units.
const SQLITE_STATEMENTS_MAX: usize = 400;

/// How long is waited for the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// By a caller, who is then told that the outcome is not known.
    pub caller: Duration,
    /// By a batch or a read, whose connection is then thrown away, as when the network swallows
    /// everything.
    pub work: Duration,
    /// By a commit that was sent: it may have been carried out.
    pub commit: Duration,
    /// Number of attempts at a batch that has lost the database; what has befallen a file is seldom over in a moment.
    pub attempts_max: u32,
}

/// The connections to an open database.
pub struct Connections {
    /// For reads by one statement, without a transaction.
    pub readers: DatabaseConnection,
    /// For reads by several statements in a transaction.
    pub snapshots: Pool,
    /// For asking whether the database is there, however busy the others are.
    pub probe: DatabaseConnection,
    /// For checkpoints and for deleting what is kept no longer, which may take their time.
    pub maintenance: DatabaseConnection,
    /// For calls.
    pub writers: Pool,
    /// How transaction_settings of the writers have gone.
    pub writes: Record,
    /// For claims; none where there is one writer for everything.
    pub claimers: Option<Pool>,
    /// How batches of calls are under way.
    pub workers: Workers,
    /// How long is waited for it.
    pub timeouts: Timeouts,
    /// Held for as long as the database is open.
    pub lock: Option<File>,
}

/// How batches are under way.
pub enum Workers {
    /// So many at once, each in a transaction of its own, since others write too.
    Concurrent(u32),
    /// One after the other, the next decided over this connection meanwhile.
    Pipelined(DatabaseConnection),
}

/// One connection to a database, for work that the operator starts.
pub struct AdminConnection {
    /// For everything. Statements may take their time.
    pub connection: Pool,
    /// Held for as long as the database is open.
    pub lock: Option<File>,
}

/// Opens the database that `url` names, whatever its schema, over one connection.
pub async fn connect_admin(url: &str) -> Result<AdminConnection, OpenError> {
    if is_postgres(url) {
        preflight(url).await?;
        let record = Record::default();
        let options = postgres_options(url, 1, "0", PoolRole::Write);
        return Ok(AdminConnection {
            connection: connect_postgres_by(options, PoolRole::Write, record).await?,
            lock: None,
        });
    }
    let lock = acquire_lock_file(sqlite_path(url)?)?;
    let connection = connect_sqlite(url, 1, PoolRole::Write, Record::default()).await?;
    check_sqlite(&connection).await?;
    Ok(AdminConnection {
        connection,
        lock: Some(lock),
    })
}

/// Takes the write-ahead log of SQLite into the database, as far as readers and the writer allow;
/// neither waits for it. Says whether the log is long.
pub async fn checkpoint(connection: &DatabaseConnection) -> Result<bool, DbErr> {
    let backend = connection.get_database_backend();
    let checkpoint = Statement::from_string(backend, "PRAGMA wal_checkpoint(PASSIVE)");
    let row = connection.query_one_raw(checkpoint).await?;
    // Whether another was at it, the pages in the log, and how many of them have been taken in.
    let pages: Option<i32> = row.map(|row| row.try_get_by_index(1)).transpose()?;
    Ok(pages.is_some_and(|pages| pages >= SQLITE_LONG_LOG_PAGES))
}

/// Returns whether the address is one of PostgreSQL.
pub fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Opens the database that `url` names, whatever its schema.
pub async fn connect(url: &str) -> Result<Connections, OpenError> {
    if is_postgres(url) {
        if preflight(url).await?.logs_parameters {
            tracing::warn!(
                "the database writes what statements carry, identity numbers too, into its own \
                 log: set log_parameter_max_length and log_parameter_max_length_on_error to 0"
            );
        }
        let writes = Record::default();
        let connect = async |connections, role| {
            connect_postgres(url, connections, role, Record::default()).await
        };
        return Ok(Connections {
            readers: connect(POSTGRES_READERS, PoolRole::Statement)
                .await?
                .into_connection(),
            snapshots: connect(POSTGRES_SNAPSHOTS, PoolRole::Snapshot).await?,
            probe: connect(1, PoolRole::Write).await?.into_connection(),
            maintenance: connect(1, PoolRole::Write).await?.into_connection(),
            writers: connect_postgres(url, WRITERS, PoolRole::Write, writes.clone()).await?,
            writes,
            claimers: Some(connect(1, PoolRole::Write).await?),
            workers: Workers::Concurrent(WRITERS),
            timeouts: POSTGRES_TIMEOUTS,
            lock: None,
        });
    }
    let lock = acquire_lock_file(sqlite_path(url)?)?;
    let writes = Record::default();
    let writers = connect_sqlite(url, 1, PoolRole::Write, writes.clone()).await?;
    check_sqlite(&writers).await?;
    let connect =
        async |connections, role| connect_sqlite(url, connections, role, Record::default()).await;
    let readers = connect(SQLITE_READERS, PoolRole::Statement).await?;
    Ok(Connections {
        readers: readers.clone().into_connection(),
        snapshots: readers,
        probe: connect(1, PoolRole::Probe).await?.into_connection(),
        maintenance: connect(1, PoolRole::Statement).await?.into_connection(),
        writers,
        writes,
        claimers: None,
        workers: Workers::Pipelined(connect(1, PoolRole::Statement).await?.into_connection()),
        timeouts: SQLITE_TIMEOUTS,
        lock: Some(lock),
    })
}

/// Returns how a batch of writes begins. On PostgreSQL the connection says what a transaction is.
pub fn write_options(backend: DbBackend) -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: match backend {
            DbBackend::Sqlite => Some(SqliteTransactionMode::Immediate),
            _ => None,
        },
        ..TransactionOptions::default()
    }
}

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum PoolRole {
    /// Statements without a transaction; on SQLite reads in transaction_settings as well.
    Statement,
    /// Each transaction sees one state of the database.
    Snapshot,
    /// Each statement sees what is committed.
    Write,
    /// The same, of what asks whether the database is there.
    Probe,
}

impl PoolRole {
    /// Returns what a transaction on PostgreSQL is without saying so, which would be a round trip more.
    fn transaction_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Statement | Self::Snapshot => &[
                ("default_transaction_isolation", "repeatable read"),
                ("default_transaction_read_only", "on"),
            ],
            Self::Write | Self::Probe => &[("default_transaction_isolation", "read committed")],
        }
    }

    /// Returns how PostgreSQL plan_settings statements.
    fn plan_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            // A list's plan is the same whatever its values are; to make it takes as long as to run it.
            Self::Statement => &[("plan_cache_mode", "force_generic_plan")],
            Self::Snapshot | Self::Write | Self::Probe => &[],
        }
    }
}

/// Asks the database whether it is there. One that has no server is asked by writing, unless it `has_written` a moment
/// ago: a page that is written as it was.
pub async fn probe_pool(
    connection: &DatabaseConnection,
    has_written: bool,
) -> Result<DatabaseStatus, DbErr> {
    let backend = connection.get_database_backend();
    if backend != DbBackend::Postgres {
        match has_written {
            true => connection.ping().await?,
            // Nothing else has a use for it.
            false => connection
                .execute_unprepared("PRAGMA user_version = 0")
                .await
                .map(|_| ())?,
        }
        return Ok(DatabaseStatus {
            now: None,
            read_only: false,
        });
    }
    let sql =
        format!("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, {IS_READ_ONLY}");
    let row = connection.query_one_raw(Statement::from_string(backend, sql));
    let row = row.await?.ok_or(DbErr::RecordNotFound(String::new()))?;
    Ok(DatabaseStatus {
        now: Some(from_micros(row.try_get_by_index(0)?)),
        read_only: row.try_get_by_index(1)?,
    })
}

/// What is to be done with rows that a statement reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowLock {
    /// Nothing.
    None,
    /// Others pass them over until the batch has ended, and those that others have are passed over.
    SkipLocked,
}

impl RowLock {
    /// Returns whether rows are locked: the writer of SQLite is admin.
    pub fn locks_rows(self, backend: DbBackend) -> bool {
        backend == DbBackend::Postgres && self == Self::SkipLocked
    }

    /// Returns what is appended to a statement over `table`, where the database locks rows.
    pub fn clause(self, backend: DbBackend, table: &str) -> String {
        match self.locks_rows(backend) {
            true => format!(" FOR UPDATE OF {table} SKIP LOCKED"),
            false => String::new(),
        }
    }
}

async fn connect_postgres(
    url: &str,
    connections: u32,
    role: PoolRole,
    record: Record,
) -> Result<Pool, OpenError> {
    let mut options = postgres_options(url, connections, STATEMENT_MAX, role);
    options.test_before_acquire(false);
    connect_postgres_by(options, role, record).await
}

async fn connect_postgres_by(
    mut options: ConnectOptions,
    role: PoolRole,
    record: Record,
) -> Result<Pool, OpenError> {
    let asked = record.clone();
    options.map_sqlx_postgres_pool_opts(move |options| {
        let asked = asked.clone();
        let options = options.before_acquire(move |connection, metadata| {
            let is_trusted = asked.trusts(metadata.age);
            // A batch that meets a connection which has died is repeated.
            let is_asked = role != PoolRole::Write && metadata.idle_for >= PING_AFTER_IDLE;
            Box::pin(async move {
                if is_trusted && is_asked {
                    connection.ping().await?;
                }
                Ok(is_trusted)
            })
        });
        match role {
            // Nothing is ever begun over them.
            PoolRole::Statement => options,
            PoolRole::Snapshot | PoolRole::Write | PoolRole::Probe => {
                options.after_release(|connection, _| {
                    let fit =
                        tokio::time::timeout(RELEASE_MAX, has_no_open_transaction(connection));
                    Box::pin(async { fit.await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) })
                })
            }
        }
    });
    Ok(Pool::new(Database::connect(options).await?, record))
}

/// Returns how connections to a PostgreSQL that was reached are made.
fn postgres_options(
    url: &str,
    connections: u32,
    statement_max: &'static str,
    role: PoolRole,
) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_postgres_opts(move |options| {
            let options = options.application_name("care-invitation").options([
                ("statement_timeout", statement_max),
                ("lock_timeout", LOCK_MAX),
                (
                    "idle_in_transaction_session_timeout",
                    IDLE_IN_TRANSACTION_MAX,
                ),
            ]);
            options
                .options(PLANNER_SETTINGS)
                .options(role.transaction_settings().iter().copied())
                .options(role.plan_settings().iter().copied())
        });
    options
}

/// Refuses the address of a SQLite file that is not there, for whom it must be.
pub fn require_existing_file(url: &str) -> Result<(), OpenError> {
    if is_postgres(url) {
        return Ok(());
    }
    let path = sqlite_path(url)?;
    // As the library understands the address.
    let options: SqliteConnectOptions = url
        .parse()
        .map_err(|_| OpenError::Address("is not one that SQLite understands"))?;
    match options.get_filename().is_file() {
        true => Ok(()),
        false => Err(OpenError::NoFile(path.to_owned())),
    }
}

/// Returns the file that a SQLite address names.
fn sqlite_path(url: &str) -> Result<&str, OpenError> {
    let rest = url
        .strip_prefix("sqlite:")
        .ok_or(OpenError::Address("must begin with sqlite: or postgres://"))?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" || url.contains("mode=memory") {
        return Err(OpenError::Address(
            "must name a file: a database in memory would lose every message",
        ));
    }
    Ok(path)
}

/// Takes the lock that keeps other processes away from the database file.
///
/// The lock is on a file of its own, because closing any handle to the database file itself would
/// drop the locks that SQLite has on it.
fn acquire_lock_file(path: &str) -> Result<File, OpenError> {
    let name = format!("{path}.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|error| OpenError::LockFile(name.clone(), error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(OpenError::Locked(path.to_owned())),
        Err(std::fs::TryLockError::Error(error)) => Err(OpenError::LockFile(name, error)),
    }
}

async fn connect_sqlite(
    url: &str,
    connections: u32,
    role: PoolRole,
    record: Record,
) -> Result<Pool, OpenError> {
    let (query_only, cache_kib, busy_max) = match role {
        PoolRole::Statement | PoolRole::Snapshot => {
            ("ON", SQLITE_READER_CACHE_KIB, SQLITE_BUSY_MAX)
        }
        PoolRole::Write => ("OFF", SQLITE_WRITER_CACHE_KIB, SQLITE_BUSY_MAX),
        PoolRole::Probe => ("OFF", SQLITE_READER_CACHE_KIB, SQLITE_PROBE_BUSY_MAX),
    };
    let asked = record.clone();
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(connections)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .test_before_acquire(false)
        .map_sqlx_sqlite_opts(move |options| {
            options
                .create_if_missing(true)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(busy_max)
                .statement_cache_capacity(SQLITE_STATEMENTS_MAX)
                .row_buffer_size(SQLITE_ROWS_AHEAD)
                .pragma("cache_size", format!("-{cache_kib}"))
                // What undoes a statement that fails halfway: one that writes a set goes beyond what
                // SQLite holds in memory by itself, and would write each page to a file as well.
                .pragma("temp_store", "MEMORY")
                .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES.to_string())
                .pragma("query_only", query_only)
        })
        .map_sqlx_sqlite_pool_opts(move |options| {
            let asked = asked.clone();
            options
                .before_acquire(move |_, metadata| {
                    let is_trusted = asked.trusts(metadata.age);
                    Box::pin(async move { Ok(is_trusted) })
                })
                .after_release(|connection, _| Box::pin(has_no_transaction(connection)))
        });
    Ok(Pool::new(Database::connect(options).await?, record))
}

/// Returns whether a connection comes back without an open transaction.
async fn has_no_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    // Answered behind a rollback that nobody has waited for.
    connection.ping().await?;
    let is_open = connection.is_in_transaction();
    if is_open {
        note_open_transaction();
    }
    Ok(!is_open)
}

/// Reads back what a commit's durability rests on.
async fn check_sqlite(connection: &DatabaseConnection) -> Result<(), OpenError> {
    for (setting, pragma, wanted) in [
        ("journal_mode WAL", "PRAGMA journal_mode", "wal"),
        ("synchronous FULL", "PRAGMA synchronous", "2"),
    ] {
        let row = connection
            .query_one_raw(Statement::from_string(
                connection.get_database_backend(),
                pragma,
            ))
            .await?;
        let answer = match &row {
            Some(row) => row.try_get_by_index::<String>(0).or_else(|_| {
                row.try_get_by_index::<i64>(0)
                    .map(|number| number.to_string())
            })?,
            None => String::new(),
        };
        if answer != wanted {
            return Err(OpenError::Setting { setting, answer });
        }
    }
    Ok(())
}

/// Returns whether a connection comes back without an open transaction. One that has one is thrown away:
/// what was left undone in it must not mix with what comes next.
async fn has_no_open_transaction(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    // Within a transaction the first is its beginning, outside both are the statement's: as long
    // as it is sent as one message, and not prepared.
    let row = sqlx::raw_sql("SELECT now() = statement_timestamp()")
        .fetch_one(connection)
        .await?;
    let fit: bool = row.try_get(0)?;
    if !fit {
        note_open_transaction();
    }
    Ok(fit)
}

fn note_open_transaction() {
    let count = OPEN_TRANSACTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::warn!(
        count,
        "a connection came back with an open transaction and is closed"
    );
}

/// How many connections this process has thrown away for that.
static OPEN_TRANSACTIONS: AtomicU64 = AtomicU64::new(0);
