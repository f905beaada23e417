//! Booking requests as rows: columns for the parts that queries use, a document for the rest.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, QueryOrder, QueryResult, QuerySelect, Value};
use sha2::{Digest, Sha256};

use crate::domain::booking_request::BookingRequest;
use crate::domain::booking_request::form::DuplicateKey;
use crate::domain::booking_request::form::Form;
use crate::domain::booking_request::form::Origin;
use crate::domain::booking_request::form::Priority;
use crate::domain::booking_request::form::VisitKind;
use crate::domain::booking_request::form::VisitType;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::State;
use crate::domain::calendar::micros;
use crate::domain::hsa_id::HsaId;
use crate::domain::patient::{DigitalReach, Patient, PersonalId, PersonalIdType, Protection};
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Column as BulkColumn, Kind, Rows, Table};
use crate::store::database::connection::RowLock;
use crate::store::entity::document::{
    BookingDocument, Document, code, date, day, from_json, instant, optional,
};
use crate::store::entity::row_reader::RowReader;
use crate::store::error::Error;

/// A row of `booking_request`: the key, and the columns that built queries use.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "booking_request")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub care_unit: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
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
    pub personal_id: String,
    pub personal_id_type: i16,
    pub visit_kind: i16,
    pub visit_type_code: String,
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

/// Columns of the key of a request, for bulk statements.
pub const KEY: &[BulkColumn] = &[("care_unit", Kind::Text), ("id", Kind::Uuid)];

/// The table, for bulk writes.
pub const TABLE: Table = Table {
    name: "booking_request",
    key: KEY,
    mutable: &[
        ("state", Kind::Integer),
        ("worklist", Kind::Optional(&Kind::Integer)),
        ("follow_up_at", Kind::Optional(&Kind::Integer)),
        ("expires_at", Kind::Optional(&Kind::Integer)),
        ("start_day", Kind::Optional(&Kind::Integer)),
        ("end_day", Kind::Optional(&Kind::Integer)),
        ("priority", Kind::Integer),
        ("care_guarantee_day", Kind::Optional(&Kind::Integer)),
        ("referral_id", Kind::Optional(&Kind::Text)),
        ("duplicate_digest", Kind::Optional(&Kind::Bytes)),
        ("settled_at", Kind::Optional(&Kind::Integer)),
        ("revision", Kind::Integer),
        ("next_notification_at", Kind::Optional(&Kind::Integer)),
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

/// The last of the mutable columns: those that are in no index. SQLite writes an index again whenever one of its columns
/// is assigned, even if the value is the same, so these columns are assigned alone when nothing else has changed, as
/// after a hand-over.
pub const HOT_COLUMNS: &[BulkColumn] = TABLE.mutable.split_at(INDEXED).1;

/// Number of mutable columns before them.
const INDEXED: usize = 11;

/// Returns the values of the key.
pub fn key_values(key: &RequestKey) -> Vec<Value> {
    vec![key.care_unit.as_str().into(), key.id.into()]
}

/// The columns of a request without its key, in the order in which [`read`] takes them. The others only serve queries.
pub const COLUMNS: &[&str] = &[
    "r.revision",
    "r.state",
    "r.start_day",
    "r.end_day",
    "r.priority",
    "r.care_guarantee_day",
    "r.referral_id",
    "r.document",
    "r.personal_id",
    "r.personal_id_type",
    "r.visit_kind",
    "r.visit_type_code",
    "r.allow_duplicate",
    "r.created_at",
];

/// Returns the key with these values.
pub fn key((care_unit, id): (String, Uuid)) -> RequestKey {
    RequestKey {
        care_unit: HsaId::from_stored(care_unit),
        id,
    }
}

/// Returns keys as rows for a bulk statement.
pub fn key_rows(keys: &[RequestKey]) -> Rows {
    let mut rows = Rows::new(KEY.to_vec());
    for key in keys {
        rows.push(key_values(key));
    }
    rows
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

/// Returns the values of the mutable columns, in their order.
pub fn mutable_values(record: &BookingRequest) -> Vec<Value> {
    [indexed_values(record), hot_values(record)].concat()
}

/// Returns the values of [`HOT_COLUMNS`], in their order.
pub fn hot_values(record: &BookingRequest) -> Vec<Value> {
    vec![
        record.revision.into(),
        record.next_notification_at().map(micros).into(),
        Document::of(record).to_text().into(),
    ]
}

/// Returns the values of the mutable columns before [`HOT_COLUMNS`], in their order.
pub fn indexed_values(record: &BookingRequest) -> Vec<Value> {
    let placement = record.placement();
    let period = record.form.constraints.as_ref().map(|it| it.period);
    let digest = record
        .is_open()
        .then(|| duplicate_digest(&record.duplicate_key()));
    vec![
        record.state.code().into(),
        placement.worklist.map(|it| it.code()).into(),
        placement.follow_up_at.map(micros).into(),
        record.expires_at().map(micros).into(),
        period.map(|it| day(it.first)).into(),
        period.map(|it| day(it.last)).into(),
        record.form.priority.code().into(),
        record.care_guarantee_date.map(day).into(),
        record.form.origin.referral_id().into(),
        digest.into(),
        (!record.is_open())
            .then(|| micros(record.updated_at))
            .into(),
    ]
}

/// Returns the values of the columns that are written once, in their order.
pub fn fixed_values(record: &BookingRequest) -> Vec<Value> {
    let form = &record.form;
    vec![
        form.patient.personal_id.number().into(),
        form.patient.personal_id.kind().code().into(),
        form.visit_kind.code().into(),
        form.visit_type.code.clone().into(),
        record.allow_duplicate.into(),
        micros(record.created_at).into(),
    ]
}

/// Returns the keys of those requests that exist, and locks the requests where the database locks rows.
pub async fn lock_existing(
    connection: &impl ConnectionTrait,
    keys: &[RequestKey],
    lock: RowLock,
) -> Result<Vec<RequestKey>, Error> {
    let lock = lock.clause(connection.get_database_backend(), "r");
    let sql = |keys: &str| {
        format!(
            "SELECT r.care_unit, r.id FROM {keys} AS k CROSS JOIN booking_request AS r \
             WHERE r.care_unit = k.care_unit AND r.id = k.id ORDER BY r.care_unit, r.id{lock}"
        )
    };
    let rows = key_rows(keys).query(connection, sql).await?;
    let key = |row: &QueryResult| Ok(key((row.try_get_by_index(0)?, row.try_get_by_index(1)?)));
    rows.iter().map(key).collect()
}

/// Returns the requests of a patient, closed ones included, in the order of their keys.
pub async fn requests_of(
    connection: &impl ConnectionTrait,
    personal_id: &PersonalId,
    care_unit: Option<&HsaId>,
) -> Result<Vec<RequestKey>, Error> {
    let mut select = Entity::find()
        .select_only()
        .columns([Column::CareUnit, Column::Id])
        .filter(Column::PersonalId.eq(personal_id.number()))
        .filter(Column::PersonalIdType.eq(personal_id.kind().code()))
        .order_by_asc(Column::CareUnit)
        .order_by_asc(Column::Id);
    if let Some(care_unit) = care_unit {
        select = select.filter(Column::CareUnit.eq(care_unit.as_str()));
    }
    let keys: Vec<(String, Uuid)> = select.into_tuple().all(connection).await?;
    Ok(keys.into_iter().map(key).collect())
}

/// Reads the request that a row holds from its [`COLUMNS`] on, without its notifications.
pub fn read(key: RequestKey, row_reader: &mut RowReader) -> Result<BookingRequest, Error> {
    let revision = row_reader.take()?;
    let state = code(State::from_code, row_reader.take()?)?;
    let (start_day, end_day) = (row_reader.take()?, row_reader.take()?);
    let priority = code(Priority::from_code, row_reader.take()?)?;
    let care_guarantee_day: Option<i32> = row_reader.take()?;
    let care_guarantee_date = care_guarantee_day.map(date).transpose()?;
    let referral_id: Option<String> = row_reader.take()?;
    let document: String = row_reader.take()?;
    // The whole document is decoded before the next column is taken, so that an error names this column.
    let mut document: Document = from_json(&document)?;
    let constraints = document.constraints(start_day, end_day)?;
    let care_invitation = document.care_invitation()?;
    let cancel_reason = optional(CancelReason::from_code, document.cancel_reason)?;
    let protection = optional(Protection::from_code, document.protection)?;
    let digital_reach = optional(DigitalReach::from_code, document.digital_reach)?;
    let updated_at = instant(document.updated_at)?;
    let booking = document.booking.take();
    let booking = booking.map(BookingDocument::into_domain).transpose()?;
    let origin = match (document.visit_id.take(), referral_id) {
        (Some(visit_id), referral_id) => Origin::PreviousVisit {
            visit_id,
            referral_id,
        },
        (None, Some(referral_id)) => Origin::Referral {
            referral_id,
            decision_date: document.decision_day.map(date).transpose()?,
        },
        (None, None) => return Err(Error::internal("a request without an origin")),
    };
    let number = row_reader.take()?;
    let personal_id =
        PersonalId::from_stored(code(PersonalIdType::from_code, row_reader.take()?)?, number);
    let visit_kind = code(VisitKind::from_code, row_reader.take()?)?;
    let visit_type_code = row_reader.take()?;
    let allow_duplicate = row_reader.take()?;
    let created_at = instant(row_reader.take()?)?;
    Ok(BookingRequest {
        key,
        state,
        care_invitation,
        cancel_reason,
        care_guarantee_date,
        allow_duplicate,
        revision,
        history_count: document.history_count,
        created_at,
        updated_at,
        form: Form {
            patient: Patient {
                personal_id,
                protection,
                digital_reach,
                language: document.language,
            },
            constraints,
            origin,
            visit_kind,
            visit_type: VisitType {
                code: visit_type_code,
                display_name: document.visit_type_name,
            },
            purpose: document.purpose,
            patient_instructions: document.patient_instructions.into(),
            internal_comment: document.internal_comment,
            summons: document.summons,
            invitation: document.invitation,
            booking,
            priority,
        },
    })
}
