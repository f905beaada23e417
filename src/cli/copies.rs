//! The commands about copies of a SQLite database: backup and restore.

use std::error::Error;
use std::io::{Write, stdout};
use std::path::Path;

use chrono::SecondsFormat;

use crate::domain::calendar::Instant;
use crate::store::backup::backup as back_up;
use crate::store::restore::restore as put_back;

/// Copies the database to a new file and prints the time at which that was begun.
///
/// # Errors
///
/// The file exists, the database cannot be read, or the copy is not whole.
pub async fn backup(url: &str, file: &Path, now: Instant) -> Result<(), Box<dyn Error>> {
    let bytes = back_up(url, file).await?;
    writeln!(
        stdout(),
        "backed up to {}: {bytes} bytes, verified, begun at {}",
        file.display(),
        now.to_rfc3339_opts(SecondsFormat::Secs, true),
    )?;
    Ok(())
}

/// Puts a backup in the place of the database and prints the name under which the old file is kept.
///
/// # Errors
///
/// The database is in use, or the backup cannot be used.
pub async fn restore(url: &str, file: &Path, now: Instant) -> Result<(), Box<dyn Error>> {
    let kept = put_back(url, file, now).await?;
    writeln!(stdout(), "restored {}", file.display())?;
    if let Some(kept) = kept {
        writeln!(stdout(), "the old database is kept as {}", kept.display())?;
    }
    writeln!(
        stdout(),
        "run after-restore next, with the time at which the backup was begun"
    )?;
    Ok(())
}
