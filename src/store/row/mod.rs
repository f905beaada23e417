//! Rows: the tables, how records become rows and rows records, and the queries over them.

pub mod announcement;
pub mod booking_request;
pub mod call;
mod document;
pub mod history;
pub mod lookup;
pub mod notification;
pub mod record;
pub mod set;
pub mod worklist;
pub mod write;

use sea_orm::DbBackend;
use sea_orm::sea_query::Expr;

/// A text in the order that Rust has too, whatever that of the database is.
fn by_bytes(backend: DbBackend, text: Expr) -> Expr {
    match backend {
        DbBackend::Postgres => Expr::cust_with_expr("$1 COLLATE \"C\"", text),
        _ => text,
    }
}
