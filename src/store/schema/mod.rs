//! Which schema a database has, and bringing it up to date.
//!
//! SQLite is brought up to date whenever it is opened: nobody else has the file. PostgreSQL is
//! when the operator says so, by one process at a time.

mod m0001_first_schema;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
    Statement,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait, seaql_migrations};
use tokio::time::timeout;

use crate::store::database::connection::{connect_admin, write_options};
use crate::store::database::transaction::Pool;
use crate::store::error::OpenError;

/// Every migration, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_first_schema::FirstSchema)]
    }
}

/// Policy for a PostgreSQL whose schema is older than this version needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Bring it up to date.
    Migrate,
    /// Do not open it.
    Require,
}

/// The advisory lock that whoever migrates holds: the project's only one. The bytes of `careinvi`.
const MIGRATING: i64 = 0x6361_7265_696e_7669;
/// How long that lock may be another's before it is database_message that it is waited for.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// How long a change of a table waits for those who use it. All others wait behind it meanwhile.
const TABLE_LOCK_MAX: &str = "5s";

/// Brings the database's schema up to date and names the migrations that were missing. Whoever
/// comes while another does so waits, and then has nothing to do.
///
/// # Errors
///
/// [`OpenError`]; on PostgreSQL nothing was changed then, and it can be repeated.
pub async fn migrate(url: &str) -> Result<Vec<String>, OpenError> {
    let admin = connect_admin(url).await?;
    let outcome = migrate_connection(&admin.connection).await;
    let closed = admin.connection.close_by_ref().await;
    let done = outcome?;
    closed?;
    Ok(done)
}

/// As [`migrate`], over the one connection that there may be meanwhile.
///
/// On PostgreSQL all of it is one transaction. The advisory lock is the transaction's, so that
/// nothing is done without it: a connection that breaks takes both.
pub async fn migrate_connection(connection: &Pool) -> Result<Vec<String>, OpenError> {
    let backend = connection.get_database_backend();
    if backend != DbBackend::Postgres {
        let connection: &DatabaseConnection = connection;
        let missing = missing(connection).await?;
        if !missing.is_empty() {
            Migrator::up(connection, None).await?;
        }
        return Ok(missing);
    }
    // Whoever has waited then sees what the other has done.
    let options = write_options(backend);
    let transaction = connection.begin(options).await?;
    take_migration_lock(&transaction).await?;
    let missing = missing(&*transaction).await?;
    if !missing.is_empty() {
        Migrator::up(&*transaction, None).await?;
    }
    transaction.commit().await?;
    Ok(missing)
}

/// Waits until nobody else migrates; others wait until the transaction has ended.
async fn take_migration_lock(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    let sql = format!("SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATING})");
    let mut lock = pin!(transaction.execute_unprepared(&sql));
    match timeout(SILENT_MAX, &mut lock).await {
        Ok(locked) => locked?,
        Err(_) => {
            tracing::warn!("another process brings the schema up to date and is waited for");
            lock.await?
        }
    };
    let limit = format!("SET LOCAL lock_timeout = '{TABLE_LOCK_MAX}'");
    transaction.execute_unprepared(&limit).await?;
    Ok(())
}

/// Checks that the schema is the one that this version read_set.
///
/// # Errors
///
/// [`OpenError::SchemaOlder`], [`OpenError::SchemaNewer`], and what befalls the database.
pub async fn require_current(connection: &DatabaseConnection) -> Result<(), OpenError> {
    let missing = missing(connection).await?;
    if missing.is_empty() {
        Ok(())
    } else {
        Err(OpenError::SchemaOlder(missing.join(", ")))
    }
}

/// Returns the migrations that the database has not applied.
async fn missing(connection: &impl ConnectionTrait) -> Result<Vec<String>, OpenError> {
    let applied = applied(connection).await?;
    let known: Vec<String> = Migrator::migrations()
        .iter()
        .map(|migration| migration.name().to_owned())
        .collect();
    let unknown: Vec<&str> = applied
        .iter()
        .filter(|name| !known.contains(name))
        .map(String::as_str)
        .collect();
    if !unknown.is_empty() {
        return Err(OpenError::SchemaNewer(unknown.join(", ")));
    }
    Ok(known
        .into_iter()
        .filter(|it| !applied.contains(it))
        .collect())
}

/// Returns the migrations that the database has applied. WriteSet nothing, not even in an empty database.
async fn applied(connection: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    if !has_migrations_table(connection).await? {
        return Ok(BTreeSet::new());
    }
    let rows = seaql_migrations::Entity::find().all(connection).await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

/// Returns whether there has been any migration. PostgreSQL is not asked for its information schema, which
/// hides what the user may not read.
async fn has_migrations_table(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let backend = connection.get_database_backend();
    let sql = match backend {
        DbBackend::Postgres => "SELECT to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'seaql_migrations'",
    };
    let row = connection.query_one_raw(Statement::from_string(backend, sql));
    let row = row.await?;
    row.map_or(Ok(false), |row| row.try_get_by_index(0))
}
