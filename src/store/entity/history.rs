//! History entries as rows. The first row that a call writes carries the call's idempotency key and the hash of its
//! content, by which a replay is recognised.

use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::booking_request::field::Field;
use crate::domain::booking_request::state::CancelReason;
use crate::domain::booking_request::state::ChangeReason;
use crate::domain::booking_request::state::EffectiveState;
use crate::domain::calendar::{Instant, Period, from_micros, micros};
use crate::domain::history::{Contact, Elapsed, Event, HistoryEntry};
use crate::domain::notification::Cause;
use crate::domain::request_key::RequestKey;
use crate::store::bucket::bucket;
use crate::store::entity::debug_without_content;
use crate::store::entity::document::{
    BookingDocument, ConstraintsDocument, code, date, day, from_json, instant, optional,
};
use crate::store::entity::row_reader::Decoded;
use crate::store::error::Error;
use crate::store::idempotency::IdempotentCall;

/// A row of `history`. Rows are never changed.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "history")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket: i16,
    #[sea_orm(primary_key, auto_increment = false, column_type = "Text")]
    pub care_unit: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub booking_request: Uuid,
    /// Number among those of its request, from 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub ordinal: i32,
    pub recorded_at: i64,
    /// Actor. On a row with an idempotency key it is the subject whose own the key is: on whose behalf it called stands in
    /// the document.
    #[sea_orm(column_type = "Text")]
    pub actor: String,
    pub event: i16,
    /// Idempotency key of the call that wrote it, on the first row that the call wrote.
    pub request_id: Option<Uuid>,
    /// Hash of that call's content.
    pub content_hash: Option<Vec<u8>>,
    /// JSON of the parts that no query uses.
    #[sea_orm(column_type = "Text")]
    pub document: String,
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

impl Model {
    /// Returns the row of an entry. The first entry of a call carries its idempotency key.
    pub fn of(
        request: &RequestKey,
        ordinal: i32,
        entry: &HistoryEntry,
        call: Option<&IdempotentCall>,
    ) -> Self {
        Self {
            bucket: bucket(&request.care_unit),
            care_unit: request.care_unit.as_str().to_owned(),
            booking_request: request.id,
            ordinal,
            recorded_at: micros(entry.at),
            actor: call.map_or(&entry.actor, |call| &call.caller).clone(),
            event: entry.event.code(),
            request_id: call.map(|call| call.id),
            content_hash: call.map(|call| call.hash.to_vec()),
            document: Document::of(entry, call).to_text(),
        }
    }

    /// Returns the entry that the row holds.
    pub fn into_domain(self) -> Result<HistoryEntry, Error> {
        let document: Document = from_json(&self.document).of_column(Column::Document)?;
        let event = code(Event::from_code, self.event).of_column(Column::Event)?;
        let at = instant(self.recorded_at).of_column(Column::RecordedAt)?;
        let entry = document.into_entry(at, self.actor, event);
        entry.of_column(Column::Document)
    }
}

/// The parts of an entry that no query uses.
#[derive(Serialize, Deserialize)]
struct Document {
    revision: i64,
    /// State before the event, if it is another than the state after it; zero when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    before: Option<i16>,
    state: i16,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    elapsed: Vec<ElapsedDocument>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    next_transition_at: Option<i64>,
    /// Actor, if it is another than the column says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    actor: Option<String>,
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
    #[serde(default, skip_serializing_if = "Option::is_none")]
    cause: Option<i16>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    changed_fields: Vec<i16>,
}

/// [`Elapsed`] as it is stored: the instant, the event, the states before and after.
type ElapsedDocument = (i64, i16, i16, i16);

/// State before a request was created, as it is stored.
const NO_STATE: i16 = 0;

impl Document {
    fn of(entry: &HistoryEntry, call: Option<&IdempotentCall>) -> Self {
        let constraints = entry.constraints.as_ref();
        let for_another = call.is_some_and(|call| call.caller != entry.actor);
        let before = entry.state_before.map_or(NO_STATE, |it| it.code());
        Self {
            revision: entry.revision,
            before: Some(before).filter(|it| *it != entry.state.code()),
            state: entry.state.code(),
            elapsed: entry.elapsed.iter().map(elapsed_document).collect(),
            next_transition_at: entry.next_transition_at.map(micros),
            actor: for_another.then(|| entry.actor.clone()),
            change_reason: entry.change_reason.map(|it| it.code()),
            cancel_reason: entry.cancel_reason.map(|it| it.code()),
            comment: entry.comment.clone(),
            notification: entry.notification,
            period: constraints.map(|it| (day(it.period.first), day(it.period.last))),
            constraints: constraints.map(ConstraintsDocument::of),
            booking: entry.booking.as_ref().map(BookingDocument::of),
            contact: entry.contact.map(|it| it.code()),
            cause: entry.cause.map(|it| it.code()),
            changed_fields: entry.changed_fields.iter().map(|it| it.code()).collect(),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document of text and numbers is JSON")
    }

    fn into_entry(self, at: Instant, actor: String, event: Event) -> Result<HistoryEntry, Error> {
        let constraints = self.constraints.zip(self.period);
        let constraints = constraints.map(|(constraints, (first, last))| {
            constraints.to_domain(Period {
                first: date(first)?,
                last: date(last)?,
            })
        });
        let fields = self.changed_fields.into_iter();
        let fields = fields.map(|it| code(Field::from_code, it));
        let before = Some(self.before.unwrap_or(self.state)).filter(|it| *it != NO_STATE);
        let elapsed = self.elapsed.into_iter().map(elapsed);
        Ok(HistoryEntry {
            at,
            actor: self.actor.unwrap_or(actor),
            event,
            revision: self.revision,
            state_before: optional(EffectiveState::from_code, before)?,
            state: code(EffectiveState::from_code, self.state)?,
            elapsed: elapsed.collect::<Result<_, _>>()?,
            next_transition_at: self.next_transition_at.map(from_micros),
            change_reason: optional(ChangeReason::from_code, self.change_reason)?,
            cancel_reason: optional(CancelReason::from_code, self.cancel_reason)?,
            comment: self.comment,
            notification: self.notification,
            constraints: constraints.transpose()?,
            booking: self.booking.map(BookingDocument::into_domain).transpose()?,
            contact: optional(Contact::from_code, self.contact)?,
            cause: optional(Cause::from_code, self.cause)?,
            changed_fields: fields.collect::<Result<_, _>>()?,
        })
    }
}

fn elapsed_document(it: &Elapsed) -> ElapsedDocument {
    (
        micros(it.at),
        it.event.code(),
        it.before.code(),
        it.after.code(),
    )
}

fn elapsed((at, event, before, after): ElapsedDocument) -> Result<Elapsed, Error> {
    Ok(Elapsed {
        at: from_micros(at),
        event: code(Event::from_code, event)?,
        before: code(EffectiveState::from_code, before)?,
        after: code(EffectiveState::from_code, after)?,
    })
}
