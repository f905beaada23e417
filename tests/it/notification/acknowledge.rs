//! What consumers answer, and what comes of it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::DispatchRefusal;
use care_invitation::contract::v1::HoldReason;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::acknowledgement::Outcome;
use care_invitation::contract::v1::delivery_receipt::Receipt;
use care_invitation::domain;
use care_invitation::domain::notification::acknowledge::{Acknowledgement, acknowledge as decide};
use chrono::Duration;

use super::{NOW, State, book, create, due_now, messages, states};
use crate::consumer::{
    Consumer, acknowledge, answer, element_fields, everything, message, name, results, retry, sent,
};
use crate::harness::{Harness, bad_fields};
use crate::logged::Log;
use crate::make::at;
use crate::{make, worklist_user};

/// A request of which the first message is leased.
async fn leased(harness: &Harness) -> (String, v1::DueNotification) {
    let request = create(harness, due_now("R-1")).await;
    (request, harness.lease_due().await.remove(0))
}

fn seconds(seconds: i64) -> prost_types::Duration {
    prost_types::Duration { seconds, nanos: 0 }
}

#[tokio::test]
async fn sent_counts_from_the_time_that_the_consumer_gives() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    // Handed over at a minute to midnight, local time, and reported the next morning.
    harness.advance("2026-03-03T08:00:00Z");
    let handed_over = v1::Acknowledgement {
        send_time: Some(make::wire_at("2026-03-02T22:59:00Z")),
        ..sent(&due)
    };
    answer(&harness, handed_over).await;
    let shown = messages(&harness, &request).await;
    assert_eq!(shown[0].state(), State::Sent);
    assert_eq!(
        shown[0].send_time,
        Some(make::wire_at("2026-03-02T22:59:00Z"))
    );
    assert_eq!(
        shown[1].due_time,
        Some(make::wire_at("2026-03-16T08:00:00Z"))
    );
}

#[tokio::test]
async fn sent_without_a_time_means_now() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    harness.advance("2026-03-02T09:00:07Z");
    answer(&harness, sent(&due)).await;
    let shown = messages(&harness, &request).await;
    assert_eq!(
        shown[0].send_time,
        Some(make::wire_at("2026-03-02T09:00:07Z"))
    );
}

#[tokio::test]
async fn a_hand_over_before_the_first_lease_is_taken_as_the_first_lease() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    harness.advance("2026-03-02T10:00:00Z");
    let due = harness.lease_due().await.remove(0);
    harness.advance("2026-03-02T10:01:00Z");
    let too_early = v1::Acknowledgement {
        send_time: Some(make::wire_at("2026-02-01T09:00:00Z")),
        ..sent(&due)
    };
    answer(&harness, too_early).await;
    let shown = messages(&harness, &request).await;
    assert_eq!(
        shown[0].send_time,
        Some(make::wire_at("2026-03-02T10:00:00Z"))
    );
    assert_eq!(
        shown[1].due_time,
        Some(make::wire_at("2026-03-16T08:00:00Z"))
    );
}

#[tokio::test]
async fn a_possible_repeat_was_handed_over_when_it_was_due_at_the_earliest() {
    for (said, taken) in [
        ("2026-02-01T09:00:00Z", NOW),
        ("2026-03-02T09:30:00Z", "2026-03-02T09:30:00Z"),
    ] {
        let harness = Harness::start(NOW).await;
        let request = create(&harness, due_now("R-1")).await;
        harness.advance("2026-03-02T10:00:00Z");
        harness.lease_due().await;
        harness.advance("2026-03-02T10:01:00Z");
        let due = harness.lease_due().await.remove(0);
        assert!(due.possible_repeat, "its first lease has expired");
        let handed_over = v1::Acknowledgement {
            send_time: Some(make::wire_at(said)),
            ..sent(&due)
        };
        answer(&harness, handed_over).await;
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].send_time, Some(make::wire_at(taken)));
    }
}

#[tokio::test]
async fn a_hand_over_ahead_of_the_clock_is_taken_as_now_and_spoils_no_other() {
    let far = prost_types::Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    for ahead in [
        make::wire_at("2026-03-02T09:00:00.000001Z"),
        make::wire_at("2026-03-02T09:00:00.3Z"),
        make::wire_at("2036-03-02T09:00:00Z"),
        far,
    ] {
        let harness = Harness::start(NOW).await;
        for number in 0..3 {
            create(&harness, due_now(&format!("R-{number}"))).await;
        }
        let leased = harness.lease_due().await;
        let mut answers: Vec<_> = leased.iter().map(sent).collect();
        answers[1].send_time = Some(ahead);
        let lost = acknowledge(&harness, answers).await;
        assert_eq!(lost.expect("recorded"), [""; 0], "{ahead}");
        for due in leased {
            let shown = messages(&harness, &due.booking_request).await;
            assert_eq!(shown[0].send_time, Some(make::wire_at(NOW)), "{ahead}");
            let next = make::wire_at("2026-03-16T08:00:00Z");
            assert_eq!(shown[1].due_time, Some(next), "{ahead}");
        }
    }
}

/// What the clock says when it is decided counts, not when the call came in.
#[test]
fn a_hand_over_is_never_later_than_the_instant_at_which_it_is_recorded() {
    let record = make::invited(super::FIRST, super::LAST, at(NOW));
    let (record, id, token) = make::leased(&record, at(NOW));
    let ahead = Acknowledgement {
        id,
        token,
        outcome: domain::notification::Outcome::Sent,
        sent_at: Some(at("2026-03-02T09:00:05Z")),
        retry_delay: None,
        detail: String::new(),
        may_have_been_sent: false,
    };
    for (decided, taken) in [
        ("2026-03-02T09:00:04Z", "2026-03-02T09:00:04Z"),
        ("2026-03-02T09:00:06Z", "2026-03-02T09:00:05Z"),
    ] {
        let decision = decide(&record, &ahead, &make::context(at(decided)));
        let change = decision.expect("not lost").expect("recorded");
        let message = change.record.notification(id).expect("the message");
        assert_eq!(message.sent_at, Some(at(taken)), "{decided}");
    }
}

#[tokio::test]
async fn a_cause_is_made_to_fit_and_spoils_nothing() {
    let long = "å".repeat(600);
    for (said, kept) in [
        ("mallen\r\när\ttrasig\0", "mallen  är trasig ".to_owned()),
        ("to\u{308}m\u{85}", "töm ".to_owned()),
        (long.as_str(), "å".repeat(500)),
    ] {
        let harness = Harness::start(NOW).await;
        for number in 0..3 {
            create(&harness, due_now(&format!("R-{number}"))).await;
        }
        let leased = harness.lease_due().await;
        let outcomes = [Outcome::Sent, Outcome::Park, Outcome::Retry];
        let answers = leased
            .iter()
            .zip(outcomes)
            .map(|(due, outcome)| v1::Acknowledgement {
                outcome: outcome.into(),
                cause: said.into(),
                ..sent(due)
            });
        let lost = acknowledge(&harness, answers.collect()).await;
        assert_eq!(lost.expect("recorded"), [""; 0], "{said:?}");
        for (due, outcome) in leased.iter().zip(outcomes) {
            let shown = messages(&harness, &due.booking_request).await;
            let expected = match outcome {
                Outcome::Retry => (NotificationCause::Retry, kept.as_str()),
                Outcome::Park => (NotificationCause::Parked, kept.as_str()),
                _ => (NotificationCause::Unspecified, ""),
            };
            let found = (shown[0].cause(), &*shown[0].cause_detail);
            assert_eq!(found, expected, "{outcome:?} {said:?}");
        }
    }
}

#[tokio::test]
async fn times_more_than_a_minute_ahead_are_logged_once_a_call_by_count_and_distance() {
    let log = Log::default();
    let _listening = log.listen();
    let harness = Harness::start(NOW).await;
    for number in 0..3 {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    let leased = harness.lease_due().await;
    let times = [
        "2026-03-02T09:01:00Z",
        "2026-03-02T09:01:00.000001Z",
        "2026-03-02T10:00:00Z",
    ];
    let answers = leased.iter().zip(times).map(|(due, time)| {
        let send_time = Some(make::wire_at(time));
        v1::Acknowledgement {
            send_time,
            ..sent(due)
        }
    });
    let lost = acknowledge(&harness, answers.collect()).await;
    assert_eq!(lost.expect("recorded"), [""; 0]);
    let said = log.lines("ahead of this server's clock");
    assert_eq!(said.len(), 1, "{said:?}");
    assert!(said[0].contains("count=2"), "{said:?}");
    assert!(said[0].contains("ahead_seconds=3600"), "{said:?}");

    let read = |time| {
        let (message, at) = (name(&leased[0]), Some(make::wire_at(time)));
        let harness = &harness;
        async move { worklist_user::try_report(harness, &message, Receipt::Read, at).await }
    };
    read("2026-03-02T09:02:00Z").await.expect("recorded");
    let said = log.lines("ahead of this server's clock");
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[1].contains("count=1"), "{said:?}");
    assert!(said[1].contains("ahead_seconds=120"), "{said:?}");
}

#[tokio::test]
async fn a_repeated_answer_answers_the_same_and_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    answer(&harness, sent(&due)).await;
    let before = harness.get(&request).await.expect("a request");
    harness.advance("2026-03-02T09:00:30Z");
    let other_time = v1::Acknowledgement {
        send_time: Some(make::wire_at("2026-03-02T09:00:20Z")),
        ..sent(&due)
    };
    for again in [sent(&due), other_time] {
        answer(&harness, again).await;
        let after = harness.get(&request).await.expect("a request");
        assert!(after == before, "{:?}", after.care_invitation);
    }
}

#[tokio::test]
async fn a_repeated_retry_does_not_push_the_message_away() {
    let harness = Harness::start(NOW).await;
    let (_, due) = leased(&harness).await;
    answer(&harness, retry(&due)).await;
    harness.advance("2026-03-02T09:00:59Z");
    answer(&harness, retry(&due)).await;
    harness.advance("2026-03-02T09:01:00Z");
    assert_eq!(harness.lease_due().await.len(), 1);
}

#[tokio::test]
async fn the_first_answer_stands_but_sent_replaces_retry() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    answer(&harness, retry(&due)).await;
    assert_eq!(
        messages(&harness, &request).await[0].state(),
        State::Scheduled
    );
    answer(&harness, sent(&due)).await;
    let after_sent = messages(&harness, &request).await;
    assert_eq!(after_sent[0].state(), State::Sent);
    assert!(!after_sent[0].sent_after_change);
    answer(&harness, retry(&due)).await;
    assert_eq!(messages(&harness, &request).await, after_sent);
    harness.advance("2026-03-02T12:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn retry_waits_a_minute_that_doubles_up_to_an_hour_and_never_parks() {
    let harness = Harness::start(NOW).await;
    let (request, mut due) = leased(&harness).await;
    for wait in [1, 2, 4, 8, 16, 32, 60, 60, 60, 60] {
        answer(&harness, retry(&due)).await;
        assert_eq!(
            messages(&harness, &request).await[0].state(),
            State::Scheduled
        );
        let next = harness.clock.now() + Duration::minutes(wait);
        let just_before = next - Duration::microseconds(1);
        harness.clock.advance(just_before).expect("forward");
        assert!(harness.lease_due().await.is_empty(), "{wait} minutes");
        harness.clock.advance(next).expect("forward");
        due = harness.lease_due().await.pop().expect("due again");
        assert!(!due.possible_repeat, "every lease was answered");
    }
    assert_eq!(message(&due).delivery_attempt, 11);
}

#[tokio::test]
async fn retry_waits_as_long_as_the_consumer_says_and_a_day_at_most() {
    let harness = Harness::start(NOW).await;
    let (request, mut due) = leased(&harness).await;
    for (delay, wait) in [(0, 0), (7, 7), (86_400, 86_400), (90_000, 86_400)] {
        let delayed = v1::Acknowledgement {
            retry_delay: Some(seconds(delay)),
            cause: "the inbox is closed".into(),
            ..retry(&due)
        };
        answer(&harness, delayed).await;
        if wait > 0 {
            let shown = &messages(&harness, &request).await[0];
            assert_eq!(shown.cause(), NotificationCause::Retry);
            assert_eq!(shown.cause_detail, "the inbox is closed");
            let just_before = harness.clock.now() + Duration::seconds(wait - 1);
            harness.clock.advance(just_before).expect("forward");
            assert!(harness.lease_due().await.is_empty(), "{delay} seconds");
            let next = just_before + Duration::seconds(1);
            harness.clock.advance(next).expect("forward");
        }
        due = harness.lease_due().await.pop().expect("due again");
    }
}

#[tokio::test]
async fn retry_wakes_a_standing_stream_when_its_wait_is_over() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    answer(&harness, retry(&due)).await;
    harness.advance("2026-03-02T09:01:00Z");
    let again = consumer.due().await;
    assert_eq!(name(&again), name(&due));
    let at_once = v1::Acknowledgement {
        retry_delay: Some(seconds(0)),
        ..retry(&again)
    };
    answer(&harness, at_once).await;
    assert_eq!(name(&consumer.due().await), name(&due));
}

#[tokio::test]
async fn retry_starts_the_count_of_lapsed_leases_anew() {
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    // Three leases run out: at once, after a minute, after two.
    for wait in [0, 1, 2] {
        assert_eq!(harness.lease_due().await.len(), 1);
        let next = harness.clock.now() + Duration::minutes(1 + wait);
        harness.clock.advance(next).expect("forward");
    }
    let due = harness.lease_due().await.remove(0);
    let at_once = v1::Acknowledgement {
        retry_delay: Some(seconds(0)),
        ..retry(&due)
    };
    answer(&harness, at_once).await;
    for wait in [0, 1, 2, 4, 8, 16, 32, 60] {
        assert_eq!(harness.lease_due().await.len(), 1, "{wait} minutes");
        let next = harness.clock.now() + Duration::minutes(1 + wait);
        harness.clock.advance(next).expect("forward");
    }
    assert!(harness.lease_due().await.is_empty(), "parked after eight");
}

#[tokio::test]
async fn a_booking_between_lease_and_answer_revokes_and_what_was_sent_is_recorded() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    book(&harness, &request).await;
    assert_eq!(consumer.revoked().await, name(&due));
    assert_eq!(states(&harness, &request).await, [State::Cancelled]);
    harness.advance("2026-03-02T09:00:05Z");
    answer(&harness, sent(&due)).await;

    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), v1::booking_request::State::Booked);
    let messages = shown.care_invitation.expect("it was one").notifications;
    assert_eq!(messages.len(), 1, "no reminder is planned");
    assert_eq!(messages[0].state(), State::Sent);
    assert!(messages[0].sent_after_change);
    assert_eq!(
        messages[0].send_time,
        Some(make::wire_at("2026-03-02T09:00:05Z"))
    );
    harness.advance("2026-04-06T07:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn retry_for_a_message_that_was_taken_back_changes_nothing() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    book(&harness, &request).await;
    let before = harness.get(&request).await.expect("a request");
    answer(&harness, retry(&due)).await;
    let after = harness.get(&request).await.expect("a request");
    assert!(after == before, "{:?}", after.care_invitation);
}

#[tokio::test]
async fn what_is_unknown_is_answered_as_lost_and_the_rest_is_recorded() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    let unknown_request = {
        let name = name(&due).replace(&request, &strange(&request));
        answer_for(&name, &due.lease_token)
    };
    let unknown_message = answer_for(&strange(&name(&due)), &due.lease_token);
    let call = vec![unknown_request, unknown_message.clone(), sent(&due)];
    let lost = acknowledge(&harness, call.clone()).await.expect("answered");
    let names = call.iter().map(|it| it.lease.as_ref().expect("a lease"));
    let names: Vec<_> = names.map(|lease| lease.name.clone()).collect();
    assert_eq!(lost, names[..2]);
    assert_eq!(messages(&harness, &request).await[0].state(), State::Sent);
    let no_token = answer_for(&name(&due), "no token of ours");
    let lost = acknowledge(&harness, vec![no_token]).await;
    assert_eq!(lost.expect("answered"), [name(&due)]);
}

/// The same name with another id at its end.
fn strange(name: &str) -> String {
    let (start, _) = name.rsplit_once('/').expect("a name");
    format!("{start}/{}", uuid::Uuid::now_v7())
}

fn answer_for(name: &str, token: &str) -> v1::Acknowledgement {
    v1::Acknowledgement {
        lease: Some(v1::Lease {
            name: name.into(),
            lease_token: token.into(),
        }),
        outcome: Outcome::Sent.into(),
        ..Default::default()
    }
}

#[tokio::test]
async fn a_malformed_answer_has_its_own_error_and_spoils_no_other() {
    let nothing = v1::Acknowledgement::default();
    let stranger = strange("x/1");
    for (bad, name, fields) in [
        (
            nothing,
            "",
            vec!["acknowledgements[0].lease", "acknowledgements[0].outcome"],
        ),
        (
            v1::Acknowledgement {
                outcome: 99,
                ..answer_for(&stranger, "token")
            },
            &stranger,
            vec![
                "acknowledgements[0].lease.name",
                "acknowledgements[0].outcome",
            ],
        ),
        (
            answer_for("notifications/1", ""),
            "notifications/1",
            vec![
                "acknowledgements[0].lease.lease_token",
                "acknowledgements[0].lease.name",
            ],
        ),
    ] {
        let harness = Harness::start(NOW).await;
        let (request, due) = leased(&harness).await;
        let answer = results(&harness, vec![bad, sent(&due)]).await;
        let results = answer.expect("answered").results;
        let error = results[0].error.as_ref().expect("an error");
        assert_eq!(
            (error.code, error.reason().as_str_name()),
            (3, "ERROR_REASON_FIELD_INVALID")
        );
        assert_eq!(element_fields(error), fields);
        assert_eq!(
            (results[0].name.as_str(), results[0].recorded),
            (name, false)
        );
        let recorded = v1::AcknowledgementResult {
            name: self::name(&due),
            recorded: true,
            ..Default::default()
        };
        assert_eq!(results[1..], [recorded]);
        assert_eq!(messages(&harness, &request).await[0].state(), State::Sent);
    }
}

/// Acknowledges messages; returns of each whether it is recorded, and the refusal.
async fn outcomes(
    harness: &Harness,
    acknowledgements: Vec<v1::Acknowledgement>,
) -> Vec<(bool, DispatchRefusal)> {
    let answer = results(harness, acknowledgements).await;
    let results = answer.expect("answered").results;
    let outcome = |it: &v1::AcknowledgementResult| (it.recorded, it.refusal());
    results.iter().map(outcome).collect()
}

#[tokio::test]
async fn a_message_that_is_answered_twice_in_a_call_has_two_answers() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    let found = outcomes(&harness, vec![sent(&due), retry(&due), sent(&due)]).await;
    let recorded = (true, DispatchRefusal::Unspecified);
    assert_eq!(
        found,
        [recorded, (false, DispatchRefusal::Changed), recorded]
    );
    assert_eq!(messages(&harness, &request).await[0].state(), State::Sent);
}

#[tokio::test]
async fn an_answer_that_is_too_late_is_told_why() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    book(&harness, &request).await;
    let found = outcomes(&harness, vec![retry(&due), sent(&due)]).await;
    let expected = [
        (false, DispatchRefusal::Booked),
        (true, DispatchRefusal::Unspecified),
    ];
    assert_eq!(found, expected);
}

#[tokio::test]
async fn a_call_holds_1_to_500_answers() {
    let harness = Harness::start(NOW).await;
    let name = format!("{}/bookingRequests/x/notifications/x", make::wire_unit());
    let id = || uuid::Uuid::now_v7().to_string();
    let strangers = |count: usize| -> Vec<_> {
        let names = (0..count).map(|_| name.replace("/x", &format!("/{}", id())));
        names.map(|name| answer_for(&name, "token")).collect()
    };
    for count in [0, 501] {
        let refused = acknowledge(&harness, strangers(count)).await.unwrap_err();
        assert_eq!(bad_fields(&refused), ["acknowledgements"], "{count}");
    }
    let lost = acknowledge(&harness, strangers(500)).await;
    assert_eq!(lost.expect("answered").len(), 500);
}

#[tokio::test]
async fn what_cannot_be_sent_is_parked_with_the_consumers_words() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    let park = v1::Acknowledgement {
        outcome: Outcome::Park.into(),
        cause: "the template is broken".into(),
        ..sent(&due)
    };
    answer(&harness, park.clone()).await;
    answer(&harness, park).await;
    let shown = harness.get(&request).await.expect("a request");
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::Parked);
    assert_eq!(invitation.notifications[0].state(), State::Parked);
    let parked = &invitation.notifications[0];
    assert_eq!(parked.cause(), NotificationCause::Parked);
    assert_eq!(parked.cause_detail, "the template is broken");
    harness.advance("2026-03-03T09:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn a_letter_follows_at_once_when_the_inbox_does_not_reach_and_staff_when_it_does_not() {
    let harness = Harness::start(NOW).await;
    let (request, inbox) = leased(&harness).await;
    let unreachable = |due: &v1::DueNotification| v1::Acknowledgement {
        outcome: Outcome::Unreachable.into(),
        ..sent(due)
    };
    answer(&harness, unreachable(&inbox)).await;
    answer(&harness, unreachable(&inbox)).await;
    let letter = harness.lease_due().await;
    assert_eq!(letter.len(), 1);
    assert_ne!(name(&letter[0]), name(&inbox));
    let followed = message(&letter[0]);
    assert_eq!(followed.kind(), message(&inbox).kind());
    assert_eq!(followed.channel(), v1::DeliveryChannel::Letter);
    assert_eq!(followed.channel_reason(), v1::ChannelReason::DigitalFailed);
    assert_eq!(followed.due_time, Some(make::wire_at(NOW)));
    answer(&harness, unreachable(&letter[0])).await;
    let shown = harness.get(&request).await.expect("a request");
    let invitation = shown.care_invitation.expect("an invitation");
    assert_eq!(invitation.hold_reason(), HoldReason::Undeliverable);
    let [first, second, ..] = &invitation.notifications[..] else {
        panic!("two messages were planned");
    };
    assert_eq!(
        (first.state(), first.cause()),
        (State::Cancelled, NotificationCause::Unreachable)
    );
    assert_eq!(second.state(), State::Parked);
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn what_was_sent_in_a_round_that_is_over_leaves_the_new_round_alone() {
    let harness = Harness::start(NOW).await;
    let (request, due) = leased(&harness).await;
    book(&harness, &request).await;
    let again = harness.invite(make::wire_invite(&request)).await;
    again.expect("a new round");
    answer(&harness, sent(&due)).await;
    let shown = messages(&harness, &request).await;
    assert_eq!((shown[0].round, shown[0].state()), (1, State::Sent));
    assert!(shown[0].sent_after_change);
    assert_eq!((shown[1].round, shown[1].state()), (2, State::Scheduled));
    assert_eq!(shown[1].kind(), v1::NotificationKind::Invitation);
    let second = harness.lease_due().await;
    assert_eq!(second.len(), 1);
    assert_eq!(name(&second[0]), shown[1].name);
    assert_eq!(second[0].previous_send_time, None);
}

#[tokio::test]
async fn a_booking_and_an_answer_at_once_leave_nothing_pending() {
    let harness = Harness::start(NOW).await;
    for number in 0..20 {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    for due in harness.lease_due().await {
        let request = due.booking_request.clone();
        tokio::join!(
            book(&harness, &request),
            answer(&harness, sent(&due)),
            answer(&harness, retry(&due)),
        );
        let shown = messages(&harness, &request).await;
        assert_eq!(shown[0].state(), State::Sent);
        for message in &shown[1..] {
            assert_eq!(message.state(), State::Cancelled);
        }
    }
    harness.advance("2026-05-01T07:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn many_answers_are_recorded_together() {
    let harness = Harness::start(NOW).await;
    for number in 0..60 {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    let leased = harness.lease_due().await;
    assert_eq!(leased.len(), 60);
    let lost = acknowledge(&harness, leased.iter().map(sent).collect()).await;
    assert!(lost.expect("taken").is_empty());
    for due in leased {
        let shown = states(&harness, &due.booking_request).await;
        assert_eq!(shown, [State::Sent, State::Scheduled, State::Projected]);
    }
}
