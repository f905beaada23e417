//! RecordBooking: who may book what, what a booking ends, and what a second one does.

use care_invitation::contract::v1;
use care_invitation::contract::v1::BookingSource;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::booking_request::State;
use tonic::{Code, Status};

use super::calls::{contact, contacted};
use super::{
    NOW, SILENCE_ENDS, booking, created, done, lists_of, messages, plan, record, requested, silent,
    state,
};
use crate::harness::{Harness, metadata, refusal};
use crate::make;

/// A visit of half an hour on the first day of the period that most tests have.
fn half_an_hour(source: BookingSource) -> v1::Booking {
    v1::Booking {
        source: source.into(),
        ..booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z")
    }
}

fn assert_refused(status: &Status, code: Code, reason: &str, key: &str, value: &str, row: &str) {
    assert_eq!(refusal(status), (code, reason.to_owned()), "{row}");
    assert_eq!(metadata(status, key), value, "{row}");
}

#[tokio::test]
async fn a_booking_ends_the_invitation() {
    for source in [BookingSource::Patient, BookingSource::Staff] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
        harness.hand_over_due().await;
        let booked = harness
            .book(record(&request.name, half_an_hour(source)))
            .await
            .expect("booked");
        assert_eq!(state(&booked), State::Booked);
        assert_eq!(booked.booking, Some(half_an_hour(source)));
        let expected = ["SENT 03-02T09:00Z", "CANCELLED 03-16T08:00Z"];
        assert_eq!(plan(messages(&booked)), expected);
        assert_eq!(lists_of(&harness, &request.name).await, []);
        let entries = harness.history(&request.name).await;
        let expected = [
            "CREATE_BOOKING_REQUEST",
            "NOTIFICATION_SENT",
            "RECORD_BOOKING",
            "NOTIFICATION_CANCELLED",
        ];
        assert_eq!(done(&entries), expected);
        assert_eq!(entries[2].booking, Some(half_an_hour(source)));
        assert_eq!(entries[3].notification, messages(&booked)[1].name);
        // Nothing is sent any more, and it does not expire.
        harness.advance("2026-07-01T09:00:00Z");
        assert_eq!(harness.lease_due().await.len(), 0);
        let read = harness.get(&request.name).await.expect("read");
        assert_eq!(state(&read), State::Booked);
    }
}

#[tokio::test]
async fn a_visit_outside_the_constraints_is_refused_with_the_first_reason_unless_staff_have_one() {
    let form = |referral: &str| {
        let mut form = make::wire_form("2026-03-02", "2026-03-27");
        form.origin = Some(make::wire_referral(referral));
        form.constraints = Some(v1::BookingConstraints {
            weekdays: vec![v1::DayOfWeek::Monday.into(), v1::DayOfWeek::Tuesday.into()],
            time_windows: vec![v1::TimeWindow {
                start_clock: "08:00".into(),
                end_clock: "12:00".into(),
            }],
            duration_minutes: 30,
            performer_ids: vec!["SE2321000131-P1".into()],
            ..make::wire_constraints("2026-03-02", "2026-03-27")
        });
        form
    };
    let harness = Harness::start(NOW).await;
    let mut number = 0;
    // 08:00 to 12:00 in Stockholm is 07:00 to 11:00, and 06:00 to 10:00 from 29 March on.
    const P1: &str = "SE2321000131-P1";
    for (start, end, performer, verdict) in [
        ("2026-03-03T10:30:00Z", "2026-03-03T11:00:00Z", P1, ""),
        (
            "2026-03-02T09:00:00Z",
            "2026-03-02T09:30:00Z",
            "se2321000131-p1",
            "",
        ),
        ("2026-03-02T08:59:59Z", "2026-03-02T09:30:00Z", P1, "PAST"),
        ("2026-03-01T08:00:00Z", "2026-03-01T08:10:00Z", "", "PAST"),
        (
            "2026-03-30T08:00:00Z",
            "2026-03-30T08:30:00Z",
            P1,
            "OUTSIDE_PERIOD",
        ),
        // 27 March there, and past the last midnight of the period here.
        (
            "2026-03-27T23:00:00Z",
            "2026-03-27T23:30:00Z",
            P1,
            "OUTSIDE_PERIOD",
        ),
        (
            "2026-03-27T22:59:59Z",
            "2026-03-27T23:30:00Z",
            P1,
            "WEEKDAY",
        ),
        (
            "2026-03-04T08:00:00Z",
            "2026-03-04T08:10:00Z",
            "",
            "WEEKDAY",
        ),
        (
            "2026-03-03T10:45:00Z",
            "2026-03-03T11:15:00Z",
            P1,
            "TIME_OF_DAY",
        ),
        (
            "2026-03-03T06:59:59Z",
            "2026-03-03T07:30:00Z",
            P1,
            "TIME_OF_DAY",
        ),
        (
            "2026-03-03T08:00:00Z",
            "2026-03-04T08:30:00Z",
            P1,
            "TIME_OF_DAY",
        ),
        (
            "2026-03-03T08:00:00Z",
            "2026-03-03T08:29:59Z",
            "",
            "TOO_SHORT",
        ),
        (
            "2026-03-03T08:00:00Z",
            "2026-03-03T08:30:00Z",
            "",
            "PERFORMER",
        ),
        (
            "2026-03-03T08:00:00Z",
            "2026-03-03T08:30:00Z",
            "SE2321000131-P2",
            "PERFORMER",
        ),
    ] {
        for (source, override_reason, may_override) in [
            (BookingSource::Patient, "", false),
            (BookingSource::Patient, "jag vill", false),
            (BookingSource::Staff, "", false),
            (BookingSource::Staff, " \n", false),
            (BookingSource::Staff, "ledig tid", true),
        ] {
            let row = format!("{start} {end} {performer} {source:?} {override_reason}");
            let request = created(&harness, form(&format!("R-{number}"))).await;
            number += 1;
            assert_eq!(harness.lease_due().await.len(), 1, "booking is open");
            let request = harness.get(&request.name).await.expect("read");
            let visit = v1::Booking {
                source: source.into(),
                performer_id: performer.into(),
                override_reason: override_reason.into(),
                ..booking("B-1", start, end)
            };
            match harness.book(record(&request.name, visit)).await {
                Ok(booked) => {
                    assert!(verdict.is_empty() || may_override, "{row}");
                    let kept = booked.booking.expect("a booking");
                    assert_eq!(kept.override_reason, override_reason.trim(), "{row}");
                }
                Err(status) => {
                    assert!(!verdict.is_empty() && !may_override, "{row}: {status:?}");
                    let code = Code::FailedPrecondition;
                    assert_refused(
                        &status,
                        code,
                        "OUTSIDE_CONSTRAINTS",
                        "verdict",
                        verdict,
                        &row,
                    );
                    let read = harness.get(&request.name).await.expect("read");
                    assert_eq!(read, request, "{row}");
                }
            }
        }
    }
}

#[tokio::test]
async fn staff_book_in_every_state_but_cancelled_and_patients_when_they_have_been_told() {
    const INVITED: &str = "2026-04-13";
    for (row, expected) in [
        ("requested", State::Requested),
        ("not told", State::Invited),
        ("invited", State::Invited),
        ("held", State::Invited),
        ("unanswered", State::NoResponse),
        ("booked", State::Booked),
        ("expired", State::Expired),
        ("expired and never invited", State::Expired),
        ("cancelled", State::Cancelled),
    ] {
        for source in [BookingSource::Patient, BookingSource::Staff] {
            let harness = Harness::start(NOW).await;
            let last = "2026-06-12";
            let request = match row {
                "requested" => created(&harness, requested(INVITED, last)).await,
                "not told" => {
                    let mut form = make::wire_form(INVITED, last);
                    form.patient.as_mut().expect("a patient").protection = 2;
                    created(&harness, form).await
                }
                "unanswered" => silent(&harness).await,
                "expired" => created(&harness, make::wire_form("2026-03-09", "2026-03-13")).await,
                "expired and never invited" => {
                    created(&harness, requested("2026-03-09", "2026-03-13")).await
                }
                _ => created(&harness, make::wire_form(INVITED, last)).await,
            };
            if row != "unanswered" {
                harness.lease_due().await;
            }
            match row {
                "held" => {
                    let held = contacted(&harness, contact(&request.name, Outcome::CallBack)).await;
                    held.expect("held");
                }
                "booked" => {
                    let visit = booking("B-1", "2026-05-19T08:00:00Z", "2026-05-19T08:30:00Z");
                    harness
                        .book(record(&request.name, visit))
                        .await
                        .expect("booked");
                }
                "cancelled" => {
                    harness
                        .cancel(make::wire_cancel(&request.name))
                        .await
                        .expect("cancelled");
                }
                "unanswered" => harness.advance(SILENCE_ENDS),
                "expired" | "expired and never invited" => harness.advance("2026-03-13T23:00:00Z"),
                _ => {}
            }
            let before = harness.get(&request.name).await.expect("read");
            assert_eq!(state(&before), expected, "{row}");

            let mut visit = half_an_hour(source);
            visit.override_reason = "ledig tid".into();
            let answer = harness.book(record(&request.name, visit)).await;
            let may_patient = !matches!(
                row,
                "requested" | "not told" | "expired" | "expired and never invited" | "cancelled"
            );
            let may = match source {
                BookingSource::Patient => may_patient,
                _ => expected != State::Cancelled,
            };
            match answer {
                Ok(booked) => {
                    assert!(may, "{row} {source:?}");
                    assert_eq!(state(&booked), State::Booked, "{row} {source:?}");
                }
                Err(status) => {
                    assert!(!may, "{row} {source:?}: {status:?}");
                    let name = expected.as_str_name();
                    let name = name.strip_prefix("STATE_").expect("a state");
                    let code = Code::FailedPrecondition;
                    assert_refused(&status, code, "STATE_CONFLICT", "state", name, row);
                    let read = harness.get(&request.name).await.expect("read");
                    assert_eq!(read, before, "{row} {source:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn the_same_booking_again_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-04-13", "2026-06-12")).await;
    assert_eq!(harness.lease_due().await.len(), 1, "booking is open");
    let visit = half_an_hour(BookingSource::Patient);
    let booked = harness
        .book(record(&request.name, visit.clone()))
        .await
        .expect("booked");
    harness.advance("2026-03-03T09:00:00Z");
    let again = harness
        .book(record(&request.name, visit.clone()))
        .await
        .expect("the same");
    assert_eq!(again, booked);
    assert_eq!(harness.history(&request.name).await.len(), 3);
    // Even when its time has passed meanwhile.
    harness.advance("2026-05-19T09:00:00Z");
    let again = harness
        .book(record(&request.name, visit))
        .await
        .expect("the same");
    assert_eq!(
        (again.etag, again.update_time),
        (booked.etag, booked.update_time)
    );
}

#[tokio::test]
async fn a_booked_visit_moves_under_its_id_inside_the_constraints() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-04-13", "2026-06-12")).await;
    assert_eq!(harness.lease_due().await.len(), 1, "booking is open");
    let patient = |start: &str, end: &str| v1::Booking {
        source: BookingSource::Patient.into(),
        ..booking("B-1", start, end)
    };
    let first = patient("2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    let booked = harness
        .book(record(&request.name, first))
        .await
        .expect("booked");
    let outside = patient("2026-06-15T08:00:00Z", "2026-06-15T08:30:00Z");
    let status = harness
        .book(record(&request.name, outside))
        .await
        .expect_err("outside");
    assert_eq!(refusal(&status).1, "OUTSIDE_CONSTRAINTS");
    let moved = patient("2026-05-20T08:00:00Z", "2026-05-20T08:30:00Z");
    let after = harness
        .book(record(&request.name, moved.clone()))
        .await
        .expect("moved");
    assert_eq!(
        (state(&after), &after.booking),
        (State::Booked, &Some(moved))
    );
    assert_ne!(after.etag, booked.etag);
}

#[tokio::test]
async fn another_visit_is_not_booked_beside_the_one_that_is() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let first = half_an_hour(BookingSource::Staff);
    let booked = harness
        .book(record(&request.name, first))
        .await
        .expect("booked");
    for source in [BookingSource::Patient, BookingSource::Staff] {
        let other = v1::Booking {
            booking_id: "B-2".into(),
            override_reason: "dubbel".into(),
            ..half_an_hour(source)
        };
        let status = harness
            .book(record(&request.name, other))
            .await
            .expect_err("booked already");
        assert_refused(
            &status,
            Code::AlreadyExists,
            "ALREADY_BOOKED",
            "booking_id",
            "B-1",
            "",
        );
        assert_eq!(harness.get(&request.name).await.expect("read"), booked);
    }
}

#[tokio::test]
async fn the_patient_moves_a_visit_until_a_day_before_it_and_staff_at_any_time() {
    for (now, source, taken) in [
        ("2026-05-17T07:59:59Z", BookingSource::Patient, true),
        ("2026-05-17T08:00:00Z", BookingSource::Patient, false),
        ("2026-05-17T08:00:00Z", BookingSource::Staff, true),
        ("2026-05-18T08:00:00Z", BookingSource::Patient, false),
        ("2026-05-18T08:00:00Z", BookingSource::Staff, true),
    ] {
        let harness = Harness::start(NOW).await;
        let form = make::wire_form("2026-04-13", "2026-06-12");
        let request = created(&harness, form).await;
        assert_eq!(harness.lease_due().await.len(), 1, "booking is open");
        let first = half_an_hour(BookingSource::Patient);
        let call = record(&request.name, first.clone());
        let booked = harness.book(call).await.expect("booked");
        harness.advance(now);
        // The visit that is booked, once more, is taken however late it is.
        let again = harness.book(record(&request.name, first)).await;
        assert_eq!(again.expect("the same").etag, booked.etag, "{now}");
        let moved = v1::Booking {
            source: source.into(),
            ..booking("B-1", "2026-05-20T08:00:00Z", "2026-05-20T08:30:00Z")
        };
        match harness.book(record(&request.name, moved)).await {
            Ok(_) => assert!(taken, "{now} {source:?}"),
            Err(status) => {
                let expected = (Code::FailedPrecondition, "TOO_LATE".to_owned());
                assert_eq!(refusal(&status), expected, "{now} {source:?}");
                assert!(!taken, "{now} {source:?}");
            }
        }
    }
}

/// A visit that takes the place of another booking.
fn in_place_of(
    replaced: &str,
    name: &str,
    booking_id: &str,
    start: &str,
) -> v1::RecordBookingRequest {
    let start_at = make::at(start);
    let end = (start_at + chrono::Duration::minutes(30)).to_rfc3339();
    let visit = v1::Booking {
        source: BookingSource::Patient.into(),
        ..booking(booking_id, start, &end)
    };
    v1::RecordBookingRequest {
        replaces_booking_id: replaced.into(),
        ..record(name, visit)
    }
}

/// An invitation that the patient has booked as B-1.
async fn booked(harness: &Harness) -> v1::BookingRequest {
    let form = make::wire_form("2026-04-13", "2026-06-12");
    let request = created(harness, form).await;
    assert_eq!(harness.lease_due().await.len(), 1, "booking is open");
    let first = record(&request.name, half_an_hour(BookingSource::Patient));
    harness.book(first).await.expect("booked")
}

#[tokio::test]
async fn a_visit_that_moves_may_get_a_new_id() {
    let harness = Harness::start(NOW).await;
    let before = booked(&harness).await;
    let moved = in_place_of("B-1", &before.name, "B-2", "2026-05-20T08:00:00Z");
    let after = harness.book(moved.clone()).await.expect("moved");
    assert_eq!(
        (state(&after), &after.booking),
        (State::Booked, &moved.booking)
    );
    assert_ne!(after.etag, before.etag);
    // Both bookings are in the history.
    let entries = harness.history(&before.name).await;
    let bookings = entries.iter().filter_map(|it| it.booking.as_ref());
    let ids: Vec<_> = bookings.map(|it| it.booking_id.as_str()).collect();
    assert_eq!(ids, ["B-1", "B-2"]);
    // The repeat answers the same, and another call with the same content does nothing.
    for repeat in [
        moved.clone(),
        v1::RecordBookingRequest {
            request_id: make::request_id(),
            ..moved.clone()
        },
    ] {
        assert_eq!(harness.book(repeat).await.expect("a repeat"), after);
    }
    assert_eq!(harness.history(&before.name).await, entries);
    // What the call replaces is part of what it says.
    let other = v1::RecordBookingRequest {
        replaces_booking_id: String::new(),
        ..moved
    };
    let status = harness.book(other).await.expect_err("other content");
    assert_eq!(refusal(&status).1, "REQUEST_ID_REUSED");
    // It may name the id that the visit keeps.
    let again = in_place_of("B-2", &before.name, "B-2", "2026-05-21T08:00:00Z");
    harness.book(again).await.expect("moved under its id");
}

#[tokio::test]
async fn a_visit_that_gets_a_new_id_is_judged_as_one_that_moves() {
    for (now, start, expected) in [
        (NOW, "2026-06-15T08:00:00Z", "OUTSIDE_CONSTRAINTS"),
        ("2026-05-17T07:59:59Z", "2026-05-20T08:00:00Z", "OK"),
        ("2026-05-17T08:00:00Z", "2026-05-20T08:00:00Z", "TOO_LATE"),
    ] {
        let harness = Harness::start(NOW).await;
        let before = booked(&harness).await;
        if now != NOW {
            harness.advance(now);
        }
        let moved = in_place_of("B-1", &before.name, "B-2", start);
        match harness.book(moved).await {
            Ok(after) => assert_eq!(
                (after.booking.expect("one").booking_id.as_str(), "OK"),
                ("B-2", expected)
            ),
            Err(status) => {
                let refused = (Code::FailedPrecondition, expected.to_owned());
                assert_eq!(refusal(&status), refused, "{now}");
                assert_eq!(harness.get(&before.name).await.expect("read"), before);
            }
        }
    }
}

#[tokio::test]
async fn a_visit_takes_the_place_of_the_recorded_booking_alone() {
    let harness = Harness::start(NOW).await;
    let code = Code::FailedPrecondition;
    let start = "2026-05-20T08:00:00Z";
    let before = booked(&harness).await;
    for id in ["B-1", "B-2", "B-3"] {
        let call = in_place_of("B-3", &before.name, id, start);
        let status = harness.book(call).await.expect_err("another is booked");
        assert_refused(&status, code, "BOOKING_MISMATCH", "booking_id", "B-1", id);
        assert_eq!(harness.get(&before.name).await.expect("read"), before);
    }
    // The booking as it is recorded changes nothing, whatever it is said to replace.
    let same = in_place_of("B-3", &before.name, "B-1", "2026-05-18T08:00:00Z");
    assert_eq!(harness.book(same).await.expect("the same"), before);

    // Nothing is booked: there is nothing to replace, and the state comes first.
    let mut form = make::wire_form("2026-04-13", "2026-06-12");
    form.origin = Some(make::wire_referral("R-2"));
    let open = created(&harness, form).await;
    assert_eq!(harness.lease_due().await.len(), 1, "booking is open");
    let call = in_place_of("B-1", &open.name, "B-2", start);
    let status = harness
        .book(call.clone())
        .await
        .expect_err("none is booked");
    assert_refused(&status, code, "BOOKING_MISMATCH", "booking_id", "", "open");
    harness
        .cancel(make::wire_cancel(&open.name))
        .await
        .expect("cancelled");
    let status = harness.book(call).await.expect_err("closed");
    assert_refused(
        &status,
        code,
        "STATE_CONFLICT",
        "verdict",
        "REQUEST_CLOSED",
        "closed",
    );
}
