//! The database's connections: pools by role, time-outs, preflight, and where transactions begin and end.

pub mod connection;
pub mod preflight;
pub mod transaction;
