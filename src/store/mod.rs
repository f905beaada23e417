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

pub mod error;
pub mod migration;
pub mod purge;
pub mod schema;

pub mod notification;
pub mod skew;

mod batch;
mod booking_request;
mod changes;
mod connection;
mod entry;
mod history;
mod others;
mod quarantine;
mod queue;
mod reach;
mod recent;
mod row;
mod transaction;
mod unit;
mod worklist;
mod writer;

use std::fs::File;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionOptions};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::domain::booking_request::RequestKey;
use crate::domain::calendar::{ClockReading, Instant};
use crate::domain::notification::LeaseRef;
use connection::{Lanes, Patience, connect, is_postgres};
use error::{Error, OpenError};
use others::Announcer;
use recent::Leased;
use schema::Schema;
use skew::Timepiece;
use transaction::{Pool, Record};
use writer::{Writer, random};

/// How many commits a listener may lag behind before it has to look for itself.
const COMMITS_KEPT: usize = 1_024;
/// The pause after the log was taken into the database, as a multiple of how long that took: meanwhile
/// commits have the disk for themselves.
const CHECKPOINT_PAUSE_FACTOR: u32 = 10;
/// The least that the pause is. A little at a time keeps commits waiting least.
const CHECKPOINT_PAUSE_MIN: Duration = Duration::from_millis(20);
/// The most: under load pages change many times and are then taken in once.
const CHECKPOINT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Time for which a file counts as not to be written after a write of it has failed.
const FAILURE_COUNTS: Duration = Duration::from_secs(2);
/// Time for which a file that was written is taken to be writable without being asked.
const WRITE_TRUSTED: Duration = Duration::from_secs(5);

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
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The first instant at which a message that was planned or freed may be claimed.
    pub claimable_at: Option<Instant>,
    /// What became of leases that consumers had.
    pub leases: Vec<(LeaseRef, LeaseFate)>,
    /// Requests that were created or changed, each with its revision since.
    pub requests: Vec<(RequestKey, i64)>,
    /// True when commits of other processes may have been missed: listeners look for themselves.
    pub gap: bool,
}

impl Committed {
    fn gap() -> Self {
        Self {
            gap: true,
            ..Self::default()
        }
    }

    /// Whether it means nothing to anyone.
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
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

/// What a database that is there says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
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
    commits: broadcast::Sender<Arc<Committed>>,
    patience: Patience,
    timepiece: Timepiece,
    /// Which of several processes this is; none where there are no others.
    replica: Option<Uuid>,
    /// Held for as long as the store is open.
    _lock: Option<File>,
}

#[derive(Clone)]
struct Queues {
    calls: Writer,
    claims: Writer,
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
            applied = schema::migrate(url).await?;
        }
        let connections = connect(url).await?;
        if !is_postgres(url) {
            applied = schema::bring_up(&connections.writers).await?;
        }
        for migration in applied {
            tracing::info!(migration, "the schema was brought up to date");
        }
        schema::require(&connections.writers).await?;
        let patience = connections.patience;
        let replica = connections
            .lock
            .is_none()
            .then(|| Uuid::from_u64_pair(random(), random()));
        let (commits, _) = broadcast::channel(COMMITS_KEPT);
        let announcer = Announcer::new(commits.clone(), replica);
        let leased = Arc::new(Leased::default());
        let timepiece = Timepiece::default();
        let (calls, mut tasks) = Writer::start(
            connections.writers,
            connections.lanes,
            patience,
            announcer.clone(),
            Arc::clone(&leased),
            timepiece.clone(),
        );
        let claims = match connections.claimers {
            Some(claimers) => {
                let (claims, more) = Writer::start(
                    claimers,
                    Lanes::Several(1),
                    patience,
                    announcer,
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
                patience,
                timepiece,
                replica,
                _lock: connections.lock,
            }),
        })
    }

    /// Goes by `clock` from now on: what it decides while it cannot be trusted is refused. Until
    /// then every clock is trusted. The first clock stays.
    pub fn go_by(&self, clock: impl Fn() -> ClockReading + Send + Sync + 'static) {
        self.inner.timepiece.set(clock);
    }

    /// Takes the log of SQLite into the database while others write, for as long as the future is
    /// polled: left to the writer alone, every so many commits one would take very long.
    ///
    /// The log begins anew when all of it has been taken in. When it has grown long that is done
    /// without pauses, so that nearly nothing is left for the writer to take in.
    pub async fn keep_log_short(&self) {
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
            let is_long = connection::checkpoint(&self.inner.maintenance).await;
            if let Err(error) = &is_long {
                tracing::warn!(%error, "the log could not be taken into the database");
            }
            if !is_long.unwrap_or(false) {
                let pause = begun.elapsed() * CHECKPOINT_PAUSE_FACTOR;
                let pause = pause.clamp(CHECKPOINT_PAUSE_MIN, CHECKPOINT_PAUSE_MAX);
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

    /// What is committed here from now on.
    pub fn commits(&self) -> broadcast::Receiver<Arc<Committed>> {
        self.inner.commits.subscribe()
    }

    /// Asks the database whether it is there, and a file whether it can be written. Busy readers do not hold that up.
    pub async fn ask(&self) -> Result<Answer, Error> {
        let writes = &self.inner.writes;
        let has_written = writes.has_committed_within(WRITE_TRUSTED);
        let answer = connection::ask(&self.inner.probe, has_written).await?;
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
            .ok_or_else(|| Error::broken("the store is closed"))
    }

    /// Where calls are handed in.
    fn writer(&self) -> Result<Writer, Error> {
        Ok(self.queues()?.calls)
    }

    /// Where claims are handed in, which hold nothing that calls may wait for.
    fn claimer(&self) -> Result<Writer, Error> {
        Ok(self.queues()?.claims)
    }

    /// Reads by several statements from one state of the database, whatever is committed meanwhile.
    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseTransaction) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let snapshots = self.inner.snapshots.clone();
        self.carry_out(async move {
            let snapshot = snapshots.begin(TransactionOptions::default()).await?;
            let answer = read(&snapshot).await;
            snapshot.rollback().await?;
            answer
        })
        .await
    }

    /// Reads by one statement, or by several that need not agree, without the round trips of a
    /// transaction: `read` must not begin one.
    async fn read_at_once<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseConnection) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = self.inner.readers.clone();
        self.carry_out(async move { read(&readers).await }).await
    }

    /// Carries a read out in a task of its own: when the caller goes away it must not leave a transaction
    /// open behind it.
    async fn carry_out<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let patience = self.inner.patience;
        let task = tokio::spawn(async move {
            let answer = tokio::time::timeout(patience.work, work).await;
            answer.unwrap_or_else(|_| Err(Error::too_late()))
        });
        match tokio::time::timeout(patience.answer, task).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::broken("a read has panicked")),
            Err(_) => Err(Error::too_late()),
        }
    }
}

/// A read under way.
type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;
