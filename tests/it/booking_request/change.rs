//! ChangeBookingRequest: what a change means for the messages before the first of them is out,
//! while it is on its way, and after.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::notification::State as Message;
use care_invitation::contract::v1::{HoldReason, Worklist};

use super::calls::{
    change, changed, contact, contacted, get_leave, hand_over_one, hold, lease_one, move_to, park,
    protect, release, released, round, unreachable, updated,
};
use super::{NOW, created, done, lists_of, messages, plan, requested, state};
use crate::consumer::{Consumer, answer, everything, name, sent};
use crate::harness::Harness;
use crate::make;

/// An invitation of which the first message has been handed over at [`NOW`].
async fn begun(harness: &Harness, first: &str, last: &str) -> v1::BookingRequest {
    let request = created(harness, make::wire_form(first, last)).await;
    hand_over_one(harness).await;
    harness.get(&request.name).await.expect("read")
}

fn moved(
    name: &str,
    first: &str,
    last: &str,
    on_change: OnChange,
) -> v1::ChangeBookingRequestRequest {
    v1::ChangeBookingRequestRequest {
        on_change: on_change.into(),
        ..move_to(name, first, last)
    }
}

#[tokio::test]
async fn before_the_first_message_is_out_a_new_period_gives_it_a_new_due_time_under_its_name() {
    for (first, last, due, second) in [
        ("2026-06-15", "2026-07-10", "05-04T07:00Z", "05-18T07:00Z"),
        ("2026-05-11", "2026-06-12", "03-30T07:00Z", "04-13T07:00Z"),
        // Six weeks before have passed: at once.
        ("2026-04-13", "2026-06-12", "03-02T09:00Z", "03-16T08:00Z"),
        // The start alone says when.
        ("2026-05-18", "2026-09-25", "04-06T07:00Z", "04-20T07:00Z"),
    ] {
        for on_change in [OnChange::Unspecified, OnChange::Keep, OnChange::Restart] {
            let row = format!("{first} {on_change:?}");
            let harness = Harness::start(NOW).await;
            let form = make::wire_form("2026-05-18", "2026-06-12");
            let request = created(&harness, form).await;
            let call = moved(&request.name, first, last, on_change);
            let after = changed(&harness, call).await.expect(&row);
            let expected = [format!("SCHEDULED {due}"), format!("PROJECTED {second}")];
            assert_eq!(plan(messages(&after))[..2], expected, "{row}");
            assert_eq!(
                messages(&after)[0].name,
                messages(&request)[0].name,
                "{row}"
            );
            assert_eq!((round(&after), messages(&after).len()), (1, 3), "{row}");
            let due = make::at(&format!("2026-{}:00Z", due.trim_end_matches('Z')));
            if due > make::at(NOW) {
                let just_before = due - chrono::Duration::microseconds(1);
                harness.clock.advance(just_before).expect("forward");
                assert!(harness.lease_due().await.is_empty(), "{row}");
                harness.clock.advance(due).expect("forward");
            }
            assert_eq!(harness.lease_due().await.len(), 1, "{row}");
        }
    }
}

#[tokio::test]
async fn a_leased_first_message_is_taken_back_so_that_no_old_dates_go_out() {
    for (paths, due) in [
        (&["constraints.requested_period"][..], "05-04T07:00Z"),
        (&["purpose"], "03-02T09:00Z"),
        (&["internal_comment"], "03-02T09:00Z"),
    ] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, make::wire_form("2026-04-06", "2026-06-12")).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let leased = consumer.due().await;
        let to = v1::BookingRequest {
            purpose: "Hals".into(),
            ..make::wire_form("2026-06-15", "2026-07-10")
        };
        let after = changed(&harness, change(&request.name, paths, to)).await;
        let after = after.expect("changed");
        assert_eq!(
            plan(messages(&after))[0],
            format!("SCHEDULED {due}"),
            "{paths:?}"
        );
        let due = messages(&after)[0].due_time.expect("due");
        let due = chrono::DateTime::from_timestamp(due.seconds, 0).expect("an instant");
        let again = if due > make::at(NOW) {
            assert_eq!(consumer.revoked().await, name(&leased), "{paths:?}");
            harness.clock.advance(due).expect("forward");
            consumer.due().await
        } else {
            consumer.due_again(&leased).await
        };
        assert_eq!(name(&again), name(&leased), "{paths:?}");
        assert!(again.possible_repeat, "{paths:?}");
        assert_eq!(again.purpose, after.purpose, "{paths:?}");
        let period = after.constraints.expect("constraints").requested_period;
        assert_eq!(again.requested_period, period, "{paths:?}");
    }
}

#[tokio::test]
async fn what_left_before_it_was_taken_back_is_sent_after_change_and_the_next_counts_from_it() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-04-06", "2026-06-12")).await;
    let due = lease_one(&harness).await;
    let call = move_to(&request.name, "2026-06-15", "2026-07-10");
    changed(&harness, call).await.expect("changed");
    answer(&harness, sent(&due)).await;
    let after = harness.get(&request.name).await.expect("read");
    let expected = [
        "SENT 03-02T09:00Z",
        "SCHEDULED 03-16T08:00Z",
        "PROJECTED 03-30T07:00Z",
    ];
    // It was due later by then, and is out all the same.
    let shown = &messages(&after)[0];
    assert_eq!(
        (shown.state(), shown.sent_after_change),
        (Message::Sent, true)
    );
    assert_eq!(plan(messages(&after))[1..], expected[1..]);
    harness.advance("2026-03-16T08:00:00Z");
    hand_over_one(&harness).await;
}

#[tokio::test]
async fn the_letter_in_place_of_a_first_message_that_reached_nobody_moves_with_the_period() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-04-06", "2026-06-12")).await;
    let inbox = lease_one(&harness).await;
    answer(&harness, unreachable(&inbox)).await;
    let before = harness.get(&request.name).await.expect("read");
    let call = move_to(&request.name, "2026-06-15", "2026-07-10");
    let after = changed(&harness, call).await.expect("changed");
    let expected = ["CANCELLED 03-02T09:00Z", "SCHEDULED 05-04T07:00Z"];
    assert_eq!(plan(messages(&after))[..2], expected);
    assert_eq!(messages(&after)[1].name, messages(&before)[1].name);
    assert_eq!(round(&after), 1);
}

#[tokio::test]
async fn a_parked_first_message_gets_its_new_due_time_and_stays_parked() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-04-06", "2026-06-12")).await;
    answer(&harness, park(&lease_one(&harness).await)).await;
    let call = move_to(&request.name, "2026-06-15", "2026-07-10");
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(plan(messages(&after))[0], "PARKED 05-04T07:00Z");
    assert_eq!((hold(&after), round(&after)), (HoldReason::Parked, 1));
    let after = released(&harness, release(&request.name))
        .await
        .expect("released");
    assert_eq!(plan(messages(&after))[0], "SCHEDULED 05-04T07:00Z");
}

#[tokio::test]
async fn a_first_message_that_is_on_its_way_counts_as_sent() {
    for (first, last, on_change, expected) in [
        (
            "2026-06-01",
            "2026-07-10",
            OnChange::Unspecified,
            &[
                "DISPATCHING 03-02T09:00Z",
                "PROJECTED 03-16T08:00Z",
                "PROJECTED 03-30T07:00Z",
            ][..],
        ),
        (
            "2026-06-15",
            "2026-07-10",
            OnChange::Unspecified,
            &[
                "DISPATCHING 03-02T09:00Z",
                "SCHEDULED 05-04T07:00Z",
                "PROJECTED 05-18T07:00Z",
                "PROJECTED 06-01T07:00Z",
            ],
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let request = created(&harness, make::wire_form("2026-04-06", "2026-06-12")).await;
        let due = lease_one(&harness).await;
        get_leave(&harness, &due).await;
        let call = moved(&request.name, first, last, on_change);
        let after = changed(&harness, call).await.expect("changed");
        assert_eq!(plan(messages(&after)), expected, "{first}");

        answer(&harness, sent(&due)).await;
        let after = harness.get(&request.name).await.expect("read");
        let shown = &messages(&after)[0];
        assert_eq!(
            (shown.state(), shown.sent_after_change),
            (Message::Sent, true),
            "{first}"
        );
        let next = plan(messages(&after))[1].clone();
        let kept = expected.len() == 3;
        let follows = if kept {
            "SCHEDULED 03-16T08:00Z"
        } else {
            expected[1]
        };
        assert_eq!(next, follows, "{first}");
        assert_eq!(round(&after), if kept { 1 } else { 2 }, "{first}");
    }
}

#[tokio::test]
async fn after_the_first_message_a_period_that_shares_a_day_keeps_and_another_restarts() {
    const KEPT: [&str; 3] = [
        "SENT 03-02T09:00Z",
        "SCHEDULED 03-16T08:00Z",
        "PROJECTED 03-30T07:00Z",
    ];
    fn restarted(first: &str, second: &str, third: &str) -> Vec<String> {
        let new = [
            format!("SCHEDULED {first}"),
            format!("PROJECTED {second}"),
            format!("PROJECTED {third}"),
        ];
        let old = ["SENT 03-02T09:00Z", "CANCELLED 03-16T08:00Z"].map(str::to_owned);
        [&old[..], &new].concat()
    }
    let kept = || KEPT.map(str::to_owned).to_vec();
    let far = || restarted("05-02T07:00Z", "05-16T07:00Z", "05-30T07:00Z");
    for (first, last, on_change, expected) in [
        ("2026-05-01", "2026-07-10", OnChange::Unspecified, kept()),
        ("2026-06-12", "2026-07-10", OnChange::Unspecified, kept()),
        ("2026-03-02", "2026-04-06", OnChange::Unspecified, kept()),
        ("2026-06-13", "2026-07-10", OnChange::Unspecified, far()),
        (
            "2026-03-02",
            "2026-04-05",
            OnChange::Unspecified,
            restarted("03-02T09:00Z", "03-16T08:00Z", "03-30T07:00Z"),
        ),
        ("2026-06-13", "2026-07-10", OnChange::Restart, far()),
        ("2026-06-13", "2026-07-10", OnChange::Keep, kept()),
        (
            "2026-05-01",
            "2026-07-10",
            OnChange::Restart,
            restarted("03-20T08:00Z", "04-03T07:00Z", "04-17T07:00Z"),
        ),
        // Matters only when the period changes.
        ("2026-04-06", "2026-06-12", OnChange::Restart, kept()),
    ] {
        let row = format!("{first} {last} {on_change:?}");
        let harness = Harness::start(NOW).await;
        let request = begun(&harness, "2026-04-06", "2026-06-12").await;
        let call = moved(&request.name, first, last, on_change);
        let after = changed(&harness, call).await.expect(&row);
        assert_eq!(plan(messages(&after)), expected, "{row}");
        let rounds = if expected.len() == 3 { 1 } else { 2 };
        assert_eq!(
            (state(&after), round(&after)),
            (State::Invited, rounds),
            "{row}"
        );
        assert_eq!(
            messages(&after)[0].name,
            messages(&request)[0].name,
            "{row}"
        );
        let cancelled =
            done(&harness.history(&request.name).await).contains(&"NOTIFICATION_CANCELLED");
        assert_eq!(cancelled, rounds == 2, "{row}");
    }
}

#[tokio::test]
async fn other_fields_than_the_period_never_restart() {
    let harness = Harness::start(NOW).await;
    let request = begun(&harness, "2026-04-06", "2026-06-12").await;
    let to = v1::BookingRequest {
        purpose: "Hals".into(),
        constraints: Some(v1::BookingConstraints {
            weekdays: vec![3],
            ..make::wire_constraints("2026-04-06", "2026-06-12")
        }),
        ..Default::default()
    };
    let call = v1::ChangeBookingRequestRequest {
        on_change: OnChange::Restart.into(),
        ..change(&request.name, &["constraints", "purpose"], to)
    };
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(messages(&after), messages(&request));
    assert_eq!(round(&after), 1);
}

#[tokio::test]
async fn keep_skips_the_reminders_after_the_new_end_and_a_longer_period_brings_them_back() {
    const FIRST: &str = "2026-03-09";
    let harness = Harness::start(NOW).await;
    let request = begun(&harness, FIRST, "2026-06-12").await;
    let name = &request.name;
    let back = [
        "SENT 03-02T09:00Z",
        "SCHEDULED 03-16T08:00Z",
        "PROJECTED 03-30T07:00Z",
    ];
    for (last, expected) in [
        (
            "2026-03-29",
            [
                "SENT 03-02T09:00Z",
                "SCHEDULED 03-16T08:00Z",
                "SKIPPED 03-30T07:00Z",
            ],
        ),
        (
            "2026-03-15",
            [
                "SENT 03-02T09:00Z",
                "SKIPPED 03-16T08:00Z",
                "SKIPPED 03-30T07:00Z",
            ],
        ),
        ("2026-03-30", back),
    ] {
        let after = changed(&harness, move_to(name, FIRST, last)).await;
        let after = after.expect("changed");
        assert_eq!(plan(messages(&after)), expected, "{last}");
        let skips = messages(&after)
            .iter()
            .filter(|it| it.state() == Message::Skipped);
        assert!(
            skips
                .clone()
                .all(|it| it.cause() == NotificationCause::AfterPeriod),
            "{last}"
        );
        let warned = after
            .warnings()
            .any(|it| it == v1::Warning::RemindersSkipped);
        assert_eq!(warned, skips.count() > 0, "{last}");
    }
    harness.advance("2026-03-16T08:00:00Z");
    let reminder = hand_over_one(&harness).await;
    assert_eq!(
        crate::consumer::name(&reminder),
        messages(&harness.get(name).await.expect("read"))[1].name
    );

    // The second one is planned by now, and is skipped and brought back under its name.
    let after = changed(&harness, move_to(name, FIRST, "2026-03-29")).await;
    let after = after.expect("changed");
    assert_eq!(plan(messages(&after))[2], "SKIPPED 03-30T07:00Z");
    let again = changed(&harness, move_to(name, FIRST, "2026-03-30")).await;
    let again = again.expect("changed");
    assert_eq!(plan(messages(&again))[2], "SCHEDULED 03-30T07:00Z");
    assert_eq!(messages(&again)[2].name, messages(&after)[2].name);
    harness.advance("2026-03-30T07:00:00Z");
    hand_over_one(&harness).await;
}

#[tokio::test]
async fn a_reminder_that_is_skipped_is_not_leased_and_one_brought_back_late_goes_out_at_once() {
    let harness = Harness::start(NOW).await;
    let request = begun(&harness, "2026-03-09", "2026-06-12").await;
    let short = move_to(&request.name, "2026-03-09", "2026-03-16");
    changed(&harness, short).await.expect("changed");
    let shorter = move_to(&request.name, "2026-03-09", "2026-03-15");
    changed(&harness, shorter).await.expect("changed");
    harness.advance("2026-03-15T22:59:59Z");
    let longer = move_to(&request.name, "2026-03-09", "2026-03-27");
    let longer = changed(&harness, longer).await.expect("changed");
    assert_eq!(plan(messages(&longer))[1], "SCHEDULED 03-16T08:00Z");
    assert!(harness.lease_due().await.is_empty());
    harness.advance("2026-03-20T20:00:00Z");
    hand_over_one(&harness).await;
    // 14 days from the hand-over is after the end.
    let read = harness.get(&request.name).await.expect("read");
    assert_eq!(plan(messages(&read))[2], "SKIPPED 04-03T07:00Z");
}

#[tokio::test]
async fn a_leased_reminder_is_taken_back_and_keeps_its_date() {
    let harness = Harness::start(NOW).await;
    let request = begun(&harness, "2026-03-09", "2026-06-12").await;
    harness.advance("2026-03-16T08:00:00Z");
    let mut consumer = Consumer::open(&harness, everything()).await;
    let leased = consumer.due().await;
    let call = move_to(&request.name, "2026-04-06", "2026-06-26");
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(plan(messages(&after))[1], "SCHEDULED 03-16T08:00Z");
    let again = consumer.due_again(&leased).await;
    let period = again.requested_period.expect("a period");
    assert_eq!(period.start_date, "2026-04-06");
}

#[tokio::test]
async fn a_restart_lifts_every_hold_but_protected_identity_and_keep_lifts_none() {
    for (protected, outcome) in [
        (false, Outcome::WillBook),
        (false, Outcome::CallBack),
        (false, Outcome::NoSuitableTime),
        (true, Outcome::CallBack),
    ] {
        for (first, restarts) in [("2026-05-01", false), ("2026-06-15", true)] {
            let row = format!("{protected} {outcome:?} {first}");
            let harness = Harness::start(NOW).await;
            let request = begun(&harness, "2026-04-06", "2026-06-12").await;
            if protected {
                updated(&harness, protect()).await.expect("updated");
            }
            let call = contact(&request.name, outcome);
            let before = contacted(&harness, call).await.expect("held");
            let call = move_to(&request.name, first, "2026-07-10");
            let after = changed(&harness, call).await.expect("changed");
            let expected = match (protected, restarts) {
                (true, _) => HoldReason::ProtectedIdentity,
                (false, true) => HoldReason::Unspecified,
                (false, false) => hold(&before),
            };
            assert_eq!(
                (hold(&after), round(&after)),
                (expected, 1 + i32::from(restarts)),
                "{row}"
            );
            harness.advance("2026-05-04T07:00:00Z");
            let goes_out = usize::from(expected == HoldReason::Unspecified);
            assert_eq!(harness.lease_due().await.len(), goes_out, "{row}");
        }
    }
}

#[tokio::test]
async fn a_request_that_nobody_is_invited_to_is_changed_without_messages() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, requested("2026-03-09", "2026-03-13")).await;
    let call = move_to(&request.name, "2026-03-10", "2026-03-14");
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(
        (state(&after), messages(&after).len()),
        (State::Requested, 0)
    );
    assert_eq!(after.care_invitation, None);

    // Expired, it is changed too, and a new period brings it back.
    harness.advance("2026-03-14T23:00:00Z");
    let to = v1::BookingRequest {
        purpose: "Hals".into(),
        ..Default::default()
    };
    let after = changed(&harness, change(&request.name, &["purpose"], to)).await;
    let after = after.expect("changed");
    assert_eq!(
        (state(&after), after.purpose.as_str()),
        (State::Expired, "Hals")
    );
    let call = move_to(&request.name, "2026-05-18", "2026-06-12");
    let after = changed(&harness, call).await.expect("changed");
    assert_eq!(state(&after), State::Requested);
    assert_eq!(
        lists_of(&harness, &request.name).await,
        [Worklist::BookingRequests]
    );
    assert_eq!(after.care_invitation, None);
}
