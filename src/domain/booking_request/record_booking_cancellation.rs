//! RecordBookingCancellation: a booked visit is off, and the request waits for staff or the patient is invited
//! again.

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::change_to_invitation::{
    check_invitable, constraints_violations,
};
use crate::domain::booking_request::form::{Booking, Constraints};
use crate::domain::booking_request::state::{Action, ChangeReason, State};
use crate::domain::calendar::Instant;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::{Change, Context, Refusal, stored_enum};

stored_enum! {
    /// Reason for which a booked visit is off.
    pub enum BookingCancellationReason {
        /// The patient, or somebody for them, cancelled it.
        Patient = 1,
        /// The care unit cancelled it.
        CareUnit = 2,
        /// The patient did not come.
        NoShow = 3,
    }
}

stored_enum! {
    /// State that follows the cancellation of a booking.
    pub enum Next {
        /// Requested: it waits for staff.
        Requested = 1,
        /// Invited: a new round begins.
        Invited = 2,
    }
}

/// Number of the bookings of a request that were cancelled, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancellations {
    /// Number that the patient cancelled.
    pub by_patient: i32,
    /// Number that the care unit cancelled.
    pub by_unit: i32,
    /// Number to which the patient did not come.
    pub no_shows: i32,
}

impl Cancellations {
    /// Counts one more.
    fn count(&mut self, reason: BookingCancellationReason) {
        let counter = match reason {
            BookingCancellationReason::Patient => &mut self.by_patient,
            BookingCancellationReason::CareUnit => &mut self.by_unit,
            BookingCancellationReason::NoShow => &mut self.no_shows,
        };
        *counter = counter.saturating_add(1);
    }
}

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct RecordBookingCancellation {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Identifier of the booking to cancel.
    pub booking_id: String,
    /// Reason for which the visit is off.
    pub reason: BookingCancellationReason,
    /// Next step of the request.
    pub next: Next,
    /// New constraints, in place of the present ones.
    pub constraints: Option<Constraints>,
    /// Comment for the history; may be empty.
    pub comment: String,
}

/// Cancels the booking of a request.
///
/// # Errors
///
/// In this order: [`Refusal::Invalid`] for constraints that are missing or that today forbids;
/// [`Refusal::EtagMismatch`]; [`Refusal::StateConflict`] if it is not booked;
/// [`Refusal::BookingMismatch`]; [`Refusal::StateConflict`] if the patient is said to have missed a visit
/// that has not begun; with a new round [`Refusal::ReferralRequired`] and [`Refusal::PeriodPassed`].
pub fn record_booking_cancellation(
    stored: Option<&BookingRequest>,
    command: &RecordBookingCancellation,
    context: &Context,
) -> Result<Change, Refusal> {
    let violations = constraints_violations(stored, command.constraints.as_ref(), context);
    if !violations.is_empty() {
        return Err(Refusal::Invalid(violations));
    }
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    record.check_allowed(Action::RecordBookingCancellation, context.now)?;
    let booking = check_booking(record, command, context.now)?;

    let mut changed = record.clone();
    changed.cancellations.count(command.reason);
    let (cancelled, change_reason) = match command.next {
        Next::Requested => {
            changed.reopen(command.constraints.as_ref());
            (Vec::new(), None)
        }
        Next::Invited => {
            check_invitable(record, None, command.constraints.as_ref(), context.now)?;
            let cancelled = changed.invite(command.constraints.as_ref(), context);
            (cancelled, Some(ChangeReason::ToCareInvitation))
        }
    };
    let mut history = vec![HistoryEntry {
        change_reason,
        comment: command.comment.clone(),
        constraints: command.constraints.clone(),
        booking: Some(booking),
        ..changed.history_entry(Event::RecordBookingCancellation, context)
    }];
    history.extend(changed.cancelled_entries(&cancelled, context));
    Ok(changed.finish_change(stored, history, context))
}

/// Returns the booking that the command cancels.
fn check_booking(
    record: &BookingRequest,
    command: &RecordBookingCancellation,
    now: Instant,
) -> Result<Booking, Refusal> {
    let booking = record.form.booking.as_ref();
    let booking = booking.expect("a booked request has a booking");
    if booking.booking_id != command.booking_id {
        return Err(Refusal::BookingMismatch {
            booking_id: Some(booking.booking_id.clone()),
        });
    }
    if command.reason == BookingCancellationReason::NoShow && now < booking.start_at {
        return Err(record.conflict(now, Some("the visit has not begun")));
    }
    Ok(booking.clone())
}

impl BookingRequest {
    /// Opens a booked request again, for staff to book or invite.
    fn reopen(&mut self, constraints: Option<&Constraints>) {
        self.form.booking = None;
        self.form.invitation = false;
        if let Some(constraints) = constraints {
            self.form.constraints = Some(constraints.clone());
        }
        self.state = State::Requested;
        self.may_have_duplicate = true;
    }
}
