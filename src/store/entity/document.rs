//! Documents: the parts of a request that no query uses, as JSON in one column.

use std::ops::RangeInclusive;

use chrono::{Datelike, NaiveDate};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use uuid::Uuid;

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::Booking;
use crate::domain::booking_request::form::BookingSource;
use crate::domain::booking_request::form::Constraints;
use crate::domain::booking_request::form::PatientInstructions;
use crate::domain::booking_request::record_booking_cancellation::Cancellations;
use crate::domain::booking_request::record_patient_contact::{ContactMedium, PatientContact};
use crate::domain::booking_request::series::Series;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::calendar::{Instant, Period, TimeWindow, Weekdays, from_micros, micros};
use crate::domain::care_invitation::{CareInvitation, Hold, HoldReason};
use crate::domain::history::Contact;
use crate::domain::notification::DeliveryChannel;
use crate::domain::patient::{Addressee, InboxReach, Protection};
use crate::store::entity::schedule::ScheduleDocument;
use crate::store::error::Error;

/// Returns a date as it is stored, in days of the common era.
pub fn day(date: NaiveDate) -> i32 {
    date.num_days_from_ce()
}

/// Returns the value of a stored number.
pub fn code<T>(from_code: fn(i16) -> Option<T>, stored: i16) -> Result<T, Error> {
    from_code(stored).ok_or_else(|| Error::internal("a stored number that is not known"))
}

/// Returns the value of a stored number, if there is one.
pub fn optional<T>(
    from_code: fn(i16) -> Option<T>,
    stored: Option<i16>,
) -> Result<Option<T>, Error> {
    stored.map(|stored| code(from_code, stored)).transpose()
}

/// Returns the date that [`day`] has stored. Its year is one that the contract has, so that calculating with it is safe.
pub fn date(day: i32) -> Result<NaiveDate, Error> {
    let date = NaiveDate::from_num_days_from_ce_opt(day);
    date.filter(|date| YEARS.contains(&date.year()))
        .ok_or_else(|| Error::internal("a stored day that is no date"))
}

/// Returns the instant that was stored as microseconds. Its year is one that the contract has.
pub fn instant(micros: i64) -> Result<Instant, Error> {
    let at = from_micros(micros);
    match YEARS.contains(&at.year()) {
        true => Ok(at),
        false => Err(Error::internal("a stored instant out of range")),
    }
}

/// Years that the contract has.
const YEARS: RangeInclusive<i32> = 1..=9_999;

/// Decodes a document. The error has only the position, because the text of the library would quote the content.
pub fn from_json<T: DeserializeOwned>(document: &str) -> Result<T, Error> {
    serde_json::from_str(document).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        let kind = match error.classify() {
            Category::Io | Category::Eof | Category::Syntax => "not JSON",
            Category::Data => "not the expected document",
        };
        Error::internal(format!("{kind} at line {line} column {column}"))
    })
}

/// The parts of a request that no query uses.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) protection: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) inbox_reach: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) addressee: Option<i16>,
    pub(super) language: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) decision_day: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) visit_type_name: String,
    pub(super) purpose: String,
    #[serde(skip_serializing_if = "InstructionsDocument::is_empty")]
    pub(super) patient_instructions: InstructionsDocument,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) internal_comment: String,
    pub(super) summons: bool,
    pub(super) invitation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) constraints: Option<ConstraintsDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) booking: Option<BookingDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cancel_reason: Option<i16>,
    #[serde(skip_serializing_if = "CancellationsDocument::is_empty")]
    pub(super) cancellations: CancellationsDocument,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) closed_at: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) last_contact: Option<ContactDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) series: Option<SeriesDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) care_invitation: Option<InvitationDocument>,
    pub(super) history_count: i32,
    pub(super) updated_at: i64,
}

impl Document {
    /// Returns the document of a request.
    pub fn of(record: &BookingRequest) -> Self {
        let form = &record.form;
        Self {
            protection: form.patient.protection.map(|it| it.code()),
            inbox_reach: form.patient.inbox_reach.map(|it| it.code()),
            addressee: form.patient.addressee.map(|it| it.code()),
            language: form.patient.language.clone(),
            decision_day: form.origin.decision_date().map(day),
            visit_type_name: form.visit_type.display_name.clone(),
            purpose: form.purpose.clone(),
            patient_instructions: (&form.patient_instructions).into(),
            internal_comment: form.internal_comment.clone(),
            summons: form.summons,
            invitation: form.invitation,
            constraints: form.constraints.as_ref().map(ConstraintsDocument::of),
            booking: form.booking.as_ref().map(BookingDocument::of),
            cancel_reason: record.cancel_reason.map(|it| it.code()),
            cancellations: record.cancellations.into(),
            closed_at: record.closed_at.map(micros),
            last_contact: record.last_contact.map(ContactDocument::of),
            series: record.series.as_ref().map(SeriesDocument::of),
            care_invitation: record.care_invitation.as_ref().map(InvitationDocument::of),
            history_count: record.history_count,
            updated_at: micros(record.updated_at),
        }
    }

    /// Returns the document as JSON.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document of text and numbers is JSON")
    }

    /// Decodes the parts that are stored in another form. The period has columns of its own.
    pub fn decode(&self, period: Option<Period>) -> Result<Parts, Error> {
        let constraints = self.constraints.as_ref().zip(period);
        let constraints = constraints.map(|(document, period)| document.to_domain(period));
        let invitation = self.care_invitation.as_ref();
        Ok(Parts {
            constraints: constraints.transpose()?,
            care_invitation: invitation.map(InvitationDocument::to_domain).transpose()?,
            booking: self
                .booking
                .clone()
                .map(BookingDocument::into_domain)
                .transpose()?,
            cancel_reason: optional(CancelReason::from_code, self.cancel_reason)?,
            closed_at: self.closed_at.map(instant).transpose()?,
            last_contact: self
                .last_contact
                .map(ContactDocument::to_domain)
                .transpose()?,
            series: self.series.clone().map(SeriesDocument::into_domain),
            decision_date: self.decision_day.map(date).transpose()?,
            protection: optional(Protection::from_code, self.protection)?,
            inbox_reach: optional(InboxReach::from_code, self.inbox_reach)?,
            addressee: optional(Addressee::from_code, self.addressee)?,
            updated_at: instant(self.updated_at)?,
        })
    }
}

/// The parts of a document that are stored in another form.
pub struct Parts {
    pub(super) constraints: Option<Constraints>,
    /// Without its notifications.
    pub(super) care_invitation: Option<CareInvitation>,
    pub(super) booking: Option<Booking>,
    pub(super) cancel_reason: Option<CancelReason>,
    pub(super) closed_at: Option<Instant>,
    pub(super) last_contact: Option<PatientContact>,
    pub(super) series: Option<Series>,
    pub(super) decision_date: Option<NaiveDate>,
    pub(super) protection: Option<Protection>,
    pub(super) inbox_reach: Option<InboxReach>,
    pub(super) addressee: Option<Addressee>,
    pub(super) updated_at: Instant,
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct InstructionsDocument {
    #[serde(skip_serializing_if = "String::is_empty")]
    visit_length: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    supplementary: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sampling_before_visit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sampling_information: String,
}

impl InstructionsDocument {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<&PatientInstructions> for InstructionsDocument {
    fn from(instructions: &PatientInstructions) -> Self {
        Self {
            visit_length: instructions.visit_length.clone(),
            supplementary: instructions.supplementary.clone(),
            sampling_before_visit: instructions.sampling_before_visit.clone(),
            sampling_information: instructions.sampling_information.clone(),
        }
    }
}

impl From<InstructionsDocument> for PatientInstructions {
    fn from(document: InstructionsDocument) -> Self {
        Self {
            visit_length: document.visit_length,
            supplementary: document.supplementary,
            sampling_before_visit: document.sampling_before_visit,
            sampling_information: document.sampling_information,
        }
    }
}

/// Minutes of a day.
const MINUTES_OF_DAY: u32 = 24 * 60;

/// Constraints without their period, which has columns of its own.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ConstraintsDocument {
    weekdays: u8,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    time_windows: Vec<(u32, u32)>,
    duration_minutes: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    performer_ids: Vec<String>,
}

impl ConstraintsDocument {
    /// Returns the document of constraints.
    pub fn of(constraints: &Constraints) -> Self {
        let windows = constraints.time_windows.iter();
        Self {
            weekdays: constraints.weekdays.bits(),
            time_windows: windows.map(|it| (it.start_minute, it.end_minute)).collect(),
            duration_minutes: constraints.duration_minutes,
            performer_ids: constraints.performer_ids.clone(),
        }
    }

    /// Returns the constraints, with their period.
    pub fn to_domain(&self, period: Period) -> Result<Constraints, Error> {
        let windows = self.time_windows.iter();
        let minutes = windows.clone().flat_map(|(start, end)| [*start, *end]);
        if minutes.chain([self.duration_minutes]).max() > Some(MINUTES_OF_DAY) {
            return Err(Error::internal("more minutes than a day has"));
        }
        Ok(Constraints {
            period,
            weekdays: Weekdays::from_bits(self.weekdays),
            time_windows: windows
                .map(|&(start_minute, end_minute)| TimeWindow {
                    start_minute,
                    end_minute,
                })
                .collect(),
            duration_minutes: self.duration_minutes,
            performer_ids: self.performer_ids.clone(),
        })
    }
}

/// A booking, in a request and in the history.
#[derive(Clone, Serialize, Deserialize)]
pub struct BookingDocument {
    booking_id: String,
    start_at: i64,
    end_at: i64,
    source: i16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    performer_id: Option<String>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    override_reason: String,
}

impl BookingDocument {
    /// Returns the document of a booking.
    pub fn of(booking: &Booking) -> Self {
        Self {
            booking_id: booking.booking_id.clone(),
            start_at: micros(booking.start_at),
            end_at: micros(booking.end_at),
            source: booking.source.code(),
            performer_id: booking.performer_id.clone(),
            override_reason: booking.override_reason.clone(),
        }
    }

    /// Returns the booking.
    pub fn into_domain(self) -> Result<Booking, Error> {
        Ok(Booking {
            booking_id: self.booking_id,
            start_at: instant(self.start_at)?,
            end_at: instant(self.end_at)?,
            source: code(BookingSource::from_code, self.source)?,
            performer_id: self.performer_id,
            override_reason: self.override_reason,
        })
    }
}

/// Numbers of cancelled bookings.
#[derive(Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct CancellationsDocument {
    by_patient: i32,
    by_unit: i32,
    no_shows: i32,
}

impl CancellationsDocument {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl From<Cancellations> for CancellationsDocument {
    fn from(cancellations: Cancellations) -> Self {
        Self {
            by_patient: cancellations.by_patient,
            by_unit: cancellations.by_unit,
            no_shows: cancellations.no_shows,
        }
    }
}

impl From<CancellationsDocument> for Cancellations {
    fn from(document: CancellationsDocument) -> Self {
        Self {
            by_patient: document.by_patient,
            by_unit: document.by_unit,
            no_shows: document.no_shows,
        }
    }
}

/// The contact with the patient that was recorded last.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub struct ContactDocument {
    outcome: i16,
    at: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    medium: Option<i16>,
}

impl ContactDocument {
    fn of(contact: PatientContact) -> Self {
        Self {
            outcome: contact.outcome.code(),
            at: micros(contact.at),
            medium: contact.medium.map(|it| it.code()),
        }
    }

    fn to_domain(self) -> Result<PatientContact, Error> {
        Ok(PatientContact {
            outcome: code(Contact::from_code, self.outcome)?,
            at: instant(self.at)?,
            medium: optional(ContactMedium::from_code, self.medium)?,
        })
    }
}

/// Place of a request in its series.
#[derive(Clone, Serialize, Deserialize)]
pub struct SeriesDocument {
    position: i32,
    members: Vec<Uuid>,
}

impl SeriesDocument {
    fn of(series: &Series) -> Self {
        Self {
            position: series.position,
            members: series.members.clone(),
        }
    }

    fn into_domain(self) -> Series {
        Series {
            position: self.position,
            members: self.members,
        }
    }
}

#[derive(Serialize, Deserialize)]
pub struct InvitationDocument {
    round: i32,
    invited_at: i64,
    schedule: ScheduleDocument,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    hold: Option<i16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wait_until_day: Option<i32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    staff_channel: Option<i16>,
    #[serde(default)]
    inbox_failed: bool,
    #[serde(default)]
    withdraw_when_sent: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    no_response_at: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    will_book_at: Option<i64>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    opened_before: bool,
}

impl InvitationDocument {
    fn of(invitation: &CareInvitation) -> Self {
        let wait_until = match invitation.hold {
            Some(Hold::WillBook { until }) => Some(until),
            Some(
                Hold::ProtectedIdentity
                | Hold::Undeliverable
                | Hold::Parked
                | Hold::NoSuitableTime
                | Hold::CallBack
                | Hold::Contacted,
            )
            | None => None,
        };
        Self {
            round: invitation.round,
            invited_at: micros(invitation.invited_at),
            schedule: ScheduleDocument::of(&invitation.schedule),
            hold: invitation.hold.map(|it| it.reason().code()),
            wait_until_day: wait_until.map(day),
            staff_channel: invitation.staff_channel.map(|it| it.code()),
            inbox_failed: invitation.inbox_failed,
            withdraw_when_sent: invitation.withdraw_when_sent,
            no_response_at: invitation.no_response_at.map(micros),
            will_book_at: invitation.will_book_at.map(micros),
            opened_before: invitation.opened_before,
        }
    }

    /// Returns the invitation, without its notifications.
    fn to_domain(&self) -> Result<CareInvitation, Error> {
        Ok(CareInvitation {
            round: self.round,
            invited_at: instant(self.invited_at)?,
            schedule: self.schedule.to_domain()?,
            hold: self.hold()?,
            staff_channel: optional(DeliveryChannel::from_code, self.staff_channel)?,
            inbox_failed: self.inbox_failed,
            withdraw_when_sent: self.withdraw_when_sent,
            no_response_at: self.no_response_at.map(instant).transpose()?,
            will_book_at: self.will_book_at.map(instant).transpose()?,
            opened_before: self.opened_before,
            notifications: Vec::new(),
        })
    }

    fn hold(&self) -> Result<Option<Hold>, Error> {
        let Some(hold) = optional(HoldReason::from_code, self.hold)? else {
            return Ok(None);
        };
        Ok(Some(match hold {
            HoldReason::ProtectedIdentity => Hold::ProtectedIdentity,
            HoldReason::Undeliverable => Hold::Undeliverable,
            HoldReason::Parked => Hold::Parked,
            HoldReason::NoSuitableTime => Hold::NoSuitableTime,
            HoldReason::CallBack => Hold::CallBack,
            HoldReason::Contacted => Hold::Contacted,
            HoldReason::WillBook => {
                let until = self.wait_until_day.map(date).transpose()?;
                let until = until.ok_or_else(|| Error::internal("a wait without its last day"))?;
                Hold::WillBook { until }
            }
        }))
    }
}
