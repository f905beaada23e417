//! The roles of connection pools.

/// The role of the connections of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolRole {
    /// Reads by statements without a transaction; on SQLite reads in transactions as well.
    Statement,
    /// Reads in transactions, each of which sees one snapshot.
    Snapshot,
    /// Writes; each statement sees the latest committed rows.
    Write,
    /// Probes, with the settings of writes.
    Probe,
}
