//! The writer: operations that arrive together are decided and committed together.
//!
//! A operation is all or nothing. It is handed over and whoever asked only waits, so that a call that
//! is cut off leaves nothing half done. A batch whose rows were not as they had been loaded is
//! moved_before back and repeated in halves, so that one bad operation takes none with it.
//!
//! Where others write too, several workers each load, resolve and write in a transaction. Where there
//! is one writer, a batch is decided ahead: over what the batch before it will have post_state, while
//! that is being written. Should it not be written as it was decided, what was decided ahead is
//! dropped and done again.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DatabaseTransaction};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;
use uuid::Uuid;

use crate::domain::calendar::{Instant, from_micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::request_key::RequestKey;
use crate::store::change_event::ChangeEvent;
use crate::store::change_feed::ChangePublisher;
use crate::store::commit::operation::Operation;
use crate::store::commit::operation::operation;
use crate::store::commit::overlay::{Leased, Overlay};
use crate::store::commit::queue::{Batcher, Pipeline};
use crate::store::commit::read_set::ReadSet;
use crate::store::commit::read_set::Resolved;
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::commit::write_set::WriteSet;
use crate::store::database::connection::{RowLock, Timeouts, Workers, write_options};
use crate::store::database::transaction::{Pool, Transaction};
use crate::store::entity::booking_request::requests_of;
use crate::store::entity::change_event::database_now;
use crate::store::entity::notification::{Due, claimable};
use crate::store::error::Error;
use crate::store::idempotency::Call;
use crate::store::quarantine::Quarantine;
use crate::store::skew::{ClockFault, Date, Shown, Timepiece};

/// How long a operation waits at the least whose request another writer has locked: about as long as a
/// batch takes.
const REQUEUE_DELAY_MIN: Duration = Duration::from_millis(5);
/// How often a operation is repeated alone before its caller is told to come again.
const CONFLICT_ATTEMPTS_MAX: u32 = 8;

/// Where operations are handed in.
#[derive(Clone)]
pub struct CommitQueue {
    queue: mpsc::Sender<Box<dyn Operation>>,
    timeouts: Timeouts,
}

impl CommitQueue {
    /// Starts a writer over its own connections. Its tasks end when the last handle is dropped and
    /// the queue is empty.
    pub fn start(
        connection: Pool,
        workers: Workers,
        timeouts: Timeouts,
        publisher: ChangePublisher,
        leased: Arc<Leased>,
        timepiece: Timepiece,
    ) -> (Self, Vec<JoinHandle<()>>) {
        let (queue, queued) = Batcher::new();
        let task = Committer {
            connection,
            queue: queue.downgrade(),
            publisher,
            timeouts,
            leased,
            quarantine: Arc::default(),
            timepiece,
        };
        let tasks = match workers {
            Workers::Concurrent(count) => {
                let queued = Arc::new(Mutex::new(queued));
                let worker = |_| spawn_dedicated_thread(task.clone().run(Arc::clone(&queued)));
                (0..count).map(worker).collect()
            }
            Workers::Pipelined(reader) => {
                vec![spawn_dedicated_thread(task.run_pipelined(queued, reader))]
            }
        };
        (Self { queue, timeouts }, tasks)
    }

    /// Hands a operation in and waits for its commit.
    ///
    /// When the future is dropped, or the answer is too long in coming, the operation is carried out all
    /// the same, if it can be.
    pub async fn submit<T, D>(&self, read_set: ReadSet, decide: D) -> Result<T, Error>
    where
        T: Send + 'static,
        D: FnMut(&mut UnitOfWork, &Resolved) -> Result<T, Error> + Send + 'static,
    {
        let (operation, answer) = operation(read_set, decide);
        self.queue
            .try_send(operation)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::internal("the writer has ended"),
            })?;
        let answer = tokio::time::timeout(self.timeouts.caller, answer);
        match answer.await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(Error::internal("the writer dropped a operation")),
            Err(_) => Err(Error::timed_out()),
        }
    }
}

/// How an attempt at a batch ended.
enum Attempt {
    Committed,
    Conflict,
}

#[derive(Clone)]
struct Committer {
    connection: Pool,
    queue: mpsc::WeakSender<Box<dyn Operation>>,
    publisher: ChangePublisher,
    timeouts: Timeouts,
    leased: Arc<Leased>,
    quarantine: Arc<Quarantine>,
    timepiece: Timepiece,
}

impl Committer {
    async fn run(self, queue: Arc<Mutex<Batcher>>) {
        loop {
            // Let go of before the batch is carried out, so that the other workers go on.
            let next = queue.lock().await.next_batch(Pipeline::Idle).await;
            let Some(operations) = next else { return };
            let span = tracing::debug_span!("write", operations = operations.len());
            self.execute(operations).instrument(span).await;
        }
    }

    /// Decides each batch over `reader`, while the one before is being written.
    async fn run_pipelined(self, mut queue: Batcher, reader: DatabaseConnection) {
        let mut overlay = Overlay::default();
        let mut in_flight: Option<JoinHandle<bool>> = None;
        while let Some(mut operations) = queue.next_batch(before(&in_flight)).await {
            let ahead = self
                .resolve_next(&mut operations, &reader, &mut overlay)
                .await;
            let committed_as_decided = match in_flight.take() {
                // A write that has panicked has written nothing that is known.
                Some(write) => write.await.unwrap_or(false),
                None => true,
            };
            match ahead {
                Ok(changes) if committed_as_decided => {
                    in_flight = Some(spawn_dedicated_thread(
                        self.clone().write(operations, changes),
                    ));
                }
                _ => {
                    overlay = Overlay::default();
                    self.execute(operations).await;
                }
            }
        }
        if let Some(write) = in_flight {
            // Whether it was written is known to those who waited for it.
            let _ = write.await;
        }
    }

    async fn resolve_next(
        &self,
        operations: &mut Vec<Box<dyn Operation>>,
        reader: &DatabaseConnection,
        overlay: &mut Overlay,
    ) -> Result<WriteSet, Error> {
        let requeue = |operation| self.requeue(operation);
        let date = || self.timepiece.date(None);
        let work = resolve(reader, operations, overlay, &self.quarantine, requeue, date);
        let work = tokio::time::timeout(self.timeouts.work, work).await;
        let work = work.unwrap_or_else(|_| Err(Error::timed_out()))?;
        overlay.absorb(work.post_state());
        Ok(work.changes())
    }

    /// Writes what was decided ahead and answers. Says whether it was written as it was decided: if
    /// not, the operations are carried out anew.
    async fn write(self, operations: Vec<Box<dyn Operation>>, changes: WriteSet) -> bool {
        let span = tracing::debug_span!("write", operations = operations.len());
        async {
            let is_written = changes.is_empty()
                || matches!(
                    self.commit(async |_| Ok(Some(changes))).await,
                    Ok(Attempt::Committed)
                );
            match is_written {
                true => respond_all(operations, Ok(())),
                false => self.execute(operations).await,
            }
            is_written
        }
        .instrument(span)
        .await
    }

    /// Carries operations out together, or in halves where that fails.
    async fn execute(&self, operations: Vec<Box<dyn Operation>>) {
        let mut waiting = vec![operations];
        while let Some(mut operations) = waiting.pop() {
            match self.attempt(&mut operations).await {
                Ok(Attempt::Committed) => respond_all(operations, Ok(())),
                Err(error @ (Error::Unavailable(_) | Error::Clock(_))) => {
                    respond_all(operations, Err(error));
                }
                Ok(Attempt::Conflict) | Err(_) if operations.len() > 1 => {
                    let rest = operations.split_off(operations.len() / 2);
                    waiting.push(rest);
                    waiting.push(operations);
                }
                Ok(Attempt::Conflict) => self.execute_single(operations).await,
                Err(error) => respond_all(operations, Err(error)),
            }
        }
    }

    async fn execute_single(&self, mut operations: Vec<Box<dyn Operation>>) {
        for attempts in 1..CONFLICT_ATTEMPTS_MAX {
            match self.attempt(&mut operations).await {
                Ok(Attempt::Committed) => return respond_all(operations, Ok(())),
                Ok(Attempt::Conflict) => tokio::time::sleep(backoff_with_jitter(attempts)).await,
                Err(error) => return respond_all(operations, Err(error)),
            }
        }
        respond_all(operations, Err(Error::Contention));
    }

    /// Returns an attempt at a batch, repeated when the database was lost in it: operations can be, since what
    /// they did is recognised. What another writer's being there has spoilt may be attempts again.
    /// Units whose requests another writer has just locked are moved_before out and come back later. When the
    /// clock by which it was decided proves to be wrong it is decided anew by the database's: what
    /// read_set a clock is refused then, and the rest is carried out.
    async fn attempt(&self, operations: &mut Vec<Box<dyn Operation>>) -> Result<Attempt, Error> {
        let mut attempts = 0;
        let mut apart = None;
        loop {
            attempts += 1;
            let leased = self.take_leased(operations);
            let attempt = match self.try_execute(operations, &leased, apart).await {
                Err(error) if error.is_contention() => Ok(Attempt::Conflict),
                attempt => attempt,
            };
            match attempt {
                // They are moved_before out, and read next time.
                Ok(Attempt::Conflict) if !leased.is_empty() => {}
                Err(Error::Unavailable(_)) if attempts < self.timeouts.attempts_max => {
                    tokio::time::sleep(backoff_with_jitter(6)).await;
                }
                Err(Error::Clock(ClockFault::Apart { database }))
                    if attempts < self.timeouts.attempts_max =>
                {
                    apart = Some(Shown::at_present(database));
                }
                attempt => return attempt,
            }
        }
    }

    /// Returns the requests that answers name, as far as they are known.
    fn take_leased(&self, operations: &[Box<dyn Operation>]) -> Overlay {
        let read_set: Vec<Arc<ReadSet>> = operations
            .iter()
            .map(|operation| operation.read_set())
            .collect();
        let answers = read_set.iter().filter(|read_set| read_set.answers);
        self.leased
            .take(answers.flat_map(|read_set| &read_set.requests))
    }

    async fn try_execute(
        &self,
        operations: &mut Vec<Box<dyn Operation>>,
        leased: &Overlay,
        apart: Option<Shown>,
    ) -> Result<Attempt, Error> {
        let requeue = |operation| self.requeue(operation);
        let date = || self.timepiece.date(apart);
        let mut claimed = Vec::new();
        let attempt = self.commit(async |transaction| {
            let work = resolve(
                transaction,
                operations,
                leased,
                &self.quarantine,
                requeue,
                date,
            )
            .await?;
            if operations
                .iter()
                .any(|operation| operation.read_set().claim.is_some())
            {
                claimed = work.post_state_requests();
            }
            let is_tested = work.confirms_all(leased);
            let date = *work.date();
            let changes = work.changes();
            if changes.is_empty() && relies_on_time(operations) && date.is_to_be_proved() {
                // Nothing will be written that the clocks could be compared in.
                date.check(from_micros(database_now(transaction).await?))?;
            }
            Ok(is_tested.then_some(changes))
        });
        let attempt = attempt.await?;
        if let Attempt::Committed = attempt {
            self.leased.keep(claimed);
        }
        Ok(attempt)
    }

    /// Writes `changes`, which may be decided in the transaction, commits them and tells others;
    /// changed_since_lease when there are none to be had, or a row was not as it had been loaded.
    async fn commit(
        &self,
        changes: impl AsyncFnOnce(&DatabaseTransaction) -> Result<Option<WriteSet>, Error>,
    ) -> Result<Attempt, Error> {
        let prepared = tokio::time::timeout(self.timeouts.work, self.prepare(changes)).await;
        let Some((transaction, committed)) =
            prepared.unwrap_or_else(|_| Err(Error::timed_out()))?
        else {
            return Ok(Attempt::Conflict);
        };
        // Given up later than anything else: a server that waits for its standby goes on waiting
        // when nobody listens any more, and keeps the connection.
        let commit = tokio::time::timeout(self.timeouts.commit, transaction.commit()).await;
        commit.map_err(|_| Error::timed_out())??;
        self.publisher.publish(committed);
        Ok(Attempt::Committed)
    }

    /// Everything but the commit.
    async fn prepare(
        &self,
        changes: impl AsyncFnOnce(&DatabaseTransaction) -> Result<Option<WriteSet>, Error>,
    ) -> Result<Option<(Transaction, ChangeEvent)>, Error> {
        let options = write_options(self.connection.get_database_backend());
        let transaction = self.connection.begin(options).await?;
        let saved = async {
            let Some(changes) = changes(&transaction).await? else {
                return Ok(None);
            };
            let announcement = self.publisher.outbox_row(&changes.committed);
            changes.save(&*transaction, announcement).await
        };
        match saved.await {
            Ok(Some(committed)) => Ok(Some((transaction, committed))),
            Ok(None) => {
                transaction.rollback().await?;
                Ok(None)
            }
            Err(error) => {
                // The first error is the one that says what is wrong.
                let _ = transaction.rollback().await;
                Err(error)
            }
        }
    }

    /// Hands a operation in again after a while, if it is still waited for. Meanwhile the worker is for
    /// others.
    fn requeue(&self, operation: Box<dyn Operation>) {
        let queue = self.queue.clone();
        tokio::spawn(async move {
            tokio::time::sleep(REQUEUE_DELAY_MIN + backoff_with_jitter(6)).await;
            match queue.upgrade() {
                Some(queue) if operation.has_receiver() => {
                    if let Err(mpsc::error::SendError(operation)) = queue.send(operation).await {
                        operation.respond(Err(Error::Contention));
                    }
                }
                Some(_) | None => operation.respond(Err(Error::Contention)),
            }
        });
    }
}

fn before(write: &Option<JoinHandle<bool>>) -> Pipeline {
    match write {
        Some(write) if !write.is_finished() => Pipeline::Busy,
        Some(_) | None => Pipeline::Idle,
    }
}

/// Runs a future on a thread of its own. Among the tasks that answer idempotency_keys, each answer of the
/// database would wait for all idempotency_keys that are ready to go on; and all idempotency_keys wait for a batch.
fn spawn_dedicated_thread<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let runtime = tokio::runtime::Handle::current();
    let future = future.with_current_subscriber();
    tokio::task::spawn_blocking(move || runtime.block_on(future))
}

/// Returns the pause after a operation has been spoilt so many times: random, and longer each time.
fn backoff_with_jitter(attempts: u32) -> Duration {
    Duration::from_micros(random() % (2_000 << attempts.min(6)))
}

/// Returns a random number.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

fn respond_all(operations: Vec<Box<dyn Operation>>, committed: Result<(), Error>) {
    for operation in operations {
        operation.respond(committed.clone());
    }
}

/// Returns whether some operation answers by the clock though it changes nothing. A claim that finds nothing gives
/// nothing.
fn relies_on_time(operations: &[Box<dyn Operation>]) -> bool {
    operations.iter().any(|operation| {
        let read_set = operation.read_set();
        !read_set.at_all_times && read_set.claim.is_none()
    })
}

/// Loads what the operations need, but for what is `overlay`, and lets them resolve in the order of their
/// arrival, by what the clock shows then. Units that need what another writer has locked are moved_before
/// out and postponed.
async fn resolve(
    connection: &impl ConnectionTrait,
    operations: &mut Vec<Box<dyn Operation>>,
    overlay: &Overlay,
    quarantine: &Quarantine,
    requeue: impl Fn(Box<dyn Operation>),
    date: impl Fn() -> Date,
) -> Result<UnitOfWork, Error> {
    let mut read_set: Vec<Arc<ReadSet>> = operations
        .iter()
        .map(|operation| operation.read_set())
        .collect();
    let mut found = resolve_read_sets(connection, &read_set, overlay, quarantine).await?;
    let mut work = UnitOfWork::new();
    // What is to be changed is locked before the idempotency_keys are looked up, so that what another writer
    // has carried out is seen. A claim takes what it can have, and tests it when it writes.
    let claims_alone = read_set.iter().all(|read_set| read_set.claim.is_some());
    let lock = if claims_alone {
        RowLock::None
    } else {
        RowLock::SkipLocked
    };
    let locked_by_others = work
        .load(connection, request_keys(&read_set, &found), lock, overlay)
        .await?;
    let due = found.iter().flat_map(|found| &found.messages);
    let due = due.map(|(request, _)| request);
    quarantine.add(due.filter(|key| work.is_undecodable(key)).cloned());
    if !locked_by_others.is_empty() {
        let mut place = 0;
        while let (Some(needed), Some(turned_up)) = (read_set.get(place), found.get(place)) {
            let mut request_keys = needed.requests.iter().chain(&turned_up.requests);
            if request_keys.any(|key| locked_by_others.contains(key)) {
                requeue(operations.remove(place));
                read_set.remove(place);
                found.remove(place);
            } else {
                place += 1;
            }
        }
    }
    let created = read_set
        .iter()
        .filter_map(|read_set| read_set.creates.clone());
    let changed: Vec<RequestKey> = read_set
        .iter()
        .filter(|read_set| read_set.call.is_some())
        .flat_map(|read_set| read_set.requests.clone())
        .collect();
    let idempotency_keys = idempotency_keys(&read_set, &found);
    let repeated = work
        .load_duplicates_and_replays(
            connection,
            created.collect(),
            &changed,
            idempotency_keys,
            overlay,
        )
        .await?;
    work.load(connection, repeated, RowLock::None, overlay)
        .await?;
    work.decide_by(date());
    // One that panics spoils the batch, which is then repeated in halves: it fails alone.
    catch_unwind(AssertUnwindSafe(|| {
        decide_in_order(operations, &read_set, &found, &mut work);
    }))
    .map_err(|_panic| Error::internal("a decision has panicked"))?;
    Ok(work)
}

/// Lets operations resolve: claims last, so that what a booking in the same batch ends is not handed out.
fn decide_in_order(
    operations: &mut [Box<dyn Operation>],
    read_set: &[Arc<ReadSet>],
    found: &[Resolved],
    work: &mut UnitOfWork,
) {
    for claims in [false, true] {
        for ((operation, read_set), found) in operations.iter_mut().zip(read_set).zip(found) {
            if read_set.claim.is_some() == claims {
                operation.decide(work, found);
            }
        }
    }
}

/// Returns what each operation's read_set turn up. Claims in a batch that want the same messages are asked for
/// together, and each is offered as many as all of them could take.
async fn resolve_read_sets(
    connection: &impl ConnectionTrait,
    read_set: &[Arc<ReadSet>],
    overlay: &Overlay,
    quarantine: &Quarantine,
) -> Result<Vec<Resolved>, Error> {
    let mut due: Vec<(&Due, Vec<(RequestKey, Uuid)>)> = Vec::new();
    let mut all = Vec::with_capacity(read_set.len());
    for needs_of_one in read_set {
        let mut found = Resolved::default();
        if let Some(claim) = &needs_of_one.claim {
            let known = due.iter().find(|(known, _)| **known == claim.due);
            found.messages = match known {
                Some((_, messages)) => messages.clone(),
                None => {
                    let messages =
                        load_due(connection, &claim.due, read_set, overlay, quarantine).await?;
                    due.push((&claim.due, messages.clone()));
                    messages
                }
            };
        }
        if let Some(scope) = &needs_of_one.patient {
            let operation = scope.care_unit.as_ref();
            found.requests = requests_of(connection, &scope.personal_id, operation).await?;
            found.requests.extend(overlay.requests_of(scope));
            found.requests.sort();
            found.requests.dedup();
        }
        all.push(found);
    }
    Ok(all)
}

/// Returns the messages for all claims that want these.
async fn load_due(
    connection: &impl ConnectionTrait,
    due: &Due,
    read_set: &[Arc<ReadSet>],
    overlay: &Overlay,
    quarantine: &Quarantine,
) -> Result<Vec<(RequestKey, Uuid)>, Error> {
    let claims = read_set
        .iter()
        .filter_map(|read_set| read_set.claim.as_ref());
    let claims = claims.filter(|claim| claim.due == *due);
    let (now, limit) = claims.fold((Instant::UNIX_EPOCH, 0), |(now, limit), claim| {
        (now.max(claim.now), limit + claim.limit)
    });
    let asked = limit + overlay.moved_before(now);
    let mut found = claimable(connection, due, now, asked, &quarantine.requests()).await?;
    found.retain(|(request, id)| overlay.is_due(request, *id, due, now));
    found.truncate(limit);
    Ok(found)
}

/// Returns the requests that the operations name or have turned up.
fn request_keys(read_set: &[Arc<ReadSet>], found: &[Resolved]) -> Vec<RequestKey> {
    let mut request_keys: Vec<RequestKey> =
        read_set.iter().flat_map(|it| it.requests.clone()).collect();
    for found in found {
        request_keys.extend(found.messages.iter().map(|(request, _)| request.clone()));
        request_keys.extend(found.requests.iter().cloned());
    }
    request_keys
}

/// Returns the idempotency_keys that the operations carry out, each with the care operation in which its id counts.
fn idempotency_keys(read_set: &[Arc<ReadSet>], found: &[Resolved]) -> Vec<(HsaId, Call)> {
    let mut idempotency_keys = Vec::new();
    for (read_set, found) in read_set.iter().zip(found) {
        idempotency_keys.extend(read_set.call.clone());
        if let Some(scope) = &read_set.patient {
            idempotency_keys.push((scope.idempotency_scope(), scope.call.clone()));
            for request in &found.requests {
                idempotency_keys.push((request.care_unit.clone(), scope.call.clone()));
                idempotency_keys.push((request.care_unit.clone(), scope.call.on(request)));
            }
        }
    }
    idempotency_keys
}
