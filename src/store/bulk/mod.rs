//! Many rows in one statement: as typed arrays on PostgreSQL, as padded lists of values on SQLite.

pub mod rows;
pub mod write;
