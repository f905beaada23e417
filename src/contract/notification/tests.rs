//! Streams and acknowledgements as tables; due notifications of an invitation whose first one was sent.

use prost_types::Timestamp;

use super::super::tests::fields;
use super::*;
use crate::contract::booking_request::samples;
use crate::domain::notification::{Kind, Lease, State};
use crate::domain::patient::Protection;

const NOW: &str = "2026-03-02T09:00:00Z";

fn now() -> Instant {
    NOW.parse().unwrap()
}

fn name(notification: u128) -> String {
    notification_name(&samples::record().key, Uuid::from_u128(notification))
}

fn seconds(seconds: i64) -> Option<WireDuration> {
    Some(WireDuration { seconds, nanos: 0 })
}

#[test]
fn a_stream_without_wishes_has_its_defaults() {
    let parsed = parse_stream(v1::StreamDueNotificationsRequest::default()).unwrap();
    let expected = Subscription {
        channels: vec![Channel::Inbox, Channel::Letter],
        care_units: None,
        max_outstanding: 100,
        lease_duration: Duration::seconds(60),
        until_idle: false,
    };
    assert_eq!(parsed, expected);
}

#[test]
fn a_lease_lasts_10_seconds_to_an_hour() {
    for (given, expected) in [
        (seconds(10), Some(10)),
        (seconds(3_600), Some(3_600)),
        (seconds(3_601), Some(3_600)),
        (seconds(i64::MAX), Some(3_600)),
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
        max_outstanding: 1_001,
        ..Default::default()
    });
    let parsed = parsed.unwrap();
    assert_eq!(
        (parsed.channels, parsed.max_outstanding),
        (vec![Channel::Letter], 1_000)
    );
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
    let parsed = parse_authorize(v1::AuthorizeDispatchRequest { leases }).unwrap();
    let tokens: Vec<_> = parsed.iter().map(|lease| lease.token).collect();
    assert_eq!(tokens, [token, Uuid::nil()]);
    assert_eq!(
        render_authorized(&parsed[..1], &parsed[1..], Some(now())),
        v1::AuthorizeDispatchResponse {
            authorized: vec![name(1)],
            refused: vec![name(2)],
            expire_time: Some(render_instant(now())),
        }
    );
}

#[test]
fn a_call_names_1_to_500_notifications_each_once() {
    let lease = |name: String| v1::Lease {
        name,
        lease_token: "t".into(),
    };
    let many = |count: u128| (0..count).map(|id| lease(name(id))).collect::<Vec<_>>();
    let nameless = v1::Lease::default();
    for (leases, faults) in [
        (many(500), vec![]),
        (many(501), vec!["leases"]),
        (vec![], vec!["leases"]),
        (
            vec![lease(name(1)), lease(name(2)), lease(name(1))],
            vec!["leases[2].name"],
        ),
        (
            vec![lease(name(0xa)), lease(name(0xa).replace("SE", "se"))],
            vec!["leases[1].name"],
        ),
        (
            vec![nameless],
            vec!["leases[0].name", "leases[0].lease_token"],
        ),
    ] {
        let parsed = parse_authorize(v1::AuthorizeDispatchRequest { leases });
        assert_eq!(parsed.map_or_else(fields, |_| vec![]), faults);
    }
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
    let mut parsed = parse_acknowledge(message).map_err(fields)?;
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
        assert_eq!(parsed.cause, cause, "{outcome:?}");
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
    assert!(render_due(&record, reminder, now()).is_none());
    let sent_at = now() - Duration::days(14);
    let invitation = record.care_invitation.as_mut().unwrap();
    let mut second = invitation.notifications[0].clone();
    invitation.notifications[0].sent_at = Some(sent_at);
    second.id = reminder;
    second.kind = Kind::FirstReminder;
    second.state = State::Leased;
    second.lease = Some(Lease {
        token: Uuid::from_u128(7),
        expires_at: now() + Duration::seconds(60),
        first_at: now(),
        answer: None,
    });
    invitation.notifications.push(second);
    record.form.patient.protection = Some(Protection::ConfidentialityMarked);

    let rendered = render_due(&record, reminder, now()).unwrap();
    assert_eq!(rendered.server_time, Some(render_instant(now())));
    let Some(Event::Due(due)) = rendered.event else {
        panic!("not a due notification");
    };
    assert_eq!(due.previous_send_time, Some(render_instant(sent_at)));
    assert_eq!(due.protection(), v1::Protection::ConfidentialityMarked);
    assert_eq!(due.lease_token, Uuid::from_u128(7).to_string());
    assert_eq!(due.care_unit, "careUnits/SE2321000131-P1");
    assert_eq!(due.booking_request, request_name(&record.key));
    let notification = due.notification.unwrap();
    assert_eq!(notification.name, notification_name(&record.key, reminder));
    assert_eq!(notification.state(), v1::notification::State::Leased);

    let first = render_due(&record, record_first(&record), now());
    assert!(first.is_none(), "it was never leased");
}

#[test]
fn a_letter_that_follows_says_when_the_inbox_notification_was_handed_over() {
    let mut record = samples::invited();
    let invitation = record.care_invitation.as_mut().unwrap();
    let first = &mut invitation.notifications[0];
    first.sent_at = Some(now());
    let letter = Notification {
        id: Uuid::from_u128(2),
        sent_at: None,
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
fn what_was_lost_is_answered_by_name() {
    let lost = [(samples::record().key, Uuid::from_u128(3))];
    assert_eq!(render_lost(&lost).lost, [name(3)]);
    let revoked = render_revoked(name(3), now());
    assert_eq!(revoked.event, Some(Event::Revoked(name(3))));
    let heartbeat = render_heartbeat(now());
    assert_eq!(heartbeat.event, Some(Event::Heartbeat(v1::Heartbeat {})));
}
