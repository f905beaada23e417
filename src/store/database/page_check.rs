//! Damaged pages of a SQLite file. SQLite keeps no checksums: a page counts as damaged when it cannot be read, or when it
//! cannot be what the pages beside it say that it is.
//!
//! Every table is looked at with its indexes, over and over, over a connection that keeps no pages. Of a large file that
//! takes too long, and keeps the WAL from beginning anew meanwhile: there only the list of tables is read.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseConnection, DbErr, Statement};
use tokio::time::{Instant, sleep};

use crate::store::database::data_file::DataFile;
use crate::store::error::{Error, damage};

/// Largest file, in bytes, whose tables are looked at while the service runs.
const CHECKED_MAX: u64 = 1 << 30;
/// Minimum pause between two tables.
const PAUSE_MIN: Duration = Duration::from_millis(250);
/// Pause after a table, as a multiple of the time that it took.
const PAUSE_FACTOR: u32 = 30;

/// Depth of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// The list of tables.
    Names,
    /// Every page.
    Pages,
    /// Every page, and that indexes have what their tables have.
    Content,
}

/// The look for damaged pages.
pub struct PageCheck {
    connection: DatabaseConnection,
    /// Damage at present.
    damage: Arc<Mutex<Option<String>>>,
}

impl PageCheck {
    /// Returns a check over a connection of its own, which finds nothing before it runs.
    pub fn over(connection: DatabaseConnection) -> Self {
        Self {
            connection,
            damage: Arc::default(),
        }
    }

    /// Returns the damage at present.
    pub fn damage(&self) -> Option<String> {
        let damage = self.damage.lock();
        damage.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks at one table after another, and at one that is damaged again until it is mended.
    pub async fn run(&self, file: &DataFile) {
        loop {
            // What is wrong with the list itself is found with any table.
            let tables = tables(&self.connection).await.unwrap_or_default();
            for table in tables.into_iter().map(Some).chain([None]) {
                while self.finds_damage(table.as_deref(), file).await {}
            }
        }
    }

    /// Looks at a table, or at the list of tables, and pauses. Returns true when it is damaged.
    async fn finds_damage(&self, table: Option<&str>, file: &DataFile) -> bool {
        let begun = Instant::now();
        let is_small = file.bytes().is_some_and(|it| it <= CHECKED_MAX);
        let depth = match is_small && table.is_some() {
            true => Depth::Pages,
            false => Depth::Names,
        };
        let found = damage_in(&self.connection, table, depth).await;
        let found = found.unwrap_or_else(|error| {
            let error = Error::from(error);
            tracing::debug!(%error, "looking for damaged pages failed");
            None
        });
        let is_damaged = found.is_some();
        *self.damage.lock().unwrap_or_else(PoisonError::into_inner) = found;
        let factor = if is_damaged { 1 } else { PAUSE_FACTOR };
        sleep((begun.elapsed() * factor).max(PAUSE_MIN)).await;
        is_damaged
    }

    /// Closes its connection.
    pub async fn close(&self) {
        // A connection that cannot be closed ends with the process.
        let _ = self.connection.close_by_ref().await;
    }
}

/// Returns the damage of a table and its indexes, or with all of them.
///
/// # Errors
///
/// Errors that say nothing about the pages.
pub async fn damage_in(
    connection: &DatabaseConnection,
    table: Option<&str>,
    depth: Depth,
) -> Result<Option<String>, DbErr> {
    let looked = match depth {
        Depth::Names => tables(connection).await.map(|_| None),
        Depth::Pages => check(connection, "quick_check", table).await,
        Depth::Content => check(connection, "integrity_check", table).await,
    };
    looked.or_else(|error| damage(&error).map(Some).ok_or(error))
}

/// Reads every page of a table and its indexes, or of the file, and returns the first that is damaged.
async fn check(
    connection: &DatabaseConnection,
    pragma: &str,
    table: Option<&str>,
) -> Result<Option<String>, DbErr> {
    // Pages that the connection holds would not be read.
    connection
        .execute_unprepared("PRAGMA shrink_memory")
        .await?;
    let question = match table {
        Some(table) => format!("PRAGMA {pragma}('{table}')"),
        None => format!("PRAGMA {pragma}(1)"),
    };
    let question = Statement::from_string(connection.get_database_backend(), question);
    let rows = connection.query_all_raw(question).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let said: String = row.try_get_by_index(0)?;
    Ok((said != "ok").then_some(said))
}

/// Returns the names of the tables.
async fn tables(connection: &DatabaseConnection) -> Result<Vec<String>, DbErr> {
    let names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite%'";
    let names = Statement::from_string(connection.get_database_backend(), names);
    let rows = connection.query_all_raw(names).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}
