//! The committer: takes batches from the queue, executes them, and responds.
//!
//! On PostgreSQL several workers each resolve and write a batch in one transaction. On SQLite the committer is
//! pipelined: it resolves the next batch over a reader while the one before is being written.

use std::sync::Arc;
use std::time::Duration;

use backon::BackoffBuilder;
use sea_orm::{DatabaseConnection, DatabaseTransaction, DbBackend};
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant as Moment;
use tracing::Instrument;
use tracing::instrument::WithSubscriber;

use crate::store::change_event::ChangeEvent;
use crate::store::change_feed::ChangePublisher;
use crate::store::commit::operation::{Operation, Stage};
use crate::store::commit::overlay::Overlay;
use crate::store::commit::queue::{Batcher, CommitQueue, Pipeline};
use crate::store::commit::resolve::resolve;
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::commit::write_set::WriteSet;
use crate::store::database::connection::{Timeouts, Workers, system_name, write_options};
use crate::store::database::probe::database_now;
use crate::store::database::transaction::{Pool, Transaction};
use crate::store::error::Error;
use crate::store::metrics::Tally;
use crate::store::placement::Placement;
use crate::store::quarantine::Quarantine;
use crate::store::retry;
use crate::store::skew::{ClockFault, ClockSample, DecisionClock};

/// Minimum delay before an operation whose rows another writer has locked is queued again: about the time that a
/// batch takes.
const REQUEUE_DELAY_MIN: Duration = Duration::from_millis(5);
/// Maximum delay. It is random, so that operations that were requeued together do not meet again.
const REQUEUE_DELAY_MAX: Duration = Duration::from_millis(130);

/// Starts a committer over its own connections, and returns the queue to it with its tasks. The tasks end when the last
/// handle of the queue is dropped and the queue is empty.
pub fn start(
    connection: Pool,
    workers: Workers,
    timeouts: Timeouts,
    publisher: ChangePublisher,
    decision_clock: DecisionClock,
    placement: Placement,
) -> (CommitQueue, Vec<JoinHandle<()>>) {
    let (sender, batcher) = Batcher::new(placement.clone());
    let committer = Committer {
        connection,
        queue: sender.downgrade(),
        publisher,
        timeouts,
        quarantine: Arc::default(),
        decision_clock,
        placement,
    };
    let tasks = match workers {
        Workers::Concurrent(count) => {
            let batcher = Arc::new(Mutex::new(batcher));
            let worker = |_| spawn_dedicated_thread(committer.clone().run(Arc::clone(&batcher)));
            (0..count).map(worker).collect()
        }
        Workers::Pipelined(reader) => {
            vec![spawn_dedicated_thread(
                committer.run_pipelined(batcher, reader),
            )]
        }
    };
    (CommitQueue::new(sender, timeouts), tasks)
}

/// Outcome of an attempt at a batch.
enum Attempt {
    /// It was committed.
    Committed,
    /// It was rolled back: a row has another version than it was loaded with, or another writer was met in another
    /// way.
    Conflict,
    /// It was rolled back: a row that another writer has locked was waited for in vain.
    Locked,
}

/// A transaction that is to be committed.
struct Prepared {
    transaction: Transaction,
    event: ChangeEvent,
    /// Number of its row in the outbox, if it has one.
    outbox_number: Option<i64>,
    tally: Tally,
}

#[derive(Clone)]
struct Committer {
    connection: Pool,
    queue: mpsc::WeakSender<Box<dyn Operation>>,
    publisher: ChangePublisher,
    timeouts: Timeouts,
    quarantine: Arc<Quarantine>,
    decision_clock: DecisionClock,
    placement: Placement,
}

impl Committer {
    /// Executes batches until there are no more.
    async fn run(self, batcher: Arc<Mutex<Batcher>>) {
        loop {
            // The lock is released before the batch is executed, so that the other workers go on.
            let batch = batcher.lock().await.next_batch(Pipeline::Idle).await;
            let Some(operations) = batch else { return };
            let span = tracing::debug_span!("write", operations = operations.len());
            self.execute(operations).instrument(span).await;
        }
    }

    /// Resolves each batch over `reader`, while the one before is being written.
    async fn run_pipelined(self, mut batcher: Batcher, reader: DatabaseConnection) {
        let mut overlay = Overlay::new();
        let mut in_flight: Option<JoinHandle<bool>> = None;
        while let Some(mut operations) = batcher.next_batch(pipeline(&in_flight)).await {
            let resolved = self.resolve_next(&mut operations, &reader, &overlay).await;
            let committed = match in_flight.take() {
                // After a panic it is not known that it was committed.
                Some(write) => write.await.unwrap_or(false),
                None => true,
            };
            match resolved {
                Ok(work) if committed => {
                    overlay.advance(work.post_state());
                    let write = self.clone().write(operations, work.into_write_set());
                    in_flight = Some(spawn_dedicated_thread(write));
                }
                _ => {
                    overlay = Overlay::new();
                    self.execute(operations).await;
                }
            }
        }
        if let Some(write) = in_flight {
            // Its operations have responded.
            let _ = write.await;
        }
    }

    /// Resolves a batch over the reader and the overlay of the batch in flight.
    async fn resolve_next(
        &self,
        operations: &mut Vec<Box<dyn Operation>>,
        reader: &DatabaseConnection,
        overlay: &Overlay,
    ) -> Result<UnitOfWork, Error> {
        let requeue = |operation| self.requeue(operation);
        let date = || self.decision_clock.date(None);
        let shards = self.placement.shards();
        let work = resolve(
            reader,
            shards,
            operations,
            overlay,
            &self.quarantine,
            requeue,
            date,
        );
        let work = tokio::time::timeout(self.timeouts.work, work).await;
        work.unwrap_or_else(|_| Err(Error::timed_out()))
    }

    /// Writes a batch that was resolved before, and responds. Returns false if it was not committed as decided: then its
    /// operations are executed anew, unless the file cannot be written.
    async fn write(self, mut operations: Vec<Box<dyn Operation>>, write_set: WriteSet) -> bool {
        let span = tracing::debug_span!("write", operations = operations.len());
        async {
            let committed = match write_set.is_empty() {
                true => Ok(Attempt::Committed),
                false => {
                    self.enter_transaction(&mut operations);
                    let committed = self.commit(async |_| Ok(write_set)).await;
                    leave_transaction(&mut operations, &committed);
                    committed
                }
            };
            match committed {
                Ok(Attempt::Committed) => {
                    self.publisher.metrics().count_batch(operations.len());
                    respond_all(operations, Ok(()));
                    return true;
                }
                // It has waited for as long as a caller is to wait.
                Err(error @ Error::Unavailable(_)) => respond_all(operations, Err(error)),
                Ok(Attempt::Conflict | Attempt::Locked) | Err(_) => self.execute(operations).await,
            }
            false
        }
        .instrument(span)
        .await
    }

    /// Executes operations together, and bisects the batch when that fails. After a conflict those are given up for whose
    /// response nobody waits any more.
    async fn execute(&self, operations: Vec<Box<dyn Operation>>) {
        let mut waiting = vec![operations];
        while let Some(mut operations) = waiting.pop() {
            if operations.is_empty() {
                continue;
            }
            match self.attempt(&mut operations).await {
                Ok(Attempt::Committed) => {
                    self.publisher.metrics().count_batch(operations.len());
                    respond_all(operations, Ok(()));
                }
                Err(error @ (Error::Unavailable(_) | Error::Clock(_))) => {
                    respond_all(operations, Err(error));
                }
                Ok(Attempt::Conflict | Attempt::Locked) if operations.len() > 1 => {
                    let gone = operations.extract_if(.., |it| !it.has_receiver());
                    respond_all(gone.collect(), Err(Error::Contention));
                    waiting.extend(halves(operations));
                }
                Err(_) if operations.len() > 1 => waiting.extend(halves(operations)),
                Ok(Attempt::Conflict) => self.execute_single(operations).await,
                Ok(Attempt::Locked) => self.requeue_all(operations),
                Err(error) => respond_all(operations, Err(error)),
            }
        }
    }

    /// Executes an operation that had a conflict on its own, again and again while its caller waits, and responds.
    async fn execute_single(&self, mut operations: Vec<Box<dyn Operation>>) {
        let mut pauses = retry::CONFLICT.build();
        let outcome = loop {
            match self.attempt(&mut operations).await {
                Ok(Attempt::Committed) => break Ok(()),
                Ok(Attempt::Conflict) => match pauses.next() {
                    Some(pause) if is_awaited(&operations) => tokio::time::sleep(pause).await,
                    Some(_) | None => break Err(Error::Contention),
                },
                Ok(Attempt::Locked) => return self.requeue_all(operations),
                Err(error) => break Err(error),
            }
        };
        respond_all(operations, outcome);
    }

    /// Attempts a batch, and tries it again while the database is unavailable and a caller waits: a second execution of an
    /// operation is recognised and harmless. An error that only means that another writer was there counts as a conflict. When the
    /// clock by which the batch was decided proves to be wrong, it is decided again by the database's clock: operations
    /// that need a trusted clock are then refused, and the others are executed.
    async fn attempt(&self, operations: &mut Vec<Box<dyn Operation>>) -> Result<Attempt, Error> {
        let mut pauses = retry::unavailable_batch(self.timeouts.attempts_max).build();
        let mut database_clock = None;
        loop {
            let attempt = match self.try_execute(operations, database_clock).await {
                Err(error) if error.is_lock_timeout() => Ok(Attempt::Locked),
                Err(error) if error.is_contention() => Ok(Attempt::Conflict),
                Err(error) if error.is_of_parted_shards() => {
                    self.ask_again().await;
                    Ok(Attempt::Conflict)
                }
                attempt => attempt,
            };
            match (attempt, pauses.next()) {
                (Err(Error::Unavailable(_)), Some(pause)) if is_awaited(operations) => {
                    tokio::time::sleep(pause).await;
                }
                (Err(Error::Clock(ClockFault::Apart { database })), Some(_)) => {
                    database_clock = Some(ClockSample::taken_now(database));
                }
                (attempt, _) => return attempt,
            }
        }
    }

    /// Asks the database again which buckets lie together. If that fails, the next batch that is refused asks again.
    async fn ask_again(&self) {
        let asked = self.placement.ask_again(&*self.connection).await;
        tracing::info!(
            error = asked.err().map(tracing::field::display),
            "a batch was refused as one of several shards: they may have been split, and were asked for again"
        );
    }

    /// Resolves and commits a batch in one transaction.
    async fn try_execute(
        &self,
        operations: &mut Vec<Box<dyn Operation>>,
        database_clock: Option<ClockSample>,
    ) -> Result<Attempt, Error> {
        let requeue = |operation| self.requeue(operation);
        let date = || self.decision_clock.date(database_clock);
        self.enter_transaction(operations);
        let committed = self.commit(async |transaction| {
            let nothing = Overlay::none();
            let work = resolve(
                transaction,
                self.placement.shards(),
                operations,
                &nothing,
                &self.quarantine,
                requeue,
                date,
            )
            .await?;
            let date = *work.date();
            let write_set = work.into_write_set();
            let has_a_clock = self.connection.get_database_backend() == DbBackend::Postgres;
            let is_unverified = has_a_clock && date.is_unverified();
            if write_set.is_empty() && relies_on_time(operations) && is_unverified {
                // No statement will be sent that compares the clocks.
                date.check(database_now(transaction).await?)?;
            }
            Ok(write_set)
        });
        let committed = committed.await;
        leave_transaction(operations, &committed);
        committed
    }

    /// Notes in the traces of a batch that a transaction begins.
    fn enter_transaction(&self, operations: &mut [Box<dyn Operation>]) {
        let stage = Stage::Transaction(system_name(self.connection.get_database_backend()));
        operations.iter_mut().for_each(|it| it.enter(stage));
    }

    /// Writes the write set, which may be decided in the transaction, commits it and publishes the change event. There
    /// is a conflict when a row does not have the version with which it was loaded.
    async fn commit(
        &self,
        write_set: impl AsyncFnOnce(&DatabaseTransaction) -> Result<WriteSet, Error>,
    ) -> Result<Attempt, Error> {
        let begun = Moment::now();
        let prepared = tokio::time::timeout(self.timeouts.work, self.prepare(write_set)).await;
        let Some(Prepared {
            transaction,
            event,
            outbox_number,
            tally,
        }) = prepared.unwrap_or_else(|_| Err(Error::timed_out()))?
        else {
            return Ok(Attempt::Conflict);
        };
        // This timeout is the longest: a server that waits for its standby goes on waiting when the client has gone,
        // and keeps the connection.
        let commit = tokio::time::timeout(self.timeouts.commit, transaction.commit()).await;
        let committed = match commit {
            Ok(answered) => answered.map_err(Error::from),
            Err(_) => Err(Error::timed_out()),
        };
        if let Err(error) = &committed
            && !error.is_contention()
        {
            self.publisher.doubt(&event, outbox_number);
        }
        committed?;
        self.publisher
            .metrics()
            .count_commit(begun.elapsed(), &tally);
        self.publisher.publish(event);
        Ok(Attempt::Committed)
    }

    /// Begins a transaction and writes the write set in it. Returns `None` on a conflict, after a rollback.
    async fn prepare(
        &self,
        write_set: impl AsyncFnOnce(&DatabaseTransaction) -> Result<WriteSet, Error>,
    ) -> Result<Option<Prepared>, Error> {
        let options = write_options(self.connection.get_database_backend());
        let transaction = self.connection.begin(options).await?;
        let saved = async {
            let write_set = write_set(&transaction).await?;
            let tally = write_set.tally.clone();
            let outbox_row = self
                .publisher
                .outbox_row(&write_set.event, write_set.bucket());
            let (outbox_number, outbox_row) = outbox_row.unzip();
            let event = write_set.save(&*transaction, outbox_row).await?;
            Ok(event.map(|event| (event, outbox_number, tally)))
        };
        match saved.await {
            Ok(Some((event, outbox_number, tally))) => Ok(Some(Prepared {
                transaction,
                event,
                outbox_number,
                tally,
            })),
            Ok(None) => {
                transaction.rollback().await?;
                Ok(None)
            }
            Err(error) => {
                // The first error is the cause.
                transaction.abandon(&error).await;
                Err(error)
            }
        }
    }

    /// Queues operations again, each after a while.
    fn requeue_all(&self, operations: Vec<Box<dyn Operation>>) {
        operations.into_iter().for_each(|it| self.requeue(it));
    }

    /// Queues an operation again after a while, if its caller still waits. Meanwhile the worker executes others.
    fn requeue(&self, mut operation: Box<dyn Operation>) {
        operation.enter(Stage::Queue);
        let queue = self.queue.clone();
        tokio::spawn(async move {
            let delay = rand::random_range(REQUEUE_DELAY_MIN..REQUEUE_DELAY_MAX);
            tokio::time::sleep(delay).await;
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

/// Returns the state of the pipeline, by the batch in flight.
fn pipeline(in_flight: &Option<JoinHandle<bool>>) -> Pipeline {
    match in_flight {
        Some(write) if !write.is_finished() => Pipeline::Busy,
        Some(_) | None => Pipeline::Idle,
    }
}

/// Runs a future on a thread of its own. Among the tasks that serve calls, each response of the database would wait
/// for all calls that are ready to run; and all calls wait for a batch.
fn spawn_dedicated_thread<T: Send + 'static>(
    future: impl Future<Output = T> + Send + 'static,
) -> JoinHandle<T> {
    let runtime = tokio::runtime::Handle::current();
    let future = future.with_current_subscriber();
    tokio::task::spawn_blocking(move || runtime.block_on(future))
}

/// Notes in the traces of a batch that its transaction has ended.
fn leave_transaction(operations: &mut [Box<dyn Operation>], committed: &Result<Attempt, Error>) {
    let stage = match committed {
        Ok(Attempt::Committed) => Stage::Committed,
        Ok(Attempt::Conflict | Attempt::Locked) => Stage::RolledBack("conflict"),
        Err(Error::Unavailable(_)) => Stage::RolledBack("unavailable"),
        Err(_) => Stage::RolledBack("other"),
    };
    operations.iter_mut().for_each(|it| it.enter(stage));
}

/// Returns true while a caller of one of the operations waits.
fn is_awaited(operations: &[Box<dyn Operation>]) -> bool {
    operations.iter().any(|it| it.has_receiver())
}

/// Returns the halves of a batch, the first one last: it is executed first.
fn halves(mut operations: Vec<Box<dyn Operation>>) -> [Vec<Box<dyn Operation>>; 2] {
    let rest = operations.split_off(operations.len() / 2);
    [rest, operations]
}

/// Responds to the callers of a batch.
fn respond_all(operations: Vec<Box<dyn Operation>>, committed: Result<(), Error>) {
    for operation in operations {
        operation.respond(committed.clone());
    }
}

/// Returns true when an operation that changes nothing may still have decided by the clock. A claim that finds nothing
/// leases nothing.
fn relies_on_time(operations: &[Box<dyn Operation>]) -> bool {
    operations.iter().any(|operation| {
        let read_set = operation.read_set();
        !read_set.tolerates_clock_fault && read_set.claim.is_none()
    })
}
