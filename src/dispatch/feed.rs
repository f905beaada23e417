//! One consumer's feed: claims what there is room for, hands it on, and waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant as Moment;

use super::backlog::{Room, Teller};
use super::shared::bytes_of;
use super::window::Window;
use super::{Dispatch, Event, Filter, STORE_PAUSE, Stopped, give_back, sleep_until};
use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::store::error::Error;
use crate::store::notification::{ClaimRequest, Claimed};
use crate::store::{Committed, LeaseFate};

/// How long a feed is silent at the most.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How many messages one claim asks for at the most, so that no claim keeps the writer long.
const CLAIM_MAX: usize = 256;
/// About the bytes of a request, before some are known.
const RECORD_BYTES: usize = 2 * 1_024;
/// About the bytes of an event without a request.
const EVENT_BYTES: usize = 128;

/// Why a consumer's task is to end; `None` when the consumer has gone.
struct End(Option<Stopped>);

/// What feeds one consumer.
pub struct Consumer {
    dispatch: Dispatch,
    filter: Filter,
    window: Window,
    events: Teller<Event>,
    /// The bytes of the largest request that was claimed.
    record_bytes: usize,
    beats: watch::Receiver<()>,
    commits: broadcast::Receiver<Arc<Committed>>,
    quiet_since: Moment,
}

impl Consumer {
    /// A consumer that has been given nothing yet.
    pub fn new(dispatch: Dispatch, filter: Filter, events: Teller<Event>) -> Self {
        Self {
            window: Window::new(filter.outstanding_max),
            beats: dispatch.beats.clone(),
            commits: dispatch.store.commits(),
            quiet_since: Moment::now(),
            dispatch,
            filter,
            events,
            record_bytes: RECORD_BYTES,
        }
    }

    /// Feeds the consumer until it goes, the server drains, the clock is no longer trusted or, when it asked for that,
    /// nothing is due; in the end says why, unless nothing was due.
    pub async fn run(mut self) {
        let stopped = match self.feed().await {
            Ok(()) => None,
            Err(End(stopped)) => stopped,
        };
        self.events.end(stopped);
    }

    async fn feed(&mut self) -> Result<(), End> {
        loop {
            let idle = self.fill().await?;
            if idle && self.filter.until_idle {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Claims until there is no room or nothing more is due; says whether it was the latter.
    async fn fill(&mut self) -> Result<bool, End> {
        self.beats.mark_unchanged();
        self.catch_up().await?;
        while self.window.room() > 0 && !self.dispatch.is_over() {
            // Not cut short: what it leases must reach the consumer or be given back.
            let claimed = self.claim().await?;
            let more = claimed.more;
            let more = !self.hand_on(claimed)? || more;
            self.catch_up().await?;
            if !more {
                return Ok(self.window.room() > 0);
            }
        }
        Ok(false)
    }

    async fn claim(&mut self) -> Result<Claimed, End> {
        loop {
            // No more than the consumer can be handed at once.
            let room = self.room().await?;
            let fitting = room.events(self.record_bytes).min(CLAIM_MAX);
            let count = self.window.room().min(fitting);
            let request = ClaimRequest {
                channels: self.filter.channels.clone(),
                care_units: self.filter.care_units.clone(),
                tokens: (0..count)
                    .map(|_| self.dispatch.clock.lease_token())
                    .collect(),
                lease_duration: self.filter.lease_duration,
            };
            let dispatch = self.dispatch.clone();
            let context = move || dispatch.context();
            match self.dispatch.store.claim(request, context).await {
                Ok(claimed) => return Ok(claimed),
                Err(Error::Busy | Error::Overloaded | Error::Unavailable(_)) => {
                    tokio::select! {
                        () = tokio::time::sleep(STORE_PAUSE) => {}
                        stopped = self.dispatch.over() => return Err(End(Some(stopped))),
                    }
                    self.heartbeat_if_quiet().await?;
                }
                Err(
                    error @ (Error::Clock(_)
                    | Error::Broken(_)
                    | Error::Refused(_)
                    | Error::RequestIdReused),
                ) => {
                    return Err(End(Some(error.into())));
                }
            }
        }
    }

    /// Hands leased messages on, as far as there is room: larger ones may have come than was expected. The others
    /// are given back. Returns whether all were handed on.
    fn hand_on(&mut self, claimed: Claimed) -> Result<bool, End> {
        let mut unread = Unread {
            dispatch: self.dispatch.clone(),
            leases: claimed
                .leased
                .iter()
                .map(|(_, lease)| lease.clone())
                .rev()
                .collect(),
        };
        for (record, lease) in claimed.leased {
            let bytes = bytes_of(&record);
            self.record_bytes = self.record_bytes.max(bytes);
            if !self.events.has_room_for(bytes) {
                return Ok(false);
            }
            let expires_at = record
                .notification(lease.notification)
                .and_then(|message| message.lease.as_ref())
                .map(|lease| lease.expires_at);
            if let Some(expires_at) = expires_at {
                self.window.hold(lease.clone(), expires_at);
            }
            let record = Box::new(record);
            self.push(Event::Due { record, lease }, bytes)?;
            unread.leases.pop();
        }
        Ok(true)
    }

    /// Tells an event without a request, once there is room.
    async fn send(&mut self, event: Event) -> Result<(), End> {
        let _room = self.room().await?;
        self.push(event, EVENT_BYTES)
    }

    fn push(&mut self, event: Event, bytes: usize) -> Result<(), End> {
        self.quiet_since = Moment::now();
        match self.events.tell(event, bytes) {
            true => Ok(()),
            false => Err(End(None)),
        }
    }

    /// Waits for room. A consumer may take its time: leases that it has not read run out.
    async fn room(&self) -> Result<Room, End> {
        loop {
            if self.events.is_closed() {
                return Err(End(None));
            }
            if let Some(room) = self.events.room() {
                return Ok(room);
            }
            tokio::select! {
                () = self.events.taken() => {}
                stopped = self.dispatch.over() => return Err(End(Some(stopped))),
            }
        }
    }

    async fn heartbeat_if_quiet(&mut self) -> Result<(), End> {
        if self.quiet_since.elapsed() >= HEARTBEAT {
            self.send(Event::Heartbeat).await?;
        }
        Ok(())
    }

    /// Waits until claiming may be worth while again; meanwhile tells what was taken back, and
    /// that the server lives.
    async fn wait(&mut self) -> Result<(), End> {
        loop {
            let room_before = self.window.room();
            let clock = self.dispatch.clock.clone();
            let expiry = self.window.next_expiry();
            let beat_matters = room_before > 0;
            tokio::select! {
                // In this order: what a commit says of a lease counts before its end by the clock.
                biased;
                () = self.events.closed() => return Err(End(None)),
                stopped = self.dispatch.over() => return Err(End(Some(stopped))),
                commit = self.commits.recv() => self.follow(commit).await?,
                beat = self.beats.changed(), if beat_matters => {
                    return beat.map_err(|_| End(Some(Stopped::Draining)));
                }
                () = sleep_until(&clock, expiry) => self.window.expire(clock.now()),
                () = tokio::time::sleep_until(self.quiet_since + HEARTBEAT) => {
                    self.heartbeat_if_quiet().await?;
                }
            }
            // A place that has become free may be taken by a message that was due before.
            if room_before == 0 && self.window.room() > 0 {
                return Ok(());
            }
        }
    }

    /// What has become of leases; asks until the store answers or the consumer has gone.
    async fn fates(&self, known: &[(LeaseRef, Instant)]) -> Vec<(LeaseRef, LeaseFate)> {
        while !known.is_empty() && !self.events.is_closed() {
            match self.dispatch.store.fates(known).await {
                Ok(fates) => return fates,
                Err(Error::Busy | Error::Overloaded | Error::Clock(_) | Error::Unavailable(_)) => {
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                Err(error @ (Error::Refused(_) | Error::RequestIdReused | Error::Broken(_))) => {
                    // They run out by themselves.
                    tracing::warn!(%error, "leases could not be looked up");
                    break;
                }
            }
        }
        Vec::new()
    }

    /// Follows what has been committed in the meantime, so that each claim knows all the room that there
    /// is, and a consumer that is fed without a pause learns what was taken back.
    async fn catch_up(&mut self) -> Result<(), End> {
        loop {
            let commit = match self.commits.try_recv() {
                Ok(commit) => Ok(commit),
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Lagged(missed)) => Err(RecvError::Lagged(missed)),
                Err(TryRecvError::Closed) => Err(RecvError::Closed),
            };
            self.follow(commit).await?;
        }
    }

    async fn follow(&mut self, commit: Result<Arc<Committed>, RecvError>) -> Result<(), End> {
        match commit {
            Ok(committed) if !committed.gap => self.learn(&committed.leases).await,
            Ok(_) | Err(RecvError::Lagged(_)) => {
                let fates = self.fates(&self.window.leases()).await;
                self.learn(&fates).await
            }
            Err(RecvError::Closed) => Err(End(Some(Stopped::Draining))),
        }
    }

    async fn learn(&mut self, fates: &[(LeaseRef, LeaseFate)]) -> Result<(), End> {
        for (lease, fate) in fates {
            if self.window.follow(lease, *fate) {
                let revoked = Event::Revoked {
                    request: lease.request.clone(),
                    notification: lease.notification,
                };
                self.send(revoked).await?;
            }
        }
        Ok(())
    }
}

/// Leased messages that are not on their way to the consumer yet, the last first.
struct Unread {
    dispatch: Dispatch,
    leases: Vec<LeaseRef>,
}

impl Drop for Unread {
    fn drop(&mut self) {
        give_back(&self.dispatch.store, std::mem::take(&mut self.leases));
    }
}
