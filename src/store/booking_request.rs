//! Booking requests as rows: columns for what queries look at, a document for the rest.

use chrono::{Datelike, NaiveDate};
use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, FromQueryResult};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::error::Error;
use super::notification;
use super::set::{self, Column as SetColumn, Kind, Table};
use crate::domain::booking_request::{
    Booking, BookingRequest, BookingSource, CancelReason, Constraints, DuplicateKey, Form, Origin,
    PatientInstructions, Priority, RequestKey, State, VisitKind, VisitType,
};
use crate::domain::calendar::{Period, TimeWindow, Weekdays, from_micros, micros};
use crate::domain::care_invitation::{CareInvitation, Hold};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{Channel, Notification};
use crate::domain::patient::{DigitalReach, Patient, PersonalId, PersonalIdType, Protection};

/// A row of `booking_request`.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "booking_request")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub care_unit: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub revision: i64,
    pub state: i16,
    pub worklist: Option<i16>,
    pub follow_up_at: Option<i64>,
    pub expires_at: Option<i64>,
    pub start_day: Option<i32>,
    pub end_day: Option<i32>,
    pub priority: i16,
    pub care_guarantee_day: Option<i32>,
    pub next_notification_at: Option<i64>,
    pub referral_id: Option<String>,
    pub duplicate_digest: Option<Vec<u8>>,
    pub document: String,
    pub personal_id: String,
    pub personal_id_type: i16,
    pub visit_kind: i16,
    pub visit_type_code: String,
    pub allow_duplicate: bool,
    pub created_at: i64,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("booking_request::Model")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The key of a request, as every table has it in front.
pub const KEY: &[SetColumn] = &[("care_unit", Kind::Text), ("id", Kind::Uuid)];

/// The table, for writing sets of rows.
pub const TABLE: Table = Table {
    name: "booking_request",
    key: KEY,
    mutable: &[
        ("revision", Kind::Integer),
        ("state", Kind::Integer),
        ("worklist", Kind::Integer),
        ("follow_up_at", Kind::Integer),
        ("expires_at", Kind::Integer),
        ("start_day", Kind::Integer),
        ("end_day", Kind::Integer),
        ("priority", Kind::Integer),
        ("care_guarantee_day", Kind::Integer),
        ("next_notification_at", Kind::Integer),
        ("referral_id", Kind::Text),
        ("duplicate_digest", Kind::Bytes),
        ("document", Kind::Text),
    ],
    fixed: &[
        ("personal_id", Kind::Text),
        ("personal_id_type", Kind::Integer),
        ("visit_kind", Kind::Integer),
        ("visit_type_code", Kind::Text),
        ("allow_duplicate", Kind::Boolean),
        ("created_at", Kind::Integer),
    ],
};

/// The key as values of a set.
pub fn key_values(key: &RequestKey) -> Vec<Value> {
    vec![json!(key.care_unit.as_str()), set::uuid(key.id)]
}

/// A date as it is stored: days of the common era.
pub fn day(date: NaiveDate) -> i32 {
    date.num_days_from_ce()
}

/// What stands in the unique index for an open request.
pub fn duplicate_digest(key: &DuplicateKey) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in &key.parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize()[..16].to_vec()
}

/// The values of the mutable columns, in their order.
pub fn mutable_values(record: &BookingRequest) -> Vec<Value> {
    let placement = record.placement();
    let period = record.form.constraints.as_ref().map(|it| it.period);
    let digest = record
        .is_open()
        .then(|| duplicate_digest(&record.duplicate_key()));
    vec![
        json!(record.revision),
        json!(record.state.code()),
        json!(placement.worklist.map(|it| it.code())),
        json!(placement.follow_up_at.map(micros)),
        json!(record.expires_at().map(micros)),
        json!(period.map(|it| day(it.first))),
        json!(period.map(|it| day(it.last))),
        json!(record.form.priority.code()),
        json!(record.care_guarantee_date.map(day)),
        json!(record.next_notification_at().map(micros)),
        json!(record.form.origin.referral_id()),
        json!(digest.as_deref().map(set::bytes)),
        json!(Document::of(record).to_text()),
    ]
}

/// The values of the columns that are written once, in their order.
pub fn fixed_values(record: &BookingRequest) -> Vec<Value> {
    let form = &record.form;
    vec![
        json!(form.patient.personal_id.number()),
        json!(form.patient.personal_id.kind().code()),
        json!(form.visit_kind.code()),
        json!(form.visit_type.code),
        json!(record.allow_duplicate),
        json!(micros(record.created_at)),
    ]
}

/// The requests with these keys that exist, without their messages, and locked where the
/// database locks rows.
pub async fn load(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
    lock: &'static str,
) -> Result<Vec<Model>, Error> {
    let backend = connection.get_database_backend();
    let sql = format!(
        "SELECT r.* FROM {} AS k CROSS JOIN booking_request AS r \
         WHERE r.care_unit = k.care_unit AND r.id = k.id ORDER BY r.care_unit, r.id{lock}",
        set::rows(backend, KEY),
    );
    let values: Vec<Value> = keys.iter().map(|key| key_values(key).into()).collect();
    let rows = connection
        .query_all_raw(set::statement(backend, sql, &values, []))
        .await?;
    rows.iter()
        .map(|row| Model::from_query_result(row, "").map_err(Error::from))
        .collect()
}

/// Which open requests have one of these duplicate keys.
pub async fn open_like(
    connection: &impl ConnectionTrait,
    keys: &[DuplicateKey],
) -> Result<Vec<(DuplicateKey, RequestKey)>, Error> {
    const COLUMNS: &[SetColumn] = &[
        ("place", Kind::Integer),
        ("care_unit", Kind::Text),
        ("personal_id", Kind::Text),
        ("digest", Kind::Bytes),
    ];
    let backend = connection.get_database_backend();
    let sql = format!(
        "SELECT k.place AS place, r.id AS id FROM {} AS k CROSS JOIN booking_request AS r \
         WHERE r.personal_id = k.personal_id AND r.care_unit = k.care_unit \
         AND r.duplicate_digest = k.digest",
        set::rows(backend, COLUMNS),
    );
    let values: Vec<Value> = keys
        .iter()
        .enumerate()
        .map(|(place, key)| {
            let digest = set::bytes(&duplicate_digest(key));
            json!([place, key.care_unit.as_str(), key.parts[1], digest])
        })
        .collect();
    let rows = connection
        .query_all_raw(set::statement(backend, sql, &values, []))
        .await?;
    rows.iter()
        .map(|row| {
            let place: i64 = row.try_get("", "place")?;
            let key = usize::try_from(place)
                .ok()
                .and_then(|place| keys.get(place));
            let key = key.ok_or_else(|| Error::broken("a place outside the set"))?;
            let other = RequestKey {
                care_unit: key.care_unit.clone(),
                id: row.try_get("", "id")?,
            };
            Ok((key.clone(), other))
        })
        .collect()
}

impl Model {
    /// Which request the row is.
    pub fn key(&self) -> RequestKey {
        RequestKey {
            care_unit: HsaId::trusted(self.care_unit.clone()),
            id: self.id,
        }
    }

    /// The record, with `messages` in the order in which they were planned.
    pub fn into_domain(self, messages: Vec<notification::Model>) -> Result<BookingRequest, Error> {
        let key = self.key();
        let document: Document = serde_json::from_str(&self.document)
            .map_err(|error| Error::broken(error.to_string()))?;
        let notifications = messages
            .into_iter()
            .map(notification::Model::into_domain)
            .collect::<Result<Vec<Notification>, Error>>()?;
        let constraints = document.constraints(self.start_day, self.end_day)?;
        let care_guarantee_date = self.care_guarantee_day.map(date).transpose()?;
        Ok(BookingRequest {
            key,
            state: code(State::from_code, self.state)?,
            care_invitation: document.care_invitation(notifications)?,
            cancel_reason: optional(CancelReason::from_code, document.cancel_reason)?,
            care_guarantee_date,
            allow_duplicate: self.allow_duplicate,
            revision: self.revision,
            history_count: document.history_count,
            created_at: from_micros(self.created_at),
            updated_at: from_micros(document.updated_at),
            form: Form {
                patient: Patient {
                    personal_id: PersonalId::trusted(
                        code(PersonalIdType::from_code, self.personal_id_type)?,
                        self.personal_id,
                    ),
                    protection: optional(Protection::from_code, document.protection)?,
                    digital_reach: optional(DigitalReach::from_code, document.digital_reach)?,
                    language: document.language,
                },
                origin: match (document.visit_id, self.referral_id) {
                    (Some(visit_id), referral_id) => Origin::PreviousVisit {
                        visit_id,
                        referral_id,
                    },
                    (None, Some(referral_id)) => Origin::Referral {
                        referral_id,
                        decision_date: document.decision_day.map(date).transpose()?,
                    },
                    (None, None) => return Err(Error::broken("a request without an origin")),
                },
                visit_kind: code(VisitKind::from_code, self.visit_kind)?,
                visit_type: VisitType {
                    code: self.visit_type_code,
                    display_name: document.visit_type_name,
                },
                purpose: document.purpose,
                patient_instructions: document.patient_instructions.into(),
                internal_comment: document.internal_comment,
                summons: document.summons,
                invitation: document.invitation,
                constraints,
                booking: document
                    .booking
                    .map(BookingDocument::into_domain)
                    .transpose()?,
                priority: code(Priority::from_code, self.priority)?,
            },
        })
    }
}

/// The value that a stored number stands for.
pub fn code<T>(from_code: fn(i16) -> Option<T>, stored: i16) -> Result<T, Error> {
    from_code(stored).ok_or_else(|| Error::broken("a stored number that means nothing"))
}

/// The same where there may be none.
pub fn optional<T>(
    from_code: fn(i16) -> Option<T>,
    stored: Option<i16>,
) -> Result<Option<T>, Error> {
    stored.map(|stored| code(from_code, stored)).transpose()
}

/// The date that [`day`] gave.
pub fn date(day: i32) -> Result<NaiveDate, Error> {
    NaiveDate::from_num_days_from_ce_opt(day).ok_or_else(|| Error::broken("a day that is no date"))
}

/// What no query looks at.
#[derive(Default, Serialize, Deserialize)]
#[serde(default)]
struct Document {
    #[serde(skip_serializing_if = "Option::is_none")]
    protection: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digital_reach: Option<i16>,
    language: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    visit_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision_day: Option<i32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    visit_type_name: String,
    purpose: String,
    #[serde(skip_serializing_if = "InstructionsDocument::is_empty")]
    patient_instructions: InstructionsDocument,
    #[serde(skip_serializing_if = "String::is_empty")]
    internal_comment: String,
    summons: bool,
    invitation: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    constraints: Option<ConstraintsDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    booking: Option<BookingDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<i16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    care_invitation: Option<InvitationDocument>,
    history_count: i32,
    updated_at: i64,
}

impl Document {
    fn of(record: &BookingRequest) -> Self {
        let form = &record.form;
        let (visit_id, decision_date) = match &form.origin {
            Origin::Referral { decision_date, .. } => (None, *decision_date),
            Origin::PreviousVisit { visit_id, .. } => (Some(visit_id.clone()), None),
        };
        Self {
            protection: form.patient.protection.map(|it| it.code()),
            digital_reach: form.patient.digital_reach.map(|it| it.code()),
            language: form.patient.language.clone(),
            visit_id,
            decision_day: decision_date.map(day),
            visit_type_name: form.visit_type.display_name.clone(),
            purpose: form.purpose.clone(),
            patient_instructions: (&form.patient_instructions).into(),
            internal_comment: form.internal_comment.clone(),
            summons: form.summons,
            invitation: form.invitation,
            constraints: form.constraints.as_ref().map(ConstraintsDocument::of),
            booking: form.booking.as_ref().map(BookingDocument::of),
            cancel_reason: record.cancel_reason.map(|it| it.code()),
            care_invitation: record.care_invitation.as_ref().map(InvitationDocument::of),
            history_count: record.history_count,
            updated_at: micros(record.updated_at),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document of text and numbers is JSON")
    }

    fn constraints(
        &self,
        start_day: Option<i32>,
        end_day: Option<i32>,
    ) -> Result<Option<Constraints>, Error> {
        let (Some(document), Some(first), Some(last)) = (&self.constraints, start_day, end_day)
        else {
            return Ok(None);
        };
        let period = Period {
            first: date(first)?,
            last: date(last)?,
        };
        Ok(Some(document.to_domain(period)))
    }

    fn care_invitation(
        &self,
        notifications: Vec<Notification>,
    ) -> Result<Option<CareInvitation>, Error> {
        let Some(document) = &self.care_invitation else {
            return Ok(None);
        };
        Ok(Some(CareInvitation {
            round: document.round,
            invited_at: from_micros(document.invited_at),
            hold: document.hold()?,
            staff_channel: optional(Channel::from_code, document.staff_channel)?,
            inbox_failed: document.inbox_failed,
            withdraw_when_sent: document.withdraw_when_sent,
            no_response_at: document.no_response_at.map(from_micros),
            notifications,
        }))
    }
}

#[derive(Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
struct InstructionsDocument {
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

/// Constraints less their period, which has columns of its own.
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
    /// What is to be stored.
    pub fn of(constraints: &Constraints) -> Self {
        let windows = constraints.time_windows.iter();
        Self {
            weekdays: constraints.weekdays.bits(),
            time_windows: windows.map(|it| (it.start_minute, it.end_minute)).collect(),
            duration_minutes: constraints.duration_minutes,
            performer_ids: constraints.performer_ids.clone(),
        }
    }

    /// What was stored, with the period that stood beside it.
    pub fn to_domain(&self, period: Period) -> Constraints {
        let windows = self.time_windows.iter();
        Constraints {
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
        }
    }
}

/// A booking, here and in the history.
#[derive(Serialize, Deserialize)]
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
    /// What is to be stored.
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

    /// What was stored.
    pub fn into_domain(self) -> Result<Booking, Error> {
        Ok(Booking {
            booking_id: self.booking_id,
            start_at: from_micros(self.start_at),
            end_at: from_micros(self.end_at),
            source: code(BookingSource::from_code, self.source)?,
            performer_id: self.performer_id,
            override_reason: self.override_reason,
        })
    }
}

#[derive(Serialize, Deserialize)]
struct InvitationDocument {
    round: i32,
    invited_at: i64,
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
}

impl InvitationDocument {
    fn of(invitation: &CareInvitation) -> Self {
        let (hold, wait_until) = match invitation.hold {
            None => (None, None),
            Some(Hold::ProtectedIdentity) => (Some(1), None),
            Some(Hold::Undeliverable) => (Some(2), None),
            Some(Hold::Parked) => (Some(3), None),
            Some(Hold::NoSuitableTime) => (Some(4), None),
            Some(Hold::CallBack) => (Some(5), None),
            Some(Hold::WillBook { until }) => (Some(6), Some(day(until))),
        };
        Self {
            round: invitation.round,
            invited_at: micros(invitation.invited_at),
            hold,
            wait_until_day: wait_until,
            staff_channel: invitation.staff_channel.map(|it| it.code()),
            inbox_failed: invitation.inbox_failed,
            withdraw_when_sent: invitation.withdraw_when_sent,
            no_response_at: invitation.no_response_at.map(micros),
        }
    }

    fn hold(&self) -> Result<Option<Hold>, Error> {
        Ok(match (self.hold, self.wait_until_day) {
            (None, _) => None,
            (Some(1), _) => Some(Hold::ProtectedIdentity),
            (Some(2), _) => Some(Hold::Undeliverable),
            (Some(3), _) => Some(Hold::Parked),
            (Some(4), _) => Some(Hold::NoSuitableTime),
            (Some(5), _) => Some(Hold::CallBack),
            (Some(6), Some(until)) => Some(Hold::WillBook {
                until: date(until)?,
            }),
            (Some(_), _) => return Err(Error::broken("a stored hold that means nothing")),
        })
    }
}
