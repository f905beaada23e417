//! UpdatePatient: what has been learned about a patient, for one of their requests.

use crate::domain::booking_request::{BookingRequest, CancelReason, State};
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
/// Open requests take what is new. With a death they are cancelled, and a withdrawal that has not
/// left is stopped.
pub fn update_patient(
    record: &BookingRequest,
    command: &UpdatePatient,
    context: &Context,
) -> Option<Change> {
    if command.deceased {
        return close(record, context);
    }
    if !record.is_open() {
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
    if protection.is_some() && protection != record.form.patient.protection {
        updated.hold_messages(Hold::ProtectedIdentity);
    }
    let entry = updated.entry(Event::UpdatePatient, context);
    Some(updated.conclude(vec![entry], context))
}

fn close(record: &BookingRequest, context: &Context) -> Option<Change> {
    let mut record = record.clone();
    match record.state {
        State::Requested | State::Invited => {}
        State::Cancelled if record.withdrawal_can_be_stopped() => {}
        State::Booked | State::Declined | State::Cancelled => return None,
    }
    record.state = State::Cancelled;
    record.cancel_reason = Some(CancelReason::PatientDeceased);
    if let Some(invitation) = &mut record.care_invitation {
        invitation.withdraw_when_sent = false;
    }
    let ended = record.end_messages("PATIENT_DECEASED");
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(CancelReason::PatientDeceased),
        ..record.entry(Event::UpdatePatient, context)
    }];
    history.extend(record.cancelled_entries(&ended, context));
    Some(record.conclude(history, context))
}
