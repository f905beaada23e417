//! What a stream gives, to whom and when.

use care_invitation::contract::v1::NotificationCause;
use std::collections::BTreeSet;

use care_invitation::contract::sandbox_v1;
use care_invitation::contract::sandbox_v1::clock_service_client::ClockServiceClient;
use care_invitation::contract::v1;
use care_invitation::contract::v1::notification_service_client::NotificationServiceClient;
use care_invitation::contract::v1::stream_due_notifications_response::Event;
use care_invitation::contract::v1::{
    Addressee, ChannelReason, DeliveryChannel, HoldReason, InboxReach, LetterFormat,
    NotificationKind, PersonalIdType, Protection,
};
use chrono::Duration;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Endpoint;

use super::{FIRST, LAST, NOW, State, book, create, due_now, messages};
use crate::consumer;
use crate::consumer::{
    Consumer, acknowledge, answer, at_most, everything, lease_one, message, name, retry, sent,
};
use crate::harness::{Harness, bad_fields, within};
use crate::make;
use crate::make::at;

#[tokio::test]
async fn the_earliest_due_comes_first() {
    let harness = Harness::start(NOW).await;
    for start in ["2026-06-01", "2026-05-18", "2026-05-25", "2026-05-11"] {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(start)),
            ..make::wire_form(start, "2026-06-12")
        };
        create(&harness, form).await;
    }
    harness.advance("2026-05-01T07:00:00Z");
    let due = harness.lease_due().await;
    let starts = due.iter().map(|due| {
        let period = due.requested_period.as_ref().expect("a period");
        period.start_date.as_str()
    });
    let starts: Vec<_> = starts.collect();
    assert_eq!(
        starts,
        ["2026-05-11", "2026-05-18", "2026-05-25", "2026-06-01"]
    );
}

#[tokio::test]
async fn a_message_comes_when_the_clock_reaches_its_due_time_and_not_before() {
    let harness = Harness::start(NOW).await;
    let later = create(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let just_before = at("2026-04-06T07:00:00Z") - Duration::microseconds(1);
    harness.clock.advance(just_before).expect("forward");
    let fence = create(&harness, due_now("R-2")).await;
    assert_eq!(consumer.due().await.booking_request, fence);
    harness.advance("2026-04-06T07:00:00Z");
    let due = consumer.due().await;
    assert_eq!(due.booking_request, later);
    assert_eq!(
        message(&due).due_time,
        Some(make::wire_at("2026-04-06T07:00:00Z"))
    );
}

#[tokio::test]
async fn a_message_comes_at_once_when_a_commit_makes_it_due() {
    let harness = Harness::start(NOW).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let created = create(&harness, due_now("R-1")).await;
    assert_eq!(consumer.due().await.booking_request, created);
    let form = v1::BookingRequest {
        invitation: false,
        ..due_now("R-2")
    };
    let requested = create(&harness, form).await;
    let invited = harness.invite(make::wire_invite(&requested)).await;
    invited.expect("invited");
    assert_eq!(consumer.due().await.booking_request, requested);
}

#[tokio::test]
async fn what_fell_due_while_no_consumer_was_there_comes_to_the_next() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, due_now("R-1")).await;
    harness.advance("2026-03-05T12:00:00Z");
    let mut consumer = Consumer::open(&harness, everything()).await;
    assert_eq!(consumer.due().await.booking_request, request);
}

#[tokio::test]
async fn a_due_message_carries_all_that_its_consumer_needs() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        patient_instructions: Some(v1::PatientInstructions {
            visit_length: "en halvtimme".into(),
            supplementary: "ta med listan".into(),
            sampling_before_visit: "blodprov".into(),
            sampling_information: "fastande".into(),
        }),
        internal_comment: "between us".into(),
        patient: Some(v1::Patient {
            preferred_language: "fi".into(),
            interpreter_language: "fi".into(),
            letter_format: LetterFormat::EasyRead.into(),
            ..make::wire_form(FIRST, LAST).patient.expect("a patient")
        }),
        constraints: Some(v1::BookingConstraints {
            weekdays: vec![v1::DayOfWeek::Tuesday.into()],
            time_windows: vec![v1::TimeWindow {
                start_clock: "08:00".into(),
                end_clock: "12:00".into(),
            }],
            duration_minutes: 45,
            performer_ids: vec!["SE2321000131-P7".into()],
            ..make::wire_constraints(FIRST, LAST)
        }),
        ..due_now("R-1")
    };
    let constraints = form.constraints.clone().expect("constraints");
    let request = create(&harness, form.clone()).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let due = consumer.due().await;
    let given = due.clone();
    let mut expected = v1::DueNotification {
        notification: Some(v1::Notification {
            name: name(&due),
            round: 1,
            kind: NotificationKind::Invitation.into(),
            channel: DeliveryChannel::Inbox.into(),
            channel_reason: ChannelReason::Default.into(),
            due_time: Some(make::wire_at(NOW)),
            state: State::Leased.into(),
            delivery_attempt: 1,
            ..Default::default()
        }),
        lease_token: due.lease_token.clone(),
        lease_expire_time: Some(make::wire_at("2026-03-02T09:01:00Z")),
        possible_repeat: false,
        released_by_staff: false,
        cancel_reason: 0,
        booking_request: request.clone(),
        care_unit: make::wire_unit(),
        personal_id: "198003012385".into(),
        personal_id_type: PersonalIdType::Personnummer.into(),
        issuer: String::new(),
        protection: Protection::Unspecified.into(),
        language: "fi".into(),
        visit_kind: v1::VisitKind::NewVisit.into(),
        requested_period: constraints.requested_period,
        weekdays: constraints.weekdays,
        time_windows: constraints.time_windows,
        duration_minutes: constraints.duration_minutes,
        expire_time: Some(make::wire_at("2026-06-12T22:00:00Z")),
        previous_send_time: None,
        visit_type: form.visit_type,
        purpose: form.purpose,
        patient_instructions: form.patient_instructions,
        addressee: Addressee::Patient.into(),
        interpreter_language: "fi".into(),
        letter_format: LetterFormat::EasyRead.into(),
        traceparent: String::new(),
    };
    assert!(given == expected, "{:#?}", given.notification);
    assert!(name(&due).starts_with(&format!("{request}/notifications/")));
    assert!(!due.lease_token.is_empty());

    harness.advance("2026-03-02T09:00:20Z");
    answer(&harness, sent(&due)).await;
    harness.advance("2026-03-16T08:00:00Z");
    let reminder = consumer.due().await;
    let shown = expected.notification.as_mut().expect("a message");
    shown.name = name(&reminder);
    shown.kind = NotificationKind::Reminder.into();
    shown.sequence = 1;
    shown.due_time = Some(make::wire_at("2026-03-16T08:00:00Z"));
    expected.lease_token = reminder.lease_token.clone();
    expected.lease_expire_time = Some(make::wire_at("2026-03-16T08:01:00Z"));
    expected.previous_send_time = Some(make::wire_at("2026-03-02T09:00:20Z"));
    assert!(reminder == expected, "{:#?}", reminder.notification);
    assert_ne!(name(&reminder), name(&due));
}

#[tokio::test]
async fn no_more_are_out_than_max_outstanding_and_an_answer_frees_a_place() {
    let harness = Harness::start(NOW).await;
    for referral_id in ["R-1", "R-2", "R-3", "R-4"] {
        create(&harness, due_now(referral_id)).await;
    }
    let mut consumer = Consumer::open(&harness, at_most(2)).await;
    let held = consumer.take(2).await;
    // What is leased after the move says so: its lease ends a second later.
    harness.advance("2026-03-02T09:00:01Z");
    answer(&harness, sent(&held[0])).await;
    let third = consumer.due().await;
    assert_eq!(
        third.lease_expire_time,
        Some(make::wire_at("2026-03-02T09:01:01Z"))
    );
    harness.advance("2026-03-02T09:00:02Z");
    answer(&harness, retry(&third)).await;
    let fourth = consumer.due().await;
    assert_eq!(
        fourth.lease_expire_time,
        Some(make::wire_at("2026-03-02T09:01:02Z"))
    );
}

#[tokio::test]
async fn a_message_that_is_taken_back_frees_its_place() {
    let harness = Harness::start(NOW).await;
    let first = create(&harness, due_now("R-1")).await;
    let second = create(&harness, due_now("R-2")).await;
    let mut consumer = Consumer::open(&harness, at_most(1)).await;
    let held = consumer.due().await;
    assert_eq!(held.booking_request, first);
    book(&harness, &first).await;
    assert_eq!(consumer.revoked().await, name(&held));
    assert_eq!(consumer.due().await.booking_request, second);
}

#[tokio::test]
async fn a_lease_that_runs_out_frees_its_place() {
    let harness = Harness::start(NOW).await;
    let first = create(&harness, due_now("R-1")).await;
    let second = create(&harness, due_now("R-2")).await;
    let mut consumer = Consumer::open(&harness, at_most(1)).await;
    assert_eq!(consumer.due().await.booking_request, first);
    harness.advance("2026-03-02T09:01:00Z");
    assert_eq!(consumer.due().await.booking_request, second);
}

#[tokio::test]
async fn a_stream_until_idle_ends_when_nothing_is_due() {
    let harness = Harness::start(NOW).await;
    assert!(harness.lease_due().await.is_empty());
    create(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let due = create(&harness, due_now("R-2")).await;
    let leased = harness.lease_due().await;
    assert_eq!(leased.len(), 1, "what is not due is left");
    assert_eq!(leased[0].booking_request, due);
}

#[tokio::test]
async fn a_stream_until_idle_waits_for_answers_when_it_is_full() {
    let harness = Harness::start(NOW).await;
    for referral_id in ["R-1", "R-2", "R-3"] {
        create(&harness, due_now(referral_id)).await;
    }
    let wishes = v1::StreamDueNotificationsRequest {
        until_idle: true,
        ..at_most(1)
    };
    let mut consumer = Consumer::open(&harness, wishes).await;
    for _ in 0..3 {
        let due = consumer.due().await;
        answer(&harness, sent(&due)).await;
    }
    consumer.ended().await;
}

#[tokio::test]
async fn a_stream_until_idle_gives_those_too_that_were_larger_than_was_thought() {
    const MESSAGES: usize = 100;
    let harness = Harness::start(NOW).await;
    for round in 0..5 {
        for number in 0..MESSAGES {
            create(&harness, large(&format!("R-{round}-{number}"))).await;
        }
        let wishes = v1::StreamDueNotificationsRequest {
            until_idle: true,
            ..at_most(1_000)
        };
        let mut consumer = Consumer::open(&harness, wishes).await;
        let due = consumer.take(MESSAGES).await;
        let names: BTreeSet<_> = due.iter().map(name).collect();
        assert_eq!(names.len(), MESSAGES);
        consumer.ended().await;
        harness.acknowledge_sent(&due).await;
    }
}

#[tokio::test]
async fn a_consumer_gets_the_channels_that_it_serves() {
    let harness = Harness::start(NOW).await;
    let form = v1::BookingRequest {
        patient: Some(v1::Patient {
            inbox_reach: InboxReach::None.into(),
            ..due_now("R-1").patient.expect("a patient")
        }),
        ..due_now("R-1")
    };
    let letter = create(&harness, form).await;
    let inbox = create(&harness, due_now("R-2")).await;
    for (channel, request) in [
        (DeliveryChannel::Inbox, inbox),
        (DeliveryChannel::Letter, letter),
    ] {
        let wishes = v1::StreamDueNotificationsRequest {
            channels: vec![channel.into()],
            until_idle: true,
            ..Default::default()
        };
        let mut consumer = Consumer::open(&harness, wishes).await;
        let due = consumer.due().await;
        assert_eq!(due.booking_request, request);
        assert_eq!(message(&due).channel(), channel);
        consumer.ended().await;
    }
}

#[tokio::test]
async fn a_consumer_gets_the_care_units_that_it_names() {
    const OTHER: &str = "careUnits/SE2321000131-P000000000002";
    let harness = Harness::start(NOW).await;
    create(&harness, due_now("R-1")).await;
    let elsewhere = v1::CreateBookingRequestRequest {
        parent: OTHER.into(),
        ..make::wire_create(due_now("R-1"))
    };
    let elsewhere = harness.create(elsewhere).await.expect("created");
    let wishes = v1::StreamDueNotificationsRequest {
        care_units: vec![OTHER.to_lowercase().replace("careunits", "careUnits")],
        until_idle: true,
        ..Default::default()
    };
    let mut consumer = Consumer::open(&harness, wishes).await;
    let due = consumer.due().await;
    assert_eq!(due.booking_request, elsewhere.name);
    assert_eq!(due.care_unit, OTHER);
    consumer.ended().await;
}

#[tokio::test]
async fn two_consumers_never_hold_the_same_message() {
    const MESSAGES: usize = 120;
    let harness = Harness::start(NOW).await;
    for number in 0..MESSAGES {
        create(&harness, due_now(&format!("R-{number}"))).await;
    }
    let mut consumers = JoinSet::new();
    for _ in 0..4 {
        let wishes = v1::StreamDueNotificationsRequest {
            until_idle: true,
            ..at_most(7)
        };
        let mut consumer = Consumer::open(&harness, wishes).await;
        let mut client = harness.notifications();
        consumers.spawn(async move {
            let mut names = Vec::new();
            while let Some(event) = consumer.next().await.expect("an event") {
                let Event::Due(due) = event else {
                    panic!("only messages are to come");
                };
                names.push(name(&due));
                let call = v1::AcknowledgeNotificationsRequest {
                    acknowledgements: vec![sent(&due)],
                };
                let answered = within(client.acknowledge_notifications(call)).await;
                assert!(consumer::lost(answered.expect("taken").get_ref()).is_empty());
            }
            names
        });
    }
    let mut names = Vec::new();
    while let Some(read) = consumers.join_next().await {
        names.extend(read.expect("a consumer"));
    }
    assert_eq!(names.len(), MESSAGES);
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), MESSAGES);
}

#[tokio::test]
async fn what_was_not_read_when_a_stream_is_dropped_is_given_back() {
    const MESSAGES: usize = 80;
    let harness = Harness::start(NOW).await;
    for number in 0..MESSAGES {
        create(&harness, large(&format!("R-{number}"))).await;
    }
    // A connection of its own, of which little fits into the pipe.
    let endpoint = Endpoint::try_from(format!("http://{}", harness.address)).expect("an address");
    let narrow = endpoint.initial_stream_window_size(65_535);
    let mut reader = NotificationServiceClient::new(narrow.connect().await.expect("connected"));
    let answer = within(reader.stream_due_notifications(everything())).await;
    let mut events = answer.expect("a stream").into_inner();
    within(events.message()).await.expect("the first");
    drop(events);

    let mut consumer = Consumer::open(&harness, at_most(1_000)).await;
    let mut names = BTreeSet::new();
    for due in consumer.take(MESSAGES / 2).await {
        assert!(!due.possible_repeat);
        assert_eq!(message(&due).delivery_attempt, 1);
        names.insert(name(&due));
    }
    // Those that were written may have been read; they come when their leases have run out.
    harness.advance("2026-03-02T09:01:00Z");
    while names.len() < MESSAGES {
        names.insert(name(&consumer.due().await));
    }
}

/// Invitation whose first message is due at once, of 16 KB.
fn large(referral_id: &str) -> v1::BookingRequest {
    let long = "å".repeat(2_000);
    v1::BookingRequest {
        patient_instructions: Some(v1::PatientInstructions {
            visit_length: long.clone(),
            supplementary: long.clone(),
            sampling_before_visit: long.clone(),
            sampling_information: long,
        }),
        ..due_now(referral_id)
    }
}

#[tokio::test]
async fn nothing_of_a_protected_patient_is_leased() {
    let harness = Harness::start(NOW).await;
    for (number, protection) in [
        Protection::ConfidentialityMarked,
        Protection::ProtectedRegistration,
    ]
    .into_iter()
    .enumerate()
    {
        let form = v1::BookingRequest {
            patient: Some(v1::Patient {
                protection: protection.into(),
                ..due_now("R").patient.expect("a patient")
            }),
            ..due_now(&format!("R-{number}"))
        };
        let request = create(&harness, form).await;
        assert!(harness.lease_due().await.is_empty());
        let shown = harness.get(&request).await.expect("a request");
        let invitation = shown.care_invitation.expect("an invitation");
        assert_eq!(invitation.hold_reason(), HoldReason::ProtectedIdentity);
        assert_eq!(invitation.notifications[0].state(), State::Scheduled);
    }
    harness.advance("2026-05-01T07:00:00Z");
    assert!(harness.lease_due().await.is_empty());
}

#[tokio::test]
async fn a_letter_goes_to_those_whom_the_inbox_does_not_reach() {
    let harness = Harness::start(NOW).await;
    for (number, personal_id, personal_id_type, inbox_reach, reason) in [
        (
            1,
            "198003012385",
            PersonalIdType::Personnummer,
            InboxReach::None,
            ChannelReason::NoDigitalAccount,
        ),
        (
            2,
            "197302889931",
            PersonalIdType::Samordningsnummer,
            InboxReach::Unspecified,
            ChannelReason::IdentityNumber,
        ),
        (
            3,
            "19800301TA5K",
            PersonalIdType::NationalReserveNumber,
            InboxReach::Inbox,
            ChannelReason::IdentityNumber,
        ),
    ] {
        let form = v1::BookingRequest {
            patient: Some(v1::Patient {
                personal_id: personal_id.into(),
                personal_id_type: personal_id_type.into(),
                inbox_reach: inbox_reach.into(),
                ..Default::default()
            }),
            ..due_now(&format!("R-{number}"))
        };
        create(&harness, form).await;
        let due = &harness.hand_over_due().await[0];
        assert_eq!(
            message(due).channel(),
            DeliveryChannel::Letter,
            "{reason:?}"
        );
        assert_eq!(message(due).channel_reason(), reason);
        assert_eq!(due.personal_id_type(), personal_id_type);
    }
}

#[tokio::test]
async fn a_stream_stays_silent_after_a_booking() {
    let harness = Harness::start(NOW).await;
    let booked = create(&harness, due_now("R-1")).await;
    harness.hand_over_due().await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    book(&harness, &booked).await;
    harness.advance("2026-04-06T07:00:00Z");
    assert!(harness.lease_due().await.is_empty());
    let fence = create(&harness, due_now("R-2")).await;
    assert_eq!(consumer.due().await.booking_request, fence);
}

#[tokio::test]
async fn what_is_pending_when_its_period_ends_is_skipped_and_never_leased() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    harness.advance("2026-06-12T22:00:00Z");
    let fence = v1::BookingRequest {
        origin: Some(make::wire_referral("R-2")),
        ..make::wire_form("2026-06-15", "2026-06-19")
    };
    let fence = create(&harness, fence).await;
    assert_eq!(consumer.due().await.booking_request, fence);
    let shown = messages(&harness, &request).await;
    for message in &shown {
        assert_eq!(message.state(), State::Skipped);
        assert_eq!(message.cause(), NotificationCause::AfterPeriod);
    }
    assert_eq!(shown.len(), 3);
    assert_eq!(shown[0].delivery_attempt, 0);
    let shown = harness.get(&request).await.expect("a request");
    assert_eq!(shown.state(), v1::booking_request::State::Expired);
}

#[tokio::test]
async fn every_bad_wish_of_a_stream_is_named() {
    let harness = Harness::start(NOW).await;
    let wishes = v1::StreamDueNotificationsRequest {
        channels: vec![0, 9],
        care_units: vec!["nowhere".into()],
        max_outstanding: -1,
        lease_duration: Some(prost_types::Duration {
            seconds: 9,
            nanos: 999_999_999,
        }),
        until_idle: false,
        always_authorizes: false,
    };
    let refused = Consumer::try_open(&harness, wishes).await.err();
    let refused = refused.expect("refused");
    assert_eq!(refused.code(), Code::InvalidArgument);
    let mut named = bad_fields(&refused);
    named.sort();
    assert_eq!(
        named,
        [
            "care_units[0]",
            "channels[0]",
            "channels[1]",
            "lease_duration",
            "max_outstanding"
        ]
    );
}

#[tokio::test]
async fn a_lease_lasts_as_long_as_was_wished() {
    let harness = Harness::start(NOW).await;
    for (number, wished, expires) in [
        (1, 10, "2026-03-02T09:00:10Z"),
        (2, 3_600, "2026-03-02T10:00:00Z"),
    ] {
        create(&harness, due_now(&format!("R-{number}"))).await;
        let due = lease_one(&harness, wished).await;
        assert_eq!(due.lease_expire_time, Some(make::wire_at(expires)));
        let lost = acknowledge(&harness, vec![sent(&due)]).await;
        assert!(lost.expect("taken").is_empty());
    }
}

#[tokio::test]
async fn a_silent_stream_gives_a_sign_of_life_after_its_time() {
    let harness = Harness::start(NOW).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    tokio::time::pause();
    tokio::time::advance(std::time::Duration::from_secs(15)).await;
    tokio::time::resume();
    let said = consumer.next().await.expect("an event");
    assert_eq!(said, Some(Event::Heartbeat(v1::Heartbeat {})));
}

#[tokio::test]
async fn the_sandbox_brings_what_falls_due_on_the_way() {
    let harness = Harness::start(NOW).await;
    let request = create(&harness, make::wire_form("2026-05-18", "2026-06-12")).await;
    let mut consumer = Consumer::open(&harness, everything()).await;
    let mut clock = ClockServiceClient::new(harness.channel.clone());
    let move_on = sandbox_v1::AdvanceTimeRequest {
        server_time: Some(make::wire_at("2026-04-10T12:00:00Z")),
    };
    let moved = within(clock.advance_time(move_on)).await.expect("moved");
    let now = Some(make::wire_at("2026-04-10T12:00:00Z"));
    assert_eq!(moved.into_inner().server_time, now);
    let due = consumer.due().await;
    assert_eq!(due.booking_request, request);
    assert_eq!(
        due.lease_expire_time,
        Some(make::wire_at("2026-04-10T12:01:00Z"))
    );
    let asked = within(clock.get_time(sandbox_v1::GetTimeRequest {})).await;
    assert_eq!(asked.expect("answered").into_inner().server_time, now);
    let back = sandbox_v1::AdvanceTimeRequest {
        server_time: Some(make::wire_at(NOW)),
    };
    let refused = within(clock.advance_time(back)).await.unwrap_err();
    assert_eq!(bad_fields(&refused), ["server_time"]);
}
