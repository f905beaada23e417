//! Connections to the database: pools by role, timeouts, preflight, probes, and the begin and end of transactions.

pub mod connection;
pub mod data_file;
pub mod nodes;
pub mod page_check;
pub mod postgres;
pub mod preflight;
pub mod probe;
pub mod spread;
pub mod sqlite;
pub mod transaction;

mod pool_role;
