//! The writer of the access log: one task for each process, which gathers the entries of concurrent calls into groups.
//!
//! Calls go before messages of streams: a caller waits for two groups at the most, however many messages are due at once.
//! Some messages go with each group, however many calls there are.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::DatabaseConnection;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};
use uuid::Uuid;

use crate::domain::access::{Access, ChainHead};
use crate::store::access_log::chain::{Group, Head};
use crate::store::access_log::query::add_patients;
use crate::store::commit::queue::CommitQueue;
use crate::store::commit::read_set::ReadSet;
use crate::store::database::connection::Timeouts;
use crate::store::error::Error;
use crate::store::metrics::StoreMetrics;

/// Maximum calls, and maximum messages of streams, whose entries wait for a group.
const WAITING_MAX: usize = 4_096;
/// Maximum patients of a group; one call alone may have more.
const GROUP_MAX: usize = 2_048;
/// Patients of messages for which there is room in any group.
const MESSAGES_MIN: usize = 256;
/// Maximum entries that could not be stored and are kept for another attempt.
const UNSTORED_MAX: usize = 10_000;
/// Interval of those attempts while no other entries come.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// Interval at which the head of the chain is logged, if it has moved.
const HEAD_INTERVAL: Duration = Duration::from_secs(60);
/// Status code UNAVAILABLE, with which calls are answered whose entries could not be stored.
const UNAVAILABLE: i32 = 14;

/// Entries of a call, and where to respond when somebody waits.
struct Arrival {
    accesses: Vec<Access>,
    reply: Option<oneshot::Sender<Result<(), Error>>>,
    /// True if they are not kept when they cannot be stored, since the caller comes again with them or shows nothing.
    comes_again: bool,
}

impl Arrival {
    /// Returns true if somebody has waited for it, and does not any more.
    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_some_and(oneshot::Sender::is_closed)
    }
}

/// The queue of the writer.
#[derive(Clone)]
pub struct AccessLogQueue {
    calls: mpsc::Sender<Arrival>,
    messages: mpsc::Sender<Arrival>,
    timeouts: Timeouts,
    metrics: StoreMetrics,
}

impl AccessLogQueue {
    /// Hands over entries of a call, and waits until they are durable. Those that cannot be stored are kept for later, and
    /// those that find no room are lost.
    pub async fn log(&self, accesses: Vec<Access>) -> Result<(), Error> {
        self.hand_over(accesses, false, self.timeouts.caller).await
    }

    /// Hands over entries of a message of a stream, and waits until they are durable. Those that cannot be stored are not
    /// kept.
    pub async fn log_message(&self, accesses: Vec<Access>) -> Result<(), Error> {
        self.hand_over(accesses, true, self.timeouts.work).await
    }

    /// Returns the number of calls and messages whose entries wait for a group.
    pub fn waiting(&self) -> usize {
        let lanes = [&self.calls, &self.messages].into_iter();
        lanes.map(|it| it.max_capacity() - it.capacity()).sum()
    }

    /// Hands over entries for which nobody waits. Those that find no room are lost.
    pub fn log_later(&self, accesses: Vec<Access>) {
        // The log has told what is lost, and nobody waits for more.
        let _ = self.enter(Arrival {
            accesses,
            reply: None,
            comes_again: false,
        });
    }

    /// Hands over entries, and waits for at most `wait_max` until they are durable.
    async fn hand_over(
        &self,
        accesses: Vec<Access>,
        comes_again: bool,
        wait_max: Duration,
    ) -> Result<(), Error> {
        let (reply, stored) = oneshot::channel();
        self.enter(Arrival {
            accesses,
            reply: Some(reply),
            comes_again,
        })?;
        match tokio::time::timeout(wait_max, stored).await {
            Ok(Ok(stored)) => stored,
            Ok(Err(_)) => Err(Error::internal("the writer of the access log has ended")),
            Err(_) => Err(Error::timed_out()),
        }
    }

    /// Puts entries into their lane. Those that find no room, and do not come again, are counted as lost.
    fn enter(&self, arrival: Arrival) -> Result<(), Error> {
        let lane = match arrival.comes_again {
            true => &self.messages,
            false => &self.calls,
        };
        let Err(refused) = lane.try_send(arrival) else {
            return Ok(());
        };
        let arrival = refused.into_inner();
        if !arrival.comes_again {
            note_lost(&self.metrics, arrival.accesses.len());
        }
        Err(Error::unavailable("the access log has no room"))
    }
}

/// Starts the writer over the queue of the committer, and returns the queue to it with its task, which ends when the last
/// handle of the queue is dropped.
pub fn start(
    queue: CommitQueue,
    readers: DatabaseConnection,
    replica: Option<Uuid>,
    timeouts: Timeouts,
    wal_grown: Arc<Notify>,
    metrics: StoreMetrics,
) -> (AccessLogQueue, JoinHandle<()>) {
    let (calls, of_calls) = mpsc::channel(WAITING_MAX);
    let (messages, of_messages) = mpsc::channel(WAITING_MAX);
    let writer = Writer {
        arrivals: Arrivals {
            calls: of_calls,
            messages: of_messages,
        },
        queue,
        readers,
        // The chain of a new replica has no rows; that of a file goes on.
        head: replica.map(Head::without_rows),
        unstored: Vec::new(),
        wal_grown,
        shown: 0,
        metrics: metrics.clone(),
    };
    let task = tokio::spawn(writer.run());
    let queue = AccessLogQueue {
        calls,
        messages,
        timeouts,
        metrics,
    };
    (queue, task)
}

/// Entries that wait for a group: those of calls come before those of messages of streams.
struct Arrivals {
    calls: mpsc::Receiver<Arrival>,
    messages: mpsc::Receiver<Arrival>,
}

impl Arrivals {
    /// Waits for the next one; `None` once the last handle of the queue is dropped.
    async fn next(&mut self) -> Option<Arrival> {
        tokio::select! {
            biased;
            Some(call) = self.calls.recv() => Some(call),
            Some(message) = self.messages.recv() => Some(message),
            else => None,
        }
    }

    /// Adds those that wait to the first of a group.
    fn gather(&mut self, first: Arrival) -> Gathered {
        let mut group = Gathered::default();
        group.add(first);
        while group.patients < GROUP_MAX
            && let Ok(call) = self.calls.try_recv()
        {
            group.add(call);
        }
        let max = GROUP_MAX.max(group.patients + MESSAGES_MIN);
        while group.patients < max
            && let Ok(message) = self.messages.try_recv()
        {
            group.add(message);
        }
        group
    }
}

/// Entries of a group, and where to respond.
#[derive(Default)]
struct Gathered {
    /// Entries that are kept when they cannot be stored.
    kept: Vec<Access>,
    /// Entries that are not.
    attempted: Vec<Access>,
    replies: Vec<oneshot::Sender<Result<(), Error>>>,
    patients: usize,
}

impl Gathered {
    fn add(&mut self, mut arrival: Arrival) {
        if arrival.is_abandoned() {
            if arrival.comes_again {
                return;
            }
            mark_unavailable(&mut arrival.accesses);
        }
        self.patients += arrival.accesses.iter().map(patients_of).sum::<usize>();
        match arrival.comes_again {
            true => self.attempted.extend(arrival.accesses),
            false => self.kept.extend(arrival.accesses),
        }
        self.replies.extend(arrival.reply);
    }
}

struct Writer {
    arrivals: Arrivals,
    queue: CommitQueue,
    readers: DatabaseConnection,
    /// Head of the chain; none before it was read.
    head: Option<Head>,
    /// Entries that could not be stored.
    unstored: Vec<Access>,
    wal_grown: Arc<Notify>,
    /// Number of the row that was logged last as the head.
    shown: i64,
    metrics: StoreMetrics,
}

impl Writer {
    async fn run(mut self) {
        let mut heads = interval(HEAD_INTERVAL);
        let mut retries = interval(RETRY_INTERVAL);
        for ticks in [&mut heads, &mut retries] {
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        }
        loop {
            tokio::select! {
                arrival = self.arrivals.next() => match arrival {
                    Some(first) => self.write(first).await,
                    None => break,
                },
                _ = retries.tick(), if !self.unstored.is_empty() => self.write_unstored().await,
                _ = heads.tick() => self.show_head(),
            }
        }
        self.write_unstored().await;
        note_lost(&self.metrics, self.unstored.len());
        self.show_head();
    }

    /// Writes the entries of a call or a message together with those that wait.
    async fn write(&mut self, first: Arrival) {
        let Gathered {
            kept,
            attempted,
            replies,
            ..
        } = self.arrivals.gather(first);
        if kept.is_empty() && attempted.is_empty() {
            return;
        }
        let stored = self.store(kept, attempted).await;
        for reply in replies {
            // The caller may have gone.
            let _ = reply.send(stored.clone());
        }
    }

    async fn write_unstored(&mut self) {
        if !self.unstored.is_empty() {
            // Those that fail again are kept again.
            let _ = self.store(Vec::new(), Vec::new()).await;
        }
    }

    /// Stores entries, after those that could not be stored before. If that fails they are all kept but those `attempted`.
    async fn store(&mut self, kept: Vec<Access>, attempted: Vec<Access>) -> Result<(), Error> {
        let mut all = std::mem::take(&mut self.unstored);
        all.extend(kept);
        let kept = all.len();
        all.extend(attempted);
        let stored = self.commit(&mut all).await;
        if stored.is_err() {
            all.truncate(kept);
            mark_unavailable(&mut all);
            note_lost(&self.metrics, all.len().saturating_sub(UNSTORED_MAX));
            all.truncate(UNSTORED_MAX);
            self.unstored = all;
        }
        self.metrics.note_unstored_entries(self.unstored.len());
        stored
    }

    /// Commits entries as one operation. When it is not known that they were committed, they may be at any time later: the
    /// entries after them begin a chain of their own, so that no two have the same place.
    async fn commit(&mut self, accesses: &mut [Access]) -> Result<(), Error> {
        add_patients(&self.readers, accesses).await?;
        let mut head = match self.head {
            Some(head) => head,
            None => self.read_head().await?,
        };
        let mut group = Group::default();
        for access in accesses.iter() {
            group.append(&mut head, access);
        }
        let group = Arc::new(group);
        let read_set = ReadSet {
            tolerates_clock_fault: true,
            ..ReadSet::default()
        };
        let decide = move |work: &mut crate::store::commit::unit_of_work::UnitOfWork, _: &_| {
            work.access_log.add(group.clone());
            Ok(())
        };
        let committed = self.queue.submit(read_set, decide).await;
        match &committed {
            Ok(()) => {
                self.head = Some(head);
                self.wal_grown.notify_one();
            }
            Err(Error::Contention | Error::Overloaded) => {}
            Err(_) => {
                self.show_head();
                self.head = Some(head.of_next_chain());
                self.shown = 0;
            }
        }
        committed
    }

    /// Reads the head of the chain that goes on.
    async fn read_head(&mut self) -> Result<Head, Error> {
        let last = Head::last(&self.readers).await?;
        let head = last.unwrap_or(Head::without_rows(Uuid::nil()));
        Ok(*self.head.insert(head))
    }

    /// Logs the head of the chain if it has moved, to compare the chain with later.
    fn show_head(&mut self) {
        let Some(head) = self.head.filter(|it| it.sequence != self.shown) else {
            return;
        };
        self.shown = head.sequence;
        let head = ChainHead {
            chain: head.chain,
            sequence: head.sequence,
            hash: head.hash,
        };
        tracing::info!(head = %head, "access log");
    }
}

fn patients_of(access: &Access) -> usize {
    access.concerns.concerned.len()
}

/// Notes what the callers are told, unless they were told something else before.
fn mark_unavailable(accesses: &mut [Access]) {
    for access in accesses {
        if access.concerns.outcome == 0 {
            access.concerns.outcome = UNAVAILABLE;
        }
    }
}

fn note_lost(metrics: &StoreMetrics, count: usize) {
    if count > 0 {
        metrics.count_lost_entries(count);
        tracing::error!(count, "entries of the access log are lost");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::access::{Concerned, Concerns};
    use crate::domain::calendar::Instant;
    use crate::store::database::connection::POSTGRES_TIMEOUTS;

    fn arrival(comes_again: bool) -> (Arrival, oneshot::Receiver<Result<(), Error>>) {
        let (reply, stored) = oneshot::channel();
        let access = Access {
            at: Instant::UNIX_EPOCH,
            subject: "s".to_owned(),
            actor: None,
            method: "m".to_owned(),
            trace_id: None,
            concerns: Concerns {
                care_unit: None,
                outcome: 0,
                concerned: vec![Concerned {
                    patient: None,
                    requests: Vec::new(),
                }],
            },
        };
        let arrival = Arrival {
            accesses: vec![access],
            reply: Some(reply),
            comes_again,
        };
        (arrival, stored)
    }

    /// Returns how many calls and messages are in the next group, of so many that wait.
    async fn next_group(calls: usize, messages: usize) -> (usize, usize) {
        let (call_sender, of_calls) = mpsc::channel(WAITING_MAX);
        let (message_sender, of_messages) = mpsc::channel(WAITING_MAX);
        let mut arrivals = Arrivals {
            calls: of_calls,
            messages: of_messages,
        };
        let mut waiting = Vec::new();
        for (lane, count, comes_again) in [
            (&message_sender, messages, true),
            (&call_sender, calls, false),
        ] {
            for _ in 0..count {
                let (arrival, stored) = arrival(comes_again);
                assert!(lane.try_send(arrival).is_ok());
                waiting.push(stored);
            }
        }
        drop((call_sender, message_sender));
        let first = arrivals.next().await.expect("one that waits");
        let group = arrivals.gather(first);
        assert_eq!(group.replies.len(), group.patients);
        (group.kept.len(), group.attempted.len())
    }

    #[tokio::test]
    async fn calls_go_before_messages_and_some_messages_with_every_group() {
        for (waiting, expected) in [
            ((0, 1), (0, 1)),
            ((1, 0), (1, 0)),
            ((1_000, 3_000), (1_000, 1_048)),
            ((3_000, 3_000), (2_048, 256)),
            ((3_000, 10), (2_048, 10)),
        ] {
            assert_eq!(
                next_group(waiting.0, waiting.1).await,
                expected,
                "{waiting:?}"
            );
        }
    }

    #[tokio::test]
    async fn none_is_lost_when_the_queue_is_dropped() {
        let (calls, of_calls) = mpsc::channel(WAITING_MAX);
        let (messages, of_messages) = mpsc::channel(WAITING_MAX);
        let mut arrivals = Arrivals {
            calls: of_calls,
            messages: of_messages,
        };
        for (lane, comes_again) in [(&messages, true), (&calls, false)] {
            assert!(lane.try_send(arrival(comes_again).0).is_ok());
        }
        drop((calls, messages));
        assert!(arrivals.next().await.is_some_and(|it| !it.comes_again));
        assert!(arrivals.next().await.is_some_and(|it| it.comes_again));
        assert!(arrivals.next().await.is_none());
    }

    #[tokio::test]
    async fn entries_that_find_no_room_are_counted_as_lost_unless_they_come_again() {
        let ((calls, _of_calls), (messages, _of_messages)) = (mpsc::channel(1), mpsc::channel(1));
        let queue = AccessLogQueue {
            calls,
            messages,
            timeouts: POSTGRES_TIMEOUTS,
            metrics: StoreMetrics::default(),
        };
        let entries = || arrival(false).0.accesses;
        let lost = || queue.metrics.lost_entries();
        queue.log_later(entries());
        assert_eq!(lost(), 0, "there was room for one");
        let refused = queue.log(entries()).await;
        assert!(refused.is_err_and(|it| it.is_temporary()));
        assert_eq!(lost(), 1);
        queue.log_later(entries());
        assert_eq!(lost(), 2);
        let (message, _stored) = arrival(true);
        assert!(queue.enter(message).is_ok());
        let refused = queue.log_message(entries()).await;
        assert!(refused.is_err_and(|it| it.is_temporary()));
        assert_eq!(lost(), 2, "the stream comes again with it");
    }

    #[tokio::test]
    async fn what_nobody_waits_for_any_more_comes_again_or_has_the_code_of_its_answer() {
        for comes_again in [true, false] {
            let outcomes = |arrival: Arrival| {
                let mut group = Gathered::default();
                group.add(arrival);
                let all = group.kept.into_iter().chain(group.attempted);
                all.map(|it| it.concerns.outcome).collect::<Vec<_>>()
            };
            let (waited_for, _stored) = arrival(comes_again);
            assert_eq!(outcomes(waited_for), [0]);
            let (abandoned, stored) = arrival(comes_again);
            drop(stored);
            let abandoned = outcomes(abandoned);
            match comes_again {
                true => assert!(abandoned.is_empty()),
                false => assert_eq!(abandoned, [UNAVAILABLE]),
            }
        }
    }
}
