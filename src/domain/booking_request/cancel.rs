//! CancelBookingRequest: closes a request without a visit.

use uuid::Uuid;

use crate::domain::booking_request::{Action, BookingRequest, CancelReason, ShownState, State};
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
    let shown = record.shown_state(context.now);
    let stops_withdrawal =
        shown == ShownState::Cancelled && command.reason == CancelReason::PatientDeceased;
    if !stops_withdrawal {
        record.check_allowed(Action::Cancel, context.now)?;
    }

    let mut record = record.clone();
    let ended_booking = match shown {
        ShownState::Booked => record.form.booking.clone(),
        ShownState::Requested
        | ShownState::Invited
        | ShownState::Declined
        | ShownState::NoResponse
        | ShownState::Expired
        | ShownState::Cancelled => None,
    };
    record.state = State::Cancelled;
    record.cancel_reason = Some(command.reason);
    let ended = record.end_messages("CANCELLED");
    let parked = record.withdraw(shown, command.reason, context);
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(command.reason),
        comment: command.comment.clone(),
        booking: ended_booking,
        ..record.entry(Event::CancelBookingRequest, context)
    }];
    history.extend(record.cancelled_entries(&ended, context));
    history.extend(record.withheld_entries(&parked, context));
    Ok(record.conclude(history, context))
}

impl BookingRequest {
    /// Sees to the withdrawal of an invitation that was shown as `shown` when it was cancelled.
    /// Returns it if it was parked.
    fn withdraw(
        &mut self,
        shown: ShownState,
        reason: CancelReason,
        context: &Context,
    ) -> Vec<Uuid> {
        let invited = match shown {
            ShownState::Invited | ShownState::NoResponse => true,
            ShownState::Requested
            | ShownState::Booked
            | ShownState::Declined
            | ShownState::Expired
            | ShownState::Cancelled => false,
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
