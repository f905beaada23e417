//! Purge: deletes settled requests with their notifications, history, and the idempotency keys of calls that changed
//! nothing.
//!
//! Nothing is deleted unless an operator starts a purge. It runs in small batches, each a short transaction of its own, so
//! that it can be interrupted at any point and started again. On PostgreSQL the service may run at the same time; on
//! SQLite the purge needs the file to itself.

use std::collections::BTreeSet;
use std::marker::PhantomData;

use sea_orm::sea_query::{Condition, Expr, LockBehavior, LockType, OnConflict, Query, ValueTuple};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbErr, EntityName,
    EntityTrait, ExprTrait, IntoActiveModel, PaginatorTrait, QueryFilter, QueryOrder, QueryResult,
    QuerySelect,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::domain::calendar::{ClockReading, Instant, micros};
use crate::domain::notification::State as NotificationState;
use crate::domain::request_key::RequestKey;
use crate::store::access_log::purge as access_log;
use crate::store::access_log::query::patient;
use crate::store::admin::{
    Page, Progress, buckets_by_shard, check_clock, open_admin, page_after, with_retry,
};
use crate::store::bulk::{in_buckets, membership};
use crate::store::database::connection::{AdminConnection, write_options};
use crate::store::database::transaction::Pool;
use crate::store::entity::booking_request as request;
use crate::store::entity::{access_log_identity, access_log_patient};
use crate::store::entity::{history, idempotency_key, notification};
use crate::store::error::{Error, OpenError};
use crate::store::query::request_keys::{key_rows, notification_key_rows};

/// Days for which idempotency keys are kept: 30, and one more for clocks that differ.
const KEY_RETENTION_DAYS: i64 = 31;
/// Days for which requests and their histories are kept at least: the 35 of which a stream of changes may be resumed, and
/// one more for clocks that differ.
const RETENTION_DAYS: i64 = 36;
/// Maximum requests that a batch deletes, with their notifications.
const REQUESTS_MAX: u64 = 200;
/// The cutoffs before which rows are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cutoffs {
    settled: Instant,
    history: Option<Instant>,
    idempotency_keys: Instant,
    access_log: Option<Instant>,
}

/// A cutoff that is not far enough back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "what is younger than {RETENTION_DAYS} days cannot be purged: streams of changes and replays depend on it"
)]
pub struct TooRecent;

impl Cutoffs {
    /// Returns the latest instant that a cutoff may be.
    pub fn latest(now: Instant) -> Instant {
        now - chrono::Duration::days(RETENTION_DAYS)
    }

    /// Returns the cutoffs for requests that were settled, and not changed or shown to the patient since, before
    /// `settled`; for the history that was written before `history` of requests that no longer exist, none without it; and
    /// for idempotency keys, which are deleted as soon as their retention is over.
    pub fn new(
        now: Instant,
        settled: Instant,
        history: Option<Instant>,
    ) -> Result<Self, TooRecent> {
        if [Some(settled), history].into_iter().flatten().max() > Some(Self::latest(now)) {
            return Err(TooRecent);
        }
        let idempotency_keys = now - chrono::Duration::days(KEY_RETENTION_DAYS);
        Ok(Self {
            settled,
            history,
            idempotency_keys,
            access_log: None,
        })
    }

    /// Returns the same with a cutoff for the access log, of which nothing is deleted without one.
    ///
    /// # Errors
    ///
    /// [`AccessTooRecent`] when it is less than five years before `now`.
    pub fn with_access_log(self, now: Instant, before: Instant) -> Result<Self, AccessTooRecent> {
        if before > access_log::latest(now) {
            return Err(AccessTooRecent);
        }
        Ok(Self {
            access_log: Some(before),
            ..self
        })
    }
}

/// A cutoff of the access log that is not far enough back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the access log is kept for five years: the law asks who has seen what")]
pub struct AccessTooRecent;

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
    /// Entries of the access log.
    pub access_log: u64,
    /// Rows of what was kept of identity numbers that the access log no longer names.
    pub identities: u64,
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
    let admin = open_admin(url).await?;
    let checked = check_clock(url, &admin.connection, clock).await;
    checked.map_err(PurgeError::Clock)?;
    let mut purge = Purge {
        connection: &admin.connection,
        admin: &admin,
        stop,
        progress,
        purged: Purged::default(),
    };
    let outcome = purge.all(cutoffs).await;
    let purged = purge.purged;
    // The purge is done; a connection that cannot be closed ends with the process.
    let _ = purge.connection.close_by_ref().await;
    drop(admin.file);
    match outcome {
        Ok(()) => Ok(purged),
        Err(error) => Err(PurgeError::Failed(purged, error)),
    }
}

struct Purge<'a> {
    connection: &'a Pool,
    admin: &'a AdminConnection,
    stop: &'a CancellationToken,
    progress: Progress<'a>,
    purged: Purged,
}

impl Purge<'_> {
    /// Deletes rows of every kind.
    async fn all(&mut self, cutoffs: Cutoffs) -> Result<(), Error> {
        let shards = buckets_by_shard(self.admin).await?;
        self.requests(&shards, cutoffs.settled).await?;
        if let Some(before) = cutoffs.history {
            self.sweep(&shards, history_sweep(before)).await?;
        }
        let keys = idempotency_key_sweep(cutoffs.idempotency_keys);
        self.sweep(&shards, keys).await?;
        if let Some(before) = cutoffs.access_log {
            self.access_log(before).await?;
        }
        self.purged.stopped = self.stop.is_cancelled();
        Ok(())
    }

    /// Deletes settled requests.
    async fn requests(
        &mut self,
        shards: &[Option<Vec<i16>>],
        before: Instant,
    ) -> Result<(), Error> {
        let connection = self.connection;
        let total = with_retry(self.stop, || count(connection, before)).await?;
        for buckets in shards {
            while !self.stop.is_cancelled() {
                (self.progress)("requests", self.purged.requests, Some(total));
                let batch = || delete_requests(connection, buckets.as_deref(), before);
                let Some((requests, notifications)) = with_retry(self.stop, batch).await? else {
                    break;
                };
                self.purged.requests += requests;
                self.purged.notifications += notifications;
            }
        }
        Ok(())
    }

    /// Deletes entries of the access log: months as a whole where they are partitions, then the rest; and what was kept
    /// of numbers that it no longer names.
    async fn access_log(&mut self, before: Instant) -> Result<(), Error> {
        let connection = self.connection;
        let months = || access_log::drop_months(connection, before);
        self.purged.access_log += with_retry(self.stop, months).await?;
        while !self.stop.is_cancelled() {
            (self.progress)("access log", self.purged.access_log, None);
            let batch = || access_log::delete_batch(connection, before);
            let deleted = with_retry(self.stop, batch).await?;
            if deleted == 0 {
                break;
            }
            self.purged.access_log += deleted;
        }
        self.sweep(&[None], identity_sweep()).await
    }

    /// Sweeps a table in the order of its key, page by page.
    async fn sweep<E: EntityTrait>(
        &mut self,
        shards: &[Option<Vec<i16>>],
        sweep: TableSweep<E>,
    ) -> Result<(), Error> {
        let connection = self.connection;
        let deleted = (sweep.count)(&mut self.purged);
        for buckets in shards {
            let mut after: Option<ValueTuple> = None;
            while !self.stop.is_cancelled() {
                (self.progress)(sweep.kind, *deleted, None);
                let page = || page_after::<E>(connection, buckets.clone(), after.clone());
                let Page { rows, last } = with_retry(self.stop, page).await?;
                let page = E::delete_many()
                    .filter(sweep.condition.clone())
                    .filter(rows);
                *deleted += with_retry(self.stop, || async {
                    Ok(page.clone().exec(&**connection).await?.rows_affected)
                })
                .await?;
                if last.is_none() {
                    break;
                }
                after = last;
            }
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
    use history::Column::{BookingRequest, Bucket, CareUnit, RecordedAt};
    let request = Query::select()
        .expr(Expr::val(1))
        .from(request::Entity)
        .and_where(
            request::Column::Bucket
                .into_expr()
                .equals((history::Entity, Bucket)),
        )
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

/// Returns the sweep of what was kept of identity numbers of which the access log has no entry, and which took the place
/// of none.
fn identity_sweep() -> TableSweep<access_log_identity::Entity> {
    use access_log_identity::Column;
    use access_log_patient::Column as OfPatient;
    const BEFORE: &str = "before";
    // One entry is looked for by the index: the planner may turn NOT EXISTS into a join with the whole table.
    let mut entry = Query::select();
    entry
        .expr(Expr::val(1))
        .from(access_log_patient::Entity)
        .limit(1);
    for (of_patient, column) in [
        (OfPatient::PersonalId, Column::PersonalId),
        (OfPatient::PersonalIdType, Column::PersonalIdType),
        (OfPatient::Issuer, Column::Issuer),
    ] {
        let number = column.into_expr();
        entry.and_where(number.equals((access_log_patient::Entity, of_patient)));
    }
    let mut before = Query::select();
    before
        .expr(Expr::val(1))
        .from_as(access_log_identity::Entity, BEFORE);
    for (next, column) in [
        (Column::NextPersonalId, Column::PersonalId),
        (Column::NextPersonalIdType, Column::PersonalIdType),
        (Column::NextIssuer, Column::Issuer),
    ] {
        before.and_where(column.into_expr().equals((BEFORE, next)));
    }
    TableSweep {
        entity: PhantomData,
        kind: "identity numbers",
        condition: Condition::all()
            .add(Expr::from(entry).is_null())
            .add(Expr::exists(before).not()),
        count: |purged| &mut purged.identities,
    }
}

/// Counts the settled requests before the cutoff.
async fn count(connection: &DatabaseConnection, before: Instant) -> Result<u64, Error> {
    let settled = request::Column::SettledAt.lt(micros(before));
    Ok(request::Entity::find()
        .filter(settled)
        .count(connection)
        .await?)
}

/// Deletes a batch of settled requests, the oldest first, with their notifications: of these buckets, or of all. What is deleted is
/// settled when it is deleted, whether or not the database has locked it when it was found. `None` when there are none left.
async fn delete_requests(
    connection: &Pool,
    buckets: Option<&[i16]>,
    before: Instant,
) -> Result<Option<(u64, u64)>, Error> {
    let backend = connection.get_database_backend();
    let transaction = connection.begin(write_options(backend)).await?;
    let found = find_settled(&transaction, buckets, before).await?;
    if found.is_empty() {
        transaction.rollback().await?;
        return Ok(None);
    }
    let (request, notification) = (
        request::Entity.table_name(),
        notification::Entity.table_name(),
    );
    let delete = Query::delete()
        .from_table(request::Entity)
        .cond_where(settled(buckets, before))
        .and_where(membership(request, key_rows(&found), backend))
        .returning(Query::returning().columns(RETURNED))
        .take();
    let rows = transaction.query_all_raw(backend.build(&delete)).await?;
    let deleted: Result<Vec<RequestKey>, DbErr> = rows.iter().map(deleted_key).collect();
    let deleted = deleted?;
    keep_protected(&transaction, &rows).await?;
    let of_requests = membership(notification, notification_key_rows(&deleted), backend);
    let mut notifications = notification::Entity::delete_many().filter(of_requests);
    if let Some(buckets) = buckets {
        notifications = notifications.filter(in_buckets(notification, buckets.to_vec()));
    }
    let notifications = notifications.exec(&*transaction).await?;
    transaction.commit().await?;
    Ok(Some((deleted.len() as u64, notifications.rows_affected)))
}

/// Columns by which a request is known.
const KEY: [request::Column; 2] = [request::Column::CareUnit, request::Column::Id];
/// Columns of a request that was deleted: its key, and what the access log keeps.
const RETURNED: [request::Column; 6] = [
    request::Column::CareUnit,
    request::Column::Id,
    request::Column::PersonalId,
    request::Column::PersonalIdType,
    request::Column::Issuer,
    request::Column::IsProtected,
];

/// Returns the key of a request that was deleted.
fn deleted_key(row: &QueryResult) -> Result<RequestKey, DbErr> {
    Ok(request::key((
        row.try_get_by_index(0)?,
        row.try_get_by_index(1)?,
    )))
}

/// Keeps with the access log which of the patients of requests that were deleted had protected identity.
async fn keep_protected(
    transaction: &DatabaseTransaction,
    deleted: &[QueryResult],
) -> Result<(), Error> {
    let mut kept = BTreeSet::new();
    for row in deleted {
        let (_, of) = patient(row)?;
        if row.try_get_by_index(5)? {
            kept.insert(access_log_identity::Model::protected(&of));
        }
    }
    if kept.is_empty() {
        return Ok(());
    }
    let rows = kept.into_iter().map(IntoActiveModel::into_active_model);
    let rows: Vec<access_log_identity::ActiveModel> = rows.collect();
    access_log_identity::Entity::insert_many(rows)
        .on_conflict(OnConflict::new().do_nothing().to_owned())
        .exec_without_returning(transaction)
        .await?;
    Ok(())
}

/// Returns the keys of a batch of settled requests, and locks them where the database locks rows. Skips those that another writer
/// has locked.
async fn find_settled(
    transaction: &DatabaseTransaction,
    buckets: Option<&[i16]>,
    before: Instant,
) -> Result<Vec<RequestKey>, Error> {
    let found = request::Entity::find()
        .select_only()
        .columns(KEY)
        .filter(settled(buckets, before))
        .order_by_asc(request::Column::SettledAt)
        .limit(REQUESTS_MAX)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let keys: Vec<(String, Uuid)> = found.into_tuple().all(transaction).await?;
    Ok(keys.into_iter().map(request::key).collect())
}

/// Returns the condition of settled requests, none of whose notifications may still be sent or waits for staff: in these buckets, or
/// in all.
fn settled(buckets: Option<&[i16]>, before: Instant) -> Condition {
    use notification::Column::{BookingRequest, Bucket, CareUnit, ClaimableAt, Id, State};
    let of_shard = |table: &str| buckets.map(|buckets| in_buckets(table, buckets.to_vec()));
    let same = |column: notification::Column, of_request: request::Column| {
        column.into_expr().equals((request::Entity, of_request))
    };
    // The notifications are counted by key, request by request: the planner may turn NOT EXISTS into a join with the
    // whole table.
    let open = Query::select()
        .expr(Id.count())
        .from(notification::Entity)
        .and_where(same(Bucket, request::Column::Bucket))
        .and_where(same(CareUnit, request::Column::CareUnit))
        .and_where(same(BookingRequest, request::Column::Id))
        .and_where_option(of_shard(notification::Entity.table_name()))
        .cond_where(
            Condition::any()
                .add(ClaimableAt.is_not_null())
                .add(State.eq(NotificationState::Parked.code())),
        )
        .take();
    Condition::all()
        .add_option(of_shard(request::Entity.table_name()))
        .add(request::Column::SettledAt.lt(micros(before)))
        .add(Expr::from(open).eq(0))
}
