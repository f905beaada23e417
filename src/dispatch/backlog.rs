//! What a task has told its reader and the reader has not taken yet, bounded in bytes: for each
//! reader, and for all of them together.
//!
//! A reader that takes nothing is not polled either, for the transport asks for more only when its
//! peer has room. So nothing here waits for that: the task that cuts a reader off frees what waits
//! for it there and then.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use tokio::sync::Notify;
use tokio_stream::Stream;

use super::StreamEnd;

/// Maximum bytes that wait for one reader; a single event may be larger.
const READER_BYTES_MAX: usize = 256 * 1_024;
/// Maximum bytes that wait for all readers. Beyond it, each has one event at a time.
const ALL_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// The bytes that wait for all readers, or are about to.
#[derive(Clone, Debug, Default)]
pub struct Total(Arc<AtomicUsize>);

impl Total {
    /// Reserves so many bytes, or as many as there are.
    fn reserve(&self, wanted: usize) -> Room {
        let fitting = |used| wanted.min(ALL_BYTES_MAX.saturating_sub(used));
        let add = |used| Some(used + fitting(used));
        let used = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
        Room {
            bytes: used.map_or(0, fitting),
            total: self.clone(),
        }
    }

    fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    fn give_back(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Bytes that may be told. They are reserved until it is dropped, while what is to be told is read.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    total: Total,
}

impl Room {
    /// Returns how many events of this size may be told: one at the least.
    pub fn events(&self, bytes: usize) -> usize {
        (self.bytes / bytes.max(1)).max(1)
    }

    /// Returns whether so many bytes are all that may be told.
    pub fn is_used_up(&self, told: usize) -> bool {
        told > 0 && self.bytes <= told
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.total.give_back(self.bytes);
    }
}

/// The end of a backlog at which a task tells.
pub struct EventSender<T>(Arc<Shared<T>>);

/// The events of a task as a stream; in the end why it has ended, if it says so.
pub struct EventStream<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    total: Total,
    /// Rings when the reader has taken something, or has gone.
    taken: Notify,
}

struct State<T> {
    unread: VecDeque<(T, usize)>,
    bytes: usize,
    waiting: Option<Waker>,
    reader_has_gone: bool,
    ended: bool,
    /// The reason, until it is told.
    stopped: Option<StreamEnd>,
}

/// Returns a backlog with nothing in it, as part of the total.
pub fn backlog<T>(total: &Total) -> (EventSender<T>, EventStream<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            unread: VecDeque::new(),
            bytes: 0,
            waiting: None,
            reader_has_gone: false,
            ended: false,
            stopped: None,
        }),
        total: total.clone(),
        taken: Notify::new(),
    });
    (EventSender(Arc::clone(&shared)), EventStream(shared))
}

impl<T> Shared<T> {
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything out.
    fn clear(&self, state: &mut State<T>) -> VecDeque<(T, usize)> {
        self.total.give_back(state.bytes);
        state.bytes = 0;
        std::mem::take(&mut state.unread)
    }
}

impl<T> EventSender<T> {
    /// Returns the room that there is; none while it is less than half of what a reader may have. A reader
    /// that has taken everything may be told one event in any case.
    pub fn room(&self) -> Option<Room> {
        let state = self.0.state();
        let room = READER_BYTES_MAX.saturating_sub(state.bytes);
        let room = self.0.total.reserve(room);
        let is_enough = state.unread.is_empty() || READER_BYTES_MAX / 2 <= room.bytes;
        drop(state);
        is_enough.then_some(room)
    }

    /// Returns whether an event of about so many bytes stays within what a reader may have. The first always does.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let state = self.0.state();
        state.unread.is_empty() || state.bytes + bytes <= READER_BYTES_MAX
    }

    /// Tells an event of about so many bytes. Returns false when the reader has gone.
    pub fn tell(&self, event: T, bytes: usize) -> bool {
        let mut state = self.0.state();
        if state.reader_has_gone {
            return false;
        }
        state.unread.push_back((event, bytes));
        state.bytes += bytes;
        self.0.total.add(bytes);
        wake(state);
        true
    }

    /// Waits until the reader has taken something, or has gone.
    pub async fn taken(&self) {
        self.0.taken.notified().await;
    }

    /// Returns whether the reader has gone.
    pub fn is_closed(&self) -> bool {
        self.0.state().reader_has_gone
    }

    /// Waits until the reader has gone.
    pub async fn closed(&self) {
        while !self.is_closed() {
            self.taken().await;
        }
    }

    /// Ends the stream, after what is unread. A reader that is too slow is told so at once, and what
    /// it has not read is dropped.
    pub fn end(self, stopped: Option<StreamEnd>) {
        let mut state = self.0.state();
        let is_slow = matches!(stopped, Some(StreamEnd::TooSlow));
        state.stopped = stopped;
        let dropped = is_slow.then(|| self.0.clear(&mut state));
        drop(state);
        drop(dropped);
    }
}

impl<T> Drop for EventSender<T> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        wake(state);
    }
}

fn wake<T>(mut state: MutexGuard<'_, State<T>>) {
    let waiting = state.waiting.take();
    drop(state);
    if let Some(waiting) = waiting {
        waiting.wake();
    }
}

impl<T> EventStream<T> {
    /// Takes what is unread, for there will be no more reading.
    pub fn close(&self) -> impl Iterator<Item = T> + use<T> {
        let mut state = self.0.state();
        state.reader_has_gone = true;
        let unread = self.0.clear(&mut state);
        drop(state);
        self.0.taken.notify_one();
        unread.into_iter().map(|(event, _)| event)
    }
}

impl<T> Drop for EventStream<T> {
    fn drop(&mut self) {
        self.close().for_each(drop);
    }
}

impl<T> Stream for EventStream<T> {
    type Item = Result<T, StreamEnd>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut state = self.0.state();
        if let Some((event, bytes)) = state.unread.pop_front() {
            state.bytes -= bytes;
            drop(state);
            self.0.total.give_back(bytes);
            self.0.taken.notify_one();
            return Poll::Ready(Some(Ok(event)));
        }
        if state.ended {
            return Poll::Ready(state.stopped.take().map(Err));
        }
        state.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    fn left(total: &Total) -> usize {
        ALL_BYTES_MAX - total.0.load(Ordering::Relaxed)
    }

    fn room<T>(sender: &EventSender<T>) -> Option<usize> {
        sender.room().map(|room| room.bytes)
    }

    #[tokio::test]
    async fn there_is_room_up_to_a_bound_and_for_one_event_in_any_case() {
        let total = Total::default();
        let (sender, mut told) = backlog(&total);
        assert_eq!(room(&sender), Some(READER_BYTES_MAX));
        assert!(sender.tell("large", 2 * READER_BYTES_MAX));
        assert_eq!(room(&sender), None);
        assert!(matches!(told.next().await, Some(Ok("large"))));
        assert_eq!(room(&sender), Some(READER_BYTES_MAX));

        // Others have filled what there is for all.
        let (others, unread) = backlog(&total);
        assert!(others.tell("much", ALL_BYTES_MAX));
        assert_eq!(sender.room().expect("for one").events(100), 1);
        assert!(sender.tell("one", 1));
        assert_eq!(room(&sender), None);
        assert!(matches!(told.next().await, Some(Ok("one"))));
        assert_eq!(sender.room().expect("for one").events(100), 1);
        drop(unread);
        assert_eq!(room(&sender), Some(READER_BYTES_MAX));
    }

    #[tokio::test]
    async fn what_is_reserved_is_not_to_be_had_by_others() {
        let total = Total::default();
        let (sender, _told) = backlog::<()>(&total);
        let room = sender.room().expect("room");
        assert_eq!(room.events(1_024), READER_BYTES_MAX / 1_024);
        assert_eq!(left(&total), ALL_BYTES_MAX - READER_BYTES_MAX);
        drop(room);
        assert_eq!(left(&total), ALL_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_so_before_what_it_has_not_read() {
        let total = Total::default();
        let (sender, mut told) = backlog(&total);
        sender.tell("unread", 100);
        sender.end(Some(StreamEnd::TooSlow));
        // Though nobody has polled it.
        assert_eq!(left(&total), ALL_BYTES_MAX);
        let end = told.next().await.expect("an end");
        assert!(matches!(end, Err(StreamEnd::TooSlow)));
        assert!(told.next().await.is_none());
    }

    #[tokio::test]
    async fn other_ends_come_after_what_is_unread() {
        let (sender, mut told) = backlog(&Total::default());
        sender.tell("unread", 100);
        sender.end(Some(StreamEnd::Draining));
        assert!(matches!(told.next().await, Some(Ok("unread"))));
        assert!(matches!(told.next().await, Some(Err(StreamEnd::Draining))));
        assert!(told.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_goes_leaves_nothing_behind() {
        let total = Total::default();
        let (sender, told) = backlog(&total);
        sender.tell("unread", 100);
        drop(told);
        sender.closed().await;
        assert!(!sender.tell("late", 100));
        assert_eq!(left(&total), ALL_BYTES_MAX);
    }
}
