//! ReportDelivery: what is learned about a message after it was sent, and the letter that follows.

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State as RequestState;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{
    Action, ChannelReason, DeliveryChannel, HoldReason, InboxReach, NotificationKind, Protection,
};
use chrono::Duration;
use prost_types::Timestamp;
use tonic::Code;

use super::{NOW, State, book, create, due_now, messages, states};
use crate::consumer::{answer, authorize, lease, message, name, sent, step};
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;
use crate::make::at;
use crate::worklist_user;

const RECEIPTS: [Receipt; 3] = [Receipt::Read, Receipt::Unread, Receipt::Returned];
const FIRST_REMINDER: &str = "2026-03-16T08:00:00Z";
const SECOND_REMINDER: &str = "2026-03-30T07:00:00Z";

const INBOX: (DeliveryChannel, ChannelReason) = (DeliveryChannel::Inbox, ChannelReason::Default);
const UNREAD: (DeliveryChannel, ChannelReason) = (DeliveryChannel::Letter, ChannelReason::Unread);
const FAILED: (DeliveryChannel, ChannelReason) =
    (DeliveryChannel::Letter, ChannelReason::DigitalFailed);

fn chosen(message: &v1::Notification) -> (DeliveryChannel, ChannelReason) {
    (message.channel(), message.channel_reason())
}

/// A request of which the first message has been handed over, and that message's name.
async fn handed_over(harness: &Harness) -> (String, String) {
    let request = create(harness, due_now("R-1")).await;
    let due = harness.hand_over_due().await;
    assert_eq!(due.len(), 1);
    (request, name(&due[0]))
}

/// One that goes out as a letter, because the patient does not use 1177.
async fn letter_handed_over(harness: &Harness) -> (String, String) {
    let form = v1::BookingRequest {
        patient: Some(v1::Patient {
            inbox_reach: InboxReach::None.into(),
            ..due_now("R-1").patient.expect("a patient")
        }),
        ..due_now("R-1")
    };
    let request = create(harness, form).await;
    let due = harness.hand_over_due().await;
    assert_eq!(message(&due[0]).channel(), DeliveryChannel::Letter);
    (request, name(&due[0]))
}

async fn hold_of(harness: &Harness, request: &str) -> HoldReason {
    let request = harness.get(request).await.expect("a request");
    let invitation = request.care_invitation.expect("an invitation");
    invitation.hold_reason()
}

/// The events of a request's history that tell of messages.
async fn told(harness: &Harness, request: &str) -> Vec<&'static str> {
    let history = harness.history(request).await;
    let events = history.iter().map(worklist_user::event);
    events
        .filter(|it| it.starts_with("NOTIFICATION_") && *it != "NOTIFICATION_SENT")
        .collect()
}

#[tokio::test]
async fn read_is_shown_with_its_time_and_nothing_follows() {
    for (event_time, expected) in [
        (None, "2026-03-05T12:00:00Z"),
        (Some("2026-03-04T08:30:00Z"), "2026-03-04T08:30:00Z"),
        (Some("2026-03-05T12:00:00Z"), "2026-03-05T12:00:00Z"),
        // It cannot have been read before it was sent.
        (Some("2026-02-01T08:30:00Z"), NOW),
    ] {
        let harness = Harness::start(NOW).await;
        let (request, first) = handed_over(&harness).await;
        assert_eq!(messages(&harness, &request).await[0].read_time, None);
        harness.advance("2026-03-05T12:00:00Z");
        let event_time = event_time.map(make::wire_at);
        let reported = worklist_user::try_report(&harness, &first, Receipt::Read, event_time).await;
        assert_eq!(reported.expect("recorded"), None);
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].read_time, Some(make::wire_at(expected)));
        let plan = states(&harness, &request).await;
        assert_eq!(plan, [State::Sent, State::Scheduled, State::Projected]);
        assert_eq!(told(&harness, &request).await, ["NOTIFICATION_READ"]);
        assert!(harness.lease_due().await.is_empty());
    }
}

#[tokio::test]
async fn the_same_follows_as_a_letter_at_once_and_the_reminders_keep_their_dates() {
    for (receipt, expected, reminders, cause) in [
        (
            Receipt::Unread,
            UNREAD,
            INBOX,
            NotificationCause::Unspecified,
        ),
        (
            Receipt::Returned,
            FAILED,
            FAILED,
            NotificationCause::Returned,
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let (request, first) = handed_over(&harness).await;
        harness.advance("2026-03-09T13:00:00Z");
        let follows = worklist_user::report(&harness, &first, receipt).await;
        let follows = follows.expect("a letter");
        assert_ne!(follows.name, first);
        assert_eq!(follows.kind(), NotificationKind::Invitation);
        assert_eq!((follows.round, follows.state()), (1, State::Scheduled));
        assert_eq!(chosen(&follows), expected);
        let now = Some(make::wire_at("2026-03-09T13:00:00Z"));
        assert_eq!(follows.due_time, now);
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].cause(), cause);
        assert_eq!(shown[0].state(), State::Sent);
        assert_eq!(chosen(&shown[0]), INBOX);
        assert!(shown.contains(&follows));
        assert_eq!(hold_of(&harness, &request).await, HoldReason::Unspecified);

        // It is printed a day later.
        harness.advance("2026-03-10T13:00:00Z");
        let letter = harness.hand_over_due().await;
        assert_eq!(letter.len(), 1);
        assert_eq!(name(&letter[0]), follows.name);
        assert_eq!(chosen(message(&letter[0])), expected);
        assert_eq!(letter[0].previous_send_time, Some(make::wire_at(NOW)));
        for due in [FIRST_REMINDER, SECOND_REMINDER] {
            let before = at(due) - Duration::microseconds(1);
            harness.clock.advance(before).expect("forward");
            assert!(harness.lease_due().await.is_empty(), "{due}");
            harness.advance(due);
            let reminder = harness.hand_over_due().await;
            assert_eq!(reminder.len(), 1, "{due}");
            assert_eq!(chosen(message(&reminder[0])), reminders);
        }
    }
}

#[tokio::test]
async fn a_letter_that_follows_is_a_letter_whatever_is_learned_of_the_inbox() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    worklist_user::report(&harness, &first, Receipt::Unread).await;
    worklist_user::set_reach(&harness, InboxReach::Inbox).await;
    let letter = harness.lease_due().await.remove(0);
    assert_eq!(chosen(message(&letter)), UNREAD);
    harness.advance("2026-03-02T09:01:00Z");
    let again = harness.lease_due().await.remove(0);
    assert_eq!(name(&again), name(&letter));
    assert_eq!(chosen(message(&again)), UNREAD);
    assert_eq!(chosen(&messages(&harness, &request).await[1]), INBOX);
}

#[tokio::test]
async fn after_an_unread_message_a_letter_follows_when_the_next_is_more_than_three_days_away() {
    let second = Duration::seconds(1);
    let micro = Duration::microseconds(1);
    for (sent_first, sent_then, edge) in [
        // The reminder is due on 16 March at 09:00, local time.
        (NOW, None, "2026-03-13T08:00:00Z"),
        // On 30 March, with the change of clocks between: three days on the calendar.
        (NOW, Some(FIRST_REMINDER), "2026-03-27T08:00:00Z"),
    ] {
        for (reported_at, follows) in [
            (at(edge) - second, true),
            (at(edge) - micro, true),
            (at(edge), false),
            (at(edge) + micro, false),
            (at(edge) + Duration::days(2), false),
        ] {
            let harness = Harness::start(sent_first).await;
            let (request, mut latest) = handed_over(&harness).await;
            if let Some(then) = sent_then {
                harness.advance(then);
                latest = name(&harness.hand_over_due().await[0]);
            }
            harness.clock.advance(reported_at).expect("forward");
            let before = messages(&harness, &request).await.len();
            let letter = worklist_user::report(&harness, &latest, Receipt::Unread).await;
            assert_eq!(letter.is_some(), follows, "{reported_at}");
            let count = before + usize::from(follows);
            assert_eq!(messages(&harness, &request).await.len(), count);
            let last = told(&harness, &request).await;
            assert_eq!(last, ["NOTIFICATION_UNREAD"], "{reported_at}");
        }
    }
}

#[tokio::test]
async fn no_letter_follows_a_message_that_was_reported_unread_after_it_was_read() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    worklist_user::report(&harness, &first, Receipt::Read).await;
    assert_eq!(
        worklist_user::report(&harness, &first, Receipt::Unread).await,
        None
    );
    let recorded = ["NOTIFICATION_READ", "NOTIFICATION_UNREAD"];
    assert_eq!(told(&harness, &request).await, recorded);
    // It came back all the same, says the inbox.
    let follows = worklist_user::report(&harness, &first, Receipt::Returned).await;
    assert_eq!(chosen(&follows.expect("a letter")), FAILED);
}

#[tokio::test]
async fn after_a_returned_message_a_letter_follows_however_near_the_next_is() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    harness.advance("2026-03-16T07:59:59Z");
    let letter = worklist_user::report(&harness, &first, Receipt::Returned).await;
    assert_eq!(chosen(&letter.expect("a letter")), FAILED);
    let shown = messages(&harness, &request).await;
    assert_eq!(shown[1].due_time, Some(make::wire_at(FIRST_REMINDER)));
}

#[tokio::test]
async fn a_letter_follows_the_last_message_and_one_after_which_the_period_ends() {
    let harness = Harness::start(NOW).await;
    let (request, last) = all_handed_over(&harness).await;
    harness.advance("2026-04-10T12:00:00Z");
    let letter = worklist_user::report(&harness, &last, Receipt::Unread).await;
    assert_eq!(
        step(&letter.expect("a letter")),
        (NotificationKind::Reminder, 2)
    );
    harness.hand_over_due().await;
    // Silence counts from the last hand-over.
    let shown = harness.get(&request).await.expect("a request");
    let silence = shown.care_invitation.expect("one").no_response_time;
    assert_eq!(silence, Some(make::wire_at("2026-04-24T07:00:00Z")));

    let harness = Harness::start(NOW).await;
    create(&harness, make::wire_form("2026-03-09", "2026-03-13")).await;
    let only = name(&harness.hand_over_due().await[0]);
    harness.advance("2026-03-13T22:59:59Z");
    let letter = worklist_user::report(&harness, &only, Receipt::Unread).await;
    assert!(letter.is_some(), "the reminders are skipped");
}

/// A request whose messages have all been handed over, and the name of the last.
async fn all_handed_over(harness: &Harness) -> (String, String) {
    let (request, mut last) = handed_over(harness).await;
    for due in [FIRST_REMINDER, SECOND_REMINDER] {
        harness.advance(due);
        last = name(&harness.hand_over_due().await[0]);
    }
    (request, last)
}

/// When silence after the second reminder is NO_RESPONSE, and a moment before.
const SILENCE: &str = "2026-04-13T07:00:00Z";
const BEFORE_SILENCE: &str = "2026-04-13T06:00:00Z";

async fn silence(harness: &Harness, request: &str) -> (RequestState, Option<Timestamp>) {
    let shown = harness.get(request).await.expect("a request");
    let invitation = shown.care_invitation.clone().expect("an invitation");
    (shown.state(), invitation.no_response_time)
}

#[tokio::test]
async fn nobody_is_silent_while_a_letter_that_follows_waits_or_is_on_its_way() {
    for receipt in [Receipt::Unread, Receipt::Returned] {
        let harness = Harness::start(NOW).await;
        let (request, last) = all_handed_over(&harness).await;
        assert_eq!(
            silence(&harness, &request).await,
            (RequestState::Invited, Some(make::wire_at(SILENCE)))
        );
        harness.advance(BEFORE_SILENCE);
        let letter = worklist_user::report(&harness, &last, receipt).await;
        letter.expect("a letter");
        harness.advance(SILENCE);
        let waits = (RequestState::Invited, None);
        assert_eq!(silence(&harness, &request).await, waits, "{receipt:?}");
        let due = harness.lease_due().await;
        assert_eq!(silence(&harness, &request).await, waits, "{receipt:?}");
        harness.acknowledge_sent(&due).await;
        let later = Some(make::wire_at("2026-04-27T07:00:00Z"));
        assert_eq!(
            silence(&harness, &request).await,
            (RequestState::Invited, later),
            "{receipt:?}"
        );
    }
}

#[tokio::test]
async fn silence_counts_as_before_once_the_letter_is_not_needed() {
    let harness = Harness::start(NOW).await;
    let (request, last) = all_handed_over(&harness).await;
    harness.advance(BEFORE_SILENCE);
    let letter = worklist_user::report(&harness, &last, Receipt::Unread).await;
    letter.expect("a letter");
    worklist_user::report(&harness, &last, Receipt::Read).await;
    harness.advance(SILENCE);
    assert_eq!(
        silence(&harness, &request).await,
        (RequestState::NoResponse, Some(make::wire_at(SILENCE)))
    );
}

#[tokio::test]
async fn a_receipt_that_was_reported_before_changes_nothing_and_answers_as_it_did() {
    for receipt in RECEIPTS {
        let harness = Harness::start(NOW).await;
        let (request, first) = handed_over(&harness).await;
        harness.advance("2026-03-05T12:00:00Z");
        let followed = worklist_user::report(&harness, &first, receipt).await;
        let follows = receipt != Receipt::Read;
        assert_eq!(followed.is_some(), follows);
        let before = harness.get(&request).await.expect("a request");
        let written = worklist_user::history(&harness, &request).await.len();
        harness.advance("2026-03-06T12:00:00Z");
        for event_time in [None, Some(make::wire_at("2026-03-04T12:00:00Z"))] {
            let again = worklist_user::try_report(&harness, &first, receipt, event_time).await;
            assert_eq!(again.expect("recorded"), followed, "{receipt:?}");
            let after = harness.get(&request).await.expect("a request");
            assert!(after == before, "{receipt:?}");
        }
        // The letter is named as it stands then.
        let sent = harness.hand_over_due().await;
        assert_eq!(sent.len(), usize::from(follows));
        let again = worklist_user::report(&harness, &first, receipt).await;
        let state = again.map(|letter| letter.state());
        assert_eq!(state, follows.then_some(State::Sent), "{receipt:?}");
        let now_written = worklist_user::history(&harness, &request).await.len();
        assert_eq!(now_written, written + sent.len());
    }
}

#[tokio::test]
async fn a_receipt_that_no_letter_followed_is_followed_by_none_when_it_is_repeated() {
    for receipt in [Receipt::Unread, Receipt::Returned] {
        let harness = Harness::start(NOW).await;
        let (request, first) = handed_over(&harness).await;
        worklist_user::contact(&harness, &request, Contact::CallBack).await;
        assert_eq!(worklist_user::report(&harness, &first, receipt).await, None);
        worklist_user::release(&harness, &request, DeliveryChannel::Unspecified).await;
        assert_eq!(worklist_user::report(&harness, &first, receipt).await, None);
        assert!(harness.lease_due().await.is_empty(), "{receipt:?}");
    }
}

#[tokio::test]
async fn a_letter_follows_once_a_message() {
    for (one, other, reminders) in [
        (Receipt::Unread, Receipt::Returned, FAILED),
        (Receipt::Returned, Receipt::Unread, FAILED),
        (Receipt::Unread, Receipt::Read, INBOX),
    ] {
        for letter_is_out in [false, true] {
            let harness = Harness::start(NOW).await;
            let (request, first) = handed_over(&harness).await;
            let letter = worklist_user::report(&harness, &first, one).await;
            let letter = letter.expect("a letter");
            if letter_is_out {
                harness.hand_over_due().await;
            }
            worklist_user::report(&harness, &first, other).await;
            let shown = messages(&harness, &request).await;
            let kind = NotificationKind::Invitation;
            let same = shown.iter().filter(|it| it.kind() == kind).count();
            assert_eq!(same, 2, "{one:?} then {other:?}");
            let reminder = shown.iter().find(|it| it.state() == State::Projected);
            assert_eq!(chosen(reminder.expect("one")), reminders);
            let letter = shown.iter().find(|it| it.name == letter.name);
            assert_eq!(hold_of(&harness, &request).await, HoldReason::Unspecified);
            assert!(letter.is_some());
        }
    }
}

#[tokio::test]
async fn a_letter_follows_each_message_that_was_the_latest_when_it_was_reported() {
    let harness = Harness::start(NOW).await;
    let (_, first) = handed_over(&harness).await;
    worklist_user::report(&harness, &first, Receipt::Unread).await;
    harness.hand_over_due().await;
    harness.advance(FIRST_REMINDER);
    let reminder = harness.hand_over_due().await.remove(0);
    harness.advance("2026-03-20T08:00:00Z");
    let letter = worklist_user::report(&harness, &name(&reminder), Receipt::Unread).await;
    let letter = letter.expect("a letter");
    assert_eq!(step(&letter), (NotificationKind::Reminder, 1));
    let sent = harness.hand_over_due().await;
    assert_eq!(sent.len(), 1);
    assert_eq!(name(&sent[0]), letter.name);
}

#[tokio::test]
async fn no_letter_follows_a_message_that_another_has_followed() {
    for receipt in [Receipt::Unread, Receipt::Returned] {
        let harness = Harness::start(NOW).await;
        let (request, first) = handed_over(&harness).await;
        harness.advance(FIRST_REMINDER);
        harness.hand_over_due().await;
        assert_eq!(worklist_user::report(&harness, &first, receipt).await, None);
        assert!(harness.lease_due().await.is_empty());
        // That the inbox has failed is learned all the same.
        let shown = messages(&harness, &request).await;
        let expected = if receipt == Receipt::Returned {
            FAILED
        } else {
            INBOX
        };
        assert_eq!(chosen(&shown[2]), expected, "{receipt:?}");
    }
}

#[tokio::test]
async fn a_receipt_of_a_round_that_is_over_says_nothing_of_the_new_one() {
    for receipt in RECEIPTS {
        for by_letter in [false, true] {
            let harness = Harness::start(NOW).await;
            let (request, first) = if by_letter {
                letter_handed_over(&harness).await
            } else {
                handed_over(&harness).await
            };
            worklist_user::contact(&harness, &request, Contact::CallBack).await;
            let call = make::wire_invite(&request);
            harness.invite(call).await.expect("a new round");
            assert_eq!(worklist_user::report(&harness, &first, receipt).await, None);
            let hold = hold_of(&harness, &request).await;
            assert_eq!(hold, HoldReason::Unspecified, "{receipt:?}");
            let second = harness.lease_due().await;
            assert_eq!(second.len(), 1);
            assert_eq!(message(&second[0]).round, 2);
            if !by_letter {
                assert_eq!(chosen(message(&second[0])), INBOX, "{receipt:?}");
            }
        }
    }
}

/// What keeps a letter from following.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Situation {
    CalledBack,
    WillBook,
    NoSuitableTime,
    Booked,
    Declined,
    Cancelled,
    NoResponse,
    Expired,
    FixedByStaff,
    Protected,
}

/// A request in a situation, and the name of its latest message, sent to the inbox.
async fn situation(harness: &Harness, what: Situation) -> (String, String) {
    match what {
        Situation::FixedByStaff => {
            let request = create(harness, due_now("R-1")).await;
            worklist_user::contact(harness, &request, Contact::CallBack).await;
            worklist_user::release(harness, &request, DeliveryChannel::Inbox).await;
            let due = harness.hand_over_due().await;
            return (request, name(&due[0]));
        }
        Situation::Protected => {
            let form = v1::BookingRequest {
                patient: Some(v1::Patient {
                    protection: Protection::ConfidentialityMarked.into(),
                    ..due_now("R-1").patient.expect("a patient")
                }),
                ..due_now("R-1")
            };
            let request = create(harness, form).await;
            worklist_user::release(harness, &request, DeliveryChannel::Unspecified).await;
            let due = harness.hand_over_due().await;
            return (request, name(&due[0]));
        }
        _ => {}
    }
    let (request, mut latest) = handed_over(harness).await;
    match what {
        Situation::CalledBack => {
            worklist_user::contact(harness, &request, Contact::CallBack).await;
        }
        Situation::WillBook => {
            worklist_user::contact(harness, &request, Contact::WillBook).await;
        }
        Situation::NoSuitableTime => {
            worklist_user::contact(harness, &request, Contact::NoSuitableTime).await;
        }
        Situation::Booked => book(harness, &request).await,
        Situation::Declined => {
            worklist_user::contact(harness, &request, Contact::Declined).await;
        }
        Situation::Cancelled => {
            let call = v1::CancelBookingRequestRequest {
                reason: v1::CancelReason::PatientRequest.into(),
                ..make::wire_cancel(&request)
            };
            harness.cancel(call).await.expect("cancelled");
        }
        Situation::NoResponse => {
            for due in [FIRST_REMINDER, SECOND_REMINDER] {
                harness.advance(due);
                latest = name(&harness.hand_over_due().await[0]);
            }
            harness.advance("2026-04-13T07:00:00Z");
        }
        Situation::Expired => harness.advance("2026-06-12T22:00:00Z"),
        Situation::FixedByStaff | Situation::Protected => unreachable!("made above"),
    }
    (request, latest)
}

#[tokio::test]
async fn no_letter_follows_unless_the_invitation_lives_unheld_with_a_channel_of_its_own() {
    for what in [
        Situation::CalledBack,
        Situation::WillBook,
        Situation::NoSuitableTime,
        Situation::Booked,
        Situation::Declined,
        Situation::Cancelled,
        Situation::NoResponse,
        Situation::Expired,
        Situation::FixedByStaff,
        Situation::Protected,
    ] {
        for receipt in [Receipt::Unread, Receipt::Returned] {
            let harness = Harness::start(NOW).await;
            let (request, latest) = situation(&harness, what).await;
            let before = harness.get(&request).await.expect("a request");
            let followed = worklist_user::report(&harness, &latest, receipt).await;
            assert_eq!(followed, None, "{what:?} {receipt:?}");
            // It is recorded all the same, and leaves the request where it was.
            let after = harness.get(&request).await.expect("a request");
            assert_ne!(after.etag, before.etag, "{what:?} {receipt:?}");
            assert_eq!(after.state(), before.state());
            let invitation = after.care_invitation.expect("an invitation");
            let hold = before.care_invitation.expect("one").hold_reason();
            assert_eq!(invitation.hold_reason(), hold, "{what:?} {receipt:?}");
            let action = told(&harness, &request).await.pop();
            let expected = match receipt {
                Receipt::Unread => "NOTIFICATION_UNREAD",
                _ => "NOTIFICATION_RETURNED",
            };
            assert_eq!(action, Some(expected));
            assert!(harness.lease_due().await.is_empty(), "{what:?}");
        }
    }
}

#[tokio::test]
async fn no_letter_follows_an_unread_letter() {
    let harness = Harness::start(NOW).await;
    let (request, letter) = letter_handed_over(&harness).await;
    assert_eq!(
        worklist_user::report(&harness, &letter, Receipt::Unread).await,
        None
    );
    assert_eq!(hold_of(&harness, &request).await, HoldReason::Unspecified);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn a_letter_that_came_back_holds_the_invitation_as_undeliverable() {
    for contact in [None, Some(Contact::CallBack)] {
        let harness = Harness::start(NOW).await;
        let (request, letter) = letter_handed_over(&harness).await;
        if let Some(contact) = contact {
            worklist_user::contact(&harness, &request, contact).await;
        }
        harness.advance(FIRST_REMINDER);
        let leased = harness.lease_due().await;
        assert_eq!(leased.len(), usize::from(contact.is_none()));
        let followed = worklist_user::report(&harness, &letter, Receipt::Returned).await;
        assert_eq!(followed, None);
        let shown = harness.get(&request).await.expect("a request");
        assert_eq!(shown.state(), RequestState::Invited);
        assert!(shown.allowed_actions().any(|it| it == Action::ReleaseHold));
        let invitation = shown.care_invitation.expect("an invitation");
        assert_eq!(invitation.hold_reason(), HoldReason::Undeliverable);
        assert_eq!(invitation.notifications[0].state(), State::Sent);
        assert_eq!(
            invitation.notifications[0].cause(),
            NotificationCause::Returned
        );
        // What was leased is taken back.
        assert_eq!(invitation.notifications[1].state(), State::Scheduled);
        harness.advance("2026-03-20T08:00:00Z");
        assert!(harness.lease_due().await.is_empty());
        worklist_user::release(&harness, &request, DeliveryChannel::Unspecified).await;
        assert_eq!(harness.lease_due().await.len(), 1);
    }
}

#[tokio::test]
async fn the_letter_that_followed_holds_the_invitation_when_it_comes_back_too() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    worklist_user::report(&harness, &first, Receipt::Returned).await;
    let letter = harness.hand_over_due().await.remove(0);
    let followed = worklist_user::report(&harness, &name(&letter), Receipt::Returned).await;
    assert_eq!(followed, None);
    assert_eq!(hold_of(&harness, &request).await, HoldReason::Undeliverable);
}

#[tokio::test]
async fn a_withdrawal_that_came_back_is_recorded_and_nothing_follows() {
    for by_letter in [false, true] {
        let harness = Harness::start(NOW).await;
        let (request, _) = if by_letter {
            letter_handed_over(&harness).await
        } else {
            handed_over(&harness).await
        };
        let call = make::wire_cancel(&request);
        harness.cancel(call).await.expect("cancelled");
        let withdrawal = harness.hand_over_due().await.remove(0);
        assert_eq!(message(&withdrawal).kind(), NotificationKind::Withdrawal);
        let followed = worklist_user::report(&harness, &name(&withdrawal), Receipt::Returned).await;
        assert_eq!(followed, None);
        let shown = harness.get(&request).await.expect("a request");
        assert_eq!(shown.state(), RequestState::Cancelled);
        assert_eq!(shown.allowed_actions, Vec::<i32>::new());
        assert_eq!(hold_of(&harness, &request).await, HoldReason::Unspecified);
        assert!(harness.lease_due().await.is_empty());
        let last = told(&harness, &request).await.pop();
        assert_eq!(last, Some("NOTIFICATION_RETURNED"));
    }
}

#[tokio::test]
async fn a_receipt_for_what_was_not_sent_is_a_conflict_and_is_not_recorded() {
    for state in [
        State::Scheduled,
        State::Leased,
        State::Dispatching,
        State::Parked,
        State::Cancelled,
        State::Skipped,
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        if state != State::Scheduled {
            let due = harness.lease_due().await.remove(0);
            match state {
                State::Dispatching => {
                    let given = authorize(&harness, vec![lease(&due)]).await;
                    given.expect("given");
                }
                State::Parked => {
                    let park = v1::Acknowledgement {
                        outcome: Outcome::Park.into(),
                        ..sent(&due)
                    };
                    answer(&harness, park).await;
                }
                State::Cancelled => book(&harness, &request).await,
                State::Skipped => harness.advance("2026-06-12T22:00:00Z"),
                _ => {}
            }
        }
        let before = messages(&harness, &request).await;
        assert_eq!(before[0].state(), state);
        for receipt in RECEIPTS {
            let refused = worklist_user::try_report(&harness, &before[0].name, receipt, None).await;
            let refused = refused.expect_err("not sent");
            let reason = (Code::FailedPrecondition, "STATE_CONFLICT".to_owned());
            assert_eq!(refusal(&refused), reason, "{state:?} {receipt:?}");
        }
        assert_eq!(messages(&harness, &request).await, before);
        assert!(
            told(&harness, &request)
                .await
                .iter()
                .all(|it| { !["NOTIFICATION_READ", "NOTIFICATION_UNREAD"].contains(it) })
        );
    }
}

#[tokio::test]
async fn a_message_that_is_unknown_is_not_found() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    let (_, id) = first.rsplit_once('/').expect("a name");
    let (of_unit, _) = request.rsplit_once('/').expect("a name");
    let other = uuid::Uuid::now_v7();
    for unknown in [
        format!("{request}/notifications/{other}"),
        format!("{of_unit}/{other}/notifications/{id}"),
        first.replace("SE2321000131-P000000123457", "SE2321000131-P2"),
    ] {
        let refused = worklist_user::try_report(&harness, &unknown, Receipt::Read, None).await;
        let reason = (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned());
        assert_eq!(refusal(&refused.expect_err("unknown")), reason);
    }
}

#[tokio::test]
async fn what_was_learned_ahead_of_the_clock_is_taken_as_learned_now() {
    for ahead in [
        Duration::microseconds(1),
        Duration::days(1),
        Duration::days(3_650),
    ] {
        let harness = Harness::start(NOW).await;
        let (request, first) = handed_over(&harness).await;
        let ahead = Some(render_instant(at(NOW) + ahead));
        let reported = worklist_user::try_report(&harness, &first, Receipt::Read, ahead).await;
        assert_eq!(reported.expect("recorded"), None);
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].read_time, Some(make::wire_at(NOW)));
    }
}

#[tokio::test]
async fn every_bad_field_of_a_report_is_named() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    let broken = Some(prost_types::Timestamp {
        seconds: 0,
        nanos: -1,
    });
    let refused = worklist_user::try_report(&harness, &first, Receipt::Read, broken).await;
    let refused = refused.expect_err("no instant");
    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(&refused), reason);
    assert_eq!(bad_fields(&refused), ["event_time"]);
    let refused = worklist_user::try_report(&harness, "x", Receipt::Unspecified, broken).await;
    let mut named = bad_fields(&refused.expect_err("refused"));
    named.sort();
    assert_eq!(named, ["event_time", "name", "receipt"]);
    assert_eq!(messages(&harness, &request).await[0].read_time, None);
}

#[tokio::test]
async fn reports_that_come_together_give_one_letter() {
    let harness = Harness::start(NOW).await;
    let (request, first) = handed_over(&harness).await;
    let report = |receipt: Receipt| {
        let receipt = v1::DeliveryReceipt {
            name: first.clone(),
            receipt: receipt.into(),
            event_time: None,
        };
        let call = v1::ReportDeliveryRequest {
            receipts: vec![receipt],
        };
        let mut client = harness.notifications();
        tokio::spawn(async move { within(client.report_delivery(call)).await })
    };
    let mut calls = Vec::new();
    for _ in 0..10 {
        // READ among them would cancel the letter, or not, by the order in which they come.
        calls.extend([Receipt::Unread, Receipt::Returned].map(report));
    }
    for call in calls {
        call.await.expect("run").expect("recorded");
    }
    let letters = harness.lease_due().await;
    assert_eq!(letters.len(), 1);
    let mut written = told(&harness, &request).await;
    written.sort();
    let each_once = ["NOTIFICATION_RETURNED", "NOTIFICATION_UNREAD"];
    assert_eq!(written, each_once);
}

#[tokio::test]
async fn reminders_after_a_letter_are_skipped_by_the_period_as_they_were() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, make::wire_form("2026-03-09", "2026-03-20")).await;
    let first = name(&harness.hand_over_due().await[0]);
    worklist_user::report(&harness, &first, Receipt::Unread).await;
    let shown = states(&harness, &request).await;
    let expected = [
        State::Sent,
        State::Scheduled,
        State::Scheduled,
        State::Skipped,
    ];
    assert_eq!(shown, expected);
    let shown = messages(&harness, &request).await;
    assert_eq!(shown[1].due_time, Some(make::wire_at(FIRST_REMINDER)));
}
