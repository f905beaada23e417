//! The begin and end of transactions.
//!
//! Once a COMMIT or a ROLLBACK has failed, the state of its connection is unknown. SQLite, with a full disk, has ended
//! the transaction by itself, while the library counts it as open for ever: everything after that would be savepoints in
//! a transaction that is never committed. Such a connection is closed and never used again. Neither is one that was opened while
//! the file or its WAL could not be written: SQLite opens them to read them then, and does no more when they can be written.

use std::ops::Deref;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr, TransactionOptions,
    TransactionTrait,
};
use tokio::time::Instant as Moment;

use crate::store::database::data_file::{DataFile, NOT_IN_PLACE};
use crate::store::error::{Error, is_read_only};

/// A pool of connections over which transactions are begun.
#[derive(Clone)]
pub struct Pool {
    connection: DatabaseConnection,
    record: Record,
    /// Data file of SQLite.
    file: Option<Arc<DataFile>>,
}

impl Pool {
    /// Joins connections with the record that is checked before one is used.
    pub fn new(connection: DatabaseConnection, record: Record) -> Self {
        Self {
            connection,
            record,
            file: None,
        }
    }

    /// Joins the pool with its file: transactions fail while that is no longer the one at its path.
    pub fn of_file(self, file: Arc<DataFile>) -> Self {
        Self {
            file: Some(file),
            ..self
        }
    }

    /// Returns the connections for statements alone, without transactions.
    pub fn into_connection(self) -> DatabaseConnection {
        self.connection
    }

    /// Begins a transaction.
    pub async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        // Before a connection is opened, which would be one to another file.
        let begun = match check_place(self.file.as_ref()) {
            Ok(()) => self.connection.begin_with_options(options).await,
            Err(error) => Err(error),
        };
        let noted = begun.inspect_err(|error| {
            self.record.note_refused();
            if is_read_only(error) {
                self.record.distrust();
            }
        });
        Ok(Transaction {
            open: noted?,
            record: self.record.clone(),
            file: self.file.clone(),
        })
    }
}

impl Deref for Pool {
    type Target = DatabaseConnection;

    fn deref(&self) -> &DatabaseConnection {
        &self.connection
    }
}

/// An open transaction; rolled back when it is dropped.
pub struct Transaction {
    open: DatabaseTransaction,
    record: Record,
    file: Option<Arc<DataFile>>,
}

impl Transaction {
    /// Commits the transaction. When that fails, or the future is dropped before it is done, the connection is not used again.
    pub async fn commit(self) -> Result<(), DbErr> {
        let Self { open, record, file } = self;
        let mut end = End::awaited(&record);
        open.commit().await?;
        end.is_known = true;
        // A file that was moved before may be gone with this process.
        check_place(file.as_ref()).inspect_err(|_| record.note_refused())?;
        record.note_committed();
        Ok(())
    }

    /// Rolls back after an error. A database in trouble counts as one that cannot be written, whatever the rollback says.
    pub async fn abandon(self, error: &Error) {
        if matches!(error, Error::Unavailable(_)) {
            self.record.note_refused();
        }
        if error.is_read_only() {
            self.record.distrust();
        }
        // A connection on which that fails is not used again.
        let _ = self.rollback().await;
    }

    /// Rolls back. When that fails, or the future is dropped before it is done, the connection is not used again.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let Self { open, record, .. } = self;
        let mut end = End::awaited(&record);
        open.rollback().await?;
        end.is_known = true;
        Ok(())
    }
}

impl Deref for Transaction {
    type Target = DatabaseTransaction;

    fn deref(&self) -> &DatabaseTransaction {
        &self.open
    }
}

/// Reports a database as unavailable whose file is no longer the one at its path.
fn check_place(file: Option<&Arc<DataFile>>) -> Result<(), DbErr> {
    match file.is_none_or(|it| it.is_in_place()) {
        true => Ok(()),
        false => Err(DbErr::Conn(RuntimeErr::Internal(NOT_IN_PLACE.to_owned()))),
    }
}

/// The end of a transaction, which has failed unless it is known.
struct End<'a> {
    record: &'a Record,
    is_known: bool,
}

impl<'a> End<'a> {
    /// Returns an end that has not come yet.
    fn awaited(record: &'a Record) -> Self {
        Self {
            record,
            is_known: false,
        }
    }
}

impl Drop for End<'_> {
    fn drop(&mut self) {
        if !self.is_known {
            self.record.note_failed_end();
        }
    }
}

/// The record of how transactions over a pool have ended. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Times>>);

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// Time of the last COMMIT or ROLLBACK that failed.
    failed_end: Option<Moment>,
    /// Time of the last COMMIT, ROLLBACK or BEGIN that failed.
    failed: Option<Moment>,
    /// Time of the last commit, unless something has failed since.
    committed: Option<Moment>,
}

impl Record {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns true when a connection of this age may be used: the end of no transaction has failed since it was opened.
    pub fn trusts(&self, age: Duration) -> bool {
        !is_within(self.times().failed_end, age)
    }

    /// Returns true when the begin or the end of a transaction has failed within this time.
    pub fn has_failed_within(&self, time: Duration) -> bool {
        is_within(self.times().failed, time)
    }

    /// Returns true when something was committed within this time, and nothing has failed since.
    pub fn has_committed_within(&self, time: Duration) -> bool {
        is_within(self.times().committed, time)
    }

    /// Records a commit.
    pub fn note_committed(&self) {
        self.times().committed = Some(Moment::now());
    }

    /// Records a BEGIN that failed.
    fn note_refused(&self) {
        let mut times = self.times();
        times.failed = Some(Moment::now());
        times.committed = None;
    }

    /// Records that no connection that was opened before is to be used again.
    pub fn distrust(&self) {
        self.note_failed_end();
    }

    /// Records a COMMIT or ROLLBACK that failed.
    fn note_failed_end(&self) {
        self.note_refused();
        let mut times = self.times();
        times.failed_end = times.failed;
    }
}

/// Returns true when a moment is at most this time ago.
fn is_within(moment: Option<Moment>, time: Duration) -> bool {
    moment.is_some_and(|moment| moment.elapsed() <= time)
}

/// Counts and logs a connection that comes back with an open transaction.
pub fn note_open_transaction() {
    let count = OPEN_TRANSACTIONS.fetch_add(1, Ordering::Relaxed) + 1;
    tracing::warn!(
        count,
        "connection closed: it came back with an open transaction"
    );
}

/// Number of connections that this process has closed for that reason.
static OPEN_TRANSACTIONS: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_was_there_when_an_end_failed_is_not_used_again() {
        let record = Record::default();
        let second = Duration::from_secs(1);
        assert!(record.trusts(second));
        drop(End::awaited(&record));
        assert!(!record.trusts(Duration::ZERO));
        assert!(!record.trusts(second));
        tokio::time::advance(2 * second).await;
        assert!(record.trusts(second), "it was opened since");
        assert!(!record.trusts(3 * second));
        End::awaited(&record).is_known = true;
        assert!(record.trusts(second));
    }

    #[tokio::test(start_paused = true)]
    async fn a_commit_counts_until_something_fails() {
        let record = Record::default();
        let second = Duration::from_secs(1);
        assert!(!record.has_committed_within(second));
        record.note_committed();
        assert!(record.has_committed_within(second));
        tokio::time::advance(2 * second).await;
        assert!(!record.has_committed_within(second));
        record.note_committed();
        assert!(!record.has_failed_within(second));
        record.note_refused();
        assert!(!record.has_committed_within(second));
        assert!(record.has_failed_within(second));
        assert!(record.trusts(second), "no end has failed");
    }
}
