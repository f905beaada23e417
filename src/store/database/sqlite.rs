//! Connections to SQLite: a look at a file before anything is written, pragmas, checks of a connection after its use, and WAL
//! checkpoints.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous,
};
use sea_orm::sqlx::{self, Connection};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbErr, EntityTrait, Statement,
};
use sea_orm_migration::seaql_migrations;

use crate::store::database::data_file::{DataFile, check_magic};
use crate::store::database::page_check::{Depth, damage_in};
use crate::store::database::pool_role::PoolRole;
use crate::store::database::postgres::is_postgres;
use crate::store::database::transaction::{Pool, Record, note_open_transaction};
use crate::store::error::{OpenError, damage};

/// Time for which SQLite waits for a lock that another connection has. Of this process that is the probe alone, which
/// writes one page at times; any other is another process's, which should not be there.
const SQLITE_BUSY_MAX: Duration = Duration::from_millis(500);
/// The same for the probe, which waits for the writer.
const SQLITE_PROBE_BUSY_MAX: Duration = Duration::from_millis(750);
/// Page cache of the connection that writes, in KiB; the default of 2 MB halves the insert rate once the indexes have
/// outgrown it. The other pages are in the cache of the operating system.
const SQLITE_WRITER_CACHE_KIB: u32 = 32 * 1_024;
/// Page cache of each connection that reads, in KiB. The other pages are in the cache of the operating system.
const SQLITE_READER_CACHE_KIB: u32 = 2 * 1_024;
/// Pages of 4 KiB in the WAL at which a commit makes a checkpoint itself, of the pages that were not copied before.
const SQLITE_CHECKPOINT_PAGES: u32 = 20_000;
/// Pages in the WAL from which checkpoints follow each other without pauses, so that little is left for a commit to copy.
const SQLITE_LONG_WAL_PAGES: i32 = 16_000;
/// Rows that SQLite may read ahead of its reader: a page of requests with their notifications.
const SQLITE_ROWS_AHEAD: usize = 1_024;
/// Statements that stay prepared on a connection: a bulk write has one for each size of its chunks, a list one for each
/// number of care units.
const SQLITE_STATEMENTS_MAX: usize = 400;

/// Largest file, in bytes, of which every page is looked at before it is opened; that takes about a second.
const CHECKED_AT_START_MAX: u64 = 256 << 20;

/// A check of the migrations that a database has applied.
pub type Acceptance = fn(&BTreeSet<String>) -> Result<(), OpenError>;

/// Refuses the address of a SQLite file that does not exist.
pub fn require_existing_file(url: &str) -> Result<(), OpenError> {
    if is_postgres(url) {
        return Ok(());
    }
    let path = sqlite_path(url)?;
    match path.is_file() {
        true => Ok(()),
        false => Err(OpenError::NoFile(path.display().to_string())),
    }
}

/// Returns the path of the file in a SQLite address.
pub fn sqlite_path(url: &str) -> Result<PathBuf, OpenError> {
    let rest = url
        .strip_prefix("sqlite:")
        .ok_or(OpenError::Address("must begin with sqlite: or postgres://"))?;
    let path = rest.strip_prefix("//").unwrap_or(rest);
    let path = path.split('?').next().unwrap_or_default();
    if path.is_empty() || path == ":memory:" || url.contains("mode=memory") {
        return Err(OpenError::Address(
            "must name a file: a database in memory would lose every notification",
        ));
    }
    // As the library understands the address.
    let options: SqliteConnectOptions = url
        .parse()
        .map_err(|_| OpenError::Address("is not one that SQLite understands"))?;
    Ok(options.get_filename().to_owned())
}

/// Locks the file that an address names and looks at it, before anything is written to it.
///
/// # Errors
///
/// [`OpenError`] for a file that another process has, that is damaged, that is not ours, or whose migrations are not accepted.
pub async fn lock_and_inspect(url: &str, accepts: Acceptance) -> Result<Arc<DataFile>, OpenError> {
    let file = DataFile::wait_and_lock(&sqlite_path(url)?).await?;
    file.check_magic()?;
    if let Some(bytes) = file.bytes().filter(|it| *it > 0) {
        let depth = match bytes <= CHECKED_AT_START_MAX {
            true => Depth::Pages,
            false => Depth::Names,
        };
        accepts(&look_inside(file.path(), depth).await?)?;
    }
    if let Some(kind) = file.network_file_system() {
        tracing::warn!(
            kind,
            "the database file lies on a network file system, where SQLite may lose or damage it: put it on a local disk"
        );
    }
    Ok(Arc::new(file))
}

/// Opens a connection that writes nothing to the file.
pub async fn connect_to_read(path: &Path) -> Result<DatabaseConnection, OpenError> {
    let filename = path.to_owned();
    let mut options = ConnectOptions::new("sqlite:");
    options
        .max_connections(1)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_sqlite_opts(move |_| {
            SqliteConnectOptions::new()
                .filename(&filename)
                .read_only(true)
        });
    let opened = Database::connect(options).await;
    opened.map_err(|error| match damage(&error) {
        Some(damage) => OpenError::Damaged(path.display().to_string(), damage),
        None => error.into(),
    })
}

/// Copies one snapshot of a database into an empty file.
pub async fn copy_into(connection: &DatabaseConnection, target: &Path) -> Result<(), DbErr> {
    let backend = connection.get_database_backend();
    let target = target.display().to_string().into();
    let copy = Statement::from_sql_and_values(backend, "VACUUM INTO ?", [target]);
    connection.execute_raw(copy).await.map(|_| ())
}

/// Takes all that the WAL of a database holds into its file.
pub async fn take_wal_in(path: &Path) -> Result<(), DbErr> {
    let filename = path.to_owned();
    let mut options = ConnectOptions::new("sqlite:");
    options
        .max_connections(1)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_sqlite_opts(move |_| SqliteConnectOptions::new().filename(&filename));
    let connection = Database::connect(options).await?;
    let taken = connection.execute_unprepared("PRAGMA wal_checkpoint(TRUNCATE)");
    let taken = taken.await;
    connection.close().await?;
    taken.map(|_| ())
}

/// Returns the migrations that a file has applied, which nobody has open: none of an empty one.
///
/// # Errors
///
/// [`OpenError`] for a file that is damaged or not ours.
pub async fn inspect(path: &Path, depth: Depth) -> Result<BTreeSet<String>, OpenError> {
    let file = File::open(path);
    let file = file.map_err(|error| OpenError::File(path.display().to_string(), error))?;
    check_magic(path, &file)?;
    // SQLite has not opened it yet, so that no lock of its is lost.
    drop(file);
    look_inside(path, depth).await
}

/// Returns the migrations that a database of SQLite has applied.
async fn look_inside(path: &Path, depth: Depth) -> Result<BTreeSet<String>, OpenError> {
    let connection = connect_to_read(path).await?;
    let applied = applied(&connection, path, depth).await;
    connection.close().await?;
    applied
}

/// Refuses a database that is damaged or not ours, and returns the migrations that it has applied.
async fn applied(
    connection: &DatabaseConnection,
    path: &Path,
    depth: Depth,
) -> Result<BTreeSet<String>, OpenError> {
    let shown = || path.display().to_string();
    if let Some(damage) = damage_in(connection, None, depth).await? {
        return Err(OpenError::Damaged(shown(), damage));
    }
    let names = "SELECT name FROM sqlite_master WHERE type = 'table'";
    let names = Statement::from_string(connection.get_database_backend(), names);
    let names = connection.query_all_raw(names).await?;
    let names = names.iter().map(|row| row.try_get_by_index::<String>(0));
    let names: Vec<String> = names.collect::<Result<_, _>>()?;
    if names.is_empty() {
        return Ok(BTreeSet::new());
    }
    if !names.iter().any(|it| it == "seaql_migrations") {
        return Err(OpenError::Foreign(shown()));
    }
    let applied = seaql_migrations::Entity::find().all(connection).await?;
    Ok(applied.into_iter().map(|it| it.version).collect())
}

/// Opens a pool, with checks of a connection before and after its use.
pub async fn connect_sqlite(
    url: &str,
    connections: u32,
    role: PoolRole,
    file: &Arc<DataFile>,
    record: Record,
) -> Result<Pool, OpenError> {
    let (query_only, cache_kib, busy_max) = match role {
        PoolRole::Statement | PoolRole::Snapshot => {
            ("ON", SQLITE_READER_CACHE_KIB, SQLITE_BUSY_MAX)
        }
        PoolRole::Write => ("OFF", SQLITE_WRITER_CACHE_KIB, SQLITE_BUSY_MAX),
        PoolRole::Probe => ("OFF", SQLITE_READER_CACHE_KIB, SQLITE_PROBE_BUSY_MAX),
    };
    let (checked, opened) = (record.clone(), file.clone());
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(connections)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .test_before_acquire(false)
        .map_sqlx_sqlite_opts(move |options| {
            options
                // It was created when it was locked; another would not be that one.
                .create_if_missing(false)
                .journal_mode(SqliteJournalMode::Wal)
                .synchronous(SqliteSynchronous::Full)
                .busy_timeout(busy_max)
                .statement_cache_capacity(SQLITE_STATEMENTS_MAX)
                .row_buffer_size(SQLITE_ROWS_AHEAD)
                .pragma("cache_size", format!("-{cache_kib}"))
                // For the statement journal, which undoes a statement that fails halfway: a bulk write exceeds what
                // SQLite holds in memory by itself, and would write each page to a file as well.
                .pragma("temp_store", "MEMORY")
                .pragma("wal_autocheckpoint", SQLITE_CHECKPOINT_PAGES.to_string())
                .pragma("query_only", query_only)
        })
        .map_sqlx_sqlite_pool_opts(move |options| {
            let (checked, opened) = (checked.clone(), opened.clone());
            options
                .after_connect(move |_, _| {
                    let is_ours = opened.is_in_place();
                    Box::pin(async move { is_ours.then_some(()).ok_or(sqlx::Error::WorkerCrashed) })
                })
                .before_acquire(move |_, metadata| {
                    let is_trusted = checked.trusts(metadata.age);
                    Box::pin(async move { Ok(is_trusted) })
                })
                .after_release(|connection, _| Box::pin(has_no_transaction(connection)))
        });
    let pool = Pool::new(Database::connect(options).await?, record);
    file.note_open_wal();
    Ok(pool.of_file(file.clone()))
}

/// Reads back the settings on which the durability of commits depends.
pub async fn check_sqlite(connection: &DatabaseConnection) -> Result<(), OpenError> {
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

/// Makes a WAL checkpoint, as far as readers and the writer allow; neither waits for it. Returns true when the WAL is
/// long.
pub async fn checkpoint(connection: &DatabaseConnection) -> Result<bool, DbErr> {
    let backend = connection.get_database_backend();
    let checkpoint = Statement::from_string(backend, "PRAGMA wal_checkpoint(PASSIVE)");
    let row = connection.query_one_raw(checkpoint).await?;
    // The row has: another checkpoint was running, pages in the WAL, pages copied.
    let pages: Option<i32> = row.map(|row| row.try_get_by_index(1)).transpose()?;
    Ok(pages.is_some_and(|pages| pages >= SQLITE_LONG_WAL_PAGES))
}

/// Returns true when a connection comes back without an open transaction.
async fn has_no_transaction(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if !connection.is_in_transaction() {
        return Ok(true);
    }
    // The ping queues behind a rollback that nobody has waited for.
    connection.ping().await?;
    let is_open = connection.is_in_transaction();
    if is_open {
        note_open_transaction();
    }
    Ok(!is_open)
}
