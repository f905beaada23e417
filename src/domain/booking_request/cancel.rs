//! CancelBookingRequest: closes a request without a visit.

use crate::domain::booking_request::{Action, BookingRequest, CancelReason, State};
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

/// Closes a request.
///
/// # Errors
///
/// [`Refusal::EtagMismatch`], then [`Refusal::StateConflict`] when it is closed already.
pub fn cancel(
    record: &BookingRequest,
    command: &Cancel,
    context: &Context,
) -> Result<Change, Refusal> {
    record.check_etag(&command.etag)?;
    record.check_allowed(Action::Cancel, context.now)?;

    let mut record = record.clone();
    let ended_booking = record.form.booking.clone();
    record.state = State::Cancelled;
    record.cancel_reason = Some(command.reason);
    let ended = record.end_messages("CANCELLED");
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(command.reason),
        comment: command.comment.clone(),
        booking: ended_booking,
        ..record.entry(Event::CancelBookingRequest, context)
    }];
    history.extend(record.cancelled_entries(&ended, context));
    Ok(record.conclude(history, context))
}
