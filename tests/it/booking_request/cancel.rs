//! CancelBookingRequest: why, from which states, and that it is final.

use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{self, CancelReason};
use tonic::Code;

use super::{
    NOW, SILENCE_ENDS, actions, booking, created, done, lists_of, messages, plan, record,
    requested, silent, state,
};
use crate::harness::{Harness, bad_fields, metadata, refusal};
use crate::make;

#[tokio::test]
async fn a_request_is_closed_for_a_reason_some_of_which_need_a_comment() {
    for (reason, needs_comment) in [
        (CancelReason::ReferralWithdrawn, false),
        (CancelReason::PatientRequest, false),
        (CancelReason::UnitRequest, false),
        (CancelReason::PatientDeceased, false),
        (CancelReason::EnteredInError, true),
        (CancelReason::Other, true),
        (CancelReason::NoShow, false),
        (CancelReason::PatientMoved, false),
        (CancelReason::CaredForElsewhere, false),
        (CancelReason::Transferred, false),
    ] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
        let call = |comment: &str| v1::CancelBookingRequestRequest {
            reason: reason.into(),
            comment: comment.into(),
            ..make::wire_cancel(&request.name)
        };
        for silent in ["", " \n"] {
            if needs_comment {
                let status = harness.cancel(call(silent)).await.expect_err("no comment");
                let expected = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
                assert_eq!(refusal(&status), expected, "{reason:?}");
                assert_eq!(bad_fields(&status), ["comment"], "{reason:?}");
            }
        }
        let comment = if needs_comment { "fel patient" } else { "" };
        let closed = harness.cancel(call(comment)).await.expect("closed");
        assert_eq!(
            (state(&closed), closed.cancel_reason()),
            (State::Cancelled, reason)
        );
        assert_eq!(actions(&closed), [], "{reason:?}");
        assert!(closed.warnings.is_empty(), "{reason:?}");
        assert_eq!(
            plan(messages(&closed)),
            ["CANCELLED 03-02T09:00Z"],
            "{reason:?}"
        );
        assert_eq!(lists_of(&harness, &request.name).await, [], "{reason:?}");
        assert_eq!(harness.lease_due().await.len(), 0, "{reason:?}");
        let entries = harness.history(&request.name).await;
        let expected = [
            "CREATE_BOOKING_REQUEST",
            "CANCEL_BOOKING_REQUEST",
            "NOTIFICATION_CANCELLED",
        ];
        assert_eq!(done(&entries), expected, "{reason:?}");
        let entry = &entries[1];
        assert_eq!(
            (entry.cancel_reason(), entry.comment.as_str()),
            (reason, comment)
        );
        assert_eq!(entry.state(), State::Cancelled);
    }
}

#[tokio::test]
async fn a_request_is_closed_from_every_other_state() {
    let visit = || booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    for expected in [
        State::Requested,
        State::Invited,
        State::Booked,
        State::NoResponse,
        State::Expired,
    ] {
        let harness = Harness::start(NOW).await;
        let request = match expected {
            State::Requested => created(&harness, requested("2026-05-18", "2026-06-12")).await,
            State::NoResponse => silent(&harness).await,
            State::Expired => created(&harness, make::wire_form("2026-03-09", "2026-03-13")).await,
            _ => created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await,
        };
        match expected {
            State::NoResponse => harness.advance(SILENCE_ENDS),
            State::Expired => harness.advance("2026-03-13T23:00:00Z"),
            State::Booked => {
                harness
                    .book(record(&request.name, visit()))
                    .await
                    .expect("booked");
            }
            _ => {}
        }
        let before = harness.get(&request.name).await.expect("read");
        assert_eq!(state(&before), expected);
        let closed = harness
            .cancel(make::wire_cancel(&request.name))
            .await
            .expect("closed");
        assert_eq!(state(&closed), State::Cancelled, "{expected:?}");
        // The history keeps the booking that was ended.
        let entries = harness.history(&request.name).await;
        let cancelled = entries
            .iter()
            .find(|it| it.event() == HistoryEvent::CancelBookingRequest);
        assert_eq!(
            cancelled.expect("an entry").booking,
            before.booking,
            "{expected:?}"
        );
    }
}

#[tokio::test]
async fn a_closed_request_stays_as_it_is() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let closed = harness
        .cancel(make::wire_cancel(&request.name))
        .await
        .expect("closed");
    let visit = v1::Booking {
        override_reason: "ändå".into(),
        ..booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z")
    };
    for status in [
        harness.cancel(make::wire_cancel(&request.name)).await.err(),
        harness.invite(make::wire_invite(&request.name)).await.err(),
        harness.book(record(&request.name, visit)).await.err(),
    ] {
        let status = status.expect("closed");
        let expected = (Code::FailedPrecondition, "STATE_CONFLICT".to_owned());
        assert_eq!(refusal(&status), expected);
        assert_eq!(metadata(&status, "state"), "CANCELLED");
        assert_eq!(metadata(&status, "allowed_actions"), "");
    }
    harness.advance("2026-07-01T09:00:00Z");
    assert_eq!(harness.get(&request.name).await.expect("read"), closed);
}

#[tokio::test]
async fn no_response_is_a_reason_where_an_invitation_was_not_answered_alone() {
    let over = "2026-06-12T22:00:00Z";
    let visit = || booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
    for (start, taken) in [
        ("silent", true),
        ("expired invitation", true),
        ("expired and unheard of", true),
        ("invited", false),
        ("requested", false),
        ("expired request", false),
        ("booked", false),
        ("cancelled", false),
    ] {
        let harness = Harness::start(NOW).await;
        let request = match start {
            "silent" | "expired invitation" => silent(&harness).await,
            "requested" | "expired request" => {
                created(&harness, requested("2026-03-09", "2026-06-12")).await
            }
            _ => created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await,
        };
        match start {
            "silent" => harness.advance(SILENCE_ENDS),
            "booked" => drop(harness.book(record(&request.name, visit())).await),
            "cancelled" => drop(harness.cancel(make::wire_cancel(&request.name)).await),
            "invited" | "requested" => {}
            _ => harness.advance(over),
        }
        let before = harness.get(&request.name).await.expect("read");
        let call = v1::CancelBookingRequestRequest {
            reason: CancelReason::NoResponse.into(),
            ..make::wire_cancel(&request.name)
        };
        match harness.cancel(call).await {
            Ok(closed) => {
                assert!(taken, "{start}");
                assert_eq!(closed.cancel_reason(), CancelReason::NoResponse, "{start}");
                // Who has been silent is told; after the period nobody is.
                let due = harness.lease_due().await;
                let reasons: Vec<_> = due.iter().map(|it| it.cancel_reason()).collect();
                let told = [CancelReason::NoResponse];
                let expected = if start == "silent" { &told[..] } else { &[] };
                assert_eq!(reasons, expected, "{start}");
            }
            Err(status) => {
                assert!(!taken, "{start}: {status:?}");
                assert_eq!(refusal(&status).1, "STATE_CONFLICT", "{start}");
                let after = harness.get(&request.name).await.expect("read");
                assert_eq!(after, before, "{start}");
            }
        }
    }
}
