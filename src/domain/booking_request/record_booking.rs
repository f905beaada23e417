//! RecordBooking: a visit is booked, or the booked visit has moved.

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Booking;
use crate::domain::booking_request::form::BookingSource;
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::Instant;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::Cause;
use crate::domain::slot::{self, Slot, Verdict};
use crate::domain::{Change, Context, Refusal};

/// Command of the caller.
#[derive(Clone, Debug)]
pub struct RecordBooking {
    /// Etag that the caller saw; empty if none.
    pub etag: String,
    /// Booking to record.
    pub booking: Booking,
    /// Identifier of the recorded booking whose place it takes, when the booking system has given it
    /// another.
    pub replaces_booking_id: Option<String>,
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

    /// Checks the booking against the constraints that it comes with, unless staff give a reason to override
    /// them.
    pub(super) fn check_against(
        &self,
        constraints: Option<&Constraints>,
        now: Instant,
    ) -> Result<(), Refusal> {
        match constraints.map(|constraints| slot::evaluate(&self.slot(), constraints, now)) {
            None | Some(Verdict::Offered) => Ok(()),
            Some(_) if self.overrides_constraints() => Ok(()),
            Some(verdict) => Err(Refusal::OutsideConstraints(verdict)),
        }
    }

    /// Returns whether staff give a reason to book outside the constraints.
    fn overrides_constraints(&self) -> bool {
        self.source == BookingSource::Staff && !self.override_reason.is_empty()
    }
}

/// Records a booking; recording the same one again changes nothing, however late it is.
///
/// It is taken exactly when [`slot::evaluate_for`] offers its slot to whoever books, overrides and another
/// visit that is booked already aside. One that takes the place of the recorded booking is judged as its move.
///
/// # Errors
///
/// In this order: [`Refusal::EtagMismatch`]; [`Refusal::NotBookable`] for a state in which nobody or not the
/// patient books; [`Refusal::AlreadyBooked`] and [`Refusal::BookingMismatch`]; [`Refusal::TooLate`];
/// [`Refusal::OutsideConstraints`].
pub fn record_booking(
    stored: Option<&BookingRequest>,
    command: &RecordBooking,
    context: &Context,
) -> Result<Change, Refusal> {
    let record = stored.ok_or(Refusal::NotFound)?;
    record.check_etag(&command.etag)?;
    let booking = &command.booking;
    if record.booked() == Some(booking) {
        return Ok(Change {
            record: record.clone(),
            history: Vec::new(),
        });
    }
    record.check_bookable(command, context)?;

    let mut record = record.clone();
    record.form.booking = Some(booking.clone());
    record.state = State::Booked;
    let cancelled = record.cancel_pending(Cause::Booked);
    let mut history = vec![HistoryEntry {
        booking: Some(booking.clone()),
        ..record.history_entry(Event::RecordBooking, context)
    }];
    history.extend(record.cancelled_entries(&cancelled, context));
    Ok(record.finish_change(stored, history, context))
}

impl BookingRequest {
    /// Returns the visit that is booked now.
    fn booked(&self) -> Option<&Booking> {
        match self.state {
            State::Booked => self.form.booking.as_ref(),
            State::Requested | State::Invited | State::Declined | State::Cancelled => None,
        }
    }

    fn check_bookable(&self, command: &RecordBooking, context: &Context) -> Result<(), Refusal> {
        let (booking, now) = (&command.booking, context.now);
        let verdict = slot::evaluate_for(self, booking.source, &booking.slot(), context);
        match (verdict, self.booking_conflict(command)) {
            (Verdict::RequestClosed | Verdict::NotInvited | Verdict::NotOpenYet, _) => {
                Err(Refusal::NotBookable {
                    verdict,
                    state: self.effective_state(now),
                    allowed: self.allowed_actions(now),
                })
            }
            (_, Some(refusal)) => Err(refusal),
            (Verdict::Offered, None) => Ok(()),
            (Verdict::TooLate, None) => Err(Refusal::TooLate),
            (
                Verdict::Past
                | Verdict::OutsidePeriod
                | Verdict::Weekday
                | Verdict::TimeOfDay
                | Verdict::TooShort
                | Verdict::Performer,
                None,
            ) => match booking.overrides_constraints() {
                true => Ok(()),
                false => Err(Refusal::OutsideConstraints(verdict)),
            },
        }
    }

    /// Returns the refusal of a booking that does not take the place of the one that is booked, if one is:
    /// under the same identifier, or as the command says.
    fn booking_conflict(&self, command: &RecordBooking) -> Option<Refusal> {
        let present = self.booked().map(|it| &it.booking_id);
        match &command.replaces_booking_id {
            Some(replaced) => (present != Some(replaced)).then(|| Refusal::BookingMismatch {
                booking_id: present.cloned(),
            }),
            None => present
                .filter(|it| **it != command.booking.booking_id)
                .map(|it| Refusal::AlreadyBooked {
                    booking_id: it.clone(),
                }),
        }
    }
}
