//! AuthorizeDispatch: leave to hand a message over now.

use chrono::Duration;
use uuid::Uuid;

use super::State;
use crate::domain::Change;
use crate::domain::booking_request::BookingRequest;
use crate::domain::calendar::Instant;
use crate::domain::notification::Kind;

/// How long a leave lasts at the least.
pub const AUTHORIZATION_MIN: Duration = Duration::seconds(60);

/// Returns when the lease that `token` names runs out, if the message may be handed over under it at
/// `now`; `None` when it is no longer wanted as it was leased, or the lease is not the newest.
pub fn authorizable(
    record: &BookingRequest,
    id: Uuid,
    token: Uuid,
    now: Instant,
) -> Option<Instant> {
    let message = record.notification(id)?;
    let in_time = message.kind == Kind::Withdrawal || !record.period_has_passed(now);
    let as_leased = message.is_leased() && message.has_lease(token) && !message.changed_since_lease;
    let wanted = as_leased && record.is_deliverable(message) && in_time;
    let lease = message.lease.as_ref()?;
    wanted.then_some(lease.expires_at)
}

/// Gives leave until `until`, or until the lease runs out where that is later. The message counts
/// as on its way from then on.
pub fn authorize(record: &BookingRequest, id: Uuid, until: Instant) -> Change {
    record.with(id, |message| {
        message.state = State::Dispatching;
        message.lease_lasts_until(until);
    })
}
