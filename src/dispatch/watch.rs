//! One watcher of a worklist: the list as it stands, then its changes by commits and by the passing of
//! time.
//!
//! A commit names the requests that it changed, and the watcher matches those of its care units against
//! its query. The watcher sleeps until the next transition by time, which the store computes.

use std::collections::HashSet;

use tokio::time::Instant as Moment;

use super::backlog::{EventSender, Room, TaskEnd};
use super::router::{Interest, Mailbox};
use super::shared::estimated_bytes;
use super::{Dispatch, WatchEvent, ask, sleep_until};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::request_key::RequestKey;
use crate::domain::worklist::Worklist;
use crate::domain::worklist::query::{Cursor, Query};

/// Maximum requests that are read at once.
const PAGE_MAX: usize = 500;
/// Estimated bytes of a request, until one has been read.
const RECORD_BYTES: usize = 8 * 1_024;
/// Estimated bytes of an event without a request.
const EVENT_BYTES: usize = 128;

/// The task behind one watch.
pub struct Watcher {
    dispatch: Dispatch,
    query: Query,
    events: EventSender<WatchEvent>,
    mailbox: Mailbox,
    /// Requests that are on one of the lists, as far as the reader has been told.
    members: HashSet<RequestKey>,
    last_event_at: Moment,
    /// Bytes of the largest request on the last page of a snapshot.
    record_bytes: usize,
    /// Instant up to which transitions by time have been emitted.
    emitted_until: Instant,
    /// Instant of the next transition by time.
    next_transition_at: Option<Instant>,
}

/// The sizes of requests that were emitted.
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

/// Cause for which a watcher wakes up.
enum Wake {
    Commits,
    Transition,
    Silence,
}

impl Watcher {
    /// Returns a watcher that has emitted nothing yet.
    pub fn new(dispatch: Dispatch, query: Query, events: EventSender<WatchEvent>) -> Self {
        Self {
            mailbox: dispatch
                .router
                .open(Interest::Requests(query.care_units.clone())),
            emitted_until: dispatch.clock.now(),
            dispatch,
            query,
            events,
            members: HashSet::new(),
            last_event_at: Moment::now(),
            record_bytes: RECORD_BYTES,
            next_transition_at: None,
        }
    }

    /// Emits the list and its changes until the reader goes or falls behind, the server shuts down, or the
    /// clock is no longer trusted: transitions by a wrong clock would not be undone. Ends the stream with
    /// the reason.
    pub async fn run(mut self) {
        let dispatch = self.dispatch.clone();
        let end = dispatch.until_end(self.watch()).await;
        self.events.end(end);
    }

    async fn watch(&mut self) -> Result<std::convert::Infallible, TaskEnd> {
        self.snapshot().await?;
        self.send(WatchEvent::SnapshotComplete).await?;
        loop {
            match self.wake().await? {
                Wake::Commits => self.follow_commits().await?,
                Wake::Transition => self.emit_transitions().await?,
                Wake::Silence => self.send(WatchEvent::Heartbeat).await?,
            }
        }
    }

    async fn wake(&mut self) -> Result<Wake, TaskEnd> {
        let clock = &self.dispatch.clock;
        let silent_until = self.last_event_at + self.dispatch.heartbeat;
        Ok(tokio::select! {
            () = self.events.closed() => return Err(TaskEnd(None)),
            () = self.mailbox.arrived(false) => Wake::Commits,
            () = sleep_until(clock, self.next_transition_at) => Wake::Transition,
            () = tokio::time::sleep_until(silent_until) => Wake::Silence,
        })
    }

    /// Emits the list as it stands, and the removal of the requests that have left it since the last
    /// time. Reads no more of it than there is room for: the reader sets the pace.
    async fn snapshot(&mut self) -> Result<(), TaskEnd> {
        let now = self.dispatch.clock.now();
        let mut gone = std::mem::take(&mut self.members);
        let mut after: Option<Cursor> = None;
        loop {
            let room = self.events.wait_for_room().await?;
            let limit = room.events(self.record_bytes).min(PAGE_MAX);
            let page = self.page(now, after.as_ref(), limit).await?;
            let mut more = page.len() == limit;
            let mut emitted = Sizes::default();
            for (position, record) in page {
                if room.is_used_up(emitted.sum) {
                    // The rest is read again.
                    more = true;
                    break;
                }
                after = Some(position);
                let Some(record) = record else { continue };
                gone.remove(&record.key);
                let lists = self.query.lists_of(&record, now);
                emitted.add(self.upsert(record, lists));
            }
            self.record_bytes = emitted.largest.unwrap_or(self.record_bytes);
            if !more {
                break;
            }
        }
        for key in gone {
            self.send(WatchEvent::Removed(key)).await?;
        }
        self.emitted_until = now;
        self.schedule_next_transition().await
    }

    async fn page(
        &self,
        now: Instant,
        after: Option<&Cursor>,
        limit: usize,
    ) -> Result<Vec<(Cursor, Option<BookingRequest>)>, TaskEnd> {
        let limit = u32::try_from(limit).unwrap_or(u32::MAX);
        let store = &self.dispatch.store;
        Ok(ask(|| store.list_worklist(&self.query, now, after, limit)).await?)
    }

    /// Emits the changes of the list by the commits that have come in the meantime.
    async fn follow_commits(&mut self) -> Result<(), TaskEnd> {
        let news = self.mailbox.take(false);
        match news.resync {
            true => self.snapshot().await,
            false => self.emit_changes(news.requests.into_iter().collect()).await,
        }
    }

    /// Emits the changes of the list by the passing of time.
    async fn emit_transitions(&mut self) -> Result<(), TaskEnd> {
        let now = self.dispatch.clock.now();
        let (store, since) = (&self.dispatch.store, self.emitted_until);
        let changed = ask(|| store.timed_transitions(&self.query, since, now)).await?;
        self.emit_changes(changed).await?;
        self.emitted_until = now;
        self.schedule_next_transition().await
    }

    /// Matches requests against the query and emits the changes of the list.
    async fn emit_changes(&mut self, mut keys: Vec<RequestKey>) -> Result<(), TaskEnd> {
        keys.sort();
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let room = self.events.wait_for_room().await?;
            let limit = room.events(self.record_bytes).min(PAGE_MAX);
            let handled = self
                .emit_fitting(&rest[..limit.min(rest.len())], &room)
                .await?;
            rest = &rest[handled..];
        }
        Ok(())
    }

    /// Emits the changes by these requests as far as there is room. Returns the number of requests that
    /// were handled.
    async fn emit_fitting(&mut self, keys: &[RequestKey], room: &Room) -> Result<usize, TaskEnd> {
        let store = &self.dispatch.store;
        let mut records = ask(|| store.get_many(keys)).await?;
        let now = self.dispatch.clock.now();
        let mut emitted = Sizes::default();
        for (handled, key) in keys.iter().enumerate() {
            if room.is_used_up(emitted.sum) {
                return Ok(handled);
            }
            let record = records.remove(key);
            let transition_at = record.as_ref().and_then(|it| it.next_transition_at(now));
            self.next_transition_at = [self.next_transition_at, transition_at]
                .into_iter()
                .flatten()
                .min();
            let lists = record.as_ref().map(|it| self.query.lists_of(it, now));
            match record.zip(lists.filter(|lists| !lists.is_empty())) {
                Some((record, lists)) => emitted.add(self.upsert(record, lists)),
                None if self.members.remove(key) => {
                    self.push(WatchEvent::Removed(key.clone()), EVENT_BYTES);
                }
                None => {}
            }
        }
        Ok(keys.len())
    }

    /// Schedules the next wake-up for a transition by time.
    async fn schedule_next_transition(&mut self) -> Result<(), TaskEnd> {
        let (store, since) = (&self.dispatch.store, self.emitted_until);
        let next = ask(|| store.next_transition_at(&self.query, since)).await?;
        let next_day_at = self.query.next_day_at(since);
        self.next_transition_at = [next, next_day_at].into_iter().flatten().min();
        Ok(())
    }

    /// Emits an event without a request, once there is room.
    async fn send(&mut self, event: WatchEvent) -> Result<(), TaskEnd> {
        let _room = self.events.wait_for_room().await?;
        self.push(event, EVENT_BYTES);
        Ok(())
    }

    /// Emits a request that is on these of the query's lists. Returns its estimated bytes.
    fn upsert(&mut self, record: BookingRequest, lists: Vec<Worklist>) -> usize {
        self.members.insert(record.key.clone());
        let bytes = estimated_bytes(&record);
        let record = self.dispatch.shared.share(record);
        self.push(WatchEvent::Upserted(record, lists), bytes);
        bytes
    }

    fn push(&mut self, event: WatchEvent, bytes: usize) {
        // A reader that has gone is noticed when room is next asked for.
        let _ = self.events.emit(event, bytes);
        self.last_event_at = Moment::now();
    }
}
