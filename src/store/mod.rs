//! The store: booking requests, their messages and their history, on SQLite or PostgreSQL.
//!
//! One operation is one all-or-nothing unit with one short name. A write hands a decision to the
//! writer, which loads the records, decides, saves and commits, together with whatever else has
//! arrived, and only then answers. Reads have connections of their own and see what is committed.
//!
//! What differs between the databases is said here and in `set`, which takes a parameter apart:
//!
//! | | SQLite | PostgreSQL |
//! | --- | --- | --- |
//! | connections | one writer, some readers | |
//! | durability | WAL, synchronous FULL, read back at start | |
//! | other processes | refused, by a lock file | |

pub mod error;
pub mod migration;

mod batch;
mod booking_request;
mod history;
mod notification;
mod set;
mod worklist;
mod writer;

use std::collections::HashMap;
use std::fs::File;
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

use crate::domain::booking_request::{BookingRequest, DuplicateKey, RequestKey};
use crate::domain::calendar::Instant;
use crate::domain::history::HistoryEntry;
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::acknowledge::{Answer, Lost, acknowledge};
use crate::domain::notification::authorize::{LEAVE, authorizable, authorize};
use crate::domain::notification::lease::{Leased, give_back, lease};
use crate::domain::notification::{Channel, LeaseRef};
use crate::domain::worklist::{Position, Query, Worklist};
use crate::domain::{Change, Context, Refusal, booking_request::Form};
use batch::Records;
use error::{Error, OpenError};
use notification::Due;
use writer::{Claim, Needs, Writer};

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

/// What a consumer asks for when it claims due messages.
#[derive(Clone, Debug)]
pub struct ClaimRequest {
    /// Through these channels; at least one.
    pub channels: Vec<Channel>,
    /// Of these care units; none means of all.
    pub care_units: Option<Vec<HsaId>>,
    /// A fresh token for each message that it would take.
    pub tokens: Vec<Uuid>,
    /// How long each lease lasts.
    pub lease_duration: chrono::Duration,
}

/// What a claim has given.
#[derive(Clone, Debug)]
pub struct Claimed {
    /// The leased messages with their requests, the earliest first.
    pub leased: Vec<(BookingRequest, LeaseRef)>,
    /// True when there may be more to claim at once.
    pub more: bool,
}

/// Which leases were given leave.
#[derive(Clone, Debug, Default)]
pub struct Authorized {
    /// May be handed over.
    pub authorized: Vec<LeaseRef>,
    /// Must not be sent.
    pub refused: Vec<LeaseRef>,
    /// When the leave runs out; none when none was given.
    pub expires_at: Option<Instant>,
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
        let queue = self
            .inner
            .queue
            .read()
            .unwrap_or_else(|lock| lock.into_inner());
        queue
            .clone()
            .ok_or_else(|| Error::broken("the store is closed"))
    }

    /// Stores the request that `decide` creates under `key`. A repeat of `call` answers with the
    /// request as it stands.
    ///
    /// # Errors
    ///
    /// What `decide` refuses, [`Refusal::Duplicate`], [`Error::RequestIdReused`], and what befalls
    /// the database.
    pub async fn insert(
        &self,
        call: Call,
        key: RequestKey,
        form: &Form,
        mut decide: impl FnMut() -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<BookingRequest, Error> {
        let needs = Needs {
            call: Some((key.care_unit.clone(), call.clone())),
            creates: Some(DuplicateKey::of(&key.care_unit, form)),
            ..Needs::default()
        };
        let insert = move |records: &mut Records, _: &[_]| {
            if let Some(record) = records.repeat_of(&key.care_unit, &call)? {
                return Ok(record.clone());
            }
            let change = decide()?;
            let record = change.record.clone();
            records.apply(change, Some(&call))?;
            Ok(record)
        };
        self.writer()?.submit(needs, insert).await
    }

    /// Changes a request as `decide` says. A repeat of `call` answers with the request as it
    /// stands.
    ///
    /// # Errors
    ///
    /// As [`Store::insert`]; [`Refusal::NotFound`] when there is no such request.
    pub async fn update(
        &self,
        call: Call,
        key: RequestKey,
        mut decide: impl FnMut(&BookingRequest) -> Result<Change, Refusal> + Send + 'static,
    ) -> Result<BookingRequest, Error> {
        let needs = Needs {
            call: Some((key.care_unit.clone(), call.clone())),
            requests: vec![key.clone()],
            ..Needs::default()
        };
        let update = move |records: &mut Records, _: &[_]| {
            if let Some(record) = records.repeat_of(&key.care_unit, &call)? {
                return Ok(record.clone());
            }
            let present = records.get(&key).ok_or(Refusal::NotFound)?;
            let change = decide(present)?;
            let record = change.record.clone();
            records.apply(change, Some(&call))?;
            Ok(record)
        };
        self.writer()?.submit(needs, update).await
    }

    /// Leases due messages to a consumer, one for each token at the most.
    pub async fn claim(&self, claim: ClaimRequest, context: Context) -> Result<Claimed, Error> {
        let limit = claim.tokens.len();
        let needs = Needs {
            claim: Some(Claim {
                due: Due {
                    channels: claim.channels,
                    care_units: claim.care_units,
                },
                now: context.now,
                limit,
            }),
            ..Needs::default()
        };
        let (tokens, duration) = (claim.tokens, claim.lease_duration);
        let claim = move |records: &mut Records, offered: &[(RequestKey, Uuid)]| {
            let mut leased = Vec::new();
            for (request, id) in offered {
                let Some(token) = tokens.get(leased.len()) else {
                    break;
                };
                if let Some(given) = lease_one(records, request, *id, *token, duration, &context)? {
                    leased.push(given);
                }
            }
            Ok(Claimed {
                more: offered.len() >= limit,
                leased,
            })
        };
        self.writer()?.submit(needs, claim).await
    }

    /// Gives leave to hand messages over now.
    pub async fn authorize(
        &self,
        leases: Vec<LeaseRef>,
        context: Context,
    ) -> Result<Authorized, Error> {
        let needs = Needs {
            requests: leases.iter().map(|lease| lease.request.clone()).collect(),
            ..Needs::default()
        };
        let authorize = move |records: &mut Records, _: &[_]| {
            let now = context.now;
            let expiry = |lease: &LeaseRef| {
                let record = records.get(&lease.request)?;
                authorizable(record, lease.notification, lease.token, now)
            };
            let (authorized, refused): (Vec<_>, Vec<_>) = leases
                .iter()
                .cloned()
                .partition(|lease| expiry(lease).is_some());
            let earliest = authorized.iter().filter_map(expiry).min();
            let expires_at = earliest.map(|earliest| earliest.max(now + LEAVE));
            for lease in &authorized {
                if let (Some(record), Some(until)) = (records.get(&lease.request), expires_at) {
                    let change = authorize(record, lease.notification, lease.token, until);
                    records.apply(change, None)?;
                }
            }
            Ok(Authorized {
                authorized,
                refused,
                expires_at,
            })
        };
        self.writer()?.submit(needs, authorize).await
    }

    /// Records what became of leased messages; each answer comes with an id for the message that
    /// may follow. Says which leases are lost.
    pub async fn settle(
        &self,
        answers: Vec<(RequestKey, Answer, Uuid)>,
        context: Context,
    ) -> Result<Vec<(RequestKey, Uuid)>, Error> {
        let needs = Needs {
            requests: answers
                .iter()
                .map(|(request, ..)| request.clone())
                .collect(),
            ..Needs::default()
        };
        let settle = move |records: &mut Records, _: &[_]| {
            let mut lost = Vec::new();
            for (request, answer, fresh_id) in &answers {
                let context = Context {
                    fresh_id: *fresh_id,
                    ..context.clone()
                };
                let acknowledged = match records.get(request) {
                    Some(record) => acknowledge(record, answer, &context),
                    None => Err(Lost),
                };
                match acknowledged {
                    Ok(Some(change)) => records.apply(change, None)?,
                    Ok(None) => {}
                    Err(Lost) => lost.push((request.clone(), answer.id)),
                }
            }
            Ok(lost)
        };
        self.writer()?.submit(needs, settle).await
    }

    /// Gives back leases that never reached their consumer.
    pub async fn give_back(&self, leases: Vec<LeaseRef>) -> Result<(), Error> {
        let needs = Needs {
            requests: leases.iter().map(|lease| lease.request.clone()).collect(),
            ..Needs::default()
        };
        let give_back = move |records: &mut Records, _: &[_]| {
            for lease in &leases {
                let record = records.get(&lease.request);
                let change =
                    record.and_then(|record| give_back(record, lease.notification, lease.token));
                if let Some(change) = change {
                    records.apply(change, None)?;
                }
            }
            Ok(())
        };
        self.writer()?.submit(needs, give_back).await
    }

    /// A request with its messages.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] when there is none.
    pub async fn get(&self, key: &RequestKey) -> Result<BookingRequest, Error> {
        let snapshot = self.snapshot().await?;
        let found = batch::read(&snapshot, std::slice::from_ref(key), "").await;
        snapshot.rollback().await?;
        let (record, _) = found?.pop().ok_or(Refusal::NotFound)?;
        Ok(record)
    }

    /// The history of a request after entry number `after`, with the entries' numbers.
    ///
    /// # Errors
    ///
    /// [`Refusal::NotFound`] when there is no such request.
    pub async fn history(
        &self,
        key: &RequestKey,
        after: i32,
        limit: u32,
    ) -> Result<Vec<(i32, HistoryEntry)>, Error> {
        let snapshot = self.snapshot().await?;
        let entries = history::list(&snapshot, key, after, limit).await;
        let known = booking_request::load(&snapshot, std::slice::from_ref(key), "").await;
        snapshot.rollback().await?;
        if known?.is_empty() {
            return Err(Refusal::NotFound.into());
        }
        entries
    }

    /// A page of a worklist at `now`: what comes after `after`, `limit` at most.
    pub async fn list(
        &self,
        query: &Query,
        now: Instant,
        after: Option<&Position>,
        limit: u32,
    ) -> Result<Vec<(Position, BookingRequest)>, Error> {
        let snapshot = self.snapshot().await?;
        let page = read_page(&snapshot, query, now, after, limit).await;
        snapshot.rollback().await?;
        page
    }

    /// How many requests each list of these units holds at `now`; empty lists are left out.
    pub async fn counts(
        &self,
        care_units: &[HsaId],
        now: Instant,
    ) -> Result<Vec<(Worklist, i64)>, Error> {
        let snapshot = self.snapshot().await?;
        let counts = worklist::counts(&snapshot, care_units, now).await;
        snapshot.rollback().await?;
        counts
    }

    /// What has become of leases, for those who may have missed it. Leases that stand as they were
    /// at `known` are left out.
    pub async fn fates(
        &self,
        known: &[(LeaseRef, Instant)],
    ) -> Result<Vec<(LeaseRef, LeaseFate)>, Error> {
        let keys: Vec<RequestKey> = known.iter().map(|(it, _)| it.request.clone()).collect();
        let snapshot = self.snapshot().await?;
        let read = batch::read(&snapshot, &keys, "").await;
        snapshot.rollback().await?;
        let records: HashMap<RequestKey, BookingRequest> = read?
            .into_iter()
            .map(|(record, _)| (record.key.clone(), record))
            .collect();
        let fate = |(lease, expires_at): &(LeaseRef, Instant)| {
            let message = records
                .get(&lease.request)?
                .notification(lease.notification)?;
            Some((
                lease.clone(),
                batch::fate(message, lease.token, *expires_at)?,
            ))
        };
        Ok(known.iter().filter_map(fate).collect())
    }

    /// The first instant after `now` at which some message becomes claimable.
    pub async fn next_claimable_at(&self, now: Instant) -> Result<Option<Instant>, Error> {
        notification::next_claimable_at(&self.inner.readers, now).await
    }

    /// A transaction that sees one state of the database, whatever is committed meanwhile.
    async fn snapshot(&self) -> Result<DatabaseTransaction, Error> {
        Ok(self.inner.readers.begin().await?)
    }
}

fn lease_one(
    records: &mut Records,
    request: &RequestKey,
    id: Uuid,
    token: Uuid,
    duration: chrono::Duration,
    context: &Context,
) -> Result<Option<(BookingRequest, LeaseRef)>, Error> {
    let Some(record) = records.get(request) else {
        return Ok(None);
    };
    match lease(record, id, token, duration, context) {
        Leased::Given(change) => {
            let record = change.record.clone();
            records.apply(change, None)?;
            let lease = LeaseRef {
                request: request.clone(),
                notification: id,
                token,
            };
            Ok(Some((record, lease)))
        }
        Leased::Mended(change) => {
            records.apply(change, None)?;
            Ok(None)
        }
        Leased::No => Ok(None),
    }
}

async fn read_page(
    connection: &impl ConnectionTrait,
    query: &Query,
    now: Instant,
    after: Option<&Position>,
    limit: u32,
) -> Result<Vec<(Position, BookingRequest)>, Error> {
    let page = worklist::page(connection, query, now, after, limit).await?;
    if page.is_empty() {
        return Ok(Vec::new());
    }
    let keys: Vec<RequestKey> = page.iter().map(|position| position.key.clone()).collect();
    let read = batch::read(connection, &keys, "").await?;
    let mut records: HashMap<_, _> = read
        .into_iter()
        .map(|(record, _)| (record.key.clone(), record))
        .collect();
    Ok(page
        .into_iter()
        .filter_map(|position| {
            let record = records.remove(&position.key)?;
            Some((position, record))
        })
        .collect())
}

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
