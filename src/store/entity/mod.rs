//! Entities: every table with all its columns, and the conversion between records and rows.
//!
//! A table's model is the only list of its columns. Records become models, and models records, by the names of the fields,
//! so that none can stand in another's place. Neither prints
//! its content: an identity number may be among it.

pub mod access_log;
pub mod access_log_identity;
pub mod access_log_patient;
pub mod booking_request;
pub mod care_unit_settings;
pub mod change_event;
pub mod document;
pub mod history;
pub mod idempotency_key;
pub mod lost_interval;
pub mod notification;
pub mod row_reader;
pub mod schedule;

/// Declares a model that is read from the values of a row in their order. To look up each column by its name, as SeaORM
/// does, takes longer. The fields stand in the order of the entity's columns, which is derived from them. Two groups are
/// written but not read, and left empty: those under `owner`, the bucket and the key of the row that this one belongs to and
/// is read with, and those under `derived`, which follow from the others and serve queries alone.
macro_rules! positional_model {
    (
        $(#[$meta:meta])*
        pub struct Model
        $(owner { $($(#[$owner_attribute:meta])* pub $owner:ident: $owner_type:ty,)+ })?
        { $($(#[$attribute:meta])* pub $field:ident: $type:ty,)+ }
        $(derived { $($(#[$derived_attribute:meta])* pub $derived:ident: $derived_type:ty,)+ })?
    ) => {
        $(#[$meta])*
        pub struct Model {
            $($($(#[$owner_attribute])* pub $owner: $owner_type,)+)?
            $($(#[$attribute])* pub $field: $type,)+
            $($($(#[$derived_attribute])* pub $derived: $derived_type,)+)?
        }

        impl Model {
            /// Number of columns that are read.
            pub const READ_COUNT: usize = [$(stringify!($field),)+].len();

            /// Number of the columns before those that are read.
            pub const OWNER_COUNT: usize = {
                let owner: &[&str] = &[$($(stringify!($owner),)+)?];
                owner.len()
            };

            /// Returns the columns that are read.
            pub fn read_columns() -> impl Iterator<Item = Column> {
                <Column as sea_orm::Iterable>::iter().skip(Self::OWNER_COUNT).take(Self::READ_COUNT)
            }

            /// Reads a model from the next values of a row, one for each column that is read, in their order.
            pub fn read(
                row_reader: &mut crate::store::entity::row_reader::RowReader,
            ) -> Result<Self, crate::store::error::Error> {
                Ok(Self {
                    $($($owner: Default::default(),)+)?
                    $($field: row_reader.take()?,)+
                    $($($derived: Default::default(),)+)?
                })
            }
        }
    };
}
use positional_model;

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
