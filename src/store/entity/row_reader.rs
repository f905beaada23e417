//! Reading a row value by value.

use sea_orm::{IdenStatic, QueryResult, TryGetable};

use crate::store::error::Error;

/// Reader of the values of a row, one after the other.
pub struct RowReader<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> RowReader<'a> {
    /// Returns a reader at the first value of a row.
    pub fn new(row: &'a QueryResult) -> Self {
        Self { row, next: 0 }
    }

    /// Returns the value so many places ahead without taking it; none if it is null or of another type.
    pub fn peek<T: TryGetable>(&self, ahead: usize) -> Option<T> {
        let value = self.row.try_get_by_index::<Option<T>>(self.next + ahead);
        value.ok().flatten()
    }

    /// Returns true when the value so many places ahead is null, and false when it is of another type.
    pub fn is_null<T: TryGetable>(&self, ahead: usize) -> bool {
        let value = self.row.try_get_by_index::<Option<T>>(self.next + ahead);
        matches!(value, Ok(None))
    }

    /// Takes the next value.
    pub fn take<T: TryGetable>(&mut self) -> Result<T, Error> {
        let place = self.next;
        self.next += 1;
        self.row.try_get_by_index(place).map_err(|_| {
            let names = self.row.column_names();
            let name = names.get(place).map_or("", String::as_str);
            Error::internal(format!("{name}: a value that is not of the column's type"))
        })
    }

    /// Skips so many values.
    pub fn skip(&mut self, count: usize) {
        self.next += count;
    }
}

/// A result of decoding a stored value.
pub trait Decoded {
    /// Adds to an error the column that has the value.
    fn of_column(self, column: impl IdenStatic) -> Self;
}

impl<T> Decoded for Result<T, Error> {
    fn of_column(self, column: impl IdenStatic) -> Self {
        self.map_err(|error| {
            let cause = match error {
                Error::Internal(cause) => cause.to_string(),
                error => error.to_string(),
            };
            Error::internal(format!("{}: {cause}", column.as_str()))
        })
    }
}
