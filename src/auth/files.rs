//! Files that are read again when they change. Their metadata is compared every few seconds: a file that
//! is replaced by another, or by way of a link, as Kubernetes does it, is seen too.

use std::fmt::Display;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::sleep;
use tracing::{info, warn};

/// Time between two looks at the metadata.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// Maximum bytes of one file.
const FILE_BYTES_MAX: u64 = 1_024 * 1_024;

/// Files, as their metadata was at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    paths: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
}

/// Metadata that changes when the content of a file does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    modified: (i64, i64),
    length: u64,
    inode: u64,
}

impl Files {
    /// Looks at files. To be done before they are read, so that no change is missed.
    pub fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<_> = paths.into_iter().collect();
        let seen = stamps(&paths);
        Self { paths, seen }
    }

    /// Waits until one of them has changed.
    pub async fn changed(&mut self) {
        loop {
            sleep(LOOK_INTERVAL).await;
            let now = stamps(&self.paths);
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }
}

/// Reads files, and again whenever one of them changes, for as long as somebody has what was read. Files that cannot
/// be used are logged, and what was read before stays in force.
///
/// # Errors
///
/// They cannot be used at all.
pub fn keep_read<T, E>(
    what: &'static str,
    paths: impl IntoIterator<Item = PathBuf>,
    read: impl Fn() -> Result<T, E> + Send + 'static,
) -> Result<watch::Receiver<T>, E>
where
    T: Send + Sync + 'static,
    E: Display + Send,
{
    let mut files = Files::new(paths);
    let (sender, receiver) = watch::channel(read()?);
    tokio::spawn(async move {
        loop {
            tokio::select! {
                () = sender.closed() => return,
                () = files.changed() => {}
            }
            match read() {
                Ok(value) => {
                    info!("the {what} have been read again");
                    sender.send_replace(value);
                }
                Err(error) => {
                    let error = error.to_string();
                    warn!(error, "changed {what} cannot be used: those before stay");
                }
            }
        }
    });
    Ok(receiver)
}

fn stamps(paths: &[PathBuf]) -> Vec<Option<Stamp>> {
    let stamp = |path: &PathBuf| {
        let metadata = fs::metadata(path).ok()?;
        Some(Stamp {
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            length: metadata.len(),
            inode: metadata.ino(),
        })
    };
    paths.iter().map(stamp).collect()
}

/// Reads a file of a megabyte at most.
///
/// # Errors
///
/// It cannot be read, or is larger.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let file = File::open(path)?;
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 <= FILE_BYTES_MAX {
        true => Ok(bytes),
        false => Err(io::Error::new(ErrorKind::FileTooLarge, "larger than 1 MiB")),
    }
}
