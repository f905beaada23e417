//! Statements by hand that read the same on both databases.

use std::time::Duration;

use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection, Statement};

use crate::Outcome;

/// Longer than anything here lasts.
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// One connection to the database that `url` names.
pub async fn connect(url: &str) -> Outcome<DatabaseConnection> {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    // What is set on the connection is to last.
    options.idle_timeout(DAY).max_lifetime(DAY);
    Ok(Database::connect(options).await?)
}

/// Carries a statement out.
pub async fn run(connection: &DatabaseConnection, sql: &str) -> Outcome<()> {
    connection.execute_unprepared(sql).await?;
    Ok(())
}

/// The texts in the first column of what a statement finds.
pub async fn texts(connection: &DatabaseConnection, sql: &str) -> Outcome<Vec<String>> {
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await?;
    rows.iter()
        .map(|row| Ok(row.try_get_by_index(0)?))
        .collect()
}
