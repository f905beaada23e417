//! Whole messages: every fault at once, spellings that a replay may have, and rendering.

use proptest::prelude::*;
use uuid::Uuid;

use super::super::tests::fields;
use super::samples::{invited, key, now, record, wire_create, wire_form};
use super::*;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::end_of;
use crate::domain::care_unit_settings::Policy;

fn created(booking_request: v1::BookingRequest) -> Result<Form, Vec<String>> {
    let parsed = parse_create(v1::CreateBookingRequestRequest {
        booking_request: Some(booking_request),
        ..wire_create()
    });
    parsed.map(|write| write.command.form).map_err(fields)
}

proptest! {
    #[test]
    fn parsing_what_was_rendered_gives_the_same(form in samples::forms()) {
        let parsed = created(form::render(&form));
        prop_assert!(parsed == Ok(form), "{:?}", parsed.err());
    }
}

/// Returns a request in which nothing is right.
fn all_wrong() -> v1::CreateBookingRequestRequest {
    let window = |start: &str, end: &str| v1::TimeWindow {
        start_clock: start.into(),
        end_clock: end.into(),
    };
    v1::CreateBookingRequestRequest {
        parent: "careUnits/x".into(),
        booking_request: Some(v1::BookingRequest {
            patient: Some(v1::Patient {
                personal_id: "196408233235".into(),
                personal_id_type: v1::PersonalIdType::Personnummer.into(),
                protection: 3,
                inbox_reach: -1,
                preferred_language: "sv_SE".into(),
                issuer: "1.2.752".into(),
                addressee: 4,
                interpreter_language: "s".into(),
                letter_format: 6,
                personal_id_masked: false,
            }),
            origin: None,
            visit_kind: 0,
            visit_type: Some(v1::VisitType {
                code: " ".into(),
                display_name: "x".repeat(201),
            }),
            purpose: "196408233235\0".into(),
            patient_instructions: Some(v1::PatientInstructions {
                sampling_information: "\u{1}".into(),
                ..Default::default()
            }),
            internal_comment: "x".repeat(2_001),
            summons: false,
            constraints: Some(v1::BookingConstraints {
                requested_period: Some(v1::DateInterval {
                    start_date: "2026-5-18".into(),
                    end_date: String::new(),
                }),
                weekdays: vec![1, 8],
                time_windows: vec![window("08:00", "25:00"), window("08:00", "08:00")],
                duration_minutes: 4,
                performer_ids: vec!["196408233235".into()],
            }),
            invitation: true,
            booking: Some(v1::Booking::default()),
            priority: 4,
            ..Default::default()
        }),
        request_id: "196408233235".into(),
        repeat: Some(v1::Repeat {
            interval_days: 6,
            count: 13,
        }),
        ..Default::default()
    }
}

#[test]
fn every_fault_of_a_call_is_named_at_once() {
    let found = fields(parse_create(all_wrong()).unwrap_err());
    let expected = [
        "parent",
        "booking_request.patient.personal_id",
        "booking_request.patient.issuer",
        "booking_request.patient.protection",
        "booking_request.patient.inbox_reach",
        "booking_request.patient.preferred_language",
        "booking_request.patient.addressee",
        "booking_request.patient.interpreter_language",
        "booking_request.patient.letter_format",
        "booking_request.origin",
        "booking_request.visit_kind",
        "booking_request.visit_type.code",
        "booking_request.visit_type.display_name",
        "booking_request.purpose",
        "booking_request.patient_instructions.sampling_information",
        "booking_request.internal_comment",
        "booking_request.invitation",
        "booking_request.constraints.requested_period.start_date",
        "booking_request.constraints.requested_period.end_date",
        "booking_request.constraints.weekdays[1]",
        "booking_request.constraints.time_windows[0].end_clock",
        "booking_request.constraints.time_windows[1].end_clock",
        "booking_request.constraints.duration_minutes",
        "booking_request.constraints.performer_ids[0]",
        "booking_request.booking.booking_id",
        "booking_request.booking.start_time",
        "booking_request.booking.end_time",
        "booking_request.booking.source",
        "booking_request.priority",
        "request_id",
        "repeat",
        "repeat.interval_days",
        "repeat.count",
    ];
    assert_eq!(found, expected);
}

#[test]
fn no_fault_repeats_what_the_caller_wrote() {
    let violations = parse_create(all_wrong()).unwrap_err();
    assert!(!format!("{violations:?} {violations}").contains("196408233235"));
}

#[test]
fn the_parts_of_a_form_go_together() {
    let booking = || {
        let at = |hours| Some(render_instant(now() + chrono::Duration::hours(hours)));
        Some(v1::Booking {
            booking_id: "B-1".into(),
            start_time: at(1),
            end_time: at(2),
            source: v1::BookingSource::Staff.into(),
            ..Default::default()
        })
    };
    let form = |summons, invitation| v1::BookingRequest {
        summons,
        invitation,
        ..wire_form()
    };
    for (form, faults) in [
        (form(true, true), vec![]),
        (form(true, false), vec![]),
        (form(false, false), vec![]),
        (form(false, true), vec!["booking_request.invitation"]),
        (
            v1::BookingRequest {
                booking: booking(),
                ..form(true, true)
            },
            vec!["booking_request.invitation"],
        ),
        (
            v1::BookingRequest {
                booking: booking(),
                constraints: None,
                ..form(true, false)
            },
            vec![],
        ),
        (
            v1::BookingRequest {
                constraints: None,
                ..form(true, true)
            },
            vec!["booking_request.constraints"],
        ),
        (
            v1::BookingRequest {
                patient: None,
                visit_type: None,
                ..form(true, true)
            },
            vec!["booking_request.patient", "booking_request.visit_type"],
        ),
    ] {
        assert_eq!(created(form).map_or_else(|found| found, |_| vec![]), faults);
    }
    let missing = v1::CreateBookingRequestRequest {
        booking_request: None,
        ..wire_create()
    };
    assert_eq!(
        fields(parse_create(missing).unwrap_err()),
        ["booking_request"]
    );
}

#[test]
fn a_replay_may_be_spelled_otherwise() {
    let hash = |message| parse_create(message).unwrap().content_hash;
    let mut respelled = wire_create();
    respelled.parent = "careUnits/se2321000131-p1".into();
    respelled.request_id = Uuid::from_u128(6).to_string();
    let form = respelled.booking_request.as_mut().unwrap();
    form.name = "ignored".into();
    form.etag = "r7".into();
    form.state = 99;
    form.purpose = "O\u{308}ron".into();
    form.priority = v1::Priority::Routine.into();
    form.patient.as_mut().unwrap().preferred_language = "sv".into();
    form.patient_instructions = Some(v1::PatientInstructions::default());
    assert_eq!(hash(respelled), hash(wire_create()));
}

#[test]
fn a_replay_may_not_say_anything_else() {
    let hash = |message| parse_create(message).unwrap().content_hash;
    let altered = |alter: fn(&mut v1::BookingRequest)| {
        let mut message = wire_create();
        alter(message.booking_request.as_mut().unwrap());
        hash(message)
    };
    let hashes = [
        hash(wire_create()),
        hash(v1::CreateBookingRequestRequest {
            allow_duplicate: true,
            ..wire_create()
        }),
        hash(v1::CreateBookingRequestRequest {
            repeat: Some(v1::Repeat {
                interval_days: 7,
                count: 2,
            }),
            ..wire_create()
        }),
        hash(v1::CreateBookingRequestRequest {
            prior_messages: vec![v1::PriorMessage {
                kind: v1::NotificationKind::Invitation.into(),
                channel: v1::DeliveryChannel::Letter.into(),
                send_time: Some(render_instant(now())),
                ..Default::default()
            }],
            ..wire_create()
        }),
        hash(v1::CreateBookingRequestRequest {
            parent: "careUnits/SE2321000131-P2".into(),
            ..wire_create()
        }),
        altered(|form| form.purpose = "Öra".into()),
        altered(|form| form.internal_comment = "Öron".into()),
        altered(|form| form.invitation = false),
        altered(|form| form.priority = v1::Priority::Urgent.into()),
        altered(|form| form.patient.as_mut().unwrap().personal_id = "191212121212".into()),
        altered(|form| form.constraints.as_mut().unwrap().weekdays = vec![1]),
        altered(|form| form.constraints.as_mut().unwrap().duration_minutes = 30),
    ];
    for (i, hash) in hashes.iter().enumerate() {
        assert!(!hashes[..i].contains(hash), "{i}");
    }
}

#[test]
fn the_etag_is_part_of_what_a_call_says() {
    let invite = |etag: &str, comment: &str| {
        let parsed = parse_change_to_invitation(v1::ChangeToInvitationRequest {
            name: request_name(&key()),
            request_id: Uuid::from_u128(5).to_string(),
            etag: etag.into(),
            comment: comment.into(),
            ..Default::default()
        });
        parsed.unwrap()
    };
    let plain = invite("", "");
    assert_eq!(
        (&plain.command.0, plain.request_id),
        (&key(), Uuid::from_u128(5))
    );
    assert_ne!(invite("r1", "").content_hash, plain.content_hash);
    assert_ne!(invite("", "r1").content_hash, invite("r1", "").content_hash);
}

#[test]
fn some_reasons_to_cancel_need_a_comment() {
    for reason in CancelReason::ALL {
        for (comment, says_something) in [("", false), (" \n", false), ("Fel patient", true)] {
            let parsed = parse_cancel(v1::CancelBookingRequestRequest {
                name: request_name(&key()),
                request_id: Uuid::from_u128(5).to_string(),
                reason: enums::render(*reason),
                comment: comment.into(),
                ..Default::default()
            });
            let good = says_something || !needs_comment(*reason);
            assert_eq!(
                parsed.map(|_| ()).map_err(fields),
                good.then_some(()).ok_or(vec!["comment".into()])
            );
        }
    }
}

#[test]
fn each_fault_of_a_change_names_its_field() {
    let cancel = parse_cancel(v1::CancelBookingRequestRequest::default());
    assert_eq!(
        fields(cancel.unwrap_err()),
        ["name", "request_id", "reason"]
    );
    let booking = parse_record_booking(v1::RecordBookingRequest {
        replaces_booking_id: "x".repeat(65),
        ..Default::default()
    });
    assert_eq!(
        fields(booking.unwrap_err()),
        ["name", "request_id", "booking", "replaces_booking_id"]
    );
    let invite = parse_change_to_invitation(v1::ChangeToInvitationRequest {
        constraints: Some(v1::BookingConstraints::default()),
        referral_id: " ".into(),
        comment: "\0".into(),
        ..Default::default()
    });
    let faults = [
        "name",
        "request_id",
        "constraints.requested_period",
        "referral_id",
        "comment",
    ];
    assert_eq!(fields(invite.unwrap_err()), faults);
    let get = parse_get(v1::GetBookingRequestRequest::default());
    assert_eq!(fields(get.unwrap_err()), ["name"]);
}

#[test]
fn an_invitation_is_shown_with_its_notifications_and_its_end() {
    let displayed = render(&invited(), now(), &Policy::default());
    assert_eq!(displayed.name, request_name(&key()));
    assert_eq!(displayed.state(), v1::booking_request::State::Invited);
    assert_eq!(displayed.etag, "r1");
    assert!(displayed.warnings.is_empty());
    let invitation = displayed.care_invitation.unwrap();
    let states: Vec<_> = invitation
        .notifications
        .iter()
        .map(|it| it.state())
        .collect();
    use v1::notification::State::{Projected, Scheduled};
    assert_eq!(states, [Scheduled, Projected, Projected]);
    let named: Vec<_> = invitation
        .notifications
        .iter()
        .map(|it| !it.name.is_empty())
        .collect();
    assert_eq!(named, [true, false, false]);
    let last = "2026-06-12".parse().unwrap();
    assert_eq!(invitation.expire_time, Some(render_instant(end_of(last))));
    assert_eq!(
        render(&record(), now(), &Policy::default()).care_invitation,
        None
    );
}

#[test]
fn a_reminder_that_falls_after_the_period_is_warned_of() {
    let mut record = invited();
    let period = &mut record.form.constraints.as_mut().unwrap().period;
    period.last = period.first;
    // Due 6 and 20 April and 4 May: all before 18 May.
    assert!(
        render(&record, now(), &Policy::default())
            .warnings
            .is_empty()
    );
    record.form.constraints.as_mut().unwrap().period.last = "2026-05-03".parse().unwrap();
    let skipped = i32::from(v1::Warning::RemindersSkipped);
    assert_eq!(
        render(&record, now(), &Policy::default()).warnings,
        [skipped]
    );
    record.state = State::Declined;
    assert!(
        render(&record, now(), &Policy::default())
            .warnings
            .is_empty()
    );
}

#[test]
fn a_preview_names_no_notification() {
    let preview = render_preview(&invited(), now(), &Policy::default());
    assert_eq!(preview.notifications.len(), 3);
    assert!(
        preview
            .notifications
            .iter()
            .all(|notification| notification.name.is_empty())
    );
    let parsed = parse_preview(v1::PreviewNotificationsRequest {
        parent: "careUnits/SE2321000131-P1".into(),
        booking_request: Some(wire_form()),
    });
    assert_eq!(parsed.unwrap().0, key().care_unit);
}
