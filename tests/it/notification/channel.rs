//! Through which channel a message goes, and what comes of one that reaches nobody or is set
//! aside: the table of docs/lifecycle.md, row by row.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::booking_request::State as RequestState;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{
    Action, ChannelReason, DeliveryChannel, HoldReason, InboxReach, NotificationKind,
    PersonalIdType, Protection, Worklist,
};

use super::{FIRST, LAST, NOW, State, book, create, due_now, messages, states};
use crate::consumer::{
    Consumer, Step, acknowledge, answer, authorize, everything, lease, message, name, retry, sent,
    step,
};
use crate::harness::{Harness, within};
use crate::make;
use crate::worklist_user;

/// When the first and the second reminder fall due after a first message at [`NOW`].
const FIRST_REMINDER: &str = "2026-03-16T08:00:00Z";
const SECOND_REMINDER: &str = "2026-03-30T07:00:00Z";

/// The answer that the channel does not reach the patient.
fn unreachable(due: &v1::DueNotification, cause: &str) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Unreachable.into(),
        cause: cause.into(),
        ..sent(due)
    }
}

/// The answer that something is wrong with a message.
fn park(due: &v1::DueNotification, cause: &str) -> v1::Acknowledgement {
    v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        cause: cause.into(),
        ..sent(due)
    }
}

/// The answer that a message is to be tried again at once.
fn again(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        retry_delay: Some(prost_types::Duration::default()),
        ..retry(due)
    }
}

fn chosen(message: &v1::Notification) -> (DeliveryChannel, ChannelReason) {
    (message.channel(), message.channel_reason())
}

async fn invitation(harness: &Harness, request: &str) -> v1::CareInvitation {
    let request = harness.get(request).await.expect("a request");
    request.care_invitation.expect("an invitation")
}

/// The one message that is due, leased.
async fn lease_only(harness: &Harness) -> v1::DueNotification {
    let mut due = harness.lease_due().await;
    assert_eq!(due.len(), 1, "{}", harness.clock.now());
    due.remove(0)
}

/// The names of the requests that staff handle by hand.
async fn handled_by_hand(harness: &Harness) -> Vec<String> {
    let call = v1::ListWorklistRequest {
        query: Some(v1::WorklistQuery {
            worklists: vec![Worklist::ManualHandling.into()],
            care_units: vec![make::wire_unit()],
            ..Default::default()
        }),
        ..Default::default()
    };
    let listed = within(harness.worklists().list_worklist(call)).await;
    let listed = listed.expect("a page").into_inner().booking_requests;
    listed.into_iter().map(|request| request.name).collect()
}

fn patient(number: &str, kind: PersonalIdType, reach: InboxReach) -> v1::Patient {
    v1::Patient {
        personal_id: number.into(),
        personal_id_type: kind.into(),
        inbox_reach: reach.into(),
        ..Default::default()
    }
}

fn protected() -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(v1::Patient {
            protection: Protection::ConfidentialityMarked.into(),
            ..due_now("R-1").patient.expect("a patient")
        }),
        ..due_now("R-1")
    }
}

/// A request of which staff have fixed the channel, its first message due.
async fn fixed(harness: &Harness, channel: DeliveryChannel) -> String {
    let request = create(harness, due_now("R-1")).await;
    worklist_user::contact(harness, &request, Contact::CallBack).await;
    worklist_user::release(harness, &request, channel).await;
    request
}

#[tokio::test]
async fn the_channel_is_the_first_of_the_table_that_applies() {
    use PersonalIdType::{NationalReserveNumber, Personnummer, Samordningsnummer};
    let unknown = InboxReach::Unspecified;
    let person = |reach| patient("198003012385", Personnummer, reach);
    let coordinated = |reach| patient("197302889931", Samordningsnummer, reach);
    let reserve = |reach| patient("19800301TA5K", NationalReserveNumber, reach);
    let inbox = (DeliveryChannel::Inbox, ChannelReason::Default);
    let by_staff = |channel| (channel, ChannelReason::Staff);
    let letter = |reason| (DeliveryChannel::Letter, reason);
    for (row, patient, inbox_fails, fixed, expected) in [
        ("unknown", person(unknown), false, None, inbox),
        ("in 1177", person(InboxReach::Inbox), false, None, inbox),
        (
            "not in 1177",
            person(InboxReach::None),
            false,
            None,
            letter(ChannelReason::NoDigitalAccount),
        ),
        (
            "coordination number",
            coordinated(InboxReach::Inbox),
            false,
            None,
            letter(ChannelReason::IdentityNumber),
        ),
        (
            "reserve number",
            reserve(unknown),
            false,
            None,
            letter(ChannelReason::IdentityNumber),
        ),
        (
            "neither account nor number",
            reserve(InboxReach::None),
            false,
            None,
            letter(ChannelReason::NoDigitalAccount),
        ),
        (
            "a failed inbox",
            person(InboxReach::Inbox),
            true,
            None,
            letter(ChannelReason::DigitalFailed),
        ),
        (
            "the inbox by staff",
            person(unknown),
            false,
            Some(DeliveryChannel::Inbox),
            by_staff(DeliveryChannel::Inbox),
        ),
        (
            "a letter by staff",
            person(InboxReach::Inbox),
            false,
            Some(DeliveryChannel::Letter),
            by_staff(DeliveryChannel::Letter),
        ),
        (
            "the inbox by staff for one not in 1177",
            person(InboxReach::None),
            false,
            Some(DeliveryChannel::Inbox),
            by_staff(DeliveryChannel::Inbox),
        ),
        (
            "the inbox by staff for a coordination number",
            coordinated(unknown),
            false,
            Some(DeliveryChannel::Inbox),
            by_staff(DeliveryChannel::Inbox),
        ),
        (
            "the failed inbox by staff",
            person(unknown),
            true,
            Some(DeliveryChannel::Inbox),
            by_staff(DeliveryChannel::Inbox),
        ),
        (
            "released and not fixed",
            person(unknown),
            false,
            Some(DeliveryChannel::Unspecified),
            inbox,
        ),
        (
            "failed, released and not fixed",
            person(unknown),
            true,
            Some(DeliveryChannel::Unspecified),
            letter(ChannelReason::DigitalFailed),
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let form = v1::BookingRequest {
            patient: Some(patient),
            ..due_now("R-1")
        };
        let request = create(&harness, form).await;
        let first = harness.hand_over_due().await.remove(0);
        if inbox_fails {
            let follows = worklist_user::report(&harness, &name(&first), Receipt::Returned).await;
            assert_eq!(chosen(&follows.expect(row)), expected_after_return());
            harness.hand_over_due().await;
        }
        if let Some(channel) = fixed {
            worklist_user::contact(&harness, &request, Contact::CallBack).await;
            worklist_user::release(&harness, &request, channel).await;
        }
        let shown = messages(&harness, &request).await;
        let to_come = shown.iter().filter(|it| it.state() != State::Sent);
        let to_come: Vec<_> = to_come.map(chosen).collect();
        assert_eq!(to_come, [expected, expected], "{row}: shown");
        harness.advance(FIRST_REMINDER);
        let reminder = lease_only(&harness).await;
        assert_eq!(chosen(message(&reminder)), expected, "{row}: leased");
        assert_eq!(reminder.protection(), Protection::Unspecified);
    }
}

fn expected_after_return() -> (DeliveryChannel, ChannelReason) {
    (DeliveryChannel::Letter, ChannelReason::DigitalFailed)
}

#[tokio::test]
async fn an_account_that_is_lost_counts_before_an_inbox_that_has_failed() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let first = lease_only(&harness).await;
    answer(&harness, unreachable(&first, "")).await;
    worklist_user::set_reach(&harness, InboxReach::None).await;
    let letter = lease_only(&harness).await;
    let lost = (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount);
    assert_eq!(chosen(message(&letter)), lost);
    worklist_user::set_reach(&harness, InboxReach::Inbox).await;
    answer(&harness, sent(&letter)).await;
    // What has left says through which channel it did.
    let shown = messages(&harness, &request).await;
    assert_eq!(chosen(&shown[1]), lost);
    assert_eq!(chosen(&shown[2]), expected_after_return());
}

#[tokio::test]
async fn the_channel_is_chosen_anew_at_each_lease() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let none = (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount);
    let inbox = (DeliveryChannel::Inbox, ChannelReason::Default);
    let mut due = lease_only(&harness).await;
    assert_eq!(chosen(message(&due)), inbox);
    for (reach, expected) in [
        (InboxReach::None, none),
        (InboxReach::Inbox, inbox),
        (InboxReach::None, none),
        (InboxReach::Unspecified, inbox),
    ] {
        // The consumer that holds it has it as it was leased.
        let held = chosen(message(&due));
        assert_eq!(worklist_user::set_reach(&harness, reach).await, [&*request]);
        assert_eq!(chosen(&messages(&harness, &request).await[0]), held);
        answer(&harness, again(&due)).await;
        assert_eq!(chosen(&messages(&harness, &request).await[0]), expected);
        due = lease_only(&harness).await;
        assert_eq!(chosen(message(&due)), expected);
    }
    answer(&harness, sent(&due)).await;
    worklist_user::set_reach(&harness, InboxReach::None).await;
    let shown = messages(&harness, &request).await;
    assert_eq!(chosen(&shown[0]), inbox);
    assert_eq!((chosen(&shown[1]), chosen(&shown[2])), (none, none));
}

#[tokio::test]
async fn a_lease_that_ran_out_on_the_inbox_goes_to_who_sends_letters_when_it_has_to() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let only = |channel: DeliveryChannel| v1::StreamDueNotificationsRequest {
        channels: vec![channel.into()],
        until_idle: true,
        ..Default::default()
    };
    let mut inbox = Consumer::open(&harness, only(DeliveryChannel::Inbox)).await;
    inbox.due().await;
    inbox.ended().await;
    worklist_user::set_reach(&harness, InboxReach::None).await;
    harness.advance("2026-03-02T09:01:00Z");
    let inbox = Consumer::open(&harness, only(DeliveryChannel::Inbox)).await;
    inbox.ended().await;
    let mut letters = Consumer::open(&harness, only(DeliveryChannel::Letter)).await;
    let letter = letters.due().await;
    assert_eq!(letter.booking_request, request);
    let none = (DeliveryChannel::Letter, ChannelReason::NoDigitalAccount);
    assert_eq!(chosen(message(&letter)), none);
    letters.ended().await;
}

/// The first message of a request, or the reminder so many after it, leased when it is due.
async fn leased_as(harness: &Harness, kind: Step) -> v1::DueNotification {
    for due in [NOW, FIRST_REMINDER, SECOND_REMINDER] {
        harness.advance(due);
        let leased = lease_only(harness).await;
        if step(message(&leased)) == kind {
            return leased;
        }
        answer(harness, sent(&leased)).await;
    }
    panic!("{kind:?} was never due");
}

const KINDS: [Step; 3] = [
    (NotificationKind::Invitation, 0),
    (NotificationKind::Reminder, 1),
    (NotificationKind::Reminder, 2),
];

#[tokio::test]
async fn an_inbox_message_that_reaches_nobody_ends_and_the_same_follows_as_a_letter_at_once() {
    for kind in KINDS {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let failed = leased_as(&harness, kind).await;
        let mut consumer = Consumer::open(&harness, everything()).await;
        let later = harness.clock.now() + chrono::Duration::seconds(7);
        harness.clock.advance(later).expect("forward");
        answer(&harness, unreachable(&failed, "no such inbox")).await;

        let letter = consumer.due().await;
        assert_ne!(name(&letter), name(&failed), "{kind:?}");
        let shown = message(&letter);
        assert_eq!(step(shown), kind);
        assert_eq!(chosen(shown), expected_after_return());
        assert_eq!(shown.round, 1);
        assert_eq!(shown.delivery_attempt, 1);
        let now = care_invitation::contract::calendar::render_instant(later);
        assert_eq!(shown.due_time, Some(now));
        assert!(!letter.possible_repeat);
        assert_eq!(letter.previous_send_time, failed.previous_send_time);

        let invitation = invitation(&harness, &request).await;
        assert_eq!(invitation.hold_reason(), HoldReason::Unspecified);
        let shown = invitation.notifications.iter();
        let ended = shown.clone().find(|it| it.name == name(&failed));
        let ended = ended.expect("it is kept");
        assert_eq!(ended.state(), State::Cancelled);
        assert_eq!(ended.cause(), NotificationCause::Unreachable);
        assert_eq!(ended.send_time, None);
        assert_eq!(shown.filter(|it| step(it) == kind).count(), 2);
        assert!(handled_by_hand(&harness).await.is_empty());
        assert_eq!(ended.cause_detail, "no such inbox");
        let cause = NotificationCause::Unreachable;
        let told = (
            HistoryEvent::NotificationUnreachable,
            cause,
            "no such inbox".to_owned(),
        );
        assert!(
            worklist_user::history(&harness, &request)
                .await
                .contains(&told)
        );
    }
}

#[tokio::test]
async fn what_follows_a_failed_inbox_is_letters_for_the_round_and_counts_from_the_letter() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let failed = lease_only(&harness).await;
    answer(&harness, unreachable(&failed, "")).await;
    // The letter is printed three days later.
    harness.advance("2026-03-05T12:00:00Z");
    harness.hand_over_due().await;
    for due in ["2026-03-19T08:00:00Z", "2026-04-02T07:00:00Z"] {
        let before = make::at(due) - chrono::Duration::microseconds(1);
        harness.clock.advance(before).expect("forward");
        assert!(harness.lease_due().await.is_empty());
        harness.advance(due);
        let reminder = lease_only(&harness).await;
        assert_eq!(chosen(message(&reminder)), expected_after_return());
        answer(&harness, sent(&reminder)).await;
    }
    worklist_user::contact(&harness, &request, Contact::CallBack).await;
    let call = make::wire_invite(&request);
    harness.invite(call).await.expect("a new round");
    let first = lease_only(&harness).await;
    assert_eq!(message(&first).round, 2);
    let inbox = (DeliveryChannel::Inbox, ChannelReason::Default);
    assert_eq!(chosen(message(&first)), inbox);
}

#[tokio::test]
async fn a_channel_that_staff_fixed_holds_for_the_round_and_no_longer() {
    let harness = Harness::start(NOW).await;
    let request = fixed(&harness, DeliveryChannel::Letter).await;
    let by_staff = (DeliveryChannel::Letter, ChannelReason::Staff);
    for due in [NOW, FIRST_REMINDER, SECOND_REMINDER] {
        harness.advance(due);
        let leased = lease_only(&harness).await;
        assert_eq!(chosen(message(&leased)), by_staff, "{due}");
        answer(&harness, sent(&leased)).await;
    }
    worklist_user::contact(&harness, &request, Contact::NoSuitableTime).await;
    let call = make::wire_invite(&request);
    harness.invite(call).await.expect("a new round");
    let first = lease_only(&harness).await;
    let inbox = (DeliveryChannel::Inbox, ChannelReason::Default);
    assert_eq!(chosen(message(&first)), inbox);
}

/// What makes it so that no letter can follow.
#[derive(Clone, Copy, Debug)]
enum LastResort {
    Letter,
    InboxByStaff,
    LetterByStaff,
    Protected,
    LetterAfterInbox,
    LetterAfterUnread,
}

/// A request whose message is leased and which no letter can follow.
async fn at_last_resort(harness: &Harness, how: LastResort) -> (String, v1::DueNotification) {
    let request = match how {
        LastResort::Letter => {
            let form = v1::BookingRequest {
                patient: Some(patient(
                    "198003012385",
                    PersonalIdType::Personnummer,
                    InboxReach::None,
                )),
                ..due_now("R-1")
            };
            create(harness, form).await
        }
        LastResort::InboxByStaff => fixed(harness, DeliveryChannel::Inbox).await,
        LastResort::LetterByStaff => fixed(harness, DeliveryChannel::Letter).await,
        LastResort::Protected => {
            let request = create(harness, protected()).await;
            worklist_user::release(harness, &request, DeliveryChannel::Unspecified).await;
            request
        }
        LastResort::LetterAfterInbox => {
            let request = create(harness, due_now("R-1")).await;
            let failed = lease_only(harness).await;
            answer(harness, unreachable(&failed, "")).await;
            request
        }
        LastResort::LetterAfterUnread => {
            let request = create(harness, due_now("R-1")).await;
            let unread = harness.hand_over_due().await.remove(0);
            let letter = worklist_user::report(harness, &name(&unread), Receipt::Unread).await;
            assert!(letter.is_some());
            request
        }
    };
    (request, lease_only(harness).await)
}

#[tokio::test]
async fn what_no_letter_can_follow_is_parked_and_held_as_undeliverable() {
    for how in [
        LastResort::Letter,
        LastResort::InboxByStaff,
        LastResort::LetterByStaff,
        LastResort::Protected,
        LastResort::LetterAfterInbox,
        LastResort::LetterAfterUnread,
    ] {
        for said in ["moved abroad", ""] {
            let harness = Harness::start(NOW).await;
            let (request, due) = at_last_resort(&harness, how).await;
            let count = messages(&harness, &request).await.len();
            answer(&harness, unreachable(&due, said)).await;
            let cause = NotificationCause::Unreachable;
            let set_aside = (HoldReason::Undeliverable, cause, said);
            assert_set_aside(&harness, &request, &due, set_aside).await;
            let after = messages(&harness, &request).await.len();
            assert_eq!(after, count, "{how:?}: nothing follows");
        }
    }
}

/// The message is parked for this cause, its request held for this reason and nothing goes out
/// until staff release it: then under the same name, at once.
async fn assert_set_aside(
    harness: &Harness,
    request: &str,
    due: &v1::DueNotification,
    (hold, cause, words): (HoldReason, NotificationCause, &str),
) {
    let shown = harness.get(request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::Invited);
    assert!(shown.allowed_actions().any(|it| it == Action::ReleaseHold));
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), hold);
    let shown = invitation.notifications.iter();
    let parked: Vec<_> = shown.filter(|it| it.state() == State::Parked).collect();
    assert_eq!(parked.len(), 1);
    assert_eq!(parked[0].name, name(due));
    assert_eq!(
        (parked[0].cause(), &*parked[0].cause_detail),
        (cause, words)
    );
    assert_eq!(handled_by_hand(harness).await, [request]);
    let told = (HistoryEvent::NotificationParked, cause, words.to_owned());
    assert!(
        worklist_user::history(harness, request)
            .await
            .contains(&told)
    );

    let later = harness.clock.now() + chrono::Duration::hours(30);
    harness.clock.advance(later).expect("forward");
    assert!(harness.lease_due().await.is_empty());
    let released = worklist_user::release(harness, request, DeliveryChannel::Unspecified).await;
    let invitation = released.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::Unspecified);
    assert!(handled_by_hand(harness).await.is_empty());
    let again = lease_only(harness).await;
    assert_eq!(name(&again), name(due));
    assert_eq!(message(&again).kind(), message(due).kind());
    assert_eq!(message(&again).channel(), message(due).channel());
    let attempts = message(due).delivery_attempt + 1;
    assert_eq!(message(&again).delivery_attempt, attempts);
}

#[tokio::test]
async fn what_a_consumer_sets_aside_is_parked_with_its_cause_whatever_the_channel() {
    for kind in KINDS {
        for said in ["the journal is lost", ""] {
            let harness = Harness::start(NOW).await;
            let request = create(&harness, due_now("R-1")).await;
            let due = leased_as(&harness, kind).await;
            answer(&harness, park(&due, said)).await;
            let set_aside = (HoldReason::Parked, NotificationCause::Parked, said);
            assert_set_aside(&harness, &request, &due, set_aside).await;
        }
    }
    for how in [
        LastResort::Letter,
        LastResort::InboxByStaff,
        LastResort::Protected,
        LastResort::LetterAfterUnread,
    ] {
        let harness = Harness::start(NOW).await;
        let (request, due) = at_last_resort(&harness, how).await;
        answer(&harness, park(&due, "x")).await;
        assert_set_aside(
            &harness,
            &request,
            &due,
            (HoldReason::Parked, NotificationCause::Parked, "x"),
        )
        .await;
    }
}

#[tokio::test]
async fn staff_fix_the_channel_of_what_was_undeliverable() {
    let harness = Harness::start(NOW).await;
    let (request, letter) = at_last_resort(&harness, LastResort::LetterAfterInbox).await;
    answer(&harness, unreachable(&letter, "")).await;
    worklist_user::release(&harness, &request, DeliveryChannel::Inbox).await;
    let released = lease_only(&harness).await;
    assert_eq!(name(&released), name(&letter));
    let by_staff = (DeliveryChannel::Inbox, ChannelReason::Staff);
    assert_eq!(chosen(message(&released)), by_staff);
    // It was staff's choice: no letter follows a second time.
    answer(&harness, unreachable(&released, "")).await;
    let hold = HoldReason::Undeliverable;
    assert_eq!(invitation(&harness, &request).await.hold_reason(), hold);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn protection_that_comes_later_forbids_a_letter_as_well() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let due = lease_only(&harness).await;
    authorize(&harness, vec![lease(&due)]).await.expect("given");
    worklist_user::set_protection(&harness, Protection::ProtectedRegistration).await;
    answer(&harness, unreachable(&due, "")).await;
    let shown = invitation(&harness, &request).await;
    // The latest reason stands, but protection gives way to none.
    assert_eq!(shown.hold_reason(), HoldReason::ProtectedIdentity);
    assert_eq!(shown.notifications[0].state(), State::Parked);
    assert_eq!(states(&harness, &request).await.len(), 3, "no letter");
    assert!(harness.lease_due().await.is_empty());
    let released = worklist_user::release(&harness, &request, DeliveryChannel::Letter).await;
    assert_eq!(released.state(), RequestState::Invited);
    let letter = lease_only(&harness).await;
    assert_eq!(name(&letter), name(&due));
    assert_eq!(letter.protection(), Protection::ProtectedRegistration);
}

#[tokio::test]
async fn a_message_set_aside_takes_the_place_of_the_reason_that_held_before() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let due = lease_only(&harness).await;
    authorize(&harness, vec![lease(&due)]).await.expect("given");
    worklist_user::contact(&harness, &request, Contact::CallBack).await;
    answer(&harness, park(&due, "")).await;
    let shown = invitation(&harness, &request).await;
    assert_eq!(shown.hold_reason(), HoldReason::Parked);
    worklist_user::contact(&harness, &request, Contact::NoSuitableTime).await;
    let shown = invitation(&harness, &request).await;
    assert_eq!(shown.hold_reason(), HoldReason::NoSuitableTime);
    assert_eq!(shown.notifications[0].state(), State::Parked);
}

/// What has been done with a leased message so that it is out no longer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum NoLongerOut {
    Booked,
    Declined,
    Cancelled,
    Held,
    Protected,
    Changed,
    Sent,
    Retried,
    Unreachable,
    Parked,
}

#[tokio::test]
async fn other_outcomes_for_a_message_that_is_no_longer_out_change_nothing() {
    for what in [
        NoLongerOut::Booked,
        NoLongerOut::Declined,
        NoLongerOut::Cancelled,
        NoLongerOut::Held,
        NoLongerOut::Protected,
        NoLongerOut::Changed,
        NoLongerOut::Sent,
        NoLongerOut::Retried,
        NoLongerOut::Unreachable,
        NoLongerOut::Parked,
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let due = lease_only(&harness).await;
        match what {
            NoLongerOut::Booked => book(&harness, &request).await,
            NoLongerOut::Declined => {
                worklist_user::contact(&harness, &request, Contact::Declined).await;
            }
            NoLongerOut::Cancelled => {
                let call = make::wire_cancel(&request);
                harness.cancel(call).await.expect("cancelled");
            }
            NoLongerOut::Held => {
                worklist_user::contact(&harness, &request, Contact::CallBack).await;
            }
            NoLongerOut::Protected => {
                worklist_user::set_protection(&harness, Protection::ConfidentialityMarked).await;
            }
            NoLongerOut::Changed => {
                worklist_user::change_purpose(&harness, &request, "Näsa").await;
            }
            NoLongerOut::Sent => answer(&harness, sent(&due)).await,
            NoLongerOut::Retried => answer(&harness, retry(&due)).await,
            NoLongerOut::Unreachable => answer(&harness, unreachable(&due, "")).await,
            NoLongerOut::Parked => answer(&harness, park(&due, "")).await,
        }
        let before = harness.get(&request).await.expect("a request");
        harness.advance("2026-03-02T09:00:10Z");
        for outcome in [
            retry(&due),
            again(&due),
            unreachable(&due, "x"),
            park(&due, "x"),
        ] {
            answer(&harness, outcome).await;
            let after = harness.get(&request).await.expect("a request");
            assert!(after == before, "{what:?}: {:?}", after.care_invitation);
        }
    }
}

#[tokio::test]
async fn other_outcomes_of_what_was_on_its_way_when_the_invitation_ended_plan_and_hold_nothing() {
    for (row, outcome) in [
        ("retry", again as fn(&v1::DueNotification) -> _),
        ("unreachable", |due| unreachable(due, "")),
        ("park", |due| park(due, "")),
    ] {
        for ending in [NoLongerOut::Booked, NoLongerOut::Declined] {
            let harness = Harness::start(NOW).await;
            let request = create(&harness, due_now("R-1")).await;
            let due = lease_only(&harness).await;
            authorize(&harness, vec![lease(&due)]).await.expect("given");
            if ending == NoLongerOut::Booked {
                book(&harness, &request).await;
            } else {
                worklist_user::contact(&harness, &request, Contact::Declined).await;
            }
            assert_eq!(states(&harness, &request).await, [State::Dispatching]);
            answer(&harness, outcome(&due)).await;
            let shown = invitation(&harness, &request).await;
            assert_eq!(shown.hold_reason(), HoldReason::Unspecified, "{row}");
            assert_eq!(shown.notifications.len(), 1, "{row} {ending:?}");
            assert_eq!(shown.notifications[0].state(), State::Cancelled);
            harness.advance("2026-04-06T09:00:00Z");
            assert!(harness.lease_due().await.is_empty(), "{row} {ending:?}");
            // The truth comes first all the same.
            answer(&harness, sent(&due)).await;
            let shown = invitation(&harness, &request).await;
            assert_eq!(shown.notifications.len(), 1);
            assert_eq!(shown.notifications[0].state(), State::Sent);
            assert!(shown.notifications[0].sent_after_change);
        }
    }
}

#[tokio::test]
async fn what_is_on_its_way_when_a_hold_comes_runs_its_course_and_what_follows_is_held() {
    for (row, outcome, expected) in [
        (
            "sent",
            sent as fn(&v1::DueNotification) -> _,
            &[State::Sent, State::Scheduled, State::Projected][..],
        ),
        (
            "retry",
            again,
            &[State::Scheduled, State::Projected, State::Projected],
        ),
        (
            "unreachable",
            |due| unreachable(due, ""),
            &[
                State::Cancelled,
                State::Scheduled,
                State::Projected,
                State::Projected,
            ],
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        let due = lease_only(&harness).await;
        authorize(&harness, vec![lease(&due)]).await.expect("given");
        worklist_user::contact(&harness, &request, Contact::CallBack).await;
        assert_eq!(states(&harness, &request).await[0], State::Dispatching);
        answer(&harness, outcome(&due)).await;
        let shown = invitation(&harness, &request).await;
        assert_eq!(shown.hold_reason(), HoldReason::CallBack, "{row}");
        assert_eq!(states(&harness, &request).await, expected, "{row}");
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{row}");
        worklist_user::release(&harness, &request, DeliveryChannel::Unspecified).await;
        assert_eq!(harness.lease_due().await.len(), 1, "{row}");
    }
}

#[tokio::test]
async fn a_letter_that_would_follow_after_the_period_is_skipped() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, make::wire_form("2026-03-09", "2026-03-13")).await;
    harness.advance("2026-03-13T22:59:30Z");
    let due = lease_only(&harness).await;
    authorize(&harness, vec![lease(&due)]).await.expect("given");
    harness.advance("2026-03-13T23:00:00Z");
    answer(&harness, unreachable(&due, "")).await;
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::Expired);
    let shown = messages(&harness, &request).await;
    assert_eq!(shown[0].state(), State::Cancelled);
    assert!(shown[1..].iter().all(|it| it.state() == State::Skipped));
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn a_change_that_keeps_the_round_keeps_the_failed_inbox() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let failed = lease_only(&harness).await;
    answer(&harness, unreachable(&failed, "")).await;
    harness.hand_over_due().await;
    let unspecified = v1::change_booking_request_request::OnChange::Unspecified;
    worklist_user::change_period(&harness, &request, FIRST, "2026-06-30", unspecified).await;
    harness.advance(FIRST_REMINDER);
    let reminder = lease_only(&harness).await;
    assert_eq!(chosen(message(&reminder)), expected_after_return());
    answer(&harness, sent(&reminder)).await;
    let restart = v1::change_booking_request_request::OnChange::Restart;
    worklist_user::change_period(&harness, &request, FIRST, LAST, restart).await;
    let first = lease_only(&harness).await;
    assert_eq!(message(&first).round, 2);
    assert_eq!(message(&first).channel(), DeliveryChannel::Inbox);
}

#[tokio::test]
async fn a_withdrawal_that_reaches_nobody_by_the_inbox_follows_as_a_letter_and_then_is_parked() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    harness.hand_over_due().await;
    let call = make::wire_cancel(&request);
    harness.cancel(call).await.expect("cancelled");
    let withdrawal = lease_only(&harness).await;
    let kind = NotificationKind::Withdrawal;
    assert_eq!(message(&withdrawal).kind(), kind);
    assert_eq!(message(&withdrawal).channel(), DeliveryChannel::Inbox);
    answer(&harness, unreachable(&withdrawal, "")).await;
    let letter = lease_only(&harness).await;
    assert_eq!(message(&letter).kind(), kind);
    assert_eq!(chosen(message(&letter)), expected_after_return());
    assert_ne!(name(&letter), name(&withdrawal));
    answer(&harness, unreachable(&letter, "no address")).await;
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), RequestState::Cancelled);
    let actions: Vec<_> = shown.allowed_actions().collect();
    assert_eq!(actions, [Action::ReleaseHold]);
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::Undeliverable);
    assert_eq!(handled_by_hand(&harness).await, [&*request]);
    assert!(harness.lease_due().await.is_empty());
    worklist_user::release(&harness, &request, DeliveryChannel::Inbox).await;
    assert!(handled_by_hand(&harness).await.is_empty());
    let again = lease_only(&harness).await;
    assert_eq!(name(&again), name(&letter));
    let by_staff = (DeliveryChannel::Inbox, ChannelReason::Staff);
    assert_eq!(chosen(message(&again)), by_staff);
}

#[tokio::test]
async fn the_answers_of_a_batch_are_each_taken_for_what_they_are() {
    let harness = Harness::start(NOW).await;
    for number in 0..4 {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    let due = harness.lease_due().await;
    let answers = vec![
        sent(&due[0]),
        retry(&due[1]),
        unreachable(&due[2], ""),
        park(&due[3], ""),
    ];
    let lost = acknowledge(&harness, answers).await;
    assert!(lost.expect("taken").is_empty());
    for (due, expected) in due.iter().zip([
        State::Sent,
        State::Scheduled,
        State::Cancelled,
        State::Parked,
    ]) {
        assert_eq!(states(&harness, &due.booking_request).await[0], expected);
    }
    let letter = lease_only(&harness).await;
    assert_eq!(letter.booking_request, due[2].booking_request);
}

#[tokio::test]
async fn a_consumer_of_all_channels_gets_what_has_changed_its_channel_at_once() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let mut standing = Consumer::open(&harness, everything()).await;
    let inbox = standing.due().await;
    worklist_user::set_reach(&harness, InboxReach::None).await;
    harness.advance("2026-03-02T09:01:00Z");
    let letter = standing.due().await;
    assert_eq!(name(&letter), name(&inbox));
    assert_eq!(message(&letter).channel(), DeliveryChannel::Letter);
    assert_eq!(message(&letter).delivery_attempt, 2);
    assert!(letter.possible_repeat);
    drop(standing);
    worklist_user::set_reach(&harness, InboxReach::Inbox).await;
    harness.advance("2026-03-02T09:03:00Z");
    let again = lease_only(&harness).await;
    assert_eq!(message(&again).channel(), DeliveryChannel::Inbox);
    assert_eq!(message(&again).delivery_attempt, 3);
}
