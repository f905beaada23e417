//! Change events as rows of the outbox: one for each commit, deleted after some minutes.
//!
//! The commit itself writes the row, so that every commit has an event, and every event a commit.

use sea_orm::{ConnectionTrait, DbBackend, QueryResult, Statement};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::calendar::{from_micros, micros};
use crate::domain::notification::LeaseRef;
use crate::domain::request_key::RequestKey;
use crate::store::bulk::rows::{Column, Kind, Rows, Table};
use crate::store::bulk::write::{DATABASE_NOW, Write};
use crate::store::change_event::ChangeEvent;
use crate::store::change_event::LeaseChange;
use crate::store::entity::booking_request::key as request_key;
use crate::store::entity::document::from_json;
use crate::store::error::Error;
use crate::store::quarantine::RowKey;

/// Key of an event: the replica that published it, and its number there.
pub type Key = (Uuid, i64);

/// Columns of the key, for bulk statements.
const KEY: [Column; 2] = [("replica", Kind::Uuid), ("number", Kind::Integer)];

/// The table, for bulk writes.
const TABLE: Table = Table {
    name: "change_event",
    key: &KEY,
    mutable: &[],
    fixed: &[("content", Kind::Text)],
};

/// Returns the write of an event. The database's clock dates it.
pub fn write((replica, number): Key, event: &ChangeEvent) -> Write {
    let mut rows = TABLE.new_rows();
    let content = Document::of(event).to_text();
    rows.push([replica.into(), number.into(), content.into()]);
    Write::new(&TABLE, rows)
}

/// Returns the keys of the events of other replicas that were written after `since`, in microseconds by the database's
/// clock. Events whose writers have not committed are not visible yet: a later poll must look back.
pub async fn keys_since(
    connection: &impl ConnectionTrait,
    replica: Uuid,
    since: i64,
) -> Result<Vec<Key>, Error> {
    let statement = Statement::from_sql_and_values(
        connection.get_database_backend(),
        "SELECT replica, number FROM change_event WHERE written_at > $1 AND replica <> $2 \
         ORDER BY written_at, replica, number",
        [since.into(), replica.into()],
    );
    let rows = connection.query_all_raw(statement).await?;
    rows.iter().map(key).collect()
}

fn key(row: &QueryResult) -> Result<Key, Error> {
    Ok((row.try_get("", "replica")?, row.try_get("", "number")?))
}

/// Loads these events, in their order. One that cannot be decoded becomes a resync, since its content is unknown.
pub async fn load(
    connection: &impl ConnectionTrait,
    keys: &[Key],
) -> Result<Vec<(Key, ChangeEvent)>, Error> {
    let mut key_rows = Rows::new(KEY.to_vec());
    for (replica, number) in keys {
        key_rows.push([(*replica).into(), (*number).into()]);
    }
    let sql = |keys: &str| {
        format!(
            "SELECT a.replica, a.number, a.content FROM {keys} AS k CROSS JOIN change_event AS a \
             WHERE a.replica = k.replica AND a.number = k.number \
             ORDER BY a.written_at, a.replica, a.number"
        )
    };
    let rows = key_rows.query(connection, sql).await?;
    rows.iter()
        .map(|row| {
            let (replica, number) = key(row)?;
            let content = row.try_get("", "content").map_err(Error::from);
            let document = content.and_then(|content: String| from_json::<Document>(&content));
            let row = RowKey {
                table: TABLE.name,
                care_unit: None,
                id: replica,
                number: Some(number),
            };
            let event = row.accept(document).map(Document::into_event);
            Ok(((replica, number), event.unwrap_or_else(ChangeEvent::resync)))
        })
        .collect()
}

/// Deletes the events that were written before this time, in microseconds by the database's clock.
pub async fn delete_before(connection: &impl ConnectionTrait, before: i64) -> Result<(), Error> {
    let statement = Statement::from_sql_and_values(
        connection.get_database_backend(),
        "DELETE FROM change_event WHERE written_at < $1",
        [before.into()],
    );
    connection.execute_raw(statement).await?;
    Ok(())
}

/// Returns the time on the database's clock, in microseconds since 1970.
pub async fn database_now(connection: &impl ConnectionTrait) -> Result<i64, Error> {
    let statement =
        Statement::from_string(DbBackend::Postgres, format!("SELECT {DATABASE_NOW} AS now"));
    let row = connection.query_one_raw(statement).await?;
    let row = row.ok_or_else(|| Error::internal("the database returned no time"))?;
    Ok(row.try_get("", "now")?)
}

/// [`ChangeEvent`] as it is stored.
#[derive(Serialize, Deserialize)]
struct Document {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    claimable_at: Option<i64>,
    /// Care unit, request, notification, token, change.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    leases: Vec<(String, Uuid, Uuid, Uuid, StoredLeaseChange)>,
    /// Care unit, request, revision.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    requests: Vec<(String, Uuid, i64)>,
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
        Self {
            claimable_at: event.claimable_at.map(micros),
            leases: event.leases.iter().map(lease).collect(),
            requests: event.requests.iter().map(request).collect(),
        }
    }

    fn to_text(&self) -> String {
        serde_json::to_string(self).expect("a document of text and numbers is JSON")
    }

    fn into_event(self) -> ChangeEvent {
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
        ChangeEvent {
            claimable_at: self.claimable_at.map(from_micros),
            leases: self.leases.into_iter().map(lease).collect(),
            requests: self.requests.into_iter().map(request).collect(),
            resync: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hsa_id::HsaId;

    #[test]
    fn an_event_is_read_as_it_was_written() {
        let request = RequestKey {
            care_unit: HsaId::from_stored("SE2321000131-P1".into()),
            id: Uuid::from_u128(1),
        };
        let lease = |token| LeaseRef {
            request: request.clone(),
            notification: Uuid::from_u128(2),
            token: Uuid::from_u128(token),
        };
        let event = ChangeEvent {
            claimable_at: Some(from_micros(7)),
            leases: vec![
                (lease(3), LeaseChange::Ended),
                (lease(4), LeaseChange::Revoked),
                (lease(5), LeaseChange::Renewed(from_micros(8))),
            ],
            requests: vec![(request, 9)],
            resync: false,
        };
        for event in [event, ChangeEvent::default()] {
            let text = Document::of(&event).to_text();
            let read: Document = serde_json::from_str(&text).expect("JSON");
            assert_eq!(read.into_event(), event);
        }
    }
}
