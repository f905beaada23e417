//! Which schema a database has, and bringing it up to date.
//!
//! SQLite is brought up to date whenever it is opened: nobody else has the file. PostgreSQL is
//! when the operator says so, by one process at a time.

use std::collections::BTreeSet;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, DbErr, EntityTrait, Statement};
use sea_orm_migration::{MigratorTrait, seaql_migrations};

use super::connection::connect_alone;
use super::error::OpenError;
use super::migration::Migrator;

/// What is to be done with a PostgreSQL whose schema is older than this version needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Bring it up to date.
    Migrate,
    /// Do not open it.
    Require,
}

/// The advisory lock that whoever migrates holds: the project's only one. The bytes of `careinvi`.
const MIGRATING: i64 = 0x6361_7265_696e_7669;
/// How long a change of a table waits for those who use it. All others wait behind it meanwhile.
const TABLE_LOCK_MAX: &str = "5s";

/// Brings the database's schema up to date and names the migrations that were missing. Whoever
/// comes while another does so waits, and then has nothing to do.
///
/// # Errors
///
/// [`OpenError`]; what was done before stands, and it can be repeated.
pub async fn migrate(url: &str) -> Result<Vec<String>, OpenError> {
    let alone = connect_alone(url).await?;
    let outcome = bring_up(&alone.connection).await;
    // The advisory lock goes with the connection.
    let closed = alone.connection.close().await;
    let done = outcome?;
    closed?;
    Ok(done)
}

/// As [`migrate`], over the one connection that there may be meanwhile.
pub async fn bring_up(connection: &DatabaseConnection) -> Result<Vec<String>, OpenError> {
    if connection.get_database_backend() == DbBackend::Postgres {
        let wait = format!("SET lock_timeout = 0; SELECT pg_advisory_lock({MIGRATING})");
        connection.execute_unprepared(&wait).await?;
        let work = format!("SET lock_timeout = '{TABLE_LOCK_MAX}'");
        connection.execute_unprepared(&work).await?;
    }
    let missing = missing(connection).await?;
    if !missing.is_empty() {
        Migrator::up(connection, None).await?;
    }
    Ok(missing)
}

/// Checks that the schema is the one that this version needs.
///
/// # Errors
///
/// [`OpenError::SchemaOlder`], [`OpenError::SchemaNewer`], and what befalls the database.
pub async fn require(connection: &DatabaseConnection) -> Result<(), OpenError> {
    let missing = missing(connection).await?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(OpenError::SchemaOlder(missing.join(", ")))
    }
}

/// The migrations that the database has not had.
async fn missing(connection: &impl ConnectionTrait) -> Result<Vec<String>, OpenError> {
    let had = had(connection).await?;
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let unknown: Vec<&str> = had
        .iter()
        .filter(|name| !known.contains(name))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        return Err(OpenError::SchemaNewer(unknown.join(", ")));
    }
    Ok(known.into_iter().filter(|it| !had.contains(it)).collect())
}

/// The migrations that the database has had. Changes nothing, not even in an empty database.
async fn had(connection: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    if !is_begun(connection).await? {
        return Ok(BTreeSet::new());
    }
    let rows = seaql_migrations::Entity::find().all(connection).await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

/// Whether there has been any migration. PostgreSQL is not asked for its information schema, which
/// hides what the user may not read.
async fn is_begun(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let backend = connection.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => "SELECT to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'seaql_migrations'",
    };
    let row = connection.query_one_raw(Statement::from_string(backend, sql));
    let row = row.await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}
