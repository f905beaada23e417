//! The queue of the committer: the handle that submits operations, and the batches that they form.
//!
//! Interactive and bulk operations take turns when both wait: a caller who books a visit waits for a few notifications at
//! the most, however many are due, and no flood of calls keeps notifications waiting.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

use crate::store::commit::operation::{Operation, Stage, operation};
use crate::store::commit::read_set::{ReadSet, Resolved};
use crate::store::commit::unit_of_work::UnitOfWork;
use crate::store::database::connection::Timeouts;
use crate::store::error::Error;
use crate::store::placement::Placement;

/// Maximum operations that have arrived, and maximum that are enqueued, before more are refused.
const QUEUE_MAX: usize = 16_384;
/// Estimated rows from which an operation is bulk, not interactive.
const BULK_ROWS_MIN: usize = 16;
/// Maximum estimated rows of a batch; a single operation may have more.
const BATCH_MAX: usize = 1_024;
/// Maximum estimated rows of a bulk batch while there are interactive operations too.
const BULK_TURN_ROWS_MAX: usize = 256;
/// Time after an interactive batch for which more interactive operations are expected.
const INTERACTIVE_RECENT: Duration = Duration::from_millis(100);
/// Minimum operations of an interactive batch after which the next one lingers.
const LINGER_MIN_BATCH: usize = 16;
/// Maximum time to linger: a part of the time that a commit takes.
const LINGER_MAX: Duration = Duration::from_millis(3);

/// Maximum operations among which a batch looks for others of its shard.
const LOOKED_AT_MAX: usize = 4_096;

/// An operation that waits, and the shard that it is about; none of one about several.
type Placed = (Option<usize>, Box<dyn Operation>);
type Waiting = VecDeque<Placed>;

/// The handle by which operations are submitted to a committer.
#[derive(Clone)]
pub struct CommitQueue {
    sender: mpsc::Sender<Box<dyn Operation>>,
    timeouts: Timeouts,
}

impl CommitQueue {
    /// Returns the handle of a queue whose operations go to `sender`.
    pub fn new(sender: mpsc::Sender<Box<dyn Operation>>, timeouts: Timeouts) -> Self {
        Self { sender, timeouts }
    }

    /// Returns the number of operations that wait to be looked at.
    pub fn waiting(&self) -> usize {
        self.sender.max_capacity() - self.sender.capacity()
    }

    /// Submits an operation and waits for its commit.
    ///
    /// Executes the operation even when the future is dropped or the response takes too long, unless that fails because of
    /// another writer or because the database is unavailable: then it is not tried again.
    pub async fn submit<T, D>(&self, read_set: ReadSet, decide: D) -> Result<T, Error>
    where
        T: Send + 'static,
        D: FnMut(&mut UnitOfWork, &Resolved) -> Result<T, Error> + Send + 'static,
    {
        let (operation, response) = operation(read_set, decide);
        self.sender
            .try_send(operation)
            .map_err(|error| match error {
                mpsc::error::TrySendError::Full(_) => Error::Overloaded,
                mpsc::error::TrySendError::Closed(_) => Error::internal("the committer has ended"),
            })?;
        let response = tokio::time::timeout(self.timeouts.caller, response);
        match response.await {
            Ok(Ok(response)) => response,
            Ok(Err(_)) => Err(Error::internal("the committer dropped an operation")),
            Err(_) => Err(Error::timed_out()),
        }
    }
}

/// State of the batch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// It is being written, so that waiting for more operations costs nothing.
    Busy,
    /// It has ended, or there is no pipeline.
    Idle,
}

/// The operations that wait, by priority class.
pub struct Batcher {
    placement: Placement,
    arrivals: mpsc::Receiver<Box<dyn Operation>>,
    interactive: Waiting,
    bulk: Waiting,
    /// Size of the last interactive batch.
    last_count: usize,
    /// True when the last batch was interactive.
    after_interactive: bool,
    /// Time of the last interactive batch.
    last_interactive_at: Option<Instant>,
}

impl Batcher {
    /// Returns an empty batcher, whose batches are of one shard, and the sender for operations.
    pub fn new(placement: Placement) -> (mpsc::Sender<Box<dyn Operation>>, Self) {
        let (sender, arrivals) = mpsc::channel(QUEUE_MAX);
        let batcher = Self {
            placement,
            arrivals,
            interactive: Waiting::new(),
            bulk: Waiting::new(),
            last_count: 0,
            after_interactive: false,
            last_interactive_at: None,
        };
        (sender, batcher)
    }

    /// Waits for the next batch and returns it; `None` once all senders are gone and the queue is empty.
    pub async fn next_batch(&mut self, pipeline: Pipeline) -> Option<Vec<Box<dyn Operation>>> {
        let mut batch = self.choose_batch(pipeline).await?;
        let stage = Stage::Batch(batch.len());
        batch
            .iter_mut()
            .for_each(|operation| operation.enter(stage));
        Some(batch)
    }

    async fn choose_batch(&mut self, pipeline: Pipeline) -> Option<Vec<Box<dyn Operation>>> {
        self.drain_arrivals();
        if self.interactive.is_empty() && self.bulk.is_empty() {
            let first = self.arrivals.recv().await?;
            self.enqueue(first);
            self.drain_arrivals();
        }
        let is_turn_of_bulk = self.interactive.is_empty() || self.after_interactive;
        if !self.bulk.is_empty() && is_turn_of_bulk {
            let is_recent = |at: Instant| at.elapsed() < INTERACTIVE_RECENT;
            let max = match self.last_interactive_at.is_some_and(is_recent) {
                true => BULK_TURN_ROWS_MAX,
                false => BATCH_MAX,
            };
            self.after_interactive = false;
            return Some(take(&mut self.bulk, max));
        }
        self.linger(pipeline).await;
        self.after_interactive = true;
        self.last_interactive_at = Some(Instant::now());
        let batch = take(&mut self.interactive, BATCH_MAX);
        self.last_count = batch.len();
        Some(batch)
    }

    /// Lingers for more interactive operations.
    ///
    /// Callers that were answered together come back one after the other. After a large batch the next one is waited
    /// for, since a few large commits do more than many small ones.
    async fn linger(&mut self, pipeline: Pipeline) {
        let expected = match self.last_count {
            0..LINGER_MIN_BATCH => 0,
            last_count => match pipeline {
                Pipeline::Busy => BATCH_MAX,
                Pipeline::Idle => last_count * 3 / 4,
            },
        };
        let until = Instant::now() + LINGER_MAX;
        while self.interactive.len() < expected {
            match tokio::time::timeout_at(until, self.arrivals.recv()).await {
                Ok(Some(operation)) => self.enqueue(operation),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Enqueues the operations that have arrived, without waiting.
    fn drain_arrivals(&mut self) {
        while self.interactive.len() + self.bulk.len() < QUEUE_MAX {
            match self.arrivals.try_recv() {
                Ok(operation) => self.enqueue(operation),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    /// Adds an operation to those of its priority class.
    fn enqueue(&mut self, operation: Box<dyn Operation>) {
        let shards = self.placement.shards();
        let shard = match shards.is_whole() {
            true => Some(0),
            false => operation.read_set().shard(&shards),
        };
        match estimated_rows(&*operation) >= BULK_ROWS_MIN {
            true => self.bulk.push_back((shard, operation)),
            false => self.interactive.push_back((shard, operation)),
        }
    }
}

fn estimated_rows(operation: &dyn Operation) -> usize {
    operation.read_set().estimated_rows()
}

/// Takes operations from the front until they have `max` estimated rows; at least one. All are of the shard of the first, and
/// an operation about several shards goes alone. Those of other shards keep their order.
fn take(waiting: &mut Waiting, max: usize) -> Vec<Box<dyn Operation>> {
    let mut batch = Vec::new();
    let mut rows = 0;
    let mut others = Waiting::new();
    let mut of_batch = None;
    while let Some((shard, operation)) = waiting.pop_front() {
        if *of_batch.get_or_insert(shard) != shard {
            others.push_back((shard, operation));
            if others.len() >= LOOKED_AT_MAX {
                break;
            }
            continue;
        }
        rows += estimated_rows(&*operation);
        batch.push(operation);
        if rows >= max || shard.is_none() {
            break;
        }
    }
    for other in others.into_iter().rev() {
        waiting.push_front(other);
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hsa_id::HsaId;
    use crate::domain::request_key::RequestKey;

    /// Returns an operation that names so many requests.
    fn naming(requests: usize) -> Box<dyn Operation> {
        let key = RequestKey {
            care_unit: HsaId::from_stored("SE2321000131-P1".into()),
            id: uuid::Uuid::nil(),
        };
        let read_set = ReadSet {
            requests: vec![key; requests],
            ..ReadSet::default()
        };
        operation(read_set, |_, _| Ok(())).0
    }

    fn filled(interactive: usize, bulk: usize) -> (mpsc::Sender<Box<dyn Operation>>, Batcher) {
        let (sender, batcher) = Batcher::new(Placement::whole());
        for requests in std::iter::repeat_n(255, bulk).chain(std::iter::repeat_n(1, interactive)) {
            assert!(sender.try_send(naming(requests)).is_ok());
        }
        (sender, batcher)
    }

    /// Returns an operation on one request of each of these care units.
    fn about(units: &[usize]) -> Box<dyn Operation> {
        let key = |number: &usize| RequestKey {
            care_unit: HsaId::from_stored(format!("SE2321000131-P{number}")),
            id: uuid::Uuid::nil(),
        };
        let read_set = ReadSet {
            requests: units.iter().map(key).collect(),
            ..ReadSet::default()
        };
        operation(read_set, |_, _| Ok(())).0
    }

    #[tokio::test]
    async fn a_batch_is_of_one_shard_and_what_is_about_several_goes_alone() {
        let placement = Placement::over(8);
        let shards = placement.shards();
        let (sender, mut batcher) = Batcher::new(placement);
        for units in [&[0][..], &[1], &[0, 1], &[0], &[2], &[1]] {
            assert!(sender.try_send(about(units)).is_ok());
        }
        let mut batches = Vec::new();
        for _ in 0..4 {
            let batch = batcher.next_batch(Pipeline::Idle).await.expect("a batch");
            let shards = batch.iter().map(|it| it.read_set().shard(&shards));
            batches.push(shards.collect::<Vec<_>>());
        }
        let unit = |number: usize| HsaId::from_stored(format!("SE2321000131-P{number}"));
        let [first, second, third] = [0, 1, 2].map(|number| Some(shards.of_unit(&unit(number))));
        assert!(first != second && second != third && first != third);
        let expected = [vec![first; 2], vec![second; 2], vec![None], vec![third]];
        assert_eq!(batches, expected);
    }

    /// Returns the estimated rows of each operation of the next batches.
    async fn batches(batcher: &mut Batcher, count: usize) -> Vec<Vec<usize>> {
        let mut batches = Vec::new();
        for _ in 0..count {
            let batch = batcher.next_batch(Pipeline::Idle).await.expect("a batch");
            batches.push(
                batch
                    .iter()
                    .map(|operation| estimated_rows(&**operation))
                    .collect(),
            );
        }
        batches
    }

    #[tokio::test(start_paused = true)]
    async fn interactive_operations_go_before_bulk_operations_that_wait() {
        let (_sender, mut batcher) = filled(3, 6);
        let expected = [vec![2; 3], vec![256], vec![256]];
        assert_eq!(batches(&mut batcher, 3).await, expected);
        // No more interactive operations have come for a while.
        tokio::time::advance(INTERACTIVE_RECENT).await;
        assert_eq!(batches(&mut batcher, 1).await, [vec![256; 4]]);
    }

    #[tokio::test]
    async fn interactive_and_bulk_operations_take_turns() {
        let (sender, mut batcher) = filled(1, 3);
        for _ in 0..3 {
            assert_eq!(batches(&mut batcher, 2).await, [vec![2], vec![256]]);
            assert!(sender.try_send(naming(1)).is_ok());
        }
        assert_eq!(batches(&mut batcher, 1).await, [vec![2]]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_large_batch_the_next_one_lingers() {
        let (sender, mut batcher) = filled(40, 0);
        assert_eq!(batches(&mut batcher, 1).await, [vec![2; 40]]);
        assert!(sender.try_send(naming(1)).is_ok());
        let later = async {
            tokio::time::sleep(LINGER_MAX / 2).await;
            assert!(sender.try_send(naming(1)).is_ok());
        };
        let (found, ()) = tokio::join!(batches(&mut batcher, 1), later);
        assert_eq!(found, [vec![2; 2]]);
    }

    #[tokio::test]
    async fn no_operation_is_lost_when_the_senders_are_gone() {
        let (sender, mut batcher) = filled(2, 2);
        drop(sender);
        assert_eq!(batches(&mut batcher, 2).await, [vec![2; 2], vec![256]]);
        assert_eq!(batches(&mut batcher, 1).await, [vec![256]]);
        assert!(batcher.next_batch(Pipeline::Idle).await.is_none());
    }
}
