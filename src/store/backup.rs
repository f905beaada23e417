//! A copy of a SQLite database, made while the service may be writing to it.
//!
//! The copy is one snapshot: writers go on beside it, and it ends however much they write. Meanwhile the WAL cannot begin
//! anew, and grows. The copy is verified, and has its name only once it is whole and on the disk.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::store::database::data_file::{suffixed, sync_folder_of};
use crate::store::database::page_check::Depth;
use crate::store::database::postgres::is_postgres;
use crate::store::database::sqlite::{
    connect_to_read, copy_into, inspect, require_existing_file, sqlite_path,
};
use crate::store::error::{Error, OpenError};
use crate::store::schema;

/// The reason why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The database is a PostgreSQL.
    #[error(
        "backup is for a SQLite file; a PostgreSQL is backed up by its own tools, as docs/operations.md says"
    )]
    Postgres,
    /// There is a file of that name.
    #[error("{0} exists, and is not written over")]
    Exists(String),
    /// A file cannot be written.
    #[error("the backup {0} cannot be written")]
    File(String, #[source] io::Error),
    /// The database cannot be opened, or the copy is not whole.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The copy failed.
    #[error("the copy failed")]
    Copy(#[source] Error),
}

/// Copies the database to a new file, verifies the copy, and returns its length in bytes.
///
/// # Errors
///
/// [`BackupError`]; there is no file of that name then, but the one that was there before.
pub async fn backup(url: &str, to: &Path) -> Result<u64, BackupError> {
    if is_postgres(url) {
        return Err(BackupError::Postgres);
    }
    require_existing_file(url)?;
    let exists = |path: &Path| BackupError::Exists(path.display().to_string());
    if to.symlink_metadata().is_ok() {
        return Err(exists(to));
    }
    let partial = suffixed(to, ".partial");
    create_private(&partial).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => exists(&partial),
        _ => BackupError::File(to.display().to_string(), error),
    })?;
    let copied = copy(&sqlite_path(url)?, &partial, to).await;
    // It has another name by now, or is of no use.
    let removed = fs::remove_file(&partial);
    let bytes = copied?;
    removed.map_err(|error| BackupError::File(partial.display().to_string(), error))?;
    Ok(bytes)
}

/// Creates a file that only its owner reads: it is to hold what patients have been told.
pub fn create_private(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o600).open(path)
}

/// Copies the database into an empty file, and gives that its second name once it is verified and on the disk.
async fn copy(from: &Path, partial: &Path, to: &Path) -> Result<u64, BackupError> {
    let source = connect_to_read(from).await?;
    let copied = copy_into(&source, partial).await;
    source.close().await.map_err(OpenError::from)?;
    copied.map_err(|error| BackupError::Copy(error.into()))?;
    let applied = inspect(partial, Depth::Content).await?;
    schema::refuse_newer(&applied)?;
    name(partial, to).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => BackupError::Exists(to.display().to_string()),
        _ => BackupError::File(to.display().to_string(), error),
    })
}

/// Gives a file that is on the disk a second name, which nobody has, and returns its length in bytes.
fn name(partial: &Path, to: &Path) -> io::Result<u64> {
    let file = File::open(partial)?;
    file.sync_all()?;
    fs::hard_link(partial, to)?;
    sync_folder_of(to)?;
    Ok(file.metadata()?.len())
}

/// Returns the path of a WAL that has something in it beside this file; none where there is none.
pub fn unfinished_wal(path: &Path) -> Option<PathBuf> {
    let wal = suffixed(path, "-wal");
    let bytes = fs::metadata(&wal).map_or(0, |it| it.len());
    (bytes > 0).then_some(wal)
}
