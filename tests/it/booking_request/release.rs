//! ReleaseHold: what waits or was parked goes out, when, and through which channel.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{
    ChannelReason, DeliveryChannel, HoldReason, InboxReach, Warning, Worklist,
};
use tonic::Code;

use super::calls::{
    contact, contacted, hand_over_one, hold, lease_one, park, planned, protect, release, released,
    reported, unreachable, updated,
};
use super::{NOW, created, done, lists_of, messages, plan, state};
use crate::consumer::{answer, message, name};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;

/// An invitation of which the first message has been handed over, by letter, and is then held.
async fn held(harness: &Harness, reason: HoldReason) -> v1::BookingRequest {
    let mut form = make::wire_form("2026-03-09", "2026-06-12");
    let patient = form.patient.as_mut().expect("a patient");
    patient.inbox_reach = InboxReach::None.into();
    let request = created(harness, form).await;
    let name = &request.name;
    if reason == HoldReason::Parked {
        // It was parked and had been handed over all the same.
        let due = lease_one(harness).await;
        answer(harness, park(&due)).await;
        harness.acknowledge_sent(&[due]).await;
    } else {
        let due = hand_over_one(harness).await;
        if reason == HoldReason::Undeliverable {
            reported(harness, &message(&due).name, Receipt::Returned).await;
        }
    }
    let outcome = match reason {
        HoldReason::WillBook => Some(Outcome::WillBook),
        HoldReason::CallBack => Some(Outcome::CallBack),
        HoldReason::NoSuitableTime => Some(Outcome::NoSuitableTime),
        HoldReason::Contacted => Some(Outcome::Other),
        _ => None,
    };
    if let Some(outcome) = outcome {
        contacted(harness, contact(name, outcome))
            .await
            .expect("held");
    }
    if reason == HoldReason::ProtectedIdentity {
        updated(harness, protect()).await.expect("updated");
    }
    let read = harness.get(name).await.expect("read");
    assert_eq!(hold(&read), reason);
    read
}

const HOLDS: [HoldReason; 7] = [
    HoldReason::ProtectedIdentity,
    HoldReason::Undeliverable,
    HoldReason::Parked,
    HoldReason::NoSuitableTime,
    HoldReason::CallBack,
    HoldReason::WillBook,
    HoldReason::Contacted,
];

#[tokio::test]
async fn what_waits_goes_out_when_it_is_due() {
    for reason in HOLDS {
        let harness = Harness::start(NOW).await;
        let request = held(&harness, reason).await;
        let after = released(&harness, release(&request.name))
            .await
            .expect("released");
        assert_eq!(
            (state(&after), hold(&after)),
            (State::Invited, HoldReason::Unspecified)
        );
        let lists = lists_of(&harness, &request.name).await;
        assert_eq!(lists, [Worklist::CareInvitations], "{reason:?}");
        let invitation = after.care_invitation.as_ref().expect("an invitation");
        assert_eq!(invitation.wait_until_date, "", "{reason:?}");
        assert_eq!(
            plan(messages(&after)),
            plan(messages(&request)),
            "{reason:?}"
        );
        harness.advance("2026-03-16T07:59:59Z");
        assert!(harness.lease_due().await.is_empty(), "{reason:?}");
        harness.advance("2026-03-16T08:00:00Z");
        let due = hand_over_one(&harness).await;
        assert_eq!(name(&due), messages(&request)[1].name, "{reason:?}");
        harness.advance("2026-03-30T07:00:00Z");
        hand_over_one(&harness).await;
    }
}

#[tokio::test]
async fn what_should_have_gone_out_goes_at_once_and_the_next_counts_from_then() {
    for reason in HOLDS {
        let harness = Harness::start(NOW).await;
        let request = held(&harness, reason).await;
        harness.advance("2026-04-10T20:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{reason:?}");
        released(&harness, release(&request.name))
            .await
            .expect("released");
        hand_over_one(&harness).await;
        let after = harness.get(&request.name).await.expect("read");
        let expected = [
            "SENT 03-02T09:00Z",
            "SENT 03-16T08:00Z",
            "SCHEDULED 04-24T07:00Z",
        ];
        assert_eq!(plan(messages(&after)), expected, "{reason:?}");
    }
}

#[tokio::test]
async fn a_parked_message_goes_out_under_its_name_as_if_nothing_had_been_wrong() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    let due = lease_one(&harness).await;
    let parked = v1::Acknowledgement {
        cause: "adressen saknas".into(),
        ..park(&due)
    };
    answer(&harness, parked).await;
    harness.advance("2026-03-05T12:00:00Z");
    let before = harness.get(&request.name).await.expect("read");
    assert_eq!(messages(&before)[0].cause(), NotificationCause::Parked);
    assert_eq!(messages(&before)[0].cause_detail, "adressen saknas");
    let after = released(&harness, release(&request.name))
        .await
        .expect("released");
    assert_eq!(plan(messages(&after))[0], "SCHEDULED 03-02T09:00Z");
    assert_eq!(messages(&after)[0].cause(), NotificationCause::Unspecified);
    assert_eq!(messages(&after)[0].cause_detail, "");
    let again = hand_over_one(&harness).await;
    assert_eq!(name(&again), name(&due));
    assert_eq!(message(&again).delivery_attempt, 2);
    let entries = harness.history(&request.name).await;
    let expected = [
        "CREATE_BOOKING_REQUEST",
        "NOTIFICATION_PARKED",
        "RELEASE_HOLD",
        "NOTIFICATION_SENT",
    ];
    assert_eq!(done(&entries), expected);
    assert_eq!(entries[2].comment, "adressen är kontrollerad");
}

#[tokio::test]
async fn leases_that_ran_out_before_are_forgotten() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-06-12")).await;
    for hours in 0..8 {
        assert_eq!(harness.lease_due().await.len(), 1, "{hours}");
        let later = harness.clock.now() + chrono::Duration::hours(2);
        harness.clock.advance(later).expect("forward");
    }
    assert!(harness.lease_due().await.is_empty(), "parked");
    released(&harness, release(&request.name))
        .await
        .expect("released");
    for attempt in 9..17 {
        let due = lease_one(&harness).await;
        assert_eq!(message(&due).delivery_attempt, attempt);
        assert!(due.possible_repeat);
        let later = harness.clock.now() + chrono::Duration::hours(2);
        harness.clock.advance(later).expect("forward");
    }
    assert!(harness.lease_due().await.is_empty(), "parked again");
    let after = harness.get(&request.name).await.expect("read");
    assert_eq!(hold(&after), HoldReason::Parked);
}

#[tokio::test]
async fn a_channel_is_fixed_for_the_rest_of_the_round_and_gone_in_the_next() {
    for (reach, channel, own) in [
        (
            InboxReach::Unspecified,
            DeliveryChannel::Letter,
            (DeliveryChannel::Inbox, ChannelReason::Default),
        ),
        (
            InboxReach::Unspecified,
            DeliveryChannel::Inbox,
            (DeliveryChannel::Inbox, ChannelReason::Default),
        ),
        (
            InboxReach::None,
            DeliveryChannel::Inbox,
            (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount),
        ),
    ] {
        let row = format!("{reach:?} {channel:?}");
        let harness = Harness::start(NOW).await;
        let mut form = make::wire_form("2026-03-09", "2026-06-12");
        let patient = form.patient.as_mut().expect("a patient");
        patient.inbox_reach = reach.into();
        let request = created(&harness, form).await;
        let shown = |it: &v1::Notification| (it.channel(), it.channel_reason());
        assert!(
            messages(&request).iter().all(|it| shown(it) == own),
            "{row}"
        );
        let call = contact(&request.name, Outcome::CallBack);
        contacted(&harness, call).await.expect("held");
        let call = v1::ReleaseHoldRequest {
            channel: channel.into(),
            ..release(&request.name)
        };
        let after = released(&harness, call).await.expect("released");
        let fixed = (channel, ChannelReason::Staff);
        assert!(
            messages(&after).iter().all(|it| shown(it) == fixed),
            "{row}"
        );
        for due in [NOW, "2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"] {
            harness.advance(due);
            assert_eq!(
                shown(message(&hand_over_one(&harness).await)),
                fixed,
                "{row}"
            );
        }
        // Another release that names no channel leaves it as it was.
        contacted(&harness, contact(&request.name, Outcome::CallBack))
            .await
            .expect("held");
        let after = released(&harness, release(&request.name))
            .await
            .expect("released");
        assert!(
            messages(&after).iter().all(|it| shown(it) == fixed),
            "{row}"
        );

        harness.advance("2026-04-13T07:00:00Z");
        let again = harness.invite(make::wire_invite(&request.name)).await;
        let again = again.expect("a new round");
        let (old, new) = messages(&again).split_at(3);
        assert!(old.iter().all(|it| shown(it) == fixed), "{row}");
        assert!(new.iter().all(|it| shown(it) == own), "{row}");
        assert_eq!(shown(message(&lease_one(&harness).await)), own, "{row}");
    }
}

#[tokio::test]
async fn staff_send_an_undeliverable_letter_to_the_inbox_and_nothing_follows_by_itself() {
    let harness = Harness::start(NOW).await;
    let mut form = make::wire_form("2026-03-09", "2026-06-12");
    let patient = form.patient.as_mut().expect("a patient");
    patient.inbox_reach = InboxReach::None.into();
    let request = created(&harness, form).await;
    let letter = lease_one(&harness).await;
    answer(&harness, unreachable(&letter)).await;
    let call = v1::ReleaseHoldRequest {
        channel: DeliveryChannel::Inbox.into(),
        ..release(&request.name)
    };
    released(&harness, call).await.expect("released");
    let inbox = lease_one(&harness).await;
    assert_eq!(name(&inbox), name(&letter));
    assert_eq!(message(&inbox).channel(), DeliveryChannel::Inbox);
    answer(&harness, unreachable(&inbox)).await;
    let after = harness.get(&request.name).await.expect("read");
    assert_eq!(hold(&after), HoldReason::Undeliverable);
    assert_eq!(planned(&after), "PARKED");
}

#[tokio::test]
async fn a_protected_patient_is_sent_to_only_after_staff_have_released_it() {
    let harness = Harness::start(NOW).await;
    let mut form = make::wire_form("2026-03-09", "2026-06-12");
    let patient = form.patient.as_mut().expect("a patient");
    patient.protection = v1::Protection::ProtectedRegistration.into();
    let request = created(&harness, form).await;
    assert_eq!(hold(&request), HoldReason::ProtectedIdentity);
    assert!(
        request
            .warnings()
            .any(|it| it == Warning::ProtectedIdentity)
    );
    assert!(harness.lease_due().await.is_empty());
    let after = released(&harness, release(&request.name))
        .await
        .expect("released");
    assert!(!after.warnings().any(|it| it == Warning::ProtectedIdentity));
    let due = lease_one(&harness).await;
    assert_eq!(due.protection(), v1::Protection::ProtectedRegistration);
}

#[tokio::test]
async fn a_release_says_why_and_names_a_channel_that_there_is() {
    let harness = Harness::start(NOW).await;
    let request = held(&harness, HoldReason::CallBack).await;
    for (comment, channel, field) in [
        ("", 0, "comment"),
        (" \n\t", 0, "comment"),
        ("\u{0}", 0, "comment"),
        ("får skickas", 3, "channel"),
    ] {
        let call = v1::ReleaseHoldRequest {
            comment: comment.into(),
            channel,
            ..release(&request.name)
        };
        let status = released(&harness, call).await.expect_err(field);
        let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
        assert_eq!(refusal(&status), reason, "{comment:?}");
        assert_eq!(bad_fields(&status), [field], "{comment:?}");
    }
    for (length, taken) in [(2_001, false), (2_000, true)] {
        let call = v1::ReleaseHoldRequest {
            comment: "å".repeat(length),
            ..release(&request.name)
        };
        assert_eq!(released(&harness, call).await.is_ok(), taken, "{length}");
    }
}
