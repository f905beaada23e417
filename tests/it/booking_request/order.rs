//! The order of checks: of two things that are wrong, the one that is checked first is told.
//!
//! Shape; the repeat of an id; what needs today's date or the stored request; existence; etag;
//! state; the rules of the call; duplicates.

use care_invitation::contract::v1;
use tonic::Status;

use super::{NOBODY, NOW, booking, created, record, requested, visit};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

const START: &str = "booking_request.constraints.requested_period.start_date";

fn reason<T>(answer: Result<T, Status>) -> String {
    match answer {
        Ok(_) => "done".into(),
        Err(status) => refusal(&status).1,
    }
}

#[tokio::test]
async fn shape_comes_before_the_repeat_of_an_id_and_before_today() {
    let harness = Harness::start(NOW).await;
    let call = make::wire_create(requested("2026-05-18", "2026-06-12"));
    harness.create(call.clone()).await.expect("created");
    let malformed = v1::CreateBookingRequestRequest {
        booking_request: Some(v1::BookingRequest {
            purpose: String::new(),
            ..requested("2026-03-01", "2026-06-12")
        }),
        ..call
    };
    let status = harness.create(malformed).await.expect_err("no purpose");
    assert_eq!(refusal(&status).1, "FIELD_INVALID");
    assert_eq!(bad_fields(&status), ["booking_request.purpose"]);
}

#[tokio::test]
async fn the_repeat_of_an_id_comes_before_today_and_before_existence() {
    let harness = Harness::start(NOW).await;
    let call = make::wire_create(requested("2026-05-18", "2026-06-12"));
    harness.create(call.clone()).await.expect("created");
    let yesterday = v1::CreateBookingRequestRequest {
        booking_request: Some(requested("2026-03-01", "2026-06-12")),
        ..call.clone()
    };
    assert_eq!(reason(harness.create(yesterday).await), "REQUEST_ID_REUSED");
    let elsewhere = v1::ChangeToInvitationRequest {
        request_id: call.request_id,
        constraints: Some(make::wire_constraints("2026-03-01", "2026-06-12")),
        ..make::wire_invite(NOBODY)
    };
    assert_eq!(reason(harness.invite(elsewhere).await), "REQUEST_ID_REUSED");
}

#[tokio::test]
async fn today_comes_before_existence() {
    let harness = Harness::start(NOW).await;
    // Whatever the request had, a period that has ended is in the past.
    for (first, last) in [("2026-02-02", "2026-02-27"), ("2026-03-01", "2026-06-12")] {
        let call = v1::ChangeToInvitationRequest {
            constraints: Some(make::wire_constraints(first, last)),
            ..make::wire_invite(NOBODY)
        };
        assert_eq!(
            reason(harness.invite(call).await),
            "FIELD_INVALID",
            "{first}"
        );
    }
}

#[tokio::test]
async fn today_comes_before_etag_and_state_and_rules() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let mut call = v1::ChangeToInvitationRequest {
        etag: "another".into(),
        constraints: Some(make::wire_constraints("2026-03-01", "2026-06-12")),
        ..make::wire_invite(&request.name)
    };
    let status = harness.invite(call.clone()).await.expect_err("yesterday");
    assert_eq!(
        bad_fields(&status),
        ["constraints.requested_period.start_date"]
    );
    call.etag.clear();
    assert_eq!(reason(harness.invite(call).await), "FIELD_INVALID");
    let form = v1::BookingRequest {
        origin: Some(visit("V-1", "")),
        ..make::wire_form("2026-03-01", "2026-06-12")
    };
    let status = harness
        .create(make::wire_create(form))
        .await
        .expect_err("yesterday");
    assert_eq!(bad_fields(&status), [START]);
}

#[tokio::test]
async fn existence_comes_before_etag() {
    let harness = Harness::start(NOW).await;
    let cancel = v1::CancelBookingRequestRequest {
        etag: "another".into(),
        ..make::wire_cancel(NOBODY)
    };
    assert_eq!(reason(harness.cancel(cancel).await), "RESOURCE_NOT_FOUND");
    let invite = v1::ChangeToInvitationRequest {
        etag: "another".into(),
        ..make::wire_invite(NOBODY)
    };
    assert_eq!(reason(harness.invite(invite).await), "RESOURCE_NOT_FOUND");
    let book = v1::RecordBookingRequest {
        etag: "another".into(),
        ..record(
            NOBODY,
            booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z"),
        )
    };
    assert_eq!(reason(harness.book(book).await), "RESOURCE_NOT_FOUND");
}

#[tokio::test]
async fn etag_comes_before_state() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let closed = harness
        .cancel(make::wire_cancel(&request.name))
        .await
        .expect("closed");
    let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    for (etag, expected) in [
        (&request.etag, "ETAG_MISMATCH"),
        (&closed.etag, "STATE_CONFLICT"),
    ] {
        let invite = v1::ChangeToInvitationRequest {
            etag: etag.clone(),
            ..make::wire_invite(&request.name)
        };
        let cancel = v1::CancelBookingRequestRequest {
            etag: etag.clone(),
            ..make::wire_cancel(&request.name)
        };
        let book = v1::RecordBookingRequest {
            etag: etag.clone(),
            ..record(&request.name, visit.clone())
        };
        assert_eq!(reason(harness.invite(invite).await), expected);
        assert_eq!(reason(harness.cancel(cancel).await), expected);
        assert_eq!(reason(harness.book(book).await), expected);
    }
}

#[tokio::test]
async fn state_comes_before_the_rules_of_the_call() {
    let harness = Harness::start(NOW).await;
    // Closed, without a referral, its period in the past: it is closed.
    let form = v1::BookingRequest {
        origin: Some(visit("V-1", "")),
        ..requested("2026-03-09", "2026-03-13")
    };
    let request = created(&harness, form).await;
    harness
        .cancel(make::wire_cancel(&request.name))
        .await
        .expect("closed");
    harness.advance("2026-03-14T09:00:00Z");
    let answer = harness.invite(make::wire_invite(&request.name)).await;
    assert_eq!(reason(answer), "STATE_CONFLICT");
    // Not invited, and the patient's visit is outside the constraints.
    let request = created(&harness, requested("2026-05-18", "2026-06-12")).await;
    let visit = v1::Booking {
        source: v1::BookingSource::Patient.into(),
        ..booking("B-1", "2026-06-15T08:00:00Z", "2026-06-15T08:30:00Z")
    };
    let answer = harness.book(record(&request.name, visit)).await;
    assert_eq!(reason(answer), "STATE_CONFLICT");
}

#[tokio::test]
async fn the_rules_of_the_call_come_before_duplicates() {
    let harness = Harness::start(NOW).await;
    let form = |first: &str, last: &str| v1::BookingRequest {
        origin: Some(visit("V-1", "")),
        ..requested(first, last)
    };
    let first = created(&harness, form("2026-03-09", "2026-03-13")).await;
    let invitation = v1::BookingRequest {
        invitation: true,
        ..form("2026-05-18", "2026-06-12")
    };
    let answer = harness.create(make::wire_create(invitation)).await;
    assert_eq!(reason(answer), "REFERRAL_REQUIRED");
    let visit = booking("B-1", "2026-03-09T08:00:00Z", "2026-03-09T08:30:00Z");
    harness
        .book(record(&first.name, visit))
        .await
        .expect("booked");
    created(&harness, form("2026-05-18", "2026-06-12")).await;
    harness.advance("2026-03-14T09:00:00Z");
    let mut invite = make::wire_invite(&first.name);
    assert_eq!(
        reason(harness.invite(invite.clone()).await),
        "REFERRAL_REQUIRED"
    );
    invite.referral_id = "R-1".into();
    assert_eq!(
        reason(harness.invite(invite.clone()).await),
        "PERIOD_PASSED"
    );
    invite.constraints = Some(make::wire_constraints("2026-05-18", "2026-06-12"));
    assert_eq!(reason(harness.invite(invite).await), "DUPLICATE_REQUEST");
}
