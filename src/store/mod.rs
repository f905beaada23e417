//! The store: booking requests, their messages and their history, on SQLite or PostgreSQL.
//!
//! One operation is one all-or-nothing unit with one short name. A write hands a decision to the
//! writer, which loads the records, decides, saves and commits, together with whatever else has
//! arrived, and only then answers. Reads have connections of their own and see what is committed.
//!
//! What differs between the databases is said here and in `row::set`, which takes a parameter apart:
//!
//! | | SQLite | PostgreSQL |
//! | --- | --- | --- |
//! | connections | one writer, some readers | |
//! | durability | WAL, synchronous FULL, read back at start | |
//! | other processes | refused, by a lock file | |

pub mod error;
pub mod migration;

pub mod notification;

mod batch;
mod booking_request;
mod history;
mod row;
mod worklist;
mod writer;

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DatabaseTransaction,
    TransactionTrait,
};
use sea_orm_migration::MigratorTrait;
use tokio::sync::{Mutex, broadcast};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::domain::booking_request::RequestKey;
use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use error::{Error, OpenError};
use writer::Writer;

/// Appended to the statement that loads requests to be changed, where the database locks rows.
const ROW_LOCK: &str = "";
/// How many connections read at once.
const READERS: u32 = 4;
/// How many commits a listener may lag behind before it has to look for itself.
const COMMITS_KEPT: usize = 1_024;
/// Page cache of each SQLite connection, in KiB; the default of 2 MB halves the insert rate once
/// the indexes have outgrown it.
const SQLITE_CACHE_KIB: u32 = 64 * 1_024;

/// The identity of a write that may be repeated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The caller's subject.
    pub caller: String,
    /// The id that the caller made.
    pub id: Uuid,
    /// A hash of the parsed content.
    pub hash: [u8; 32],
}

/// What a commit means to those who wait for messages or watch lists.
#[derive(Debug, Default)]
pub struct Committed {
    /// The first instant at which a message that was planned or freed may be claimed.
    pub claimable_at: Option<Instant>,
    /// What became of leases that consumers had.
    pub leases: Vec<(LeaseRef, LeaseFate)>,
    /// Requests that were created or changed.
    pub requests: Vec<RequestKey>,
}

/// What became of a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LeaseFate {
    /// The consumer has answered, or the message was leased anew.
    Ended,
    /// The message was taken back.
    Revoked,
    /// It now runs until then.
    Renewed(Instant),
}

/// The store. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    readers: DatabaseConnection,
    writer: Mutex<Option<JoinHandle<()>>>,
    queue: std::sync::RwLock<Option<Writer>>,
    commits: broadcast::Sender<Arc<Committed>>,
    /// Held for as long as the store is open.
    _lock: File,
}

impl Store {
    /// Opens a database, creates it when it is missing, and brings its schema up to date.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says which; the address itself, which may hold a password, is never in it.
    pub async fn open(url: &str) -> Result<Self, OpenError> {
        let path = sqlite_path(url)?;
        let lock = lock_beside(path)?;
        let writing = connect_sqlite(url, 1, false).await?;
        check_sqlite(&writing).await?;
        migration::Migrator::up(&writing, None).await?;
        let readers = connect_sqlite(url, READERS, true).await?;
        let (commits, _) = broadcast::channel(COMMITS_KEPT);
        let (queue, task) = Writer::start(writing, commits.clone());
        Ok(Self {
            inner: Arc::new(Inner {
                readers,
                writer: Mutex::new(Some(task)),
                queue: std::sync::RwLock::new(Some(queue)),
                commits,
                _lock: lock,
            }),
        })
    }

    /// Carries out what has been handed in, then closes the database. Later writes fail.
    pub async fn close(&self) {
        self.inner
            .queue
            .write()
            .unwrap_or_else(|lock| lock.into_inner())
            .take();
        if let Some(task) = self.inner.writer.lock().await.take() {
            // A writer that panicked has nothing left to finish.
            let _ = task.await;
        }
        // A reader that cannot be closed goes with the process.
        let _ = self.inner.readers.close_by_ref().await;
    }

    /// What is committed here from now on.
    pub fn commits(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.inner.commits.subscribe()
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), Error> {
        Ok(self.inner.readers.ping().await?)
    }

    fn writer(&self) -> Result<Writer, Error> {
        let queue = self.inner.queue.read();
        let queue = queue.unwrap_or_else(|lock| lock.into_inner());
        queue
            .clone()
            .ok_or_else(|| Error::broken("the store is closed"))
    }

    /// Reads from one state of the database, whatever is committed meanwhile.
    ///
    /// In a task of its own: a caller that goes away must not leave a transaction open behind it.
    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseTransaction) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = self.inner.readers.clone();
        let task = tokio::spawn(async move {
            let snapshot = readers.begin().await?;
            let answer = read(&snapshot).await;
            snapshot.rollback().await?;
            answer
        });
        task.await
            .unwrap_or_else(|_| Err(Error::broken("a read has panicked")))
    }
}

/// A read under way.
type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;

/// The file that a SQLite address names.
fn sqlite_path(url: &str) -> Result<&str, OpenError> {
    let rest = url
        .strip_prefix("sqlite:")
        .ok_or(OpenError::Address("must begin with sqlite:"))?;
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
fn lock_beside(path: &str) -> Result<File, OpenError> {
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
    read_only: bool,
) -> Result<DatabaseConnection, OpenError> {
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
                .busy_timeout(Duration::from_secs(5))
                .pragma("cache_size", format!("-{SQLITE_CACHE_KIB}"))
                .pragma("query_only", if read_only { "ON" } else { "OFF" })
        });
    Ok(Database::connect(options).await?)
}

/// Reads back what a commit's durability rests on.
async fn check_sqlite(connection: &DatabaseConnection) -> Result<(), OpenError> {
    for (setting, pragma, wanted) in [
        ("journal_mode WAL", "PRAGMA journal_mode", "wal"),
        ("synchronous FULL", "PRAGMA synchronous", "2"),
    ] {
        let row = connection
            .query_one_raw(sea_orm::Statement::from_string(
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
