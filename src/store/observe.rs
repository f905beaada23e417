//! Observations of the store for operators: numbers that are asked for when somebody looks, over a connection that no call uses.

use std::collections::BTreeMap;
use std::fs;

use sea_orm::{DatabaseConnection, DbBackend};

use crate::domain::calendar::Instant;
use crate::domain::worklist::Worklist;
use crate::store::Store;
use crate::store::error::Error;
use crate::store::metrics::{READERS, SNAPSHOTS, StoreMetrics};
use crate::store::query::backlog::{Waiting, leased, waiting, waiting_protected};
use crate::store::query::worklist::count::totals;

/// The answer of the database about the notifications and requests in it.
#[derive(Clone, Debug)]
pub struct Contents {
    /// Notifications that are due and wait for a consumer, by channel.
    pub waiting: Vec<Waiting>,
    /// Number of them for patients with protected identity.
    pub waiting_protected: i64,
    /// Notifications that are leased and not authorized.
    pub leased: i64,
    /// Notifications that a consumer is authorized to hand over.
    pub dispatching: i64,
    /// Number of requests on each list, over all care units.
    pub worklists: BTreeMap<Worklist, i64>,
}

/// The connections and queues of this process.
#[derive(Clone, Debug)]
pub struct State {
    /// Pools of connections.
    pub pools: Vec<PoolState>,
    /// Operations that wait for a commit, by queue.
    pub queues: Vec<(&'static str, usize)>,
    /// Calls whose entries of the access log wait to be stored.
    pub access_log_waiting: usize,
    /// Seconds since the commits of other replicas were last looked at; none where there are none.
    pub change_feed_lag: Option<f64>,
    /// Bytes of the write-ahead log of SQLite; none on PostgreSQL.
    pub wal_bytes: Option<u64>,
}

/// The connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolState {
    /// Name.
    pub name: &'static str,
    /// Connections in use.
    pub busy: usize,
    /// Connections that are open and not in use.
    pub idle: usize,
    /// Maximum open connections.
    pub max: usize,
}

impl Store {
    /// Returns the numbers that the store keeps.
    pub fn metrics(&self) -> &StoreMetrics {
        &self.inner.metrics
    }

    /// Asks the database what is in it at `now`. May take long where there is much.
    ///
    /// # Errors
    ///
    /// Errors of the database.
    pub async fn contents(&self, now: Instant) -> Result<Contents, Error> {
        let observer = &self.inner.observer;
        let paused = self.settings().paused_units(now);
        let (leased, dispatching) = leased(observer, now).await?;
        Ok(Contents {
            waiting: waiting(observer, now, &paused).await?,
            waiting_protected: waiting_protected(observer, now, &paused).await?,
            leased,
            dispatching,
            worklists: totals(observer, now).await?,
        })
    }

    /// Returns what this process knows of its connections and queues.
    pub fn state(&self) -> State {
        let inner = &self.inner;
        let is_shared = inner.replica.is_none();
        let mut pools = vec![pool_state(READERS, &inner.readers)];
        if !is_shared {
            pools.push(pool_state(SNAPSHOTS, &inner.snapshots));
        }
        let queues = self.queues().ok();
        let followed = inner.counts.followed_at();
        State {
            pools,
            access_log_waiting: queues.as_ref().map_or(0, |it| it.access_log.waiting()),
            queues: queues.map_or_else(Vec::new, |queues| {
                let calls = ("calls", queues.calls.waiting());
                match is_shared {
                    true => vec![calls],
                    false => vec![calls, ("claims", queues.claims.waiting())],
                }
            }),
            change_feed_lag: followed.map(|at| at.elapsed().as_secs_f64()),
            wal_bytes: inner.file.as_ref().map(|file| {
                let mut path = file.path().as_os_str().to_owned();
                path.push("-wal");
                // It is not there before the first write.
                fs::metadata(path).map_or(0, |file| file.len())
            }),
        }
    }
}

/// Returns true when every connection of a pool is in use, so that the next read waits for one.
pub fn is_exhausted(connection: &DatabaseConnection) -> bool {
    let state = pool_state("", connection);
    state.max <= state.busy
}

/// Returns the connections of a pool by this name.
fn pool_state(name: &'static str, connection: &DatabaseConnection) -> PoolState {
    let (size, idle, max) = match connection.get_database_backend() {
        DbBackend::Postgres => {
            let pool = connection.get_postgres_connection_pool();
            (
                pool.size(),
                pool.num_idle(),
                pool.options().get_max_connections(),
            )
        }
        _ => {
            let pool = connection.get_sqlite_connection_pool();
            (
                pool.size(),
                pool.num_idle(),
                pool.options().get_max_connections(),
            )
        }
    };
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    PoolState {
        name,
        // The two are read one after the other.
        busy: size.saturating_sub(idle),
        idle,
        max: usize::try_from(max).unwrap_or(usize::MAX),
    }
}
