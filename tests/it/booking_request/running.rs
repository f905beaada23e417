//! Running invitations: messages that an older system handed over before the request was created.

use care_invitation::contract::v1;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::change_booking_request_request::OnChange;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::contract::v1::{DeliveryChannel, HoldReason, NotificationKind};
use tonic::Code;

use super::calls::{hold, move_to, round};
use super::{NOW, messages, plan, requested, state};
use crate::harness::{Harness, bad_fields, refusal};
use crate::make;
use crate::worklist_user;

const INBOX: DeliveryChannel = DeliveryChannel::Inbox;
const LETTER: DeliveryChannel = DeliveryChannel::Letter;

/// The call that moves an invitation with these messages, the invitation first.
fn running(
    form: v1::BookingRequest,
    sent: &[(DeliveryChannel, &str)],
) -> v1::CreateBookingRequestRequest {
    let message = |(sequence, (channel, at)): (i32, &(DeliveryChannel, &str))| v1::PriorMessage {
        kind: match sequence {
            0 => NotificationKind::Invitation.into(),
            _ => NotificationKind::Reminder.into(),
        },
        sequence,
        channel: (*channel).into(),
        send_time: Some(make::wire_at(at)),
    };
    v1::CreateBookingRequestRequest {
        prior_messages: (0..).zip(sent).map(message).collect(),
        ..make::wire_create(form)
    }
}

/// The invitation whose period began before now.
fn form() -> v1::BookingRequest {
    make::wire_form("2026-02-23", "2026-06-12")
}

async fn moved(harness: &Harness, sent: &[(DeliveryChannel, &str)]) -> v1::BookingRequest {
    let created = harness.create(running(form(), sent)).await;
    created.expect("created")
}

#[tokio::test]
async fn the_next_reminder_counts_from_the_last_message_and_nothing_is_sent_before() {
    let harness = Harness::start(NOW).await;
    let request = moved(&harness, &[(INBOX, "2026-02-20T10:30:00Z")]).await;
    assert_eq!((state(&request), round(&request)), (State::Invited, 1));
    let shown = messages(&request);
    assert_eq!(
        plan(shown),
        [
            "SENT 02-20T10:30Z",
            "SCHEDULED 03-06T08:00Z",
            "PROJECTED 03-20T08:00Z"
        ]
    );
    assert_eq!(shown[0].cause(), NotificationCause::Imported);
    assert!(shown[0].name.starts_with(&request.name));
    let sent_at = Some(make::wire_at("2026-02-20T10:30:00Z"));
    assert_eq!(shown[0].send_time, sent_at);
    let invitation = request.care_invitation.as_ref().expect("invited");
    assert_eq!(invitation.bookable_since, sent_at);
    assert!(harness.hand_over_due().await.is_empty());
    harness.advance("2026-03-06T08:00:00Z");
    let due = harness.hand_over_due().await;
    assert_eq!(due.len(), 1);
    assert_eq!(due[0].previous_send_time, sent_at);
    let status = harness.cancel(make::wire_cancel(&request.name)).await;
    assert_eq!(state(&status.expect("cancelled")), State::Cancelled);
}

#[tokio::test]
async fn a_reminder_that_is_overdue_goes_at_once() {
    let harness = Harness::start(NOW).await;
    let sent = [
        (INBOX, "2026-01-05T09:00:00Z"),
        (INBOX, "2026-01-25T09:00:00Z"),
    ];
    let request = moved(&harness, &sent).await;
    assert_eq!(plan(messages(&request))[2], "SCHEDULED 02-08T08:00Z");
    let due = harness.hand_over_due().await;
    let message = due[0].notification.as_ref().expect("a message");
    assert_eq!((due.len(), message.sequence), (1, 2));
}

#[tokio::test]
async fn a_round_that_is_complete_turns_to_no_response() {
    let harness = Harness::start(NOW).await;
    let sent = [
        (INBOX, "2026-01-20T09:00:00Z"),
        (LETTER, "2026-02-03T09:00:00Z"),
        (LETTER, "2026-02-20T09:00:00Z"),
    ];
    let request = moved(&harness, &sent).await;
    let invitation = request.care_invitation.as_ref().expect("invited");
    assert_eq!(invitation.notifications.len(), 3);
    let silence_ends = make::wire_at("2026-03-06T08:00:00Z");
    assert_eq!(invitation.no_response_time, Some(silence_ends));
    harness.advance("2026-03-06T08:00:00Z");
    let request = harness.get(&request.name).await.expect("read");
    assert_eq!(state(&request), State::NoResponse);
}

#[tokio::test]
async fn it_is_a_hand_over_like_any_other_but_takes_no_receipt() {
    let harness = Harness::start(NOW).await;
    let request = moved(&harness, &[(LETTER, "2026-02-20T09:00:00Z")]).await;
    for receipt in [
        Receipt::Read,
        Receipt::Unread,
        Receipt::Returned,
        Receipt::Dispatched,
        Receipt::NotProduced,
    ] {
        let name = &messages(&request)[0].name;
        let status = worklist_user::try_report(&harness, name, receipt, None).await;
        let status = status.expect_err("not of this service");
        let reason = (Code::FailedPrecondition, "STATE_CONFLICT".to_owned());
        assert_eq!(refusal(&status), reason);
        assert!(
            status.message().contains("imported"),
            "{}",
            status.message()
        );
    }
    // The dates of the reminders are kept.
    let call = move_to(&request.name, "2026-03-09", "2026-06-12");
    let changed = harness.requests().change_booking_request(call).await;
    let changed = changed.expect("changed").into_inner().booking_request;
    let changed = changed.expect("the request");
    assert_eq!(plan(messages(&changed))[1], "SCHEDULED 03-06T08:00Z");
    // A new round begins.
    let call = v1::ChangeBookingRequestRequest {
        on_change: OnChange::Restart.into(),
        ..move_to(&request.name, "2026-03-16", "2026-06-12")
    };
    let changed = harness.requests().change_booking_request(call).await;
    let changed = changed.expect("changed").into_inner().booking_request;
    assert_eq!(round(&changed.expect("the request")), 2);

    let request = v1::BookingRequest {
        origin: Some(make::wire_referral("R-2")),
        ..form()
    };
    let request = harness
        .create(running(request, &[(LETTER, "2026-02-20T09:00:00Z")]))
        .await;
    let name = request.expect("created").name;
    let cancelled = harness.cancel(v1::CancelBookingRequestRequest {
        reason: v1::CancelReason::UnitRequest.into(),
        ..make::wire_cancel(&name)
    });
    let cancelled = cancelled.await.expect("cancelled");
    let withdrawal = messages(&cancelled).last().expect("a withdrawal");
    assert_eq!(withdrawal.kind(), NotificationKind::Withdrawal);
    assert_eq!(withdrawal.channel(), LETTER);
}

#[tokio::test]
async fn the_round_of_a_protected_patient_is_held() {
    let harness = Harness::start(NOW).await;
    let mut form = form();
    let patient = form.patient.as_mut().expect("given");
    patient.set_protection(v1::Protection::ConfidentialityMarked);
    let call = running(form, &[(LETTER, "2026-01-05T09:00:00Z")]);
    let request = harness.create(call).await.expect("created");
    assert_eq!(hold(&request), HoldReason::ProtectedIdentity);
    assert!(harness.hand_over_due().await.is_empty());
}

#[tokio::test]
async fn what_cannot_have_been_sent_is_refused() {
    let harness = Harness::start(NOW).await;
    let one = [(INBOX, "2026-02-20T09:00:00Z")];
    let not_named = v1::CreateBookingRequestRequest {
        prior_messages: vec![v1::PriorMessage::default()],
        ..make::wire_create(form())
    };
    let repeated = v1::CreateBookingRequestRequest {
        repeat: Some(v1::Repeat {
            interval_days: 30,
            count: 2,
        }),
        ..running(form(), &one)
    };
    for (row, call, fields) in [
        (
            "no invitation",
            running(requested("2026-03-09", "2026-06-12"), &one),
            vec!["prior_messages"],
        ),
        ("repeated", repeated, vec!["repeat"]),
        (
            "nothing said",
            not_named,
            vec![
                "prior_messages[0].send_time",
                "prior_messages[0].kind",
                "prior_messages[0].channel",
            ],
        ),
        (
            "the same time",
            running(form(), &[one[0], one[0]]),
            vec!["prior_messages[1].send_time"],
        ),
        (
            "before one without a channel",
            running(
                form(),
                &[
                    (DeliveryChannel::Unspecified, "2026-02-20T09:00:00Z"),
                    (INBOX, "2026-02-19T09:00:00Z"),
                ],
            ),
            vec!["prior_messages[0].channel", "prior_messages[1].send_time"],
        ),
        (
            "more than any round has, one of them the same time",
            running(
                form(),
                &[one[0], one[0], (INBOX, "2026-02-21T09:00:00Z")].repeat(3)[..7],
            ),
            vec![
                "prior_messages",
                "prior_messages[1].send_time",
                "prior_messages[3].send_time",
                "prior_messages[4].send_time",
            ],
        ),
        (
            "to come",
            running(form(), &[(INBOX, "2026-03-02T09:00:01Z")]),
            vec!["prior_messages[0].send_time"],
        ),
        (
            "too many",
            running(
                form(),
                &[
                    (INBOX, "2026-01-01T09:00:00Z"),
                    (INBOX, "2026-01-02T09:00:00Z"),
                    (INBOX, "2026-01-03T09:00:00Z"),
                    (INBOX, "2026-01-04T09:00:00Z"),
                ],
            ),
            vec!["prior_messages"],
        ),
        (
            "over",
            running(make::wire_form("2026-02-01", "2026-03-01"), &one),
            vec!["booking_request.constraints.requested_period.end_date"],
        ),
    ] {
        let status = harness.create(call).await.expect_err(row);
        assert_eq!(refusal(&status).0, Code::InvalidArgument, "{row}");
        assert_eq!(bad_fields(&status), fields, "{row}");
    }
    let begun = harness.create(make::wire_create(form())).await;
    let status = begun.expect_err("its start has passed, and nothing was sent");
    assert_eq!(
        bad_fields(&status),
        ["booking_request.constraints.requested_period.start_date"]
    );
}
