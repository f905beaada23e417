//! One watcher of a worklist: the list as it stands, then what commits and time change in it.
//!
//! A commit names the requests that it changed and the watcher holds those of its units against
//! its query. What time changes is slept for: the store says when it will next move a request.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::time::Instant as Moment;

use super::backlog::{EventSender, Room};
use super::shared::bytes_of;
use super::{Dispatch, STORE_PAUSE, StreamEnd, WatchEvent, sleep_until};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::{Cursor, Query};
use crate::store::change_event::ChangeEvent;
use crate::store::error::Error;

/// How long a watcher with a full backlog may take to read one event more, before it is cut off.
const BEHIND_MAX: Duration = Duration::from_secs(5);
/// How long a watcher hears nothing at the most.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Maximum requests that are read at once.
const PAGE_MAX: usize = 500;
/// About the bytes of a request, before some are known.
const RECORD_BYTES: usize = 8 * 1_024;
/// About the bytes of an event without a request.
const EVENT_BYTES: usize = 128;

/// Why a watcher's task is to end; `None` when its consumer has gone.
struct TaskEnd(Option<StreamEnd>);

/// What tells one watcher.
pub struct Watcher {
    dispatch: Dispatch,
    query: Query,
    events: EventSender<WatchEvent>,
    commits: broadcast::Receiver<Arc<ChangeEvent>>,
    members: HashSet<RequestKey>,
    quiet_since: Moment,
    /// The bytes of the largest request of the last page of a snapshot.
    record_bytes: usize,
    /// Up to when what time changes has been told.
    told_until: Instant,
    /// When time will next change something.
    next_transition_at: Option<Instant>,
}

/// The sizes of requests that were told.
#[derive(Default)]
struct Sizes {
    sum: usize,
    largest: Option<usize>,
}

impl Sizes {
    fn add(&mut self, bytes: usize) {
        self.sum += bytes;
        self.largest = self.largest.max(Some(bytes));
    }
}

/// What a watcher is woken by.
enum Wake {
    Commit(Result<Arc<ChangeEvent>, RecvError>),
    Time,
    Quiet,
}

impl Watcher {
    /// Returns a watcher that has been told nothing yet.
    pub fn new(dispatch: Dispatch, query: Query, events: EventSender<WatchEvent>) -> Self {
        Self {
            commits: dispatch.store.commits(),
            told_until: dispatch.clock.now(),
            dispatch,
            query,
            events,
            members: HashSet::new(),
            quiet_since: Moment::now(),
            record_bytes: RECORD_BYTES,
            next_transition_at: None,
        }
    }

    /// Tells the watcher until it goes, falls behind, the clock is no longer from_stored, or the server
    /// drains: what a wrong clock has moved would not move back. In the end says why.
    pub async fn run(mut self) {
        let dispatch = self.dispatch.clone();
        let stopped = tokio::select! {
            biased;
            stopped = dispatch.over() => Some(stopped),
            ended = self.watch() => match ended {
                Err(TaskEnd(stopped)) => stopped,
                Ok(never) => match never {},
            },
        };
        self.events.end(stopped);
    }

    async fn watch(&mut self) -> Result<std::convert::Infallible, TaskEnd> {
        self.snapshot().await?;
        self.send(WatchEvent::SnapshotComplete).await?;
        loop {
            match self.wake().await? {
                Wake::Commit(Ok(committed)) if !committed.resync => {
                    self.follow_commits(&committed).await?;
                }
                Wake::Commit(Ok(_) | Err(RecvError::Lagged(_))) => self.snapshot().await?,
                Wake::Commit(Err(RecvError::Closed)) => {
                    return Err(TaskEnd(Some(StreamEnd::Draining)));
                }
                Wake::Time => self.follow_time().await?,
                Wake::Quiet => self.send(WatchEvent::Heartbeat).await?,
            }
        }
    }

    async fn wake(&mut self) -> Result<Wake, TaskEnd> {
        let clock = &self.dispatch.clock;
        Ok(tokio::select! {
            () = self.events.closed() => return Err(TaskEnd(None)),
            commit = self.commits.recv() => Wake::Commit(commit),
            () = sleep_until(clock, self.next_transition_at) => Wake::Time,
            () = tokio::time::sleep_until(self.quiet_since + HEARTBEAT) => Wake::Quiet,
        })
    }

    /// Tells the list as it stands, and what has left it since the last time. No more of it is read
    /// than there is room for: the watcher sets the pace.
    async fn snapshot(&mut self) -> Result<(), TaskEnd> {
        let now = self.dispatch.clock.now();
        let mut gone = std::mem::take(&mut self.members);
        let mut after: Option<Cursor> = None;
        loop {
            let room = self.room().await?;
            let limit = room.events(self.record_bytes).min(PAGE_MAX);
            let page = self.page(now, after.as_ref(), limit).await?;
            let mut more = page.len() == limit;
            let mut told = Sizes::default();
            for (position, record) in page {
                if room.is_used_up(told.sum) {
                    // The rest is read again.
                    more = true;
                    break;
                }
                after = Some(position);
                let Some(record) = record else { continue };
                gone.remove(&record.key);
                told.add(self.upsert(record));
            }
            self.record_bytes = told.largest.unwrap_or(self.record_bytes);
            if !more {
                break;
            }
        }
        for key in gone {
            self.send(WatchEvent::Removed(key)).await?;
        }
        self.told_until = now;
        self.schedule_next_transition().await
    }

    async fn page(
        &self,
        now: Instant,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Option<BookingRequest>)>, TaskEnd> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        loop {
            let store = &self.dispatch.store;
            let page = store.list_worklist(&self.query, now, after, limit).await;
            if let Some(page) = retry_if_unavailable(page).await? {
                return Ok(page);
            }
        }
    }

    /// Tells what a commit, and those that have come meanwhile, changed in the list.
    async fn follow_commits(&mut self, first: &ChangeEvent) -> Result<(), TaskEnd> {
        let mut keys = HashSet::new();
        self.keep_own(first, &mut keys);
        loop {
            match self.commits.try_recv() {
                Ok(committed) if !committed.resync => self.keep_own(&committed, &mut keys),
                Ok(_) => return self.snapshot().await,
                Err(TryRecvError::Empty | TryRecvError::Closed) => break,
                Err(TryRecvError::Lagged(_)) => return self.snapshot().await,
            }
        }
        self.tell(keys.into_iter().collect()).await
    }

    fn keep_own(&self, committed: &ChangeEvent, keys: &mut HashSet<RequestKey>) {
        let requests = committed.requests.iter().map(|(key, _)| key);
        let own = |key: &&RequestKey| self.query.care_units.contains(&key.care_unit);
        keys.extend(requests.filter(own).cloned());
    }

    /// Tells what time has changed in the list.
    async fn follow_time(&mut self) -> Result<(), TaskEnd> {
        let now = self.dispatch.clock.now();
        let units = &self.query.care_units;
        let moved = loop {
            let store = &self.dispatch.store;
            let moved = store.timed_transitions(units, self.told_until, now).await;
            if let Some(moved) = retry_if_unavailable(moved).await? {
                break moved;
            }
        };
        self.tell(moved).await?;
        self.told_until = now;
        self.schedule_next_transition().await
    }

    /// Holds requests against the query and tells what that gives.
    async fn tell(&mut self, mut keys: Vec<RequestKey>) -> Result<(), TaskEnd> {
        keys.sort();
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let room = self.room().await?;
            let limit = room.events(self.record_bytes).min(PAGE_MAX);
            let told = self
                .tell_some(&rest[..limit.min(rest.len())], &room)
                .await?;
            rest = &rest[told..];
        }
        Ok(())
    }

    /// Tells of these as far as there is room; says of how many.
    async fn tell_some(&mut self, keys: &[RequestKey], room: &Room) -> Result<usize, TaskEnd> {
        let mut records = loop {
            if let Some(records) =
                retry_if_unavailable(self.dispatch.store.get_many(keys).await).await?
            {
                break records;
            }
        };
        let now = self.dispatch.clock.now();
        let mut told = Sizes::default();
        for (place, key) in keys.iter().enumerate() {
            if room.is_used_up(told.sum) {
                return Ok(place);
            }
            let record = records.remove(key);
            let moves_at = record.as_ref().and_then(|it| it.next_transition_at(now));
            self.next_transition_at = [self.next_transition_at, moves_at]
                .into_iter()
                .flatten()
                .min();
            match record.filter(|record| self.query.matches(record, now)) {
                Some(record) => told.add(self.upsert(record)),
                None if self.members.remove(key) => {
                    self.push(WatchEvent::Removed(key.clone()), EVENT_BYTES);
                }
                None => {}
            }
        }
        Ok(keys.len())
    }

    /// Finds out when time will next change something.
    async fn schedule_next_transition(&mut self) -> Result<(), TaskEnd> {
        let (units, since) = (&self.query.care_units, self.told_until);
        let next = loop {
            let next = self.dispatch.store.next_transition_at(units, since).await;
            if let Some(next) = retry_if_unavailable(next).await? {
                break next;
            }
        };
        let next_day_at = self.query.next_day_at(since);
        self.next_transition_at = [next, next_day_at].into_iter().flatten().min();
        Ok(())
    }

    /// Tells an event without a request, once there is room.
    async fn send(&mut self, event: WatchEvent) -> Result<(), TaskEnd> {
        let _room = self.room().await?;
        self.push(event, EVENT_BYTES);
        Ok(())
    }

    /// Tells a request that is on the list; says of how many bytes it is.
    fn upsert(&mut self, record: BookingRequest) -> usize {
        self.members.insert(record.key.clone());
        let bytes = bytes_of(&record);
        let record = self.dispatch.shared.share(record);
        self.push(WatchEvent::Upserted(record), bytes);
        bytes
    }

    fn push(&mut self, event: WatchEvent, bytes: usize) {
        // One that has gone is noticed where room is asked for.
        let _ = self.events.tell(event, bytes);
        self.quiet_since = Moment::now();
    }

    /// Waits for room, for as long as the watcher goes on reading.
    async fn room(&self) -> Result<Room, TaskEnd> {
        loop {
            if self.events.is_closed() {
                return Err(TaskEnd(None));
            }
            if let Some(room) = self.events.room() {
                return Ok(room);
            }
            let taken = tokio::time::timeout(BEHIND_MAX, self.events.taken()).await;
            taken.map_err(|_| TaskEnd(Some(StreamEnd::TooSlow)))?;
        }
    }
}

/// Returns the store's answer; `None`, after a pause, when it may answer the next time.
async fn retry_if_unavailable<T>(answer: Result<T, Error>) -> Result<Option<T>, TaskEnd> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(Error::Contention | Error::Overloaded | Error::Clock(_) | Error::Unavailable(_)) => {
            tokio::time::sleep(STORE_PAUSE).await;
            Ok(None)
        }
        Err(error @ (Error::Refused(_) | Error::RequestIdReused | Error::Internal(_))) => {
            Err(TaskEnd(Some(StreamEnd::Store(error))))
        }
    }
}
