//! The floor: what the database itself does with the same rows, in the service's own schema, when
//! nothing else is in the way.

pub mod create;
pub mod deliver;

/// Over how many connections PostgreSQL is tried; the best counts.
pub const CONNECTIONS: [usize; 3] = [1, 2, 4];
