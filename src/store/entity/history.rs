//! History entries as rows. The first row that a call writes carries the call's idempotency key and the hash of its
//! content, by which a replay is recognised.

use sea_orm::entity::prelude::*;
use sea_orm::{ConnectionTrait, FromQueryResult, QueryOrder, QuerySelect, QueryTrait, Value};
use serde::{Deserialize, Serialize};

use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::ChangeReason;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::calendar::{Period, micros};
use crate::domain::history::{Contact, Event, HistoryEntry};
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Kind, Table};
use crate::store::entity::booking_request as request;
use crate::store::entity::document::{
    BookingDocument, ConstraintsDocument, code, date, day, from_json, instant, optional,
};
use crate::store::error::Error;
use crate::store::idempotency::IdempotentCall;
use crate::store::quarantine::RowKey;

/// A row of `history`.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "history")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub care_unit: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub booking_request: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub ordinal: i32,
    pub recorded_at: i64,
    pub actor: String,
    pub event: i16,
    pub request_id: Option<Uuid>,
    pub content_hash: Option<Vec<u8>>,
    pub document: String,
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("history::Model")
    }
}

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// The table, for bulk writes. Rows are never changed.
pub const TABLE: Table = Table {
    name: "history",
    key: &[
        ("care_unit", Kind::Text),
        ("booking_request", Kind::Uuid),
        ("ordinal", Kind::Integer),
    ],
    mutable: &[],
    fixed: &[
        ("recorded_at", Kind::Integer),
        ("actor", Kind::Text),
        ("event", Kind::Integer),
        ("request_id", Kind::Optional(&Kind::Uuid)),
        ("content_hash", Kind::Optional(&Kind::Bytes)),
        ("document", Kind::Text),
    ],
};

/// Returns the row of an entry. The first entry of a call carries its idempotency key.
pub fn values(
    request: &RequestKey,
    ordinal: i32,
    entry: &HistoryEntry,
    call: Option<&IdempotentCall>,
) -> Vec<Value> {
    let mut values = request::key_values(request);
    values.extend([
        ordinal.into(),
        micros(entry.at).into(),
        entry.actor.clone().into(),
        entry.event.code().into(),
        call.map(|call| call.id).into(),
        call.map(|call| call.hash.to_vec()).into(),
        Document::of(entry).to_text().into(),
    ]);
    values
}

/// Returns the entries of a request after number `after`, in order, at most `limit`, with their numbers; none in place of
/// one that cannot be decoded.
pub async fn list(
    connection: &impl ConnectionTrait,
    request: &RequestKey,
    after: i32,
    limit: u32,
) -> Result<Vec<(i32, Option<HistoryEntry>)>, Error> {
    let select = Entity::find()
        .filter(Column::CareUnit.eq(request.care_unit.as_str()))
        .filter(Column::BookingRequest.eq(request.id))
        .filter(Column::Ordinal.gt(after))
        .order_by_asc(Column::Ordinal)
        .limit(u64::from(limit))
        .build(connection.get_database_backend());
    let rows = connection.query_all_raw(select).await?;
    rows.iter()
        .map(|row| {
            let ordinal: i32 = row.try_get("", "ordinal")?;
            let decoded = Model::from_query_result(row, "").map_err(Error::from);
            let decoded = decoded.and_then(Model::into_domain);
            let row = RowKey::of(TABLE.name, request, Some(ordinal.into()));
            Ok((ordinal, row.accept(decoded)))
        })
        .collect()
}

impl Model {
    fn into_domain(self) -> Result<HistoryEntry, Error> {
        let document: Document = from_json(&self.document)?;
        Ok(HistoryEntry {
            at: instant(self.recorded_at)?,
            actor: self.actor,
            event: code(Event::from_code, self.event)?,
            state: effective_state(document.state)?,
            change_reason: optional(ChangeReason::from_code, document.change_reason)?,
            cancel_reason: optional(CancelReason::from_code, document.cancel_reason)?,
            comment: document.comment,
            notification: document.notification,
            constraints: match (document.constraints, document.period) {
                (Some(constraints), Some((first, last))) => {
                    Some(constraints.to_domain(Period {
                        first: date(first)?,
                        last: date(last)?,
                    })?)
                }
                _ => None,
            },
            booking: document
                .booking
                .map(BookingDocument::into_domain)
                .transpose()?,
            contact: optional(Contact::from_code, document.contact)?,
        })
    }
}

/// The parts of an entry that no query uses.
#[derive(Serialize, Deserialize)]
struct Document {
    state: i16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    change_reason: Option<i16>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<i16>,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    comment: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    notification: Option<Uuid>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    period: Option<(i32, i32)>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    constraints: Option<ConstraintsDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    booking: Option<BookingDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contact: Option<i16>,
}

impl Document {
    fn of(entry: &HistoryEntry) -> Self {
        let constraints = entry.constraints.as_ref();
        Self {
            state: effective_state_code(entry.state),
            change_reason: entry.change_reason.map(|it| it.code()),
            cancel_reason: entry.cancel_reason.map(|it| it.code()),
            comment: entry.comment.clone(),
            notification: entry.notification,
            period: constraints.map(|it| (day(it.period.first), day(it.period.last))),
            constraints: constraints.map(ConstraintsDocument::of),
            booking: entry.booking.as_ref().map(BookingDocument::of),
            contact: entry.contact.map(|it| it.code()),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document of text and numbers is JSON")
    }
}

fn effective_state_code(state: EffectiveState) -> i16 {
    match state {
        EffectiveState::Requested => 1,
        EffectiveState::Invited => 2,
        EffectiveState::Booked => 3,
        EffectiveState::Declined => 4,
        EffectiveState::NoResponse => 5,
        EffectiveState::Expired => 6,
        EffectiveState::Cancelled => 7,
    }
}

fn effective_state(code: i16) -> Result<EffectiveState, Error> {
    Ok(match code {
        1 => EffectiveState::Requested,
        2 => EffectiveState::Invited,
        3 => EffectiveState::Booked,
        4 => EffectiveState::Declined,
        5 => EffectiveState::NoResponse,
        6 => EffectiveState::Expired,
        7 => EffectiveState::Cancelled,
        _ => return Err(Error::internal("a stored state that is not known")),
    })
}
