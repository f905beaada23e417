//! What waits to be carried out, and what of it is carried out together.
//!
//! Single calls and sets of messages take turns when both wait: whoever books a visit waits for a
//! few messages at the most, however many are due, and no flood of calls keeps messages waiting.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::time::Instant;

use super::unit::Unit;

/// How many units may wait to be sorted in, and how many when they are, before more are turned away.
const QUEUE_MAX: usize = 16_384;
/// How many rows a unit is meant to touch from which it is a set of messages, not a single call.
const SET_MIN: usize = 16;
/// How many rows a batch is meant to touch at the most; a single unit may touch more.
const BATCH_MAX: usize = 1_024;
/// The same for sets of messages while single calls come as well.
const TURN_MAX: usize = 256;
/// For how long after a batch of single calls more are taken to come.
const CALLS_LATELY: Duration = Duration::from_millis(100);
/// How many units a batch has at the least after which the next is waited for.
const GATHERED_MIN: usize = 16;
/// How long it is waited for at the most: a part of what a commit takes.
const GATHER_MAX: Duration = Duration::from_millis(3);

type Waiting = VecDeque<Box<dyn Unit>>;

/// How it stands with the batch before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// It is being written: meanwhile there is time for whoever may come.
    UnderWay,
    /// It has ended, or is nobody's concern here.
    Ended,
}

/// What waits to be carried out.
pub struct Queue {
    arrivals: mpsc::Receiver<Box<dyn Unit>>,
    calls: Waiting,
    sets: Waiting,
    /// How many single calls the last batch of them had.
    last_count: usize,
    /// Whether the last batch was one of single calls.
    after_calls: bool,
    /// When there was one last.
    last_calls_at: Option<Instant>,
}

impl Queue {
    /// A queue, and where units are handed in.
    pub fn new() -> (mpsc::Sender<Box<dyn Unit>>, Self) {
        let (sender, arrivals) = mpsc::channel(QUEUE_MAX);
        let queue = Self {
            arrivals,
            calls: Waiting::new(),
            sets: Waiting::new(),
            last_count: 0,
            after_calls: false,
            last_calls_at: None,
        };
        (sender, queue)
    }

    /// What is to be carried out next. `None` once nothing more will come.
    pub async fn next_batch(&mut self, before: Before) -> Option<Vec<Box<dyn Unit>>> {
        self.receive();
        if self.calls.is_empty() && self.sets.is_empty() {
            let first = self.arrivals.recv().await?;
            self.sort_in(first);
            self.receive();
        }
        let is_turn_of_sets = self.calls.is_empty() || self.after_calls;
        if !self.sets.is_empty() && is_turn_of_sets {
            let lately = |at: Instant| at.elapsed() < CALLS_LATELY;
            let max = match self.last_calls_at.is_some_and(lately) {
                true => TURN_MAX,
                false => BATCH_MAX,
            };
            self.after_calls = false;
            return Some(take(&mut self.sets, max));
        }
        self.gather(before).await;
        self.after_calls = true;
        self.last_calls_at = Some(Instant::now());
        let batch = take(&mut self.calls, BATCH_MAX);
        self.last_count = batch.len();
        Some(batch)
    }

    /// Waits for more single calls, a little.
    ///
    /// Callers who were answered together come back one after the other. Where their last batch was
    /// a large one the next is waited for: a few large commits do more than many small ones.
    async fn gather(&mut self, before: Before) {
        let expected = match self.last_count {
            0..GATHERED_MIN => 0,
            last_count => match before {
                Before::UnderWay => BATCH_MAX,
                Before::Ended => last_count * 3 / 4,
            },
        };
        let until = Instant::now() + GATHER_MAX;
        while self.calls.len() < expected {
            match tokio::time::timeout_at(until, self.arrivals.recv()).await {
                Ok(Some(unit)) => self.sort_in(unit),
                Ok(None) | Err(_) => return,
            }
        }
    }

    /// Takes in what has arrived, without waiting.
    fn receive(&mut self) {
        while self.calls.len() + self.sets.len() < QUEUE_MAX {
            match self.arrivals.try_recv() {
                Ok(unit) => self.sort_in(unit),
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => return,
            }
        }
    }

    fn sort_in(&mut self, unit: Box<dyn Unit>) {
        match weight(&*unit) >= SET_MIN {
            true => self.sets.push_back(unit),
            false => self.calls.push_back(unit),
        }
    }
}

fn weight(unit: &dyn Unit) -> usize {
    unit.needs().weight()
}

/// Takes units from the front, as many as `max` rows allow; one at the least.
fn take(waiting: &mut Waiting, max: usize) -> Vec<Box<dyn Unit>> {
    let mut batch = Vec::new();
    let mut rows = 0;
    while let Some(unit) = waiting.pop_front() {
        rows += weight(&*unit);
        batch.push(unit);
        if rows >= max {
            break;
        }
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::booking_request::RequestKey;
    use crate::domain::hsa_id::HsaId;
    use crate::store::unit::{Needs, unit};

    /// A unit that names so many requests.
    fn naming(requests: usize) -> Box<dyn Unit> {
        let key = RequestKey {
            care_unit: HsaId::trusted("SE2321000131-P1".into()),
            id: uuid::Uuid::nil(),
        };
        let needs = Needs {
            requests: vec![key; requests],
            ..Needs::default()
        };
        unit(needs, |_, _| Ok(())).0
    }

    fn filled(calls: usize, sets: usize) -> (mpsc::Sender<Box<dyn Unit>>, Queue) {
        let (sender, queue) = Queue::new();
        for requests in std::iter::repeat_n(255, sets).chain(std::iter::repeat_n(1, calls)) {
            assert!(sender.try_send(naming(requests)).is_ok());
        }
        (sender, queue)
    }

    /// The weights of the units of the next batches.
    async fn batches(queue: &mut Queue, count: usize) -> Vec<Vec<usize>> {
        let mut batches = Vec::new();
        for _ in 0..count {
            let batch = queue.next_batch(Before::Ended).await.expect("a batch");
            batches.push(batch.iter().map(|unit| weight(&**unit)).collect());
        }
        batches
    }

    #[tokio::test(start_paused = true)]
    async fn calls_go_before_the_sets_that_wait() {
        let (_sender, mut queue) = filled(3, 6);
        let expected = [vec![2; 3], vec![256], vec![256]];
        assert_eq!(batches(&mut queue, 3).await, expected);
        // No more calls have come for a while.
        tokio::time::advance(CALLS_LATELY).await;
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
            tokio::time::sleep(GATHER_MAX / 2).await;
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
        assert!(queue.next_batch(Before::Ended).await.is_none());
    }
}
