//! Streams and acknowledgements as tables; due notifications of an invitation whose first one was sent.

use prost_types::Timestamp;

use super::super::tests::fields;
use super::*;
use crate::contract::booking_request::samples;
use crate::domain::notification::{Kind, Lease, State};
use crate::domain::patient::{Addressee, LetterFormat, Protection};

const NOW: &str = "2026-03-02T09:00:00Z";

fn now() -> Instant {
    NOW.parse().unwrap()
}

fn name(notification: u128) -> String {
    super::super::notification_name(&samples::record().key, Uuid::from_u128(notification))
}

fn seconds(seconds: i64) -> Option<WireDuration> {
    Some(WireDuration { seconds, nanos: 0 })
}

#[test]
fn a_stream_without_wishes_has_its_defaults() {
    let parsed = parse_stream(v1::StreamDueNotificationsRequest::default()).unwrap();
    let expected = Subscription {
        channels: vec![DeliveryChannel::Inbox, DeliveryChannel::Letter],
        care_units: None,
        max_outstanding: 100,
        lease_duration: Duration::seconds(60),
        until_idle: false,
        always_authorizes: false,
    };
    assert_eq!(parsed, expected);
}

#[test]
fn a_lease_lasts_10_seconds_to_an_hour() {
    for (given, expected) in [
        (seconds(10), Some(10)),
        (seconds(3_600), Some(3_600)),
        (seconds(3_601), None),
        (seconds(i64::MAX), None),
        (seconds(9), None),
        (seconds(0), None),
        (seconds(-1), None),
    ] {
        let parsed = parse_stream(v1::StreamDueNotificationsRequest {
            lease_duration: given,
            ..Default::default()
        });
        let parsed = parsed
            .map(|it| it.lease_duration.num_seconds())
            .map_err(fields);
        assert_eq!(
            parsed,
            expected.ok_or(vec!["lease_duration".to_owned()]),
            "{given:?}"
        );
    }
}

#[test]
fn each_fault_of_a_stream_names_its_field() {
    let parsed = parse_stream(v1::StreamDueNotificationsRequest {
        channels: vec![2, 0, 3, 2],
        care_units: vec!["careUnits/-".into()],
        max_outstanding: -1,
        lease_duration: seconds(1),
        until_idle: true,
        always_authorizes: true,
    });
    assert_eq!(
        fields(parsed.unwrap_err()),
        [
            "channels[1]",
            "channels[2]",
            "care_units[0]",
            "max_outstanding",
            "lease_duration"
        ]
    );
    let parsed = parse_stream(v1::StreamDueNotificationsRequest {
        channels: vec![2, 2],
        ..Default::default()
    });
    assert_eq!(parsed.unwrap().channels, [DeliveryChannel::Letter]);
}

#[test]
fn at_most_1000_notifications_are_outstanding() {
    for (given, expected) in [
        (0, Some(100)),
        (1, Some(1)),
        (1_000, Some(1_000)),
        (1_001, None),
        (i32::MAX, None),
    ] {
        let parsed = parse_stream(v1::StreamDueNotificationsRequest {
            max_outstanding: given,
            ..Default::default()
        });
        let parsed = parsed.map(|it| it.max_outstanding).map_err(fields);
        assert_eq!(parsed, expected.ok_or(vec!["max_outstanding".to_owned()]));
    }
}

#[test]
fn a_token_of_another_make_is_unknown_and_not_malformed() {
    let lease = |notification, token: &str| v1::Lease {
        name: name(notification),
        lease_token: token.into(),
    };
    let token = Uuid::from_u128(7);
    let leases = vec![
        lease(1, &token.to_string().to_uppercase()),
        lease(2, "ours-not"),
    ];
    let parsed = parse_authorize(&v1::AuthorizeDispatchRequest { leases }).unwrap();
    let tokens: Vec<_> = parsed.split().0.iter().map(|lease| lease.token).collect();
    assert_eq!(tokens, [token, Uuid::nil()]);
}

#[test]
fn a_batch_has_1_to_500_elements() {
    let lease = v1::Lease {
        name: name(1),
        lease_token: "t".into(),
    };
    for (count, faults) in [
        (0, vec!["leases"]),
        (1, vec![]),
        (500, vec![]),
        (501, vec!["leases"]),
    ] {
        let leases = vec![lease.clone(); count];
        let parsed = parse_authorize(&v1::AuthorizeDispatchRequest { leases });
        assert_eq!(parsed.map_or_else(fields, |_| vec![]), faults);
    }
}

#[test]
fn a_malformed_element_has_its_faults_and_the_others_their_answers() {
    let lease = |name: String| v1::Lease {
        name,
        lease_token: "t".into(),
    };
    let nameless = v1::Lease::default();
    let leases = vec![lease(name(1)), nameless, lease("x".into()), lease(name(1))];
    let parsed = parse_authorize(&v1::AuthorizeDispatchRequest { leases }).unwrap();
    let (leases, batch) = parsed.split();
    assert_eq!(leases.len(), 2);
    let joined = batch.join(vec!["first", "second"]);
    let joined: Vec<_> = joined
        .into_iter()
        .map(|(name, answer)| (name, answer.map_err(fields)))
        .collect();
    let faults = |paths: &[&str]| Err(paths.iter().map(ToString::to_string).collect());
    let expected = [
        (name(1), Ok("first")),
        (
            String::new(),
            faults(&["leases[1].name", "leases[1].lease_token"]),
        ),
        ("x".to_owned(), faults(&["leases[2].name"])),
        (name(1), Ok("second")),
    ];
    assert_eq!(joined, expected);
}

#[test]
fn a_lease_is_authorized_refused_or_malformed() {
    let error = v1::ElementError {
        code: 3,
        ..Default::default()
    };
    let results = [
        ("a".to_owned(), Ok(None)),
        ("b".to_owned(), Ok(Some(DispatchRefusal::Held))),
        ("c".to_owned(), Err(error.clone())),
    ];
    let answer = render_authorized(results.clone(), Some(now()), now());
    let expected = [
        (true, v1::DispatchRefusal::Unspecified, None),
        (false, v1::DispatchRefusal::Held, None),
        (false, v1::DispatchRefusal::Unspecified, Some(error)),
    ];
    let of_result =
        |it: &v1::AuthorizeDispatchResult| (it.authorized, it.refusal(), it.error.clone());
    assert_eq!(
        answer.results.iter().map(of_result).collect::<Vec<_>>(),
        expected
    );
    assert_eq!(answer.expire_time, answer.server_time);
    let answer = render_acknowledged(results);
    let of_result = |it: &v1::AcknowledgementResult| (it.recorded, it.refusal(), it.error.clone());
    assert_eq!(
        answer.results.iter().map(of_result).collect::<Vec<_>>(),
        expected
    );
}

fn acknowledgement(outcome: v1::acknowledgement::Outcome) -> v1::Acknowledgement {
    v1::Acknowledgement {
        lease: Some(v1::Lease {
            name: name(1),
            lease_token: Uuid::from_u128(7).to_string(),
        }),
        outcome: outcome.into(),
        ..Default::default()
    }
}

fn parsed_one(given: v1::Acknowledgement) -> Result<Acknowledgement, Vec<String>> {
    let acknowledgements = vec![given];
    let message = v1::AcknowledgeNotificationsRequest { acknowledgements };
    let (_, batch) = parse_acknowledge(&message).unwrap().split();
    let (_, parsed) = batch.join(vec![()]).remove(0);
    parsed.map_err(fields)?;
    let (mut parsed, _) = parse_acknowledge(&message).unwrap().split();
    Ok(parsed.remove(0).1)
}

#[test]
fn an_acknowledgement_keeps_only_what_its_outcome_has_a_use_for() {
    use v1::acknowledgement::Outcome::{Park, Retry, Sent, Unreachable};
    let day = Duration::days(1);
    for (outcome, sent_at, retry_delay, cause) in [
        (Sent, Some(now()), None, ""),
        (Retry, None, Some(day), "rad ett rad två"),
        (Unreachable, None, None, "rad ett rad två"),
        (Park, None, None, "rad ett rad två"),
    ] {
        let given = v1::Acknowledgement {
            send_time: Some(render_instant(now())),
            retry_delay: seconds(86_401),
            cause: "rad ett\nrad två".into(),
            may_have_been_sent: true,
            ..acknowledgement(outcome)
        };
        let parsed = parsed_one(given).unwrap();
        assert_eq!(
            (parsed.sent_at, parsed.retry_delay),
            (sent_at, retry_delay),
            "{outcome:?}"
        );
        assert_eq!(
            (parsed.id, parsed.token),
            (Uuid::from_u128(1), Uuid::from_u128(7))
        );
        assert_eq!(parsed.detail, cause, "{outcome:?}");
        assert_eq!(parsed.may_have_been_sent, outcome == Retry, "{outcome:?}");
    }
}

#[test]
fn each_fault_of_an_acknowledgement_names_its_field() {
    use v1::acknowledgement::Outcome::{Park, Retry, Sent, Unspecified};
    let last = Timestamp {
        seconds: i64::MAX,
        nanos: 0,
    };
    let broken = Timestamp {
        seconds: 0,
        nanos: -1,
    };
    for (given, faults) in [
        (
            v1::Acknowledgement {
                send_time: Some(last),
                ..acknowledgement(Sent)
            },
            vec![],
        ),
        (
            v1::Acknowledgement {
                send_time: Some(broken),
                ..acknowledgement(Sent)
            },
            vec!["send_time"],
        ),
        (
            v1::Acknowledgement {
                send_time: Some(broken),
                ..acknowledgement(Park)
            },
            vec![],
        ),
        (
            v1::Acknowledgement {
                retry_delay: seconds(-1),
                ..acknowledgement(Retry)
            },
            vec!["retry_delay"],
        ),
        (
            v1::Acknowledgement {
                retry_delay: seconds(-1),
                ..acknowledgement(Sent)
            },
            vec![],
        ),
        (
            v1::Acknowledgement {
                cause: "\0".repeat(501),
                ..acknowledgement(Park)
            },
            vec![],
        ),
        (acknowledgement(Unspecified), vec!["outcome"]),
        (
            v1::Acknowledgement {
                outcome: 5,
                ..acknowledgement(Sent)
            },
            vec!["outcome"],
        ),
        (v1::Acknowledgement::default(), vec!["lease", "outcome"]),
    ] {
        let faults: Vec<_> = faults
            .iter()
            .map(|it| format!("acknowledgements[0].{it}"))
            .collect();
        assert_eq!(
            parsed_one(given).map_or_else(|found| found, |_| vec![]),
            faults
        );
    }
}

#[test]
fn a_malformed_name_lies_below_its_lease() {
    let mut given = acknowledgement(v1::acknowledgement::Outcome::Sent);
    given.lease = Some(v1::Lease {
        name: "x".into(),
        lease_token: "t".into(),
    });
    assert_eq!(
        parsed_one(given),
        Err(vec!["acknowledgements[0].lease.name".into()])
    );
}

#[test]
fn a_due_reminder_says_when_the_notification_before_it_was_handed_over() {
    let mut record = samples::invited();
    let reminder = Uuid::from_u128(2);
    assert!(render_due(&record, reminder, None, now()).is_none());
    let sent_at = now() - Duration::days(14);
    let invitation = record.care_invitation.as_mut().unwrap();
    let mut second = invitation.notifications[0].clone();
    invitation.notifications[0].sent_at = Some(sent_at);
    invitation.notifications[0].state = State::Sent;
    second.id = reminder;
    second.kind = Kind::Reminder { sequence: 1 };
    second.state = State::Leased;
    second.lease = Some(Lease {
        token: Uuid::from_u128(7),
        expires_at: now() + Duration::seconds(60),
        first_at: now(),
        addressee: Addressee::Guardians,
        answer: None,
        always_authorizes: false,
        released: false,
    });
    invitation.notifications.push(second);
    let patient = &mut record.form.patient;
    patient.protection = Some(Protection::ConfidentialityMarked);
    patient.interpreter_language = Some("ar".into());
    patient.letter_format = LetterFormat::LargePrint;

    let rendered = render_due(&record, reminder, None, now()).unwrap();
    assert_eq!(rendered.server_time, Some(render_instant(now())));
    let Some(Event::Due(due)) = rendered.event else {
        panic!("not a due notification");
    };
    assert_eq!(due.previous_send_time, Some(render_instant(sent_at)));
    assert_eq!(due.protection(), v1::Protection::ConfidentialityMarked);
    assert_eq!(due.lease_token, Uuid::from_u128(7).to_string());
    assert_eq!(due.care_unit, "careUnits/SE2321000131-P1");
    assert_eq!(due.booking_request, request_name(&record.key));
    assert_eq!(due.addressee(), v1::Addressee::Guardians);
    assert_eq!(due.interpreter_language, "ar");
    assert_eq!(due.letter_format(), v1::LetterFormat::LargePrint);
    let notification = due.notification.unwrap();
    assert_eq!(
        notification.name,
        super::super::notification_name(&record.key, reminder)
    );
    assert_eq!(notification.state(), v1::notification::State::Leased);

    let first = render_due(&record, record_first(&record), None, now());
    assert!(first.is_none(), "it was never leased");
}

#[test]
fn a_letter_that_follows_says_when_the_inbox_notification_was_handed_over() {
    let mut record = samples::invited();
    let invitation = record.care_invitation.as_mut().unwrap();
    let first = &mut invitation.notifications[0];
    first.sent_at = Some(now());
    first.state = State::Sent;
    let letter = Notification {
        id: Uuid::from_u128(2),
        sent_at: None,
        state: State::Scheduled,
        ..first.clone()
    };
    let of_another_round = Notification {
        id: Uuid::from_u128(3),
        round: 2,
        ..letter.clone()
    };
    invitation.notifications.push(letter.clone());
    assert_eq!(previous_sent_at(&record, &letter), Some(now()));
    assert_eq!(previous_sent_at(&record, &of_another_round), None);
    let first = record.notification(record_first(&record)).unwrap();
    assert_eq!(previous_sent_at(&record, first), None);
}

fn record_first(record: &BookingRequest) -> Uuid {
    record.care_invitation.as_ref().unwrap().notifications[0].id
}

#[test]
fn a_revoked_lease_is_told_by_name() {
    let revoked = render_revoked(name(3), now());
    assert_eq!(revoked.event, Some(Event::Revoked(name(3))));
    let heartbeat = render_heartbeat(now());
    assert_eq!(heartbeat.event, Some(Event::Heartbeat(v1::Heartbeat {})));
}
