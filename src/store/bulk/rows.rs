//! Rows on their way to the database.

use sea_orm::sea_query::ArrayType;
use sea_orm::{ColumnTrait, EntityTrait, IdenStatic, ModelTrait, Value};

/// A column of rows.
#[derive(Clone, Debug)]
pub struct RowColumn {
    /// Name.
    pub name: &'static str,
    /// Type of its values.
    pub value_type: ArrayType,
    /// True when it may be null.
    pub is_nullable: bool,
}

impl RowColumn {
    /// Returns a column that is never null.
    pub fn new(name: &'static str, value_type: ArrayType) -> Self {
        Self {
            name,
            value_type,
            is_nullable: false,
        }
    }

    /// Returns a column of an entity.
    pub fn of<E: EntityTrait>(column: E::Column) -> Self {
        Self {
            name: column.as_str(),
            value_type: <E::Model as ModelTrait>::get_value_type(column),
            is_nullable: column.def().is_null(),
        }
    }
}

/// Rows with the same columns. The first column is never null: padding is recognised by it.
#[derive(Debug, Default)]
pub struct Rows {
    pub(super) columns: Vec<RowColumn>,
    /// Row after row.
    pub(super) values: Vec<Value>,
}

impl Rows {
    /// Returns no rows, with these columns.
    pub fn new(columns: Vec<RowColumn>) -> Self {
        debug_assert!(!columns[0].is_nullable, "padding has a null there");
        Self {
            columns,
            values: Vec::new(),
        }
    }

    /// Adds a row: a value for each column.
    pub fn push(&mut self, row: impl IntoIterator<Item = Value>) {
        let begin = self.values.len();
        self.values.extend(row);
        let row = &self.values[begin..];
        debug_assert_eq!(row.len(), self.columns.len(), "a whole row");
        let mut cells = self.columns.iter().zip(row);
        debug_assert!(cells.all(|(column, value)| column.is_nullable || !is_null(value)));
    }

    /// Returns true when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns.len().max(1)
    }

    /// Returns the names of the columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|column| column.name)
    }
}

/// Returns true for a null of any type.
pub(super) fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}
