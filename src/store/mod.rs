//! The store: booking requests, their notifications and their history, on SQLite or PostgreSQL.
//!
//! Each operation has one short name and is executed wholly or not at all. A write submits a decision to the committer,
//! which loads the records, decides, writes and commits, together with the other operations that have arrived, and only
//! then responds. Reads have connections of their own and see committed rows only.
//!
//! What differs between the databases:
//!
//! | | SQLite | PostgreSQL |
//! | --- | --- | --- |
//! | committers | one, for calls and claims, pipelined | some for calls, one for claims, each over a connection |
//! | rows to change | no locks: the committer is the only writer | requests and settings are locked; operations on locked ones are requeued |
//! | rows to claim | no locks: the committer is the only writer | notifications are locked; locked ones are skipped |
//! | WAL checkpoint | by a task of its own | the server's own |
//! | reads | some connections | some connections; transactions are REPEATABLE READ |
//! | durability | WAL, synchronous FULL, read back at start | the server's `synchronous_commit` |
//! | other processes | refused, by a lock on the file | allowed: replicas follow each other's change feed |
//! | schema | migrated at start | migrated when the operator says so |
//!
//! The statements for many rows differ in `bulk`, the collation of texts in `query`, the connections in `database`, and
//! the creation and migration of tables in `schema`.

pub mod access_log;
pub mod after_restore;
pub mod backup;
pub mod change_event;
pub mod change_stream;
pub mod check;
#[expect(missing_docs, reason = "columns are called what they are")]
pub mod entity;
pub mod error;
pub mod idempotency;
pub mod metrics;
pub mod observe;
pub mod purge;
pub mod restore;
pub mod retry;
pub mod schema;
pub mod write;

pub mod bucket;
pub mod notification;
pub mod skew;

mod admin;
mod booking_request;
mod bulk;
mod care_unit_settings;
mod change_feed;
mod commit;
mod counts;
mod database;
mod doubts;
mod history;
mod lost_claims;
mod placement;
mod quarantine;
mod query;
mod replace_personal_id;
mod worklist;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DatabaseTransaction, TransactionOptions};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Mutex, Notify, broadcast};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::domain::calendar::{ClockReading, Instant};
use crate::store::access_log::writer::AccessLogQueue;
use crate::store::care_unit_settings::SettingsCopy;
use crate::store::change_event::ChangeEvent;
use crate::store::change_feed::ChangePublisher;
use crate::store::commit::committer;
use crate::store::commit::queue::CommitQueue;
use crate::store::counts::KeptCounts;
use crate::store::database::connection::{Timeouts, Workers, connect, system_name};
use crate::store::database::data_file::{DataFile, NOT_IN_PLACE};
use crate::store::database::nodes::{nodes_away, warn_of_settings};
use crate::store::database::page_check::PageCheck;
use crate::store::database::postgres::is_postgres;
use crate::store::database::probe::probe_pool;
use crate::store::database::sqlite;
use crate::store::database::transaction::{Pool, Record};
use crate::store::doubts::Doubts;
use crate::store::error::{Error, OpenError, is_read_only};
use crate::store::metrics::StoreMetrics;
use crate::store::placement::{Placement, Shards};
use crate::store::schema::Schema;
use crate::telemetry::traces;
use skew::DecisionClock;

/// Maximum change events that a listener may lag behind before it has to resync.
const COMMITS_KEPT: usize = 1_024;
/// Pause after a WAL checkpoint, as a multiple of the time that the checkpoint took: meanwhile commits have the disk for
/// themselves.
const CHECKPOINT_INTERVAL_FACTOR: u32 = 10;
/// Minimum pause. Small checkpoints keep commits waiting least.
const CHECKPOINT_INTERVAL_MIN: Duration = Duration::from_millis(20);
/// Maximum pause. Under load pages change many times and are then copied once.
const CHECKPOINT_INTERVAL_MAX: Duration = Duration::from_millis(500);

/// Time for which a database file counts as not writable after a write has failed.
const FAILURE_COUNTS: Duration = Duration::from_secs(2);
/// Time for which a database file that was written counts as writable without a probe.
const WRITE_TRUSTED: Duration = Duration::from_secs(5);

/// Status that a reachable database reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DatabaseStatus {
    /// Time on its clock; none of a database that goes by the machine's.
    pub now: Option<Instant>,
    /// True when it takes no writes, as a standby that is not promoted.
    pub read_only: bool,
}

/// A node of a database that is spread over several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its address, host and port.
    pub address: String,
    /// Number of buckets that it holds.
    pub buckets: i64,
}

impl Node {
    /// Number of buckets of all nodes together.
    pub const BUCKETS: i64 = bucket::BUCKETS as i64;
}

/// The store. A clone is another handle to the same store.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    /// Connections for reads by one statement.
    readers: DatabaseConnection,
    /// Pool for reads by several statements; the same connections on SQLite.
    snapshots: Pool,
    /// Connection for probes of the database.
    probe: DatabaseConnection,
    /// Connection for probes of the nodes of a database that is spread over several.
    nodes: Option<DatabaseConnection>,
    /// Connection for checkpoints and cleanup, which may take long.
    maintenance: DatabaseConnection,
    /// Connection for what operators ask.
    observer: DatabaseConnection,
    /// Record of the transactions of the committer of calls.
    writes: Record,
    /// Record of when connections to the address were last found to be of no use.
    address: Record,
    /// Notified when a probe or the access log has written to the WAL, of which no change event tells.
    wal_grown: Arc<Notify>,
    /// Queues of calls and of claims; none once the store is closed.
    queues: std::sync::RwLock<Option<Queues>>,
    /// Tasks of the committers.
    committers: Mutex<Vec<JoinHandle<()>>>,
    commits: broadcast::Sender<Arc<ChangeEvent>>,
    timeouts: Timeouts,
    decision_clock: DecisionClock,
    settings: SettingsCopy,
    placement: Placement,
    counts: KeptCounts,
    /// Commits whose outcome is not known.
    doubts: Doubts,
    metrics: StoreMetrics,
    /// Id of this replica; none on SQLite, where there are no others.
    replica: Option<Uuid>,
    /// Data file of SQLite, locked while the store is open.
    file: Option<Arc<DataFile>>,
    /// Look for damaged pages of that file.
    pages: Option<PageCheck>,
}

#[derive(Clone)]
struct Queues {
    calls: CommitQueue,
    claims: CommitQueue,
    access_log: AccessLogQueue,
}

impl Store {
    /// Opens a database. A missing file is created and its schema migrated; on PostgreSQL `schema` tells how to treat
    /// an older one.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; the address itself, which may hold a password, is never in it.
    pub async fn open(url: &str, schema: Schema) -> Result<Self, OpenError> {
        let mut applied = Vec::new();
        if is_postgres(url) && schema == Schema::Migrate {
            applied = crate::store::schema::migrate(url).await?;
        }
        let connections = connect(url, crate::store::schema::refuse_newer).await?;
        if !is_postgres(url) {
            applied = crate::store::schema::migrate_connection(&connections.writers).await?;
        }
        for migration in applied {
            tracing::info!(migration, "schema migrated");
        }
        crate::store::schema::require_current(&connections.writers).await?;
        let settings = SettingsCopy::load(&*connections.writers).await?;
        let placement = Placement::ask(&*connections.writers, connections.spread).await?;
        if let Some(nodes) = &connections.nodes {
            warn_of_settings(nodes).await?;
        }
        let timeouts = connections.timeouts;
        let replica = connections
            .file
            .is_none()
            .then(|| Uuid::from_u128(rand::random()));
        let (commits, _) = broadcast::channel(COMMITS_KEPT);
        let counts = KeptCounts::default();
        let metrics = StoreMetrics::default();
        let (listeners, kept) = (commits.clone(), counts.clone());
        let doubts = Doubts::default();
        let publisher =
            ChangePublisher::new(listeners, kept, metrics.clone(), replica, doubts.clone());
        let decision_clock = DecisionClock::default();
        let (calls, mut tasks) = committer::start(
            connections.writers,
            connections.workers,
            timeouts,
            publisher.clone(),
            decision_clock.clone(),
            placement.clone(),
        );
        let claims = match connections.claimers {
            Some(claimers) => {
                let (claims, more) = committer::start(
                    claimers,
                    Workers::Concurrent(1),
                    timeouts,
                    publisher,
                    decision_clock.clone(),
                    placement.clone(),
                );
                tasks.extend(more);
                claims
            }
            None => calls.clone(),
        };
        let wal_grown = Arc::new(Notify::new());
        let (access_log, writer) = access_log::writer::start(
            calls.clone(),
            connections.readers.clone(),
            replica,
            timeouts,
            wal_grown.clone(),
            metrics.clone(),
        );
        tasks.push(writer);
        let queues = Queues {
            calls,
            claims,
            access_log,
        };
        Ok(Self {
            inner: Arc::new(Inner {
                readers: connections.readers,
                snapshots: connections.snapshots,
                probe: connections.probe,
                nodes: connections.nodes,
                maintenance: connections.maintenance,
                observer: connections.observer,
                writes: connections.writes,
                address: connections.address,
                wal_grown,
                queues: std::sync::RwLock::new(Some(queues)),
                committers: Mutex::new(tasks),
                commits,
                timeouts,
                decision_clock,
                settings,
                placement,
                counts,
                doubts,
                metrics,
                replica,
                pages: connections.checker.map(PageCheck::over),
                file: connections.file,
            }),
        })
    }

    /// Sets the clock to decide by: while it cannot be trusted, operations that need it are refused. Until it is set
    /// no clock is doubted. The first clock stays.
    pub fn go_by(&self, clock: impl Fn() -> ClockReading + Send + Sync + 'static) {
        self.inner.decision_clock.set(clock);
    }

    /// Makes WAL checkpoints on SQLite while others write, for as long as the future is polled: if they were left to
    /// the committer, now and then a commit would take very long.
    ///
    /// The WAL starts again from its beginning when all of it has been copied. When it has grown long, checkpoints follow
    /// each other without pauses, so that nearly nothing is left for the committer to copy.
    pub async fn run_wal_checkpointer(&self) {
        if self.inner.replica.is_some() {
            // PostgreSQL makes its own checkpoints.
            return;
        }
        let mut commits = self.commits();
        loop {
            tokio::select! {
                commit = commits.recv() => if matches!(commit, Err(RecvError::Closed)) { return },
                () = self.inner.wal_grown.notified() => {}
            }
            let begun = tokio::time::Instant::now();
            let is_long = sqlite::checkpoint(&self.inner.maintenance).await;
            if let Err(error) = &is_long {
                tracing::warn!(%error, "WAL checkpoint failed");
                if is_read_only(error) {
                    self.inner.writes.distrust();
                }
            }
            if !is_long.unwrap_or(false) {
                let pause = begun.elapsed() * CHECKPOINT_INTERVAL_FACTOR;
                let pause = pause.clamp(CHECKPOINT_INTERVAL_MIN, CHECKPOINT_INTERVAL_MAX);
                tokio::time::sleep(pause).await;
            }
            commits = commits.resubscribe();
        }
    }

    /// Executes the operations that were submitted, then closes the database. Later writes fail.
    pub async fn close(&self) {
        let queues = self.inner.queues.write();
        queues.unwrap_or_else(|lock| lock.into_inner()).take();
        for task in self.inner.committers.lock().await.drain(..) {
            // A committer that panicked has nothing left to finish.
            let _ = task.await;
        }
        // A connection that cannot be closed ends with the process.
        let _ = self.inner.readers.close_by_ref().await;
        let _ = self.inner.snapshots.close_by_ref().await;
        let _ = self.inner.probe.close_by_ref().await;
        if let Some(pages) = &self.inner.pages {
            pages.close().await;
        }
        let _ = self.inner.maintenance.close_by_ref().await;
        let _ = self.inner.observer.close_by_ref().await;
    }

    /// Returns a receiver of the change events of all commits from now on.
    pub fn commits(&self) -> broadcast::Receiver<Arc<ChangeEvent>> {
        self.inner.commits.subscribe()
    }

    /// Looks for damaged pages of a SQLite file, for as long as the future is polled.
    pub async fn run_page_check(&self) {
        if let (Some(pages), Some(file)) = (&self.inner.pages, &self.inner.file) {
            pages.run(file).await;
        }
    }

    /// Probes the database, and on SQLite that the file can be written, is in its place and has no damaged page. Busy readers do not delay it.
    pub async fn probe(&self) -> Result<DatabaseStatus, Error> {
        if self.inner.file.as_ref().is_some_and(|it| !it.is_in_place()) {
            return Err(Error::unavailable(NOT_IN_PLACE));
        }
        if let Some(damage) = self.inner.pages.as_ref().and_then(PageCheck::damage) {
            return Err(Error::damaged(damage));
        }
        let writes = &self.inner.writes;
        let has_written = writes.has_committed_within(WRITE_TRUSTED);
        let answer = probe_pool(&self.inner.probe, has_written).await;
        let answer = answer.map_err(Error::from).inspect_err(|error| {
            if error.is_read_only() {
                // The file may be writable by now, while connections that were opened before only read it.
                writes.distrust();
            }
        })?;
        if answer.read_only {
            // New connections may lead to the primary by now, while those that are open stay where they are.
            self.inner.address.distrust();
        }
        if self.inner.replica.is_none() && writes.has_failed_within(FAILURE_COUNTS) {
            // There may be room for one page and none for a batch.
            return Err(Error::unavailable("a recent write has failed"));
        }
        if !has_written {
            writes.note_committed();
            self.inner.wal_grown.notify_one();
        }
        Ok(answer)
    }

    /// Returns the nodes of the database that cannot be reached; none where the database is not spread over several.
    pub async fn nodes_away(&self) -> Result<Option<Vec<Node>>, Error> {
        match &self.inner.nodes {
            Some(nodes) => Ok(Some(nodes_away(nodes).await?)),
            None => Ok(None),
        }
    }

    /// Returns the queues of the committers.
    fn queues(&self) -> Result<Queues, Error> {
        let queues = self.inner.queues.read();
        let queues = queues.unwrap_or_else(|lock| lock.into_inner());
        queues
            .clone()
            .ok_or_else(|| Error::internal("the store is closed"))
    }

    /// Returns the shards as they were last asked for.
    fn shards(&self) -> Shards {
        self.inner.placement.shards()
    }

    /// Returns the queue of calls.
    fn call_queue(&self) -> Result<CommitQueue, Error> {
        Ok(self.queues()?.calls)
    }

    /// Returns the queue of claims, so that calls do not wait for them.
    fn claim_queue(&self) -> Result<CommitQueue, Error> {
        Ok(self.queues()?.claims)
    }

    /// Reads by several statements from one snapshot of the database.
    async fn read<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseTransaction) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let snapshots = self.inner.snapshots.clone();
        if observe::is_exhausted(&snapshots) {
            self.inner.metrics.count_exhausted(metrics::SNAPSHOTS);
        }
        self.run_detached(async move {
            let snapshot = snapshots.begin(TransactionOptions::default()).await?;
            let answer = read(&snapshot).await;
            snapshot.rollback().await?;
            answer
        })
        .await
    }

    /// Reads by one statement, or by several that need no common snapshot, without the round trips of a transaction:
    /// `read` must not begin one.
    async fn read_statement<T: Send + 'static>(
        &self,
        read: impl for<'a> FnOnce(&'a DatabaseConnection) -> Reading<'a, T> + Send + 'static,
    ) -> Result<T, Error> {
        let readers = self.inner.readers.clone();
        if observe::is_exhausted(&readers) {
            self.inner.metrics.count_exhausted(metrics::READERS);
        }
        self.run_detached(async move { read(&readers).await }).await
    }

    /// Runs a read in a task of its own: a caller that goes away must not leave an open transaction behind.
    async fn run_detached<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        let timeouts = self.inner.timeouts;
        let system = system_name(self.inner.readers.get_database_backend());
        let _span = traces::Span::current().child_in_database("read", system);
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

/// A read in progress.
type Reading<'a, T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send + 'a>>;
