//! One stream of changes: what has happened since its cursor, then what happens, by commits and by the passing of time.
//!
//! The history is the log, so nothing is written for a stream. Three facts carry it:
//!
//! - Entries of a request are never dated backwards, and nothing is dated before a *settled* instant once all commits are
//!   known until some time after it. So a walk over the history by date passes over nothing, up to there.
//! - The mailbox has every request that a commit has changed, before it says how far commits are known. The entries of a
//!   changed request are read from the settled instant on, in their order, so that those come first which another
//!   replica has committed and nobody has announced yet. What was told already is left out as far as it is remembered.
//! - Time changes a request until something else does. A change leaves what time had changed before in its entry, so that
//!   whoever finds the request changed meanwhile finds it there.
//!
//! A cursor is one step behind: when the stream says that commits are known until some time, whatever it has read between
//! that and the step before has been told.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;

use chrono::TimeDelta;
use tokio::time::Instant as Moment;

use super::backlog::{EventSender, TaskEnd};
use super::router::{Interest, Mailbox};
use super::{ChangeFilter, Changes, Dispatch, ask, sleep_until};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::change_stream::{Cursor, Place, PlacedEntry, RequestChange};
use crate::domain::request_key::RequestKey;
use crate::store::skew::CLOCKS_APART_MAX;

/// Maximum changes that are told together.
const CHANGES_MAX: usize = 100;
/// Maximum history entries, or requests that time changes, that are read at once.
const PAGE_MAX: usize = 500;
/// Maximum requests whose entries are read at once.
const REQUESTS_MAX: usize = 100;
/// Maximum changed requests that wait until commits are known. Beyond it the stream walks over the history.
const PENDING_MAX: usize = 4_096;
/// Maximum requests of which it is remembered what was told. When all are forgotten, some of it is told again.
const REMEMBERED_MAX: usize = 10_000;
/// Time over which one statement walks: of few care units among many it reads the index entries of all.
const SLICE: TimeDelta = TimeDelta::hours(12);
/// Time for which a look ahead finds the next instant at which time changes a request.
const LOOK_AHEAD: TimeDelta = TimeDelta::minutes(10);
/// Estimated bytes of a message, and of each change in it.
const MESSAGE_BYTES: usize = 256;
const CHANGE_BYTES: usize = 320;

/// Cause for which a teller wakes up.
enum Wake {
    News,
    Time,
    Silence,
}

/// The part of a request's changes that has been told.
#[derive(Clone, Copy)]
struct Told {
    /// Number of its last history entry.
    ordinal: i32,
    /// Instant until which changes by time alone were told.
    until: Instant,
}

impl Default for Told {
    fn default() -> Self {
        Self {
            ordinal: 0,
            until: Instant::MIN_UTC,
        }
    }
}

/// The task behind one stream.
pub struct Teller {
    dispatch: Dispatch,
    care_units: CareUnits,
    until_idle: bool,
    events: EventSender<Changes>,
    mailbox: Mailbox,
    /// Cursor after what was emitted.
    cursor: Cursor,
    /// True until the history since the cursor has been walked over.
    is_behind: bool,
    /// Instant from which entries of changed requests are read: everything dated before it has been told.
    horizon: Instant,
    /// Instant before which the stream tells nothing, because it began then.
    began_at: Instant,
    /// Instant until which all commits were known at the last step.
    followed: Option<Instant>,
    /// Requests that have changed since then.
    pending: HashSet<RequestKey>,
    told: HashMap<RequestKey, Told>,
    /// Instant until which changes by time alone were looked for.
    looked_until: Instant,
    /// Instant at which to look again.
    look_at: Instant,
    /// True while the end of a step has been asked for.
    is_asking: bool,
    last_event_at: Moment,
}

impl Teller {
    /// Returns a teller that has emitted nothing yet. News adds up from now on.
    pub fn new(dispatch: Dispatch, filter: ChangeFilter, events: EventSender<Changes>) -> Self {
        let interest = Interest::Changes(filter.care_units.clone());
        let mailbox = dispatch.router.open(interest);
        let shown = dispatch.clock.now();
        let now = dispatch.store.dated_from(shown);
        let after = filter.after.map(|it| match it.after.at <= shown {
            true => it,
            // The clock that gave it was ahead, or this one was set back since: what is dated before it may still come.
            false => Cursor {
                after: Place::before(now - CLOCKS_APART_MAX),
                ..it
            },
        });
        let cursor = after.unwrap_or(Cursor::at(now));
        Self {
            mailbox,
            care_units: filter.care_units,
            until_idle: filter.until_idle,
            events,
            is_behind: after.is_some(),
            horizon: cursor.after.at,
            began_at: after.map_or(now, |_| Instant::MIN_UTC),
            followed: None,
            pending: HashSet::new(),
            told: HashMap::new(),
            looked_until: cursor.told_until,
            look_at: cursor.told_until,
            is_asking: false,
            last_event_at: Moment::now(),
            cursor,
            dispatch,
        }
    }

    /// Emits changes until the reader goes or falls behind, the server shuts down, or the clock is no longer trusted. Ends
    /// the stream with the reason.
    pub async fn run(mut self) {
        let dispatch = self.dispatch.clone();
        let end = dispatch.until_end(self.tell()).await;
        self.events.end(end);
    }

    async fn tell(&mut self) -> Result<Infallible, TaskEnd> {
        self.catch_up().await?;
        if self.until_idle {
            self.come_to_rest().await?;
            return Err(TaskEnd(None));
        }
        // Says where it has begun, before anything happens.
        self.emit(Vec::new()).await?;
        loop {
            match self.wake().await? {
                Wake::News => self.take_step().await?,
                Wake::Time => self.ask_how_far().await?,
                Wake::Silence => {
                    self.ask_how_far().await?;
                    self.emit(Vec::new()).await?;
                }
            }
        }
    }

    async fn wake(&mut self) -> Result<Wake, TaskEnd> {
        let clock = &self.dispatch.clock;
        let silent_until = self.last_event_at + self.dispatch.heartbeat;
        let look_at = (!self.is_asking).then_some(self.look_at);
        Ok(tokio::select! {
            () = self.events.closed() => return Err(TaskEnd(None)),
            () = self.mailbox.arrived(false) => Wake::News,
            () = sleep_until(clock, look_at) => Wake::Time,
            () = tokio::time::sleep_until(silent_until) => Wake::Silence,
        })
    }

    /// Asks to be told how far commits are known. Where there are other replicas that is told again and again.
    async fn ask_how_far(&mut self) -> Result<(), TaskEnd> {
        self.is_asking = true;
        let now = self.dispatch.clock.now();
        Ok(ask(|| self.dispatch.store.tell_followed(now)).await?)
    }

    /// Takes the news. Returns the instant until which all commits are known, if it has come.
    fn take_news(&mut self) -> Option<Instant> {
        let news = self.mailbox.take(false);
        self.pending.extend(news.requests);
        self.is_behind |= news.resync || self.pending.len() > PENDING_MAX;
        self.is_asking &= news.followed.is_none();
        news.followed
    }

    /// Waits until it is told how far commits are known, and returns that.
    async fn next_followed(&mut self) -> Result<Instant, TaskEnd> {
        self.ask_how_far().await?;
        loop {
            tokio::select! {
                () = self.events.closed() => return Err(TaskEnd(None)),
                () = self.mailbox.arrived(false) => {}
            }
            if let Some(followed) = self.take_news() {
                return Ok(followed);
            }
        }
    }

    /// Emits what has happened since the cursor, until the mailbox has everything that happens.
    async fn catch_up(&mut self) -> Result<(), TaskEnd> {
        loop {
            // The first that comes may have been on its way before.
            self.next_followed().await?;
            let followed = self.next_followed().await?;
            self.followed = None;
            if std::mem::take(&mut self.is_behind) {
                self.walk(self.dispatch.store.settled_before(followed))
                    .await?;
                self.sweep().await?;
            }
            let changed = std::mem::take(&mut self.pending);
            self.tell_changed(changed).await?;
            self.tell_elapsed(followed).await?;
            self.take_news();
            if !self.is_behind {
                return Ok(());
            }
        }
    }

    /// Emits the changes of the commits that are known by now, and those of time.
    async fn take_step(&mut self) -> Result<(), TaskEnd> {
        let followed = self.take_news();
        if self.is_behind {
            return self.catch_up().await;
        }
        let Some(followed) = followed else {
            return match self.is_asking {
                true => Ok(()),
                false => self.ask_how_far().await,
            };
        };
        let has_changed = !self.pending.is_empty();
        self.step(followed).await?;
        if has_changed {
            // So that the cursor goes past them.
            self.ask_how_far().await?;
        }
        Ok(())
    }

    /// Emits the changes of the commits until an instant, and those of time.
    async fn step(&mut self, followed: Instant) -> Result<(), TaskEnd> {
        let changed = std::mem::take(&mut self.pending);
        self.tell_changed(changed).await?;
        self.tell_elapsed(followed).await?;
        self.advance(followed);
        Ok(())
    }

    /// Takes two steps more, so that the cursor goes past everything that was told.
    async fn come_to_rest(&mut self) -> Result<(), TaskEnd> {
        for _ in 0..2 {
            let followed = self.next_followed().await?;
            match self.is_behind {
                true => self.catch_up().await?,
                false => self.step(followed).await?,
            }
        }
        self.emit(Vec::new()).await
    }

    /// Moves the cursor to the end of the step before this one.
    fn advance(&mut self, followed: Instant) {
        if let Some(known) = self.followed.replace(followed) {
            let settled = self.dispatch.store.settled_before(known);
            self.cursor = Cursor {
                after: Place::before(settled.max(self.began_at)),
                told_until: known.max(self.cursor.told_until),
            };
            self.horizon = self.cursor.after.at;
        }
        if self.told.len() > REMEMBERED_MAX {
            self.told.clear();
        }
    }

    /// Emits what has happened from the cursor until an instant that is settled, in the order of changes. The reader sets
    /// the pace.
    async fn walk(&mut self, settled: Instant) -> Result<(), TaskEnd> {
        while self.cursor.after.at < settled {
            let until = settled.min(self.cursor.after.at + SLICE);
            let (store, units) = (self.dispatch.store.clone(), self.care_units.clone());
            let after = self.cursor.after;
            let entries = ask(|| store.entries_between(&units, after, until, PAGE_MAX)).await?;
            let moved = ask(|| store.transitions_between(&units, after, until, PAGE_MAX)).await?;
            let ends = [entries.end, moved.end].into_iter().flatten();
            let end = ends.min().unwrap_or(Place::before(until));
            let mut found: Vec<(Place, Vec<RequestChange>)> = Vec::new();
            for it in entries.items.into_iter().filter(|it| it.place <= end) {
                found.push((it.place, self.of_entry(&it)));
            }
            let moved = moved.items.into_iter().filter(|(at, _)| *at <= end);
            found.extend(self.moved_by_time(moved.collect()).await?);
            found.sort_by_key(|(place, _)| *place);
            self.emit_in_order(found).await?;
            self.cursor.after = end;
        }
        self.horizon = self.cursor.after.at;
        // What comes just then has not been walked over.
        let walked_until = settled - TimeDelta::microseconds(1);
        self.looked_until = self.looked_until.max(walked_until);
        Ok(())
    }

    /// Returns what time has changed in these requests at these places, as far as they have not been changed since.
    async fn moved_by_time(
        &mut self,
        moved: Vec<(Place, RequestKey)>,
    ) -> Result<Vec<(Place, Vec<RequestChange>)>, TaskEnd> {
        let mut found = Vec::new();
        for part in moved.chunks(REQUESTS_MAX) {
            let keys: Vec<RequestKey> = part.iter().map(|(_, key)| key.clone()).collect();
            let records = ask(|| self.dispatch.store.get_many(&keys)).await?;
            for (place, key) in part {
                let Some(record) = records.get(key) else {
                    continue;
                };
                let changes = self.of_time(record, place.at);
                let changes = changes.into_iter().filter(|it| it.at == place.at);
                found.push((*place, changes.collect()));
            }
        }
        Ok(found)
    }

    /// Emits changes in their order, with cursors between them.
    async fn emit_in_order(
        &mut self,
        found: Vec<(Place, Vec<RequestChange>)>,
    ) -> Result<(), TaskEnd> {
        let mut together = Vec::new();
        for (place, changes) in found {
            if together.len() + changes.len() > CHANGES_MAX {
                self.emit(std::mem::take(&mut together)).await?;
            }
            together.extend(changes);
            self.cursor.after = place;
        }
        match together.is_empty() {
            true => Ok(()),
            false => self.emit(together).await,
        }
    }

    /// Emits what is recorded from the horizon on, which is not settled: it comes again in later steps unless it is
    /// remembered.
    async fn sweep(&mut self) -> Result<(), TaskEnd> {
        let mut after = self.cursor.after;
        loop {
            let (store, units) = (&self.dispatch.store, &self.care_units);
            let until = Instant::MAX_UTC;
            let page = ask(|| store.entries_between(units, after, until, PAGE_MAX)).await?;
            let requests = page.items.into_iter().map(|it| it.request).collect();
            self.tell_changed(requests).await?;
            match page.end {
                Some(end) => after = end,
                None => return Ok(()),
            }
        }
    }

    /// Emits the entries of requests that have changed, and what time has changed in them since.
    async fn tell_changed(&mut self, requests: HashSet<RequestKey>) -> Result<(), TaskEnd> {
        let mut keys: Vec<RequestKey> = requests.into_iter().collect();
        keys.sort();
        for part in keys.chunks(REQUESTS_MAX) {
            let overtaken = self.tell_entries(part).await?;
            self.tell_moved(&overtaken).await?;
        }
        Ok(())
    }

    /// Emits the entries of requests from the horizon on that have not been told. Returns the requests that time has
    /// changed since, before the instant until which that was looked for.
    async fn tell_entries(&mut self, keys: &[RequestKey]) -> Result<Vec<RequestKey>, TaskEnd> {
        let (store, horizon) = (&self.dispatch.store, self.horizon);
        let entries = ask(|| store.entries_of(keys, horizon)).await?;
        let mut changes = Vec::new();
        let mut next = HashMap::new();
        for it in entries {
            if it.place.ordinal <= self.told_of(&it.request).ordinal {
                continue;
            }
            changes.extend(self.of_entry(&it));
            let told = self.told.entry(it.request.clone()).or_default();
            told.ordinal = it.place.ordinal;
            let next_at = it.entry.and_then(|entry| entry.next_transition_at);
            next.insert(it.request, next_at);
        }
        self.emit_all(changes).await?;
        let mut overtaken = Vec::new();
        for (request, next_at) in next {
            match next_at {
                Some(at) if at <= self.looked_until => overtaken.push(request),
                Some(at) => self.look_at = self.look_at.min(at),
                None => {}
            }
        }
        Ok(overtaken)
    }

    /// Emits what time alone has changed until an instant, once it is to be looked for.
    async fn tell_elapsed(&mut self, until: Instant) -> Result<(), TaskEnd> {
        if until < self.look_at {
            return Ok(());
        }
        let (store, units) = (self.dispatch.store.clone(), self.care_units.clone());
        let mut after = Place::after(self.looked_until);
        let end = until + TimeDelta::microseconds(1);
        // Those that are told meanwhile have been looked for.
        self.looked_until = self.looked_until.max(until);
        loop {
            let page = ask(|| store.transitions_between(&units, after, end, PAGE_MAX)).await?;
            let keys: HashSet<RequestKey> = page.items.into_iter().map(|(_, key)| key).collect();
            let keys: Vec<RequestKey> = keys.into_iter().collect();
            for part in keys.chunks(REQUESTS_MAX) {
                self.tell_moved(part).await?;
            }
            match page.end {
                Some(end) => after = end,
                None => break,
            }
        }
        let (after, horizon) = (Place::after(self.looked_until), until + LOOK_AHEAD);
        let next = ask(|| store.transitions_between(&units, after, horizon, 1)).await?;
        let next = next.items.first().map(|(place, _)| place.at);
        self.look_at = next.unwrap_or(horizon);
        Ok(())
    }

    /// Emits what time alone has changed in these requests until the instant until which that was looked for; first their
    /// entries, if they were changed so lately that these may not have been told.
    async fn tell_moved(&mut self, keys: &[RequestKey]) -> Result<(), TaskEnd> {
        if keys.is_empty() {
            return Ok(());
        }
        let records = ask(|| self.dispatch.store.get_many(keys)).await?;
        let is_untold = |it: &&BookingRequest| {
            self.horizon <= it.updated_at && self.told_of(&it.key).ordinal < it.history_count
        };
        let untold = records.values().filter(is_untold);
        let untold: Vec<RequestKey> = untold.map(|it| it.key.clone()).collect();
        if !untold.is_empty() {
            self.tell_entries(&untold).await?;
        }
        let mut changes = Vec::new();
        for record in records.values() {
            let is_settled = record.updated_at < self.horizon;
            // One that was changed again meanwhile has what time had changed in its next entry.
            if is_settled || self.told_of(&record.key).ordinal == record.history_count {
                changes.extend(self.of_time(record, self.looked_until));
            }
        }
        self.emit_all(changes).await
    }

    fn told_of(&self, request: &RequestKey) -> Told {
        self.told.get(request).copied().unwrap_or_default()
    }

    /// Returns the changes of an entry: what time had changed before, as far as it has not been told, and its own.
    fn of_entry(&self, placed: &PlacedEntry) -> Vec<RequestChange> {
        let Some(entry) = &placed.entry else {
            return Vec::new();
        };
        let request = &placed.request;
        let told_until = self.told_of(request).until.max(self.cursor.told_until);
        let elapsed = entry.elapsed.iter().filter(|it| told_until < it.at);
        let elapsed = elapsed.map(|it| RequestChange::of_elapsed(request, entry.revision - 1, it));
        let own = RequestChange::of_entry(request, entry);
        elapsed.chain([own]).collect()
    }

    /// Returns what time alone has changed in a request since its last change and until an instant, as far as it has not
    /// been told, and remembers that it is told.
    fn of_time(&mut self, record: &BookingRequest, until: Instant) -> Vec<RequestChange> {
        let told_until = self.told_of(&record.key).until.max(self.cursor.told_until);
        let elapsed = record.elapsed(until).into_iter();
        let elapsed: Vec<_> = elapsed.filter(|it| told_until < it.at).collect();
        if let Some(last) = elapsed.last() {
            self.told.entry(record.key.clone()).or_default().until = last.at;
        }
        let elapsed = elapsed.iter();
        elapsed
            .map(|it| RequestChange::of_elapsed(&record.key, record.revision, it))
            .collect()
    }

    /// Emits changes, some at a time, with the cursor as it is.
    async fn emit_all(&mut self, mut changes: Vec<RequestChange>) -> Result<(), TaskEnd> {
        while !changes.is_empty() {
            let rest = changes.split_off(CHANGES_MAX.min(changes.len()));
            self.emit(changes).await?;
            changes = rest;
        }
        Ok(())
    }

    /// Emits changes together, once there is room, with the cursor as it is.
    async fn emit(&mut self, changes: Vec<RequestChange>) -> Result<(), TaskEnd> {
        let _room = self.events.wait_for_room().await?;
        let bytes = MESSAGE_BYTES + CHANGE_BYTES * changes.len();
        let cursor = self.cursor;
        // A reader that has gone is noticed when room is next asked for.
        let _ = self.events.emit(Changes { changes, cursor }, bytes);
        self.last_event_at = Moment::now();
        Ok(())
    }
}
