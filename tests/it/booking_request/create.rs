//! CreateBookingRequest and PreviewNotifications: what a request becomes, and which messages are
//! planned for it.

use care_invitation::contract::v1;
use care_invitation::contract::v1::NotificationCause;
use care_invitation::contract::v1::booking_request::{Origin, State};
use care_invitation::contract::v1::{HoldReason, NotificationKind, VisitKind, Warning, Worklist};
use tonic::Code;

use super::{NOW, booking, created, lists_of, messages, plan, requested, state, visit, warnings};
use crate::consumer::step;
use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;

/// What comes of a form.
#[derive(Clone, Copy)]
enum Comes {
    /// A request in this state, on this list, with so many planned messages.
    To(State, Option<Worklist>, usize),
    /// A call that names these fields.
    Invalid(&'static [&'static str]),
    /// A call that lacks a referral.
    NeedsReferral,
}

fn named(origin: Option<&Origin>) -> &'static str {
    match origin {
        Some(Origin::Referral(_)) => "referral",
        Some(Origin::PreviousVisit(visit)) if visit.referral_id.is_empty() => "visit",
        Some(Origin::PreviousVisit(_)) => "visit and referral",
        None => "none",
    }
}

#[tokio::test]
async fn summons_invitation_booking_and_origin_decide_what_a_request_becomes() {
    use Comes::{Invalid, NeedsReferral, To};
    const INVITED: Comes = To(State::Invited, Some(Worklist::CareInvitations), 1);
    const REQUESTED: Comes = To(State::Requested, Some(Worklist::BookingRequests), 0);
    const BOOKED: Comes = To(State::Booked, None, 0);
    const NO_ORIGIN: Comes = Invalid(&["booking_request.origin"]);
    const NO_INVITATION: Comes = Invalid(&["booking_request.invitation"]);
    const NEITHER: Comes = Invalid(&["booking_request.origin", "booking_request.invitation"]);

    let harness = Harness::start(NOW).await;
    // By origin: a referral, a visit, a visit with its referral, nothing.
    for (i, (summons, invitation, booked, by_origin)) in [
        (
            true,
            true,
            false,
            [INVITED, NeedsReferral, INVITED, NO_ORIGIN],
        ),
        (
            true,
            false,
            false,
            [REQUESTED, REQUESTED, REQUESTED, NO_ORIGIN],
        ),
        (
            false,
            false,
            false,
            [REQUESTED, REQUESTED, REQUESTED, NO_ORIGIN],
        ),
        (
            false,
            true,
            false,
            [NO_INVITATION, NO_INVITATION, NO_INVITATION, NEITHER],
        ),
        (true, false, true, [BOOKED, BOOKED, BOOKED, NO_ORIGIN]),
        (false, false, true, [BOOKED, BOOKED, BOOKED, NO_ORIGIN]),
        (
            true,
            true,
            true,
            [NO_INVITATION, NO_INVITATION, NO_INVITATION, NEITHER],
        ),
        (
            false,
            true,
            true,
            [NO_INVITATION, NO_INVITATION, NO_INVITATION, NEITHER],
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let origins = [
            Some(make::wire_referral(&format!("R-{i}"))),
            Some(visit(&format!("V-{i}"), "")),
            Some(visit(&format!("W-{i}"), "R-0")),
            None,
        ];
        for (origin, comes) in origins.into_iter().zip(by_origin) {
            let of = named(origin.as_ref());
            let row = format!("{summons} {invitation} {booked} {of}");
            let direct = booking("B-1", "2026-05-18T08:00:00Z", "2026-05-18T08:30:00Z");
            let form = v1::BookingRequest {
                origin,
                summons,
                invitation,
                booking: booked.then_some(direct),
                ..make::wire_form("2026-05-18", "2026-06-12")
            };
            let answer = harness.create(make::wire_create(form)).await;
            match (comes, answer) {
                (To(expected, list, planned), Ok(request)) => {
                    assert_eq!(state(&request), expected, "{row}");
                    let lists = lists_of(&harness, &request.name).await;
                    assert_eq!(lists, Vec::from_iter(list), "{row}");
                    let named = messages(&request).iter().filter(|it| !it.name.is_empty());
                    assert_eq!(named.count(), planned, "{row}");
                    assert_eq!(request.care_invitation.is_some(), planned > 0, "{row}");
                    assert_eq!(
                        harness.get(&request.name).await.expect("read").etag,
                        request.etag
                    );
                }
                (Invalid(fields), Err(status)) => {
                    let reason = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
                    assert_eq!(refusal(&status), reason, "{row}");
                    assert_eq!(bad_fields(&status), fields, "{row}");
                }
                (NeedsReferral, Err(status)) => {
                    let reason = (Code::FailedPrecondition, "REFERRAL_REQUIRED".to_owned());
                    assert_eq!(refusal(&status), reason, "{row}");
                }
                (_, Ok(request)) => panic!("{row}: created as {:?}", state(&request)),
                (_, Err(status)) => panic!("{row}: refused with {status:?}"),
            }
        }
    }
    // What was refused has left nothing behind: 2 invited, 6 requested.
    let count = make::wire_count(vec![make::wire_unit()]);
    let answer = harness.worklists().count_worklists(count).await;
    let counts = answer.expect("counts").into_inner().counts;
    assert_eq!(counts[..6].iter().map(|it| it.count).sum::<i64>(), 8);
}

#[tokio::test]
async fn every_worked_date_is_planned_projected_or_skipped() {
    let harness = Harness::start(NOW).await;
    for (i, (first, last, expected, expires)) in [
        (
            "2026-05-18",
            "2026-06-12",
            [
                "SCHEDULED 04-06T07:00Z",
                "PROJECTED 04-20T07:00Z",
                "PROJECTED 05-04T07:00Z",
            ],
            "2026-06-12T22:00:00Z",
        ),
        (
            // Exactly 42 days.
            "2026-04-13",
            "2026-05-29",
            [
                "SCHEDULED 03-02T09:00Z",
                "PROJECTED 03-16T08:00Z",
                "PROJECTED 03-30T07:00Z",
            ],
            "2026-05-29T22:00:00Z",
        ),
        (
            "2026-04-14",
            "2026-05-29",
            [
                "SCHEDULED 03-03T08:00Z",
                "PROJECTED 03-17T08:00Z",
                "PROJECTED 03-31T07:00Z",
            ],
            "2026-05-29T22:00:00Z",
        ),
        (
            "2026-03-09",
            "2026-03-13",
            [
                "SCHEDULED 03-02T09:00Z",
                "SKIPPED 03-16T08:00Z",
                "SKIPPED 03-30T07:00Z",
            ],
            "2026-03-13T23:00:00Z",
        ),
        (
            // Over the day before the clocks go forward.
            "2026-05-09",
            "2026-06-12",
            [
                "SCHEDULED 03-28T08:00Z",
                "PROJECTED 04-11T07:00Z",
                "PROJECTED 04-25T07:00Z",
            ],
            "2026-06-12T22:00:00Z",
        ),
        (
            // On the day on which they do.
            "2026-05-10",
            "2026-06-12",
            [
                "SCHEDULED 03-29T07:00Z",
                "PROJECTED 04-12T07:00Z",
                "PROJECTED 04-26T07:00Z",
            ],
            "2026-06-12T22:00:00Z",
        ),
        (
            // The day before they go back.
            "2026-12-05",
            "2026-12-18",
            [
                "SCHEDULED 10-24T07:00Z",
                "PROJECTED 11-07T08:00Z",
                "PROJECTED 11-21T08:00Z",
            ],
            "2026-12-18T23:00:00Z",
        ),
        (
            "2026-12-06",
            "2026-12-18",
            [
                "SCHEDULED 10-25T08:00Z",
                "PROJECTED 11-08T08:00Z",
                "PROJECTED 11-22T08:00Z",
            ],
            "2026-12-18T23:00:00Z",
        ),
        (
            // The period ends as summer time begins: the second reminder falls after it.
            "2026-03-09",
            "2026-03-29",
            [
                "SCHEDULED 03-02T09:00Z",
                "PROJECTED 03-16T08:00Z",
                "SKIPPED 03-30T07:00Z",
            ],
            "2026-03-29T22:00:00Z",
        ),
        (
            // One day more, and it does not.
            "2026-03-09",
            "2026-03-30",
            [
                "SCHEDULED 03-02T09:00Z",
                "PROJECTED 03-16T08:00Z",
                "PROJECTED 03-30T07:00Z",
            ],
            "2026-03-30T22:00:00Z",
        ),
        (
            "2026-10-05",
            "2026-10-25",
            [
                "SCHEDULED 08-24T07:00Z",
                "PROJECTED 09-07T07:00Z",
                "PROJECTED 09-21T07:00Z",
            ],
            "2026-10-25T23:00:00Z",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let form = v1::BookingRequest {
            origin: Some(make::wire_referral(&format!("R-{i}"))),
            ..make::wire_form(first, last)
        };
        let request = created(&harness, form).await;
        assert_eq!(plan(messages(&request)), expected, "{first} {last}");
        let invitation = request.care_invitation.clone().expect("an invitation");
        assert_eq!(
            invitation.expire_time,
            Some(make::wire_at(expires)),
            "{first} {last}"
        );
        assert_eq!(invitation.invite_time, Some(make::wire_at(NOW)));
        assert_eq!((invitation.round, invitation.no_response_time), (1, None));
        let skips = expected.iter().any(|it| it.starts_with("SKIPPED"));
        let warned = warnings(&request) == [Warning::RemindersSkipped];
        assert_eq!(
            (warned, request.warnings.len()),
            (skips, skips.into()),
            "{first} {last}"
        );
    }
}

#[tokio::test]
async fn a_round_has_three_kinds_of_which_one_is_named_and_a_skipped_one_says_why() {
    let harness = Harness::start(NOW).await;
    let request = created(&harness, make::wire_form("2026-03-09", "2026-03-20")).await;
    let shown: Vec<_> = messages(&request)
        .iter()
        .map(|it| (step(it), !it.name.is_empty(), it.round, it.cause()))
        .collect();
    assert_eq!(
        shown,
        [
            (
                (NotificationKind::Invitation, 0),
                true,
                1,
                NotificationCause::Unspecified
            ),
            (
                (NotificationKind::Reminder, 1),
                false,
                1,
                NotificationCause::Unspecified
            ),
            (
                (NotificationKind::Reminder, 2),
                false,
                1,
                NotificationCause::AfterPeriod
            ),
        ]
    );
    let prefix = format!("{}/notifications/", request.name);
    assert!(messages(&request)[0].name.starts_with(&prefix));
}

#[tokio::test]
async fn messages_go_out_at_nine_on_both_sides_of_each_change_of_clocks_and_not_a_second_sooner() {
    for (now, first, last, due) in [
        (
            NOW,
            "2026-04-26",
            "2026-06-12",
            [
                "2026-03-15T08:00:00Z",
                "2026-03-29T07:00:00Z",
                "2026-04-12T07:00:00Z",
            ],
        ),
        (
            "2026-10-01T09:00:00Z",
            "2026-11-22",
            "2026-12-18",
            [
                "2026-10-11T07:00:00Z",
                "2026-10-25T08:00:00Z",
                "2026-11-08T08:00:00Z",
            ],
        ),
    ] {
        let harness = Harness::start(now).await;
        let request = created(&harness, make::wire_form(first, last)).await;
        let second = chrono::Duration::seconds(1);
        for due in due.map(make::at) {
            harness.clock.advance(due - second).expect("forward");
            assert_eq!(harness.lease_due().await.len(), 0, "{due}");
            harness.clock.advance(due).expect("forward");
            let sent = harness.hand_over_due().await;
            assert_eq!(sent.len(), 1, "{due}");
            assert_eq!(sent[0].booking_request, request.name);
        }
        let request = harness.get(&request.name).await.expect("read");
        let sent: Vec<_> = messages(&request).iter().map(|it| it.send_time).collect();
        assert_eq!(sent, due.map(|due| Some(make::wire_at(due))));
    }
}

#[tokio::test]
async fn a_start_closer_than_six_weeks_means_at_once_at_any_hour() {
    for (now, first, due) in [
        // Exactly 42 days wait for the sending clock, and not a second longer.
        ("2026-03-02T07:59:59Z", "2026-04-13", "2026-03-02T08:00:00Z"),
        ("2026-03-02T08:00:00Z", "2026-04-13", "2026-03-02T08:00:00Z"),
        ("2026-03-02T08:00:01Z", "2026-04-13", "2026-03-02T08:00:01Z"),
        ("2026-03-02T22:59:59Z", "2026-04-13", "2026-03-02T22:59:59Z"),
        // It is the 3rd in Stockholm.
        ("2026-03-02T23:30:00Z", "2026-04-13", "2026-03-02T23:30:00Z"),
        // Closer by a day, before dawn and late at night; and a start on the same day.
        ("2026-03-02T02:15:00Z", "2026-04-12", "2026-03-02T02:15:00Z"),
        ("2026-03-02T22:30:00Z", "2026-04-12", "2026-03-02T22:30:00Z"),
        ("2026-03-02T02:15:00Z", "2026-03-02", "2026-03-02T02:15:00Z"),
    ] {
        let harness = Harness::start(now).await;
        let request = created(&harness, make::wire_form(first, "2026-05-29")).await;
        let due_time = messages(&request)[0].due_time;
        assert_eq!(due_time, Some(make::wire_at(due)), "{now} {first}");
        let at_once = harness.hand_over_due().await.len();
        assert_eq!(at_once, usize::from(now == due), "{now} {first}");
    }
}

#[tokio::test]
async fn what_is_shown_before_it_is_created_is_what_is_shown_then() {
    let mut protected = make::wire_form("2026-03-16", "2026-03-27");
    let patient = protected.patient.as_mut().expect("a patient");
    patient.protection = v1::Protection::ConfidentialityMarked.into();
    let mut by_letter = make::wire_form("2026-05-18", "2026-06-12");
    let patient = by_letter.patient.as_mut().expect("a patient");
    patient.inbox_reach = v1::InboxReach::None.into();
    let late = v1::BookingRequest {
        origin: Some(decided("2025-12-01")),
        ..make::wire_form("2026-05-18", "2026-06-12")
    };
    for (i, form) in [
        make::wire_form("2026-05-18", "2026-06-12"),
        make::wire_form("2026-03-09", "2026-03-13"),
        requested("2026-03-09", "2026-03-13"),
        protected,
        by_letter,
        late,
    ]
    .into_iter()
    .enumerate()
    {
        let harness = Harness::start(NOW).await;
        let call = v1::PreviewNotificationsRequest {
            parent: make::wire_unit(),
            booking_request: Some(form.clone()),
        };
        let answer = within(harness.requests().preview_notifications(call)).await;
        let preview = answer.expect("a preview").into_inner();
        let request = created(&harness, form).await;
        let nameless = messages(&request).iter().map(|message| v1::Notification {
            name: String::new(),
            ..message.clone()
        });
        assert_eq!(preview.notifications, Vec::from_iter(nameless), "{i}");
        assert_eq!(preview.warnings, request.warnings, "{i}");
        // Nothing but what was created is there: a preview is no duplicate either.
        let due_at_once = i == 1;
        assert_eq!(
            harness.lease_due().await.len(),
            usize::from(due_at_once),
            "{i}"
        );
    }
}

#[tokio::test]
async fn a_preview_is_refused_as_its_creation_would_be() {
    let harness = Harness::start(NOW).await;
    let without_referral = v1::BookingRequest {
        origin: Some(visit("V-1", "")),
        ..make::wire_form("2026-05-18", "2026-06-12")
    };
    let start = "booking_request.constraints.requested_period.start_date";
    for (parent, form, reason, fields) in [
        (
            "x".to_owned(),
            v1::BookingRequest {
                purpose: String::new(),
                ..make::wire_form("2026-05-18", "2026-06-12")
            },
            "FIELD_INVALID",
            vec!["parent", "booking_request.purpose"],
        ),
        (
            make::wire_unit(),
            make::wire_form("2026-03-01", "2026-06-12"),
            "FIELD_INVALID",
            vec![start],
        ),
        (
            make::wire_unit(),
            without_referral,
            "REFERRAL_REQUIRED",
            vec![],
        ),
    ] {
        let call = v1::PreviewNotificationsRequest {
            parent,
            booking_request: Some(form),
        };
        let answer = within(harness.requests().preview_notifications(call)).await;
        let status = answer.expect_err("refused");
        assert_eq!(refusal(&status).1, reason);
        assert_eq!(bad_fields(&status), fields);
    }
}

#[tokio::test]
async fn a_protected_patient_is_invited_and_hears_nothing() {
    let harness = Harness::start(NOW).await;
    for protection in [
        v1::Protection::ConfidentialityMarked,
        v1::Protection::ProtectedRegistration,
    ] {
        let mut form = make::wire_form("2026-03-09", "2026-06-12");
        form.origin = Some(make::wire_referral(protection.as_str_name()));
        form.patient.as_mut().expect("a patient").protection = protection.into();
        let request = created(&harness, form).await;
        assert_eq!(state(&request), State::Invited);
        assert_eq!(warnings(&request), [Warning::ProtectedIdentity]);
        let invitation = request.care_invitation.as_ref().expect("an invitation");
        assert_eq!(invitation.hold_reason(), HoldReason::ProtectedIdentity);
        let lists = lists_of(&harness, &request.name).await;
        assert_eq!(lists, [Worklist::ManualHandling]);
    }
    harness.advance("2026-04-06T09:00:00Z");
    assert_eq!(harness.lease_due().await.len(), 0);
}

fn decided(decision_date: &str) -> Origin {
    Origin::Referral(v1::Referral {
        referral_id: "R-1".into(),
        decision_date: decision_date.into(),
    })
}

#[tokio::test]
async fn the_care_guarantee_ends_90_days_after_the_decision_and_a_later_start_is_warned_of() {
    const EXCEEDED: &[Warning] = &[Warning::CareGuaranteeExceeded];
    for (kind, origin, start, ends, expected) in [
        (
            VisitKind::NewVisit,
            decided("2026-02-17"),
            "2026-05-18",
            "2026-05-18",
            &[][..],
        ),
        (
            VisitKind::NewVisit,
            decided("2026-02-16"),
            "2026-05-18",
            "2026-05-17",
            EXCEEDED,
        ),
        // Over the leap day of 2024.
        (
            VisitKind::NewVisit,
            decided("2023-12-01"),
            "2026-05-18",
            "2024-02-29",
            EXCEEDED,
        ),
        (
            VisitKind::ReturnVisit,
            decided("2025-02-16"),
            "2026-05-18",
            "",
            &[],
        ),
        (
            VisitKind::NewVisit,
            make::wire_referral("R-1"),
            "2026-05-18",
            "",
            &[],
        ),
        (
            VisitKind::NewVisit,
            visit("V-1", "R-1"),
            "2026-05-18",
            "",
            &[],
        ),
    ] {
        for invitation in [true, false] {
            let harness = Harness::start(NOW).await;
            let form = v1::BookingRequest {
                visit_kind: kind.into(),
                origin: Some(origin.clone()),
                invitation,
                ..make::wire_form(start, "2026-06-12")
            };
            let request = created(&harness, form).await;
            assert_eq!(request.care_guarantee_date, ends, "{kind:?}");
            assert_eq!(warnings(&request), expected, "{kind:?} {ends}");
        }
    }
}

#[tokio::test]
async fn a_visit_that_is_booked_directly_keeps_to_the_constraints_that_come_with_it() {
    let harness = Harness::start(NOW).await;
    let form = |booking_id: &str, day: &str, override_reason: &str| v1::BookingRequest {
        booking: Some(v1::Booking {
            override_reason: override_reason.into(),
            ..booking(
                booking_id,
                &format!("{day}T08:00:00Z"),
                &format!("{day}T08:30:00Z"),
            )
        }),
        ..requested("2026-05-18", "2026-06-12")
    };
    let outside = harness
        .create(make::wire_create(form("B-1", "2026-06-13", "")))
        .await;
    let status = outside.expect_err("outside the period");
    let reason = (Code::FailedPrecondition, "OUTSIDE_CONSTRAINTS".to_owned());
    assert_eq!(refusal(&status), reason);
    assert_eq!(
        crate::harness::metadata(&status, "verdict"),
        "OUTSIDE_PERIOD"
    );
    let inside = created(&harness, form("B-2", "2026-06-12", "")).await;
    assert_eq!(state(&inside), State::Booked);
    let overridden = created(&harness, form("B-3", "2026-06-13", "semester")).await;
    assert_eq!(state(&overridden), State::Booked);
    let free = v1::BookingRequest {
        constraints: None,
        ..form("B-4", "2026-06-13", "")
    };
    let free = created(&harness, free).await;
    assert_eq!((state(&free), free.constraints), (State::Booked, None));
}
