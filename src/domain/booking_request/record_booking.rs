//! RecordBooking: a visit is booked, or the booked visit has moved.

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Booking;
use crate::domain::booking_request::form::BookingSource;
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::state::Action;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::Instant;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::slot::{self, Slot, Verdict};
use crate::domain::{Change, Context, Refusal};

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct RecordBooking {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Booking to record.
    pub booking: Booking,
}

impl Booking {
    /// Returns the slot that is booked.
    pub fn slot(&self) -> Slot {
        Slot {
            start_at: self.start_at,
            end_at: self.end_at,
            performer_id: self.performer_id.clone(),
        }
    }

    /// Checks the booking against the constraints of its request, unless staff give a reason to override
    /// them.
    pub(super) fn check_against(
        &self,
        constraints: Option<&Constraints>,
        now: Instant,
    ) -> Result<(), Refusal> {
        let overridden = self.source == BookingSource::Staff && !self.override_reason.is_empty();
        match constraints.map(|constraints| slot::evaluate(&self.slot(), constraints, now)) {
            None | Some(Verdict::Offered) => Ok(()),
            Some(_) if overridden => Ok(()),
            Some(verdict) => Err(Refusal::OutsideConstraints(verdict)),
        }
    }
}

/// Records a booking; recording the same one again changes nothing.
///
/// # Errors
///
/// In this order: [`Refusal::EtagMismatch`]; [`Refusal::StateConflict`] if cancelled, and for a
/// booking by the patient outside INVITED, NO_RESPONSE and BOOKED; [`Refusal::AlreadyBooked`];
/// [`Refusal::OutsideConstraints`].
pub fn record_booking(
    stored: Option<&BookingRequest>,
    command: &RecordBooking,
    context: &Context,
) -> Result<Change, Refusal> {
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    let booking = &command.booking;
    check_state(record, booking.source, context)?;
    if let Some(present) = &record.form.booking {
        if present.booking_id != booking.booking_id {
            return Err(Refusal::AlreadyBooked {
                booking_id: present.booking_id.clone(),
            });
        }
        if present == booking {
            return Ok(Change {
                record: record.clone(),
                history: Vec::new(),
            });
        }
    }
    booking.check_against(record.form.constraints.as_ref(), context.now)?;

    let mut record = record.clone();
    record.form.booking = Some(booking.clone());
    record.state = State::Booked;
    let cancelled = record.cancel_pending("BOOKED");
    let mut history = vec![HistoryEntry {
        booking: Some(booking.clone()),
        ..record.history_entry(Event::RecordBooking, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    Ok(record.finish_change(history, context))
}

fn check_state(
    record: &BookingRequest,
    source: BookingSource,
    context: &Context,
) -> Result<(), Refusal> {
    record.check_allowed(Action::RecordBooking, context.now)?;
    match (source, record.effective_state(context.now)) {
        (BookingSource::Staff, _)
        | (
            BookingSource::Patient,
            EffectiveState::Invited | EffectiveState::NoResponse | EffectiveState::Booked,
        ) => Ok(()),
        (
            BookingSource::Patient,
            EffectiveState::Requested
            | EffectiveState::Declined
            | EffectiveState::Expired
            | EffectiveState::Cancelled,
        ) => Err(record.conflict(context.now)),
    }
}
