//! Which fields a call has changed: those that show another value than before.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::Origin;

/// Returns the paths of the fields that callers set and that differ, in alphabetical order.
pub fn changed_fields(
    before: &v1::BookingRequest,
    after: &v1::BookingRequest,
) -> Vec<&'static str> {
    let mut compared = vec![
        ("booking", before.booking != after.booking),
        (
            "internal_comment",
            before.internal_comment != after.internal_comment,
        ),
        ("invitation", before.invitation != after.invitation),
        (
            "patient_instructions",
            before.patient_instructions != after.patient_instructions,
        ),
        ("priority", before.priority != after.priority),
        ("purpose", before.purpose != after.purpose),
        ("summons", before.summons != after.summons),
        ("visit_kind", before.visit_kind != after.visit_kind),
        ("visit_type", before.visit_type != after.visit_type),
    ];
    compared.extend(of_constraints(before, after));
    compared.extend(of_origin(before, after));
    compared.extend(of_patient(before, after));
    let differ = compared.into_iter().filter(|(_, differs)| *differs);
    let mut paths: Vec<_> = differ.map(|(path, _)| path).collect();
    paths.sort_unstable();
    paths
}

fn of_constraints(
    before: &v1::BookingRequest,
    after: &v1::BookingRequest,
) -> [(&'static str, bool); 5] {
    let of = |it: &v1::BookingRequest| it.constraints.clone().unwrap_or_default();
    let (before, after) = (of(before), of(after));
    [
        (
            "constraints.duration_minutes",
            before.duration_minutes != after.duration_minutes,
        ),
        (
            "constraints.performer_ids",
            before.performer_ids != after.performer_ids,
        ),
        (
            "constraints.requested_period",
            before.requested_period != after.requested_period,
        ),
        (
            "constraints.time_windows",
            before.time_windows != after.time_windows,
        ),
        ("constraints.weekdays", before.weekdays != after.weekdays),
    ]
}

fn of_origin(before: &v1::BookingRequest, after: &v1::BookingRequest) -> Vec<(&'static str, bool)> {
    match (&before.origin, &after.origin) {
        (Some(Origin::Referral(before)), Some(Origin::Referral(after))) => vec![(
            "referral.decision_date",
            before.decision_date != after.decision_date,
        )],
        (Some(Origin::PreviousVisit(before)), Some(Origin::PreviousVisit(after))) => vec![
            (
                "previous_visit.decision_date",
                before.decision_date != after.decision_date,
            ),
            (
                "previous_visit.referral_id",
                before.referral_id != after.referral_id,
            ),
        ],
        _ => unreachable!("an origin stays"),
    }
}

fn of_patient(
    before: &v1::BookingRequest,
    after: &v1::BookingRequest,
) -> [(&'static str, bool); 9] {
    let of = |it: &v1::BookingRequest| it.patient.clone().expect("every request has one");
    let (before, after) = (of(before), of(after));
    [
        ("patient.addressee", before.addressee != after.addressee),
        (
            "patient.inbox_reach",
            before.inbox_reach != after.inbox_reach,
        ),
        (
            "patient.interpreter_language",
            before.interpreter_language != after.interpreter_language,
        ),
        ("patient.issuer", before.issuer != after.issuer),
        (
            "patient.letter_format",
            before.letter_format != after.letter_format,
        ),
        (
            "patient.personal_id",
            before.personal_id != after.personal_id,
        ),
        (
            "patient.personal_id_type",
            before.personal_id_type != after.personal_id_type,
        ),
        (
            "patient.preferred_language",
            before.preferred_language != after.preferred_language,
        ),
        ("patient.protection", before.protection != after.protection),
    ]
}
