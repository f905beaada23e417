//! The fields of a request that callers set, and which of them differ between two states of it.

use crate::domain::booking_request::form::{Constraints, Form, Origin};
use crate::domain::calendar::{Period, TimeWindow, Weekdays};
use crate::domain::patient::Patient;
use crate::domain::stored_enum;

stored_enum! {
    /// Field of a request that callers set, as far as it may change.
    pub enum Field {
        /// The patient's identity number.
        PersonalId = 1,
        /// The kind of that number.
        PersonalIdType = 2,
        /// The series of that number.
        Issuer = 3,
        /// The patient's protected identity.
        Protection = 4,
        /// The patient's use of 1177.
        InboxReach = 5,
        /// The language to address the patient in.
        PreferredLanguage = 6,
        /// The person whom notifications are addressed to.
        Addressee = 7,
        /// The language of an interpreter.
        InterpreterLanguage = 8,
        /// The form of letters.
        LetterFormat = 9,
        /// The day of the decision on the referral.
        ReferralDecision = 10,
        /// The referral that the previous visit was made under.
        VisitReferral = 11,
        /// The day of the decision on the visit that follows the previous one.
        VisitDecision = 12,
        /// New or return visit.
        VisitKind = 13,
        /// The bookable visit type.
        VisitType = 14,
        /// The reason why the unit wants to see the patient.
        Purpose = 15,
        /// The texts for the patient.
        PatientInstructions = 16,
        /// The note among staff.
        InternalComment = 17,
        /// "Kallelse".
        Summons = 18,
        /// "Vårdinbjudan".
        Invitation = 19,
        /// The requested period.
        Period = 20,
        /// The acceptable weekdays.
        Weekdays = 21,
        /// The acceptable times of day.
        TimeWindows = 22,
        /// The length of the visit.
        DurationMinutes = 23,
        /// The acceptable performers.
        PerformerIds = 24,
        /// The booked visit.
        Booking = 25,
        /// The medical priority.
        Priority = 26,
    }
}

type Compared = (Field, bool);

/// Returns the fields in which two forms of one request differ, in the order of their numbers.
pub fn changed_fields(before: &Form, after: &Form) -> Vec<Field> {
    // Named one by one, so that the compiler misses a new field of the form here.
    let Form {
        patient,
        origin,
        visit_kind,
        visit_type,
        purpose,
        patient_instructions,
        internal_comment,
        summons,
        invitation,
        constraints,
        booking,
        priority,
    } = before;
    let mut compared = Vec::new();
    compared.extend(compare_patients(patient, &after.patient));
    compared.extend(compare_origins(origin, &after.origin));
    compared.extend(compare_constraints(
        constraints.as_ref(),
        after.constraints.as_ref(),
    ));
    compared.extend([
        (Field::VisitKind, *visit_kind != after.visit_kind),
        (Field::VisitType, *visit_type != after.visit_type),
        (Field::Purpose, *purpose != after.purpose),
        (
            Field::PatientInstructions,
            *patient_instructions != after.patient_instructions,
        ),
        (
            Field::InternalComment,
            *internal_comment != after.internal_comment,
        ),
        (Field::Summons, *summons != after.summons),
        (Field::Invitation, *invitation != after.invitation),
        (Field::Booking, *booking != after.booking),
        (Field::Priority, *priority != after.priority),
    ]);
    let changed = compared.into_iter().filter(|(_, differs)| *differs);
    let mut changed: Vec<Field> = changed.map(|(field, _)| field).collect();
    changed.sort();
    changed
}

fn compare_patients(before: &Patient, after: &Patient) -> [Compared; 9] {
    let Patient {
        personal_id,
        protection,
        inbox_reach,
        language,
        addressee,
        interpreter_language,
        letter_format,
    } = before;
    let new_id = &after.personal_id;
    [
        (Field::PersonalId, personal_id.number() != new_id.number()),
        (Field::PersonalIdType, personal_id.kind() != new_id.kind()),
        (Field::Issuer, personal_id.issuer() != new_id.issuer()),
        (Field::Protection, *protection != after.protection),
        (Field::InboxReach, *inbox_reach != after.inbox_reach),
        (Field::PreferredLanguage, *language != after.language),
        (Field::Addressee, *addressee != after.addressee),
        (
            Field::InterpreterLanguage,
            *interpreter_language != after.interpreter_language,
        ),
        (Field::LetterFormat, *letter_format != after.letter_format),
    ]
}

/// Compares what may change of an origin, which stays the same referral or visit.
fn compare_origins(before: &Origin, after: &Origin) -> Vec<Compared> {
    let decision = before.decision_date() != after.decision_date();
    match after {
        Origin::Referral { .. } => vec![(Field::ReferralDecision, decision)],
        Origin::PreviousVisit { .. } => vec![
            (
                Field::VisitReferral,
                before.referral_id() != after.referral_id(),
            ),
            (Field::VisitDecision, decision),
        ],
    }
}

/// Compares constraints field by field.
fn compare_constraints(before: Option<&Constraints>, after: Option<&Constraints>) -> [Compared; 5] {
    let (period, weekdays, time_windows, duration_minutes, performer_ids) = parts(before);
    let after = parts(after);
    [
        (Field::Period, period != after.0),
        (Field::Weekdays, weekdays != after.1),
        (Field::TimeWindows, time_windows != after.2),
        (Field::DurationMinutes, duration_minutes != after.3),
        (Field::PerformerIds, performer_ids != after.4),
    ]
}

type Parts<'a> = (
    Option<Period>,
    Weekdays,
    &'a [TimeWindow],
    u32,
    &'a [String],
);

/// Returns the parts of constraints. Those that a request does not have allow everything.
fn parts(constraints: Option<&Constraints>) -> Parts<'_> {
    let Some(Constraints {
        period,
        weekdays,
        time_windows,
        duration_minutes,
        performer_ids,
    }) = constraints
    else {
        return (None, Weekdays::default(), &[], 0, &[]);
    };
    (
        Some(*period),
        *weekdays,
        time_windows,
        *duration_minutes,
        performer_ids,
    )
}
