//! A look at a database before the service is started on it: nothing is created, migrated or written.

use std::io;
use std::path::Path;

use chrono::TimeDelta;
use rustix::fs::{Access, access};

use crate::domain::calendar::Instant;
use crate::store::database::connection::connect_admin;
use crate::store::database::data_file::folder_of;
use crate::store::database::postgres::is_postgres;
use crate::store::database::preflight::preflight;
use crate::store::database::probe::database_now;
use crate::store::database::sqlite::require_existing_file;
use crate::store::error::OpenError;
use crate::store::schema::{refuse_newer, require_current};
use crate::store::skew::distance;

/// A database that can be used, as it was found.
#[derive(Debug)]
pub struct Looked {
    /// Kind of database.
    pub kind: &'static str,
    /// Reason for which its schema is not the one that this version needs.
    pub schema: Result<(), OpenError>,
    /// True when its own log may come to hold patients' data.
    pub logs_parameters: bool,
    /// Least time by which its clock and the machine's are apart; none of a file, which has no clock.
    pub apart: Option<TimeDelta>,
}

/// Looks at the database that `url` names.
///
/// # Errors
///
/// It cannot be opened; [`OpenError::NoFile`] when there is no file yet.
pub async fn look(url: &str, now: impl Fn() -> Instant) -> Result<Looked, OpenError> {
    require_existing_file(url)?;
    let logs_parameters = match is_postgres(url) {
        true => preflight(url).await?.logs_parameters,
        false => false,
    };
    let admin = connect_admin(url, refuse_newer).await?;
    let apart = match is_postgres(url) {
        true => {
            let before = now();
            let database = database_now(&*admin.connection).await?;
            Some(distance(database, before, now()))
        }
        false => None,
    };
    Ok(Looked {
        kind: match is_postgres(url) {
            true => "PostgreSQL",
            false => "SQLite",
        },
        schema: require_current(&admin.connection).await,
        logs_parameters,
        apart,
    })
}

/// Returns without an error if this process may create files beside a path.
pub fn may_be_created(path: &Path) -> io::Result<()> {
    Ok(access(folder_of(path), Access::WRITE_OK | Access::EXEC_OK)?)
}
