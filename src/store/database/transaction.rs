//! Where transactions begin and end.
//!
//! Once a COMMIT or a ROLLBACK has failed, nobody knows in the middle of what its connection is. SQLite, with no
//! room on the disk, has ended the transaction by itself, while the library counts it as open for ever: all that came
//! after would be savepoints in a transaction that is never committed. Such a connection is closed and never used again.

use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, TransactionOptions, TransactionTrait,
};
use tokio::time::Instant as Moment;

/// Connections over which transactions are begun.
#[derive(Clone)]
pub struct Pool {
    connection: DatabaseConnection,
    record: Record,
}

impl Pool {
    /// Joins connections with the record that they ask before they are used.
    pub fn new(connection: DatabaseConnection, record: Record) -> Self {
        Self { connection, record }
    }

    /// Gives up beginning transactions: the connections are for statements alone.
    pub fn into_connection(self) -> DatabaseConnection {
        self.connection
    }

    /// Begins a transaction.
    pub async fn begin(&self, options: TransactionOptions) -> Result<Transaction, DbErr> {
        let begun = self.connection.begin_with_options(options).await;
        Ok(Transaction {
            open: begun.inspect_err(|_| self.record.note_refused())?,
            record: self.record.clone(),
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
}

impl Transaction {
    /// Commits. When that fails, or the future is dropped before its end, the connection is not used again.
    pub async fn commit(self) -> Result<(), DbErr> {
        let Self { open, record } = self;
        let mut end = End::awaited(&record);
        open.commit().await?;
        end.is_known = true;
        record.note_committed();
        Ok(())
    }

    /// Rolls back; as with [`Self::commit`] when that fails.
    pub async fn rollback(self) -> Result<(), DbErr> {
        let Self { open, record } = self;
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

/// The end of a transaction, which has failed unless it is known.
struct End<'a> {
    record: &'a Record,
    is_known: bool,
}

impl<'a> End<'a> {
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

/// How transactions over a pool have gone. Clones are of the same record.
#[derive(Clone, Debug, Default)]
pub struct Record(Arc<Mutex<Times>>);

#[derive(Clone, Copy, Debug, Default)]
struct Times {
    /// The last COMMIT or ROLLBACK that failed.
    failed_end: Option<Moment>,
    /// The last of these, or BEGIN that was refused.
    failed: Option<Moment>,
    /// The last commit, unless something has failed since.
    committed: Option<Moment>,
}

impl Record {
    fn times(&self) -> MutexGuard<'_, Times> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether a connection that is this old may be used: no transaction has ended badly in its life.
    pub fn trusts(&self, age: Duration) -> bool {
        !is_within(self.times().failed_end, age)
    }

    /// Returns whether a transaction could not begin, or has ended badly, within this time.
    pub fn has_failed_within(&self, time: Duration) -> bool {
        is_within(self.times().failed, time)
    }

    /// Returns whether something was committed within this time, and nothing has failed since.
    pub fn has_committed_within(&self, time: Duration) -> bool {
        is_within(self.times().committed, time)
    }

    /// Notes that something was committed.
    pub fn note_committed(&self) {
        self.times().committed = Some(Moment::now());
    }

    fn note_refused(&self) {
        let mut times = self.times();
        times.failed = Some(Moment::now());
        times.committed = None;
    }

    fn note_failed_end(&self) {
        self.note_refused();
        let mut times = self.times();
        times.failed_end = times.failed;
    }
}

/// Returns whether a moment lies no further back than this.
fn is_within(moment: Option<Moment>, time: Duration) -> bool {
    moment.is_some_and(|moment| moment.elapsed() <= time)
}

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
        assert!(record.trusts(second), "nothing has ended badly");
    }
}
