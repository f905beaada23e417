//! RecordBookingCancellation: who cancelled, what becomes of the request, and which booking is meant.

use care_invitation::contract::v1;
use care_invitation::contract::v1::BookingCancellationReason;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::Worklist;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use tonic::{Code, Status};

use super::calls::{
    assert_conflict, get_leave, hand_over_one, lease_one, planned, record_booking_cancellation,
    round, unbooked,
};
use super::{NOBODY, NOW, booking, created, done, lists_of, record, requested, state, visit};
use crate::consumer::{answer, sent};
use crate::harness::{Harness, bad_fields, metadata, refusal};
use crate::make;

const START: &str = "2026-05-18T08:00:00Z";
const END: &str = "2026-05-18T08:30:00Z";

/// The request that this form makes, with the visit booked.
async fn booked(harness: &Harness, form: v1::BookingRequest) -> v1::BookingRequest {
    let request = created(harness, form).await;
    let visit = booking("B-1", START, END);
    let answer = harness.book(record(&request.name, visit)).await;
    answer.expect("booked")
}

fn invitation() -> v1::BookingRequest {
    make::wire_form("2026-03-09", "2026-06-12")
}

/// A visit that was booked directly, without constraints.
fn direct() -> v1::BookingRequest {
    v1::BookingRequest {
        constraints: None,
        booking: Some(booking("B-1", START, END)),
        ..requested("2026-03-09", "2026-06-12")
    }
}

fn reason(status: &Status) -> String {
    refusal(status).1
}

#[tokio::test]
async fn a_request_whose_visit_is_off_waits_for_staff() {
    for (form, summons) in [
        (invitation(), true),
        (requested("2026-03-09", "2026-06-12"), true),
        (
            v1::BookingRequest {
                summons: false,
                ..requested("2026-03-09", "2026-06-12")
            },
            false,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let before = booked(&harness, form).await;
        let call = v1::RecordBookingCancellationRequest {
            comment: "läkaren är sjuk".into(),
            ..record_booking_cancellation(&before.name, "B-1", Next::Requested)
        };
        let after = unbooked(&harness, call).await.expect("cancelled");
        assert_eq!(state(&after), State::Requested);
        assert_eq!((after.summons, after.invitation), (summons, false));
        assert_eq!((&after.booking, round(&after)), (&None, round(&before)));
        assert_eq!(after.constraints, before.constraints);
        let lists = lists_of(&harness, &before.name).await;
        assert_eq!(lists, [Worklist::BookingRequests]);
        let entries = harness.history(&before.name).await;
        let entry = entries.last().expect("an entry");
        assert_eq!(done(&entries).last(), Some(&"RECORD_BOOKING_CANCELLATION"));
        assert_eq!(entry.booking, before.booking);
        assert_eq!(
            (entry.comment.as_str(), entry.state()),
            ("läkaren är sjuk", State::Requested)
        );
        assert_eq!(entry.change_reason(), v1::ChangeReason::Unspecified);
        harness.advance("2026-05-30T09:00:00Z");
        assert!(harness.lease_due().await.is_empty());
        let read = harness.get(&before.name).await.expect("read");
        assert_eq!(read, after);
    }
}

#[tokio::test]
async fn a_period_that_has_passed_makes_it_an_expired_request_at_once() {
    let harness = Harness::start(NOW).await;
    let request = booked(&harness, invitation()).await;
    harness.advance("2026-06-12T22:00:00Z");
    let call = record_booking_cancellation(&request.name, "B-1", Next::Requested);
    let after = unbooked(&harness, call).await.expect("cancelled");
    assert_eq!((state(&after), after.invitation), (State::Expired, false));
    let lists = lists_of(&harness, &request.name).await;
    assert_eq!(lists, [Worklist::FollowUp]);
    let entries = harness.history(&request.name).await;
    assert_eq!(entries.last().expect("an entry").state(), State::Expired);
}

#[tokio::test]
async fn a_patient_who_is_invited_again_begins_a_new_round() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, invitation()).await;
    hand_over_one(&harness).await;
    let visit = booking("B-1", START, END);
    let answer = harness.book(record(&request.name, visit)).await;
    let before = answer.expect("booked");
    let constraints = make::wire_constraints("2026-03-16", "2026-07-31");
    let call = v1::RecordBookingCancellationRequest {
        constraints: Some(constraints.clone()),
        ..record_booking_cancellation(&request.name, "B-1", Next::Invited)
    };
    let after = unbooked(&harness, call).await.expect("cancelled");
    assert_eq!((state(&after), after.invitation), (State::Invited, true));
    assert_eq!((&after.booking, round(&after)), (&None, 2));
    assert_eq!(planned(&after), "SENT CANCELLED SCHEDULED");
    assert_eq!(after.constraints, Some(constraints));
    let entries = harness.history(&request.name).await;
    let entry = entries.last().expect("an entry");
    assert_eq!(entry.event(), HistoryEvent::RecordBookingCancellation);
    assert_eq!(entry.change_reason(), v1::ChangeReason::ToCareInvitation);
    assert_eq!(entry.booking, before.booking);
    assert_eq!(entry.constraints, after.constraints);
    hand_over_one(&harness).await;
}

#[tokio::test]
async fn each_reason_has_a_counter() {
    let harness = Harness::start(NOW).await;
    let request = booked(&harness, invitation()).await;
    harness.advance(START);
    for (reason, counters) in [
        (BookingCancellationReason::Patient, (1, 0, 0)),
        (BookingCancellationReason::CareUnit, (1, 1, 0)),
        (BookingCancellationReason::NoShow, (1, 1, 1)),
        (BookingCancellationReason::Patient, (2, 1, 1)),
    ] {
        let call = v1::RecordBookingCancellationRequest {
            reason: reason.into(),
            ..record_booking_cancellation(&request.name, "B-1", Next::Requested)
        };
        let after = unbooked(&harness, call).await.expect("cancelled");
        let shown = (
            after.patient_cancellations,
            after.unit_cancellations,
            after.no_shows,
        );
        assert_eq!(shown, counters, "{reason:?}");
        let visit = booking("B-1", START, END);
        harness
            .book(record(&request.name, visit))
            .await
            .expect("booked");
    }
    let read = harness.get(&request.name).await.expect("read");
    assert_eq!((read.patient_cancellations, read.no_shows), (2, 1));
}

#[tokio::test]
async fn nobody_has_missed_a_visit_before_it_begins() {
    let harness = Harness::start(NOW).await;
    let request = booked(&harness, invitation()).await;
    let call = v1::RecordBookingCancellationRequest {
        reason: BookingCancellationReason::NoShow.into(),
        ..record_booking_cancellation(&request.name, "B-1", Next::Requested)
    };
    harness.advance("2026-05-18T07:59:59Z");
    let status = unbooked(&harness, call.clone()).await.expect_err("early");
    let allowed = "CANCEL,CHANGE_TO_INVITATION,RECORD_BOOKING,RECORD_BOOKING_CANCELLATION";
    assert_conflict(&status, State::Booked, allowed, "before the start");
    // Which booking is meant comes first.
    let other = v1::RecordBookingCancellationRequest {
        booking_id: "B-2".into(),
        ..call.clone()
    };
    let status = unbooked(&harness, other).await.expect_err("another");
    assert_eq!(reason(&status), "BOOKING_MISMATCH");
    harness.advance(START);
    let after = unbooked(&harness, call).await.expect("missed");
    assert_eq!(after.no_shows, 1);
}

#[tokio::test]
async fn another_booking_is_not_cancelled() {
    let harness = Harness::start(NOW).await;
    let request = booked(&harness, invitation()).await;
    let call = record_booking_cancellation(&request.name, "B-2", Next::Requested);
    let status = unbooked(&harness, call).await.expect_err("another");
    let expected = (Code::FailedPrecondition, "BOOKING_MISMATCH".to_owned());
    assert_eq!(refusal(&status), expected);
    assert_eq!(metadata(&status, "booking_id"), "B-1");
    let read = harness.get(&request.name).await.expect("read");
    assert_eq!(read, request);
}

#[tokio::test]
async fn constraints_are_required_where_there_are_none_and_are_held_against_today() {
    for next in [Next::Requested, Next::Invited] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, direct()).await;
        let call = record_booking_cancellation(&request.name, "B-1", next);
        let status = unbooked(&harness, call.clone()).await.expect_err("none");
        assert_eq!(refusal(&status).0, Code::InvalidArgument);
        assert_eq!(bad_fields(&status), ["constraints"]);
        for (first, last, field) in [
            (
                "2026-03-01",
                "2026-06-12",
                "constraints.requested_period.start_date",
            ),
            (
                "2026-06-12",
                "2026-06-01",
                "constraints.requested_period.end_date",
            ),
        ] {
            let call = v1::RecordBookingCancellationRequest {
                etag: "another".into(),
                constraints: Some(make::wire_constraints(first, last)),
                ..call.clone()
            };
            let status = unbooked(&harness, call).await.expect_err(field);
            assert_eq!(bad_fields(&status), [field]);
        }
        let call = v1::RecordBookingCancellationRequest {
            constraints: Some(make::wire_constraints("2026-03-09", "2026-06-12")),
            ..call
        };
        let after = unbooked(&harness, call).await.expect("cancelled");
        assert_eq!(after.invitation, next == Next::Invited);
    }
}

#[tokio::test]
async fn who_is_invited_again_needs_a_referral_and_a_period_to_come() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        origin: Some(visit("V-1", "")),
        ..requested("2026-03-09", "2026-06-12")
    };
    let without = booked(&harness, form).await;
    let with = booked(&harness, invitation()).await;
    harness.advance("2026-06-12T22:00:00Z");
    for (request, expected) in [(&without, "REFERRAL_REQUIRED"), (&with, "PERIOD_PASSED")] {
        let call = record_booking_cancellation(&request.name, "B-1", Next::Invited);
        let status = unbooked(&harness, call).await.expect_err(expected);
        assert_eq!(reason(&status), expected);
        let read = harness.get(&request.name).await.expect("read");
        assert_eq!((&read, read.unit_cancellations), (request, 0));
    }
}

#[tokio::test]
async fn a_visit_is_off_whatever_else_is_open_and_an_invitation_is_no_duplicate() {
    let harness = Harness::start(NOW).await;
    let book = async |id: &str, name: &str| {
        let booked = harness.book(record(name, booking(id, START, END))).await;
        booked.expect("booked");
    };
    let assert_cannot_be_invited = async |name: &str| {
        let again = harness.invite(make::wire_invite(name)).await;
        let status = again.expect_err("a duplicate");
        assert_eq!(reason(&status), "DUPLICATE_REQUEST");
    };
    let first = booked(&harness, invitation()).await;
    let second = created(&harness, invitation()).await;
    let call = record_booking_cancellation(&first.name, "B-1", Next::Invited);
    let status = unbooked(&harness, call).await.expect_err("a duplicate");
    assert_eq!(reason(&status), "DUPLICATE_REQUEST");
    assert_eq!(metadata(&status, "name"), second.name);

    let call = record_booking_cancellation(&first.name, "B-1", Next::Requested);
    let after = unbooked(&harness, call).await.expect("cancelled");
    assert_eq!(state(&after), State::Requested);
    // Both are open, and a third is a duplicate; so is the second when it is closed and invited again.
    let third = harness.create(make::wire_create(invitation())).await;
    assert_eq!(
        reason(&third.expect_err("a duplicate")),
        "DUPLICATE_REQUEST"
    );
    book("B-2", &second.name).await;
    let third = harness.create(make::wire_create(invitation())).await;
    let status = third.expect_err("a duplicate");
    assert_eq!(metadata(&status, "name"), first.name);
    assert_cannot_be_invited(&second.name).await;
    // The first, once closed, is as any other.
    book("B-1", &first.name).await;
    created(&harness, invitation()).await;
    assert_cannot_be_invited(&first.name).await;
}

#[tokio::test]
async fn what_is_on_its_way_when_the_visit_is_off_is_recorded_and_brings_nothing() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, invitation()).await;
    let due = lease_one(&harness).await;
    get_leave(&harness, &due).await;
    let visit = booking("B-1", START, END);
    harness
        .book(record(&request.name, visit))
        .await
        .expect("booked");
    let call = record_booking_cancellation(&request.name, "B-1", Next::Requested);
    unbooked(&harness, call).await.expect("cancelled");
    answer(&harness, sent(&due)).await;
    let after = harness.get(&request.name).await.expect("read");
    assert_eq!(
        (state(&after), planned(&after).as_str()),
        (State::Requested, "SENT")
    );
    harness.advance("2026-04-30T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn a_cancellation_has_an_id_and_an_etag_and_names_a_request() {
    let harness = Harness::start(NOW).await;
    let request = booked(&harness, invitation()).await;
    let call = record_booking_cancellation(&request.name, "B-1", Next::Requested);
    let stale = v1::RecordBookingCancellationRequest {
        etag: "another".into(),
        booking_id: "B-2".into(),
        ..call.clone()
    };
    let status = unbooked(&harness, stale).await.expect_err("stale");
    assert_eq!(reason(&status), "ETAG_MISMATCH");
    let nobody = record_booking_cancellation(NOBODY, "B-1", Next::Requested);
    let status = unbooked(&harness, nobody).await.expect_err("nobody");
    assert_eq!(refusal(&status).0, Code::NotFound);
    let first = unbooked(&harness, call.clone()).await.expect("cancelled");
    let again = unbooked(&harness, call.clone()).await.expect("the repeat");
    assert_eq!((&first, first.unit_cancellations), (&again, 1));
    let other = v1::RecordBookingCancellationRequest {
        comment: "annat".into(),
        ..call
    };
    let status = unbooked(&harness, other).await.expect_err("reused");
    assert_eq!(reason(&status), "REQUEST_ID_REUSED");
}
