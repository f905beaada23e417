//! Withdrawals: who is told that an invitation is withdrawn, when, by which channel, and what
//! becomes of a withdrawal that reaches nobody.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::notification::State as Message;
use care_invitation::contract::v1::{
    CancelReason, ChannelReason, DeliveryChannel, HoldReason, InboxReach, NotificationKind,
    Worklist,
};

use super::calls::{
    assert_conflict, cancel, contact, contacted, get_leave, hand_over_one, hold, invite_between,
    lease_one, park, planned, protect, release, released, reported, unreachable, updated, way,
};
use super::{NOW, SILENCE_ENDS, created, done, lists_of, messages, plan, requested, silent, state};
use crate::consumer::{Consumer, answer, everything, message, name, retry, sent};
use crate::harness::Harness;
use crate::make;

const REASONS: [(CancelReason, bool); 10] = [
    (CancelReason::ReferralWithdrawn, true),
    (CancelReason::PatientRequest, false),
    (CancelReason::UnitRequest, true),
    (CancelReason::PatientDeceased, false),
    (CancelReason::EnteredInError, true),
    (CancelReason::Other, true),
    (CancelReason::NoShow, true),
    (CancelReason::PatientMoved, true),
    (CancelReason::CaredForElsewhere, true),
    (CancelReason::Transferred, true),
];

/// An invitation that is due at once.
async fn due_now(harness: &Harness) -> String {
    let form = make::wire_form("2026-03-09", "2026-06-12");
    created(harness, form).await.name
}

async fn read(harness: &Harness, name: &str) -> v1::BookingRequest {
    harness.get(name).await.expect("read")
}

async fn cancelled(harness: &Harness, name: &str, reason: CancelReason) -> v1::BookingRequest {
    let answer = harness.cancel(cancel(name, reason)).await;
    answer.expect("cancelled")
}

/// The withdrawal of a request, if one is planned.
fn withdrawal(request: &v1::BookingRequest) -> Option<&v1::Notification> {
    let mut found = messages(request)
        .iter()
        .filter(|it| it.kind() == NotificationKind::Withdrawal);
    found.next()
}

#[tokio::test]
async fn a_patient_who_has_had_a_message_is_told_at_once_unless_they_asked_or_have_died() {
    for (reason, told) in REASONS {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        let first = hand_over_one(&harness).await;
        assert_eq!(first.cancel_reason(), CancelReason::Unspecified);
        harness.advance("2026-03-07T22:15:00Z");
        let after = cancelled(&harness, &request, reason).await;
        assert_eq!(
            (state(&after), hold(&after)),
            (State::Cancelled, HoldReason::Unspecified)
        );
        let ended = ["SENT 03-02T09:00Z", "CANCELLED 03-16T08:00Z"];
        assert_eq!(plan(messages(&after))[..2], ended, "{reason:?}");
        assert_eq!(withdrawal(&after).is_some(), told, "{reason:?}");
        let due = harness.lease_due().await;
        assert_eq!(due.len(), usize::from(told), "{reason:?}");
        let Some(due) = due.first() else { continue };
        assert_eq!(due.cancel_reason(), reason);

        assert_eq!(
            plan(messages(&after))[2],
            "SCHEDULED 03-07T22:15Z",
            "{reason:?}"
        );
        assert_eq!(
            message(due).kind(),
            NotificationKind::Withdrawal,
            "{reason:?}"
        );
        assert_eq!(message(due).round, 1, "{reason:?}");
        answer(&harness, sent(due)).await;
        let after = read(&harness, &request).await;
        assert_eq!(planned(&after), "SENT CANCELLED SENT", "{reason:?}");
        assert!(!messages(&after)[2].sent_after_change, "{reason:?}");
        assert_eq!(state(&after), State::Cancelled, "{reason:?}");
        // Once, and nothing after it.
        harness.advance("2026-06-30T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{reason:?}");
        let sent = done(&harness.history(&request).await)
            .iter()
            .filter(|it| **it == "NOTIFICATION_SENT")
            .count();
        assert_eq!(sent, 2, "{reason:?}");
    }
}

/// What became of the first message before the request was cancelled.
const FIRST: [(&str, bool); 5] = [
    ("scheduled", false),
    ("leased", false),
    ("parked", false),
    ("dispatching", true),
    ("sent", true),
];

#[tokio::test]
async fn a_message_that_is_sent_or_on_its_way_is_withdrawn_and_what_never_left_is_not() {
    for (first, told) in FIRST {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        if first != "scheduled" {
            let due = lease_one(&harness).await;
            match first {
                "parked" => answer(&harness, park(&due)).await,
                "dispatching" => get_leave(&harness, &due).await,
                "sent" => answer(&harness, sent(&due)).await,
                _ => {}
            }
        }
        let after = cancelled(&harness, &request, CancelReason::UnitRequest).await;
        assert_eq!(withdrawal(&after).is_some(), told, "{first}");
        let due = harness.lease_due().await;
        assert_eq!(due.len(), usize::from(told), "{first}");
        for due in &due {
            assert_eq!(message(due).kind(), NotificationKind::Withdrawal, "{first}");
        }
        harness.acknowledge_sent(&due).await;
        harness.advance("2026-06-30T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{first}");
    }
}

#[tokio::test]
async fn a_message_that_is_reported_sent_later_is_withdrawn_then_and_once() {
    for first in ["leased", "parked"] {
        for (reason, told) in REASONS {
            let row = format!("{first} {reason:?}");
            let harness = Harness::start(NOW).await;
            let request = due_now(&harness).await;
            let due = lease_one(&harness).await;
            if first == "parked" {
                answer(&harness, park(&due)).await;
            }
            cancelled(&harness, &request, reason).await;
            harness.advance("2026-03-05T20:00:00Z");
            answer(&harness, sent(&due)).await;
            let after = read(&harness, &request).await;
            assert!(messages(&after)[0].sent_after_change, "{row}");
            let expected = if told { "SENT SCHEDULED" } else { "SENT" };
            assert_eq!(planned(&after), expected, "{row}");
            answer(&harness, sent(&due)).await;
            let again = harness.hand_over_due().await;
            assert_eq!(again.len(), usize::from(told), "{row}");
            assert!(harness.lease_due().await.is_empty(), "{row}");
        }
    }
}

#[tokio::test]
async fn a_message_on_its_way_is_withdrawn_once_unless_it_proves_not_to_have_left() {
    for (outcome, expected) in [
        ("sent", "SENT SENT"),
        ("lapse", "DISPATCHING SENT"),
        ("retry that may have left", "CANCELLED SENT"),
        ("retry", "CANCELLED CANCELLED"),
        ("unreachable", "CANCELLED CANCELLED"),
        ("park", "CANCELLED CANCELLED"),
    ] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        let due = lease_one(&harness).await;
        get_leave(&harness, &due).await;
        cancelled(&harness, &request, CancelReason::UnitRequest).await;
        let unknown = v1::Acknowledgement {
            may_have_been_sent: true,
            ..retry(&due)
        };
        match outcome {
            "sent" => answer(&harness, sent(&due)).await,
            "retry that may have left" => answer(&harness, unknown).await,
            "retry" => answer(&harness, retry(&due)).await,
            "unreachable" => answer(&harness, unreachable(&due)).await,
            "park" => answer(&harness, park(&due)).await,
            _ => {}
        }
        for withdrawal in harness.hand_over_due().await {
            let kind = message(&withdrawal).kind();
            assert_eq!(kind, NotificationKind::Withdrawal, "{outcome}");
        }
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{outcome}");
        let stored = read(&harness, &request).await;
        assert_eq!(planned(&stored), expected, "{outcome}");
        assert_eq!(hold(&stored), HoldReason::Unspecified, "{outcome}");
        if expected == "CANCELLED CANCELLED" {
            // It has left after all.
            answer(&harness, sent(&due)).await;
            let after = hand_over_one(&harness).await;
            let kind = message(&after).kind();
            assert_eq!(kind, NotificationKind::Withdrawal, "{outcome}");
            let stored = read(&harness, &request).await;
            assert_eq!(planned(&stored), "SENT CANCELLED SENT", "{outcome}");
        }
    }
}

#[tokio::test]
async fn a_withdrawal_that_waits_for_staff_is_off_when_nothing_has_left() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let due = lease_one(&harness).await;
    get_leave(&harness, &due).await;
    updated(&harness, protect()).await.expect("updated");
    cancelled(&harness, &request, CancelReason::UnitRequest).await;
    let stored = read(&harness, &request).await;
    assert_eq!(hold(&stored), HoldReason::ProtectedIdentity);
    answer(&harness, park(&due)).await;
    let stored = read(&harness, &request).await;
    assert_eq!(planned(&stored), "CANCELLED CANCELLED");
    assert_eq!(hold(&stored), HoldReason::Unspecified);
}

#[tokio::test]
async fn invitations_that_are_live_or_silent_are_withdrawn_and_no_other_request_is() {
    for (start, told) in [
        ("held", true),
        ("no response", true),
        ("expired", false),
        ("booked", false),
        ("declined", false),
        ("requested", false),
        ("new round", false),
    ] {
        let harness = Harness::start(NOW).await;
        let request = match start {
            "no response" => silent(&harness).await.name,
            "requested" => {
                let form = requested("2026-03-09", "2026-06-12");
                created(&harness, form).await.name
            }
            _ => due_now(&harness).await,
        };
        if !["no response", "requested"].contains(&start) {
            hand_over_one(&harness).await;
        }
        let contact = |outcome| contacted(&harness, contact(&request, outcome));
        match start {
            "held" => drop(contact(Outcome::CallBack).await.expect(start)),
            "declined" => drop(contact(Outcome::Declined).await.expect(start)),
            "booked" => {
                let call = make::wire_booking(&request, "2026-05-18T08:00:00Z");
                harness.book(call).await.expect(start);
            }
            "no response" => harness.advance(SILENCE_ENDS),
            "expired" => harness.advance("2026-06-12T22:00:00Z"),
            "new round" => {
                contact(Outcome::Declined).await.expect(start);
                let call = invite_between(&request, "2026-06-01", "2026-06-30");
                harness.invite(call).await.expect(start);
            }
            _ => {}
        }
        let after = cancelled(&harness, &request, CancelReason::UnitRequest).await;
        assert_eq!(withdrawal(&after).is_some(), told, "{start}");
        assert_eq!(
            harness.lease_due().await.len(),
            usize::from(told),
            "{start}"
        );
    }
}

/// How the last message left.
const INBOX: (DeliveryChannel, ChannelReason) = (DeliveryChannel::Inbox, ChannelReason::Default);

#[tokio::test]
async fn the_channel_last_used_is_used_again_whatever_is_known_since() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    hand_over_one(&harness).await;
    // Learned after the hand-over; the message before it lies in the inbox.
    let to = v1::Patient {
        inbox_reach: InboxReach::None.into(),
        ..Default::default()
    };
    let call = super::calls::update(&["inbox_reach"], to);
    super::calls::updated(&harness, call)
        .await
        .expect("updated");
    cancelled(&harness, &request, CancelReason::UnitRequest).await;
    let due = lease_one(&harness).await;
    assert_eq!(
        (message(&due).channel(), message(&due).channel_reason()),
        INBOX
    );
}

#[tokio::test]
async fn a_letter_that_followed_is_the_channel_last_used_until_the_next_message_has_left() {
    for reminded in [false, true] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        let first = hand_over_one(&harness).await;
        harness.advance("2026-03-05T09:00:00Z");
        reported(&harness, &name(&first), Receipt::Unread)
            .await
            .expect("a letter");
        let letter = hand_over_one(&harness).await;
        assert_eq!(message(&letter).channel(), DeliveryChannel::Letter);
        if reminded {
            harness.advance("2026-03-16T08:00:00Z");
            let reminder = hand_over_one(&harness).await;
            assert_eq!(message(&reminder).channel(), DeliveryChannel::Inbox);
        }
        cancelled(&harness, &request, CancelReason::UnitRequest).await;
        let due = lease_one(&harness).await;
        let expected = if reminded {
            DeliveryChannel::Inbox
        } else {
            DeliveryChannel::Letter
        };
        assert_eq!(message(&due).channel(), expected, "{reminded}");
    }
}

#[tokio::test]
async fn what_staff_fixed_and_who_is_reached_by_letter_are_told_by_it() {
    for (reach, staff, expected) in [
        (
            InboxReach::None,
            None,
            (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount),
        ),
        (
            InboxReach::Unspecified,
            Some(DeliveryChannel::Letter),
            (DeliveryChannel::Letter, ChannelReason::Staff),
        ),
        (
            InboxReach::None,
            Some(DeliveryChannel::Inbox),
            (DeliveryChannel::Inbox, ChannelReason::Staff),
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let mut form = make::wire_form("2026-03-09", "2026-06-12");
        let patient = form.patient.as_mut().expect("a patient");
        patient.inbox_reach = reach.into();
        let request = created(&harness, form).await.name;
        if let Some(channel) = staff {
            let call = contact(&request, Outcome::CallBack);
            contacted(&harness, call).await.expect("held");
            let call = v1::ReleaseHoldRequest {
                channel: channel.into(),
                ..release(&request)
            };
            released(&harness, call).await.expect("released");
        }
        hand_over_one(&harness).await;
        cancelled(&harness, &request, CancelReason::UnitRequest).await;
        let due = lease_one(&harness).await;
        assert_eq!(
            (message(&due).channel(), message(&due).channel_reason()),
            expected
        );
    }
}

/// A withdrawal that no channel could deliver, as the last answer left it.
async fn undelivered(harness: &Harness) -> (String, v1::DueNotification) {
    let request = due_now(harness).await;
    hand_over_one(harness).await;
    cancelled(harness, &request, CancelReason::UnitRequest).await;
    let inbox = lease_one(harness).await;
    answer(harness, unreachable(&inbox)).await;
    let letter = lease_one(harness).await;
    assert_ne!(name(&letter), name(&inbox));
    let after = read(harness, &request).await;
    let expected = (
        NotificationKind::Withdrawal,
        DeliveryChannel::Letter,
        ChannelReason::DigitalFailed,
    );
    assert_eq!(way(&after, &name(&letter)), expected);
    assert_eq!(messages(&after)[2].cause(), NotificationCause::Unreachable);
    assert_eq!(lists_of(harness, &request).await, []);
    answer(harness, unreachable(&letter)).await;
    (request, letter)
}

#[tokio::test]
async fn a_withdrawal_that_nobody_can_deliver_waits_for_staff_and_is_sent_when_released() {
    for channel in [
        DeliveryChannel::Unspecified,
        DeliveryChannel::Letter,
        DeliveryChannel::Inbox,
    ] {
        let harness = Harness::start(NOW).await;
        let (request, letter) = undelivered(&harness).await;
        let parked = read(&harness, &request).await;
        assert_eq!(planned(&parked), "SENT CANCELLED CANCELLED PARKED");
        assert_eq!(
            (state(&parked), hold(&parked)),
            (State::Cancelled, HoldReason::Undeliverable)
        );
        assert_eq!(
            lists_of(&harness, &request).await,
            [Worklist::ManualHandling]
        );
        // Staff see it however long it takes, the period over or not.
        harness.advance("2026-07-01T09:00:00Z");
        assert!(harness.lease_due().await.is_empty());
        assert_eq!(
            lists_of(&harness, &request).await,
            [Worklist::ManualHandling]
        );
        let call = v1::ReleaseHoldRequest {
            channel: channel.into(),
            ..release(&request)
        };
        let after = released(&harness, call).await.expect("released");
        assert_eq!(
            (state(&after), hold(&after)),
            (State::Cancelled, HoldReason::Unspecified)
        );
        assert_eq!(lists_of(&harness, &request).await, []);
        let due = hand_over_one(&harness).await;
        assert_eq!(name(&due), name(&letter), "{channel:?}");
        let expected = match channel {
            DeliveryChannel::Unspecified => (DeliveryChannel::Letter, ChannelReason::DigitalFailed),
            fixed => (fixed, ChannelReason::Staff),
        };
        let shown = (message(&due).channel(), message(&due).channel_reason());
        assert_eq!(shown, expected, "{channel:?}");
        let after = read(&harness, &request).await;
        assert_eq!(planned(&after), "SENT CANCELLED CANCELLED SENT");
        let status = released(&harness, release(&request))
            .await
            .expect_err("sent");
        assert_conflict(&status, State::Cancelled, "", "sent");
    }
}

#[tokio::test]
async fn a_withdrawal_is_leased_and_tried_again_like_any_message() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    hand_over_one(&harness).await;
    cancelled(&harness, &request, CancelReason::UnitRequest).await;
    let due = lease_one(&harness).await;
    answer(&harness, retry(&due)).await;
    assert!(harness.lease_due().await.is_empty());
    for lapse in 0..8 {
        let later = harness.clock.now() + chrono::Duration::hours(2);
        harness.clock.advance(later).expect("forward");
        assert_eq!(name(&lease_one(&harness).await), name(&due), "{lapse}");
    }
    let later = harness.clock.now() + chrono::Duration::hours(2);
    harness.clock.advance(later).expect("forward");
    assert!(harness.lease_due().await.is_empty());
    let parked = read(&harness, &request).await;
    assert_eq!(
        (planned(&parked).as_str(), hold(&parked)),
        ("SENT CANCELLED PARKED", HoldReason::Parked)
    );
    assert_eq!(
        lists_of(&harness, &request).await,
        [Worklist::ManualHandling]
    );
}

#[tokio::test]
async fn a_withdrawal_that_left_by_the_inbox_all_the_same_is_not_sent_as_a_letter_too() {
    for stage in ["scheduled", "leased", "parked"] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        hand_over_one(&harness).await;
        cancelled(&harness, &request, CancelReason::UnitRequest).await;
        let inbox = lease_one(&harness).await;
        answer(&harness, unreachable(&inbox)).await;
        if stage != "scheduled" {
            let letter = lease_one(&harness).await;
            if stage == "parked" {
                answer(&harness, park(&letter)).await;
            }
        }
        answer(&harness, sent(&inbox)).await;
        let after = read(&harness, &request).await;
        assert_eq!(planned(&after), "SENT CANCELLED SENT CANCELLED", "{stage}");
        assert_eq!(lists_of(&harness, &request).await, [], "{stage}");
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{stage}");
    }
}

#[tokio::test]
async fn a_death_that_is_learned_afterwards_stops_what_has_not_left() {
    for (stage, expected) in [
        ("scheduled", "SENT CANCELLED CANCELLED"),
        ("leased", "SENT CANCELLED CANCELLED"),
        ("dispatching", "SENT CANCELLED DISPATCHING"),
        ("parked", "SENT CANCELLED CANCELLED"),
        ("sent", "SENT CANCELLED SENT"),
    ] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        hand_over_one(&harness).await;
        cancelled(&harness, &request, CancelReason::UnitRequest).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let due = if stage == "scheduled" {
            None
        } else {
            Some(consumer.due().await)
        };
        match (stage, &due) {
            ("dispatching", Some(due)) => get_leave(&harness, due).await,
            ("parked", Some(due)) => answer(&harness, park(due)).await,
            ("sent", Some(due)) => answer(&harness, sent(due)).await,
            _ => {}
        }
        let after = cancelled(&harness, &request, CancelReason::PatientDeceased).await;
        if stage == "scheduled" {
            drop(consumer);
        } else if stage == "leased" {
            let taken = name(due.as_ref().expect("leased"));
            assert_eq!(consumer.revoked().await, taken);
        }
        assert_eq!(planned(&after), expected, "{stage}");
        assert_eq!(
            after.cancel_reason(),
            CancelReason::PatientDeceased,
            "{stage}"
        );
        assert_eq!(
            (hold(&after), &after.allowed_actions[..]),
            (HoldReason::Unspecified, &[][..])
        );
        assert_eq!(lists_of(&harness, &request).await, [], "{stage}");
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{stage}");
    }
}

#[tokio::test]
async fn a_death_that_is_learned_afterwards_stops_the_withdrawal_of_what_is_reported_sent_later() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await;
    let due = lease_one(&harness).await;
    cancelled(&harness, &request, CancelReason::UnitRequest).await;
    cancelled(&harness, &request, CancelReason::PatientDeceased).await;
    answer(&harness, sent(&due)).await;
    let after = read(&harness, &request).await;
    assert_eq!(planned(&after), "SENT");
    assert_eq!(messages(&after)[0].state(), Message::Sent);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn no_other_reason_is_taken_for_a_request_that_is_closed() {
    for (reason, _) in REASONS {
        if reason == CancelReason::PatientDeceased {
            continue;
        }
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await;
        hand_over_one(&harness).await;
        cancelled(&harness, &request, CancelReason::UnitRequest).await;
        let before = read(&harness, &request).await;
        let status = harness.cancel(cancel(&request, reason)).await;
        let status = status.expect_err("closed");
        assert_conflict(&status, State::Cancelled, "", reason.as_str_name());
        assert_eq!(read(&harness, &request).await, before, "{reason:?}");
    }
}
