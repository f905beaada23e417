//! Errors of the store.

use std::error::Error as StdError;
use std::sync::Arc;

use sea_orm::sqlx::error::DatabaseError;
use sea_orm::{DbErr, RuntimeErr, SqlxPostgresError};

use crate::domain::Refusal;
use crate::store::skew::ClockFault;

/// The reason why an operation of the store did not succeed. Its text never holds personal data.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// The domain refuses it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The caller used the request id before, with other content.
    #[error("the request id was used before, with other content")]
    RequestIdReused,
    /// There were conflicts with other writers, again and again. Nothing was changed.
    #[error("too many conflicts with other writers")]
    Contention,
    /// The queue of writes is full. Nothing was changed.
    #[error("the queue of writes is full")]
    Overloaded,
    /// The clock by which it would be decided cannot be trusted now. Nothing was changed.
    #[error(transparent)]
    Clock(#[from] ClockFault),
    /// The database is unavailable. The outcome of a write is not known.
    #[error("database unavailable")]
    Unavailable(#[source] Cause),
    /// A bug, or a database that is not ours.
    #[error("internal error of the store")]
    Internal(#[source] Cause),
}

/// The cause of an error; shared, because a failed batch fails many calls. The text of an error of the database, or of
/// its driver, is reduced to parts that cannot quote a row.
#[derive(Clone)]
pub struct Cause(Arc<dyn StdError + Send + Sync>);

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0.downcast_ref::<DbErr>() {
            Some(error) => f.write_str(&without_values(error)),
            None => self.0.fmt(f),
        }
    }
}

impl std::fmt::Debug for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        std::fmt::Display::fmt(self, f)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source().filter(|_| !self.0.is::<DbErr>())
    }
}

/// The classes of SQLSTATE whose messages name connections, rights, tables and resources. Messages of other classes, as
/// of a value that is not of its type, quote values; so does every DETAIL.
const CLASSES_WITHOUT_VALUES: [&str; 11] = [
    "08", "25", "28", "3D", "40", "42", "53", "54", "55", "57", "58",
];

/// Returns the text of an error without the values that its own text may quote.
fn without_values(error: &DbErr) -> String {
    use sea_orm::sqlx::Error::{ColumnDecode, Database, Decode};
    if let Some(error) = sqlx_error(error) {
        return match error {
            Database(error) => describe(error.as_ref()),
            ColumnDecode { index, .. } => format!("{index}: not of the column's type"),
            Decode(_) => "a value that is not of its type".to_owned(),
            error => error.to_string(),
        };
    }
    match error {
        DbErr::Type(_) | DbErr::Json(_) | DbErr::TryIntoErr { .. } => {
            "a value that is not of its type".to_owned()
        }
        error => error.to_string(),
    }
}

/// Returns the code of a database's error, and its table, column and constraint; its message where that cannot quote a row.
fn describe(error: &dyn DatabaseError) -> String {
    let Some(error) = error.try_downcast_ref::<SqlxPostgresError>() else {
        // SQLite names tables and columns, and never quotes their values.
        let code = error.code().unwrap_or_default();
        return format!("{} (code {code})", error.message());
    };
    let has_no_values = CLASSES_WITHOUT_VALUES.contains(&error.code().get(..2).unwrap_or_default());
    let message = has_no_values.then_some(("", error.message()));
    let places = [
        ("SQLSTATE ", Some(error.code())),
        ("table ", error.table()),
        ("column ", error.column()),
        ("constraint ", error.constraint()),
    ];
    let places = places
        .into_iter()
        .filter_map(|(label, value)| Some((label, value?)));
    let parts = message.into_iter().chain(places);
    let parts: Vec<String> = parts
        .map(|(label, value)| format!("{label}{value}"))
        .collect();
    parts.join(", ")
}

impl Error {
    /// Returns the error of a state that is impossible unless there is a bug or the data was altered from outside.
    pub(super) fn internal(cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(Cause(Arc::from(cause.into())))
    }

    /// Returns the error of a row that an operation is about and that cannot be decoded. The log has named it.
    pub(super) fn undecodable() -> Self {
        Self::internal("a row that cannot be decoded")
    }

    /// Returns the error of a timeout. The outcome of a write is not known.
    pub fn timed_out() -> Self {
        Self::unavailable("timed out")
    }

    /// Returns the error of a database that is unavailable. The outcome of a write is not known.
    pub(super) fn unavailable(cause: &'static str) -> Self {
        Self::Unavailable(Cause(Arc::from(Box::from(cause))))
    }

    /// Returns the error of a file that has damaged pages.
    pub(super) fn damaged(damage: String) -> Self {
        Self::Unavailable(Cause(Arc::from(Box::from(damage))))
    }

    /// Returns true for an error that another attempt may not meet.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Contention | Self::Overloaded | Self::Clock(_) | Self::Unavailable(_) => true,
            Self::Refused(_) | Self::RequestIdReused | Self::Internal(_) => false,
        }
    }

    /// Returns true for a conflict with another writer: one that was found, or that the database has reported as a
    /// serialization failure, a deadlock, a lock timeout, or a unique key that another writer has just taken.
    pub(super) fn is_contention(&self) -> bool {
        let is_of_contention = |code: String| CONTENTION_CODES.contains(&code.as_str());
        matches!(self, Self::Contention) || self.database_code().is_some_and(is_of_contention)
    }

    /// Returns true for a lock of another writer that was waited for in vain.
    pub(super) fn is_lock_timeout(&self) -> bool {
        self.database_code()
            .is_some_and(|code| code == LOCK_NOT_AVAILABLE)
    }

    /// Returns true for an error of SQLite on a connection that only reads.
    pub(super) fn is_read_only(&self) -> bool {
        match self {
            Self::Unavailable(Cause(cause)) => {
                cause.downcast_ref::<DbErr>().is_some_and(is_read_only)
            }
            Self::Refused(_)
            | Self::RequestIdReused
            | Self::Contention
            | Self::Overloaded
            | Self::Clock(_)
            | Self::Internal(_) => false,
        }
    }

    /// Returns true for an error of Citus that refuses a statement because the rows that it would lock are of several shards.
    pub(super) fn is_of_parted_shards(&self) -> bool {
        self.database_code()
            .is_some_and(|code| code == NOT_SUPPORTED)
    }

    /// Returns the code with which the database has reported the error, if it did.
    fn database_code(&self) -> Option<String> {
        match self {
            Self::Unavailable(Cause(cause)) | Self::Internal(Cause(cause)) => {
                cause.downcast_ref::<DbErr>().and_then(database_code)
            }
            Self::Refused(_)
            | Self::RequestIdReused
            | Self::Contention
            | Self::Overloaded
            | Self::Clock(_) => None,
        }
    }
}

/// SQLSTATE of a feature that is not supported.
const NOT_SUPPORTED: &str = "0A000";
/// SQLSTATE of a lock timeout.
const LOCK_NOT_AVAILABLE: &str = "55P03";
/// SQLSTATE of a privilege that the user does not have.
const INSUFFICIENT_PRIVILEGE: &str = "42501";
/// SQLSTATEs of conflicts, and the codes of SQLite for a unique key that is taken.
const CONTENTION_CODES: [&str; 6] = [
    "40001",
    "40P01",
    LOCK_NOT_AVAILABLE,
    "23505",
    "1555",
    "2067",
];

/// Returns the database's message of the error.
fn database_message(error: &DbErr) -> String {
    database_error(error).map_or_else(|| error.to_string(), |it| it.message().to_owned())
}

/// Returns the database's code of the error, if it comes from the database.
fn database_code(error: &DbErr) -> Option<String> {
    Some(database_error(error)?.code()?.into_owned())
}

fn database_error(error: &DbErr) -> Option<&dyn DatabaseError> {
    sqlx_error(error)?.as_database_error()
}

fn sqlx_error(error: &DbErr) -> Option<&sea_orm::sqlx::Error> {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => Some(error),
        _ => None,
    }
}

impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        if is_transient(&error) {
            Self::Unavailable(Cause(Arc::new(error)))
        } else {
            Self::Internal(Cause(Arc::new(error)))
        }
    }
}

/// SQLSTATEs of a server that is a standby or has ended an idle transaction, and of conflicts.
const TRANSIENT_SQLSTATES: [&str; 5] = ["25006", "25P03", "40001", "40P01", LOCK_NOT_AVAILABLE];
/// Classes of SQLSTATE: the connection is lost, the server lets nobody in, its database is away, resources are exhausted,
/// an operator or a timeout has intervened, the server's machine is in trouble.
const TRANSIENT_SQLSTATE_CLASSES: [&str; 6] = ["08", "28", "3D", "53", "57", "58"];
/// Primary result codes of SQLite that are transient: BUSY, LOCKED, NOMEM, READONLY, IOERR, FULL, CANTOPEN,
/// PROTOCOL.
const TRANSIENT_SQLITE_CODES: [u32; 8] = [5, 6, 7, SQLITE_READONLY, 10, 13, 14, 15];
/// Primary result code of SQLite for a write over a connection that only reads.
const SQLITE_READONLY: u32 = 8;
/// Primary result codes of SQLite for pages that are damaged: CORRUPT, NOTADB.
const DAMAGE_SQLITE_CODES: [u32; 2] = [11, 26];
/// Extended result codes of SQLite for pages that cannot be read: IOERR_READ, IOERR_SHORT_READ, IOERR_DATA,
/// IOERR_CORRUPTFS.
const READ_SQLITE_CODES: [&str; 4] = ["266", "522", "8202", "8458"];
/// Primary result codes of SQLite for a disk that takes nothing: IOERR, where no page is unreadable, and FULL.
const DISK_SQLITE_CODES: [u32; 2] = [10, 13];
/// Length of a SQLSTATE. SQLite has numbers, which are shorter.
const SQLSTATE_LEN: usize = 5;

/// Returns true when a SQLSTATE or a code of SQLite means that the database is unavailable for the time being.
fn is_transient_code(code: &str) -> bool {
    if code.len() == SQLSTATE_LEN {
        let of_class = |class: &&str| code.starts_with(class);
        return TRANSIENT_SQLSTATES.contains(&code)
            || TRANSIENT_SQLSTATE_CLASSES.iter().any(of_class);
    }
    is_sqlite_code(code, &TRANSIENT_SQLITE_CODES)
}

/// Returns true when a code of SQLite is one of these primary result codes, or an extended one of theirs.
fn is_sqlite_code(code: &str, primary: &[u32]) -> bool {
    // The low byte of an extended result code is the primary one.
    code.len() < SQLSTATE_LEN
        && code
            .parse()
            .is_ok_and(|code: u32| primary.contains(&(code & 0xff)))
}

/// Returns the text of an error of SQLite that says that pages are damaged or cannot be read; none for any other.
pub fn damage(error: &DbErr) -> Option<String> {
    is_damage_code(&database_code(error)?).then(|| without_values(error))
}

/// Returns true when a code of SQLite means that pages are damaged or cannot be read. Any other error of a disk may be that
/// of one that is full.
fn is_damage_code(code: &str) -> bool {
    is_sqlite_code(code, &DAMAGE_SQLITE_CODES) || READ_SQLITE_CODES.contains(&code)
}

/// Returns true for an error of SQLite on a connection that only reads.
pub fn is_read_only(error: &DbErr) -> bool {
    database_code(error).is_some_and(|code| is_sqlite_code(&code, &[SQLITE_READONLY]))
}

/// Returns true when the error only means that the database is unavailable for the time being.
fn is_transient(error: &DbErr) -> bool {
    if let Some(code) = database_code(error) {
        return is_transient_code(&code);
    }
    match error {
        DbErr::Conn(_) | DbErr::ConnectionAcquire(_) => true,
        DbErr::Exec(RuntimeErr::SqlxError(error)) | DbErr::Query(RuntimeErr::SqlxError(error)) => {
            use sea_orm::sqlx::Error::{
                BeginFailed, Io, PoolClosed, PoolTimedOut, Protocol, Tls, WorkerCrashed,
            };
            matches!(
                **error,
                BeginFailed
                    | Io(_)
                    | Tls(_)
                    | Protocol(_)
                    | PoolTimedOut
                    | PoolClosed
                    | WorkerCrashed
            )
        }
        _ => false,
    }
}

/// The reason why the store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The address names no database that the store can use.
    #[error("the database address {0}")]
    Address(&'static str),
    /// The server could not be reached, or did not let us in.
    #[error("the database cannot be reached: {0}")]
    Unreachable(String),
    /// The server did not answer for so many seconds.
    #[error("the database cannot be reached: no answer within {0} seconds")]
    NoAnswer(u64),
    /// The server is a standby, or read-only by its settings.
    #[error(
        "the database takes no writes: it is a standby, or read-only by its settings; give the \
         address of the primary"
    )]
    ReadOnly,
    /// The user lacks a privilege.
    #[error("the database user lacks a privilege: {0}")]
    Denied(String),
    /// A table is locked by others.
    #[error("timed out waiting for a table lock: nothing was changed, run it again later")]
    InUse,
    /// Another process has the database file.
    #[error("another process uses the database file {0}; stop it, or choose another file")]
    Locked(String),
    /// The database does not accept a setting.
    #[error("the database does not accept {setting}: it answers {answer}")]
    Setting {
        /// Setting that was requested.
        setting: &'static str,
        /// Value that was read back.
        answer: String,
    },
    /// The database cannot distribute tables.
    #[error(
        "the database does not have the extension citus: create it, and add the nodes, as \
         docs/scaling.md says"
    )]
    NoCitus,
    /// The database lacks these migrations.
    #[error(
        "the database's schema is older than this version needs, it lacks {0}: run \
         `care-invitation migrate` with the same --database-url, or start with --migrate"
    )]
    SchemaOlder(String),
    /// The database has migrations that this version does not know.
    #[error("the database's schema is newer than this version, it has {0}: run a newer version")]
    SchemaNewer(String),
    /// There is no such file, and none must be created.
    #[error("there is no database file {0}")]
    NoFile(String),
    /// The file, or the file beside it that is locked, cannot be opened for writing.
    #[error(
        "the database file {0} cannot be opened for writing: {1}; the user of the service must be able to read and write it, and its folder"
    )]
    File(String, std::io::Error),
    /// The file is not one of SQLite.
    #[error("{0} is not a database of SQLite; it was left as it is")]
    NoDatabase(String),
    /// The file has tables, and none of them is ours.
    #[error("the database file {0} belongs to another program; it was left as it is")]
    Foreign(String),
    /// Pages of the file are damaged.
    #[error("the database file {0} is damaged; it was left as it is: {1}")]
    Damaged(String, String),
    /// The disk of the file takes nothing.
    #[error(
        "the database file cannot be opened: {0}; the disk may be full or failing: make room, or look at the system's log"
    )]
    Disk(String),
    /// The database reported an error.
    #[error("the database cannot be opened")]
    Database(#[source] Cause),
}

impl From<DbErr> for OpenError {
    fn from(error: DbErr) -> Self {
        match database_code(&error).as_deref() {
            Some(LOCK_NOT_AVAILABLE) => Self::InUse,
            Some(INSUFFICIENT_PRIVILEGE) => Self::Denied(database_message(&error)),
            Some(code) if is_sqlite_code(code, &DISK_SQLITE_CODES) && !is_damage_code(code) => {
                Self::Disk(without_values(&error))
            }
            _ => Self::Database(Cause(Arc::new(error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_an_unavailable_database_are_transient() {
        for (code, transient) in [
            ("5", true),      // SQLITE_BUSY
            ("261", true),    // SQLITE_BUSY_RECOVERY
            ("6", true),      // SQLITE_LOCKED
            ("8", true),      // SQLITE_READONLY
            ("1032", true),   // SQLITE_READONLY_DBMOVED
            ("10", true),     // SQLITE_IOERR
            ("778", true),    // SQLITE_IOERR_WRITE
            ("13", true),     // SQLITE_FULL
            ("14", true),     // SQLITE_CANTOPEN
            ("1", false),     // SQLITE_ERROR
            ("11", false),    // SQLITE_CORRUPT
            ("2067", false),  // SQLITE_CONSTRAINT_UNIQUE
            ("28P01", true),  // invalid_password
            ("3D000", true),  // invalid_catalog_name
            ("53100", true),  // disk_full
            ("55P03", true),  // lock_not_available
            ("25006", true),  // read_only_sql_transaction
            ("23505", false), // unique_violation
            ("22P02", false), // invalid_text_representation
            ("00010", false),
        ] {
            assert_eq!(is_transient_code(code), transient, "{code}");
        }
    }

    #[test]
    fn a_disk_that_is_full_is_no_damage() {
        for (code, damaged) in [
            ("11", true),    // SQLITE_CORRUPT
            ("267", true),   // SQLITE_CORRUPT_VTAB
            ("26", true),    // SQLITE_NOTADB
            ("266", true),   // SQLITE_IOERR_READ
            ("522", true),   // SQLITE_IOERR_SHORT_READ
            ("8202", true),  // SQLITE_IOERR_DATA
            ("8458", true),  // SQLITE_IOERR_CORRUPTFS
            ("10", false),   // SQLITE_IOERR
            ("778", false),  // SQLITE_IOERR_WRITE
            ("4874", false), // SQLITE_IOERR_SHMSIZE
            ("13", false),   // SQLITE_FULL
            ("14", false),   // SQLITE_CANTOPEN
        ] {
            assert_eq!(is_damage_code(code), damaged, "{code}");
        }
    }
}
