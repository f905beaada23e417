//! What a patient is shown of their requests, through the whole service: which, for how long, and in
//! what pages.

use care_invitation::contract::v1;
use care_invitation::contract::v1::ContactOutcome as Contact;
use care_invitation::contract::v1::patient_request::{ClosedReason, State};
use care_invitation::contract::v1::{BookingSource, PersonalIdType, Protection};
use tonic::Code;

use crate::harness::{Harness, bad_fields, refusal, within};
use crate::make;
use crate::worklist_user;

const NOW: &str = "2026-03-02T09:00:00Z";
/// Due at once at [`NOW`], and over at the end of April.
const FIRST: &str = "2026-03-09";
const LAST: &str = "2026-04-30";

fn identity() -> v1::PatientIdentity {
    v1::PatientIdentity {
        personal_id: "198003012385".into(),
        personal_id_type: PersonalIdType::Personnummer.into(),
        issuer: String::new(),
    }
}

async fn page(harness: &Harness, size: i32, token: &str) -> v1::ListPatientRequestsResponse {
    let call = v1::ListPatientRequestsRequest {
        identity: Some(identity()),
        page_size: size,
        page_token: token.into(),
    };
    let answer = within(harness.patients().list_patient_requests(call)).await;
    answer.expect("a page").into_inner()
}

/// What the patient is shown, on one page.
async fn shown(harness: &Harness) -> Vec<v1::PatientRequest> {
    let page = page(harness, 0, "").await;
    assert_eq!(page.next_page_token, "");
    page.patient_requests
}

async fn states(harness: &Harness) -> Vec<State> {
    let shown = shown(harness).await;
    shown.iter().map(v1::PatientRequest::state).collect()
}

fn of_referral(referral_id: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        origin: Some(make::wire_referral(referral_id)),
        ..make::wire_form(FIRST, LAST)
    }
}

async fn created(harness: &Harness, form: v1::BookingRequest) -> String {
    let created = harness.create(make::wire_create(form)).await;
    created.expect("created").name
}

/// An invitation whose first message was handed over.
async fn told(harness: &Harness) -> String {
    let request = created(harness, of_referral("R-1")).await;
    assert_eq!(harness.hand_over_due().await.len(), 1);
    request
}

#[tokio::test]
async fn an_invitation_is_shown_from_its_first_lease_on_without_what_staff_alone_may_read() {
    let harness = Harness::start(NOW).await;
    let mut form = v1::BookingRequest {
        internal_comment: "between us".into(),
        priority: v1::Priority::Urgent.into(),
        patient_instructions: Some(v1::PatientInstructions {
            visit_length: "en halvtimme".into(),
            ..Default::default()
        }),
        ..of_referral("R-1")
    };
    let constraints = form.constraints.as_mut().expect("constraints");
    constraints.weekdays = vec![v1::DayOfWeek::Monday.into()];
    constraints.time_windows = vec![v1::TimeWindow {
        start_clock: "08:00".into(),
        end_clock: "12:00".into(),
    }];
    constraints.duration_minutes = 30;
    constraints.performer_ids = vec!["SE2321000131-P1".into()];
    let request = created(&harness, form.clone()).await;
    assert_eq!(states(&harness).await, []);
    harness.lease_due().await;
    let etag = harness.get(&request).await.expect("read").etag;
    let constraints = form.constraints.expect("constraints");
    let expected = v1::PatientRequest {
        name: request,
        state: State::Open.into(),
        care_unit: make::wire_unit(),
        visit_type: form.visit_type,
        visit_kind: form.visit_kind,
        purpose: form.purpose,
        patient_instructions: form.patient_instructions,
        requested_period: constraints.requested_period,
        weekdays: constraints.weekdays,
        time_windows: constraints.time_windows,
        booking: None,
        expire_time: Some(make::wire_at("2026-04-30T22:00:00Z")),
        may_book: true,
        may_move: false,
        may_cancel: false,
        move_deadline: None,
        duration_minutes: 30,
        performer_ids: constraints.performer_ids,
        etag,
        last_contact: None,
        closed_reason: ClosedReason::Unspecified.into(),
    };
    assert_eq!(shown(&harness).await, [expected]);
}

#[tokio::test]
async fn the_contact_recorded_last_is_shown_without_the_comment_of_staff() {
    let harness = Harness::start(NOW).await;
    let request = told(&harness).await;
    let call = v1::RecordPatientContactRequest {
        name: request.clone(),
        request_id: make::request_id(),
        outcome: Contact::CallBack.into(),
        comment: "between us".into(),
        contact_time: Some(make::wire_at("2026-03-02T08:30:00Z")),
        medium: v1::ContactMedium::Phone.into(),
        ..Default::default()
    };
    let recorded = within(harness.requests().record_patient_contact(call)).await;
    let recorded = recorded.expect("recorded").into_inner();
    let expected = v1::PatientContact {
        outcome: Contact::CallBack.into(),
        contact_time: Some(make::wire_at("2026-03-02T08:30:00Z")),
        medium: v1::ContactMedium::Phone.into(),
    };
    let shown = shown(&harness).await.remove(0);
    assert_eq!(shown.last_contact, Some(expected));
    assert_eq!(shown.etag, recorded.booking_request.expect("given").etag);
}

#[tokio::test]
async fn protection_hides_what_is_open_until_staff_release_it() {
    let harness = Harness::start(NOW).await;
    let request = told(&harness).await;
    assert_eq!(states(&harness).await, [State::Open]);
    worklist_user::set_protection(&harness, Protection::ConfidentialityMarked).await;
    assert_eq!(states(&harness).await, []);
    let channel = v1::DeliveryChannel::Unspecified;
    worklist_user::release(&harness, &request, channel).await;
    assert_eq!(states(&harness).await, [State::Open]);
    // Another hold hides nothing.
    worklist_user::contact(&harness, &request, Contact::CallBack).await;
    assert_eq!(states(&harness).await, [State::Open]);
}

#[tokio::test]
async fn a_booked_visit_is_shown_until_the_ninetieth_day_and_moved_until_the_deadline() {
    let harness = Harness::start(NOW).await;
    let request = told(&harness).await;
    let booking = make::wire_booking(&request, "2026-04-13T08:00:00Z");
    harness.book(booking).await.expect("booked");
    let may = |it: &v1::PatientRequest| (it.state(), it.may_book, it.may_move, it.may_cancel);
    for (now, expected) in [
        (
            "2026-04-12T07:59:59Z",
            Some((State::Booked, false, true, true)),
        ),
        (
            "2026-04-12T08:00:00Z",
            Some((State::Booked, false, false, false)),
        ),
        // The 90th day after 13 April is 12 July.
        (
            "2026-07-12T21:59:59Z",
            Some((State::Booked, false, false, false)),
        ),
        ("2026-07-12T22:00:00Z", None),
    ] {
        harness.advance(now);
        let shown = shown(&harness).await;
        assert_eq!(shown.first().map(may), expected, "{now}");
        let booking = shown.first().and_then(|it| it.booking.clone());
        let says = booking.map(|it| (it.booking_id, it.override_reason));
        let expected = expected.map(|_| ("B-1".to_owned(), String::new()));
        assert_eq!(says, expected, "{now}");
        // The deadline is shown whether it has passed or not.
        let deadline = shown.first().and_then(|it| it.move_deadline);
        let due = expected.map(|_| make::wire_at("2026-04-12T08:00:00Z"));
        assert_eq!(deadline, due, "{now}");
    }
}

#[tokio::test]
async fn a_visit_that_was_booked_directly_is_moved_and_cancelled_through_the_unit() {
    let harness = Harness::start(NOW).await;
    let booking = make::wire_booking("", "2026-04-13T08:00:00Z").booking;
    let form = v1::BookingRequest {
        summons: false,
        invitation: false,
        constraints: None,
        booking,
        ..of_referral("R-1")
    };
    let request = created(&harness, form).await;
    let shown = shown(&harness).await;
    let may = |it: &v1::PatientRequest| (it.state(), it.may_move, it.may_cancel);
    assert_eq!(shown.first().map(may), Some((State::Booked, false, false)));
    assert_eq!((shown[0].expire_time, shown[0].move_deadline), (None, None));
    // Booking was never open to the patient, so nothing is shown of its end.
    harness
        .cancel(make::wire_cancel(&request))
        .await
        .expect("cancelled");
    assert_eq!(states(&harness).await, []);
}

/// How an invitation ends.
#[derive(Clone, Copy, Debug)]
enum End {
    Expired,
    Declined,
    Cancelled,
    /// Declined, and cancelled weeks later.
    DeclinedAndCancelled,
    /// Invited anew, and cancelled before anything of that round was leased.
    OfALaterRound,
}

#[tokio::test]
async fn what_was_once_open_is_shown_for_ninety_days_after_its_end() {
    const CLOSED: &str = "2026-05-31T21:59:59Z";
    for (end, last_day, reason) in [
        // The last day of the period is 30 April; the others end on 2 March.
        (End::Expired, "2026-07-29T21:59:59Z", ClosedReason::Expired),
        (End::Declined, CLOSED, ClosedReason::Declined),
        (End::Cancelled, CLOSED, ClosedReason::Cancelled),
        (End::DeclinedAndCancelled, CLOSED, ClosedReason::Cancelled),
        (End::OfALaterRound, CLOSED, ClosedReason::Cancelled),
    ] {
        let harness = Harness::start(NOW).await;
        let request = told(&harness).await;
        match end {
            End::Expired => {}
            End::Declined | End::DeclinedAndCancelled => {
                worklist_user::contact(&harness, &request, Contact::Declined).await;
            }
            End::Cancelled => {
                harness
                    .cancel(make::wire_cancel(&request))
                    .await
                    .expect("cancelled");
            }
            End::OfALaterRound => {
                worklist_user::contact(&harness, &request, Contact::CallBack).await;
                let invite = make::wire_invite(&request);
                harness.invite(invite).await.expect("a new round");
                assert_eq!(states(&harness).await, []);
                let cancel = make::wire_cancel(&request);
                harness.cancel(cancel).await.expect("cancelled");
            }
        }
        if matches!(end, End::DeclinedAndCancelled) {
            harness.advance("2026-04-01T10:00:00Z");
            harness
                .cancel(make::wire_cancel(&request))
                .await
                .expect("cancelled");
        }
        harness.advance(last_day);
        assert_eq!(states(&harness).await, [State::Closed], "{end:?}");
        let may = &shown(&harness).await[0];
        assert!(!may.may_book && !may.may_move && !may.may_cancel);
        assert_eq!(may.closed_reason(), reason, "{end:?}");
        harness
            .clock
            .advance(make::at(last_day) + chrono::Duration::seconds(1))
            .expect("forward");
        assert_eq!(states(&harness).await, [], "{end:?}");
    }
}

#[tokio::test]
async fn what_was_never_open_and_what_waits_for_staff_is_not_shown() {
    let harness = Harness::start(NOW).await;
    let cancelled = created(&harness, of_referral("R-1")).await;
    harness
        .cancel(make::wire_cancel(&cancelled))
        .await
        .expect("cancelled");
    let requested = v1::BookingRequest {
        invitation: false,
        ..of_referral("R-2")
    };
    created(&harness, requested).await;
    assert_eq!(states(&harness).await, []);
    harness.advance("2026-05-04T09:00:00Z");
    assert_eq!(states(&harness).await, [], "expired, and never open");
}

#[tokio::test]
async fn pages_go_over_all_units_the_newest_first_and_name_each_request_once() {
    let harness = Harness::start(NOW).await;
    let mut expected = Vec::new();
    for number in 0..7 {
        let call = v1::CreateBookingRequestRequest {
            parent: format!("careUnits/SE2321000131-P{}", number % 3),
            ..make::wire_create(of_referral(&format!("R-{number}")))
        };
        expected.insert(0, harness.create(call).await.expect("created").name);
        harness
            .clock
            .advance(harness.clock.now() + chrono::Duration::seconds(1))
            .expect("forward");
    }
    let stranger = v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: "191212121212".into(),
            ..of_referral("R-1").patient.expect("a patient")
        }),
        ..of_referral("R-1")
    };
    created(&harness, stranger).await;
    harness.hand_over_due().await;
    let mut listed: Vec<String> = Vec::new();
    let mut token = String::new();
    loop {
        let page = page(&harness, 3, &token).await;
        assert!(page.patient_requests.len() <= 3);
        listed.extend(page.patient_requests.into_iter().map(|it| it.name));
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(listed, expected);
}

#[tokio::test]
async fn a_patient_must_be_named_and_one_who_is_not_known_is_shown_nothing() {
    let harness = Harness::start(NOW).await;
    assert_eq!(shown(&harness).await, []);
    let call = v1::ListPatientRequestsRequest::default();
    let refused = within(harness.patients().list_patient_requests(call)).await;
    let status = refused.expect_err("nobody is named");
    let expected = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    assert_eq!(refusal(&status), expected);
    assert_eq!(bad_fields(&status), ["identity"]);
}

#[tokio::test]
async fn what_the_patient_may_do_is_what_record_booking_takes() {
    let harness = Harness::start(NOW).await;
    let request = told(&harness).await;
    let mut booking = make::wire_booking(&request, "2026-04-13T08:00:00Z");
    let wanted = booking.booking.as_mut().expect("a booking");
    wanted.source = BookingSource::Patient.into();
    wanted.override_reason.clear();
    assert!(shown(&harness).await[0].may_book);
    harness.book(booking.clone()).await.expect("booked");
    for (now, may_move, performer) in [
        ("2026-04-12T07:59:59Z", true, "SE2321000131-P7"),
        ("2026-04-12T08:00:00Z", false, "SE2321000131-P8"),
    ] {
        harness.advance(now);
        assert_eq!(shown(&harness).await[0].may_move, may_move);
        let mut moved = booking.clone();
        moved.request_id = make::request_id();
        let visit = moved.booking.as_mut().expect("a booking");
        visit.performer_id = performer.into();
        assert_eq!(harness.book(moved).await.is_ok(), may_move, "{now}");
    }
}
