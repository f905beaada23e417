//! CancelBookingRequest: closes a request without a visit.

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::Instant;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::Cause;
use crate::domain::{Change, Context, Refusal};

/// Obstacle to closing a request for NO_RESPONSE.
const ANSWERABLE: &str = "NO_RESPONSE needs an invitation that was not answered in time";

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct Cancel {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Reason for closing the request.
    pub reason: CancelReason,
    /// Comment for the history; may be empty.
    pub comment: String,
}

/// Closes a request. A patient who has had a notification of the invitation is sent a withdrawal, unless
/// they asked for it or have died. On a closed request only a death is accepted: it stops a withdrawal
/// that has not been handed over.
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`] if it is closed already, or is said not to have
/// been answered and is no invitation that has waited in vain.
pub fn cancel(
    stored: Option<&BookingRequest>,
    command: &Cancel,
    context: &Context,
) -> Result<Change, Refusal> {
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    let effective = record.effective_state(context.now);
    let stops_withdrawal =
        effective == EffectiveState::Cancelled && command.reason == CancelReason::PatientDeceased;
    if !stops_withdrawal {
        record.check_allowed(Action::Cancel, context.now)?;
    }
    if command.reason == CancelReason::NoResponse && !record.is_without_answer(context.now) {
        return Err(record.conflict(context.now, Some(ANSWERABLE)));
    }

    let mut record = record.clone();
    let ended_booking = match effective {
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
    let cancelled = record.cancel_pending(Cause::Cancelled);
    let parked = record.withdraw(effective, command.reason, context);
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(command.reason),
        comment: command.comment.clone(),
        booking: ended_booking,
        ..record.history_entry(Event::CancelBookingRequest, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    history.extend(record.withheld_entries(&parked, context));
    Ok(record.finish_change(stored, history, context))
}

impl BookingRequest {
    /// Returns whether it is an invitation that the patient has not answered: NO_RESPONSE, or expired.
    fn is_without_answer(&self, now: Instant) -> bool {
        let has_waited = match self.effective_state(now) {
            EffectiveState::NoResponse | EffectiveState::Expired => true,
            EffectiveState::Requested
            | EffectiveState::Invited
            | EffectiveState::Booked
            | EffectiveState::Declined
            | EffectiveState::Cancelled => false,
        };
        self.state == State::Invited && has_waited
    }

    /// Plans the withdrawal of an invitation that is cancelled in the effective state `effective`, now or, if
    /// it is not known whether a notification was handed over, later. Returns its id if it was parked.
    fn withdraw(
        &mut self,
        effective: EffectiveState,
        reason: CancelReason,
        context: &Context,
    ) -> Vec<Uuid> {
        let invited = effective.awaits_patient();
        let is_informed = match reason {
            CancelReason::PatientRequest | CancelReason::PatientDeceased => false,
            CancelReason::ReferralWithdrawn
            | CancelReason::UnitRequest
            | CancelReason::EnteredInError
            | CancelReason::Other
            | CancelReason::NoResponse
            | CancelReason::NoShow
            | CancelReason::PatientMoved
            | CancelReason::CaredForElsewhere
            | CancelReason::Transferred => true,
        };
        let Some(invitation) = &mut self.care_invitation else {
            return Vec::new();
        };
        let is_told = invitation.is_told();
        let was_leased = invitation.has_been_leased();
        invitation.withdraw_when_sent = invited && is_informed && !is_told && was_leased;
        match invited && is_informed && is_told {
            true => self.plan_withdrawal(context),
            false => Vec::new(),
        }
    }
}
