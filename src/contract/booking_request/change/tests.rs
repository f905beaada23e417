//! Masks as tables: the fields that they name, clear and leave as they are.

use uuid::Uuid;

use super::*;
use crate::contract::booking_request::samples::{key, wire_form};
use crate::contract::tests::fields;
use crate::domain::booking_request::change::OnChange;
use crate::domain::booking_request::form::{VisitKind, VisitType};
use crate::domain::calendar::{Period, TimeWindow, Weekdays};
use chrono::Weekday;

/// Returns a change of the fields that are named, all of which are set.
fn change(paths: &[&str]) -> v1::ChangeBookingRequestRequest {
    v1::ChangeBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            name: request_name(&key()),
            purpose: "Öra".into(),
            patient_instructions: Some(v1::PatientInstructions {
                visit_length: "En timme".into(),
                ..Default::default()
            }),
            internal_comment: "Ring först".into(),
            constraints: Some(v1::BookingConstraints {
                weekdays: vec![1],
                time_windows: vec![v1::TimeWindow {
                    start_clock: "08:00".into(),
                    end_clock: "12:00".into(),
                }],
                duration_minutes: 30,
                performer_ids: vec!["se2321000131-p1".into()],
                ..wire_form().constraints.unwrap()
            }),
            priority: v1::Priority::Urgent.into(),
            visit_kind: v1::VisitKind::ReturnVisit.into(),
            visit_type: Some(v1::VisitType {
                code: "ONH-ÅB".into(),
                display_name: "återbesök".into(),
            }),
            origin: Some(WireOrigin::Referral(v1::Referral {
                referral_id: "not looked at".into(),
                decision_date: "2026-02-20".into(),
            })),
            ..Default::default()
        }),
        update_mask: Some(mask(paths)),
        request_id: Uuid::from_u128(5).to_string(),
        reason: v1::ChangeReason::UnitRequest.into(),
        ..Default::default()
    }
}

fn mask(paths: &[&str]) -> FieldMask {
    FieldMask {
        paths: paths.iter().map(|path| (*path).to_owned()).collect(),
    }
}

/// Returns the same with nothing set but the name.
fn clear(paths: &[&str]) -> v1::ChangeBookingRequestRequest {
    v1::ChangeBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            name: request_name(&key()),
            ..Default::default()
        }),
        ..change(paths)
    }
}

fn parsed(message: v1::ChangeBookingRequestRequest) -> Result<ChangeBookingRequest, Vec<String>> {
    parse_change(message)
        .map(|write| write.command.1)
        .map_err(fields)
}

fn faults(message: v1::ChangeBookingRequestRequest) -> Vec<String> {
    parsed(message).map_or_else(|found| found, |_| vec![])
}

fn constraints() -> ConstraintsEdit {
    ConstraintsEdit {
        period: Some(Period {
            first: "2026-05-18".parse().unwrap(),
            last: "2026-06-12".parse().unwrap(),
        }),
        weekdays: Some(Weekdays::of([Weekday::Mon])),
        time_windows: Some(vec![TimeWindow {
            start_minute: 480,
            end_minute: 720,
        }]),
        duration_minutes: Some(30),
        performer_ids: Some(vec!["SE2321000131-P1".into()]),
    }
}

#[test]
fn each_field_of_the_constraints_is_changed_by_itself_or_all_at_once() {
    let all = constraints();
    let none = ConstraintsEdit::default;
    for (paths, expected) in [
        (&["constraints"][..], all.clone()),
        (&["constraints", "constraints.weekdays"], all.clone()),
        (
            &["constraints.requested_period"],
            ConstraintsEdit {
                period: all.period,
                ..none()
            },
        ),
        (
            &["constraints.weekdays", "constraints.weekdays"],
            ConstraintsEdit {
                weekdays: all.weekdays,
                ..none()
            },
        ),
        (
            &["constraints.performer_ids", "constraints.time_windows"],
            ConstraintsEdit {
                time_windows: all.time_windows.clone(),
                performer_ids: all.performer_ids.clone(),
                ..none()
            },
        ),
        (
            &["constraints.duration_minutes"],
            ConstraintsEdit {
                duration_minutes: Some(30),
                ..none()
            },
        ),
    ] {
        let command = parsed(change(paths)).unwrap();
        assert_eq!(command.constraints, Some(expected), "{paths:?}");
        assert_eq!(command.purpose, None);
    }
}

#[test]
fn each_other_field_is_changed_by_itself() {
    let command = parsed(change(&["purpose", "internal_comment"])).unwrap();
    assert_eq!(command.purpose.as_deref(), Some("Öra"));
    assert_eq!(command.internal_comment.as_deref(), Some("Ring först"));
    assert_eq!(command.constraints, None);
    assert_eq!(
        (command.patient_instructions, command.priority),
        (None, None)
    );
    let command = parsed(change(&["priority", "patient_instructions"])).unwrap();
    assert_eq!(command.priority, Some(Priority::Urgent));
    let instructions = command.patient_instructions.unwrap();
    assert_eq!(instructions.visit_length, "En timme");
    assert_eq!((command.purpose, command.internal_comment), (None, None));
}

#[test]
fn each_field_of_the_visit_is_changed_by_itself() {
    let decided = "2026-02-20".parse().unwrap();
    for (paths, expected) in [
        (
            &["visit_kind"][..],
            VisitEdit {
                kind: Some(VisitKind::ReturnVisit),
                ..VisitEdit::default()
            },
        ),
        (
            &["visit_type"],
            VisitEdit {
                visit_type: Some(VisitType {
                    code: "ONH-ÅB".into(),
                    display_name: "återbesök".into(),
                }),
                ..VisitEdit::default()
            },
        ),
        (
            &["referral.decision_date"],
            VisitEdit {
                decision_date: Some(DecisionDate::Referral(Some(decided))),
                ..VisitEdit::default()
            },
        ),
        // A referral is given, so that of the visit is not set.
        (
            &["previous_visit.decision_date"],
            VisitEdit {
                decision_date: Some(DecisionDate::PreviousVisit(None)),
                ..VisitEdit::default()
            },
        ),
        (&["purpose"], VisitEdit::default()),
    ] {
        let command = parsed(change(paths)).unwrap();
        assert_eq!(command.visit, expected, "{paths:?}");
    }
}

#[test]
fn what_is_named_and_not_set_is_cleared() {
    let command = parsed(clear(&[
        "constraints.weekdays",
        "constraints.time_windows",
        "constraints.duration_minutes",
        "constraints.performer_ids",
        "patient_instructions",
        "internal_comment",
        "priority",
        "referral.decision_date",
    ]));
    let command = command.unwrap();
    let cleared = ConstraintsEdit {
        period: None,
        weekdays: Some(Weekdays::default()),
        time_windows: Some(vec![]),
        duration_minutes: Some(0),
        performer_ids: Some(vec![]),
    };
    assert_eq!(command.constraints, Some(cleared));
    let instructions = Some(PatientInstructions::default());
    assert_eq!(command.patient_instructions, instructions);
    assert_eq!(command.internal_comment.as_deref(), Some(""));
    assert_eq!(command.priority, Some(Priority::Routine));
    let decision_date = Some(DecisionDate::Referral(None));
    assert_eq!(command.visit.decision_date, decision_date);
}

#[test]
fn what_a_request_must_have_is_not_cleared() {
    for (paths, fault) in [
        (&["constraints"][..], "booking_request.constraints"),
        (
            &["constraints", "constraints.requested_period"],
            "booking_request.constraints",
        ),
        (
            &["constraints.requested_period"],
            "booking_request.constraints.requested_period",
        ),
        (&["purpose"], "booking_request.purpose"),
        (&["visit_kind"], "booking_request.visit_kind"),
        (&["visit_type"], "booking_request.visit_type"),
    ] {
        assert_eq!(faults(clear(paths)), [fault], "{paths:?}");
    }
    let mut periodless = change(&["constraints"]);
    let request = periodless.booking_request.as_mut().unwrap();
    request.constraints.as_mut().unwrap().requested_period = None;
    let fault = "booking_request.constraints.requested_period";
    assert_eq!(faults(periodless), [fault]);
}

#[test]
fn only_fields_that_can_be_changed_may_be_named() {
    for path in [
        "",
        "*",
        "name",
        "patient",
        "referral",
        "referral.referral_id",
        "previous_visit.visit_id",
        "visit_type.code",
        "visit_type.display_name",
        "summons",
        "invitation",
        "booking",
        "booking_request.purpose",
        "purpose ",
        "patientInstructions",
        "patient_instructions.visit_length",
        "constraints.",
        "constraints.requested_period.start_date",
        "constraints.time_windows[0]",
    ] {
        let message = change(&["purpose", path, "priority"]);
        assert_eq!(faults(message), ["update_mask.paths[1]"], "{path}");
    }
    let both = ["referral.decision_date", "previous_visit.decision_date"];
    assert_eq!(faults(change(&both)), ["update_mask"]);
    assert_eq!(faults(change(&[])), ["update_mask"]);
    let unmasked = v1::ChangeBookingRequestRequest {
        update_mask: None,
        ..change(&[])
    };
    assert_eq!(faults(unmasked), ["update_mask"]);
}

/// Returns a change in which nothing is right.
fn all_wrong(paths: &[&str]) -> v1::ChangeBookingRequestRequest {
    v1::ChangeBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            name: "x".into(),
            purpose: "x".repeat(201),
            patient_instructions: Some(v1::PatientInstructions {
                visit_length: "\0".into(),
                ..Default::default()
            }),
            internal_comment: "\0".into(),
            constraints: Some(v1::BookingConstraints {
                requested_period: Some(v1::DateInterval::default()),
                weekdays: vec![8],
                time_windows: vec![v1::TimeWindow::default()],
                duration_minutes: 4,
                performer_ids: vec!["Anna".into()],
            }),
            priority: 4,
            visit_kind: 3,
            visit_type: Some(v1::VisitType {
                code: String::new(),
                display_name: "\0".into(),
            }),
            origin: Some(WireOrigin::PreviousVisit(v1::PreviousVisit {
                decision_date: "2026-02-30".into(),
                ..Default::default()
            })),
            ..Default::default()
        }),
        update_mask: Some(mask(paths)),
        request_id: "x".into(),
        reason: 6,
        comment: "\0".into(),
        on_change: 3,
        ..Default::default()
    }
}

#[test]
fn every_fault_of_a_named_field_is_named_at_once() {
    let everything = [
        "constraints",
        "purpose",
        "patient_instructions",
        "internal_comment",
        "priority",
        "visit_kind",
        "visit_type",
        "previous_visit.decision_date",
        "*",
    ];
    let expected = [
        "booking_request.name",
        "booking_request.previous_visit.decision_date",
        "booking_request.visit_kind",
        "booking_request.visit_type.code",
        "booking_request.visit_type.display_name",
        "booking_request.purpose",
        "booking_request.patient_instructions.visit_length",
        "booking_request.internal_comment",
        "booking_request.constraints.requested_period.start_date",
        "booking_request.constraints.requested_period.end_date",
        "booking_request.constraints.weekdays[0]",
        "booking_request.constraints.time_windows[0].start_clock",
        "booking_request.constraints.time_windows[0].end_clock",
        "booking_request.constraints.duration_minutes",
        "booking_request.constraints.performer_ids[0]",
        "booking_request.priority",
        "update_mask.paths[8]",
        "request_id",
        "reason",
        "comment",
        "on_change",
    ];
    assert_eq!(faults(all_wrong(&everything)), expected);
    let nothing = v1::ChangeBookingRequestRequest::default();
    let missing = ["booking_request", "update_mask", "request_id", "reason"];
    assert_eq!(faults(nothing), missing);
}

#[test]
fn a_field_that_is_not_named_is_not_looked_at() {
    let mut message = all_wrong(&["purpose"]);
    let request = message.booking_request.as_mut().unwrap();
    request.name = request_name(&key());
    request.purpose = "Öra".into();
    let expected = ["request_id", "reason", "comment", "on_change"];
    assert_eq!(faults(message), expected);
}

#[test]
fn a_reason_is_given_and_another_one_is_told() {
    use v1::ChangeReason::{Medical, Other, PatientRequest, ToCareInvitation, Unspecified};
    for (reason, comment, expected) in [
        (PatientRequest, "", vec![]),
        (Medical, "", vec![]),
        (Other, "Flyttat", vec![]),
        (Other, " ", vec!["comment"]),
        (ToCareInvitation, "Flyttat", vec!["reason"]),
        (Unspecified, "Flyttat", vec!["reason"]),
    ] {
        let message = v1::ChangeBookingRequestRequest {
            reason: reason.into(),
            comment: comment.into(),
            ..change(&["purpose"])
        };
        assert_eq!(faults(message), expected, "{reason:?} {comment:?}");
    }
}

#[test]
fn what_a_new_period_means_may_be_left_open() {
    let on_change = |number| {
        let message = v1::ChangeBookingRequestRequest {
            on_change: number,
            ..change(&["constraints.requested_period"])
        };
        parsed(message).unwrap().on_change
    };
    assert_eq!(on_change(0), None);
    assert_eq!(on_change(1), Some(OnChange::Keep));
    assert_eq!(on_change(2), Some(OnChange::Restart));
}

#[test]
fn a_replay_may_be_spelled_otherwise_and_may_not_say_anything_else() {
    let hash = |message| parse_change(message).unwrap().content_hash;
    let first = change(&["constraints", "purpose"]);
    let mut respelled = change(&[
        "purpose",
        "constraints.performer_ids",
        "constraints.duration_minutes",
        "constraints.time_windows",
        "constraints.weekdays",
        "constraints.requested_period",
    ]);
    respelled.request_id = Uuid::from_u128(6).to_string();
    let request = respelled.booking_request.as_mut().unwrap();
    request.purpose = "O\u{308}ra".into();
    request.internal_comment = "not named".into();
    assert_eq!(hash(first.clone()), hash(respelled));
    let hashes = [
        hash(first.clone()),
        hash(change(&["constraints"])),
        hash(change(&["purpose"])),
        hash(change(&["priority"])),
        hash(change(&["visit_kind"])),
        hash(change(&["visit_type"])),
        hash(change(&["referral.decision_date"])),
        hash(clear(&["referral.decision_date"])),
        hash(clear(&["previous_visit.decision_date"])),
        hash(change(&["constraints.weekdays"])),
        hash(clear(&["constraints.weekdays"])),
        hash(clear(&["constraints.time_windows"])),
        hash(clear(&["internal_comment"])),
        hash(clear(&["patient_instructions"])),
        hash(v1::ChangeBookingRequestRequest {
            etag: "r1".into(),
            ..first.clone()
        }),
        hash(v1::ChangeBookingRequestRequest {
            on_change: 2,
            ..first.clone()
        }),
        hash(v1::ChangeBookingRequestRequest {
            comment: "r1".into(),
            ..first
        }),
    ];
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..i].contains(hash), "{i}");
    }
}
