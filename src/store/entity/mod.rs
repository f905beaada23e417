//! Entities: every table with its columns, and the conversion between records and rows.

pub mod booking_request;
pub mod change_event;
pub mod document;
pub mod history;
pub mod idempotency_key;
pub mod notification;
pub mod row_reader;
