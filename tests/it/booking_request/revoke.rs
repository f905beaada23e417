//! RevokeInvitation: from where, what stays, what is no longer sent, and what is sent all the same.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::record_booking_cancellation_request::Next;
use care_invitation::contract::v1::{HoldReason, Warning, Worklist};
use tonic::Code;

use super::calls::{
    assert_conflict, contact, contacted, get_leave, hand_over_one, hold, lease_one, park, planned,
    protect, record_booking_cancellation, release, released, revoke, revoked, round, unbooked,
    updated,
};
use super::{NOBODY, NOW, created, done, lists_of, messages, plan, silent, state, warnings};
use crate::consumer::Outcomes as _;
use crate::consumer::{Consumer, answer, authorize, everything, lease, name, sent};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

/// When the period of these tests is over.
const OVER: &str = "2026-06-12T22:00:00Z";

async fn due_now(harness: &Harness) -> v1::BookingRequest {
    created(harness, make::wire_form("2026-03-09", "2026-06-12")).await
}

#[tokio::test]
async fn an_invitation_that_nobody_was_told_of_is_a_request_again() {
    for start in [
        "due",
        "leased",
        "parked",
        "called back",
        "protected",
        "expired",
    ] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        match start {
            "leased" => drop(lease_one(&harness).await),
            "parked" => answer(&harness, park(&lease_one(&harness).await)).await,
            "called back" => {
                let call = contact(&request.name, Outcome::CallBack);
                contacted(&harness, call).await.expect("held");
            }
            "protected" => drop(updated(&harness, protect()).await.expect("updated")),
            "expired" => harness.advance(OVER),
            _ => {}
        }
        let after = revoked(&harness, revoke(&request.name)).await.expect(start);
        let (shown, list) = match start {
            "expired" => (State::Expired, Worklist::FollowUp),
            _ => (State::Requested, Worklist::BookingRequests),
        };
        assert_eq!(state(&after), shown, "{start}");
        assert!(after.summons && !after.invitation, "{start}");
        assert_eq!(hold(&after), HoldReason::Unspecified, "{start}");
        assert_eq!(planned(&after), "CANCELLED", "{start}");
        assert_eq!(messages(&after).len(), 1, "{start}: none to come");
        assert_eq!(
            messages(&after)[0].cause(),
            NotificationCause::Revoked,
            "{start}"
        );
        let invitation = after.care_invitation.as_ref().expect("it stays");
        assert_eq!((invitation.round, &invitation.no_response_time), (1, &None));
        assert_eq!(lists_of(&harness, &request.name).await, [list], "{start}");
        let read = harness.get(&request.name).await.expect("read");
        assert_eq!(read, after, "{start}");
        let entries = harness.history(&request.name).await;
        let last_two = &entries[entries.len() - 2..];
        let expected = ["REVOKE_INVITATION", "NOTIFICATION_CANCELLED"];
        assert_eq!(done(last_two), expected, "{start}");
        assert_eq!(last_two[0].comment, "fel remiss", "{start}");
        assert_eq!(last_two[0].state(), shown, "{start}");
        assert!(harness.lease_due().await.is_empty(), "{start}");
    }
}

#[tokio::test]
async fn a_patient_who_has_been_told_is_not_uninvited() {
    for start in ["sent", "dispatching", "dispatching and late", "silent"] {
        let harness = Harness::start(NOW).await;
        let request = match start {
            "silent" => silent(&harness).await,
            _ => due_now(&harness).await,
        };
        match start {
            "sent" => drop(hand_over_one(&harness).await),
            "silent" => {}
            _ => get_leave(&harness, &lease_one(&harness).await).await,
        }
        if start == "dispatching and late" {
            harness.advance("2026-03-03T09:00:00Z");
        }
        let answer = revoked(&harness, revoke(&request.name)).await;
        let allowed = "CANCEL,CHANGE,RECORD_BOOKING,RECORD_PATIENT_CONTACT";
        assert_conflict(&answer.expect_err(start), State::Invited, allowed, start);
        // Nor when the period has passed.
        harness.advance(OVER);
        let answer = revoked(&harness, revoke(&request.name)).await;
        let allowed = "CANCEL,CHANGE_TO_INVITATION,RECORD_BOOKING,RECORD_PATIENT_CONTACT";
        assert_conflict(&answer.expect_err(start), State::Expired, allowed, start);
    }
}

#[tokio::test]
async fn a_refusal_says_what_is_in_the_way_where_the_state_alone_is_not() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let answer = released(&harness, release(&request.name)).await;
    assert_eq!(
        answer.expect_err("not held").message(),
        "not possible in the state INVITED: nothing holds it"
    );
    let mut unanswered = make::wire_cancel(&request.name);
    unanswered.reason = v1::CancelReason::NoResponse.into();
    assert_eq!(
        harness
            .cancel(unanswered)
            .await
            .expect_err("early")
            .message(),
        "not possible in the state INVITED: NO_RESPONSE needs an invitation that was not answered \
         in time"
    );
    hand_over_one(&harness).await;
    let answer = revoked(&harness, revoke(&request.name)).await;
    assert_eq!(
        answer.expect_err("told").message(),
        "not possible in the state INVITED: a notification of the round was handed over or is \
         being handed over"
    );
    let booking = make::wire_booking(&request.name, "2026-03-10T09:00:00Z");
    let booked = harness.book(booking).await.expect("booked");
    let booking_id = booked.booking.expect("a booking").booking_id;
    let mut missed = record_booking_cancellation(&request.name, &booking_id, Next::Requested);
    missed.reason = v1::BookingCancellationReason::NoShow.into();
    let answer = unbooked(&harness, missed).await;
    assert_eq!(
        answer.expect_err("to come").message(),
        "not possible in the state BOOKED: the visit has not begun"
    );
}

#[tokio::test]
async fn what_is_leased_is_revoked_and_a_late_sent_is_recorded_and_brings_nothing() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    let after = revoked(&harness, revoke(&request.name)).await;
    after.expect("revoked");
    assert_eq!(consumer.revoked().await, name(&due));
    let leave = authorize(&harness, vec![lease(&due)]).await;
    assert_eq!(leave.expect("answered").refused(), [name(&due)]);

    answer(&harness, sent(&due)).await;
    let after = harness.get(&request.name).await.expect("read");
    assert_eq!(plan(messages(&after)), ["SENT 03-02T09:00Z"]);
    assert!(messages(&after)[0].sent_after_change);
    assert_eq!((state(&after), after.invitation), (State::Requested, false));
    harness.advance("2026-05-01T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    // Its end is told by nobody: the request is no invitation.
    let closed = harness.cancel(make::wire_cancel(&request.name)).await;
    assert_eq!(planned(&closed.expect("closed")), "SENT");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn the_next_invitation_is_the_next_round() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    hand_over_one(&harness).await;
    let call = contact(&request.name, Outcome::CallBack);
    contacted(&harness, call).await.expect("held");
    // What was sent in an earlier round does not count.
    for (number, states) in [
        (2, "SENT CANCELLED CANCELLED"),
        (3, "SENT CANCELLED CANCELLED CANCELLED"),
    ] {
        let invited = harness.invite(make::wire_invite(&request.name)).await;
        assert_eq!(round(&invited.expect("invited")), number);
        let after = revoked(&harness, revoke(&request.name)).await;
        let after = after.expect("revoked");
        assert_eq!((round(&after), planned(&after).as_str()), (number, states));
    }
}

#[tokio::test]
async fn protection_that_is_learned_after_a_revocation_holds_the_next_round() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let call = revoke(&request.name);
    revoked(&harness, call).await.expect("revoked");
    updated(&harness, protect()).await.expect("updated");
    let read = harness.get(&request.name).await.expect("read");
    assert_eq!(hold(&read), HoldReason::Unspecified);
    assert_eq!(warnings(&read), [Warning::ProtectedIdentity]);
    let lists = lists_of(&harness, &request.name).await;
    assert_eq!(lists, [Worklist::BookingRequests]);
    let invited = harness.invite(make::wire_invite(&request.name)).await;
    let invited = invited.expect("invited");
    assert_eq!(hold(&invited), HoldReason::ProtectedIdentity);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn a_revocation_has_an_id_and_an_etag_and_names_a_request() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let bare = v1::RevokeInvitationRequest::default();
    let status = revoked(&harness, bare).await.expect_err("bare");
    assert_eq!(bad_fields(&status), ["name", "request_id"]);
    let stale = v1::RevokeInvitationRequest {
        etag: "another".into(),
        ..revoke(&request.name)
    };
    let status = revoked(&harness, stale).await.expect_err("stale");
    let reason = (Code::Aborted, "ETAG_MISMATCH".to_owned());
    assert_eq!(refusal(&status), reason);
    let nobody = v1::RevokeInvitationRequest {
        etag: "another".into(),
        ..revoke(NOBODY)
    };
    let status = revoked(&harness, nobody).await.expect_err("nobody");
    assert_eq!(refusal(&status).0, Code::NotFound);

    let call = revoke(&request.name);
    let first = revoked(&harness, call.clone()).await.expect("revoked");
    let again = revoked(&harness, call.clone()).await.expect("the repeat");
    assert_eq!(first, again);
    let other = v1::RevokeInvitationRequest {
        comment: "annat".into(),
        ..call
    };
    let status = revoked(&harness, other).await.expect_err("reused");
    assert_eq!(refusal(&status).1, "REQUEST_ID_REUSED");
}
