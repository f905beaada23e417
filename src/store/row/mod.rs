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
