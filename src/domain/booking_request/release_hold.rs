//! ReleaseHold: staff decide that what waits may go out.

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::Action;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::{Channel, ChannelReason, State};
use crate::domain::{Change, Context, Refusal};

/// What the caller gave.
#[derive(Clone, Debug)]
pub struct ReleaseHold {
    /// The etag that the caller saw; empty when none.
    pub etag: String,
    /// The channel for the rest of the round; none leaves the choice as it was.
    pub channel: Option<Channel>,
    /// Why it may be sent.
    pub comment: String,
}

/// Lifts the hold: the message that waits or was parked goes out when it is due.
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`] when nothing holds it.
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
        for message in &mut invitation.notifications {
            if message.waits(context.now) {
                message.released_at = Some(context.now);
            }
            match message.state {
                State::Scheduled | State::Parked => {
                    message.state = State::Scheduled;
                    message.retry_at = None;
                    message.cause = None;
                    message.expired_lease_count = 0;
                    if let (true, Some(channel)) = (message.channel_fixed, command.channel) {
                        message.channel = channel;
                        message.channel_reason = ChannelReason::Staff;
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
    Ok(record.finish_change(vec![released], context))
}
