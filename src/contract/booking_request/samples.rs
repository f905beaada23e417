//! Requests for the tests of this folder's neighbours: the smallest valid ones, and any valid form.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike, NaiveDate, Weekday};
use proptest::option;
use proptest::prelude::*;
use unicode_normalization::UnicodeNormalization;
use uuid::Uuid;

use crate::contract::{care_unit_name, v1};
use crate::domain::Context;
use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::create::{Create, create};
use crate::domain::booking_request::form::Booking;
use crate::domain::booking_request::form::BookingSource;
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::form::Origin;
use crate::domain::booking_request::form::PatientInstructions;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::form::VisitKind;
use crate::domain::booking_request::form::VisitType;
use crate::domain::calendar::{Instant, Period, TimeWindow, Weekdays};
use crate::domain::care_unit_settings::Policy;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::{
    Addressee, InboxReach, LetterFormat, Patient, PersonalId, PersonalIdType, Protection,
};
use crate::domain::request_key::RequestKey;

/// Returns the smallest valid invitation, as a caller writes it.
pub fn wire_form() -> v1::BookingRequest {
    v1::BookingRequest {
        patient: Some(v1::Patient {
            personal_id: "198003012385".into(),
            personal_id_type: v1::PersonalIdType::Personnummer.into(),
            ..Default::default()
        }),
        origin: Some(v1::booking_request::Origin::Referral(v1::Referral {
            referral_id: "R-1".into(),
            decision_date: String::new(),
        })),
        visit_kind: v1::VisitKind::NewVisit.into(),
        visit_type: Some(v1::VisitType {
            code: "ÖNH".into(),
            display_name: String::new(),
        }),
        purpose: "Öron".into(),
        summons: true,
        invitation: true,
        constraints: Some(v1::BookingConstraints {
            requested_period: Some(v1::DateInterval {
                start_date: "2026-05-18".into(),
                end_date: "2026-06-12".into(),
            }),
            ..Default::default()
        }),
        ..Default::default()
    }
}

/// Returns the message that creates it.
pub fn wire_create() -> v1::CreateBookingRequestRequest {
    v1::CreateBookingRequestRequest {
        parent: care_unit_name(&key().care_unit),
        booking_request: Some(wire_form()),
        request_id: Uuid::from_u128(5).to_string(),
        ..Default::default()
    }
}

/// Returns the key of the samples.
pub fn key() -> RequestKey {
    RequestKey {
        care_unit: HsaId::parse("SE2321000131-P1").unwrap(),
        id: Uuid::from_u128(1),
    }
}

/// Returns the time at which the samples are created.
pub fn now() -> Instant {
    "2026-03-02T09:00:00Z".parse().unwrap()
}

/// Returns a request made from this form.
pub fn created(form: Form) -> BookingRequest {
    let command = Create {
        key: key(),
        form,
        allow_duplicate: false,
        series: None,
        prior_messages: Vec::new(),
    };
    let context = Context {
        now: now(),
        actor: "SE2321000131-P7".into(),
        policy: Policy::default(),
    };
    create(&command, &context).unwrap().record
}

/// Returns the smallest invitation.
pub fn invited() -> BookingRequest {
    let message = super::parse_create(wire_create()).unwrap();
    created(message.command.form)
}

/// Returns the smallest request that is no invitation.
pub fn record() -> BookingRequest {
    let message = super::parse_create(wire_create()).unwrap();
    created(Form {
        invitation: false,
        ..message.command.form
    })
}

/// Generates any form that the contract accepts.
pub fn forms() -> impl Strategy<Value = Form> {
    let what = (
        patients(),
        origins(),
        select(VisitKind::ALL),
        visit_types(),
        line(1..=150),
    );
    let texts = (instructions(), text(), select(Priority::ALL));
    (what, texts, timings()).prop_map(|(what, texts, timing)| {
        let (patient, origin, visit_kind, visit_type, purpose) = what;
        let (patient_instructions, internal_comment, priority) = texts;
        let (summons, invitation, constraints, booking) = timing;
        Form {
            patient,
            origin,
            visit_kind,
            visit_type,
            purpose,
            patient_instructions,
            internal_comment,
            summons,
            invitation,
            constraints,
            booking,
            priority,
        }
    })
}

type Timing = (bool, bool, Option<Constraints>, Option<Booking>);

/// Generates the fields that depend on each other: the form's two flags, constraints and booking.
fn timings() -> impl Strategy<Value = Timing> {
    prop_oneof![
        (any::<bool>(), constraints()).prop_map(|(summons, it)| (summons, false, Some(it), None)),
        constraints().prop_map(|it| (true, true, Some(it), None)),
        (any::<bool>(), option::of(constraints()), bookings())
            .prop_map(|(summons, constraints, it)| (summons, false, constraints, Some(it))),
    ]
}

fn select<T: Copy + std::fmt::Debug>(values: &'static [T]) -> impl Strategy<Value = T> {
    proptest::sample::select(values)
}

fn line(length: RangeInclusive<usize>) -> impl Strategy<Value = String> {
    let (least, most) = (length.start(), length.end());
    let pattern = format!("[^\\pC\\s]\\PC{{{},{}}}", least - 1, most - 1);
    proptest::string::string_regex(&pattern)
        .unwrap()
        .prop_map(|text| text.nfc().collect())
}

fn text() -> impl Strategy<Value = String> {
    "(\\PC|\\p{Cf}|\n|\t){0,100}".prop_map(|text| text.nfc().collect())
}

fn identifiers() -> impl Strategy<Value = String> {
    "[!-~ÅÄÖåäö]([ -~ÅÄÖåäö]{0,62}[!-~ÅÄÖåäö])?"
}

fn hsa_ids() -> impl Strategy<Value = String> {
    prop_oneof![
        "SE[0-9]{10}-[0-9A-Z._]{1,18}",
        "SE16[0-9]{10}-[0-9A-Z._]{1,16}",
        "TSTNMT[0-9]{10}-[0-9A-Z._]{1,14}",
    ]
}

fn patients() -> impl Strategy<Value = Patient> {
    let known = (
        option::of(select(Protection::ALL)),
        option::of(select(InboxReach::ALL)),
        option::of(select(Addressee::ALL)),
        select(LetterFormat::ALL),
    );
    let languages = (languages(), option::of(languages()));
    (personal_ids(), known, languages).prop_map(|(personal_id, known, languages)| {
        let (protection, inbox_reach, addressee, letter_format) = known;
        let (language, interpreter_language) = languages;
        Patient {
            personal_id,
            protection,
            inbox_reach,
            language,
            addressee,
            interpreter_language,
            letter_format,
        }
    })
}

fn languages() -> impl Strategy<Value = String> {
    "[a-z]{2,3}(-[A-Z][a-z]{3})?(-[A-Z]{2})?"
}

fn personal_ids() -> impl Strategy<Value = PersonalId> {
    let national = "[0-9A-Z]{12}".prop_map(|number| {
        PersonalId::parse(PersonalIdType::NationalReserveNumber, "", &number).unwrap()
    });
    let local = ("[0-9A-Z-]{1,20}", "[0-2](\\.(0|[1-9][0-9]{0,6})){1,7}");
    let local = local.prop_map(|(number, issuer)| {
        PersonalId::parse(PersonalIdType::LocalReserveNumber, &issuer, &number).unwrap()
    });
    let personal = (dates(1900, 2025), 1..=999u32).prop_map(|(birth, serial)| {
        let parts = [birth.month(), birth.day(), serial];
        national_id(PersonalIdType::Personnummer, birth.year(), parts)
    });
    let coordination = (dates(1900, 2025), any::<(bool, bool)>(), 1..=999u32);
    let coordination = coordination.prop_map(|(birth, (has_month, has_day), serial)| {
        let month = if has_month { birth.month() } else { 0 };
        let day = if has_day { birth.day() } else { 0 };
        let parts = [month, day + 60, serial];
        national_id(PersonalIdType::Samordningsnummer, birth.year(), parts)
    });
    prop_oneof![local, national, personal, coordination]
}

/// Returns the number with this month, day and serial, and its check digit.
fn national_id(kind: PersonalIdType, year: i32, [month, day, serial]: [u32; 3]) -> PersonalId {
    let stem = format!("{year:04}{month:02}{day:02}{serial:03}");
    (0..10)
        .find_map(|digit| PersonalId::parse(kind, "", &format!("{stem}{digit}")).ok())
        .unwrap()
}

fn dates(first: i32, last: i32) -> impl Strategy<Value = NaiveDate> {
    let first = NaiveDate::from_yo_opt(first, 1).unwrap();
    let last = NaiveDate::from_ymd_opt(last, 12, 31).unwrap();
    (0..=(last - first).num_days()).prop_map(move |days| first + chrono::Duration::days(days))
}

fn origins() -> impl Strategy<Value = Origin> {
    prop_oneof![
        (identifiers(), option::of(dates(1900, 2200))).prop_map(|(referral_id, decision_date)| {
            Origin::Referral {
                referral_id,
                decision_date,
            }
        }),
        (
            identifiers(),
            option::of(identifiers()),
            option::of(dates(1900, 2200)),
        )
            .prop_map(|(visit_id, referral_id, decision_date)| {
                Origin::PreviousVisit {
                    visit_id,
                    referral_id,
                    decision_date,
                }
            }),
    ]
}

fn visit_types() -> impl Strategy<Value = VisitType> {
    let display_names = option::of(line(1..=150)).prop_map(Option::unwrap_or_default);
    (identifiers(), display_names).prop_map(|(code, display_name)| VisitType { code, display_name })
}

fn instructions() -> impl Strategy<Value = PatientInstructions> {
    [text(), text(), text(), text()].prop_map(|texts| {
        let [
            visit_length,
            supplementary,
            sampling_before_visit,
            sampling_information,
        ] = texts;
        PatientInstructions {
            visit_length,
            supplementary,
            sampling_before_visit,
            sampling_information,
        }
    })
}

fn constraints() -> impl Strategy<Value = Constraints> {
    (
        (dates(1900, 2198), 0..=366i64),
        proptest::collection::vec(0..7u8, 0..4),
        windows(),
        prop_oneof![Just(0), 5..=480u32],
        proptest::collection::vec(hsa_ids(), 0..=20),
    )
        .prop_map(
            |((first, days), weekdays, time_windows, duration_minutes, performer_ids)| {
                let last = first + chrono::Duration::days(days);
                Constraints {
                    period: Period { first, last },
                    weekdays: Weekdays::of(weekdays.into_iter().map(weekday)),
                    time_windows,
                    duration_minutes,
                    performer_ids,
                }
            },
        )
}

fn weekday(day: u8) -> Weekday {
    Weekday::try_from(day).unwrap()
}

/// Generates windows between drawn boundaries, in any order, so that they may touch and do not overlap.
fn windows() -> impl Strategy<Value = Vec<TimeWindow>> {
    proptest::collection::btree_set(0..=1_440u32, 0..=15)
        .prop_map(|boundaries| {
            let boundaries: Vec<_> = boundaries.into_iter().collect();
            let window = |pair: &[u32]| TimeWindow {
                start_minute: pair[0],
                end_minute: pair[1],
            };
            boundaries.windows(2).map(window).collect::<Vec<_>>()
        })
        .prop_shuffle()
}

fn bookings() -> impl Strategy<Value = Booking> {
    (
        identifiers(),
        (0..4_000_000_000_000_000i64, 1..86_400_000_000i64),
        select(BookingSource::ALL),
        option::of(hsa_ids()),
        // A blank one is taken as none.
        prop_oneof![Just(String::new()), line(1..=100)],
    )
        .prop_map(
            |(booking_id, (start, length), source, performer_id, override_reason)| {
                let at = |micros| DateTime::from_timestamp_micros(micros).unwrap();
                Booking {
                    booking_id,
                    start_at: at(start),
                    end_at: at(start + length),
                    source,
                    performer_id,
                    override_reason,
                }
            },
        )
}
