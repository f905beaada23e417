//! One consumer's feed: claims what there is room for, hands it on, and waits.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::{broadcast, watch};
use tokio::time::Instant as Moment;

use super::backlog::{EventSender, Room};
use super::flow_control::FlowControl;
use super::shared::bytes_of;
use super::{Dispatch, Event, Filter, STORE_PAUSE, StreamEnd, give_back, sleep_until};
use crate::domain::calendar::Instant;
use crate::domain::notification::LeaseRef;
use crate::store::change_event::ChangeEvent;
use crate::store::change_event::LeaseChange;
use crate::store::error::Error;
use crate::store::notification::{ClaimRequest, Claimed};

/// How long a feed is silent at the most.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// How many messages one claim asks for at the most, so that no claim keeps the writer long.
const CLAIM_MAX: usize = 256;
/// About the bytes of a request, before some are known.
const RECORD_BYTES: usize = 2 * 1_024;
/// About the bytes of an event without a request.
const EVENT_BYTES: usize = 128;

/// Why a consumer's task is to end; `None` when the consumer has gone.
struct TaskEnd(Option<StreamEnd>);

/// What feeds one consumer.
pub struct SubscriptionTask {
    dispatch: Dispatch,
    filter: Filter,
    flow: FlowControl,
    events: EventSender<Event>,
    /// The bytes of the largest request that was claimed.
    record_bytes: usize,
    wakeups: watch::Receiver<()>,
    commits: broadcast::Receiver<Arc<ChangeEvent>>,
    quiet_since: Moment,
}

impl SubscriptionTask {
    /// Returns a consumer that has been given nothing yet.
    pub fn new(dispatch: Dispatch, filter: Filter, events: EventSender<Event>) -> Self {
        Self {
            flow: FlowControl::new(filter.outstanding_max),
            wakeups: dispatch.wakeups.clone(),
            commits: dispatch.store.commits(),
            quiet_since: Moment::now(),
            dispatch,
            filter,
            events,
            record_bytes: RECORD_BYTES,
        }
    }

    /// Feeds the consumer until it goes, the server drains, the clock is no longer from_stored or, when it asked for that,
    /// nothing is due; in the end says why, unless nothing was due.
    pub async fn run(mut self) {
        let stopped = match self.feed().await {
            Ok(()) => None,
            Err(TaskEnd(stopped)) => stopped,
        };
        self.events.end(stopped);
    }

    async fn feed(&mut self) -> Result<(), TaskEnd> {
        loop {
            let idle = self.fill().await?;
            if idle && self.filter.until_idle {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Claims until there is no room or nothing more is due; says whether it was the latter.
    async fn fill(&mut self) -> Result<bool, TaskEnd> {
        self.wakeups.mark_unchanged();
        self.drain_events().await?;
        while self.flow.available() > 0 && !self.dispatch.is_over() {
            // Not cut short: what it leases must reach the consumer or be given back.
            let claimed = self.claim().await?;
            let more = claimed.more;
            let more = !self.deliver(claimed)? || more;
            self.drain_events().await?;
            if !more {
                return Ok(self.flow.available() > 0);
            }
        }
        Ok(false)
    }

    async fn claim(&mut self) -> Result<Claimed, TaskEnd> {
        loop {
            // No more than the consumer can be handed at once.
            let room = self.room().await?;
            let fitting = room.events(self.record_bytes).min(CLAIM_MAX);
            let count = self.flow.available().min(fitting);
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
                Err(Error::Contention | Error::Overloaded | Error::Unavailable(_)) => {
                    tokio::select! {
                        () = tokio::time::sleep(STORE_PAUSE) => {}
                        stopped = self.dispatch.over() => return Err(TaskEnd(Some(stopped))),
                    }
                    self.heartbeat_if_quiet().await?;
                }
                Err(
                    error @ (Error::Clock(_)
                    | Error::Internal(_)
                    | Error::Refused(_)
                    | Error::RequestIdReused),
                ) => {
                    return Err(TaskEnd(Some(error.into())));
                }
            }
        }
    }

    /// Hands leased messages on, as far as there is room: larger ones may have come than was expected. The others
    /// are given back. Returns whether all were handed on.
    fn deliver(&mut self, claimed: Claimed) -> Result<bool, TaskEnd> {
        let mut unread = UndeliveredLeases {
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
                self.flow.track(lease.clone(), expires_at);
            }
            let record = Box::new(record);
            self.push(Event::Due { record, lease }, bytes)?;
            unread.leases.pop();
        }
        Ok(true)
    }

    /// Tells an event without a request, once there is room.
    async fn send(&mut self, event: Event) -> Result<(), TaskEnd> {
        let _room = self.room().await?;
        self.push(event, EVENT_BYTES)
    }

    fn push(&mut self, event: Event, bytes: usize) -> Result<(), TaskEnd> {
        self.quiet_since = Moment::now();
        match self.events.tell(event, bytes) {
            true => Ok(()),
            false => Err(TaskEnd(None)),
        }
    }

    /// Waits for room. A consumer may take its time: leases that it has not read run out.
    async fn room(&self) -> Result<Room, TaskEnd> {
        loop {
            if self.events.is_closed() {
                return Err(TaskEnd(None));
            }
            if let Some(room) = self.events.room() {
                return Ok(room);
            }
            tokio::select! {
                () = self.events.taken() => {}
                stopped = self.dispatch.over() => return Err(TaskEnd(Some(stopped))),
            }
        }
    }

    async fn heartbeat_if_quiet(&mut self) -> Result<(), TaskEnd> {
        if self.quiet_since.elapsed() >= HEARTBEAT {
            self.send(Event::Heartbeat).await?;
        }
        Ok(())
    }

    /// Waits until claiming may be worth while again; meanwhile tells what was taken back, and
    /// that the server lives.
    async fn wait(&mut self) -> Result<(), TaskEnd> {
        loop {
            let room_before = self.flow.available();
            let clock = self.dispatch.clock.clone();
            let expiry = self.flow.next_expiry();
            let beat_matters = room_before > 0;
            tokio::select! {
                // In this order: what a commit says of a lease counts before its end by the clock.
                biased;
                () = self.events.closed() => return Err(TaskEnd(None)),
                stopped = self.dispatch.over() => return Err(TaskEnd(Some(stopped))),
                commit = self.commits.recv() => self.follow(commit).await?,
                wake_all = self.wakeups.changed(), if beat_matters => {
                    return wake_all.map_err(|_| TaskEnd(Some(StreamEnd::Draining)));
                }
                () = sleep_until(&clock, expiry) => self.flow.expire(clock.now()),
                () = tokio::time::sleep_until(self.quiet_since + HEARTBEAT) => {
                    self.heartbeat_if_quiet().await?;
                }
            }
            // A place that has become free may be taken by a message that was due before.
            if room_before == 0 && self.flow.available() > 0 {
                return Ok(());
            }
        }
    }

    /// Returns what has become of leases; asks until the store answers or the consumer has gone.
    async fn lease_changes(&self, known: &[(LeaseRef, Instant)]) -> Vec<(LeaseRef, LeaseChange)> {
        while !known.is_empty() && !self.events.is_closed() {
            match self.dispatch.store.lease_changes(known).await {
                Ok(lease_changes) => return lease_changes,
                Err(
                    Error::Contention | Error::Overloaded | Error::Clock(_) | Error::Unavailable(_),
                ) => {
                    tokio::time::sleep(STORE_PAUSE).await;
                }
                Err(error @ (Error::Refused(_) | Error::RequestIdReused | Error::Internal(_))) => {
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
    async fn drain_events(&mut self) -> Result<(), TaskEnd> {
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

    async fn follow(&mut self, commit: Result<Arc<ChangeEvent>, RecvError>) -> Result<(), TaskEnd> {
        match commit {
            Ok(committed) if !committed.resync => self.learn(&committed.leases).await,
            Ok(_) | Err(RecvError::Lagged(_)) => {
                let lease_changes = self.lease_changes(&self.flow.leases()).await;
                self.learn(&lease_changes).await
            }
            Err(RecvError::Closed) => Err(TaskEnd(Some(StreamEnd::Draining))),
        }
    }

    async fn learn(&mut self, lease_changes: &[(LeaseRef, LeaseChange)]) -> Result<(), TaskEnd> {
        for (lease, lease_change) in lease_changes {
            if self.flow.apply(lease, *lease_change) {
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
struct UndeliveredLeases {
    dispatch: Dispatch,
    leases: Vec<LeaseRef>,
}

impl Drop for UndeliveredLeases {
    fn drop(&mut self) {
        give_back(&self.dispatch.store, std::mem::take(&mut self.leases));
    }
}
