//! Leasing a due notification to a consumer, and releasing a lease that never reached it.

use chrono::Duration;
use uuid::Uuid;

use super::{Cause, EXPIRED_LEASES_MAX, Lease, Notification, State, backoff};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::Hold;
use crate::domain::history::Event;
use crate::domain::notification::Kind;
use crate::domain::{Change, Context};

/// Outcome of an attempt to lease a notification.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseOutcome {
    /// The notification is leased to the consumer.
    Leased(Change),
    /// It could not be leased, but its record was repaired: it left the due index, moved to the other
    /// channel or was parked.
    Repaired(Change),
    /// It cannot be leased.
    NotAvailable,
}

/// Terms of a lease.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Token, new for each lease.
    pub token: Uuid,
    /// Duration of the lease.
    pub duration: Duration,
    /// True if the consumer has promised to hand nothing over without an authorization.
    pub always_authorizes: bool,
    /// True if the notification falls due in an interval of which commits were lost, and may have been handed over then.
    pub in_lost_interval: bool,
}

/// Leases a notification if it is due and still deliverable at `context.now`, and its care unit is not paused.
///
/// Instead, one whose lease has expired eight times in a row is parked, and so is a withdrawal that
/// staff must release; one whose kind another notification has handed over meanwhile is cancelled; one
/// whose period has passed leaves the due index.
pub fn lease(record: &BookingRequest, id: Uuid, terms: Terms, context: &Context) -> LeaseOutcome {
    let now = context.now;
    let Some(found) = record.notification(id) else {
        return LeaseOutcome::NotAvailable;
    };
    if found
        .claimable_at
        .is_none_or(|claimable_at| now < claimable_at)
    {
        return LeaseOutcome::NotAvailable;
    }
    if context.policy.of(&record.key.care_unit).is_paused(now) {
        return LeaseOutcome::NotAvailable;
    }
    if found.kind != Kind::Withdrawal && record.period_has_passed(now) {
        return LeaseOutcome::Repaired(
            record.with(id, |notification| notification.claimable_at = None),
        );
    }
    if record.is_withheld(found) {
        return LeaseOutcome::Repaired(park_withheld(record, id, context));
    }
    if record.is_replaced(found) {
        return LeaseOutcome::Repaired(cancel_replaced(record, id, context));
    }
    let expired = found.is_leased();
    if expired && found.expired_lease_count + 1 >= EXPIRED_LEASES_MAX {
        return LeaseOutcome::Repaired(park_after_expired_leases(record, id, context));
    }
    let (channel, channel_reason) = match found.channel_fixed {
        true => (found.channel, found.channel_reason),
        false => record.choose_channel(now, &context.policy),
    };
    if channel != found.channel {
        // Consumers of the other channel find it under that channel.
        let channel = (channel, channel_reason);
        let moved = |it: &mut Notification| (it.channel, it.channel_reason) = channel;
        return LeaseOutcome::Repaired(record.with(id, moved));
    }
    let addressee = record
        .form
        .patient
        .addressee_at(now, context.policy.of(&record.key.care_unit).ages());
    LeaseOutcome::Leased(record.with(id, |notification| {
        if expired {
            notification.expired_lease_count += 1;
            notification.mark_lease_expired();
        }
        notification.possible_repeat |= terms.in_lost_interval;
        notification.state = State::Leased;
        (notification.channel, notification.channel_reason) = (channel, channel_reason);
        // A lease that was released counts as never given.
        let first_at = notification.first_out_at().unwrap_or(now);
        notification.attempt_count += 1;
        notification.changed_since_lease = false;
        notification.lease = Some(Lease {
            token: terms.token,
            expires_at: now,
            first_at,
            addressee,
            answer: None,
            always_authorizes: terms.always_authorizes,
            released: false,
        });
        notification.extend_lease(now + terms.duration);
    }))
}

/// Releases a lease that never reached its consumer, as if it had not been granted.
///
/// Returns `None` if the notification has been leased again, is dispatching or is no longer leased.
pub fn release(record: &BookingRequest, id: Uuid, token: Uuid) -> Option<Change> {
    let found = record.notification(id)?;
    if found.state != State::Leased || !found.has_lease(token) {
        return None;
    }
    Some(record.with(id, |notification| {
        notification.state = State::Scheduled;
        notification.attempt_count -= 1;
        notification.retry_at = None;
        notification.claimable_at = Some(notification.due_at);
        if let Some(lease) = &mut notification.lease {
            lease.released = true;
        }
    }))
}

/// Parks a withdrawal that staff must release, after its lease has expired.
fn park_withheld(record: &BookingRequest, id: Uuid, context: &Context) -> Change {
    let expired = record.with(id, Notification::mark_lease_expired).record;
    expired.park(
        id,
        Hold::ProtectedIdentity,
        Cause::ProtectedIdentity,
        "",
        context,
    )
}

/// Cancels a notification that was dispatching when another of its kind proved to have been handed over.
fn cancel_replaced(record: &BookingRequest, id: Uuid, context: &Context) -> Change {
    let before = record;
    let mut record = before.with(id, Notification::mark_lease_expired).record;
    if let Some(notification) = record.notification_mut(id) {
        notification.state = State::Cancelled;
        notification.explain(Cause::HandedOver, "");
    }
    let history = record.cancelled_entries(&[id], context);
    record.finish_change(Some(before), history, context)
}

fn park_after_expired_leases(record: &BookingRequest, id: Uuid, context: &Context) -> Change {
    let expired = record.with(id, Notification::mark_lease_expired).record;
    expired.park(id, Hold::Parked, Cause::LeasesRanOut, "", context)
}

impl BookingRequest {
    /// Returns one of the request's notifications.
    pub fn notification(&self, id: Uuid) -> Option<&Notification> {
        self.care_invitation
            .as_ref()?
            .notifications
            .iter()
            .find(|notification| notification.id == id)
    }

    /// Returns whether another notification of the same kind and round was handed over, so that this one, which was not,
    /// is not wanted any more: the one whose place it was to take, or the one that took its place. A letter that
    /// follows a receipt is wanted beside it.
    pub(super) fn is_replaced(&self, notification: &Notification) -> bool {
        !notification.is_follow_up() && self.has_sent_kind_of(notification)
    }

    /// Returns whether a notification of the same kind and round was handed over.
    pub(super) fn has_sent_kind_of(&self, notification: &Notification) -> bool {
        let invitation = self.care_invitation.as_ref();
        invitation.is_some_and(|it| it.has_sent(notification.round, notification.kind))
    }

    /// Returns the record with one notification altered and no new revision, since callers need not see it.
    pub(super) fn with(&self, id: Uuid, alter: impl FnOnce(&mut Notification)) -> Change {
        let mut record = self.clone();
        if let Some(notification) = record.notification_mut(id) {
            alter(notification);
        }
        Change {
            record,
            history: Vec::new(),
        }
    }

    pub(in crate::domain) fn notification_mut(&mut self, id: Uuid) -> Option<&mut Notification> {
        self.care_invitation
            .as_mut()?
            .notifications
            .iter_mut()
            .find(|notification| notification.id == id)
    }

    /// Parks a notification and holds the invitation. `detail` is what a consumer said, if one did.
    pub(super) fn park(
        &self,
        id: Uuid,
        hold: Hold,
        cause: Cause,
        detail: &str,
        context: &Context,
    ) -> Change {
        let mut record = self.clone();
        if let Some(notification) = record.notification_mut(id) {
            notification.state = State::Parked;
            notification.explain(cause, detail);
        }
        record.place_on_hold(hold);
        let parked = record.explained_entry(Event::NotificationParked, id, context);
        record.finish_change(Some(self), vec![parked], context)
    }
}

impl Notification {
    /// Extends the present lease to `until` if it expires before, and sets the time at which the notification
    /// may be claimed again.
    pub(super) fn extend_lease(&mut self, until: Instant) {
        let Some(lease) = &mut self.lease else {
            return;
        };
        lease.expires_at = lease.expires_at.max(until);
        let retry_at = lease.expires_at + backoff(self.expired_lease_count + 1);
        self.retry_at = Some(retry_at);
        // It was postponed while it was dispatching, if it is due later.
        self.claimable_at = Some(retry_at.max(self.due_at));
    }
}
