//! Opening a database: pools by role, and timeouts.

use std::sync::Arc;
use std::time::Duration;

use sea_orm::{DatabaseConnection, DbBackend, SqliteTransactionMode, TransactionOptions};

use crate::store::database::data_file::DataFile;
use crate::store::database::pool_role::PoolRole;
use crate::store::database::postgres::{
    connect_postgres, connect_postgres_by, is_postgres, postgres_options,
};
use crate::store::database::preflight::preflight;
use crate::store::database::spread::Spread;
use crate::store::database::sqlite::{Acceptance, check_sqlite, connect_sqlite, lock_and_inspect};
use crate::store::database::transaction::{Pool, Record};
use crate::store::error::OpenError;

/// Connections to SQLite that read.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL that read by one statement: more than those that write, since the server's processes share
/// its cores evenly, and a user who looks at a list must not wait until the night's notifications are sent. More of
/// them would keep each other waiting.
const POSTGRES_READERS: u32 = 4;
/// Connections to PostgreSQL that read by several statements.
const POSTGRES_SNAPSHOTS: u32 = 2;
/// Batches of calls that are in progress at once on PostgreSQL.
const WRITERS: u32 = 2;
/// Timeouts on PostgreSQL, which may be unavailable. A file is always available, if slow.
pub const POSTGRES_TIMEOUTS: Timeouts = Timeouts {
    caller: Duration::from_millis(1_800),
    work: Duration::from_secs(10),
    commit: Duration::from_secs(60),
    attempts_max: 4,
};
/// Timeouts on SQLite: as long as a call may take at all.
const SQLITE_TIMEOUTS: Timeouts = Timeouts {
    caller: Duration::from_secs(60),
    work: Duration::from_secs(60),
    commit: Duration::from_secs(60),
    attempts_max: 2,
};
/// Timeouts of work on the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Time that a caller waits before it is told that the outcome is not known.
    pub caller: Duration,
    /// Time that a batch or a read may take before its connection is closed, as when the network drops everything.
    pub work: Duration,
    /// Time to wait for a commit that was sent: it may have been executed.
    pub commit: Duration,
    /// Maximum attempts at a batch for which the database was unavailable; trouble with a file is seldom over in a
    /// moment.
    pub attempts_max: u32,
}

/// The connections to an open database.
pub struct Connections {
    /// Connections for reads by one statement, without a transaction.
    pub readers: DatabaseConnection,
    /// Pool for reads by several statements in a transaction.
    pub snapshots: Pool,
    /// Connection for probes, however busy the others are.
    pub probe: DatabaseConnection,
    /// Connection for probes of the nodes of Citus, which may take longer; none where there is one server.
    pub nodes: Option<DatabaseConnection>,
    /// Connection that looks for damaged pages of a SQLite file.
    pub checker: Option<DatabaseConnection>,
    /// Connection for WAL checkpoints and cleanup, which may take long.
    pub maintenance: DatabaseConnection,
    /// Connection for what operators ask, which may take long and keeps no call waiting.
    pub observer: DatabaseConnection,
    /// Pool for calls.
    pub writers: Pool,
    /// Record of the transactions of `writers`.
    pub writes: Record,
    /// Record of when connections to the address were last found to be of no use.
    pub address: Record,
    /// Pool for claims; none where one committer does everything.
    pub claimers: Option<Pool>,
    /// Workers of the committer of calls.
    pub workers: Workers,
    /// Timeouts of the database.
    pub timeouts: Timeouts,
    /// Place where the rows lie.
    pub spread: Spread,
    /// Data file of SQLite, locked while the database is open.
    pub file: Option<Arc<DataFile>>,
}

/// Workers of a committer.
pub enum Workers {
    /// Number of workers, each with a transaction of its own, since others write too.
    Concurrent(u32),
    /// One worker, which resolves the next batch over this connection while the one before is being written.
    Pipelined(DatabaseConnection),
}

/// A single connection to a database, for work that the operator starts.
pub struct AdminConnection {
    /// Connection for everything, without a limit on the time of statements.
    pub connection: Pool,
    /// Place where the rows lie.
    pub spread: Spread,
    /// Data file of SQLite, locked while the database is open.
    pub file: Option<Arc<DataFile>>,
}

/// Opens the database that `url` names, over one connection; a SQLite file whose migrations are accepted.
pub async fn connect_admin(url: &str, accepts: Acceptance) -> Result<AdminConnection, OpenError> {
    if is_postgres(url) {
        let spread = preflight(url).await?.spread;
        let record = Record::default();
        let options = postgres_options(url, 1, "0", PoolRole::Write, spread);
        return Ok(AdminConnection {
            connection: connect_postgres_by(options, PoolRole::Write, record, &Record::default())
                .await?,
            spread,
            file: None,
        });
    }
    let file = lock_and_inspect(url, accepts).await?;
    let connection = connect_sqlite(url, 1, PoolRole::Write, &file, Record::default()).await?;
    check_sqlite(&connection).await?;
    Ok(AdminConnection {
        connection,
        spread: Spread::Whole,
        file: Some(file),
    })
}

/// Opens the database that `url` names; a SQLite file whose migrations are accepted.
pub async fn connect(url: &str, accepts: Acceptance) -> Result<Connections, OpenError> {
    if is_postgres(url) {
        let settings = preflight(url).await?;
        if settings.logs_parameters {
            tracing::warn!(
                "the database logs statement parameters, identity numbers too: set \
                 log_parameter_max_length and log_parameter_max_length_on_error to 0"
            );
        }
        let writes = Record::default();
        let spread = settings.spread;
        let address = Record::default();
        let connect = async |connections, role| {
            let record = Record::default();
            connect_postgres(url, connections, role, spread, record, &address).await
        };
        let writers = connect_postgres(
            url,
            WRITERS,
            PoolRole::Write,
            spread,
            writes.clone(),
            &address,
        );
        let maintenance = connect(1, PoolRole::Write).await?.into_connection();
        return Ok(Connections {
            readers: connect(POSTGRES_READERS, PoolRole::Statement)
                .await?
                .into_connection(),
            snapshots: connect(POSTGRES_SNAPSHOTS, PoolRole::Snapshot).await?,
            probe: connect(1, PoolRole::Write).await?.into_connection(),
            nodes: match spread {
                Spread::Citus => Some(connect(1, PoolRole::Probe).await?.into_connection()),
                Spread::Whole | Spread::Partitioned => None,
            },
            checker: None,
            observer: maintenance.clone(),
            maintenance,
            writers: writers.await?,
            writes,
            address: address.clone(),
            claimers: Some(connect(1, PoolRole::Write).await?),
            workers: Workers::Concurrent(WRITERS),
            timeouts: POSTGRES_TIMEOUTS,
            spread,
            file: None,
        });
    }
    let file = lock_and_inspect(url, accepts).await?;
    let writes = Record::default();
    let writers = connect_sqlite(url, 1, PoolRole::Write, &file, writes.clone()).await?;
    check_sqlite(&writers).await?;
    let connect = async |connections, role| {
        connect_sqlite(url, connections, role, &file, Record::default()).await
    };
    // These write too.
    let connect_writing = async |role| connect_sqlite(url, 1, role, &file, writes.clone()).await;
    let readers = connect(SQLITE_READERS, PoolRole::Statement).await?;
    Ok(Connections {
        readers: readers.clone().into_connection(),
        snapshots: readers,
        probe: connect_writing(PoolRole::Probe).await?.into_connection(),
        nodes: None,
        checker: Some(connect(1, PoolRole::Statement).await?.into_connection()),
        maintenance: connect_writing(PoolRole::Statement)
            .await?
            .into_connection(),
        observer: connect(1, PoolRole::Statement).await?.into_connection(),
        writers,
        writes,
        address: Record::default(),
        claimers: None,
        workers: Workers::Pipelined(connect(1, PoolRole::Statement).await?.into_connection()),
        timeouts: SQLITE_TIMEOUTS,
        spread: Spread::Whole,
        file: Some(file),
    })
}

/// Returns the options with which a transaction that writes begins. On PostgreSQL the connection's settings apply.
pub fn write_options(backend: DbBackend) -> TransactionOptions {
    TransactionOptions {
        sqlite_transaction_mode: match backend {
            DbBackend::Sqlite => Some(SqliteTransactionMode::Immediate),
            _ => None,
        },
        ..TransactionOptions::default()
    }
}

/// Returns the name that OpenTelemetry has for a database.
pub fn system_name(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Postgres => "postgresql",
        _ => "sqlite",
    }
}

/// Row locks that a statement takes on the rows that it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowLock {
    /// No locks.
    None,
    /// Rows are locked until the transaction ends; rows that others have locked are skipped.
    SkipLocked,
}

impl RowLock {
    /// Returns true when rows are locked: never on SQLite, which has one writer.
    pub fn locks_rows(self, backend: DbBackend) -> bool {
        backend == DbBackend::Postgres && self == Self::SkipLocked
    }
}
