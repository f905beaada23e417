//! Connections to PostgreSQL: session settings, and checks of a connection before and after its use.

use std::time::Duration;

use sea_orm::sqlx::{self, Connection, Row};
use sea_orm::{ConnectOptions, Database};

use crate::store::database::pool_role::PoolRole;
use crate::store::database::spread::Spread;
use crate::store::database::transaction::{Pool, Record, note_open_transaction};
use crate::store::error::OpenError;

/// Time for which a call waits for a connection, or for the server to be available, before it fails.
const ACQUIRE_MAX: Duration = Duration::from_secs(1);
/// Idle time after which a connection is pinged before it is used. Those in use are not, since a batch whose connection
/// has died is tried again.
const PING_AFTER_IDLE: Duration = Duration::from_millis(500);
/// Time that a ping may take, within the time for which a call waits for a connection.
const PING_MAX: Duration = Duration::from_millis(300);
/// Time that the check of a released connection may take.
const RELEASE_MAX: Duration = Duration::from_secs(1);
/// Age at which a connection is closed once nobody uses it, so that all are at the present address sooner or later.
const LIFETIME_MAX: Duration = Duration::from_secs(600);
/// Timeout of statements.
const STATEMENT_MAX: &str = "10s";
/// Time for which a statement waits for row locks of others before the batch is tried again.
pub const LOCK_MAX: &str = "1s";
/// Time for which a transaction may be idle before the server ends it.
const IDLE_IN_TRANSACTION_MAX: &str = "10s";
/// Planner settings. Statements of the service go by keys; a plan that reads whole tables is cheaper while they are
/// small, and would be kept when they no longer are.
pub const PLANNER_SETTINGS: [(&str, &str); 5] = [
    ("enable_seqscan", "off"),
    ("enable_bitmapscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // A plan that cannot do without those has so high a cost that it would be compiled.
    ("jit", "off"),
];

/// Present time of the server's clock while a statement runs, in microseconds since 1970.
pub const DATABASE_NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Returns true for an address of PostgreSQL.
pub fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

/// Opens a pool for the service.
pub async fn connect_postgres(
    url: &str,
    connections: u32,
    role: PoolRole,
    spread: Spread,
    record: Record,
    address: &Record,
) -> Result<Pool, OpenError> {
    let mut options = postgres_options(url, connections, STATEMENT_MAX, role, spread);
    options.test_before_acquire(false);
    connect_postgres_by(options, role, record, address).await
}

/// Opens a pool with these options, with checks of a connection before and after its use. The pools of one `address` share
/// the record of when connections to it were last found to be of no use.
pub async fn connect_postgres_by(
    mut options: ConnectOptions,
    role: PoolRole,
    record: Record,
    address: &Record,
) -> Result<Pool, OpenError> {
    let checked = (record.clone(), address.clone());
    options.map_sqlx_postgres_pool_opts(move |options| {
        let (ends, servers) = checked.clone();
        let options = options.before_acquire(move |connection, metadata| {
            let is_trusted = ends.trusts(metadata.age) && servers.trusts(metadata.age);
            let needs_ping = metadata.idle_for >= PING_AFTER_IDLE;
            let servers = servers.clone();
            Box::pin(async move {
                if is_trusted && needs_ping {
                    let answer = tokio::time::timeout(PING_MAX, connection.ping()).await;
                    let answer = answer.unwrap_or(Err(sqlx::Error::PoolTimedOut));
                    // The others are as old: a firewall that has forgotten one has forgotten them all.
                    answer.inspect_err(|_| servers.distrust())?;
                }
                Ok(is_trusted)
            })
        });
        match role {
            // No transaction is ever begun over them.
            PoolRole::Statement => options,
            PoolRole::Snapshot | PoolRole::Write | PoolRole::Probe => {
                options.after_release(|connection, _| {
                    let check =
                        tokio::time::timeout(RELEASE_MAX, has_no_open_transaction(connection));
                    Box::pin(async { check.await.unwrap_or(Err(sqlx::Error::PoolTimedOut)) })
                })
            }
        }
    });
    Ok(Pool::new(Database::connect(options).await?, record))
}

/// Returns the options for connections of this role.
pub fn postgres_options(
    url: &str,
    connections: u32,
    statement_max: &'static str,
    role: PoolRole,
    spread: Spread,
) -> ConnectOptions {
    let mut options = ConnectOptions::new(url);
    options
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(ACQUIRE_MAX)
        .max_lifetime(LIFETIME_MAX)
        .sqlx_logging(false)
        .record_stmt_in_spans(false)
        .map_sqlx_postgres_opts(move |options| {
            let options = options.application_name("care-invitation").options([
                ("statement_timeout", statement_max),
                ("lock_timeout", LOCK_MAX),
                (
                    "idle_in_transaction_session_timeout",
                    IDLE_IN_TRANSACTION_MAX,
                ),
            ]);
            options
                .options(PLANNER_SETTINGS)
                .options(role.transaction_settings().iter().copied())
                .options(role.plan_settings(spread).iter().copied())
        });
    options
}

impl PoolRole {
    /// Returns the settings of its transactions, so that BEGIN needs no statement to set them, which would be one more
    /// round trip.
    fn transaction_settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Self::Statement | Self::Snapshot => &[
                ("default_transaction_isolation", "repeatable read"),
                ("default_transaction_read_only", "on"),
            ],
            Self::Write | Self::Probe => &[("default_transaction_isolation", "read committed")],
        }
    }

    /// Returns the settings by which its statements are planned.
    fn plan_settings(self, spread: Spread) -> &'static [(&'static str, &'static str)] {
        match (self, spread) {
            // The plan of a list is the same whatever its values are, and planning takes as long as execution.
            (Self::Statement, Spread::Whole) => &[("plan_cache_mode", "force_generic_plan")],
            // Values say which shard a statement goes to.
            (Self::Statement, Spread::Partitioned | Spread::Citus)
            | (Self::Snapshot | Self::Write, _)
            | (Self::Probe, Spread::Whole | Spread::Partitioned) => &[],
            // A node that does not answer is to be named before the statement times out.
            (Self::Probe, Spread::Citus) => &[("citus.node_connection_timeout", "1000")],
        }
    }
}

/// Returns true when a connection comes back without an open transaction. Otherwise it is closed, so that the work left
/// undone in it does not mix with the next transaction.
async fn has_no_open_transaction(connection: &mut sqlx::PgConnection) -> Result<bool, sqlx::Error> {
    // Within a transaction now() is the time of its beginning, outside both are the time of the statement, if it is
    // sent as one message and not prepared.
    let row = sqlx::raw_sql("SELECT now() = statement_timestamp()")
        .fetch_one(connection)
        .await?;
    let is_clean: bool = row.try_get(0)?;
    if !is_clean {
        note_open_transaction();
    }
    Ok(is_clean)
}
