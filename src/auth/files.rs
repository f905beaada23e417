//! Files that are read again when they change. Their metadata is compared every few seconds: a file that
//! is replaced by another, or by way of a link, as Kubernetes does it, is seen too.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::sleep;

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
