//! Change events as rows of the outbox: one for each commit, deleted after some minutes.
//!
//! The commit itself writes the row, so that every commit has an event, and every event a commit.

use sea_orm::ActiveValue::{NotSet, Set};
use sea_orm::entity::prelude::*;
use serde::{Deserialize, Serialize};

use crate::domain::calendar::{from_micros, micros};
use crate::domain::hsa_id::HsaId;
use crate::domain::notification::{DeliveryChannel, LeaseRef};
use crate::domain::request_key::RequestKey;
use crate::store::change_event::ChangeEvent;
use crate::store::change_event::LeaseChange;
use crate::store::entity::booking_request::key as request_key;
use crate::store::entity::debug_without_content;
use crate::store::entity::document::{code, from_json};
use crate::store::entity::row_reader::Decoded;
use crate::store::error::Error;

/// A row of `change_event`.
#[derive(Clone, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "change_event")]
pub struct Model {
    /// Bucket of a care unit in which the commit has changed something.
    #[sea_orm(primary_key, auto_increment = false)]
    pub bucket: i16,
    /// Replica that published it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub replica: Uuid,
    /// Number among those of the replica.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// Time by the database's clock.
    pub written_at: i64,
    /// JSON of the event.
    #[sea_orm(column_type = "Text")]
    pub content: String,
}

debug_without_content!(Model);

#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}

/// Key of an event: the replica that published it, and its number there.
pub type Key = (Uuid, i64);

/// Returns the row of an event in a bucket. The database dates it.
pub fn row(bucket: i16, (replica, number): Key, event: &ChangeEvent) -> ActiveModel {
    ActiveModel {
        bucket: Set(bucket),
        replica: Set(replica),
        number: Set(number),
        written_at: NotSet,
        content: Set(Document::of(event).to_text()),
    }
}

impl Model {
    /// Returns the event that the row holds.
    pub fn into_domain(self) -> Result<ChangeEvent, Error> {
        let document: Document = from_json(&self.content).of_column(Column::Content)?;
        document.into_event()
    }
}

/// [`ChangeEvent`] as it is stored.
#[derive(Serialize, Deserialize)]
struct Document {
    /// Care unit, channel, first instant.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    claimable: Vec<(String, i16, i64)>,
    /// Care unit, request, notification, token, change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leases: Vec<(String, Uuid, Uuid, Uuid, StoredLeaseChange)>,
    /// Care unit, request, revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requests: Vec<(String, Uuid, i64)>,
    /// Care units.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    settings: Vec<String>,
}

/// [`LeaseChange`] as it is stored.
#[derive(Serialize, Deserialize)]
enum StoredLeaseChange {
    Ended,
    Revoked,
    Renewed(i64),
}

impl Document {
    fn of(event: &ChangeEvent) -> Self {
        let lease = |(lease, change): &(LeaseRef, LeaseChange)| {
            let RequestKey { care_unit, id } = &lease.request;
            let change = match change {
                LeaseChange::Ended => StoredLeaseChange::Ended,
                LeaseChange::Revoked => StoredLeaseChange::Revoked,
                LeaseChange::Renewed(until) => StoredLeaseChange::Renewed(micros(*until)),
            };
            let care_unit = care_unit.as_str().to_owned();
            (care_unit, *id, lease.notification, lease.token, change)
        };
        let request = |(key, revision): &(RequestKey, i64)| {
            (key.care_unit.as_str().to_owned(), key.id, *revision)
        };
        let claimable = event.claimable.iter();
        let claimable = claimable.map(|((care_unit, channel), at)| {
            (care_unit.as_str().to_owned(), channel.code(), micros(*at))
        });
        Self {
            claimable: claimable.collect(),
            leases: event.leases.iter().map(lease).collect(),
            requests: event.requests.iter().map(request).collect(),
            settings: event
                .settings
                .iter()
                .map(|it| it.as_str().to_owned())
                .collect(),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document of text and numbers is JSON")
    }

    fn into_event(self) -> Result<ChangeEvent, Error> {
        let claimable = |(care_unit, channel, at)| {
            let channel = code(DeliveryChannel::from_code, channel).of_column(Column::Content)?;
            Ok(((HsaId::from_stored(care_unit), channel), from_micros(at)))
        };
        let claimable: Result<_, Error> = self.claimable.into_iter().map(claimable).collect();
        let lease = |(care_unit, request, notification, token, change)| {
            let lease = LeaseRef {
                request: request_key((care_unit, request)),
                notification,
                token,
            };
            let change = match change {
                StoredLeaseChange::Ended => LeaseChange::Ended,
                StoredLeaseChange::Revoked => LeaseChange::Revoked,
                StoredLeaseChange::Renewed(until) => LeaseChange::Renewed(from_micros(until)),
            };
            (lease, change)
        };
        let request = |(care_unit, id, revision)| (request_key((care_unit, id)), revision);
        Ok(ChangeEvent {
            claimable: claimable?,
            leases: self.leases.into_iter().map(lease).collect(),
            requests: self.requests.into_iter().map(request).collect(),
            settings: self.settings.into_iter().map(HsaId::from_stored).collect(),
            resync: false,
            followed: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let unit = |number| HsaId::from_stored(format!("SE2321000131-P{number}"));
        let request = RequestKey {
            care_unit: unit(1),
            id: Uuid::from_u128(1),
        };
        let lease = |token| LeaseRef {
            request: request.clone(),
            notification: Uuid::from_u128(2),
            token: Uuid::from_u128(token),
        };
        let event = ChangeEvent {
            claimable: BTreeMap::from([
                ((unit(1), DeliveryChannel::Inbox), from_micros(7)),
                ((unit(2), DeliveryChannel::Letter), from_micros(6)),
            ]),
            leases: vec![
                (lease(3), LeaseChange::Ended),
                (lease(4), LeaseChange::Revoked),
                (lease(5), LeaseChange::Renewed(from_micros(8))),
            ],
            requests: vec![(request, 9)],
            settings: vec![HsaId::from_stored("SE2321000131-P2".into())],
            resync: false,
            followed: None,
        };
        for event in [event, ChangeEvent::default()] {
            let text = Document::of(&event).to_text();
            let read: Document = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read.into_event().expect("known channels"), event);
        }
    }
}
