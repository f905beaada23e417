//! A backup put in the place of a SQLite database.
//!
//! The backup is copied beside the database and verified there. What the WAL of the old database holds goes into its file,
//! so that no WAL lies beside the new one; the old file is kept under another name, and the new one takes its place in one
//! step. Whenever this is cut short, the path leads to the one or to the other, whole.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};

use crate::domain::calendar::Instant;
use crate::store::backup::{create_private, unfinished_wal};
use crate::store::database::data_file::{DataFile, suffixed, sync_folder_of};
use crate::store::database::page_check::Depth;
use crate::store::database::postgres::is_postgres;
use crate::store::database::sqlite::{inspect, sqlite_path, take_wal_in};
use crate::store::error::OpenError;
use crate::store::schema;

/// The reason why nothing was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The database is a PostgreSQL.
    #[error(
        "restore is for a SQLite file; a PostgreSQL is restored by its own tools, as docs/operations.md says"
    )]
    Postgres,
    /// Another process has the database file.
    #[error("the database file {0} is in use: stop the service first")]
    InUse(String),
    /// The backup is a database that is or was open, with a WAL beside it.
    #[error("{0} has a write-ahead log beside it, so it is no backup")]
    HasWal(String),
    /// The backup has no tables.
    #[error("{0} is a database without tables")]
    Empty(String),
    /// The backup cannot be used, or the database cannot be opened.
    #[error(transparent)]
    Open(OpenError),
    /// A file cannot be read or written.
    #[error("{0}")]
    File(String, #[source] io::Error),
}

impl From<OpenError> for RestoreError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked(path) => Self::InUse(path),
            error => Self::Open(error),
        }
    }
}

/// Puts a backup in the place of the database, and returns the path under which the old file is kept; none where there
/// was no database.
///
/// # Errors
///
/// [`RestoreError`]; the database is what it was.
pub async fn restore(
    url: &str,
    from: &Path,
    now: Instant,
) -> Result<Option<PathBuf>, RestoreError> {
    if is_postgres(url) {
        return Err(RestoreError::Postgres);
    }
    let path = sqlite_path(url)?;
    let said = |path: &Path| path.display().to_string();
    // Before anything of that name is created.
    let source = open_file(from).map_err(|error| RestoreError::File(said(from), error))?;
    if unfinished_wal(from).is_some() {
        return Err(RestoreError::HasWal(said(from)));
    }
    let is_new = !path.exists();
    let file = DataFile::wait_and_lock(&path).await?;
    let outcome = replace(source, &file, from, now).await;
    if outcome.is_err() && is_new {
        // It is the empty one that was locked.
        let _ = fs::remove_file(&path);
    }
    outcome
}

/// Opens a regular file to read it: a pipe without a writer would be waited for.
fn open_file(path: &Path) -> io::Result<File> {
    match fs::metadata(path)?.is_file() {
        true => File::open(path),
        false => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is no regular file",
        )),
    }
}

/// Replaces the database, which is locked.
async fn replace(
    source: File,
    file: &DataFile,
    from: &Path,
    now: Instant,
) -> Result<Option<PathBuf>, RestoreError> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error| RestoreError::File(path, error)
    };
    // The file itself is replaced, and not a link to it.
    let path = file.path().canonicalize();
    let path = path.map_err(failed(file.path()))?;
    let copy = suffixed(&path, ".restoring");
    // One that was cut short left it; nobody else has it, since the database is locked.
    let _ = fs::remove_file(&copy);
    let replaced = async {
        copy_beside(source, &copy, &path).map_err(failed(&copy))?;
        verify(&copy, from).await?;
        if file.bytes() == Some(0) {
            fs::rename(&copy, &path).map_err(failed(&path))?;
            sync_folder_of(&path).map_err(failed(&path))?;
            return Ok(None);
        }
        let kept = suffixed(
            &path,
            &now.format(".before-restore-%Y%m%dT%H%M%S%3fZ").to_string(),
        );
        fs::hard_link(&path, &kept).map_err(failed(&kept))?;
        put_wal_away(&path, &kept).await.map_err(failed(&path))?;
        fs::rename(&copy, &path).map_err(failed(&path))?;
        sync_folder_of(&path).map_err(failed(&path))?;
        Ok(Some(kept))
    };
    let replaced = replaced.await;
    if replaced.is_err() {
        let _ = fs::remove_file(&copy);
    }
    replaced
}

/// Copies the backup to the disk of the database, for the same owner.
fn copy_beside(mut source: File, copy: &Path, path: &Path) -> io::Result<()> {
    let mut target = create_private(copy)?;
    io::copy(&mut source, &mut target)?;
    let (old, new) = (fs::metadata(path)?, target.metadata()?);
    if old.len() > 0 {
        target.set_permissions(old.permissions())?;
    }
    if (old.uid(), old.gid()) != (new.uid(), new.gid()) {
        chown(copy, Some(old.uid()), Some(old.gid()))?;
    }
    target.sync_all()
}

/// Refuses a copy that is damaged, that is not ours, that is empty, or that is newer than this version.
async fn verify(copy: &Path, from: &Path) -> Result<(), RestoreError> {
    let applied = inspect(copy, Depth::Content).await?;
    if applied.is_empty() {
        return Err(RestoreError::Empty(from.display().to_string()));
    }
    schema::refuse_newer(&applied)?;
    // What SQLite left beside it while it looked.
    for suffix in ["-wal", "-shm"] {
        let _ = fs::remove_file(suffixed(copy, suffix));
    }
    Ok(())
}

/// Takes what the WAL holds into the old file; where that is damaged the WAL goes with it.
async fn put_wal_away(path: &Path, kept: &Path) -> io::Result<()> {
    if take_wal_in(path).await.is_err() {
        tracing::warn!("the old database cannot be opened; it is kept as it is, with its WAL");
    }
    if let Some(wal) = unfinished_wal(path) {
        fs::rename(wal, suffixed(kept, "-wal"))?;
    }
    for suffix in ["-wal", "-shm"] {
        match fs::remove_file(suffixed(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    sync_folder_of(path)
}
