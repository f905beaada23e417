//! The data file of SQLite: the lock that keeps other processes away from it, a look at its beginning, and whether the file at
//! its path is still the one that is open.
//!
//! A file is known by its device and inode, so that a symbolic link, a hard link or another spelling of its path leads to the
//! same lock. The lock is on the file itself, which SQLite locks in another way; on a network file system, where both ways are
//! one, it is on a file beside it. Closing any handle to the file drops the locks that SQLite has on it in this process:
//! the handle here is the only one beside SQLite's, and is closed last.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use backon::{ConstantBuilder, Retryable};

use crate::store::error::OpenError;

/// The first bytes of every file that SQLite has written.
const MAGIC: &[u8; 16] = b"SQLite format 3\0";

/// Fault of a file that is not in its place.
pub const NOT_IN_PLACE: &str = "the database file or its WAL was moved, replaced or removed";

/// Attempts to lock the file at a path where others put one file after another.
const ATTEMPTS_MAX: usize = 8;

/// Pause while another process has the lock.
const BUSY_PAUSE: Duration = Duration::from_millis(50);
/// Attempts to lock a file that another process has, before it is refused.
const BUSY: ConstantBuilder = ConstantBuilder::new()
    .with_delay(BUSY_PAUSE)
    .with_max_times(10);

/// Files that this process has locked. To open one a second time would be enough to lose SQLite's locks.
static LOCKED: Mutex<BTreeSet<Identity>> = Mutex::new(BTreeSet::new());

/// Device and inode of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Identity {
    device: u64,
    inode: u64,
}

impl Identity {
    /// Returns the identity of the file with this metadata.
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
        }
    }

    /// Returns the identity of the file at a path, symbolic links followed; none where there is no file.
    fn at(path: &Path) -> Option<Self> {
        std::fs::metadata(path).ok().map(|it| Self::of(&it))
    }
}

/// The data file, locked for this process until this is dropped.
#[derive(Debug)]
pub struct DataFile {
    path: PathBuf,
    identity: Identity,
    /// Path of the WAL.
    wal: PathBuf,
    /// Identity of the WAL, once it is open.
    open_wal: OnceLock<Identity>,
    /// Handle to the file itself.
    file: File,
    /// Handle to the file beside it that is locked instead, on a network file system.
    _beside: Option<File>,
}

impl DataFile {
    /// Locks the file at this path, which is created when it is missing.
    ///
    /// # Errors
    ///
    /// [`OpenError::Locked`] when another process has it, [`OpenError::File`] when it cannot be opened for writing,
    /// [`OpenError::NoDatabase`] when it is no regular file.
    pub fn lock(path: &Path) -> Result<Self, OpenError> {
        let unusable = |error| OpenError::File(path.display().to_string(), error);
        let busy = || OpenError::Locked(path.display().to_string());
        let mut locked = locked();
        for _ in 0..ATTEMPTS_MAX {
            if Identity::at(path).is_some_and(|it| locked.contains(&it)) {
                return Err(busy());
            }
            let file = open(path).map_err(unusable)?;
            if !file.metadata().map_err(unusable)?.is_file() {
                return Err(OpenError::NoDatabase(path.display().to_string()));
            }
            // SQLite follows links too, before it names its WAL.
            let real = path.canonicalize().map_err(unusable)?;
            let beside = match network_file_system(&real) {
                Some(_) => Some(open(&suffixed(&real, ".lock")).map_err(unusable)?),
                None => None,
            };
            match beside.as_ref().unwrap_or(&file).try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(busy()),
                Err(TryLockError::Error(error)) => return Err(unusable(error)),
            }
            let identity = Identity::of(&file.metadata().map_err(unusable)?);
            // The one that had the lock may have put another file there.
            if Identity::at(path) == Some(identity) && locked.insert(identity) {
                return Ok(Self {
                    path: path.to_owned(),
                    identity,
                    wal: suffixed(&real, "-wal"),
                    open_wal: OnceLock::new(),
                    file,
                    _beside: beside,
                });
            }
        }
        Err(busy())
    }

    /// Locks the file as [`Self::lock`] does, once a process that is just ending, or has just been begun by one that had the
    /// lock, has let go of it.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn wait_and_lock(path: &Path) -> Result<Self, OpenError> {
        (async || Self::lock(path))
            .retry(BUSY)
            .when(|error| matches!(error, OpenError::Locked(_)))
            .await
    }

    /// Returns the path of the file, symbolic links not followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Refuses a file that SQLite has not written.
    pub fn check_magic(&self) -> Result<(), OpenError> {
        check_magic(&self.path, &self.file)
    }

    /// Returns its length in bytes; none while that cannot be read.
    pub fn bytes(&self) -> Option<u64> {
        self.file.metadata().ok().map(|it| it.len())
    }

    /// Notes that SQLite has opened the WAL, which from now on is one file with the database.
    pub fn note_open_wal(&self) {
        if let Some(wal) = Identity::at(&self.wal) {
            self.open_wal.get_or_init(|| wal);
        }
    }

    /// Returns true while the files at the paths are those that are open. Otherwise what is written now is lost with the
    /// last handle.
    pub fn is_in_place(&self) -> bool {
        let wal_is = |wal: &Identity| Identity::at(&self.wal) == Some(*wal);
        Identity::at(&self.path) == Some(self.identity) && self.open_wal.get().is_none_or(wal_is)
    }

    /// Returns the kind of network file system that the file lies on; none for a local one.
    pub fn network_file_system(&self) -> Option<&'static str> {
        network_file_system(&self.path)
    }
}

impl Drop for DataFile {
    fn drop(&mut self) {
        locked().remove(&self.identity);
    }
}

/// Refuses a file that SQLite has not written. An empty one is good, and is a database without tables.
pub fn check_magic(path: &Path, file: &File) -> Result<(), OpenError> {
    let shown = || path.display().to_string();
    let mut begin = [0; MAGIC.len()];
    let read = match file.metadata() {
        Ok(metadata) if metadata.len() == 0 => return Ok(()),
        Ok(_) => file.read_exact_at(&mut begin, 0),
        Err(error) => Err(error),
    };
    match read {
        Ok(()) if begin == *MAGIC => Ok(()),
        Ok(()) => Err(OpenError::NoDatabase(shown())),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(OpenError::NoDatabase(shown()))
        }
        Err(error) => Err(OpenError::File(shown(), error)),
    }
}

/// Puts the names of a file's folder on the disk.
pub fn sync_folder_of(path: &Path) -> io::Result<()> {
    File::open(folder_of(path))?.sync_all()
}

/// Returns the folder of a file.
pub fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().filter(|it| !it.as_os_str().is_empty());
    folder.unwrap_or(Path::new("."))
}

/// Returns the files that this process has locked, for itself.
fn locked() -> MutexGuard<'static, BTreeSet<Identity>> {
    LOCKED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Opens a file, which is created when it is missing, for its owner alone. SQLite gives the files beside it the same rights.
fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(false);
    options.mode(0o600).open(path)
}

/// Returns a path with something after its last name.
pub fn suffixed(path: &Path, suffix: &str) -> PathBuf {
    let mut suffixed = path.as_os_str().to_owned();
    suffixed.push(suffix);
    PathBuf::from(suffixed)
}

/// Returns the kind of network file system that a file lies on; none for a local one.
#[cfg(target_os = "linux")]
fn network_file_system(path: &Path) -> Option<&'static str> {
    // The type is 32 bits wide, in a number whose sign differs between machines.
    let kind = rustix::fs::statfs(path).ok()?.f_type as u64 & 0xffff_ffff;
    let known = NETWORK_FILE_SYSTEMS
        .iter()
        .find(|(magic, _)| *magic == kind);
    known.map(|(_, name)| *name)
}

/// Returns none: which file systems are local is not known here.
#[cfg(not(target_os = "linux"))]
fn network_file_system(_: &Path) -> Option<&'static str> {
    None
}

/// Types of file systems whose locks and caches SQLite cannot rely on, as Linux numbers them.
#[cfg(target_os = "linux")]
const NETWORK_FILE_SYSTEMS: [(u64, &str); 9] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB"),
    (0x6573_5546, "FUSE"),
    (0x0102_1997, "9p"),
    (0x5346_414f, "AFS"),
    (0x00c3_6400, "Ceph"),
    (0x0bd0_0bd0, "Lustre"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_lock_whatever_its_path() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, hard, soft] = ["a.db", "b.db", "c.db"].map(|name| folder.path().join(name));
        let held = DataFile::lock(&file).expect("locked");
        std::fs::hard_link(&file, &hard).expect("a link");
        std::os::unix::fs::symlink(&file, &soft).expect("a link");
        let dotted = folder.path().join(".").join("a.db");
        for path in [&file, &hard, &soft, &dotted] {
            assert!(
                matches!(DataFile::lock(path), Err(OpenError::Locked(_))),
                "{path:?}"
            );
        }
        drop(held);
        drop(DataFile::lock(&soft).expect("it is free again"));
    }

    #[tokio::test]
    async fn a_lock_that_is_given_up_soon_is_waited_for() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("a.db");
        // As a process has it that was begun while this one had the file.
        let other = open(&file).expect("a file");
        other.try_lock().expect("free");
        let gives_up = async {
            tokio::time::sleep(BUSY_PAUSE / 2).await;
            drop(other);
        };
        let (locked, ()) = tokio::join!(DataFile::wait_and_lock(&file), gives_up);
        let held = locked.expect("locked");
        let refused = DataFile::wait_and_lock(&file).await;
        assert!(matches!(refused, Err(OpenError::Locked(_))));
        drop(held);
    }

    #[test]
    fn a_file_that_is_moved_or_replaced_is_not_in_place_until_it_is_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, aside] = ["a.db", "b.db"].map(|name| folder.path().join(name));
        let held = DataFile::lock(&file).expect("locked");
        std::fs::write(folder.path().join("a.db-wal"), b"").expect("written");
        held.note_open_wal();
        assert!(held.is_in_place());
        std::fs::rename(&file, &aside).expect("moved");
        assert!(!held.is_in_place());
        std::fs::write(&file, b"").expect("another");
        assert!(!held.is_in_place());
        std::fs::rename(&aside, &file).expect("moved back");
        assert!(held.is_in_place());
        std::fs::remove_file(folder.path().join("a.db-wal")).expect("removed");
        assert!(!held.is_in_place(), "the WAL is part of it");
    }
}
