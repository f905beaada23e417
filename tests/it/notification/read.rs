//! READ: what it does to the letter that UNREAD brought, and to no other.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{DeliveryChannel, HoldReason};

use super::{NOW, State, create, due_now, messages};
use crate::consumer::Outcomes as _;
use crate::consumer::{Consumer, answer, everything, lease, name, sent};
use crate::harness::Harness;
use crate::make;
use crate::worklist_user;

/// A request of which the first message has been handed over, with the letter that this receipt brought:
/// the names of all three.
async fn followed(harness: &Harness, receipt: Receipt) -> (String, String, String) {
    let request = create(harness, due_now("R-1")).await;
    let first = name(&harness.hand_over_due().await[0]);
    let letter = worklist_user::report(harness, &first, receipt).await;
    (request, first, letter.expect("a letter").name)
}

async fn found(harness: &Harness, request: &str, message: &str) -> v1::Notification {
    let mut shown = messages(harness, request).await.into_iter();
    shown.find(|it| it.name == message).expect("a message")
}

async fn hold_of(harness: &Harness, request: &str) -> HoldReason {
    let request = harness.get(request).await.expect("a request");
    let invitation = request.care_invitation.expect("an invitation");
    invitation.hold_reason()
}

/// Where the letter stands when the message before it turns out to have been read.
const STANDS: [&str; 8] = [
    "scheduled",
    "held",
    "leased",
    "parked",
    "released by staff",
    "released by staff with a channel",
    "dispatching",
    "sent",
];

/// Brings the letter where the row says.
async fn stand(harness: &Harness, request: &str, row: &str) -> Option<v1::DueNotification> {
    if row == "scheduled" {
        return None;
    }
    if row == "held" {
        worklist_user::contact(harness, request, Contact::CallBack).await;
        return None;
    }
    let due = harness.lease_due().await.pop().expect("the letter");
    let park = || v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        ..sent(&due)
    };
    match row {
        "leased" => {}
        "parked" => answer(harness, park()).await,
        "released by staff" | "released by staff with a channel" => {
            answer(harness, park()).await;
            let channel = match row {
                "released by staff" => DeliveryChannel::Unspecified,
                _ => DeliveryChannel::Letter,
            };
            worklist_user::release(harness, request, channel).await;
        }
        "dispatching" => {
            let given = crate::consumer::authorize(harness, vec![lease(&due)]).await;
            assert_eq!(given.expect("an answer").authorized().len(), 1);
        }
        "sent" => answer(harness, sent(&due)).await,
        other => unreachable!("{other}"),
    }
    Some(due)
}

#[tokio::test]
async fn the_letter_is_not_sent_when_the_message_was_read_after_all() {
    for row in STANDS {
        for receipt in [Receipt::Unread, Receipt::Returned] {
            let harness = Harness::start(NOW).await;
            let (request, first, letter) = followed(&harness, receipt).await;
            stand(&harness, &request, row).await;
            let before = found(&harness, &request, &letter).await;
            let hold = hold_of(&harness, &request).await;
            let follows = worklist_user::report(&harness, &first, Receipt::Read).await;
            assert_eq!(follows, None, "{row} {receipt:?}");

            let after = found(&harness, &request, &letter).await;
            let stays = receipt == Receipt::Returned || matches!(row, "dispatching" | "sent");
            if stays {
                assert_eq!(after, before, "{row} {receipt:?}");
            } else {
                assert_eq!(after.state(), State::Cancelled, "{row}");
                assert_eq!(after.cause(), NotificationCause::Read, "{row}");
            }
            assert_eq!(hold_of(&harness, &request).await, hold, "{row}");
            let history = worklist_user::history(&harness, &request).await;
            let cancelled = history.iter().filter(|it| {
                **it == (
                    HistoryEvent::NotificationCancelled,
                    NotificationCause::Read,
                    String::new(),
                )
            });
            assert_eq!(cancelled.count(), usize::from(!stays), "{row} {receipt:?}");
            if row == "scheduled" {
                let due = harness.lease_due().await;
                assert_eq!(due.len(), usize::from(stays), "{receipt:?}");
            }
            // The reminder comes on its day.
            let reminder = &messages(&harness, &request).await[1];
            assert_eq!(
                reminder.due_time,
                Some(make::wire_at("2026-03-16T08:00:00Z")),
                "{row}"
            );
        }
    }
}

#[tokio::test]
async fn a_leased_letter_is_revoked_and_its_hand_over_is_recorded_all_the_same() {
    let harness = Harness::start(NOW).await;
    let (request, first, letter) = followed(&harness, Receipt::Unread).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    assert_eq!(name(&due), letter);
    worklist_user::report(&harness, &first, Receipt::Read).await;
    assert_eq!(consumer.revoked().await, letter);
    let given = crate::consumer::authorize(&harness, vec![lease(&due)]).await;
    assert_eq!(
        given.expect("an answer").refused(),
        std::slice::from_ref(&letter)
    );
    answer(&harness, sent(&due)).await;
    assert_eq!(
        found(&harness, &request, &letter).await.state(),
        State::Sent
    );
}

#[tokio::test]
async fn no_other_letter_follows_the_message_afterwards() {
    let harness = Harness::start(NOW).await;
    let (request, first, letter) = followed(&harness, Receipt::Unread).await;
    worklist_user::report(&harness, &first, Receipt::Read).await;
    let count = messages(&harness, &request).await.len();
    for receipt in [Receipt::Read, Receipt::Unread, Receipt::Returned] {
        let follows = worklist_user::report(&harness, &first, receipt).await;
        let named = follows.map(|it| (it.name.clone(), it.state()));
        let expected = (receipt != Receipt::Read).then(|| (letter.clone(), State::Cancelled));
        assert_eq!(named, expected, "{receipt:?}");
    }
    assert_eq!(messages(&harness, &request).await.len(), count);
}

#[tokio::test]
async fn reading_another_message_leaves_the_letter_of_this_one() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let first = name(&harness.hand_over_due().await[0]);
    harness.advance("2026-03-16T08:00:00Z");
    let reminder = name(&harness.hand_over_due().await[0]);
    let letter = worklist_user::report(&harness, &reminder, Receipt::Unread).await;
    let letter = letter.expect("a letter");
    worklist_user::report(&harness, &first, Receipt::Read).await;
    assert_eq!(found(&harness, &request, &letter.name).await, letter);
    worklist_user::report(&harness, &reminder, Receipt::Read).await;
    let after = found(&harness, &request, &letter.name).await;
    assert_eq!(after.state(), State::Cancelled);
}
