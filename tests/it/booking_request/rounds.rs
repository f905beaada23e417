//! Rounds: from where an invitation begins anew, what it leaves of the round before, and what of
//! that round comes late.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Outcome;
use care_invitation::contract::v1::HistoryEvent;
use care_invitation::contract::v1::NotificationKind::{Invitation, Reminder};
use care_invitation::contract::v1::booking_request::State;
use care_invitation::contract::v1::notification::State as Message;
use care_invitation::contract::v1::{CancelReason, ChangeReason, HoldReason, Worklist};
use tonic::Code;

use super::calls::{
    cancel, contact, contacted, get_leave, hand_over_one, hold, invite_between, lease_one, park,
    planned, protect, release, released, round, updated,
};
use super::{
    NOW, SILENCE_ENDS, booking, created, done, lists_of, messages, plan, record, requested, state,
};
use crate::consumer::{Consumer, answer, everything, name, retry, sent, step};
use crate::harness::{Harness, metadata, refusal};
use crate::make;

/// An invitation that is due at once.
async fn due_now(harness: &Harness) -> v1::BookingRequest {
    created(harness, make::wire_form("2026-03-09", "2026-06-12")).await
}

async fn invited(harness: &Harness, name: &str) -> v1::BookingRequest {
    let answer = harness.invite(make::wire_invite(name)).await;
    answer.expect("invited")
}

async fn read(harness: &Harness, name: &str) -> v1::BookingRequest {
    harness.get(name).await.expect("read")
}

/// From where a new round begins.
const STARTS: [&str; 9] = [
    "requested",
    "declined",
    "booked",
    "no response",
    "expired",
    "will book",
    "call back",
    "no suitable time",
    "contacted",
];

/// Brings a request of which one message is out into a state that allows a new round.
async fn started(harness: &Harness, start: &str) -> v1::BookingRequest {
    let form = match start {
        "requested" => requested("2026-03-09", "2026-06-12"),
        "expired" => make::wire_form("2026-03-09", "2026-03-15"),
        _ => make::wire_form("2026-03-09", "2026-06-12"),
    };
    let request = created(harness, form).await.name;
    if start != "requested" {
        hand_over_one(harness).await;
    }
    let outcome = match start {
        "declined" => Some(Outcome::Declined),
        "will book" => Some(Outcome::WillBook),
        "call back" => Some(Outcome::CallBack),
        "no suitable time" => Some(Outcome::NoSuitableTime),
        "contacted" => Some(Outcome::Other),
        _ => None,
    };
    if let Some(outcome) = outcome {
        contacted(harness, contact(&request, outcome))
            .await
            .expect("recorded");
    }
    match start {
        "booked" => {
            let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
            harness.book(record(&request, visit)).await.expect("booked");
        }
        "no response" => {
            for due in ["2026-03-16T08:00:00Z", "2026-03-30T07:00:00Z"] {
                harness.advance(due);
                hand_over_one(harness).await;
            }
        }
        _ => {}
    }
    harness.advance(SILENCE_ENDS);
    read(harness, &request).await
}

#[tokio::test]
async fn a_round_begins_from_every_state_that_allows_it() {
    for start in STARTS {
        let harness = Harness::start(NOW).await;
        let before = started(&harness, start).await;
        let call = v1::ChangeToInvitationRequest {
            comment: "ny omgång".into(),
            ..invite_between(&before.name, "2026-06-01", "2026-07-31")
        };
        let after = harness.invite(call).await.expect(start);
        assert_eq!(
            (state(&after), hold(&after)),
            (State::Invited, HoldReason::Unspecified),
            "{start}"
        );
        assert_eq!(round(&after), round(&before) + 1, "{start}");
        assert!(after.summons && after.invitation, "{start}");
        assert_eq!(after.booking, None, "{start}");
        let invitation = after.care_invitation.as_ref().expect("an invitation");
        assert_eq!(
            invitation.invite_time,
            Some(make::wire_at(SILENCE_ENDS)),
            "{start}"
        );
        assert_eq!(invitation.no_response_time, None, "{start}");
        assert_eq!(invitation.wait_until_date, "", "{start}");
        assert_eq!(
            lists_of(&harness, &before.name).await,
            [Worklist::CareInvitations],
            "{start}"
        );

        // What there was is kept, and what was pending is cancelled.
        let (old, new) = messages(&after).split_at(messages(&after).len() - 3);
        let expected = match start {
            "requested" => "",
            "no response" => "SENT SENT SENT ",
            _ => "SENT CANCELLED ",
        };
        assert_eq!(planned(&after), format!("{expected}SCHEDULED"), "{start}");
        assert!(old.iter().all(|it| it.round == round(&before)), "{start}");
        let kinds: Vec<_> = new.iter().map(|it| (it.round, step(it))).collect();
        let now = round(&after);
        assert_eq!(
            kinds,
            [
                (now, (Invitation, 0)),
                (now, (Reminder, 1)),
                (now, (Reminder, 2))
            ]
        );
        let dates = [
            "SCHEDULED 04-20T07:00Z",
            "PROJECTED 05-04T07:00Z",
            "PROJECTED 05-18T07:00Z",
        ];
        assert_eq!(plan(new), dates, "{start}");

        let entries = harness.history(&before.name).await;
        let entry = entries
            .iter()
            .rfind(|it| it.event() == HistoryEvent::ChangeToInvitation);
        let entry = entry.expect("an entry");
        assert_eq!(
            entry.change_reason(),
            ChangeReason::ToCareInvitation,
            "{start}"
        );
        assert_eq!(
            (entry.comment.as_str(), entry.state()),
            ("ny omgång", State::Invited)
        );
        assert_eq!(entry.booking, before.booking, "{start}");
        assert_eq!(entry.constraints, after.constraints, "{start}");

        // It runs like the first.
        for due in [
            "2026-04-20T07:00:00Z",
            "2026-05-04T07:00:00Z",
            "2026-05-18T07:00:00Z",
        ] {
            harness.advance(due);
            hand_over_one(&harness).await;
        }
        harness.advance("2026-06-01T06:59:59Z");
        assert_eq!(
            state(&read(&harness, &before.name).await),
            State::Invited,
            "{start}"
        );
        harness.advance("2026-06-01T07:00:00Z");
        assert_eq!(
            state(&read(&harness, &before.name).await),
            State::NoResponse,
            "{start}"
        );
    }
}

#[tokio::test]
async fn without_new_constraints_the_present_ones_stand_unless_their_period_has_passed() {
    for start in STARTS {
        let harness = Harness::start(NOW).await;
        let before = started(&harness, start).await;
        let answer = harness.invite(make::wire_invite(&before.name)).await;
        if start == "expired" {
            let status = answer.expect_err(start);
            let reason = (Code::FailedPrecondition, "PERIOD_PASSED".to_owned());
            assert_eq!(refusal(&status), reason);
            continue;
        }
        let after = answer.expect(start);
        assert_eq!(after.constraints, before.constraints, "{start}");
        // The start has passed and the end is to come: now.
        let new = messages(&after).iter().find(|it| it.round == round(&after));
        let due = new.expect("a message").due_time;
        assert_eq!(due, Some(make::wire_at(SILENCE_ENDS)), "{start}");
    }
}

#[tokio::test]
async fn rounds_count_up_and_the_messages_of_each_are_kept() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await.name;
    for count in 1..=4 {
        let shown = read(&harness, &request).await;
        assert_eq!(round(&shown), count);
        let kept = messages(&shown).iter().filter(|it| it.round < count);
        let expected = usize::try_from(count - 1).expect("a count") * 2;
        assert_eq!(kept.count(), expected);
        hand_over_one(&harness).await;
        contacted(&harness, contact(&request, Outcome::Declined))
            .await
            .expect("declined");
        invited(&harness, &request).await;
    }
    let entries = harness.history(&request).await;
    let rounds = done(&entries)
        .iter()
        .filter(|it| **it == "CHANGE_TO_INVITATION")
        .count();
    assert_eq!(rounds, 4);
}

#[tokio::test]
async fn a_new_round_takes_back_or_ends_what_was_pending() {
    for pending in ["scheduled", "leased", "parked"] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await.name;
        if pending != "scheduled" {
            let due = lease_one(&harness).await;
            if pending == "parked" {
                answer(&harness, park(&due)).await;
            }
        }
        // Staff hold it in the patient's name, for otherwise it is an invitation already.
        contacted(&harness, contact(&request, Outcome::CallBack))
            .await
            .expect("held");
        let after = invited(&harness, &request).await;
        assert_eq!(planned(&after), "CANCELLED SCHEDULED", "{pending}");
        let due = lease_one(&harness).await;
        assert_eq!(name(&due), messages(&after)[1].name, "{pending}");
        assert!(!due.possible_repeat, "{pending}");
        assert_eq!(due.previous_send_time, None, "{pending}");
    }
}

#[tokio::test]
async fn what_was_on_its_way_counts_as_handed_over_and_is_never_leased_again() {
    for late in ["sent", "retry", "lapse"] {
        let harness = Harness::start(NOW).await;
        let request = due_now(&harness).await.name;
        let due = lease_one(&harness).await;
        get_leave(&harness, &due).await;
        contacted(&harness, contact(&request, Outcome::CallBack))
            .await
            .expect("held");
        let after = harness
            .invite(invite_between(&request, "2026-06-15", "2026-07-31"))
            .await
            .expect("invited");
        assert_eq!(planned(&after), "DISPATCHING SCHEDULED", "{late}");
        match late {
            "sent" => answer(&harness, sent(&due)).await,
            "retry" => answer(&harness, retry(&due)).await,
            _ => {}
        }
        harness.advance("2026-03-20T09:00:00Z");
        assert!(harness.lease_due().await.is_empty(), "{late}");
        let expected = match late {
            "sent" => "SENT SCHEDULED",
            "retry" => "CANCELLED SCHEDULED",
            _ => "DISPATCHING SCHEDULED",
        };
        let after = read(&harness, &request).await;
        assert_eq!(planned(&after), expected, "{late}");
        assert_eq!(
            plan(messages(&after))[1],
            "SCHEDULED 05-04T07:00Z",
            "{late}"
        );
    }
}

#[tokio::test]
async fn what_left_late_of_an_old_round_is_sent_after_change_and_leaves_the_new_round_alone() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await.name;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let old = consumer.due().await;
    contacted(&harness, contact(&request, Outcome::NoSuitableTime))
        .await
        .expect("held");
    assert_eq!(consumer.revoked().await, name(&old));
    harness.advance("2026-03-04T12:00:00Z");
    let before = invited(&harness, &request).await;
    let new = consumer.due().await;
    answer(&harness, sent(&old)).await;
    let after = read(&harness, &request).await;
    assert_eq!(planned(&after), "SENT LEASED");
    let shown = &messages(&after)[0];
    assert_eq!((shown.round, shown.sent_after_change), (1, true));
    assert_eq!(round(&after), 2);
    assert_eq!(
        messages(&after)[2..],
        messages(&before)[2..],
        "the plan of the new round"
    );
    // The new round counts from its own hand-over.
    harness.advance("2026-03-05T12:00:00Z");
    let again = consumer.due().await;
    assert_eq!(name(&again), name(&new));
    answer(&harness, sent(&again)).await;
    let after = read(&harness, &request).await;
    let expected = [
        "SENT 03-02T09:00Z",
        "SENT 03-04T12:00Z",
        "SCHEDULED 03-19T08:00Z",
        "PROJECTED 04-02T07:00Z",
    ];
    assert_eq!(plan(messages(&after)), expected);
    assert!(!messages(&after)[1].sent_after_change);
}

#[tokio::test]
async fn each_round_of_a_protected_patient_begins_held() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await.name;
    hand_over_one(&harness).await;
    updated(&harness, protect()).await.expect("updated");
    for expected in 2..4 {
        // Staff release what there is, the patient declines, and it begins anew.
        let released = released(&harness, release(&request))
            .await
            .expect("released");
        assert_eq!(hold(&released), HoldReason::Unspecified);
        contacted(&harness, contact(&request, Outcome::Declined))
            .await
            .expect("declined");
        let after = invited(&harness, &request).await;
        assert_eq!(
            (round(&after), hold(&after)),
            (expected, HoldReason::ProtectedIdentity)
        );
        assert_eq!(
            lists_of(&harness, &request).await,
            [Worklist::ManualHandling]
        );
        assert!(harness.lease_due().await.is_empty());
    }
    // Released in this round, held by the patient, and invited anew: held again.
    released(&harness, release(&request))
        .await
        .expect("released");
    contacted(&harness, contact(&request, Outcome::CallBack))
        .await
        .expect("held");
    let after = invited(&harness, &request).await;
    assert_eq!(
        (round(&after), hold(&after)),
        (4, HoldReason::ProtectedIdentity)
    );
    // A request that was never an invitation begins held as well.
    let form = v1::BookingRequest {
        origin: Some(make::wire_referral("R-2")),
        ..requested("2026-03-09", "2026-06-12")
    };
    let other = created(&harness, form).await.name;
    updated(&harness, protect()).await.expect("updated");
    let after = invited(&harness, &other).await;
    assert_eq!(
        (round(&after), hold(&after)),
        (1, HoldReason::ProtectedIdentity)
    );
}

#[tokio::test]
async fn a_message_that_staff_hold_is_not_invited_over() {
    let harness = Harness::start(NOW).await;
    let request = due_now(&harness).await.name;
    answer(&harness, park(&lease_one(&harness).await)).await;
    let before = read(&harness, &request).await;
    let status = harness.invite(make::wire_invite(&request)).await;
    let reason = (Code::FailedPrecondition, "ALREADY_INVITATION".to_owned());
    assert_eq!(refusal(&status.expect_err("parked")), reason);
    let after = read(&harness, &request).await;
    assert_eq!(after, before, "no new message");
}

#[tokio::test]
async fn a_request_that_opens_again_beside_one_like_it_is_a_duplicate() {
    for closed in ["booked", "declined"] {
        let harness = Harness::start(NOW).await;
        let first = created(&harness, make::wire_form("2026-05-18", "2026-06-12"))
            .await
            .name;
        if closed == "booked" {
            let visit = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
            harness.book(record(&first, visit)).await.expect("booked");
        } else {
            contacted(&harness, contact(&first, Outcome::Declined))
                .await
                .expect("declined");
        }
        let second = due_now(&harness).await.name;
        let status = harness
            .invite(make::wire_invite(&first))
            .await
            .expect_err(closed);
        let reason = (Code::AlreadyExists, "DUPLICATE_REQUEST".to_owned());
        assert_eq!(refusal(&status), reason, "{closed}");
        assert_eq!(metadata(&status, "name"), second, "{closed}");
        // An open one stands in nobody's way but a stranger's: not in its own.
        contacted(&harness, contact(&second, Outcome::CallBack))
            .await
            .expect("held");
        assert_eq!(round(&invited(&harness, &second).await), 2, "{closed}");
        let call = cancel(&second, CancelReason::PatientRequest);
        harness.cancel(call).await.expect("cancelled");
        assert_eq!(
            state(&invited(&harness, &first).await),
            State::Invited,
            "{closed}"
        );
    }
}

#[tokio::test]
async fn the_messages_of_a_round_that_expired_are_cancelled_by_the_next() {
    let harness = Harness::start(NOW).await;
    let form = make::wire_form("2026-03-09", "2026-03-15");
    let request = created(&harness, form).await.name;
    hand_over_one(&harness).await;
    harness.advance("2026-03-15T23:00:00Z");
    let expired = read(&harness, &request).await;
    assert_eq!(
        (state(&expired), planned(&expired).as_str()),
        (State::Expired, "SENT SKIPPED")
    );
    let call = invite_between(&request, "2026-03-16", "2026-06-12");
    let after = harness.invite(call).await.expect("invited");
    let shown: Vec<_> = messages(&after).iter().map(|it| it.state()).collect();
    let expected = [
        Message::Sent,
        Message::Cancelled,
        Message::Scheduled,
        Message::Projected,
        Message::Projected,
    ];
    assert_eq!(shown, expected);
    harness.advance("2026-03-16T08:00:00Z");
    assert_eq!(name(&lease_one(&harness).await), messages(&after)[2].name);
}
