//! Purging of the access log: months by dropping their partitions on PostgreSQL, the rest row by row. What is left of a
//! chain is verified from its first row, which has the hash of the one before.

use sea_orm::{
    ColumnTrait, ConnectionTrait, DbBackend, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait,
};

use crate::domain::calendar::{Instant, micros};
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::{MEMBERS_MAX, membership};
use crate::store::database::connection::write_options;
use crate::store::database::transaction::Pool;
use crate::store::entity::access_log::{Column, Entity, ReadRow};
use crate::store::entity::access_log_patient as of_patient;
use crate::store::error::Error;
use crate::store::schema::partition;

/// Days for which entries are kept at least: five years, leap days included.
const RETENTION_DAYS: i64 = 5 * 365 + 2;
/// Maximum entries of a batch, which are named at once.
const ENTRIES_MAX: u64 = 200;

/// Returns the latest time before which entries may be deleted.
pub fn latest(now: Instant) -> Instant {
    now - chrono::Duration::days(RETENTION_DAYS)
}

/// Drops the partitions of months that are over before this time. Returns the number of entries in them.
pub async fn drop_months(connection: &Pool, before: Instant) -> Result<u64, Error> {
    if connection.get_database_backend() != DbBackend::Postgres {
        return Ok(0);
    }
    let transaction = connection.begin(write_options(DbBackend::Postgres)).await?;
    let dropped = partition::drop_before(&transaction, micros(before)).await?;
    transaction.commit().await?;
    Ok(dropped)
}

/// Deletes a batch of the entries before this time, the oldest first. Returns their number.
pub async fn delete_batch(connection: &Pool, before: Instant) -> Result<u64, Error> {
    let backend = connection.get_database_backend();
    let transaction = connection.begin(write_options(backend)).await?;
    let oldest = Entity::find()
        .filter(Column::RecordedAt.lt(micros(before)))
        .order_by_asc(Column::RecordedAt)
        .order_by_asc(Column::Chain)
        .order_by_asc(Column::Sequence)
        .limit(ENTRIES_MAX)
        .build(backend);
    let rows = transaction.query_all_raw(oldest).await?;
    // One whose place cannot be read stays, and is found by a verification.
    let entries = rows.iter().filter_map(|row| ReadRow::of(row).ok());
    let entries: Vec<ReadRow> = entries.collect();
    for keys in patient_keys(&entries).chunks(MEMBERS_MAX) {
        let rows = of_patient_rows(keys);
        let delete = of_patient::Entity::delete_many().filter(membership(
            "access_log_patient",
            rows,
            backend,
        ));
        delete.exec(&*transaction).await?;
    }
    let rows = entry_rows(&entries);
    let delete = Entity::delete_many().filter(membership("access_log", rows, backend));
    let deleted = delete.exec(&*transaction).await?.rows_affected;
    transaction.commit().await?;
    Ok(deleted)
}

/// Returns the places of the patients of entries.
pub fn patient_keys(entries: &[ReadRow]) -> Vec<of_patient::Model> {
    let mut keys = Vec::new();
    // What cannot be read names nobody.
    for entry in entries.iter().filter_map(|it| it.content.as_ref().ok()) {
        let concerned = entry.concerned().unwrap_or_default();
        keys.extend(of_patient::rows(&concerned, entry));
    }
    keys
}

/// Returns places of patients as rows.
pub fn of_patient_rows(keys: &[of_patient::Model]) -> Rows {
    use of_patient::Column::{Chain, Issuer, PersonalId, PersonalIdType, RecordedAt, Sequence};
    let columns = [
        PersonalId,
        PersonalIdType,
        Issuer,
        RecordedAt,
        Chain,
        Sequence,
    ];
    let mut rows = Rows::new(columns.map(RowColumn::of::<of_patient::Entity>).to_vec());
    for key in keys {
        rows.push([
            key.personal_id.as_str().into(),
            key.personal_id_type.into(),
            key.issuer.as_str().into(),
            key.recorded_at.into(),
            key.chain.into(),
            key.sequence.into(),
        ]);
    }
    rows
}

fn entry_rows(entries: &[ReadRow]) -> Rows {
    let columns = [Column::RecordedAt, Column::Chain, Column::Sequence];
    let mut rows = Rows::new(columns.map(RowColumn::of::<Entity>).to_vec());
    for entry in entries {
        rows.push([
            entry.recorded_at.into(),
            entry.chain.into(),
            entry.sequence.into(),
        ]);
    }
    rows
}
