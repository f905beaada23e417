//! Booking requests as rows: columns for the parts that queries use, a document for the rest.

use sea_orm::entity::prelude::*;
use sha2::{Digest, Sha256};

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::form::Origin;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::form::VisitKind;
use crate::domain::booking_request::form::VisitType;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::{Period, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::{LetterFormat, Patient, PersonalId, PersonalIdType};
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::bulk::write::VersionedEntity;
use crate::store::entity::document::{Document, code, date, day, from_json, instant};
use crate::store::entity::row_reader::Decoded;
use crate::store::entity::{debug_without_content, positional_model};
use crate::store::error::Error;

positional_model! {
    /// A row of `booking_request`. A new column also gets its place in `VersionedEntity`, and in the conversions.
    #[derive(Clone, PartialEq, DeriveEntityModel)]
    #[sea_orm(table_name = "booking_request")]
    pub struct Model
    owner {
        #[sea_orm(primary_key, auto_increment = false)]
        pub bucket: i16,
    }
    {
        #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
        pub care_unit: String,
        #[sea_orm(primary_key, auto_increment = false)]
        pub id: Uuid,
        pub revision: i64,
        pub state: i16,
        pub start_day: Option<i32>,
        pub end_day: Option<i32>,
        pub priority: i16,
        pub care_guarantee_day: Option<i32>,
        #[sea_orm(column_type = "Text", nullable)]
        pub referral_id: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub visit_id: Option<String>,
        /// JSON of a [`Document`].
        #[sea_orm(column_type = "Text")]
        pub document: String,
        #[sea_orm(column_type = "Text")]
        pub personal_id: String,
        pub personal_id_type: i16,
        /// OID of the series of a local reserve number.
        #[sea_orm(column_type = "Text", nullable)]
        pub issuer: Option<String>,
        #[sea_orm(column_type = "Text", nullable)]
        pub interpreter_language: Option<String>,
        pub letter_format: i16,
        pub visit_kind: i16,
        #[sea_orm(column_type = "Text")]
        pub visit_type_code: String,
        pub allow_duplicate: bool,
        pub may_have_duplicate: bool,
        pub created_at: i64,
    }

    derived {
        /// Group that the request is in; none when it is in none.
        pub worklist_group: Option<i16>,
        /// Instant at which the passing of time moves it to FOLLOW_UP.
        pub follow_up_at: Option<i64>,
        pub expires_at: Option<i64>,
        pub next_notification_at: Option<i64>,
        /// Reason of its hold.
        pub hold: Option<i16>,
        /// Identifier of the booking that is recorded now.
        #[sea_orm(column_type = "Text", nullable)]
        pub booking_id: Option<String>,
        /// Hash of the duplicate key; none when the request is closed.
        pub duplicate_digest: Option<Vec<u8>>,
        /// Hash of the duplicate key that requests of patients with protected identity share; none when the patient has
        /// none, or the request is closed.
        pub protected_digest: Option<Vec<u8>>,
        /// Instant until which the patient may be shown it; none when they are not.
        pub shown_until: Option<i64>,
        /// Instant of its last change, or until which the patient is shown it if that is later; none while it is open.
        pub settled_at: Option<i64>,
        /// True if the patient has protected identity.
        pub is_protected: bool,
    }
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl VersionedEntity for Entity {
    const VERSION: Column = Column::Revision;
    const FIXED: &'static [Column] = &[Column::AllowDuplicate, Column::CreatedAt];
    const HOT: &'static [Column] = &[
        Column::Revision,
        Column::NextNotificationAt,
        Column::Document,
    ];
}

/// Returns the key with these values.
pub fn key((care_unit, id): (String, Uuid)) -> RequestKey {
    RequestKey {
        care_unit: HsaId::from_stored(care_unit),
        id,
    }
}

/// Returns the value of a duplicate key in the unique index of open requests.
pub fn duplicate_digest(key: &DuplicateKey) -> Vec<u8> {
    let mut digest = Sha256::new();
    for part in &key.parts {
        digest.update((part.len() as u64).to_be_bytes());
        digest.update(part.as_bytes());
    }
    digest.finalize()[..16].to_vec()
}

impl Model {
    /// Returns the row of a request, without its notifications.
    pub fn of(record: &BookingRequest) -> Self {
        Self {
            document: Document::of(record).to_text(),
            ..Self::without_document(record)
        }
    }

    /// Returns the row of a request with an empty document, which takes the longest to make, for comparing the rest.
    pub fn without_document(record: &BookingRequest) -> Self {
        let form = &record.form;
        let placement = record.placement();
        let period = form.constraints.as_ref().map(|it| it.period);
        let is_open = record.is_open();
        Self {
            bucket: bucket(&record.key.care_unit),
            care_unit: record.key.care_unit.as_str().to_owned(),
            id: record.key.id,
            revision: record.revision,
            state: record.state.code(),
            worklist_group: placement.group.map(|it| it.code()),
            follow_up_at: placement.follow_up_at.map(micros),
            expires_at: record.expires_at().map(micros),
            start_day: period.map(|it| day(it.first)),
            end_day: period.map(|it| day(it.last)),
            priority: form.priority.code(),
            care_guarantee_day: record.care_guarantee_date.map(day),
            next_notification_at: record.next_notification_at().map(micros),
            hold: record.hold().map(|it| it.reason().code()),
            booking_id: form.booking.as_ref().map(|it| it.booking_id.clone()),
            referral_id: form.origin.referral_id().map(ToOwned::to_owned),
            visit_id: form.origin.visit_id().map(ToOwned::to_owned),
            duplicate_digest: is_open.then(|| duplicate_digest(&record.duplicate_key())),
            protected_digest: (is_open && form.patient.is_protected())
                .then(|| duplicate_digest(&record.duplicate_key().of_any_protected())),
            document: String::new(),
            personal_id: form.patient.personal_id.number().to_owned(),
            personal_id_type: form.patient.personal_id.kind().code(),
            issuer: form.patient.personal_id.issuer().map(ToOwned::to_owned),
            interpreter_language: form.patient.interpreter_language.clone(),
            letter_format: form.patient.letter_format.code(),
            visit_kind: form.visit_kind.code(),
            visit_type_code: form.visit_type.code.clone(),
            allow_duplicate: record.allow_duplicate,
            may_have_duplicate: record.may_have_duplicate,
            created_at: micros(record.created_at),
            shown_until: record.shown_until().map(micros),
            settled_at: (!is_open).then(|| micros(record.settled_at())),
            is_protected: form.patient.is_protected(),
        }
    }

    /// Returns the request that the row holds, without its notifications.
    pub fn into_domain(self) -> Result<BookingRequest, Error> {
        let document: Document = from_json(&self.document).of_column(Column::Document)?;
        let bound = |column, day: Option<i32>| day.map(date).transpose().of_column(column);
        let first = bound(Column::StartDay, self.start_day)?;
        let last = bound(Column::EndDay, self.end_day)?;
        let period = first.zip(last).map(|(first, last)| Period { first, last });
        let of_document = document.decode(period).of_column(Column::Document)?;
        let guarantee = self.care_guarantee_day.map(date).transpose();
        let personal_id_type = code(PersonalIdType::from_code, self.personal_id_type);
        let personal_id_type = personal_id_type.of_column(Column::PersonalIdType)?;
        let patient = Patient {
            personal_id: PersonalId::from_stored(personal_id_type, self.issuer, self.personal_id),
            protection: of_document.protection,
            inbox_reach: of_document.inbox_reach,
            language: document.language,
            addressee: of_document.addressee,
            interpreter_language: self.interpreter_language,
            letter_format: code(LetterFormat::from_code, self.letter_format)
                .of_column(Column::LetterFormat)?,
        };
        let origin = match (self.visit_id, self.referral_id) {
            (Some(visit_id), referral_id) => Origin::PreviousVisit {
                visit_id,
                referral_id,
                decision_date: of_document.decision_date,
            },
            (None, Some(referral_id)) => Origin::Referral {
                referral_id,
                decision_date: of_document.decision_date,
            },
            (None, None) => {
                let error = Error::internal("a request without an origin");
                return Err(error).of_column(Column::Document);
            }
        };
        let form = Form {
            patient,
            constraints: of_document.constraints,
            origin,
            visit_kind: code(VisitKind::from_code, self.visit_kind).of_column(Column::VisitKind)?,
            visit_type: VisitType {
                code: self.visit_type_code,
                display_name: document.visit_type_name,
            },
            purpose: document.purpose,
            patient_instructions: document.patient_instructions.into(),
            internal_comment: document.internal_comment,
            summons: document.summons,
            invitation: document.invitation,
            booking: of_document.booking,
            priority: code(Priority::from_code, self.priority).of_column(Column::Priority)?,
        };
        Ok(BookingRequest {
            key: key((self.care_unit, self.id)),
            form,
            state: code(State::from_code, self.state).of_column(Column::State)?,
            care_invitation: of_document.care_invitation,
            cancel_reason: of_document.cancel_reason,
            cancellations: document.cancellations.into(),
            closed_at: of_document.closed_at,
            last_contact: of_document.last_contact,
            care_guarantee_date: guarantee.of_column(Column::CareGuaranteeDay)?,
            allow_duplicate: self.allow_duplicate,
            may_have_duplicate: self.may_have_duplicate,
            series: of_document.series,
            revision: self.revision,
            history_count: document.history_count,
            created_at: instant(self.created_at).of_column(Column::CreatedAt)?,
            updated_at: of_document.updated_at,
        })
    }
}
