//! What may have left: consumers that promise to ask before they hand over, and answers that say so.

use care_invitation::contract::v1;
use care_invitation::domain::calendar::Instant;
use care_invitation::domain::notification::DispatchRefusal;
use care_invitation::domain::notification::authorize::{
    authorizable, authorize as authorize_until,
};
use care_invitation::domain::notification::lease::release;
use chrono::Duration;

use super::{FIRST, LAST, NOW, create, due_now};
use crate::consumer::{Consumer, answer, authorize, lease, message, name, retry};
use crate::harness::Harness;
use crate::make;
use crate::make::at;
use crate::worklist_user;

fn promising(always_authorizes: bool) -> v1::StreamDueNotificationsRequest {
    v1::StreamDueNotificationsRequest {
        always_authorizes,
        ..Default::default()
    }
}

/// Leases the one message that is due, by a consumer that then goes.
async fn leased(harness: &Harness, promises: bool) -> v1::DueNotification {
    let wishes = v1::StreamDueNotificationsRequest {
        until_idle: true,
        ..promising(promises)
    };
    let mut consumer = Consumer::open(harness, wishes).await;
    let due = consumer.due().await;
    consumer.ended().await;
    due
}

fn wait(harness: &Harness, time: Duration) {
    let later = harness.clock.now() + time;
    harness.clock.advance(later).expect("forward");
}

#[tokio::test]
async fn a_lease_under_a_promise_that_ends_is_a_possible_repeat_only_when_it_was_authorized() {
    for promises in [false, true] {
        for authorized in [false, true] {
            for revoked in [false, true] {
                let row = format!("promises {promises} authorized {authorized} revoked {revoked}");
                let harness = Harness::start(NOW).await;
                let request = create(&harness, due_now("R-1")).await;
                let due = leased(&harness, promises).await;
                if authorized {
                    let leave = authorize(&harness, vec![lease(&due)]).await;
                    assert!(leave.expect("answered").results[0].authorized, "{row}");
                }
                if revoked {
                    worklist_user::change_purpose(&harness, &request, "Näsa").await;
                }
                wait(&harness, Duration::minutes(1));
                let again = leased(&harness, true).await;
                assert_eq!(message(&again).delivery_attempt, 2, "{row}");
                assert_eq!(again.possible_repeat, !promises || authorized, "{row}");
                // Never taken back, whatever is promised later.
                wait(&harness, Duration::hours(1));
                let again = leased(&harness, true).await;
                assert_eq!(again.possible_repeat, !promises || authorized, "{row}");
            }
        }
    }
}

#[tokio::test]
async fn the_promise_is_of_the_lease_and_not_of_the_stream_that_comes_next() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    leased(&harness, true).await;
    wait(&harness, Duration::minutes(1));
    assert!(!leased(&harness, false).await.possible_repeat);
    wait(&harness, Duration::minutes(2));
    assert!(leased(&harness, true).await.possible_repeat);
}

#[tokio::test]
async fn a_retry_says_itself_whether_the_message_may_have_been_sent() {
    for may_have_been_sent in [false, true] {
        let harness = Harness::start(NOW).await;
        create(&harness, due_now("R-1")).await;
        let due = leased(&harness, true).await;
        let again = v1::Acknowledgement {
            may_have_been_sent,
            ..retry(&due)
        };
        answer(&harness, again).await;
        wait(&harness, Duration::minutes(2));
        let due = leased(&harness, true).await;
        assert_eq!(due.possible_repeat, may_have_been_sent);
        // What a later answer says takes nothing back.
        answer(&harness, retry(&due)).await;
        wait(&harness, Duration::minutes(3));
        let due = leased(&harness, true).await;
        assert_eq!(due.possible_repeat, may_have_been_sent);
    }
}

#[tokio::test]
async fn a_message_whose_eighth_lease_was_authorized_may_have_left_when_it_is_released() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    for nth in 1..=8 {
        let due = leased(&harness, true).await;
        assert!(!due.possible_repeat, "{nth}");
        if nth == 8 {
            let leave = authorize(&harness, vec![lease(&due)]).await;
            assert!(leave.expect("answered").results[0].authorized);
        }
        wait(&harness, Duration::hours(2));
    }
    assert!(harness.lease_due().await.is_empty(), "it is parked");
    worklist_user::release(&harness, &request, v1::DeliveryChannel::Unspecified).await;
    let due = leased(&harness, true).await;
    assert!(due.possible_repeat && due.released_by_staff);
}

#[tokio::test]
async fn a_permission_is_renewed_after_the_lease_has_run_out_until_the_message_is_leased_anew() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let due = leased(&harness, true).await;
    for _ in 0..3 {
        wait(&harness, Duration::minutes(5));
        let leave = authorize(&harness, vec![lease(&due)]).await;
        assert!(leave.expect("answered").results[0].authorized);
    }
    wait(&harness, Duration::minutes(5));
    let again = leased(&harness, true).await;
    assert_eq!(name(&again), name(&due));
    let leave = authorize(&harness, vec![lease(&due)]).await;
    let refusal = leave.expect("answered").results[0].refusal();
    assert_eq!(refusal, v1::DispatchRefusal::Lost);
}

#[test]
fn a_permission_under_a_released_lease_counts_the_message_as_out_unless_it_was_revoked() {
    let now: Instant = at(NOW);
    let until = now + Duration::minutes(1);
    let record = make::invited(FIRST, LAST, now);
    let (record, id, token) = make::leased(&record, now);
    let released = release(&record, id, token).expect("released").record;
    let out_at = |record: &care_invitation::domain::booking_request::BookingRequest| {
        record.notification(id).expect("planned").first_out_at()
    };
    assert_eq!(out_at(&released), None);
    assert!(authorizable(&released, id, token, &make::context(now)).is_ok());
    let renewed = authorize_until(&released, id, until).record;
    assert_eq!(out_at(&renewed), Some(now));
    let again = authorize_until(&renewed, id, until).record;
    assert_eq!(again.notification(id).expect("planned").attempt_count, 1);

    let mut revoked = released;
    let invitation = revoked.care_invitation.as_mut().expect("invited");
    invitation.notifications[0].revoke();
    let refusal = authorizable(&revoked, id, token, &make::context(now));
    assert_eq!(refusal, Err(DispatchRefusal::Changed));
}
