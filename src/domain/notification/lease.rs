//! Leasing a due message to a consumer, and giving it back unseen.

use chrono::Duration;
use uuid::Uuid;

use super::{LAPSES_MAX, Lease, Notification, State, backoff};
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::Kind;
use crate::domain::withdrawal::WITHHELD;
use crate::domain::{Change, Context};

/// What came of an attempt to lease a message.
#[derive(Clone, Debug, PartialEq)]
pub enum LeaseOutcome {
    /// The consumer has it.
    Leased(Change),
    /// It was not to be had, but something was put right: it left the due index or was parked.
    Repaired(Change),
    /// It is not to be had.
    NotAvailable,
}

/// Leases a message if it is due and still wanted at `context.now`.
///
/// One whose lease has run out eight times in a row is parked instead, and so is a withdrawal that
/// staff must release. One whose period has passed
/// leaves the due index.
pub fn lease(
    record: &BookingRequest,
    id: Uuid,
    token: Uuid,
    duration: Duration,
    context: &Context,
) -> LeaseOutcome {
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
    if found.kind != Kind::Withdrawal && record.period_has_passed(now) {
        return LeaseOutcome::Repaired(record.with(id, |message| message.claimable_at = None));
    }
    if record.is_withheld(found) {
        return LeaseOutcome::Repaired(park_withheld(record, id, context));
    }
    let lapsed = found.is_leased();
    if lapsed && found.expired_lease_count + 1 >= LAPSES_MAX {
        return LeaseOutcome::Repaired(park_after_lapses(record, id, context));
    }
    let (channel, channel_reason) = match found.channel_fixed {
        true => (found.channel, found.channel_reason),
        false => record.choose_channel(),
    };
    if channel != found.channel {
        // It is for the consumers of the other channel, who find it under that.
        let channel = (channel, channel_reason);
        let moved = |it: &mut Notification| (it.channel, it.channel_reason) = channel;
        return LeaseOutcome::Repaired(record.with(id, moved));
    }
    LeaseOutcome::Leased(record.with(id, |message| {
        if lapsed {
            message.expired_lease_count += 1;
            message.end_unanswered();
        }
        message.state = State::Leased;
        (message.channel, message.channel_reason) = (channel, channel_reason);
        message.attempt_count += 1;
        message.changed_since_lease = false;
        let first_at = message.lease.as_ref().map_or(now, |lease| lease.first_at);
        message.lease = Some(Lease {
            token,
            expires_at: now,
            first_at,
            answer: None,
        });
        message.lease_lasts_until(now + duration);
    }))
}

/// Gives back a lease that never reached its consumer, as if it had not been given.
///
/// Nothing happens when the message has been leased anew or is no longer leased.
pub fn release(record: &BookingRequest, id: Uuid, token: Uuid) -> Option<Change> {
    let found = record.notification(id)?;
    if found.state != State::Leased || !found.has_lease(token) {
        return None;
    }
    Some(record.with(id, |message| {
        message.state = State::Scheduled;
        message.attempt_count -= 1;
        message.retry_at = None;
        message.claimable_at = Some(message.due_at);
    }))
}

/// Parks a withdrawal whose lease has run out on its way, and which staff must release.
fn park_withheld(record: &BookingRequest, id: Uuid, context: &Context) -> Change {
    let lapsed = record.with(id, Notification::end_unanswered).record;
    lapsed.park(id, Hold::ProtectedIdentity, WITHHELD, context)
}

fn park_after_lapses(record: &BookingRequest, id: Uuid, context: &Context) -> Change {
    record.park(id, Hold::Parked, "LEASES_RAN_OUT", context)
}

impl BookingRequest {
    /// Returns one of its messages.
    pub fn notification(&self, id: Uuid) -> Option<&Notification> {
        self.care_invitation
            .as_ref()?
            .notifications
            .iter()
            .find(|message| message.id == id)
    }

    /// Returns the record with one message altered and nothing else: not a change that callers see.
    pub(super) fn with(&self, id: Uuid, alter: impl FnOnce(&mut Notification)) -> Change {
        let mut record = self.clone();
        if let Some(message) = record.notification_mut(id) {
            alter(message);
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
            .find(|message| message.id == id)
    }

    /// Sets a message aside and holds the invitation.
    pub(super) fn park(&self, id: Uuid, hold: Hold, cause: &str, context: &Context) -> Change {
        let mut record = self.clone();
        if let Some(message) = record.notification_mut(id) {
            message.state = State::Parked;
            message.cause = Some(cause.to_owned());
        }
        record.place_on_hold(hold);
        let parked = HistoryEntry {
            notification: Some(id),
            comment: cause.to_owned(),
            ..record.history_entry(Event::NotificationParked, context)
        };
        record.finish_change(vec![parked], context)
    }
}

impl Notification {
    /// Makes the present lease last until `until` at the least, and with it sets when the message may be
    /// claimed again.
    pub(super) fn lease_lasts_until(&mut self, until: Instant) {
        let Some(lease) = &mut self.lease else {
            return;
        };
        lease.expires_at = lease.expires_at.max(until);
        let claimable_at = lease.expires_at + backoff(self.expired_lease_count + 1);
        self.retry_at = Some(claimable_at);
        self.claimable_at = Some(claimable_at);
    }
}
