//! The schema of a database and its migrations.
//!
//! SQLite is migrated whenever it is opened: no other process has the file. PostgreSQL is migrated when the operator says
//! so, by one process at a time.

pub mod partition;

mod distribute;

mod m0001_first_schema;

use std::collections::BTreeSet;
use std::pin::pin;
use std::time::Duration;

use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, DbBackend, DbErr, EntityTrait,
};
use sea_orm_migration::{MigrationTrait, MigratorTrait, seaql_migrations};
use tokio::time::timeout;

use crate::store::database::connection::{connect_admin, write_options};
use crate::store::database::postgres::is_postgres;
use crate::store::database::probe::{ask, database_now};
use crate::store::database::transaction::Pool;
use crate::store::error::OpenError;

/// Every migration, in order.
pub struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        vec![Box::new(m0001_first_schema::FirstSchema)]
    }
}

/// The treatment of a PostgreSQL database whose schema is older than this version needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Schema {
    /// Migration before it is opened.
    Migrate,
    /// Refusal to open it.
    Require,
}

/// Advisory lock of the process that migrates, the only one of the project. The bytes of `careinvi`.
const MIGRATING: i64 = 0x6361_7265_696e_7669;
/// Time to wait for that lock before the log says so.
const SILENT_MAX: Duration = Duration::from_secs(1);
/// Time for which a change of a table waits for its lock. All other users of the table wait behind it meanwhile.
const TABLE_LOCK_MAX: &str = "5s";

/// Migrates the database and returns the names of the migrations that were missing. A process that comes while another
/// one migrates waits, and then has nothing to do.
///
/// # Errors
///
/// [`OpenError`]; on PostgreSQL nothing was changed then, and it can be run again.
pub async fn migrate(url: &str) -> Result<Vec<String>, OpenError> {
    over_one_connection(url, migrate_connection).await
}

/// Works over a connection of its own, and closes it, whatever the outcome.
async fn over_one_connection<T>(
    url: &str,
    work: impl AsyncFnOnce(&Pool) -> Result<T, OpenError>,
) -> Result<T, OpenError> {
    let admin = connect_admin(url, refuse_newer).await?;
    let outcome = work(&admin.connection).await;
    let closed = admin.connection.close_by_ref().await;
    let done = outcome?;
    closed?;
    Ok(done)
}

/// Migrates like [`migrate`], over the only connection that there may be meanwhile.
///
/// On PostgreSQL all migrations are one transaction. The advisory lock belongs to the transaction, so that a connection
/// that is lost ends both.
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
    // A process that has waited sees the migrations of the other.
    let options = write_options(backend);
    let transaction = connection.begin(options).await?;
    take_migration_lock(&transaction).await?;
    let missing = missing(&*transaction).await?;
    if !missing.is_empty() {
        Migrator::up(&*transaction, None).await?;
    }
    let now = database_now(&*transaction).await?;
    partition::make_missing(&transaction, now).await?;
    transaction.commit().await?;
    Ok(missing)
}

/// Distributes the tables over the nodes of Citus, those that are not yet, and returns their names. It has all schema migrations.
///
/// # Errors
///
/// [`OpenError`]; nothing was changed then, and it can be run again.
pub async fn distribute(url: &str) -> Result<Vec<String>, OpenError> {
    if !is_postgres(url) {
        return Err(OpenError::NoCitus);
    }
    over_one_connection(url, distribute_over).await
}

async fn distribute_over(connection: &Pool) -> Result<Vec<String>, OpenError> {
    let options = write_options(connection.get_database_backend());
    let transaction = connection.begin(options).await?;
    take_migration_lock(&transaction).await?;
    let done = distribute::distribute(&transaction).await?;
    transaction.commit().await?;
    Ok(done)
}

/// Takes the advisory lock, which is held until the transaction ends. Waits while another process has it.
async fn take_migration_lock(transaction: &DatabaseTransaction) -> Result<(), DbErr> {
    let sql = format!("SET LOCAL lock_timeout = 0; SELECT pg_advisory_xact_lock({MIGRATING})");
    let mut lock = pin!(transaction.execute_unprepared(&sql));
    match timeout(SILENT_MAX, &mut lock).await {
        Ok(locked) => locked?,
        Err(_) => {
            tracing::warn!("waiting for another process to finish migrating");
            lock.await?
        }
    };
    let limit = format!("SET LOCAL lock_timeout = '{TABLE_LOCK_MAX}'");
    transaction.execute_unprepared(&limit).await?;
    Ok(())
}

/// Checks that the schema is the one that this version needs.
///
/// # Errors
///
/// [`OpenError::SchemaOlder`], [`OpenError::SchemaNewer`], and errors of the database.
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
    refuse_newer(&applied)?;
    Ok(known().filter(|it| !applied.contains(it)).collect())
}

/// Refuses a database with migrations that this version does not know.
///
/// # Errors
///
/// [`OpenError::SchemaNewer`].
pub fn refuse_newer(applied: &BTreeSet<String>) -> Result<(), OpenError> {
    let known: BTreeSet<String> = known().collect();
    let unknown: Vec<&str> = applied.difference(&known).map(String::as_str).collect();
    match unknown.is_empty() {
        true => Ok(()),
        false => Err(OpenError::SchemaNewer(unknown.join(", "))),
    }
}

/// Returns the names of the migrations of this version, in order.
fn known() -> impl Iterator<Item = String> {
    let migrations = Migrator::migrations().into_iter();
    migrations.map(|migration| migration.name().to_owned())
}

/// Returns the migrations that the database has applied. Writes nothing, not even in an empty database.
async fn applied(connection: &impl ConnectionTrait) -> Result<BTreeSet<String>, DbErr> {
    if !has_migrations_table(connection).await? {
        return Ok(BTreeSet::new());
    }
    let rows = seaql_migrations::Entity::find().all(connection).await?;
    Ok(rows.into_iter().map(|row| row.version).collect())
}

/// Returns true when there has been any migration. The information schema of PostgreSQL is not used, because it hides
/// tables that the user may not read.
async fn has_migrations_table(connection: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let sql = match connection.get_database_backend() {
        DbBackend::Postgres => "SELECT to_regclass('seaql_migrations') IS NOT NULL",
        _ => "SELECT count(*) > 0 FROM sqlite_master WHERE name = 'seaql_migrations'",
    };
    ask(connection, sql).await
}
