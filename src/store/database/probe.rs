//! Probing a database that is open.

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, Statement, TryGetable};

use crate::domain::calendar::{Instant, from_micros};
use crate::store::DatabaseStatus;
use crate::store::database::postgres::DATABASE_NOW;
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
    let (now, read_only) = ask_server(connection).await?;
    Ok(DatabaseStatus {
        now: Some(now),
        read_only,
    })
}

/// Returns the answer to a question that has one value.
pub async fn ask<T: TryGetable>(
    connection: &impl ConnectionTrait,
    question: impl Into<String>,
) -> Result<T, DbErr> {
    let question = Statement::from_string(connection.get_database_backend(), question);
    let row = connection.query_one_raw(question).await?;
    row.ok_or(DbErr::RecordNotFound(String::new()))?
        .try_get_by_index(0)
}

/// Returns the time on the clock of a PostgreSQL server.
pub async fn database_now(connection: &impl ConnectionTrait) -> Result<Instant, DbErr> {
    Ok(ask_server(connection).await?.0)
}

/// Returns the time on the clock of a PostgreSQL server, and true when it takes no writes.
async fn ask_server(connection: &impl ConnectionTrait) -> Result<(Instant, bool), DbErr> {
    let sql = format!("SELECT {DATABASE_NOW}, {IS_READ_ONLY}");
    let row = connection.query_one_raw(Statement::from_string(DbBackend::Postgres, sql));
    let row = row.await?.ok_or(DbErr::RecordNotFound(String::new()))?;
    let now = from_micros(row.try_get_by_index(0)?);
    Ok((now, row.try_get_by_index(1)?))
}
