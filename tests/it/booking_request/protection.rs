//! Protection that is learned of a request that has ended: the round after a booking or a decline
//! begins held, and a withdrawal waits until staff release it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::{
    Action, CancelReason, HoldReason, NotificationKind, Protection, Worklist,
};

use super::calls::{
    bury, cancel, contact, contacted, get_leave, hand_over_one, hold, lease_one, park, planned,
    protect, release, released, unreachable, update, updated,
};
use super::patient::{due_now, read};
use super::{NOW, actions, created, done, lists_of, messages, state};
use crate::consumer::Outcomes as _;
use crate::consumer::{Consumer, answer, authorize, everything, lease, message, name, retry, sent};
use crate::harness::Harness;
use crate::make;

/// The call that says that this patient's protection has ended.
fn unprotect() -> v1::UpdatePatientRequest {
    update(&["protection"], v1::Patient::default())
}

async fn learn(harness: &Harness, call: v1::UpdatePatientRequest, request: &str) {
    let changed = updated(harness, call).await.expect("updated");
    assert_eq!(changed, [request]);
}

/// A request whose first message is due at once.
async fn invited(harness: &Harness) -> String {
    created(harness, due_now("R-1")).await.name
}

async fn call_off(harness: &Harness, request: &str) {
    let call = cancel(request, CancelReason::UnitRequest);
    harness.cancel(call).await.expect("cancelled");
}

/// A cancelled request whose withdrawal is due.
async fn withdrawn(harness: &Harness) -> String {
    let request = invited(harness).await;
    hand_over_one(harness).await;
    call_off(harness, &request).await;
    request
}

/// Asserts that the withdrawal is parked for this cause, that staff see it, and that nobody gets it.
async fn assert_parked(harness: &Harness, request: &str, cause: NotificationCause, row: &str) {
    harness.advance("2026-03-20T09:00:00Z");
    assert!(harness.lease_due().await.is_empty(), "{row}");
    let after = read(harness, request).await;
    let last = messages(&after).last().expect("a withdrawal");
    assert_eq!(last.kind(), NotificationKind::Withdrawal, "{row}");
    assert_eq!(last.state(), v1::notification::State::Parked, "{row}");
    assert_eq!(last.cause(), cause, "{row}");
    assert_eq!(
        (state(&after), hold(&after)),
        (State::Cancelled, HoldReason::ProtectedIdentity),
        "{row}"
    );
    assert_eq!(actions(&after), [Action::ReleaseHold], "{row}");
    let lists = lists_of(harness, request).await;
    assert_eq!(lists, [Worklist::ManualHandling], "{row}");
    let entries = harness.history(request).await;
    assert_eq!(done(&entries).last(), Some(&"NOTIFICATION_PARKED"), "{row}");
}

/// Releases the withdrawal and hands it over.
async fn release_and_hand_over(harness: &Harness, request: &str) -> v1::DueNotification {
    let after = released(harness, release(request)).await.expect("released");
    assert_eq!(hold(&after), HoldReason::Unspecified);
    let due = hand_over_one(harness).await;
    assert_eq!(message(&due).kind(), NotificationKind::Withdrawal);
    assert_eq!(lists_of(harness, request).await, []);
    due
}

#[tokio::test]
async fn the_round_after_a_booking_or_a_decline_begins_held_when_protection_was_learned() {
    for ended in [State::Booked, State::Declined] {
        let harness = Harness::start(NOW).await;
        let request = invited(&harness).await;
        if ended == State::Booked {
            let call = make::wire_booking(&request, "2026-05-18T08:00:00Z");
            harness.book(call).await.expect("booked");
        } else {
            let call = contact(&request, Outcome::Declined);
            contacted(&harness, call).await.expect("declined");
        }
        let lists = lists_of(&harness, &request).await;
        learn(&harness, protect(), &request).await;
        let after = read(&harness, &request).await;
        let unheld = (ended, HoldReason::Unspecified);
        assert_eq!((state(&after), hold(&after)), unheld);
        assert_eq!(lists_of(&harness, &request).await, lists);

        let again = harness.invite(make::wire_invite(&request)).await;
        assert_eq!(
            hold(&again.expect("invited")),
            HoldReason::ProtectedIdentity
        );
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{ended:?}");
        let lists = lists_of(&harness, &request).await;
        assert_eq!(lists, [Worklist::ManualHandling], "{ended:?}");
        released(&harness, release(&request))
            .await
            .expect("released");
        let due = hand_over_one(&harness).await;
        assert_eq!(due.protection(), Protection::ConfidentialityMarked);
    }
}

#[tokio::test]
async fn protection_that_has_ended_before_the_new_round_holds_nothing() {
    let harness = Harness::start(NOW).await;
    let request = invited(&harness).await;
    let call = make::wire_booking(&request, "2026-05-18T08:00:00Z");
    harness.book(call).await.expect("booked");
    learn(&harness, protect(), &request).await;
    learn(&harness, unprotect(), &request).await;
    let again = harness.invite(make::wire_invite(&request)).await;
    assert_eq!(hold(&again.expect("invited")), HoldReason::Unspecified);
    lease_one(&harness).await;
}

#[tokio::test]
async fn the_withdrawal_to_a_protected_patient_is_parked_when_planned_and_release_alone_sends_it() {
    for protection in [
        "learned while invited",
        "learned and released",
        "known from the first",
        "learned before the message was known to have left",
        "learned after the cancellation and before that",
    ] {
        let harness = Harness::start(NOW).await;
        let mut form = due_now("R-1");
        if protection == "known from the first" {
            let patient = form.patient.as_mut().expect("a patient");
            patient.protection = Protection::ProtectedRegistration.into();
        }
        let request = created(&harness, form).await.name;
        match protection {
            "learned while invited" => {
                hand_over_one(&harness).await;
                learn(&harness, protect(), &request).await;
                call_off(&harness, &request).await;
            }
            "learned and released" => {
                hand_over_one(&harness).await;
                learn(&harness, protect(), &request).await;
                let call = release(&request);
                released(&harness, call).await.expect("released");
                call_off(&harness, &request).await;
            }
            "known from the first" => {
                let call = release(&request);
                released(&harness, call).await.expect("released");
                hand_over_one(&harness).await;
                call_off(&harness, &request).await;
            }
            "learned before the message was known to have left" => {
                let due = lease_one(&harness).await;
                learn(&harness, protect(), &request).await;
                call_off(&harness, &request).await;
                answer(&harness, sent(&due)).await;
            }
            _ => {
                let due = lease_one(&harness).await;
                call_off(&harness, &request).await;
                learn(&harness, protect(), &request).await;
                answer(&harness, sent(&due)).await;
            }
        }
        assert_parked(
            &harness,
            &request,
            NotificationCause::ProtectedIdentity,
            protection,
        )
        .await;
        let due = release_and_hand_over(&harness, &request).await;
        assert_ne!(due.protection(), Protection::Unspecified, "{protection}");
    }
}

#[tokio::test]
async fn a_withdrawal_that_waits_is_revoked_and_parked_when_protection_is_learned() {
    for stage in ["scheduled", "leased", "to be tried again", "parked"] {
        let harness = Harness::start(NOW).await;
        let request = withdrawn(&harness).await;
        if stage == "scheduled" {
            learn(&harness, protect(), &request).await;
        } else {
            let mut consumer = Consumer::open(&harness, everything()).await;
            let due = consumer.due().await;
            match stage {
                "to be tried again" => answer(&harness, retry(&due)).await,
                "parked" => answer(&harness, park(&due)).await,
                _ => {}
            }
            learn(&harness, protect(), &request).await;
            if stage == "leased" {
                assert_eq!(consumer.revoked().await, name(&due));
            }
            let leave = authorize(&harness, vec![lease(&due)]).await;
            assert_eq!(leave.expect("answered").refused(), [name(&due)], "{stage}");
        }
        assert_eq!(
            planned(&read(&harness, &request).await),
            "SENT CANCELLED PARKED",
            "{stage}"
        );
        if stage == "parked" {
            // It was before.
            let after = read(&harness, &request).await;
            assert_eq!(hold(&after), HoldReason::ProtectedIdentity);
        } else {
            assert_parked(
                &harness,
                &request,
                NotificationCause::ProtectedIdentity,
                stage,
            )
            .await;
        }
        let due = release_and_hand_over(&harness, &request).await;
        assert_eq!(due.possible_repeat, stage == "leased", "{stage}");
        assert_ne!(due.protection(), Protection::Unspecified, "{stage}");
    }
}

#[tokio::test]
async fn a_withdrawal_on_its_way_runs_its_course_and_is_parked_when_it_has_not_left() {
    for outcome in ["sent", "retry", "unreachable", "park", "lapse"] {
        // What holds it is lifted by staff alone, not by the end of the protection.
        for ended in [false, true] {
            let row = format!("{outcome} {ended}");
            let harness = Harness::start(NOW).await;
            let request = withdrawn(&harness).await;
            let due = lease_one(&harness).await;
            get_leave(&harness, &due).await;
            learn(&harness, protect(), &request).await;
            let after = planned(&read(&harness, &request).await);
            assert_eq!(after, "SENT CANCELLED DISPATCHING", "{row}");
            let leave = authorize(&harness, vec![lease(&due)]).await;
            assert_eq!(leave.expect("answered").refused(), [name(&due)], "{row}");
            if ended {
                learn(&harness, unprotect(), &request).await;
            }
            match outcome {
                "sent" => answer(&harness, sent(&due)).await,
                "retry" => answer(&harness, retry(&due)).await,
                "unreachable" => answer(&harness, unreachable(&due)).await,
                "park" => answer(&harness, park(&due)).await,
                _ => {}
            }
            if outcome == "sent" {
                let after = read(&harness, &request).await;
                assert_eq!(planned(&after), "SENT CANCELLED SENT", "{row}");
                assert_eq!(lists_of(&harness, &request).await, [], "{row}");
                continue;
            }
            let cause = match outcome {
                "unreachable" => NotificationCause::Unreachable,
                "park" => NotificationCause::Parked,
                _ => NotificationCause::ProtectedIdentity,
            };
            assert_parked(&harness, &request, cause, &row).await;
            let again = release_and_hand_over(&harness, &request).await;
            assert_eq!(name(&again), name(&due), "{row}");
            assert_eq!(again.possible_repeat, outcome == "lapse", "{row}");
        }
    }
}

#[tokio::test]
async fn the_end_of_a_protection_releases_no_withdrawal_and_another_protection_parks_it_anew() {
    let harness = Harness::start(NOW).await;
    let request = withdrawn(&harness).await;
    learn(&harness, protect(), &request).await;
    learn(&harness, unprotect(), &request).await;
    harness.advance("2026-03-03T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    let parked = planned(&read(&harness, &request).await);
    assert_eq!(parked, "SENT CANCELLED PARKED");
    released(&harness, release(&request))
        .await
        .expect("released");
    lease_one(&harness).await;
    learn(&harness, protect(), &request).await;
    assert_parked(
        &harness,
        &request,
        NotificationCause::ProtectedIdentity,
        "anew",
    )
    .await;
    release_and_hand_over(&harness, &request).await;
}

#[tokio::test]
async fn a_cancelled_request_from_which_nothing_can_follow_learns_nothing() {
    for end in ["never told", "told", "died"] {
        let harness = Harness::start(NOW).await;
        let request = invited(&harness).await;
        if end != "never told" {
            hand_over_one(&harness).await;
        }
        let reason = match end {
            "died" => CancelReason::PatientDeceased,
            _ => CancelReason::UnitRequest,
        };
        harness
            .cancel(cancel(&request, reason))
            .await
            .expect("cancelled");
        harness.hand_over_due().await;
        let before = read(&harness, &request).await;
        let changed = updated(&harness, protect()).await.expect("taken");
        assert_eq!(changed, [""; 0], "{end}");
        assert_eq!(read(&harness, &request).await, before, "{end}");
    }
}

#[tokio::test]
async fn a_death_stops_a_withdrawal_that_protection_has_parked() {
    for dispatching in [false, true] {
        let harness = Harness::start(NOW).await;
        let request = withdrawn(&harness).await;
        if dispatching {
            let due = lease_one(&harness).await;
            get_leave(&harness, &due).await;
        }
        learn(&harness, protect(), &request).await;
        learn(&harness, bury(), &request).await;
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{dispatching}");
        let after = read(&harness, &request).await;
        assert_eq!(after.cancel_reason(), CancelReason::PatientDeceased);
        assert_eq!(hold(&after), HoldReason::Unspecified, "{dispatching}");
        assert_eq!(lists_of(&harness, &request).await, [], "{dispatching}");
    }
}
