//! UpdatePatient: new facts about a patient, applied to one of their requests.

use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{Instant, civil_date};
use crate::domain::care_invitation::Hold;
use crate::domain::history::{Event, HistoryEntry};
use crate::domain::notification::Cause;
use crate::domain::patient::{
    Addressee, InboxReach, LetterFormat, Patient, PersonalId, Protection,
};
use crate::domain::{Change, Context, Refusal};

/// Command of the caller; an outer `None` leaves a field as it is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct UpdatePatient {
    /// Protected identity.
    pub protection: Option<Option<Protection>>,
    /// Use of 1177.
    pub inbox_reach: Option<Option<InboxReach>>,
    /// Language to address the patient in.
    pub language: Option<String>,
    /// Person whom notifications are addressed to.
    pub addressee: Option<Option<Addressee>>,
    /// Language for which the visit needs an interpreter.
    pub interpreter_language: Option<Option<String>>,
    /// Form in which the patient can read a letter.
    pub letter_format: Option<LetterFormat>,
    /// True if the patient has died.
    pub deceased: bool,
}

impl UpdatePatient {
    /// Sets the fields that the command names.
    fn edit(&self, patient: &mut Patient) {
        if let Some(inbox_reach) = self.inbox_reach {
            patient.inbox_reach = inbox_reach;
        }
        if let Some(language) = &self.language {
            patient.language.clone_from(language);
        }
        if let Some(protection) = self.protection {
            patient.protection = protection;
        }
        if let Some(addressee) = self.addressee {
            patient.addressee = addressee;
        }
        if let Some(language) = &self.interpreter_language {
            patient.interpreter_language.clone_from(language);
        }
        if let Some(letter_format) = self.letter_format {
            patient.letter_format = letter_format;
        }
    }
}

/// Checks that the number in `field` can be a patient's at `now`.
///
/// # Errors
///
/// [`Refusal::Invalid`] if it holds a date in the future.
pub fn check_patient(field: &str, personal_id: &PersonalId, now: Instant) -> Result<(), Refusal> {
    match personal_id.violation(field, civil_date(now)) {
        Some(violation) => Err(Refusal::Invalid(vec![violation])),
        None => Ok(()),
    }
}

/// Applies the update to a request of the patient; returns `None` if that changes nothing.
///
/// Requests that are not cancelled are updated, and so are cancelled ones of which a withdrawal may
/// still be sent. New protection holds an invitation and parks a withdrawal; on others it has no further
/// effect. A death cancels all of them, and stops a withdrawal that has not been handed over.
pub fn update_patient(
    record: &BookingRequest,
    command: &UpdatePatient,
    context: &Context,
) -> Option<Change> {
    if command.deceased {
        return close_deceased(record, context);
    }
    if !record.accepts_updates() {
        return None;
    }
    let mut updated = record.clone();
    command.edit(&mut updated.form.patient);
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
    Some(updated.finish_change(Some(record), history, context))
}

impl BookingRequest {
    /// Returns whether new facts about the patient still matter to the request.
    pub(super) fn accepts_updates(&self) -> bool {
        match self.state {
            State::Requested | State::Invited | State::Booked | State::Declined => true,
            State::Cancelled => self.may_yet_withdraw(),
        }
    }

    /// Ensures that nothing is sent to a newly protected patient unless staff release it. Returns the ids
    /// of the notifications that it parked.
    pub(super) fn protect(&mut self) -> Vec<Uuid> {
        match self.state {
            State::Invited => {
                self.place_on_hold(Hold::ProtectedIdentity);
                Vec::new()
            }
            // Nothing waits, and the next round begins on hold.
            State::Requested | State::Booked | State::Declined => Vec::new(),
            State::Cancelled => self.withhold_withdrawal(),
        }
    }
}

fn close_deceased(record: &BookingRequest, context: &Context) -> Option<Change> {
    if !record.accepts_updates() {
        return None;
    }
    let mut closed = record.clone();
    let ended_booking = match record.state {
        State::Booked => record.form.booking.clone(),
        State::Requested | State::Invited | State::Declined | State::Cancelled => None,
    };
    closed.state = State::Cancelled;
    closed.cancel_reason = Some(CancelReason::PatientDeceased);
    if let Some(invitation) = &mut closed.care_invitation {
        invitation.withdraw_when_sent = false;
    }
    let cancelled = closed.cancel_pending(Cause::PatientDeceased);
    let mut history = vec![HistoryEntry {
        cancel_reason: Some(CancelReason::PatientDeceased),
        booking: ended_booking,
        ..closed.history_entry(Event::UpdatePatient, context)
    }];
    history.extend(closed.cancelled_entries(&cancelled, context));
    Some(closed.finish_change(Some(record), history, context))
}
