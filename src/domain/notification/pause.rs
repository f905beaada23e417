//! The pause of a care unit: what is leased in it is revoked, and waits until the pause ends.

use super::State;
use crate::domain::booking_request::BookingRequest;
use crate::domain::{Change, Context};

/// Revokes the leases of a request whose care unit is paused at `context.now`, with no new revision, since
/// callers need not see it. Notifications that are dispatching run their course. Returns `None` if the care
/// unit is not paused or nothing is leased.
pub fn revoke_leased(record: &BookingRequest, context: &Context) -> Option<Change> {
    let is_paused = context
        .policy
        .of(&record.key.care_unit)
        .is_paused(context.now);
    let notifications = &record.care_invitation.as_ref()?.notifications;
    let has_leased = notifications.iter().any(|it| it.state == State::Leased);
    if !is_paused || !has_leased {
        return None;
    }
    let mut record = record.clone();
    if let Some(invitation) = &mut record.care_invitation {
        for notification in &mut invitation.notifications {
            notification.revoke();
        }
    }
    record.recompute_derived(context);
    Some(Change {
        record,
        history: Vec::new(),
    })
}
