//! The smallest valid things; a test changes what it is about.

use care_invitation::contract::calendar::render_instant;
use care_invitation::contract::v1;
use care_invitation::domain::Context;
use care_invitation::domain::booking_request::BookingRequest;
use care_invitation::domain::booking_request::create::{Create, create};
use care_invitation::domain::booking_request::form::Constraints;
use care_invitation::domain::booking_request::form::Form;
use care_invitation::domain::booking_request::form::Origin;
use care_invitation::domain::booking_request::form::PatientInstructions;
use care_invitation::domain::booking_request::form::Priority;
use care_invitation::domain::booking_request::form::VisitKind;
use care_invitation::domain::booking_request::form::VisitType;
use care_invitation::domain::calendar::{Instant, Period, Weekdays};
use care_invitation::domain::care_unit_settings::Policy;
use care_invitation::domain::care_units::CareUnits;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::domain::notification::Outcome;
use care_invitation::domain::notification::acknowledge::{Acknowledgement, acknowledge};
use care_invitation::domain::notification::lease::{LeaseOutcome, Terms, lease};
use care_invitation::domain::patient::{LetterFormat, Patient, PersonalId, PersonalIdType};
use care_invitation::domain::request_key::RequestKey;
use care_invitation::domain::visible::Visible;
use chrono::NaiveDate;
use prost_types::Timestamp;
use uuid::Uuid;

/// The care unit of every test that does not need two.
pub const CARE_UNIT: &str = "SE2321000131-P000000123457";

pub fn at(text: &str) -> Instant {
    text.parse().expect("a test instant")
}

pub fn date(text: &str) -> NaiveDate {
    text.parse().expect("a test date")
}

/// What a caller finds from whom nothing is hidden.
pub fn everything() -> Visible {
    Visible {
        care_units: CareUnits::Every,
        hides_protected: false,
    }
}

pub fn key() -> RequestKey {
    RequestKey {
        care_unit: HsaId::parse(CARE_UNIT).expect("a test unit"),
        id: Uuid::now_v7(),
    }
}

/// What a decision at `now` may know.
pub fn context(now: Instant) -> Context {
    Context {
        now,
        actor: "tester".into(),
        policy: Policy::default(),
    }
}

pub fn constraints(first: &str, last: &str) -> Constraints {
    Constraints {
        period: Period {
            first: date(first),
            last: date(last),
        },
        weekdays: Weekdays::default(),
        time_windows: vec![],
        duration_minutes: 0,
        performer_ids: vec![],
    }
}

/// An invitation to a visit between two dates.
pub fn form(first: &str, last: &str) -> Form {
    Form {
        patient: Patient {
            personal_id: PersonalId::parse(PersonalIdType::Personnummer, "", "198003012385")
                .expect("a good number"),
            protection: None,
            inbox_reach: None,
            language: "sv".into(),
            addressee: None,
            interpreter_language: None,
            letter_format: LetterFormat::Standard,
        },
        origin: Origin::Referral {
            referral_id: "R-1".into(),
            decision_date: None,
        },
        visit_kind: VisitKind::NewVisit,
        visit_type: VisitType {
            code: "ONH-NY".into(),
            display_name: "ÖNH LÄK SÄSB nybesök".into(),
        },
        purpose: "Öron".into(),
        patient_instructions: PatientInstructions::default(),
        internal_comment: String::new(),
        summons: true,
        invitation: true,
        constraints: Some(constraints(first, last)),
        booking: None,
        priority: Priority::Routine,
    }
}

/// An invitation created at `now`.
pub fn invited(first: &str, last: &str, now: Instant) -> BookingRequest {
    created(form(first, last), now)
}

pub fn created(form: Form, now: Instant) -> BookingRequest {
    let command = Create {
        key: key(),
        form,
        allow_duplicate: false,
        series: None,
        prior_messages: Vec::new(),
    };
    create(&command, &context(now))
        .expect("a valid form")
        .record
}

/// The message that may be claimed next, and when.
pub fn claimable(record: &BookingRequest) -> Option<(Uuid, Instant)> {
    let messages = &record.care_invitation.as_ref()?.notifications;
    let waiting = messages
        .iter()
        .filter_map(|it| Some((it.id, it.claimable_at?)));
    waiting.min_by_key(|(_, claimable_at)| *claimable_at)
}

/// A lease for a minute, without promises.
pub fn terms(token: Uuid) -> Terms {
    Terms {
        token,
        duration: chrono::Duration::seconds(60),
        always_authorizes: false,
        in_lost_interval: false,
    }
}

/// The record after its next message has been leased at `now` for a minute, and the lease's token.
pub fn leased(record: &BookingRequest, now: Instant) -> (BookingRequest, Uuid, Uuid) {
    let (id, _) = claimable(record).expect("something to claim");
    let token = Uuid::new_v4();
    match lease(record, id, terms(token), &context(now)) {
        LeaseOutcome::Leased(change) => (change.record, id, token),
        other => panic!("not leased: {other:?}"),
    }
}

/// The record after its next message has been leased and handed over at `now`.
pub fn handed_over(record: &BookingRequest, now: Instant) -> BookingRequest {
    let (record, id, token) = leased(record, now);
    let answer = Acknowledgement {
        id,
        token,
        outcome: Outcome::Sent,
        sent_at: None,
        retry_delay: None,
        detail: String::new(),
        may_have_been_sent: false,
    };
    match acknowledge(&record, &answer, &context(now)) {
        Ok(Some(change)) => change.record,
        other => panic!("not recorded: {other:?}"),
    }
}

/// The name of [`CARE_UNIT`].
pub fn wire_unit() -> String {
    format!("careUnits/{CARE_UNIT}")
}

/// A call that counts every list of these care units.
pub fn wire_count(care_units: Vec<String>) -> v1::CountWorklistsRequest {
    v1::CountWorklistsRequest {
        query: Some(v1::WorklistQuery {
            care_units,
            ..Default::default()
        }),
        by_care_unit: false,
    }
}

/// An instant, as a caller writes it.
pub fn wire_at(text: &str) -> Timestamp {
    render_instant(at(text))
}

/// An invitation to a visit between two dates, as a caller writes it.
pub fn wire_form(first: &str, last: &str) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: "198003012385".into(),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            ..Default::default()
        }),
        origin: Some(wire_referral("R-1")),
        visit_kind: v1::VisitKind::NewVisit.into(),
        visit_type: Some(v1::VisitType {
            code: "ONH-NY".into(),
            display_name: "ÖNH LÄK SÄSB nybesök".into(),
        }),
        purpose: "Öron".into(),
        summons: true,
        invitation: true,
        constraints: Some(v1::BookingConstraints {
            requested_period: Some(v1::DateInterval {
                start_date: first.into(),
                end_date: last.into(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// A referral to start from.
pub fn wire_referral(referral_id: &str) -> v1::booking_request::Origin {
    v1::booking_request::Origin::Referral(v1::Referral {
        referral_id: referral_id.into(),
        decision_date: String::new(),
    })
}

/// The call that creates a request, under an id of its own.
pub fn wire_create(form: v1::BookingRequest) -> v1::CreateBookingRequestRequest {
    v1::CreateBookingRequestRequest {
        parent: wire_unit(),
        booking_request: Some(form),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    }
}

/// The call by which staff book half an hour, whatever the constraints say.
pub fn wire_booking(name: &str, start: &str) -> v1::RecordBookingRequest {
    let start_at = at(start);
    v1::RecordBookingRequest {
        name: name.into(),
        request_id: Uuid::new_v4().to_string(),
        booking: Some(v1::Booking {
            booking_id: "B-1".into(),
            start_time: Some(render_instant(start_at)),
            end_time: Some(render_instant(start_at + chrono::Duration::minutes(30))),
            source: v1::BookingSource::Staff.into(),
            performer_id: String::new(),
            override_reason: "the patient called".into(),
        }),
        ..Default::default()
    }
}

/// An id for a write that has not been made before.
pub fn request_id() -> String {
    Uuid::new_v4().to_string()
}

/// Between two dates, at any time.
pub fn wire_constraints(first: &str, last: &str) -> v1::BookingConstraints {
    v1::BookingConstraints {
        requested_period: Some(v1::DateInterval {
            start_date: first.into(),
            end_date: last.into(),
        }),
        ..Default::default()
    }
}

/// The call that invites the patient of a request, as it stands.
pub fn wire_invite(name: &str) -> v1::ChangeToInvitationRequest {
    v1::ChangeToInvitationRequest {
        name: name.into(),
        request_id: request_id(),
        ..Default::default()
    }
}

/// The call that closes a request because the unit asks for it.
pub fn wire_cancel(name: &str) -> v1::CancelBookingRequestRequest {
    v1::CancelBookingRequestRequest {
        name: name.into(),
        request_id: request_id(),
        reason: v1::CancelReason::UnitRequest.into(),
        ..Default::default()
    }
}
