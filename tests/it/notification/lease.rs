//! Leases that run out: who gets the message then, when, and when it is set aside.

use crate::worklist_user;
use care_invitation::contract::v1;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::{HoldReason, Worklist};
use care_invitation::dispatch::{Dispatch, Event, Filter};
use care_invitation::domain::RegionPolicy;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::notification::DeliveryChannel;
use chrono::Duration;
use tokio::sync::watch;
use tokio_stream::StreamExt;

use super::{NOW, State, book, create, due_now, messages};
use crate::consumer::{
    Consumer, acknowledge, answer, everything, leasing_for, message, name, retry, sent,
};
use crate::harness::{Harness, within};
use crate::make;
use crate::make::at;

/// The waits in minutes before the leases that follow the first to the eighth that ran out.
const WAITS: [i64; 8] = [0, 1, 2, 4, 8, 16, 32, 60];

#[tokio::test]
async fn a_consumer_that_dies_costs_one_lease_and_nothing_else() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let mut dies = Consumer::open(&harness, leasing_for(30)).await;
    let first = dies.due().await;
    assert_eq!(message(&first).delivery_attempt, 1);
    assert!(!first.possible_repeat);
    drop(dies);

    let mut lives = Consumer::open(&harness, everything()).await;
    let just_before = at("2026-03-02T09:00:30Z") - Duration::microseconds(1);
    harness.clock.advance(just_before).expect("forward");
    let fence = create(&harness, due_now("R-2")).await;
    assert_eq!(lives.due().await.booking_request, fence);
    harness.advance("2026-03-02T09:00:30Z");
    let again = lives.due().await;
    assert_eq!(name(&again), name(&first));
    assert_ne!(again.lease_token, first.lease_token);
    assert_eq!(message(&again).delivery_attempt, 2);
    assert!(again.possible_repeat);
}

#[tokio::test]
async fn a_lease_that_has_run_out_before_it_is_sent_is_not_sent() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let (_trusted, trusts_clock) = watch::channel(true);
    let dispatch = Dispatch::start(
        harness.backend.store.clone(),
        harness.clock.clone(),
        RegionPolicy::default(),
        std::time::Duration::from_secs(15),
        trusts_clock,
        harness.shutdown.child_token(),
    );
    let filter = Filter {
        channels: vec![DeliveryChannel::Inbox],
        care_units: CareUnits::Every,
        outstanding_max: 1,
        lease_duration: Duration::seconds(60),
        until_idle: false,
        always_authorizes: false,
        hides_protected: false,
    };
    let mut events = dispatch.subscribe(filter).expect("the clock is trusted");
    let leased = async {
        while messages(&harness, &request).await[0].state() != State::Leased {
            tokio::task::yield_now().await;
        }
    };
    within(leased).await;
    harness.advance("2026-03-02T09:01:00Z");
    let event = within(events.next()).await.expect("no end");
    let Event::Due { record, lease, .. } = event.expect("no failure") else {
        panic!("a message was to come");
    };
    let notification = record
        .notification(lease.notification)
        .expect("it is there");
    let given = notification.lease.as_ref().expect("a lease");
    assert_eq!(given.expires_at, at("2026-03-02T09:02:00Z"));
}

#[tokio::test]
async fn a_message_waits_longer_after_each_lease_that_runs_out_and_is_parked_after_eight() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let mut tokens = Vec::new();
    let mut now = at(NOW);
    for (attempt, wait) in (1..).zip(WAITS) {
        let leased = harness.lease_due().await;
        assert_eq!(leased.len(), 1, "lease {attempt}");
        assert_eq!(message(&leased[0]).delivery_attempt, attempt);
        assert_eq!(leased[0].possible_repeat, attempt > 1);
        tokens.push(leased[0].lease_token.clone());
        now += Duration::seconds(60) + Duration::minutes(wait);
        let just_before = now - Duration::microseconds(1);
        harness.clock.advance(just_before).expect("forward");
        assert!(harness.lease_due().await.is_empty(), "lease {attempt}");
        harness.clock.advance(now).expect("forward");
    }
    tokens.sort();
    tokens.dedup();
    assert_eq!(tokens.len(), WAITS.len(), "each lease has its own token");

    assert!(harness.lease_due().await.is_empty());
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), v1::booking_request::State::Invited);
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::Parked);
    assert_eq!(invitation.notifications[0].state(), State::Parked);
    assert_eq!(invitation.notifications[0].delivery_attempt, 8);
    let entries = harness.history(&request).await;
    let parked = entries.last().expect("entries");
    // Nobody has called for it.
    assert_eq!(
        (worklist_user::event(parked), &*parked.actor),
        ("NOTIFICATION_PARKED", "")
    );
    assert_eq!(parked.cause(), NotificationCause::LeasesRanOut);
    assert_eq!(parked.comment, "");
    assert_eq!(held_in(&harness, Worklist::ManualHandling).await, [request]);
    harness.advance("2026-03-09T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

/// The names of the requests in a worklist.
async fn held_in(harness: &Harness, worklist: Worklist) -> Vec<String> {
    let call = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![worklist.into()],
            care_units: vec![make::wire_unit()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let listed = within(harness.worklists().list_worklist(call)).await;
    let listed = listed.expect("a page").into_inner().booking_requests;
    listed.into_iter().map(|request| request.name).collect()
}

#[tokio::test]
async fn what_is_parked_is_still_recorded_as_sent_when_it_was() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let mut last = None;
    for wait in WAITS {
        last = harness.lease_due().await.pop();
        let next = harness.clock.now() + Duration::seconds(60) + Duration::minutes(wait);
        harness.clock.advance(next).expect("forward");
    }
    assert!(harness.lease_due().await.is_empty());
    answer(&harness, sent(&last.expect("leased"))).await;
    assert_eq!(messages(&harness, &request).await[0].state(), State::Sent);
}

#[tokio::test]
async fn a_standing_stream_gets_a_message_again_when_its_wait_is_over() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    consumer.due().await;
    harness.advance("2026-03-02T09:01:00Z");
    consumer.due().await;
    harness.advance("2026-03-02T09:02:00Z");
    let fence = create(&harness, due_now("R-2")).await;
    let due = consumer.due().await;
    assert_eq!(due.booking_request, fence, "it waits a minute more");
    answer(&harness, sent(&due)).await;
    harness.advance("2026-03-02T09:03:00Z");
    assert_eq!(message(&consumer.due().await).delivery_attempt, 3);
}

#[tokio::test]
async fn a_lease_that_ran_out_is_still_good_until_the_message_is_leased_again() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let first = harness.lease_due().await.remove(0);
    harness.advance("2026-03-02T09:30:00Z");
    answer(&harness, sent(&first)).await;
    assert_eq!(messages(&harness, &request).await[0].state(), State::Sent);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn an_old_token_is_lost_and_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let old = harness.lease_due().await.remove(0);
    harness.advance("2026-03-02T09:01:00Z");
    let new = harness.lease_due().await.remove(0);
    for answer in [sent(&old), retry(&old)] {
        let lost = acknowledge(&harness, vec![answer]).await;
        assert_eq!(lost.expect("answered"), [name(&old)]);
    }
    assert_eq!(messages(&harness, &request).await[0].state(), State::Leased);
    answer(&harness, sent(&new)).await;
    assert_eq!(messages(&harness, &request).await[0].state(), State::Sent);
}

#[tokio::test]
async fn a_booked_request_is_not_leased_again_when_its_lease_runs_out() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    harness.lease_due().await;
    book(&harness, &request).await;
    harness.advance("2026-03-02T12:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    assert_eq!(
        messages(&harness, &request).await[0].state(),
        State::Cancelled
    );
}
