//! Truth first: SENT with the newest token is recorded over whatever has happened meanwhile, is
//! its kind's hand-over, and the next message counts from it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State as RequestState;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::{
    CancelReason, DeliveryChannel, HoldReason, NotificationKind, Protection,
};

use super::{FIRST, LAST, NOW, State, book, create, due_now, messages, states};
use crate::consumer::Outcomes as _;
use crate::consumer::{
    Consumer, acknowledge, answer, authorize, everything, lease, message, name, sent, step,
};
use crate::harness::Harness;
use crate::make;
use crate::worklist_user;

/// When the SENT of these tests is reported, and the hand-over that it tells of.
const REPORTED: &str = "2026-03-04T10:00:00Z";
const LEFT: &str = "2026-03-03T15:00:00Z";
/// 14 days on the calendar after the day of [`LEFT`].
const COUNTED_FROM_IT: &str = "2026-03-17T08:00:00Z";

fn unreachable(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Unreachable.into(),
        ..sent(due)
    }
}

fn sent_at(due: &v1::DueNotification, send_time: &str) -> v1::Acknowledgement {
    v1::Acknowledgement {
        send_time: Some(make::wire_at(send_time)),
        ..sent(due)
    }
}

async fn cancel(harness: &Harness, request: &str, reason: CancelReason) {
    let call = v1::CancelBookingRequestRequest {
        reason: reason.into(),
        ..make::wire_cancel(request)
    };
    harness.cancel(call).await.expect("cancelled");
}

async fn invite_again(harness: &Harness, request: &str) {
    let call = make::wire_invite(request);
    harness.invite(call).await.expect("a new round");
}

/// What happens to the request while its first message is leased.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Meanwhile {
    Nothing,
    LeaseRanOut,
    Retried,
    CalledBack,
    Protected,
    ReachLost,
    Parked,
    Unreachable,
    UnreachableAndLetterLeased,
    PurposeChanged,
    PeriodMoved,
    PeriodGrown,
    Booked,
    Declined,
    Cancelled,
    CancelledAsAsked,
    InvitedAnew,
}

async fn meanwhile(harness: &Harness, request: &str, due: &v1::DueNotification, what: Meanwhile) {
    match what {
        Meanwhile::Nothing => {}
        Meanwhile::LeaseRanOut => harness.advance("2026-03-02T10:00:00Z"),
        Meanwhile::Retried => answer(harness, crate::consumer::retry(due)).await,
        Meanwhile::CalledBack => {
            worklist_user::contact(harness, request, Contact::CallBack).await;
        }
        Meanwhile::Protected => {
            worklist_user::set_protection(harness, Protection::ConfidentialityMarked).await;
        }
        Meanwhile::ReachLost => {
            worklist_user::set_reach(harness, v1::InboxReach::None).await;
        }
        Meanwhile::Parked => {
            let park = v1::Acknowledgement {
                outcome: Outcome::Park.into(),
                ..sent(due)
            };
            answer(harness, park).await;
        }
        Meanwhile::Unreachable => answer(harness, unreachable(due)).await,
        Meanwhile::UnreachableAndLetterLeased => {
            answer(harness, unreachable(due)).await;
            assert_eq!(harness.lease_due().await.len(), 1);
        }
        Meanwhile::PurposeChanged => {
            worklist_user::change_purpose(harness, request, "Näsa").await;
        }
        Meanwhile::PeriodMoved => {
            let (first, last) = ("2026-05-18", "2026-06-12");
            worklist_user::change_period(harness, request, first, last, OnChange::Unspecified)
                .await;
        }
        Meanwhile::PeriodGrown => {
            worklist_user::change_period(harness, request, FIRST, "2026-06-30", OnChange::Keep)
                .await;
        }
        Meanwhile::Booked => book(harness, request).await,
        Meanwhile::Declined => {
            worklist_user::contact(harness, request, Contact::Declined).await;
        }
        Meanwhile::Cancelled => cancel(harness, request, CancelReason::UnitRequest).await,
        Meanwhile::CancelledAsAsked => {
            cancel(harness, request, CancelReason::PatientRequest).await;
        }
        Meanwhile::InvitedAnew => {
            worklist_user::contact(harness, request, Contact::CallBack).await;
            invite_again(harness, request).await;
        }
    }
}

#[tokio::test]
async fn sent_is_recorded_over_whatever_has_happened_meanwhile() {
    use Meanwhile as M;
    // What happened; the message's state then; sent_after_change; whether the next counts from it.
    for (what, state, sent_after_change, next) in [
        (M::Nothing, State::Leased, false, true),
        (M::LeaseRanOut, State::Leased, false, true),
        (M::Retried, State::Scheduled, false, true),
        (M::CalledBack, State::Scheduled, false, true),
        (M::Protected, State::Scheduled, false, true),
        (M::ReachLost, State::Leased, false, true),
        (M::Parked, State::Parked, false, true),
        (M::Unreachable, State::Cancelled, false, true),
        (M::UnreachableAndLetterLeased, State::Cancelled, false, true),
        (M::PurposeChanged, State::Scheduled, true, true),
        (M::PeriodMoved, State::Scheduled, true, true),
        (M::PeriodGrown, State::Scheduled, true, true),
        (M::Booked, State::Cancelled, true, false),
        (M::Declined, State::Cancelled, true, false),
        (M::Cancelled, State::Cancelled, true, false),
        (M::CancelledAsAsked, State::Cancelled, true, false),
        (M::InvitedAnew, State::Cancelled, true, false),
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let due = harness.lease_due().await.remove(0);
        meanwhile(&harness, &request, &due, what).await;
        let before = harness.get(&request).await.expect("a request");
        assert_eq!(messages(&harness, &request).await[0].state(), state);
        harness.advance(REPORTED);
        answer(&harness, sent_at(&due, LEFT)).await;

        let after = harness.get(&request).await.expect("a request");
        assert_eq!(after.state(), before.state(), "{what:?}");
        let before = before.care_invitation.expect("an invitation");
        let invitation = after.care_invitation.expect("an invitation");
        let hold = before.hold_reason();
        assert_eq!(invitation.hold_reason(), hold, "{what:?}: a hold stays");
        let recorded = &invitation.notifications[0];
        assert_eq!(recorded.name, name(&due));
        assert_eq!(recorded.state(), State::Sent, "{what:?}");
        assert_eq!(recorded.send_time, Some(make::wire_at(LEFT)), "{what:?}");
        assert_eq!(recorded.sent_after_change, sent_after_change, "{what:?}");
        assert_eq!(recorded.channel(), DeliveryChannel::Inbox, "{what:?}");
        let reminder = invitation
            .notifications
            .iter()
            .find(|it| step(it) == (NotificationKind::Reminder, 1) && it.round == 1);
        let counted = reminder.map(|it| it.due_time.expect("a time"));
        let expected = next.then(|| make::wire_at(COUNTED_FROM_IT));
        assert_eq!(counted, expected, "{what:?}");

        assert_no_second(&harness, &request, &due, what).await;
    }
}

/// Whatever is released, the kind does not go out a second time in its round.
async fn assert_no_second(
    harness: &Harness,
    request: &str,
    due: &v1::DueNotification,
    what: Meanwhile,
) {
    let shown = harness.get(request).await.expect("a request");
    let held = shown.care_invitation.expect("an invitation").hold_reason();
    if held != HoldReason::Unspecified {
        worklist_user::release(harness, request, DeliveryChannel::Unspecified).await;
    }
    for when in [REPORTED, "2026-03-04T12:00:00Z"] {
        harness.advance(when);
        for leased in harness.lease_due().await {
            let same = message(&leased).kind() == message(due).kind();
            let round = message(&leased).round;
            assert!(!(same && round == 1), "{what:?}: a second hand-over");
        }
    }
    // Saying it once more is answered as the first time and changes nothing.
    let before = harness.get(request).await.expect("a request");
    answer(harness, sent_at(due, "2026-03-04T09:00:00Z")).await;
    let after = harness.get(request).await.expect("a request");
    assert!(after == before, "{what:?}: {:?}", after.care_invitation);
    let live = shown.state == i32::from(RequestState::Invited);
    if live && message(due).round == after.care_invitation.expect("an invitation").round {
        harness.advance(COUNTED_FROM_IT);
        let reminders = harness.lease_due().await;
        assert_eq!(reminders.len(), 1, "{what:?}");
        let kind = (NotificationKind::Reminder, 1);
        assert_eq!(step(message(&reminders[0])), kind, "{what:?}");
        let left = Some(make::wire_at(LEFT));
        assert_eq!(reminders[0].previous_send_time, left, "{what:?}");
    }
}

#[tokio::test]
async fn the_letter_that_waited_in_place_of_what_was_sent_after_all_is_taken_back() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let inbox = harness.lease_due().await.remove(0);
    answer(&harness, unreachable(&inbox)).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let letter = consumer.due().await;
    answer(&harness, sent(&inbox)).await;
    assert_eq!(consumer.revoked().await, name(&letter));
    let refused = authorize(&harness, vec![lease(&letter)]).await;
    assert_eq!(refused.expect("answered").refused(), [name(&letter)]);
    let shown = states(&harness, &request).await;
    let expected = [
        State::Sent,
        State::Cancelled,
        State::Scheduled,
        State::Projected,
    ];
    assert_eq!(shown, expected);
}

#[tokio::test]
async fn the_next_message_counts_from_the_later_of_two_hand_overs_of_a_kind() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let inbox = harness.lease_due().await.remove(0);
    answer(&harness, unreachable(&inbox)).await;
    let letter = harness.hand_over_due().await.remove(0);
    assert_ne!(name(&letter), name(&inbox));
    // The consumer was wrong: the inbox took it after all, five days later.
    harness.advance("2026-03-07T10:00:00Z");
    answer(&harness, sent(&inbox)).await;
    let shown = messages(&harness, &request).await;
    let reminder = shown
        .iter()
        .find(|it| step(it) == (NotificationKind::Reminder, 1));
    let due = reminder.expect("planned").due_time;
    assert_eq!(due, Some(make::wire_at("2026-03-21T08:00:00Z")));
}

#[tokio::test]
async fn the_last_reminder_counts_from_a_first_message_that_was_sent_late() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let inbox = harness.lease_due().await.remove(0);
    answer(&harness, unreachable(&inbox)).await;
    harness.hand_over_due().await;
    harness.advance("2026-03-16T08:00:00Z");
    harness.hand_over_due().await;
    // The consumer was wrong: the inbox took the first message after all.
    harness.advance("2026-03-22T10:00:00Z");
    answer(&harness, sent(&inbox)).await;
    let shown = messages(&harness, &request).await;
    let last = shown.last().expect("planned");
    assert_eq!(step(last), (NotificationKind::Reminder, 2));
    assert_eq!(last.state(), State::Scheduled);
    assert_eq!(last.due_time, Some(make::wire_at("2026-04-05T07:00:00Z")));
}

#[tokio::test]
async fn the_token_of_a_message_that_was_leased_anew_counts_for_nothing() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let old = harness.lease_due().await.remove(0);
    worklist_user::change_purpose(&harness, &request, "Näsa").await;
    let new = harness.lease_due().await.remove(0);
    assert_eq!(name(&old), name(&new));
    assert!(new.possible_repeat);
    let lost = acknowledge(&harness, vec![sent(&old)]).await;
    assert_eq!(lost.expect("answered"), [name(&old)]);
    assert_eq!(states(&harness, &request).await[0], State::Leased);
    answer(&harness, sent(&new)).await;
    let shown = messages(&harness, &request).await;
    assert!(
        !shown[0].sent_after_change,
        "it left as the request says now"
    );
}

#[tokio::test]
async fn what_was_on_its_way_when_the_request_changed_is_superseded() {
    for (row, sent_after_change) in [("changed", true), ("held", false), ("neither", false)] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let due = harness.lease_due().await.remove(0);
        authorize(&harness, vec![lease(&due)]).await.expect("given");
        match row {
            "changed" => {
                worklist_user::change_purpose(&harness, &request, "Näsa").await;
            }
            "held" => {
                worklist_user::contact(&harness, &request, Contact::CallBack).await;
            }
            _ => {}
        }
        assert_eq!(states(&harness, &request).await[0], State::Dispatching);
        answer(&harness, sent(&due)).await;
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].sent_after_change, sent_after_change, "{row}");
    }
}

#[tokio::test]
async fn what_left_after_the_period_is_sent_after_change_and_what_left_in_it_is_not() {
    for (left, sent_after_change) in [
        ("2026-03-13T22:59:59Z", false),
        ("2026-03-13T23:00:00Z", true),
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, make::wire_form("2026-03-09", "2026-03-13")).await;
        let due = harness.lease_due().await.remove(0);
        harness.advance("2026-03-14T09:00:00Z");
        assert_eq!(states(&harness, &request).await[0], State::Skipped);
        answer(&harness, sent_at(&due, left)).await;
        let shown = harness.get(&request).await.expect("a request");
        assert_eq!(shown.state(), RequestState::Expired);
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].state(), State::Sent);
        assert_eq!(shown[0].sent_after_change, sent_after_change, "{left}");
        assert!(shown[1..].iter().all(|it| it.state() == State::Skipped));
    }
}

#[tokio::test]
async fn a_cancelled_invitation_that_was_sent_after_all_is_withdrawn_once() {
    for (reason, withdrawn) in [
        (CancelReason::UnitRequest, true),
        (CancelReason::ReferralWithdrawn, true),
        (CancelReason::PatientRequest, false),
        (CancelReason::PatientDeceased, false),
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let due = harness.lease_due().await.remove(0);
        cancel(&harness, &request, reason).await;
        assert!(harness.lease_due().await.is_empty(), "{reason:?}");
        for _ in 0..2 {
            answer(&harness, sent(&due)).await;
        }
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].state(), State::Sent);
        assert!(shown[0].sent_after_change);
        let withdrawal = harness.hand_over_due().await;
        let kinds: Vec<_> = withdrawal.iter().map(|it| message(it).kind()).collect();
        let expected = withdrawn.then_some(NotificationKind::Withdrawal);
        assert_eq!(kinds, Vec::from_iter(expected), "{reason:?}");
        for sent in withdrawal {
            assert_eq!(message(&sent).channel(), DeliveryChannel::Inbox);
        }
        harness.advance("2026-04-06T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{reason:?}");
    }
}

#[tokio::test]
async fn a_late_reminder_is_recorded_and_the_last_counts_from_it() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    harness.hand_over_due().await;
    harness.advance("2026-03-16T08:00:00Z");
    let reminder = harness.lease_due().await.remove(0);
    worklist_user::will_book(&harness, &request, "2026-03-20").await;
    harness.advance("2026-03-18T12:00:00Z");
    answer(&harness, sent_at(&reminder, "2026-03-17T12:00:00Z")).await;
    let shown = harness.get(&request).await.expect("a request");
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::WillBook);
    let last = &invitation.notifications[2];
    assert_eq!(step(last), (NotificationKind::Reminder, 2));
    assert_eq!(last.state(), State::Scheduled);
    assert_eq!(last.due_time, Some(make::wire_at("2026-03-31T07:00:00Z")));
    harness.advance("2026-04-01T07:00:00Z");
    assert!(harness.lease_due().await.is_empty(), "it is held");
    worklist_user::release(&harness, &request, DeliveryChannel::Unspecified).await;
    let last = harness.hand_over_due().await;
    assert_eq!(last.len(), 1);
    // Silence counts from the last hand-over.
    let shown = harness.get(&request).await.expect("a request");
    let silence = shown
        .care_invitation
        .expect("an invitation")
        .no_response_time;
    assert_eq!(silence, Some(make::wire_at("2026-04-15T07:00:00Z")));
}

#[tokio::test]
async fn a_second_reminder_sent_late_ends_in_no_response_once_the_hold_is_lifted() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    for due in [NOW, "2026-03-16T08:00:00Z"] {
        harness.advance(due);
        harness.hand_over_due().await;
    }
    harness.advance("2026-03-30T07:00:00Z");
    let last = harness.lease_due().await.remove(0);
    let park = v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(&last)
    };
    answer(&harness, park).await;
    answer(&harness, sent(&last)).await;
    harness.advance("2026-04-20T07:00:00Z");
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::Invited);
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::Parked);
    assert_eq!(invitation.no_response_time, None);
    let released = worklist_user::release(&harness, &request, DeliveryChannel::Unspecified).await;
    assert_eq!(released.state(), RequestState::NoResponse);
    let invitation = released.care_invitation.expect("an invitation");
    let silence = Some(make::wire_at("2026-04-13T07:00:00Z"));
    assert_eq!(invitation.no_response_time, silence);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn sent_of_the_round_before_leaves_a_longer_period_of_the_new_round_alone() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let old = harness.lease_due().await.remove(0);
    authorize(&harness, vec![lease(&old)]).await.expect("given");
    worklist_user::change_period(&harness, &request, "2026-05-18", LAST, OnChange::Restart).await;
    let before = messages(&harness, &request).await;
    assert_eq!(before[0].state(), State::Dispatching);
    assert_eq!((before[1].round, before[1].state()), (2, State::Scheduled));
    answer(&harness, sent(&old)).await;
    let after = messages(&harness, &request).await;
    assert_eq!(after[0].state(), State::Sent);
    assert!(after[0].sent_after_change);
    assert_eq!(after[1..], before[1..]);
}

#[tokio::test]
async fn a_letter_on_its_way_goes_once_at_most_when_what_it_replaces_has_left_after_all() {
    for outcome in [
        None,
        Some(Outcome::Retry),
        Some(Outcome::Unreachable),
        Some(Outcome::Park),
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let inbox = harness.lease_due().await.remove(0);
        answer(&harness, unreachable(&inbox)).await;
        let letter = harness.lease_due().await.remove(0);
        let authorized = authorize(&harness, vec![lease(&letter)])
            .await
            .expect("asked");
        assert!(authorized.results[0].authorized);
        answer(&harness, sent(&inbox)).await;
        let again = authorize(&harness, vec![lease(&letter)])
            .await
            .expect("asked");
        let refusal = again.results[0].refusal();
        assert_eq!(refusal, v1::DispatchRefusal::Changed, "its kind has left");
        if let Some(outcome) = outcome {
            let unsent = v1::Acknowledgement {
                outcome: outcome.into(),
                ..sent(&letter)
            };
            answer(&harness, unsent).await;
        }
        harness.advance("2026-03-03T10:00:00Z");
        assert_eq!(harness.lease_due().await, [], "{outcome:?}");
        let read = harness.get(&request).await.expect("read");
        let invitation = read.care_invitation.expect("an invitation");
        assert_eq!(
            invitation.hold_reason(),
            HoldReason::Unspecified,
            "{outcome:?}"
        );
        let letter = &invitation.notifications[1];
        assert_eq!(
            (letter.state(), letter.cause()),
            (State::Cancelled, NotificationCause::HandedOver)
        );
    }
}
