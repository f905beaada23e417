//! Queries over several rows or tables, and the collation of their texts.

pub mod aggregate;
pub mod backlog;
pub mod care_unit_settings;
pub mod care_units;
pub mod change_stream;
pub mod due;
pub mod due_units;
pub mod lookup;
pub mod notification_page;
pub mod patient_request;
pub mod request_keys;
pub mod worklist;

use sea_orm::DbBackend;
use sea_orm::sea_query::Expr;

/// Returns a text that is compared byte by byte, as in Rust, whatever the collation of the database is.
pub fn in_byte_order(backend: DbBackend, text: Expr) -> Expr {
    match backend {
        DbBackend::Postgres => Expr::cust_with_expr("$1 COLLATE \"C\"", text),
        _ => text,
    }
}
