//! What waits to be carried out, and what of it is carried out together.
//!
//! Single interactive and bulk of messages take turns when both wait: whoever books a visit waits for a
//! few messages at the most, however many are due, and no flood of interactive keeps messages waiting.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

use crate::store::commit::operation::Operation;

/// How many operations may wait to be sorted in, and how many when they are, before more are turned away.
const QUEUE_MAX: usize = 16_384;
/// How many rows a operation is meant to touch from which it is a set of messages, not a single call.
const BULK_ROWS_MIN: usize = 16;
/// How many rows a batch is meant to touch at the most; a single operation may touch more.
const BATCH_MAX: usize = 1_024;
/// The same for bulk of messages while single interactive come as well.
const BULK_TURN_ROWS_MAX: usize = 256;
/// For how long after a batch of single interactive more are taken to come.
const INTERACTIVE_RECENT: Duration = Duration::from_millis(100);
/// How many operations a batch has at the least after which the next is waited for.
const LINGER_MIN_BATCH: usize = 16;
/// How long it is waited for at the most: a part of what a commit takes.
const LINGER_MAX: Duration = Duration::from_millis(3);

type Waiting = VecDeque<Box<dyn Operation>>;

/// How it stands with the batch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipeline {
    /// It is being written: meanwhile there is time for whoever may come.
    Busy,
    /// It has ended, or is nobody's concern here.
    Idle,
}

/// What waits to be carried out.
pub struct Batcher {
    arrivals: mpsc::Receiver<Box<dyn Operation>>,
    interactive: Waiting,
    bulk: Waiting,
    /// How many single interactive the last batch of them had.
    last_count: usize,
    /// Whether the last batch was one of single interactive.
    after_interactive: bool,
    /// When there was one last.
    last_interactive_at: Option<Instant>,
}

impl Batcher {
    /// Returns a queue, and where operations are handed in.
    pub fn new() -> (mpsc::Sender<Box<dyn Operation>>, Self) {
        let (sender, arrivals) = mpsc::channel(QUEUE_MAX);
        let queue = Self {
            arrivals,
            interactive: Waiting::new(),
            bulk: Waiting::new(),
            last_count: 0,
            after_interactive: false,
            last_interactive_at: None,
        };
        (sender, queue)
    }

    /// Returns what is to be carried out next. `None` once nothing more will come.
    pub async fn next_batch(&mut self, before: Pipeline) -> Option<Vec<Box<dyn Operation>>> {
        self.drain_arrivals();
        if self.interactive.is_empty() && self.bulk.is_empty() {
            let first = self.arrivals.recv().await?;
            self.enqueue(first);
            self.drain_arrivals();
        }
        let is_turn_of_bulk = self.interactive.is_empty() || self.after_interactive;
        if !self.bulk.is_empty() && is_turn_of_bulk {
            let lately = |at: Instant| at.elapsed() < INTERACTIVE_RECENT;
            let max = match self.last_interactive_at.is_some_and(lately) {
                true => BULK_TURN_ROWS_MAX,
                false => BATCH_MAX,
            };
            self.after_interactive = false;
            return Some(take(&mut self.bulk, max));
        }
        self.linger(before).await;
        self.after_interactive = true;
        self.last_interactive_at = Some(Instant::now());
        let batch = take(&mut self.interactive, BATCH_MAX);
        self.last_count = batch.len();
        Some(batch)
    }

    /// Waits for more single interactive, a little.
    ///
    /// Callers who were answered together come back one after the other. Where their last batch was
    /// a large one the next is waited for: a few large commits do more than many small ones.
    async fn linger(&mut self, before: Pipeline) {
        let expected = match self.last_count {
            0..LINGER_MIN_BATCH => 0,
            last_count => match before {
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

    /// Takes in what has arrived, without waiting.
    fn drain_arrivals(&mut self) {
        while self.interactive.len() + self.bulk.len() < QUEUE_MAX {
            match self.arrivals.try_recv() {
                Ok(operation) => self.enqueue(operation),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn enqueue(&mut self, operation: Box<dyn Operation>) {
        match estimated_rows(&*operation) >= BULK_ROWS_MIN {
            true => self.bulk.push_back(operation),
            false => self.interactive.push_back(operation),
        }
    }
}

fn estimated_rows(operation: &dyn Operation) -> usize {
    operation.read_set().estimated_rows()
}

/// Takes operations from the front, as many as `max` rows allow; one at the least.
fn take(waiting: &mut Waiting, max: usize) -> Vec<Box<dyn Operation>> {
    let mut batch = Vec::new();
    let mut rows = 0;
    while let Some(operation) = waiting.pop_front() {
        rows += estimated_rows(&*operation);
        batch.push(operation);
        if rows >= max {
            break;
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hsa_id::HsaId;
    use crate::domain::request_key::RequestKey;
    use crate::store::commit::operation::operation;
    use crate::store::commit::read_set::ReadSet;

    /// Returns a operation that names so many requests.
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
        let (sender, queue) = Batcher::new();
        for requests in std::iter::repeat_n(255, bulk).chain(std::iter::repeat_n(1, interactive)) {
            assert!(sender.try_send(naming(requests)).is_ok());
        }
        (sender, queue)
    }

    /// Returns the weights of the operations of the next batches.
    async fn batches(queue: &mut Batcher, count: usize) -> Vec<Vec<usize>> {
        let mut batches = Vec::new();
        for _ in 0..count {
            let batch = queue.next_batch(Pipeline::Idle).await.expect("a batch");
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
    async fn calls_go_before_the_sets_that_wait() {
        let (_sender, mut queue) = filled(3, 6);
        let expected = [vec![2; 3], vec![256], vec![256]];
        assert_eq!(batches(&mut queue, 3).await, expected);
        // No more interactive have come for a while.
        tokio::time::advance(INTERACTIVE_RECENT).await;
        assert_eq!(batches(&mut queue, 1).await, [vec![256; 4]]);
    }

    #[tokio::test]
    async fn calls_and_sets_take_turns() {
        let (sender, mut queue) = filled(1, 3);
        for _ in 0..3 {
            assert_eq!(batches(&mut queue, 2).await, [vec![2], vec![256]]);
            assert!(sender.try_send(naming(1)).is_ok());
        }
        assert_eq!(batches(&mut queue, 1).await, [vec![2]]);
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_large_batch_the_next_is_waited_for() {
        let (sender, mut queue) = filled(40, 0);
        assert_eq!(batches(&mut queue, 1).await, [vec![2; 40]]);
        assert!(sender.try_send(naming(1)).is_ok());
        let later = async {
            tokio::time::sleep(LINGER_MAX / 2).await;
            assert!(sender.try_send(naming(1)).is_ok());
        };
        let (found, ()) = tokio::join!(batches(&mut queue, 1), later);
        assert_eq!(found, [vec![2; 2]]);
    }

    #[tokio::test]
    async fn nothing_is_lost_when_nothing_more_comes() {
        let (sender, mut queue) = filled(2, 2);
        drop(sender);
        assert_eq!(batches(&mut queue, 2).await, [vec![2; 2], vec![256]]);
        assert_eq!(batches(&mut queue, 1).await, [vec![256]]);
        assert!(queue.next_batch(Pipeline::Idle).await.is_none());
    }
}
