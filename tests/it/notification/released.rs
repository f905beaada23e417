//! What consumers are told of a release by staff: a message that may have been handed over comes
//! again, and they may send it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::DeliveryChannel;
use care_invitation::contract::v1::acknowledgement::Outcome;
use chrono::Duration;

use super::{NOW, create, due_now};
use crate::consumer::Outcomes as _;
use crate::consumer::{Consumer, answer, authorize, everything, lease, name, retry, sent};
use crate::harness::Harness;
use crate::worklist_user;

fn park(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(due)
    }
}

async fn release(harness: &Harness, request: &str) {
    worklist_user::release(harness, request, DeliveryChannel::Unspecified).await;
}

/// The one message that is due now, and what is said of it: that it may be a repeat, and that staff
/// have released it.
async fn leased(harness: &Harness) -> (v1::DueNotification, (bool, bool)) {
    let mut due = harness.lease_due().await;
    assert_eq!(due.len(), 1, "one message is due");
    let due = due.remove(0);
    let said = (due.possible_repeat, due.released_by_staff);
    (due, said)
}

fn wait(harness: &Harness, time: Duration) {
    let later = harness.clock.now() + time;
    harness.clock.advance(later).expect("forward");
}

/// A message that its consumer has parked because it may have been handed over, then released.
async fn released_after_a_lost_lease(harness: &Harness) -> String {
    let request = create(harness, due_now("R-1")).await;
    assert_eq!(leased(harness).await.1, (false, false));
    wait(harness, Duration::minutes(1));
    let (due, said) = leased(harness).await;
    assert_eq!(said, (true, false));
    answer(harness, park(&due)).await;
    release(harness, &request).await;
    request
}

#[tokio::test]
async fn a_message_that_staff_release_after_a_lost_lease_says_so_and_is_not_parked_for_ever() {
    let harness = Harness::start(NOW).await;
    released_after_a_lost_lease(&harness).await;
    let (due, said) = leased(&harness).await;
    assert_eq!(said, (true, true));
    // An answer is an answer.
    answer(&harness, retry(&due)).await;
    wait(&harness, Duration::hours(1));
    let (due, said) = leased(&harness).await;
    assert_eq!(said, (true, true));
    answer(&harness, sent(&due)).await;
    harness.advance("2026-03-16T08:00:00Z");
    let (next, said) = leased(&harness).await;
    assert_ne!(name(&next), name(&due));
    assert_eq!(said, (false, false), "the release was of one message");
}

#[tokio::test]
async fn a_lease_after_the_release_that_ends_unanswered_ends_it() {
    for end in ["lapsed", "authorized and lapsed", "revoked"] {
        let harness = Harness::start(NOW).await;
        let request = released_after_a_lost_lease(&harness).await;
        if end == "revoked" {
            let mut consumer = Consumer::open(&harness, everything()).await;
            let due = consumer.due().await;
            assert!(due.released_by_staff);
            worklist_user::change_purpose(&harness, &request, "Näsa").await;
            let again = consumer.due_again(&due).await;
            assert_eq!(
                (again.possible_repeat, again.released_by_staff),
                (true, false)
            );
            continue;
        }
        let (due, said) = leased(&harness).await;
        assert_eq!(said, (true, true), "{end}");
        if end == "authorized and lapsed" {
            let leave = authorize(&harness, vec![lease(&due)]).await;
            assert_eq!(leave.expect("answered").refused(), [""; 0]);
        }
        wait(&harness, Duration::minutes(1));
        let (due, said) = leased(&harness).await;
        assert_eq!(said, (true, false), "{end}");
        // Released once more, it may be sent once more.
        answer(&harness, park(&due)).await;
        release(&harness, &request).await;
        assert_eq!(leased(&harness).await.1, (true, true), "{end}");
    }
}

#[tokio::test]
async fn a_release_counts_for_what_waited_and_not_for_what_is_being_handed_over() {
    for lapsed in [false, true] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let (due, _) = leased(&harness).await;
        let leave = authorize(&harness, vec![lease(&due)]).await;
        assert_eq!(leave.expect("answered").refused(), [""; 0]);
        worklist_user::contact(&harness, &request, Contact::CallBack).await;
        if lapsed {
            wait(&harness, Duration::minutes(2));
        }
        release(&harness, &request).await;
        wait(&harness, Duration::minutes(2));
        assert_eq!(leased(&harness).await.1, (true, lapsed), "{lapsed}");
    }
}

#[tokio::test]
async fn a_message_that_was_held_before_anyone_had_it_is_no_repeat_when_it_is_released() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    worklist_user::contact(&harness, &request, Contact::CallBack).await;
    release(&harness, &request).await;
    assert_eq!(leased(&harness).await.1, (false, true));
}
