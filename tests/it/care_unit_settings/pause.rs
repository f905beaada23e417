//! The pause of a care unit: nothing of it is leased or authorized, and everything else goes on.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use care_invitation::clock::Clock;
use care_invitation::contract::v1;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as MessageState;
use care_invitation::contract::v1::{DispatchRefusal, NotificationKind};
use care_invitation::domain::Context;
use care_invitation::domain::care_unit_settings::{CareUnitSettings, Policy, UnitSettings};
use care_invitation::domain::notification::lease::{LeaseOutcome, lease as decide_lease};
use care_invitation::grpc::middleware::Limits;
use futures_util::future::join_all;
use sea_orm::ConnectionTrait;
use uuid::Uuid;

use super::{NOW, invitation, pause};
use crate::backend::{Backend, connect};
use crate::consumer::{
    Consumer, acknowledge, at_most, authorize, everything, lease, message, name, sent,
};
use crate::harness::{Harness, refusal, repeated, within};
use crate::make;
use crate::make::at;
use crate::store_fixtures;

const UNTIL: &str = "2026-03-20T08:00:00Z";

/// An invitation whose first message is due at once, for a referral of its own.
async fn due_now(harness: &Harness, number: usize) -> String {
    due_in(harness, number, &make::wire_unit()).await
}

async fn due_in(harness: &Harness, number: usize, unit: &str) -> String {
    let form = v1::BookingRequest {
        origin: Some(make::wire_referral(&format!("R-{number}"))),
        ..make::wire_form("2026-03-16", "2026-06-12")
    };
    let call = v1::CreateBookingRequestRequest {
        parent: unit.into(),
        ..make::wire_create(form)
    };
    harness.create(call).await.expect("created").name
}

async fn first_message(harness: &Harness, request: &str) -> v1::Notification {
    let request = harness.get(request).await.expect("found");
    invitation(&request).notifications[0].clone()
}

#[tokio::test]
async fn nothing_is_leased_during_a_pause_and_everything_at_once_when_it_ends() {
    let harness = Harness::start(NOW).await;
    pause(&harness, Some(UNTIL)).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let name = due_now(&harness, 1).await;
    let before = harness.get(&name).await.expect("found");
    assert!(harness.lease_due().await.is_empty());
    harness.advance("2026-03-20T07:59:59Z");
    assert!(harness.lease_due().await.is_empty());
    // The due time stays, whatever is projected counts from a hand-over now.
    let waiting = first_message(&harness, &name).await;
    assert_eq!(waiting, invitation(&before).notifications[0]);

    // The stream has it without anything else happening.
    harness.advance(UNTIL);
    let due = consumer.due().await;
    let leased = message(&due);
    assert_eq!(
        (leased.due_time, leased.delivery_attempt),
        (waiting.due_time, 1)
    );
    assert!(!due.possible_repeat, "nothing was out before");
}

#[tokio::test]
async fn a_pause_that_is_lifted_lets_everything_go_at_once() {
    let harness = Harness::start(NOW).await;
    pause(&harness, Some(UNTIL)).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let name = due_now(&harness, 1).await;
    pause(&harness, None).await;
    assert_eq!(consumer.due().await.booking_request, name);
}

#[tokio::test]
async fn a_pause_revokes_what_is_leased_and_dispatching_runs_its_course() {
    let harness = Harness::start(NOW).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let (one, two) = (due_now(&harness, 1).await, due_now(&harness, 2).await);
    let due = consumer.take(2).await;
    let (leased, dispatching) = (&due[0], &due[1]);
    let authorized = authorize(&harness, vec![lease(dispatching)]).await;
    authorized.expect("authorized");

    pause(&harness, Some(UNTIL)).await;
    assert_eq!(consumer.revoked().await, name(leased));
    let state = |request: String| {
        let harness = &harness;
        async move { first_message(harness, &request).await.state() }
    };
    let (one, two) = match leased.booking_request == one {
        true => (one, two),
        false => (two, one),
    };
    assert_eq!(state(one.clone()).await, MessageState::Scheduled);
    assert_eq!(state(two.clone()).await, MessageState::Dispatching);

    let refused = authorize(&harness, due.iter().map(lease).collect()).await;
    let refused = refused.expect("answered");
    let refusals: Vec<_> = refused.results.iter().map(|it| it.refusal()).collect();
    assert_eq!(refusals, [DispatchRefusal::Paused, DispatchRefusal::Paused]);
    let unreachable = v1::Acknowledgement {
        outcome: Outcome::Unreachable.into(),
        ..sent(leased)
    };
    let call = v1::AcknowledgeNotificationsRequest {
        acknowledgements: vec![unreachable, sent(dispatching)],
    };
    let answered = within(harness.notifications().acknowledge_notifications(call)).await;
    let answered = answered.expect("answered").into_inner();
    let refusals: Vec<_> = answered.results.iter().map(|it| it.refusal()).collect();
    let expected = [DispatchRefusal::Paused, DispatchRefusal::Unspecified];
    assert_eq!(refusals, expected);
    assert_eq!(state(two).await, MessageState::Sent);
    assert!(harness.lease_due().await.is_empty());

    // No lapse is counted: eight pauses in a row park nothing.
    let mut until = 0;
    for _ in 0..8 {
        pause(&harness, None).await;
        let again = consumer.due().await;
        assert_eq!(again.booking_request, one);
        until += 1;
        pause(&harness, Some(&format!("2026-03-20T08:00:{until:02}Z"))).await;
        assert_eq!(consumer.revoked().await, name(&again));
    }
    assert_eq!(state(one).await, MessageState::Scheduled);
}

#[tokio::test]
async fn what_was_revoked_may_be_handed_over_all_the_same_and_counts() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness, 1).await;
    let due = harness.lease_due().await;
    pause(&harness, Some(UNTIL)).await;
    harness.acknowledge_sent(&due).await;
    let handed_over = first_message(&harness, &request).await;
    assert_eq!(handed_over.state(), MessageState::Sent);
    assert!(
        !handed_over.sent_after_change,
        "the invitation is as it was"
    );
}

#[tokio::test]
async fn withdrawals_wait_too_and_bookings_and_silence_go_on() {
    let harness = Harness::start(NOW).await;
    let (told, silent) = (due_now(&harness, 1).await, due_now(&harness, 2).await);
    assert_eq!(harness.hand_over_due().await.len(), 2);
    harness.advance("2026-03-16T08:00:00Z");
    assert_eq!(harness.hand_over_due().await.len(), 2);
    harness.advance("2026-03-30T07:00:00Z");
    assert_eq!(harness.hand_over_due().await.len(), 2);
    pause(&harness, Some("2026-05-01T08:00:00Z")).await;
    harness
        .cancel(make::wire_cancel(&told))
        .await
        .expect("cancelled");
    assert!(harness.lease_due().await.is_empty());
    harness.advance("2026-04-13T07:00:00Z");
    let request = harness.get(&silent).await.expect("found");
    assert_eq!(request.state(), State::NoResponse);
    let booked = harness.book(make::wire_booking(&silent, "2026-04-20T08:00:00Z"));
    booked.await.expect("booked");
    assert!(harness.lease_due().await.is_empty());
    harness.advance("2026-05-01T08:00:00Z");
    let due = harness.lease_due().await;
    let kinds: Vec<_> = due.iter().map(|it| message(it).kind()).collect();
    assert_eq!(kinds, [NotificationKind::Withdrawal]);
}

/// More messages wait there than one claim takes.
#[tokio::test]
async fn the_backlog_of_a_paused_care_unit_keeps_no_other_waiting() {
    let harness = Harness::start(NOW).await;
    pause(&harness, Some(UNTIL)).await;
    for number in 0..300 {
        due_now(&harness, number).await;
    }
    let other = due_in(&harness, 1, "careUnits/SE2321000131-OTHER").await;
    let due = harness.lease_due().await;
    let requests: Vec<_> = due.iter().map(|it| &it.booking_request).collect();
    assert_eq!(requests, [&other]);
}

/// More are leased than one operation revokes, and some of them are answered meanwhile.
#[tokio::test]
async fn a_pause_revokes_everything_however_much_is_answered_at_the_same_time() {
    let harness = Harness::start(NOW).await;
    for first in (0..800).step_by(50) {
        join_all((first..first + 50).map(|number| due_now(&harness, number))).await;
    }
    let mut consumer = Consumer::open(&harness, at_most(800)).await;
    let held = consumer.take(800).await;
    let answers = held.iter().step_by(4).map(|it| {
        let harness = &harness;
        repeated(move || acknowledge(harness, vec![sent(it)]))
    });
    let call = super::paused(Some(UNTIL));
    let (answers, paused) = tokio::join!(
        join_all(answers),
        repeated(|| super::set(&harness, call.clone()))
    );
    paused.expect("paused");
    for lost in answers {
        assert_eq!(lost.expect("taken"), [""; 0], "a lease is lost");
    }
    let call = v1::ListNotificationsRequest {
        care_units: vec![make::wire_unit()],
        states: vec![MessageState::Leased.into()],
        ..Default::default()
    };
    let left = within(harness.notifications().list_notifications(call)).await;
    assert_eq!(left.expect("a page").into_inner().notifications, []);
}

/// One of two requests is locked by somebody else, for longer than a caller waits.
#[tokio::test]
async fn a_pause_revokes_what_nobody_has_locked_and_the_rest_when_it_is_free() {
    let Some(backend) = Backend::postgres().await else {
        return;
    };
    let other = connect(&backend.url()).await;
    let harness = Harness::over(backend, Clock::sandbox(at(NOW)), Limits::default()).await;
    let (locked, free) = (due_now(&harness, 1).await, due_now(&harness, 2).await);
    let mut consumer = Consumer::open(&harness, everything()).await;
    let held = consumer.take(2).await;
    let id = locked.rsplit('/').next().expect("an id");
    let lock = format!("BEGIN; SELECT 1 FROM booking_request WHERE id = '{id}' FOR UPDATE");
    other.execute_unprepared(&lock).await.expect("locked");

    let refused = super::set(&harness, super::paused(Some(UNTIL))).await;
    let refused = refused.expect_err("something is locked");
    assert_eq!(refusal(&refused).1, "UNAVAILABLE", "{refused:?}");
    assert!(super::get(&harness).await.paused_until.is_some());
    let (of_locked, of_free) = match held[0].booking_request == free {
        true => (&held[1], &held[0]),
        false => (&held[0], &held[1]),
    };
    assert_eq!(consumer.revoked().await, name(of_free));
    let state = first_message(&harness, &locked).await.state();
    assert_eq!(state, MessageState::Leased);

    // Without a repeat of the call.
    other.execute_unprepared("COMMIT").await.expect("let go");
    assert_eq!(consumer.revoked().await, name(of_locked));
}

/// More is leased than one operation revokes, and the pause has ended when the first begins.
#[tokio::test]
async fn a_pause_that_has_ended_revokes_nothing_more() {
    let harness = Harness::start(NOW).await;
    for first in (0..300).step_by(50) {
        join_all((first..first + 50).map(|number| due_now(&harness, number))).await;
    }
    let mut consumer = Consumer::open(&harness, at_most(300)).await;
    consumer.take(300).await;
    let store = &harness.backend.store;
    let context = {
        let (store, readings) = (store.clone(), Arc::new(AtomicUsize::new(0)));
        move || {
            let now = match readings.fetch_add(1, Ordering::Relaxed) {
                0 => NOW,
                _ => UNTIL,
            };
            Context {
                policy: Policy {
                    units: store.settings(),
                    ..Policy::default()
                },
                ..make::context(at(now))
            }
        }
    };
    let decide = |before: &CareUnitSettings| {
        let mut after = before.clone();
        after.revision += 1;
        after.settings.paused_until = Some(at(UNTIL));
        Ok(after)
    };
    let unit = make::key().care_unit;
    let paused = store.update_settings(store_fixtures::call(), unit, decide, context);
    within(paused).await.expect("paused");
}

/// The query of a claim goes by an older copy of the settings than its decision.
#[test]
fn a_claim_looks_at_the_pause_again_when_it_decides() {
    let record = make::created(make::form("2026-03-16", "2026-06-12"), at(NOW));
    let (id, _) = make::claimable(&record).expect("due");
    let attempt = |paused_until: &str| {
        let mut stored = CareUnitSettings::none(record.key.care_unit.clone());
        stored.settings.paused_until = Some(at(paused_until));
        let units = HashMap::from([(stored.care_unit.clone(), stored)]);
        let context = Context {
            policy: Policy {
                units: UnitSettings(Arc::new(units)),
                ..Policy::default()
            },
            ..make::context(at(NOW))
        };
        decide_lease(&record, id, make::terms(Uuid::new_v4()), &context)
    };
    assert_eq!(attempt(UNTIL), LeaseOutcome::NotAvailable);
    let leased = attempt(NOW);
    assert!(matches!(leased, LeaseOutcome::Leased(_)), "{leased:?}");
}
