//! UpdatePatient for one who has died: what is closed and stopped, and that nothing more is sent.

use care_invitation::contract::v1;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as Message;
use care_invitation::contract::v1::{CancelReason, HoldReason};

use super::calls::{
    assert_conflict, bury, cancel, get_leave, hand_over_one, hold, lease_one, park, planned,
    unreachable, updated,
};
use super::patient::{due_now, in_every_state, read, sorted};
use super::{NOW, created, lists_of, messages, state};
use crate::consumer::{Consumer, answer, everything, name, retry, sent};
use crate::harness::Harness;
use crate::make;

#[tokio::test]
async fn death_cancels_every_request_booked_and_declined_ones_too_and_no_withdrawal_follows() {
    let harness = Harness::start(NOW).await;
    let requests = in_every_state(&harness).await;
    let changed = updated(&harness, bury()).await.expect("updated");
    let mut expected = Vec::new();
    for (before, name) in &requests {
        let after = read(&harness, name).await;
        match before {
            State::Cancelled => {
                assert_eq!(
                    after.cancel_reason(),
                    CancelReason::UnitRequest,
                    "as it was"
                );
            }
            _ => {
                expected.push(name.clone());
                assert_eq!(state(&after), State::Cancelled, "{before:?}");
                assert_eq!(
                    after.cancel_reason(),
                    CancelReason::PatientDeceased,
                    "{before:?}"
                );
                assert_eq!(hold(&after), HoldReason::Unspecified, "{before:?}");
                assert_eq!(lists_of(&harness, name).await, [], "{before:?}");
                let over = |it: &v1::Notification| {
                    matches!(it.state(), Message::Sent | Message::Cancelled)
                };
                assert!(messages(&after).iter().all(over), "{before:?}");
                let entries = harness.history(name).await;
                let entry = entries
                    .iter()
                    .find(|it| it.event() == HistoryEvent::UpdatePatient);
                let entry = entry.expect("an entry");
                assert_eq!(
                    entry.cancel_reason(),
                    CancelReason::PatientDeceased,
                    "{before:?}"
                );
                let of_booking = *before == State::Booked;
                assert_eq!(entry.booking.is_some(), of_booking, "{before:?}");
                let again = harness.invite(make::wire_invite(name)).await;
                let row = format!("{before:?}");
                assert_conflict(&again.expect_err(&row), State::Cancelled, "", &row);
            }
        }
    }
    assert_eq!(changed, sorted(expected));
    harness.advance("2026-06-30T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn death_takes_back_what_is_leased_and_what_left_all_the_same_is_not_withdrawn() {
    for dispatching in [false, true] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, due_now("R-1")).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let due = consumer.due().await;
        if dispatching {
            get_leave(&harness, &due).await;
        }
        updated(&harness, bury()).await.expect("updated");
        if !dispatching {
            assert_eq!(consumer.revoked().await, name(&due));
        }
        answer(&harness, sent(&due)).await;
        let after = read(&harness, &request.name).await;
        assert_eq!(planned(&after), "SENT", "{dispatching}");
        assert!(messages(&after)[0].sent_after_change, "{dispatching}");
        harness.advance("2026-06-30T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{dispatching}");
    }
}

/// A cancelled request whose withdrawal is due.
async fn withdrawn(harness: &Harness) -> String {
    let request = created(harness, due_now("R-1")).await.name;
    hand_over_one(harness).await;
    let call = cancel(&request, CancelReason::UnitRequest);
    harness.cancel(call).await.expect("cancelled");
    request
}

#[tokio::test]
async fn death_stops_a_withdrawal_that_has_not_left() {
    for stage in ["scheduled", "leased", "parked", "waited for"] {
        let harness = Harness::start(NOW).await;
        let (request, due) = if stage == "waited for" {
            let request = created(&harness, due_now("R-1")).await.name;
            let due = lease_one(&harness).await;
            let call = cancel(&request, CancelReason::UnitRequest);
            harness.cancel(call).await.expect("cancelled");
            (request, Some(due))
        } else {
            (withdrawn(&harness).await, None)
        };
        let leased = match stage {
            "leased" | "parked" => Some(lease_one(&harness).await),
            _ => None,
        };
        if let (Some(leased), "parked") = (&leased, stage) {
            answer(&harness, park(leased)).await;
        }
        let changed = updated(&harness, bury()).await.expect("updated");
        assert_eq!(changed, [request.as_str()], "{stage}");
        if let Some(due) = due {
            answer(&harness, sent(&due)).await;
        }
        let after = read(&harness, &request).await;
        let expected = match stage {
            "waited for" => "SENT",
            _ => "SENT CANCELLED CANCELLED",
        };
        assert_eq!(planned(&after), expected, "{stage}");
        assert_eq!(
            after.cancel_reason(),
            CancelReason::PatientDeceased,
            "{stage}"
        );
        assert_eq!(
            (hold(&after), after.allowed_actions),
            (HoldReason::Unspecified, vec![])
        );
        assert_eq!(lists_of(&harness, &request).await, [], "{stage}");
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{stage}");
        // Nothing is left to stop.
        assert_eq!(
            updated(&harness, bury()).await.expect("taken"),
            [""; 0],
            "{stage}"
        );
    }
}

#[tokio::test]
async fn a_withdrawal_that_was_on_its_way_at_a_death_is_never_sent_again() {
    for outcome in ["lapse", "retry", "unreachable", "park"] {
        let harness = Harness::start(NOW).await;
        let request = withdrawn(&harness).await;
        let due = lease_one(&harness).await;
        get_leave(&harness, &due).await;
        updated(&harness, bury()).await.expect("updated");
        match outcome {
            "retry" => answer(&harness, retry(&due)).await,
            "unreachable" => answer(&harness, unreachable(&due)).await,
            "park" => answer(&harness, park(&due)).await,
            _ => {}
        }
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{outcome}");
        assert_eq!(lists_of(&harness, &request).await, [], "{outcome}");
    }
}
