//! ReleaseHold: staff decide that waiting notifications may be sent.

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::Action;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::{ChannelReason, DeliveryChannel, State};
use crate::domain::{Change, Context, Refusal};

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct ReleaseHold {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Channel for the rest of the round; `None` leaves the choice as it was.
    pub channel: Option<DeliveryChannel>,
    /// Reason why it may be sent.
    pub comment: String,
}

/// Lifts the hold: notifications that are scheduled or parked are sent when they are due.
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`] if nothing holds it.
pub fn release_hold(
    stored: Option<&BookingRequest>,
    command: &ReleaseHold,
    context: &Context,
) -> Result<Change, Refusal> {
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    record.check_allowed(Action::ReleaseHold, context.now)?;

    let mut record = record.clone();
    if let Some(invitation) = &mut record.care_invitation {
        invitation.hold = None;
        if command.channel.is_some() {
            invitation.staff_channel = command.channel;
        }
        for notification in &mut invitation.notifications {
            if notification.waits(context.now) {
                notification.released_at = Some(context.now);
            }
            match notification.state {
                State::Scheduled | State::Parked => {
                    notification.state = State::Scheduled;
                    notification.retry_at = None;
                    notification.clear_cause();
                    notification.expired_lease_count = 0;
                    if let (true, Some(channel)) = (notification.channel_fixed, command.channel) {
                        notification.channel = channel;
                        notification.channel_reason = ChannelReason::Staff;
                    }
                }
                State::Leased | State::Dispatching | State::Sent | State::Cancelled => {}
            }
        }
    }
    let released = HistoryEntry {
        comment: command.comment.clone(),
        ..record.history_entry(Event::ReleaseHold, context)
    };
    Ok(record.finish_change(stored, vec![released], context))
}
