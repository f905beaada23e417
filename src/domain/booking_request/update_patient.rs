//! UpdatePatient: what has been learned about a patient, for one of their requests.

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{Instant, civil_date};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::patient::{DigitalReach, PersonalId, Protection};
use crate::domain::{Change, Context, Refusal};

/// What the caller gave; an outer none stays as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdatePatient {
    /// Protected identity.
    pub protection: Option<Option<Protection>>,
    /// Whether 1177 reaches the patient.
    pub digital_reach: Option<Option<DigitalReach>>,
    /// The language to address the patient in.
    pub language: Option<String>,
    /// The patient has died.
    pub deceased: bool,
}

/// Says whether the number can be a patient's at `now`.
///
/// # Errors
///
/// [`Refusal::Invalid`] when it holds a date in the future.
pub fn check_patient(personal_id: &PersonalId, now: Instant) -> Result<(), Refusal> {
    match personal_id.violation("patient.personal_id", civil_date(now)) {
        Some(violation) => Err(Refusal::Invalid(vec![violation])),
        None => Ok(()),
    }
}

/// Applies it to a request of the patient; `None` when that changes nothing.
///
/// A request that is not cancelled takes what is new, booked and declined ones without any other
/// change, and so does a cancelled one of which a withdrawal may leave yet. New protection holds an
/// invitation and parks a withdrawal. With a death all of them are cancelled, and a withdrawal that
/// has not left is stopped.
pub fn update_patient(
    record: &BookingRequest,
    command: &UpdatePatient,
    context: &Context,
) -> Option<Change> {
    if command.deceased {
        return close(record, context);
    }
    if !record.learns() {
        return None;
    }
    let mut updated = record.clone();
    let patient = &mut updated.form.patient;
    if let Some(digital_reach) = command.digital_reach {
        patient.digital_reach = digital_reach;
    }
    if let Some(language) = &command.language {
        patient.language.clone_from(language);
    }
    if let Some(protection) = command.protection {
        patient.protection = protection;
    }
    if updated.form.patient == record.form.patient {
        return None;
    }
    let protection = updated.form.patient.protection;
    let parked = match protection.is_some() && protection != record.form.patient.protection {
        true => updated.protect(),
        false => Vec::new(),
    };
    let mut history = vec![updated.history_entry(Event::UpdatePatient, context)];
    history.extend(updated.withheld_entries(&parked, context));
    Some(updated.finish_change(history, context))
}

impl BookingRequest {
    /// Returns true when what is learned about the patient still matters to it.
    fn learns(&self) -> bool {
        match self.state {
            State::Requested | State::Invited | State::Booked | State::Declined => true,
            State::Cancelled => self.may_yet_withdraw(),
        }
    }

    /// Sees to it that nothing is sent to a patient who has got protection unless staff release it.
    /// Returns the messages that it parked.
    fn protect(&mut self) -> Vec<Uuid> {
        match self.state {
            State::Requested | State::Invited => {
                self.place_on_hold(Hold::ProtectedIdentity);
                Vec::new()
            }
            // Nothing waits, and the next round begins held.
            State::Booked | State::Declined => Vec::new(),
            State::Cancelled => self.withhold_withdrawal(),
        }
    }
}

fn close(record: &BookingRequest, context: &Context) -> Option<Change> {
    if !record.learns() {
        return None;
    }
    let mut record = record.clone();
    let ended_booking = match record.state {
        State::Booked => record.form.booking.clone(),
        State::Requested | State::Invited | State::Declined | State::Cancelled => None,
    };
    record.state = State::Cancelled;
    record.cancel_reason = Some(CancelReason::PatientDeceased);
    if let Some(invitation) = &mut record.care_invitation {
        invitation.withdraw_when_sent = false;
    }
    let ended = record.cancel_pending("PATIENT_DECEASED");
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(CancelReason::PatientDeceased),
        booking: ended_booking,
        ..record.history_entry(Event::UpdatePatient, context)
    }];
    history.extend(record.cancelled_entries(&ended, context));
    Some(record.finish_change(history, context))
}
