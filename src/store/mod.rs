//! The store: booking requests, their messages and their history, on SQLite or PostgreSQL.
//!
//! One operation is one all-or-nothing unit with one short name. A write hands a decision to the
//! writer, which loads the records, decides, saves and commits, together with whatever else has
//! arrived, and only then answers. Reads have connections of their own and see what is committed.
//!
//! What differs between the databases:
//!
//! | | SQLite | PostgreSQL |
//! | --- | --- | --- |
//! | writers | one, for calls and claims; the next batch is decided beside it | some for calls, one for claims, each over a connection |
//! | rows to be changed | the writer is alone | locked, requests before their messages; those that others have are passed over, and come later |
//! | requests of leased messages | among the recent ones | kept until they are answered for, neither locked nor read then, but tested when written |
//! | rows to be claimed | the writer is alone | locked; those that others have are passed over |
//! | log | taken into the file beside the writer | the server's own |
//! | reads | some connections | some connections; transactions are REPEATABLE READ |
//! | durability | WAL, synchronous FULL, read back at start | the server's `synchronous_commit` |
//! | other processes | refused, by a lock file | welcome |
//! | schema | brought up to date at start | as the operator says |
//!
//! How sets of rows travel differs in `row::set` and `row::write`, how texts are put in order in `row`,
//! how tables are made and brought up to date in `migration` and `schema`.

pub mod change_event;
pub mod error;
pub mod idempotency;
pub mod purge;
pub mod schema;

pub mod notification;
pub mod skew;

mod booking_request;
mod bulk;
mod change_feed;
mod commit;
mod database;
mod entity;
mod history;
mod quarantine;
mod query;
mod worklist;

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionOptions};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::domain::calendar::{ClockReading, Instant};
use crate::store::change_event::ChangeEvent;
use crate::store::change_feed::ChangePublisher;
use crate::store::commit::committer::{CommitQueue, random};
use crate::store::commit::overlay::Leased;
use crate::store::database::connection::{Timeouts, Workers, connect, is_postgres};
use crate::store::database::transaction::{Pool, Record};
use crate::store::error::{Error, OpenError};
use crate::store::schema::Schema;
use skew::Timepiece;

/// How many commits a listener may lag behind before it has to look for itself.
const COMMITS_KEPT: usize = 1_024;
/// The pause after the log was taken into the database, as a multiple of how long that took: meanwhile
/// commits have the disk for themselves.
const CHECKPOINT_INTERVAL_FACTOR: u32 = 10;
/// The least that the pause is. A little at a time keeps commits waiting least.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// The most: under load pages change many times and are then taken in once.
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// Time for which a file counts as not to be written after a write of it has failed.
const FAILURE_COUNTS: Duration = Duration::from_secs(2);
/// Time for which a file that was written is taken to be writable without being asked.
const WRITE_TRUSTED: Duration = Duration::from_secs(5);

/// What a database that is there says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// What its clock shows; none of one that goes by the machine's.
    pub now: Option<Instant>,
    /// Whether it takes no writes, as a standby that is not promoted.
    pub read_only: bool,
}

/// The store. Cloning gives another handle to the same.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// For reads by one statement.
    readers: DatabaseConnection,
    /// For reads by several; the same where that makes no difference.
    snapshots: Pool,
    /// For asking whether the database is there.
    probe: DatabaseConnection,
    /// For what may take its time.
    maintenance: DatabaseConnection,
    /// How transactions of the writers have gone.
    writes: Record,
    /// Told when something was written that no commit tells of.
    log_grown: Notify,
    /// The queues of calls and of claims; none once the store is closed.
    queues: std::sync::RwLock<Option<Queues>>,
    writers: Mutex<Vec<JoinHandle<()>>>,
    commits: broadcast::Sender<Arc<ChangeEvent>>,
    timeouts: Timeouts,
    timepiece: Timepiece,
    /// Which of several processes this is; none where there are no others.
    replica: Option<Uuid>,
    /// Held for as long as the store is open.
    _lock: Option<File>,
}

#[derive(Clone)]
struct Queues {
    calls: CommitQueue,
    claims: CommitQueue,
}

impl Store {
    /// Opens a database. A file is created when it is missing and its schema brought up to date;
    /// on PostgreSQL `schema` says what is done with an older one.
    ///
    /// # Errors
    ///
    /// [`OpenError`] says which; the address itself, which may hold a password, is never in it.
    pub async fn open(url: &str, schema: Schema) -> Result<Self, OpenError> {
        let mut applied = Vec::new();
        if is_postgres(url) && schema == Schema::Migrate {
            applied = crate::store::schema::migrate(url).await?;
        }
        let connections = connect(url).await?;
        if !is_postgres(url) {
            applied = crate::store::schema::migrate_connection(&connections.writers).await?;
        }
        for migration in applied {
            tracing::info!(migration, "the schema was brought up to date");
        }
        crate::store::schema::require_current(&connections.writers).await?;
        let timeouts = connections.timeouts;
        let replica = connections
            .lock
            .is_none()
            .then(|| Uuid::from_u64_pair(random(), random()));
        let (commits, _) = broadcast::channel(COMMITS_KEPT);
        let publisher = ChangePublisher::new(commits.clone(), replica);
        let leased = Arc::new(Leased::default());
        let timepiece = Timepiece::default();
        let (calls, mut tasks) = CommitQueue::start(
            connections.writers,
            connections.workers,
            timeouts,
            publisher.clone(),
            Arc::clone(&leased),
            timepiece.clone(),
        );
        let claims = match connections.claimers {
            Some(claimers) => {
                let (claims, more) = CommitQueue::start(
                    claimers,
                    Workers::Concurrent(1),
                    timeouts,
                    publisher,
                    leased,
                    timepiece.clone(),
                );
                tasks.extend(more);
                claims
            }
            None => calls.clone(),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                readers: connections.readers,
                snapshots: connections.snapshots,
                probe: connections.probe,
                maintenance: connections.maintenance,
                writes: connections.writes,
                log_grown: Notify::new(),
                queues: std::sync::RwLock::new(Some(Queues { calls, claims })),
                writers: Mutex::new(tasks),
                commits,
                timeouts,
                timepiece,
                replica,
                _lock: connections.lock,
            }),
        })
    }

    /// Goes by `clock` from now on: what it decides while it cannot be from_stored is refused. Until
    /// then every clock is from_stored. The first clock stays.
    pub fn go_by(&self, clock: impl Fn() -> ClockReading + Send + Sync + 'static) {
        self.inner.timepiece.set(clock);
    }

    /// Takes the log of SQLite into the database while others write, for as long as the future is
    /// polled: left to the writer alone, every so many commits one would take very long.
    ///
    /// The log begins anew when all of it has been taken in. When it has grown long that is done
    /// without pauses, so that nearly nothing is left for the writer to take in.
    pub async fn run_wal_checkpointer(&self) {
        if self.inner.replica.is_some() {
            // One with replicas keeps its own.
            return;
        }
        let mut commits = self.commits();
        loop {
            tokio::select! {
                commit = commits.recv() => if matches!(commit, Err(RecvError::Closed)) { return },
                () = self.inner.log_grown.notified() => {}
            }
            let begun = tokio::time::Instant::now();
            let is_long =
                crate::store::database::connection::checkpoint(&self.inner.maintenance).await;
            if let Err(error) = &is_long {
                tracing::warn!(%error, "the log could not be taken into the database");
            }
            if !is_long.unwrap_or(false) {
                let pause = begun.elapsed() * CHECKPOINT_INTERVAL_FACTOR;
                let pause = pause.clamp(CHECKPOINT_INTERVAL_MIN, CHECKPOINT_INTERVAL_MAX);
                tokio::time::sleep(pause).await;
            }
            commits = commits.resubscribe();
        }
    }

    /// Carries out what has been handed in, then closes the database. Later writes fail.
    pub async fn close(&self) {
        let queues = self.inner.queues.write();
        queues.unwrap_or_else(|lock| lock.into_inner()).take();
        for task in self.inner.writers.lock().await.drain(..) {
            // A writer that panicked has nothing left to finish.
            let _ = task.await;
        }
        // A reader that cannot be closed goes with the process.
        let _ = self.inner.readers.close_by_ref().await;
        let _ = self.inner.snapshots.close_by_ref().await;
        let _ = self.inner.probe.close_by_ref().await;
        let _ = self.inner.maintenance.close_by_ref().await;
    }

    /// Returns what is committed here from now on.
    pub fn commits(&self) -> broadcast::Receiver<Arc<ChangeEvent>> {
        self.inner.commits.subscribe()
    }

    /// Asks the database whether it is there, and a file whether it can be written. Busy readers do not hold that up.
    pub async fn probe(&self) -> Result<DatabaseStatus, Error> {
        let writes = &self.inner.writes;
        let has_written = writes.has_committed_within(WRITE_TRUSTED);
        let answer =
            crate::store::database::connection::probe_pool(&self.inner.probe, has_written).await?;
        if self.inner.replica.is_none() && writes.has_failed_within(FAILURE_COUNTS) {
            // A page may find room where a batch finds none.
            return Err(Error::unavailable("a write has failed a moment ago"));
        }
        if !has_written {
            writes.note_committed();
            self.inner.log_grown.notify_one();
        }
        Ok(answer)
    }

    fn queues(&self) -> Result<Queues, Error> {
        let queues = self.inner.queues.read();
        let queues = queues.unwrap_or_else(|lock| lock.into_inner());
        queues
            .clone()
            .ok_or_else(|| Error::internal("the store is closed"))
    }

    /// Returns where calls are handed in.
    fn writer(&self) -> Result<CommitQueue, Error> {
        Ok(self.queues()?.calls)
    }

    /// Returns where claims are handed in, which hold nothing that calls may wait for.
    fn claimer(&self) -> Result<CommitQueue, Error> {
        Ok(self.queues()?.claims)
    }

    /// Reads by several statements from one state of the database, whatever is committed meanwhile.
    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseTransaction) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let snapshots = self.inner.snapshots.clone();
        self.run_detached(async move {
            let snapshot = snapshots.begin(TransactionOptions::default()).await?;
            let answer = read(&snapshot).await;
            snapshot.rollback().await?;
            answer
        })
        .await
    }

    /// Reads by one statement, or by several that need not agree, without the round trips of a
    /// transaction: `read` must not begin one.
    async fn read_statement<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseConnection) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = self.inner.readers.clone();
        self.run_detached(async move { read(&readers).await }).await
    }

    /// Carries a read out in a task of its own: when the caller goes away it must not leave a transaction
    /// open behind it.
    async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let timeouts = self.inner.timeouts;
        let task = tokio::spawn(async move {
            let answer = tokio::time::timeout(timeouts.work, work).await;
            answer.unwrap_or_else(|_| Err(Error::timed_out()))
        });
        match tokio::time::timeout(timeouts.caller, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::internal("a read has panicked")),
            Err(_) => Err(Error::timed_out()),
        }
    }
}

/// A read under way.
type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;
