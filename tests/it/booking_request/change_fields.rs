//! ChangeBookingRequest: which fields it takes, for what reason, and what today forbids of them.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::{ChangeReason, Priority};
use tonic::{Code, Status};

use super::calls::{change, changed};
use super::{NOW, created, done, last_changed, requested};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

fn assert_invalid(status: &Status, fields: &[&str], row: &str) {
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(status), reason, "{row}");
    assert_eq!(bad_fields(status), fields, "{row}");
}

/// A form of which every field that can be changed is set, to one of two values.
fn full(variant: bool) -> v1::BookingRequest {
    let either = |one: &str, other: &str| if variant { other } else { one }.to_owned();
    let (first, last) = if variant {
        ("2026-05-25", "2026-06-26")
    } else {
        ("2026-05-18", "2026-06-12")
    };
    v1::BookingRequest {
        purpose: either("Öron", "Hals"),
        patient_instructions: Some(v1::PatientInstructions {
            visit_length: either("30 min", "45 min"),
            supplementary: either("Ta med\nglasögon", "Kom i tid"),
            sampling_before_visit: either("Blodprov", "Inga"),
            sampling_information: either("Fastande", "Ät som vanligt"),
        }),
        internal_comment: either("ring inte", "ring gärna"),
        priority: if variant {
            Priority::Emergency
        } else {
            Priority::Urgent
        }
        .into(),
        constraints: Some(v1::BookingConstraints {
            weekdays: vec![if variant { 2 } else { 1 }],
            time_windows: vec![v1::TimeWindow {
                start_clock: either("08:00", "13:00"),
                end_clock: either("12:00", "16:30"),
            }],
            duration_minutes: if variant { 45 } else { 30 },
            performer_ids: vec![either("SE2321000131-P1", "SE2321000131-P2")],
            ..make::wire_constraints(first, last)
        }),
        visit_kind: if variant {
            v1::VisitKind::ReturnVisit
        } else {
            v1::VisitKind::NewVisit
        }
        .into(),
        visit_type: Some(v1::VisitType {
            code: either("ONH-NY", "ONH-ÅB"),
            display_name: either("nybesök", "återbesök"),
        }),
        origin: Some(Origin::Referral(v1::Referral {
            referral_id: "R-1".into(),
            decision_date: either("2026-02-20", "2026-02-27"),
        })),
        ..requested(first, last)
    }
}

/// Each path that a mask may hold, and what it takes over.
type Path = (
    &'static str,
    fn(&mut v1::BookingRequest, &v1::BookingRequest),
);

const PATHS: [Path; 13] = [
    ("constraints", |it, from| {
        it.constraints.clone_from(&from.constraints)
    }),
    ("constraints.requested_period", |it, from| {
        of(it).requested_period = given(from).requested_period;
    }),
    ("constraints.weekdays", |it, from| {
        of(it).weekdays = given(from).weekdays
    }),
    ("constraints.time_windows", |it, from| {
        of(it).time_windows = given(from).time_windows;
    }),
    ("constraints.duration_minutes", |it, from| {
        of(it).duration_minutes = given(from).duration_minutes;
    }),
    ("constraints.performer_ids", |it, from| {
        of(it).performer_ids = given(from).performer_ids;
    }),
    ("purpose", |it, from| it.purpose.clone_from(&from.purpose)),
    ("patient_instructions", |it, from| {
        it.patient_instructions
            .clone_from(&from.patient_instructions);
    }),
    ("internal_comment", |it, from| {
        it.internal_comment.clone_from(&from.internal_comment)
    }),
    ("priority", |it, from| it.priority = from.priority),
    ("visit_kind", |it, from| it.visit_kind = from.visit_kind),
    ("visit_type", |it, from| {
        it.visit_type.clone_from(&from.visit_type)
    }),
    ("referral.decision_date", |it, from| {
        let decision_date = decision_date(from);
        if let Some(Origin::Referral(referral)) = &mut it.origin {
            referral.decision_date = decision_date;
        }
    }),
];

fn decision_date(request: &v1::BookingRequest) -> String {
    match &request.origin {
        Some(Origin::Referral(it)) => it.decision_date.clone(),
        Some(Origin::PreviousVisit(_)) | None => String::new(),
    }
}

fn of(request: &mut v1::BookingRequest) -> &mut v1::BookingConstraints {
    request.constraints.as_mut().expect("constraints")
}

fn given(request: &v1::BookingRequest) -> v1::BookingConstraints {
    request.constraints.clone().unwrap_or_default()
}

/// What a request says, without what follows from it.
fn said(request: &v1::BookingRequest) -> v1::BookingRequest {
    v1::BookingRequest {
        constraints: request.constraints.clone(),
        purpose: request.purpose.clone(),
        patient_instructions: request.patient_instructions.clone(),
        internal_comment: request.internal_comment.clone(),
        priority: request.priority,
        patient: request.patient.clone(),
        origin: request.origin.clone(),
        visit_type: request.visit_type.clone(),
        visit_kind: request.visit_kind,
        summons: request.summons,
        invitation: request.invitation,
        ..Default::default()
    }
}

#[tokio::test]
async fn a_field_is_changed_when_it_is_named_and_no_other_is() {
    let harness = Harness::start(NOW).await;
    let mut request = created(&harness, full(false)).await;
    for (path, take) in PATHS {
        for variant in [true, false] {
            let mut to = full(variant);
            // Not named, so not looked at.
            to.patient = None;
            to.summons = true;
            to.state = 99;
            let mut expected = said(&request);
            take(&mut expected, &to);
            let call = change(&request.name, &[path], to);
            request = changed(&harness, call).await.expect(path);
            assert_eq!(said(&request), expected, "{path}");
            let read = harness.get(&request.name).await.expect("read");
            assert_eq!(read, request, "{path}");
            let told = last_changed(&harness, &request.name).await;
            match path {
                "constraints" => {
                    assert_eq!(told, PATHS[1..6].iter().map(|it| it.0).collect::<Vec<_>>())
                }
                _ => assert_eq!(told, [path]),
            }
        }
    }
    let all: Vec<_> = PATHS.iter().map(|(path, _)| *path).collect();
    let call = change(&request.name, &all, full(true));
    let request = changed(&harness, call).await.expect("all at once");
    let mut expected = said(&request);
    for (_, take) in PATHS {
        take(&mut expected, &full(true));
    }
    assert_eq!(said(&request), expected);
}

#[tokio::test]
async fn a_field_that_is_named_and_not_set_is_cleared_or_refused_where_it_must_not_be() {
    for (path, take) in PATHS {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, full(false)).await;
        let empty = v1::BookingRequest::default();
        let answer = changed(&harness, change(&request.name, &[path], empty.clone())).await;
        match path {
            "constraints"
            | "constraints.requested_period"
            | "purpose"
            | "visit_kind"
            | "visit_type" => {
                let field = format!("booking_request.{path}");
                assert_invalid(&answer.expect_err(path), &[&field], path);
                assert_eq!(harness.get(&request.name).await.expect("read"), request);
            }
            _ => {
                let mut expected = said(&request);
                take(&mut expected, &empty);
                let mut request = said(&answer.expect(path));
                // Routine and no texts are said in two ways.
                expected.priority = expected.priority.max(Priority::Routine.into());
                request.priority = request.priority.max(Priority::Routine.into());
                let texts = request.patient_instructions.get_or_insert_default();
                let expected_texts = expected.patient_instructions.get_or_insert_default();
                assert_eq!(texts, expected_texts, "{path}");
                assert_eq!(request, expected, "{path}");
            }
        }
    }
}

#[tokio::test]
async fn all_constraints_win_over_one_of_their_fields() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, full(false)).await;
    let paths = ["constraints.weekdays", "constraints"];
    let call = change(
        &request.name,
        &paths,
        make::wire_form("2026-05-25", "2026-06-26"),
    );
    let request = changed(&harness, call).await.expect("changed");
    let expected = make::wire_constraints("2026-05-25", "2026-06-26");
    assert_eq!(request.constraints, Some(expected));
}

#[tokio::test]
async fn any_other_path_and_none_are_refused() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, full(false)).await;
    for path in [
        "",
        "*",
        "name",
        "state",
        "patient",
        "visit_type.code",
        "referral",
        "referral.referral_id",
        "previous_visit.referral_id",
        "summons",
        "invitation",
        "booking",
        "Purpose",
        "constraints.requested_period.end_date",
        "patient_instructions.visit_length",
    ] {
        let call = change(&request.name, &["purpose", path], full(true));
        let status = changed(&harness, call).await.expect_err(path);
        assert_invalid(&status, &["update_mask.paths[1]"], path);
    }
    for paths in [
        &[][..],
        &["referral.decision_date", "previous_visit.decision_date"],
    ] {
        let row = format!("{paths:?}");
        let status = changed(&harness, change(&request.name, paths, full(true))).await;
        assert_invalid(&status.expect_err(&row), &["update_mask"], &row);
    }
    let none = v1::ChangeBookingRequestRequest {
        update_mask: None,
        ..change(&request.name, &[], full(true))
    };
    let status = changed(&harness, none).await.expect_err("no mask");
    assert_invalid(&status, &["update_mask"], "none");
    assert_eq!(harness.get(&request.name).await.expect("read"), request);
}

#[tokio::test]
async fn a_change_has_a_reason_of_which_one_needs_a_comment_and_one_is_not_for_it() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, full(false)).await;
    let call = |reason: ChangeReason, comment: &str| v1::ChangeBookingRequestRequest {
        reason: reason.into(),
        comment: comment.into(),
        ..change(&request.name, &["purpose", "constraints"], full(true))
    };
    for (reason, comment, field) in [
        (ChangeReason::Unspecified, "ja", "reason"),
        (ChangeReason::ToCareInvitation, "ja", "reason"),
        (ChangeReason::Other, "", "comment"),
        (ChangeReason::Other, " \n", "comment"),
    ] {
        let row = format!("{reason:?} {comment:?}");
        let status = changed(&harness, call(reason, comment)).await;
        assert_invalid(&status.expect_err(&row), &[field], &row);
    }
    let mut reasons = Vec::new();
    for (reason, comment) in [
        (ChangeReason::PatientRequest, ""),
        (ChangeReason::UnitRequest, ""),
        (ChangeReason::Medical, "snabbare"),
        (ChangeReason::Other, "flytt av lokal"),
    ] {
        changed(&harness, call(reason, comment))
            .await
            .expect("changed");
        reasons.push((reason, comment.to_owned()));
    }
    let entries = harness.history(&request.name).await;
    let entries = &entries[1..];
    assert_eq!(done(entries), ["CHANGE_BOOKING_REQUEST"; 4]);
    let told = entries
        .iter()
        .map(|it| (it.change_reason(), it.comment.clone()));
    assert_eq!(told.collect::<Vec<_>>(), reasons);
    for entry in entries {
        assert_eq!(entry.constraints, full(true).constraints);
        assert_eq!(entry.state(), State::Requested);
    }
    let silent = change(&request.name, &["purpose"], full(false));
    changed(&harness, silent).await.expect("changed");
    let entries = harness.history(&request.name).await;
    assert_eq!(entries[5].constraints, None, "they were not changed");
}

#[tokio::test]
async fn a_start_that_has_passed_may_be_kept_and_what_today_forbids_is_named_all_at_once() {
    const PERIOD: &str = "booking_request.constraints.requested_period";
    let start = format!("{PERIOD}.start_date");
    let end = format!("{PERIOD}.end_date");
    let weekdays = "booking_request.constraints.weekdays".to_owned();
    for invitation in [false, true] {
        let harness = Harness::start(NOW).await;
        let form = v1::BookingRequest {
            invitation,
            ..make::wire_form("2026-03-09", "2026-06-12")
        };
        let request = created(&harness, form).await;
        harness.advance("2026-03-20T12:00:00Z");
        for (first, last, days, faults) in [
            ("2026-03-09", "2026-05-29", &[][..], vec![]),
            ("2026-03-09", "2026-03-20", &[], vec![]),
            ("2026-03-10", "2026-05-29", &[], vec![&start]),
            ("2026-03-19", "2026-05-29", &[], vec![&start]),
            ("2026-03-09", "2026-03-19", &[], vec![&end]),
            ("2026-03-08", "2026-03-19", &[], vec![&start, &end]),
            // A Friday is today, and a Thursday was yesterday.
            ("2026-03-09", "2026-03-22", &[5], vec![]),
            ("2026-03-09", "2026-03-22", &[4], vec![&weekdays]),
            ("2026-03-10", "2026-03-22", &[4], vec![&start, &weekdays]),
            ("2026-03-20", "2026-03-20", &[], vec![]),
        ] {
            let row = format!("{invitation} {first} {last} {days:?}");
            let mut to = make::wire_form(first, last);
            of(&mut to).weekdays = days.to_vec();
            let call = change(&request.name, &["constraints"], to);
            match changed(&harness, call).await {
                Ok(_) => assert!(faults.is_empty(), "{row}"),
                Err(status) => {
                    let faults: Vec<_> = faults.into_iter().map(String::as_str).collect();
                    assert_invalid(&status, &faults, &row);
                }
            }
        }
    }
}

#[tokio::test]
async fn days_that_no_longer_occur_are_refused_when_they_alone_are_named() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-16", "2026-03-22")).await;
    harness.advance("2026-03-20T12:00:00Z");
    let mut to = v1::BookingRequest {
        constraints: Some(v1::BookingConstraints::default()),
        ..Default::default()
    };
    for (day, faults) in [(4, &["booking_request.constraints.weekdays"][..]), (5, &[])] {
        of(&mut to).weekdays = vec![day];
        let call = change(&request.name, &["constraints.weekdays"], to.clone());
        match changed(&harness, call).await {
            Ok(_) => assert!(faults.is_empty(), "{day}"),
            Err(status) => assert_invalid(&status, faults, "weekdays"),
        }
    }
}
