//! What a hand-over plans: the next message, counted on the calendar.

use care_invitation::contract::v1;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::NotificationKind;
use chrono::TimeDelta;

use super::{NOW, State, create, due_now, messages, states};
use crate::consumer::{Consumer, answer, everything, message, sent, step};
use crate::harness::Harness;
use crate::make;

#[tokio::test]
async fn a_reminder_is_due_14_local_days_after_the_hand_over_at_nine() {
    for (handed_over, reminder) in [
        ("2026-02-02T12:00:00Z", "2026-02-16T08:00:00Z"),
        // Summer time begins in the night before the reminder, winter time likewise.
        ("2026-03-15T12:00:00Z", "2026-03-29T07:00:00Z"),
        ("2026-10-11T12:00:00Z", "2026-10-25T08:00:00Z"),
        // Handed over on the day itself, before and after the change.
        ("2026-03-29T00:30:00Z", "2026-04-12T07:00:00Z"),
        ("2026-10-25T01:30:00Z", "2026-11-08T08:00:00Z"),
        // Half past midnight in Sweden, the day before in UTC.
        ("2026-03-15T23:30:00Z", "2026-03-30T07:00:00Z"),
        ("2026-10-11T22:30:00Z", "2026-10-26T08:00:00Z"),
        // On a leap day, and from one; over the end of a year.
        ("2028-02-15T12:00:00Z", "2028-02-29T08:00:00Z"),
        ("2028-02-29T12:00:00Z", "2028-03-14T08:00:00Z"),
        ("2026-12-31T22:30:00Z", "2027-01-14T08:00:00Z"),
        ("2026-12-31T23:30:00Z", "2027-01-15T08:00:00Z"),
    ] {
        let harness = Harness::start(handed_over).await;
        let first = harness.clock.now().date_naive() + chrono::Days::new(30);
        let last = first + chrono::Days::new(60);
        let form = make::wire_form(&first.to_string(), &last.to_string());
        let request = create(&harness, form).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        answer(&harness, sent(&consumer.due().await)).await;
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[1].state(), State::Scheduled, "{handed_over}");
        assert_eq!(step(&shown[1]), (NotificationKind::Reminder, 1));
        let due_time = Some(make::wire_at(reminder));
        assert_eq!(shown[1].due_time, due_time, "{handed_over}");
        let before = make::at(reminder) - TimeDelta::microseconds(1);
        harness.advance(&before.to_rfc3339());
        assert!(harness.lease_due().await.is_empty(), "{handed_over}");
        harness.advance(reminder);
        assert_eq!(message(&consumer.due().await).due_time, due_time);
    }
}

#[tokio::test]
async fn a_late_hand_over_moves_the_next_message() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, make::wire_form("2026-05-18", "2026-06-30")).await;
    // Due on 6 April; the adapter was down until the 9th.
    harness.advance("2026-04-09T13:00:00Z");
    harness.hand_over_due().await;
    assert_eq!(
        due_times(&harness, &request).await,
        [
            make::wire_at("2026-04-06T07:00:00Z"),
            make::wire_at("2026-04-23T07:00:00Z"),
            make::wire_at("2026-05-07T07:00:00Z")
        ]
    );
    // The reminder is five days late too.
    harness.advance("2026-04-28T13:00:00Z");
    harness.hand_over_due().await;
    let shown = due_times(&harness, &request).await;
    assert_eq!(shown[2], make::wire_at("2026-05-12T07:00:00Z"));
    harness.advance("2026-05-12T07:00:00Z");
    harness.hand_over_due().await;
    assert_eq!(states(&harness, &request).await, [State::Sent; 3]);
    harness.advance("2026-06-30T07:00:00Z");
    assert!(harness.lease_due().await.is_empty(), "three and no more");
}

async fn due_times(harness: &Harness, request: &str) -> Vec<prost_types::Timestamp> {
    let messages = messages(harness, request).await;
    let times = messages.into_iter().map(|it| it.due_time.expect("a time"));
    times.collect()
}

#[tokio::test]
async fn no_answer_turns_to_no_response_14_days_after_the_last_message() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    for due in [NOW, "2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"] {
        harness.advance(due);
        assert_eq!(harness.hand_over_due().await.len(), 1, "{due}");
    }
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), v1::booking_request::State::Invited);
    let invitation = shown.care_invitation.expect("an invitation");
    let turns = make::wire_at("2026-04-13T07:00:00Z");
    assert_eq!(invitation.no_response_time, Some(turns));
    harness.advance("2026-04-13T07:00:00Z");
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), v1::booking_request::State::NoResponse);
}

#[tokio::test]
async fn a_reminder_that_would_come_after_the_period_is_skipped() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, make::wire_form("2026-03-09", "2026-03-20")).await;
    harness.hand_over_due().await;
    assert_eq!(
        states(&harness, &request).await,
        [State::Sent, State::Scheduled, State::Skipped]
    );
    harness.advance("2026-03-20T10:00:00Z");
    harness.hand_over_due().await;
    let shown = messages(&harness, &request).await;
    assert_eq!(shown[2].state(), State::Skipped);
    assert_eq!(shown[2].cause(), NotificationCause::AfterPeriod);
    harness.advance("2026-04-10T10:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}
