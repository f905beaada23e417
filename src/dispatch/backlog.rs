//! The events that a task has emitted and its reader has not taken yet, bounded in bytes: for each
//! reader, and for all of them together.
//!
//! A stream whose reader takes nothing is not polled either, for the transport asks for more only when
//! its peer has room. So nothing here waits for a poll: the task that cuts a reader off frees the events
//! that wait for it at once. tokio's channels are bounded in messages, and only their reader can empty
//! them.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_stream::Stream;

use super::StreamEnd;
use crate::store::error::Error;

/// Maximum bytes that wait for one reader; a single event may be larger than that.
const READER_BYTES_MAX: usize = 256 * 1_024;
/// Maximum bytes that wait for all readers. Beyond it, each has one event at a time.
const ALL_BYTES_MAX: usize = 32 * 1_024 * 1_024;

/// Time in which the reader of a full backlog must take one more event; a slower one is cut off.
const READ_TIMEOUT: Duration = Duration::from_secs(5);

/// Reason for which the task behind a stream ends; `None` when its reader has gone, or has everything.
pub struct TaskEnd(pub Option<StreamEnd>);

impl From<Error> for TaskEnd {
    fn from(error: Error) -> Self {
        Self(Some(error.into()))
    }
}

/// The bytes that wait for all readers, or are reserved. Cloning gives another handle to the same.
#[derive(Clone, Debug, Default)]
pub struct TotalBytes(Arc<AtomicUsize>);

impl TotalBytes {
    /// Reserves the wanted bytes, or as many of them as are free.
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

    fn subtract(&self, bytes: usize) {
        self.0.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Room for events to emit: bytes that are reserved until it is dropped, while the events are read.
#[derive(Debug)]
pub struct Room {
    bytes: usize,
    total: TotalBytes,
}

impl Room {
    /// Returns the number of events of this size that fit: one at least.
    pub fn events(&self, bytes: usize) -> usize {
        (self.bytes / bytes.max(1)).max(1)
    }

    /// Returns whether events of so many bytes in all leave no room for another one.
    pub fn is_used_up(&self, emitted: usize) -> bool {
        emitted > 0 && self.bytes <= emitted
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.total.subtract(self.bytes);
    }
}

/// The end of a backlog at which a task emits events.
pub struct EventSender<T>(Arc<Shared<T>>);

/// The events of a task as a stream, followed by the reason of its end where it has one.
pub struct EventStream<T>(Arc<Shared<T>>);

struct Shared<T> {
    state: Mutex<State<T>>,
    total: TotalBytes,
    /// Notified when the reader has taken an event, or has gone.
    taken: Notify,
}

struct State<T> {
    unread: VecDeque<(T, usize)>,
    bytes: usize,
    waiting: Option<Waker>,
    reader_has_gone: bool,
    ended: bool,
    /// Reason of the end, until the reader has taken it.
    end: Option<StreamEnd>,
}

/// Returns both ends of an empty backlog, whose bytes count in the total.
pub fn backlog<T>(total: &TotalBytes) -> (EventSender<T>, EventStream<T>) {
    let shared = Arc::new(Shared {
        state: Mutex::new(State {
            unread: VecDeque::new(),
            bytes: 0,
            waiting: None,
            reader_has_gone: false,
            ended: false,
            end: None,
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

    /// Takes all unread events out.
    fn clear(&self, state: &mut State<T>) -> VecDeque<(T, usize)> {
        self.total.subtract(state.bytes);
        state.bytes = 0;
        std::mem::take(&mut state.unread)
    }
}

impl<T> EventSender<T> {
    /// Reserves the free room; none while it is less than half of the bytes for one reader. There is room
    /// for one event in any case when the reader has taken everything.
    pub fn room(&self) -> Option<Room> {
        let state = self.0.state();
        let room = READER_BYTES_MAX.saturating_sub(state.bytes);
        let room = self.0.total.reserve(room);
        let is_enough = state.unread.is_empty() || READER_BYTES_MAX / 2 <= room.bytes;
        drop(state);
        is_enough.then_some(room)
    }

    /// Waits for room, for as long as the reader goes on reading.
    pub async fn wait_for_room(&self) -> Result<Room, TaskEnd> {
        loop {
            if self.is_closed() {
                return Err(TaskEnd(None));
            }
            if let Some(room) = self.room() {
                return Ok(room);
            }
            let taken = tokio::time::timeout(READ_TIMEOUT, self.taken()).await;
            taken.map_err(|_| TaskEnd(Some(StreamEnd::TooSlow)))?;
        }
    }

    /// Returns whether another event of about so many bytes stays within the bytes for one reader. The first
    /// one always does.
    pub fn has_room_for(&self, bytes: usize) -> bool {
        let state = self.0.state();
        state.unread.is_empty() || state.bytes + bytes <= READER_BYTES_MAX
    }

    /// Emits an event of about so many bytes. Returns false when the reader has gone.
    pub fn emit(&self, event: T, bytes: usize) -> bool {
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

    /// Waits until the reader has taken an event, or has gone.
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

    /// Ends the stream after its unread events. One whose reader is too slow ends at once, and its unread
    /// events are dropped.
    pub fn end(self, end: Option<StreamEnd>) {
        let mut state = self.0.state();
        let is_slow = matches!(end, Some(StreamEnd::TooSlow));
        state.end = end;
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
    /// Closes the stream and returns its unread events.
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
            self.0.total.subtract(bytes);
            self.0.taken.notify_one();
            return Poll::Ready(Some(Ok(event)));
        }
        if state.ended {
            return Poll::Ready(state.end.take().map(Err));
        }
        state.waiting = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_stream::StreamExt;

    fn free(total: &TotalBytes) -> usize {
        ALL_BYTES_MAX - total.0.load(Ordering::Relaxed)
    }

    fn room<T>(sender: &EventSender<T>) -> Option<usize> {
        sender.room().map(|room| room.bytes)
    }

    #[tokio::test]
    async fn there_is_room_up_to_a_bound_and_for_one_event_in_any_case() {
        let total = TotalBytes::default();
        let (sender, mut stream) = backlog(&total);
        assert_eq!(room(&sender), Some(READER_BYTES_MAX));
        assert!(sender.emit("large", 2 * READER_BYTES_MAX));
        assert_eq!(room(&sender), None);
        assert!(matches!(stream.next().await, Some(Ok("large"))));
        assert_eq!(room(&sender), Some(READER_BYTES_MAX));

        // Others have filled what there is for all.
        let (others, unread) = backlog(&total);
        assert!(others.emit("much", ALL_BYTES_MAX));
        assert_eq!(sender.room().expect("for one").events(100), 1);
        assert!(sender.emit("one", 1));
        assert_eq!(room(&sender), None);
        assert!(matches!(stream.next().await, Some(Ok("one"))));
        assert_eq!(sender.room().expect("for one").events(100), 1);
        drop(unread);
        assert_eq!(room(&sender), Some(READER_BYTES_MAX));
    }

    #[tokio::test]
    async fn what_is_reserved_is_not_to_be_had_by_others() {
        let total = TotalBytes::default();
        let (sender, _stream) = backlog::<()>(&total);
        let room = sender.room().expect("room");
        assert_eq!(room.events(1_024), READER_BYTES_MAX / 1_024);
        assert_eq!(free(&total), ALL_BYTES_MAX - READER_BYTES_MAX);
        drop(room);
        assert_eq!(free(&total), ALL_BYTES_MAX);
    }

    #[tokio::test]
    async fn a_reader_that_is_too_slow_is_told_so_before_what_it_has_not_read() {
        let total = TotalBytes::default();
        let (sender, mut stream) = backlog(&total);
        sender.emit("unread", 100);
        sender.end(Some(StreamEnd::TooSlow));
        // Though nobody has polled it.
        assert_eq!(free(&total), ALL_BYTES_MAX);
        let end = stream.next().await.expect("an end");
        assert!(matches!(end, Err(StreamEnd::TooSlow)));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn other_ends_come_after_what_is_unread() {
        let (sender, mut stream) = backlog(&TotalBytes::default());
        sender.emit("unread", 100);
        sender.end(Some(StreamEnd::Draining));
        assert!(matches!(stream.next().await, Some(Ok("unread"))));
        assert!(matches!(
            stream.next().await,
            Some(Err(StreamEnd::Draining))
        ));
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn a_reader_that_goes_leaves_nothing_behind() {
        let total = TotalBytes::default();
        let (sender, stream) = backlog(&total);
        sender.emit("unread", 100);
        drop(stream);
        sender.closed().await;
        assert!(!sender.emit("late", 100));
        assert_eq!(free(&total), ALL_BYTES_MAX);
    }
}
