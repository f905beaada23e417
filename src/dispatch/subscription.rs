//! The subscription of one consumer: claims as many notifications as there is room for, emits them, and
//! waits.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::time::Instant as Moment;
use uuid::Uuid;

use super::backlog::{EventSender, Room, TaskEnd};
use super::flow_control::FlowControl;
use super::metrics::OpenSubscription;
use super::router::{FallenDue, Interest, Mailbox, Route};
use super::shared::estimated_bytes;
use super::turns::Turns;
use super::{Dispatch, Event, Filter, ask, expiry, release, release_undelivered, sleep_until};
use crate::domain::calendar::Instant;
use crate::domain::care_units::CareUnits;
use crate::domain::notification::LeaseRef;
use crate::store::change_event::LeaseChange;
use crate::store::error::Error;
use crate::store::notification::{CLAIMED_UNITS_MAX, ClaimRequest, Claimed};
use crate::store::retry::ANSWER_PAUSE;
use crate::telemetry::traces;

/// Maximum notifications that one claim asks for, so that no claim occupies the committer for long.
const CLAIM_MAX: usize = 256;
/// Estimated bytes of a request, until one has been claimed.
const RECORD_BYTES: usize = 2 * 1_024;
/// Attribute of a claim's span with the number of notifications that it has leased.
const LEASED_COUNT: &str = "care_invitation.claim.notifications";
/// Estimated bytes of an event without a request.
const EVENT_BYTES: usize = 128;

/// Notifications that were leased together.
struct Claim {
    claimed: Claimed,
    /// Ways to this task of what becomes of the leases, by token.
    routes: HashMap<Uuid, Route>,
    /// Span of the claim, for consumers.
    traceparent: Option<Arc<str>>,
}

/// The task behind one subscription.
pub struct SubscriptionTask {
    dispatch: Dispatch,
    filter: Filter,
    flow: FlowControl,
    events: EventSender<Event>,
    /// Bytes of the largest request that was claimed.
    record_bytes: usize,
    mailbox: Mailbox,
    /// The care units in which something is due, as far as is known.
    turns: Turns,
    /// True when something may be due in any care unit, as at first.
    looks_everywhere: bool,
    last_event_at: Moment,
    /// Span of the stream, to which those of its claims are linked.
    stream: traces::Span,
    _open: OpenSubscription,
}

impl SubscriptionTask {
    /// Returns a task that has emitted nothing yet.
    pub fn new(dispatch: Dispatch, filter: Filter, events: EventSender<Event>) -> Self {
        let (care_units, channels) = (filter.care_units.clone(), filter.channels.clone());
        Self {
            flow: FlowControl::new(filter.outstanding_max),
            mailbox: dispatch.router.open(Interest::Due(care_units, channels)),
            last_event_at: Moment::now(),
            stream: traces::Span::current(),
            _open: dispatch.metrics.open(filter.hides_protected),
            dispatch,
            filter,
            events,
            record_bytes: RECORD_BYTES,
            turns: Turns::default(),
            looks_everywhere: true,
        }
    }

    /// Serves the consumer until it goes, the server shuts down, the clock is no longer trusted or, when the
    /// filter asks for that, nothing is due. Ends the stream with the reason, unless nothing was due.
    pub async fn run(mut self) {
        let end = match self.serve().await {
            Ok(()) => None,
            Err(TaskEnd(end)) => end,
        };
        self.events.end(end);
    }

    async fn serve(&mut self) -> Result<(), TaskEnd> {
        loop {
            let idle = self.fill().await?;
            if idle && self.filter.until_idle {
                return Ok(());
            }
            self.wait().await?;
        }
    }

    /// Claims until there is no room or nothing more is due. Returns true when nothing more is due.
    async fn fill(&mut self) -> Result<bool, TaskEnd> {
        self.follow(true).await?;
        while self.flow.available() > 0 && !self.dispatch.must_end() {
            if self.turns.is_empty() && !self.looks_everywhere {
                return Ok(true);
            }
            // Never cancelled: its leases must reach the consumer or be released.
            let claim = self.claim().await?;
            self.turns.add_last(claim.claimed.open.clone());
            let undelivered = self.deliver(claim)?;
            if !undelivered.leases.is_empty() {
                let units = undelivered.leases.iter();
                let units = units.map(|it| it.request.care_unit.clone());
                self.turns.add_first(units);
                // A claim that is made meanwhile may not find them.
                undelivered.release().await;
            }
            // Each claim uses all the room that there is, and a consumer that is served without a pause is told of
            // revocations. What has fallen due meanwhile is next.
            self.follow(true).await?;
        }
        Ok(false)
    }

    /// Claims once there is room, until the store answers. The loop is written out, since each attempt asks for the
    /// room that there is by then, and the pauses end with the stream, which the attempts must not.
    async fn claim(&mut self) -> Result<Claim, TaskEnd> {
        loop {
            // No more than can be emitted at once.
            let room = self.room().await?;
            let fitting = room.events(self.record_bytes).min(CLAIM_MAX);
            let count = self.flow.available().min(fitting);
            let tokens = (0..count).map(|_| self.dispatch.clock.lease_token());
            let tokens: Vec<Uuid> = tokens.collect();
            let looked_everywhere = self.looks_everywhere;
            let care_units = match looked_everywhere {
                true => self.filter.care_units.clone(),
                false => CareUnits::These(self.turns.take(count.min(CLAIMED_UNITS_MAX))),
            };
            let routes = self.mailbox.follow(&tokens);
            let request = ClaimRequest {
                channels: self.filter.channels.clone(),
                care_units: care_units.clone(),
                tokens,
                lease_duration: self.filter.lease_duration,
                always_authorizes: self.filter.always_authorizes,
                hides_protected: self.filter.hides_protected,
            };
            let dispatch = self.dispatch.clone();
            let context = move || dispatch.context();
            // A trace each: the stream goes on for hours.
            let span = self.stream.begin_trace("claim");
            match span.run(self.dispatch.store.claim(request, context)).await {
                Ok(claimed) => {
                    self.looks_everywhere = false;
                    span.count(LEASED_COUNT, claimed.leased.len());
                    return Ok(Claim {
                        claimed,
                        routes,
                        traceparent: span.traceparent(),
                    });
                }
                Err(Error::Contention | Error::Overloaded | Error::Unavailable(_)) => {
                    span.fail("unavailable");
                    drop(span);
                    tokio::select! {
                        () = tokio::time::sleep(ANSWER_PAUSE) => {}
                        end = self.dispatch.end_reason() => return Err(TaskEnd(Some(end))),
                    }
                    if let CareUnits::These(units) = care_units
                        && !looked_everywhere
                    {
                        self.turns.add_first(units);
                    }
                    self.send_heartbeat_if_due().await?;
                }
                Err(
                    error @ (Error::Clock(_)
                    | Error::Internal(_)
                    | Error::Refused(_)
                    | Error::RequestIdReused),
                ) => {
                    return Err(error.into());
                }
            }
        }
    }

    /// Emits leased notifications as far as there is room: requests may be larger than was estimated. Returns the
    /// leases of the others, which are to be released.
    fn deliver(&mut self, claim: Claim) -> Result<UndeliveredLeases, TaskEnd> {
        let Claim {
            claimed,
            mut routes,
            traceparent,
        } = claim;
        let mut undelivered = UndeliveredLeases {
            dispatch: self.dispatch.clone(),
            leases: claimed
                .leased
                .iter()
                .map(|(_, lease)| lease.clone())
                .rev()
                .collect(),
        };
        for (record, lease) in claimed.leased {
            let bytes = estimated_bytes(&record);
            self.record_bytes = self.record_bytes.max(bytes);
            if !self.events.has_room_for(bytes) {
                return Ok(undelivered);
            }
            let expires_at = expiry(&record, &lease);
            if let Some((expires_at, route)) = expires_at.zip(routes.remove(&lease.token)) {
                self.flow.track(lease.clone(), expires_at, route);
            }
            let record = Box::new(record);
            let due = Event::Due {
                record,
                lease,
                traceparent: traceparent.clone(),
            };
            self.push(due, bytes)?;
            undelivered.leases.pop();
        }
        Ok(undelivered)
    }

    /// Emits an event without a request, once there is room.
    async fn send(&mut self, event: Event) -> Result<(), TaskEnd> {
        let _room = self.room().await?;
        self.push(event, EVENT_BYTES)
    }

    fn push(&mut self, event: Event, bytes: usize) -> Result<(), TaskEnd> {
        self.last_event_at = Moment::now();
        match self.events.emit(event, bytes) {
            true => Ok(()),
            false => Err(TaskEnd(None)),
        }
    }

    /// Waits for room. A consumer may read slowly: leases that it has not read expire.
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
                end = self.dispatch.end_reason() => return Err(TaskEnd(Some(end))),
            }
        }
    }

    async fn send_heartbeat_if_due(&mut self) -> Result<(), TaskEnd> {
        if self.last_event_at.elapsed() >= self.dispatch.heartbeat {
            self.send(Event::Heartbeat).await?;
        }
        Ok(())
    }

    /// Waits until another claim may succeed. Meanwhile emits revocations and heartbeats.
    async fn wait(&mut self) -> Result<(), TaskEnd> {
        loop {
            let available_before = self.flow.available();
            let clock = self.dispatch.clock.clone();
            let expiry = self.flow.next_expiry();
            let can_claim = available_before > 0;
            tokio::select! {
                // In this order: a change of a lease in a commit counts before its expiry by the clock.
                biased;
                () = self.events.closed() => return Err(TaskEnd(None)),
                end = self.dispatch.end_reason() => return Err(TaskEnd(Some(end))),
                () = self.mailbox.arrived(can_claim) => {
                    if self.follow(can_claim).await? {
                        return Ok(());
                    }
                }
                () = sleep_until(&clock, expiry) => self.flow.expire(clock.now()),
                () = tokio::time::sleep_until(self.last_event_at + self.dispatch.heartbeat) => {
                    self.send_heartbeat_if_due().await?;
                }
            }
            // The place that has become free may suit a notification that was due before.
            if available_before == 0 && self.flow.available() > 0 {
                return Ok(());
            }
        }
    }

    /// Loads the changes of these leases. Retries until the store answers or the consumer has gone.
    async fn lease_changes(&self, leases: &[(LeaseRef, Instant)]) -> Vec<(LeaseRef, LeaseChange)> {
        if leases.is_empty() {
            return Vec::new();
        }
        let store = &self.dispatch.store;
        let answer = tokio::select! {
            answer = ask(|| store.lease_changes(leases)) => answer,
            () = self.events.closed() => return Vec::new(),
        };
        answer.unwrap_or_else(|error| {
            // The leases expire by themselves.
            tracing::warn!(%error, "loading lease changes failed");
            Vec::new()
        })
    }

    /// Follows the changes of its leases that have come in the meantime, and what has fallen due, which stays to be followed
    /// without `with_due`. Returns whether something has.
    async fn follow(&mut self, with_due: bool) -> Result<bool, TaskEnd> {
        let mut news = self.mailbox.take(with_due);
        if news.resync {
            news.leases = self.lease_changes(&self.flow.leases()).await;
        }
        self.apply(&news.leases).await?;
        let is_due = !news.due.is_nothing();
        match news.due {
            FallenDue::In(units) => self.turns.add_first(units),
            FallenDue::Anywhere => self.looks_everywhere = true,
        }
        Ok(is_due)
    }

    async fn apply(&mut self, lease_changes: &[(LeaseRef, LeaseChange)]) -> Result<(), TaskEnd> {
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

/// Leases whose notifications are not on their way to the consumer yet, the last first. Released when
/// dropped.
struct UndeliveredLeases {
    dispatch: Dispatch,
    leases: Vec<LeaseRef>,
}

impl UndeliveredLeases {
    /// Releases the leases, and waits until that is stored.
    async fn release(mut self) {
        release(&self.dispatch.store, std::mem::take(&mut self.leases)).await;
    }
}

impl Drop for UndeliveredLeases {
    fn drop(&mut self) {
        release_undelivered(&self.dispatch.store, std::mem::take(&mut self.leases));
    }
}
