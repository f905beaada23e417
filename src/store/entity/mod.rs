//! Entities: every table with all its columns, and the conversion between records and rows.
//!
//! A table's model is the only list of its columns. Records become models, and models records, by the names of the fields,
//! so that the compiler finds a column that one of them has forgotten.

pub mod booking_request;
pub mod change_event;
pub mod document;
pub mod history;
pub mod idempotency_key;
pub mod notification;
pub mod row_reader;

/// Declares a model that is read from the values of a row in their order. To look up each column by its name, as SeaORM
/// does, takes longer. The fields stand in the order of the entity's columns, which is derived from them.
macro_rules! hot_model {
    ($(#[$meta:meta])* pub struct Model { $($(#[$attribute:meta])* pub $field:ident: $type:ty,)+ }) => {
        $(#[$meta])*
        pub struct Model { $($(#[$attribute])* pub $field: $type,)+ }

        impl Model {
            /// Reads a model from the next values of a row, one for each column in their order.
            pub fn read(
                row_reader: &mut crate::store::entity::row_reader::RowReader,
            ) -> Result<Self, crate::store::error::Error> {
                Ok(Self { $($field: row_reader.take()?,)+ })
            }
        }
    };
}
use hot_model;

/// Implements `Debug` for a model without its content, which may be personal.
macro_rules! debug_without_content {
    ($model:ty) => {
        impl std::fmt::Debug for $model {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(module_path!(), "::", stringify!($model)))
            }
        }
    };
}
use debug_without_content;
