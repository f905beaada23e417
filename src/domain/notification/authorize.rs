//! AuthorizeDispatch: permission to hand a notification over now.

use chrono::Duration;
use uuid::Uuid;

use super::{DispatchRefusal, Kind, State};
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::{self, CancelReason};
use crate::domain::calendar::Instant;
use crate::domain::{Change, Context};

/// Shortest time for which an authorization lasts.
pub const AUTHORIZATION_MIN: Duration = Duration::seconds(60);

/// Returns the instant at which the lease of `token` expires, if the notification may be handed over
/// under it now.
///
/// # Errors
///
/// The first [`DispatchRefusal`] that applies.
pub fn authorizable(
    record: &BookingRequest,
    id: Uuid,
    token: Uuid,
    context: &Context,
) -> Result<Instant, DispatchRefusal> {
    let now = context.now;
    let notification = record.notification(id);
    let notification = notification.filter(|it| it.has_lease(token));
    let (Some(notification), Some(invitation)) = (notification, &record.care_invitation) else {
        return Err(DispatchRefusal::Lost);
    };
    let Some(lease) = &notification.lease else {
        return Err(DispatchRefusal::Lost);
    };
    let is_withdrawal = notification.kind == Kind::Withdrawal;
    match record.state {
        state::State::Booked => return Err(DispatchRefusal::Booked),
        state::State::Declined => return Err(DispatchRefusal::Declined),
        state::State::Requested => return Err(DispatchRefusal::Revoked),
        state::State::Cancelled
            if !is_withdrawal || record.cancel_reason == Some(CancelReason::PatientDeceased) =>
        {
            return Err(DispatchRefusal::Cancelled);
        }
        state::State::Cancelled | state::State::Invited => {}
    }
    let is_held = invitation.hold.is_some() && !is_withdrawal;
    if is_held || notification.state == State::Parked || record.is_withheld(notification) {
        return Err(DispatchRefusal::Held);
    }
    // A lease that was thought not to have reached its consumer has reached it after all.
    let is_released = lease.released && notification.state == State::Scheduled;
    let is_paused = context.policy.of(&record.key.care_unit).is_paused(now);
    // A pause revokes a lease without a change of the notification.
    let is_paused_lease =
        is_paused && notification.state == State::Scheduled && lease.answer.is_none();
    let is_as_leased = (notification.is_leased() || is_released || is_paused_lease)
        && !notification.changed_since_lease;
    let is_of_old_round = !is_withdrawal && notification.round != invitation.round;
    if !is_as_leased || is_of_old_round || record.is_replaced(notification) {
        return Err(DispatchRefusal::Changed);
    }
    if !is_withdrawal && record.period_has_passed(now) || !record.is_deliverable(notification) {
        return Err(DispatchRefusal::Expired);
    }
    if is_paused {
        return Err(DispatchRefusal::Paused);
    }
    Ok(lease.expires_at)
}

/// Authorizes the dispatch until `until`, or until the lease expires if that is later. The notification
/// is dispatching from then on, and counts as leased if its lease had been released.
pub fn authorize(record: &BookingRequest, id: Uuid, until: Instant) -> Change {
    record.with(id, |notification| {
        notification.state = State::Dispatching;
        if let Some(lease) = &mut notification.lease
            && std::mem::take(&mut lease.released)
        {
            notification.attempt_count += 1;
        }
        notification.extend_lease(until);
    })
}
