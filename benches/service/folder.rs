//! The folder of the databases.

/// Folder on the disk that is measured, and not in memory.
pub const FOLDER: &str = env!("CARGO_TARGET_TMPDIR");
