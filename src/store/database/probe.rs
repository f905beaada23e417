//! Probing a database that is open.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement};

use crate::domain::calendar::from_micros;
use crate::store::DatabaseStatus;
use crate::store::database::preflight::IS_READ_ONLY;

/// Probes the database. SQLite is probed by a write that changes nothing, unless it `has_written` recently.
pub async fn probe_pool(
    connection: &DatabaseConnection,
    has_written: bool,
) -> Result<DatabaseStatus, DbErr> {
    let backend = connection.get_database_backend();
    if backend != DbBackend::Postgres {
        match has_written {
            true => connection.ping().await?,
            // Nothing else uses this number.
            false => connection
                .execute_unprepared("PRAGMA user_version = 0")
                .await
                .map(|_| ())?,
        }
        return Ok(DatabaseStatus {
            now: None,
            read_only: false,
        });
    }
    let sql =
        format!("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, {IS_READ_ONLY}");
    let row = connection.query_one_raw(Statement::from_string(backend, sql));
    let row = row.await?.ok_or(DbErr::RecordNotFound(String::new()))?;
    Ok(DatabaseStatus {
        now: Some(from_micros(row.try_get_by_index(0)?)),
        read_only: row.try_get_by_index(1)?,
    })
}
