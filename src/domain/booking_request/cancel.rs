//! CancelBookingRequest: closes a request without a visit.

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::booking_request::state::State;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context, Refusal};

/// What the caller gave.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// The etag that the caller saw; empty when none.
    pub etag: String,
    /// Why.
    pub reason: CancelReason,
    /// Comment for the history; may be empty.
    pub comment: String,
}

/// Closes a request. A patient who has had a message of the invitation is told, unless they asked
/// for it or have died. On a closed request a death alone is taken: it stops a withdrawal that has
/// not left.
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`] when it is closed already.
pub fn cancel(
    stored: Option<&BookingRequest>,
    command: &Cancel,
    context: &Context,
) -> Result<Change, Refusal> {
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    let shown = record.effective_state(context.now);
    let stops_withdrawal =
        shown == EffectiveState::Cancelled && command.reason == CancelReason::PatientDeceased;
    if !stops_withdrawal {
        record.check_allowed(Action::Cancel, context.now)?;
    }

    let mut record = record.clone();
    let ended_booking = match shown {
        EffectiveState::Booked => record.form.booking.clone(),
        EffectiveState::Requested
        | EffectiveState::Invited
        | EffectiveState::Declined
        | EffectiveState::NoResponse
        | EffectiveState::Expired
        | EffectiveState::Cancelled => None,
    };
    record.state = State::Cancelled;
    record.cancel_reason = Some(command.reason);
    let ended = record.cancel_pending("CANCELLED");
    let parked = record.withdraw(shown, command.reason, context);
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(command.reason),
        comment: command.comment.clone(),
        booking: ended_booking,
        ..record.history_entry(Event::CancelBookingRequest, context)
    }];
    history.extend(record.cancelled_entries(&ended, context));
    history.extend(record.withheld_entries(&parked, context));
    Ok(record.finish_change(history, context))
}

impl BookingRequest {
    /// Sees to the withdrawal of an invitation that was shown as `shown` when it was cancelled.
    /// Returns it if it was parked.
    fn withdraw(
        &mut self,
        shown: EffectiveState,
        reason: CancelReason,
        context: &Context,
    ) -> Vec<Uuid> {
        let invited = match shown {
            EffectiveState::Invited | EffectiveState::NoResponse => true,
            EffectiveState::Requested
            | EffectiveState::Booked
            | EffectiveState::Declined
            | EffectiveState::Expired
            | EffectiveState::Cancelled => false,
        };
        let told = match reason {
            CancelReason::PatientRequest | CancelReason::PatientDeceased => false,
            CancelReason::ReferralWithdrawn
            | CancelReason::UnitRequest
            | CancelReason::EnteredInError
            | CancelReason::Other => true,
        };
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        let has_left = invitation.last_channel().is_some();
        let was_out = invitation.has_been_leased();
        invitation.withdraw_when_sent = invited && told && !has_left && was_out;
        match invited && told && has_left {
            true => self.plan_withdrawal(context),
            false => Vec::new(),
        }
    }
}
