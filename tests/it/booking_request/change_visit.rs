//! ChangeBookingRequest of the visit: its kind, its type and the decision date, as long as the patient has not been
//! told; what follows for the care guarantee, the messages and duplicates.

use care_invitation::contract::v1;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use tonic::{Code, Status};

use super::calls::{
    assert_conflict, change, changed, hand_over_one, lease_one, move_to,
    record_booking_cancellation, round, unbooked,
};
use super::{NOW, booking, created, done, messages, plan, record, requested, state, visit};
use crate::care_unit_settings::{set, update};
use crate::consumer::{Consumer, authorize, everything, lease};
use crate::harness::{Harness, bad_fields, metadata, refusal};
use crate::make;

/// Each path of the visit of a request from a referral.
const PATHS: [&str; 3] = ["visit_kind", "visit_type", "referral.decision_date"];

const PERIOD: (&str, &str) = ("2026-05-18", "2026-06-12");

fn visit_type(code: &str) -> Option<v1::VisitType> {
    Some(v1::VisitType {
        code: code.into(),
        display_name: "annat namn".into(),
    })
}

fn decided(referral_id: &str, decision_date: &str) -> Option<Origin> {
    Some(Origin::Referral(v1::Referral {
        referral_id: referral_id.into(),
        decision_date: decision_date.into(),
    }))
}

/// A form of another visit than the smallest one has.
fn other() -> v1::BookingRequest {
    v1::BookingRequest {
        visit_kind: v1::VisitKind::ReturnVisit.into(),
        visit_type: visit_type("ONH-ÅB"),
        origin: decided("", "2026-02-20"),
        ..Default::default()
    }
}

/// The call that gives a request another visit type.
fn retype(name: &str, code: &str) -> v1::ChangeBookingRequestRequest {
    let to = v1::BookingRequest {
        visit_type: visit_type(code),
        ..Default::default()
    };
    change(name, &["visit_type"], to)
}

fn assert_duplicate_of(name: &str, status: &Status, row: &str) {
    let reason = (Code::AlreadyExists, "DUPLICATE_REQUEST".to_owned());
    assert_eq!(refusal(status), reason, "{row}");
    assert_eq!(metadata(status, "name"), name, "{row}");
}

#[tokio::test]
async fn the_care_guarantee_is_worked_out_anew_with_the_kind_and_the_decision_date() {
    let harness = Harness::start(NOW).await;
    let mut request = created(&harness, requested(PERIOD.0, PERIOD.1)).await;
    assert_eq!(request.care_guarantee_date, "");
    for (paths, kind, date, guarantee) in [
        (
            &["referral.decision_date"][..],
            0,
            "2026-02-20",
            "2026-05-21",
        ),
        (&["referral.decision_date"], 0, "2026-02-10", "2026-05-11"),
        (&["visit_kind"], 2, "", ""),
        (&["referral.decision_date"], 0, "2026-02-20", ""),
        (&["visit_kind"], 1, "", "2026-05-21"),
        (&["visit_type"], 0, "", "2026-05-21"),
        (&["referral.decision_date"], 0, "", ""),
        (&PATHS, 1, "2026-02-20", "2026-05-21"),
    ] {
        let to = v1::BookingRequest {
            visit_kind: kind,
            origin: decided("not looked at", date),
            ..other()
        };
        let call = change(&request.name, paths, to);
        request = changed(&harness, call).await.expect("changed");
        let row = format!("{paths:?} {kind} {date}");
        assert_eq!(request.care_guarantee_date, guarantee, "{row}");
        let late = request
            .warnings()
            .any(|it| it == v1::Warning::CareGuaranteeExceeded);
        assert_eq!(late, guarantee == "2026-05-11", "{row}");
        let read = harness.get(&request.name).await.expect("read");
        assert_eq!(read, request, "{row}");
    }
    assert!(request.origin == decided("R-1", "2026-02-20"));
    let entries = harness.history(&request.name).await;
    assert_eq!(done(&entries[1..]), ["CHANGE_BOOKING_REQUEST"; 8]);
}

#[tokio::test]
async fn the_decision_date_is_that_of_the_origin_that_the_request_has() {
    let harness = Harness::start(NOW).await;
    let of_referral = created(&harness, requested(PERIOD.0, PERIOD.1)).await;
    let of_visit = v1::BookingRequest {
        origin: Some(visit("V-1", "R-7")),
        ..requested(PERIOD.0, PERIOD.1)
    };
    let of_visit = created(&harness, of_visit).await;
    let on_visit = v1::BookingRequest {
        origin: Some(Origin::PreviousVisit(v1::PreviousVisit {
            decision_date: "2026-02-20".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    let path = "previous_visit.decision_date";
    let call = change(&of_visit.name, &[path], on_visit.clone());
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(after.care_guarantee_date, "2026-05-21");
    let Some(Origin::PreviousVisit(origin)) = after.origin else {
        panic!("it comes from a visit");
    };
    let origin = (
        &*origin.visit_id,
        &*origin.referral_id,
        &*origin.decision_date,
    );
    assert_eq!(origin, ("V-1", "R-7", "2026-02-20"));

    // The etag is old, too: what the stored request forbids comes first, all at once.
    for (request, path, to) in [
        (&of_referral, "previous_visit.decision_date", on_visit),
        (&of_visit, "referral.decision_date", other()),
    ] {
        let mut call = change(&request.name, &[path, "constraints.requested_period"], to);
        let form = call.booking_request.as_mut().expect("given");
        form.constraints = Some(make::wire_constraints("2026-03-01", "2026-03-20"));
        call.etag = "r99".into();
        let status = changed(&harness, call).await.expect_err(path);
        assert_eq!(refusal(&status).0, Code::InvalidArgument, "{path}");
        let path = format!("booking_request.{path}");
        let start = "booking_request.constraints.requested_period.start_date";
        assert_eq!(bad_fields(&status), [start, path.as_str()]);
    }
}

#[tokio::test]
async fn the_visit_may_be_changed_until_the_patient_has_been_told_of_it() {
    for path in PATHS {
        let harness = Harness::start(NOW).await;
        let form = make::wire_form("2026-04-06", "2026-06-12");
        let request = created(&harness, form).await;
        let name = request.name.as_str();
        let to = |code: &str, kind: v1::VisitKind, date: &str| v1::BookingRequest {
            visit_kind: kind.into(),
            visit_type: visit_type(code),
            origin: decided("", date),
            ..Default::default()
        };
        let new = || to("ONH-ÅB", v1::VisitKind::ReturnVisit, "2026-02-20");
        let newer = || to("ONH-3", v1::VisitKind::NewVisit, "2026-02-21");
        changed(&harness, change(name, &[path], new()))
            .await
            .expect("waiting");
        let due = lease_one(&harness).await;
        authorize(&harness, vec![lease(&due)])
            .await
            .expect("authorized");
        for step in ["dispatching", "sent"] {
            let row = format!("{path} {step}");
            let before = harness.get(name).await.expect("read");
            let paths = ["purpose", path];
            let given = v1::BookingRequest {
                purpose: "Hals".into(),
                ..newer()
            };
            let status = changed(&harness, change(name, &paths, given)).await;
            let allowed = "CANCEL,CHANGE,RECORD_BOOKING,RECORD_PATIENT_CONTACT";
            assert_conflict(&status.expect_err(&row), State::Invited, allowed, &row);
            assert_eq!(harness.get(name).await.expect("read"), before, "{row}");
            // As it is, it is no change of the visit.
            let given = v1::BookingRequest {
                purpose: format!("Hals, {step}"),
                ..new()
            };
            let after = changed(&harness, change(name, &paths, given)).await;
            assert_eq!(after.expect(&row).purpose, format!("Hals, {step}"));
            if step == "dispatching" {
                crate::consumer::answer(&harness, crate::consumer::sent(&due)).await;
            }
        }
        // A new round has told the patient of nothing yet.
        let restart = v1::ChangeBookingRequestRequest {
            on_change: OnChange::Restart.into(),
            ..move_to(name, "2026-06-15", "2026-07-10")
        };
        let restarted = changed(&harness, restart).await.expect("restarted");
        assert_eq!(round(&restarted), 2);
        let after = changed(&harness, change(name, &[path], newer())).await;
        assert_eq!(state(&after.expect("not told")), State::Invited, "{path}");
    }
}

#[tokio::test]
async fn an_expired_request_may_be_given_another_visit_and_no_other_closed_one() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-03-09", "2026-03-13")).await;
    harness.advance("2026-03-16T09:00:00Z");
    let call = change(&request.name, &PATHS, other());
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(state(&after), State::Expired);
    assert_eq!(after.visit_type, other().visit_type);
    let visit = booking("B-1", "2026-03-18T08:00:00Z", "2026-03-18T08:30:00Z");
    let mut call = record(&request.name, visit);
    call.booking.as_mut().expect("given").override_reason = "ringde".into();
    harness.book(call).await.expect("booked");
    let status = changed(&harness, change(&request.name, &PATHS, other())).await;
    let allowed = "CANCEL,CHANGE_TO_INVITATION,RECORD_BOOKING,RECORD_BOOKING_CANCELLATION";
    assert_conflict(
        &status.expect_err("booked"),
        State::Booked,
        allowed,
        "booked",
    );
}

#[tokio::test]
async fn a_leased_first_message_is_revoked_and_goes_out_with_the_new_visit() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-04-06", "2026-06-12");
    let request = created(&harness, form).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let leased = consumer.due().await;
    let call = change(&request.name, &PATHS, other());
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(plan(messages(&after)), plan(messages(&request)));
    let again = consumer.due_again(&leased).await;
    assert_eq!(again.visit_type, other().visit_type);
    assert_eq!(again.visit_kind(), v1::VisitKind::ReturnVisit);
}

#[tokio::test]
async fn the_round_takes_the_schedule_of_the_new_type_and_the_first_message_its_due_time() {
    let harness = Harness::start(NOW).await;
    let settings = v1::CareUnitSettings {
        visit_types: vec![v1::VisitTypeSettings {
            visit_type_code: "ONH-ÅB".into(),
            lead_days: Some(28),
            reminder_count: Some(1),
            reminder_gap_days: Some(7),
            guarantee_days: Some(30),
            ..Default::default()
        }],
        ..Default::default()
    };
    set(&harness, update(&["visit_types"], settings))
        .await
        .expect("set");
    let form = v1::BookingRequest {
        origin: decided("R-1", "2026-02-20"),
        ..make::wire_form(PERIOD.0, PERIOD.1)
    };
    let request = created(&harness, form).await;
    assert_eq!(request.care_guarantee_date, "2026-05-21");
    // Another name of the type leaves the plan as it is.
    let after = changed(&harness, retype(&request.name, "ONH-NY"))
        .await
        .expect("renamed");
    assert_eq!(plan(messages(&after)), plan(messages(&request)));
    let after = changed(&harness, retype(&request.name, "ONH-ÅB"))
        .await
        .expect("changed");
    let expected = ["SCHEDULED 04-20T07:00Z", "PROJECTED 04-27T07:00Z"];
    assert_eq!(plan(messages(&after)), expected);
    assert_eq!(messages(&after)[0].name, messages(&request)[0].name);
    assert_eq!(after.care_guarantee_date, "2026-03-22");
    let back = changed(&harness, retype(&request.name, "ONH-NY"))
        .await
        .expect("back");
    assert_eq!(plan(messages(&back)), plan(messages(&request)));
    assert_eq!(back.care_guarantee_date, "2026-05-21");
}

#[tokio::test]
async fn a_new_visit_type_meets_the_open_request_that_has_it_and_leaves_the_old_one_free() {
    let harness = Harness::start(NOW).await;
    let form = |code: &str| v1::BookingRequest {
        visit_type: visit_type(code),
        ..make::wire_form(PERIOD.0, PERIOD.1)
    };
    let first = created(&harness, form("A")).await;
    let second = created(&harness, form("B")).await;
    let status = changed(&harness, retype(&first.name, "B")).await;
    assert_duplicate_of(&second.name, &status.expect_err("a duplicate"), "retyped");
    assert_eq!(harness.get(&first.name).await.expect("read"), first);

    changed(&harness, retype(&first.name, "C"))
        .await
        .expect("free");
    let third = created(&harness, form("A")).await;
    for (taken, by) in [("A", &third), ("B", &second), ("C", &first)] {
        let status = harness.create(make::wire_create(form(taken))).await;
        assert_duplicate_of(&by.name, &status.expect_err("a duplicate"), taken);
    }
    // The same type under another name is no other type, and one that is closed stands in nobody's way.
    changed(&harness, retype(&first.name, "C"))
        .await
        .expect("as it is");
    let cancel = make::wire_cancel(&second.name);
    harness.cancel(cancel).await.expect("cancelled");
    changed(&harness, retype(&first.name, "B"))
        .await
        .expect("free");
    changed(&harness, retype(&third.name, "C"))
        .await
        .expect("free");
}

#[tokio::test]
async fn who_knew_of_a_duplicate_is_exempt_and_whose_booking_is_off_is_checked_under_a_new_type() {
    let harness = Harness::start(NOW).await;
    let form = |code: &str| v1::BookingRequest {
        visit_type: visit_type(code),
        ..requested(PERIOD.0, PERIOD.1)
    };
    let other = created(&harness, form("B")).await;
    let knowing = v1::CreateBookingRequestRequest {
        allow_duplicate: true,
        ..make::wire_create(form("A"))
    };
    let knowing = harness.create(knowing).await.expect("created");
    changed(&harness, retype(&knowing.name, "B"))
        .await
        .expect("exempt");

    let first = created(&harness, form("A")).await;
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    harness
        .book(record(&first.name, visit))
        .await
        .expect("booked");
    let beside = created(&harness, form("A")).await;
    let off = record_booking_cancellation(&first.name, "B-1", Next::Requested);
    unbooked(&harness, off)
        .await
        .expect("open beside the other");
    let status = changed(&harness, retype(&first.name, "B"))
        .await
        .expect_err("checked");
    assert_eq!(refusal(&status).1, "DUPLICATE_REQUEST");
    assert!([&other.name, &knowing.name].contains(&&metadata(&status, "name")));
    changed(&harness, retype(&first.name, "C"))
        .await
        .expect("free");
    let status = changed(&harness, retype(&first.name, "A")).await;
    assert_duplicate_of(&beside.name, &status.expect_err("a duplicate"), "back");
    let status = harness.create(make::wire_create(form("C"))).await;
    assert_duplicate_of(&first.name, &status.expect_err("a duplicate"), "taken");
}

#[tokio::test]
async fn members_of_a_series_are_no_duplicates_under_a_new_type_and_the_first_alone_has_a_guarantee()
 {
    let harness = Harness::start(NOW).await;
    let call = v1::CreateBookingRequestRequest {
        repeat: Some(v1::Repeat {
            interval_days: 30,
            count: 3,
        }),
        ..make::wire_create(requested(PERIOD.0, PERIOD.1))
    };
    let first = harness.create(call).await.expect("created");
    let names = first.series.expect("a series").members;
    for (place, name) in names.iter().enumerate() {
        let to = v1::BookingRequest {
            visit_kind: v1::VisitKind::NewVisit.into(),
            ..other()
        };
        let after = changed(&harness, change(name, &PATHS, to)).await;
        let guarantee = after.expect("a fellow").care_guarantee_date;
        assert_eq!(guarantee, if place == 0 { "2026-05-21" } else { "" });
    }
    let stranger = v1::BookingRequest {
        visit_type: other().visit_type,
        ..requested(PERIOD.0, PERIOD.1)
    };
    let status = harness.create(make::wire_create(stranger)).await;
    assert_eq!(
        refusal(&status.expect_err("a duplicate")).1,
        "DUPLICATE_REQUEST"
    );
    created(&harness, requested(PERIOD.0, PERIOD.1)).await;
    let status = changed(&harness, retype(&names[1], "ONH-NY")).await;
    assert_eq!(
        refusal(&status.expect_err("a duplicate")).1,
        "DUPLICATE_REQUEST"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_take_the_same_type_at_once_one_is_refused() {
    let harness = Harness::start(NOW).await;
    for i in 0..20 {
        let form = |code: &str| v1::BookingRequest {
            visit_type: visit_type(code),
            origin: decided(&format!("R-{i}"), ""),
            ..requested(PERIOD.0, PERIOD.1)
        };
        let first = created(&harness, form("A")).await;
        let second = created(&harness, form("B")).await;
        let (one, two, three) = tokio::join!(
            changed(&harness, retype(&first.name, "C")),
            changed(&harness, retype(&second.name, "C")),
            harness.create(make::wire_create(form("C"))),
        );
        let answers = [one, two, three];
        let taken: Vec<_> = answers.iter().filter_map(|it| it.as_ref().ok()).collect();
        assert_eq!(taken.len(), 1, "{i}");
        for status in answers.iter().filter_map(|it| it.as_ref().err()) {
            assert_duplicate_of(&taken[0].name, status, "at once");
        }
    }
}

#[tokio::test]
async fn a_repeat_of_a_change_of_the_visit_answers_the_same_and_checks_nothing() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-04-06", "2026-06-12")).await;
    let call = change(&request.name, &PATHS, other());
    let after = changed(&harness, call.clone()).await.expect("changed");
    assert_eq!(
        changed(&harness, call.clone()).await.expect("replayed"),
        after
    );
    hand_over_one(&harness).await;
    let again = changed(&harness, call).await.expect("replayed");
    assert_eq!(again.visit_type, other().visit_type);
}
