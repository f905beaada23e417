//! The calls that are measured, filled in as a clinic fills them in.

use care_invitation::contract::v1;
use care_invitation::domain::hsa_id::HsaId;
use care_invitation::store::bucket::bucket;
use chrono::{Days, NaiveDate};
use uuid::Uuid;

/// How many care units the requests are spread over.
pub const UNITS: u64 = 50;

/// The HSA-id of a care unit.
pub fn unit(number: u64) -> String {
    format!("SE2321000131-P{number:012}")
}

/// The bucket of a care unit.
pub fn bucket_of(unit: &str) -> i16 {
    bucket(&HsaId::from_stored(unit.to_owned()))
}

/// The name of a care unit.
pub fn unit_name(number: u64) -> String {
    format!("careUnits/{}", unit(number))
}

/// A personnummer that is right in every digit; different for different numbers up to millions.
fn personal_id(number: u64) -> String {
    let first = NaiveDate::from_ymd_opt(1930, 1, 1).expect("a date");
    let birth = first + Days::new(number / 999 % 30_000);
    let digits = format!("{}{:03}", birth.format("%Y%m%d"), number % 999 + 1);
    let doubled = |(place, digit): (usize, u32)| match (place % 2, digit) {
        (0, 0..=4) => digit * 2,
        (0, _) => digit * 2 - 9,
        (_, _) => digit,
    };
    let ten = digits[2..].chars().filter_map(|it| it.to_digit(10));
    let sum: u32 = ten.enumerate().map(doubled).sum();
    format!("{digits}{}", (10 - sum % 10) % 10)
}

/// When the visits may take place.
#[derive(Clone, Copy, Debug)]
pub struct Period {
    /// The first day.
    pub first: NaiveDate,
    /// The last day.
    pub last: NaiveDate,
}

impl Period {
    /// So many days from `today`, and long enough for all reminders.
    pub fn from(today: NaiveDate, days: u64) -> Self {
        Self {
            first: today + Days::new(days),
            last: today + Days::new(days + 60),
        }
    }

    /// The same, so many days later.
    pub fn delayed(self, days: u64) -> Self {
        Self {
            first: self.first + Days::new(days),
            last: self.last + Days::new(days),
        }
    }

    /// From the machine's today: the first message is weeks off.
    pub fn later() -> Self {
        Self::from(chrono::Utc::now().date_naive(), 90)
    }

    /// From the machine's today: the first message is due at once.
    pub fn at_once() -> Self {
        Self::from(chrono::Utc::now().date_naive(), 14)
    }
}

/// The call that creates invitation number `number` in a unit.
pub fn create(parent: String, number: u64, period: Period) -> v1::CreateBookingRequestRequest {
    v1::CreateBookingRequestRequest {
        parent,
        booking_request: Some(invitation(number, period)),
        request_id: Uuid::new_v4().to_string(),
        ..Default::default()
    }
}

/// The call for what patient number `number` is shown.
pub fn of_patient(number: u64) -> v1::ListPatientRequestsRequest {
    v1::ListPatientRequestsRequest {
        identity: Some(v1::PatientIdentity {
            personal_id: personal_id(number),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            issuer: String::new(),
        }),
        ..Default::default()
    }
}

fn invitation(number: u64, period: Period) -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: personal_id(number),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            ..Default::default()
        }),
        origin: Some(v1::booking_request::Origin::Referral(v1::Referral {
            referral_id: format!("R-{number:09}"),
            // Never in the future: no period begins later than this from now.
            decision_date: (period.first - Days::new(130)).to_string(),
        })),
        visit_kind: v1::VisitKind::NewVisit.into(),
        visit_type: Some(v1::VisitType {
            code: "ONH-NY".into(),
            display_name: "ÖNH LÄK SÄSB nybesök".into(),
        }),
        purpose: "Öron".into(),
        patient_instructions: Some(v1::PatientInstructions {
            visit_length: "Besöket tar omkring 45 minuter.".into(),
            supplementary: "Ta med legitimation och en lista över dina läkemedel.".into(),
            ..Default::default()
        }),
        summons: true,
        invitation: true,
        constraints: Some(constraints(period)),
        ..Default::default()
    }
}

fn constraints(period: Period) -> v1::BookingConstraints {
    v1::BookingConstraints {
        requested_period: Some(v1::DateInterval {
            start_date: period.first.to_string(),
            end_date: period.last.to_string(),
        }),
        weekdays: (1..=5).collect(),
        time_windows: vec![v1::TimeWindow {
            start_clock: "08:00".into(),
            end_clock: "16:30".into(),
        }],
        duration_minutes: 45,
        performer_ids: Vec::new(),
    }
}

/// The call that books request number `number` on the first day of its period.
pub fn book(name: String, number: u64, period: Period) -> v1::RecordBookingRequest {
    let start = period.first.and_hms_opt(9, 0, 0).expect("a time").and_utc();
    let at = |minutes: i64| prost_types::Timestamp {
        seconds: start.timestamp() + minutes * 60,
        nanos: 0,
    };
    v1::RecordBookingRequest {
        name,
        request_id: Uuid::new_v4().to_string(),
        booking: Some(v1::Booking {
            booking_id: format!("B-{number:09}"),
            start_time: Some(at(0)),
            end_time: Some(at(45)),
            source: v1::BookingSource::Staff.into(),
            performer_id: String::new(),
            override_reason: "the patient called".into(),
        }),
        ..Default::default()
    }
}

/// The call that asks for the page of 50 of these units' invitations to which a token belongs.
pub fn page(care_units: Vec<String>, page_token: String) -> v1::ListWorklistRequest {
    v1::ListWorklistRequest {
        query: Some(list(care_units, v1::Worklist::CareInvitations)),
        page_size: 50,
        page_token,
        ..Default::default()
    }
}

/// A worklist of these units.
pub fn list(care_units: Vec<String>, worklist: v1::Worklist) -> v1::WorklistQuery {
    v1::WorklistQuery {
        worklists: vec![worklist.into()],
        care_units,
        ..Default::default()
    }
}

/// The call that opens a stream of due messages, with at most so many outstanding.
pub fn stream(max_outstanding: i32) -> v1::StreamDueNotificationsRequest {
    v1::StreamDueNotificationsRequest {
        max_outstanding,
        ..Default::default()
    }
}

/// The answer that a message was handed over.
pub fn sent(due: &v1::DueNotification) -> v1::Acknowledgement {
    v1::Acknowledgement {
        lease: Some(v1::Lease {
            name: due
                .notification
                .as_ref()
                .map(|it| it.name.clone())
                .unwrap_or_default(),
            lease_token: due.lease_token.clone(),
        }),
        outcome: v1::acknowledgement::Outcome::Sent.into(),
        ..Default::default()
    }
}
