//! AuthorizeDispatch: permission to hand a notification over now.

use chrono::Duration;
use uuid::Uuid;

use super::State;
use crate::domain::Change;
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::notification::Kind;

/// Shortest time for which an authorization lasts.
pub const AUTHORIZATION_MIN: Duration = Duration::seconds(60);

/// Returns the instant at which the lease of `token` expires, if the notification may be handed over
/// under it at `now`; `None` if it may no longer be delivered as it was leased, or the token is not
/// that of its newest lease.
pub fn authorizable(
    record: &BookingRequest,
    id: Uuid,
    token: Uuid,
    now: Instant,
) -> Option<Instant> {
    let notification = record.notification(id)?;
    let in_time = notification.kind == Kind::Withdrawal || !record.period_has_passed(now);
    let as_leased = notification.is_leased()
        && notification.has_lease(token)
        && !notification.changed_since_lease;
    let is_permitted = as_leased && record.is_deliverable(notification) && in_time;
    let lease = notification.lease.as_ref()?;
    is_permitted.then_some(lease.expires_at)
}

/// Authorizes the dispatch until `until`, or until the lease expires if that is later. The notification
/// is dispatching from then on.
pub fn authorize(record: &BookingRequest, id: Uuid, until: Instant) -> Change {
    record.with(id, |notification| {
        notification.state = State::Dispatching;
        notification.extend_lease(until);
    })
}
