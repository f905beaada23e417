//! Reading a row value by value.

use sea_orm::{QueryResult, TryGetable};

use crate::store::error::Error;

/// Reader of the values of a row, one after the other: to look each up by name would take longer.
pub struct RowReader<'a> {
    row: &'a QueryResult,
    next: usize,
}

impl<'a> RowReader<'a> {
    /// Returns a reader at the first value of a row.
    pub fn new(row: &'a QueryResult) -> Self {
        Self { row, next: 0 }
    }

    /// Returns the next value without taking it; none if it is of another type.
    pub fn peek<T: TryGetable>(&self) -> Option<T> {
        self.row.try_get_by_index(self.next).ok()
    }

    /// Takes the next value.
    pub fn take<T: TryGetable>(&mut self) -> Result<T, Error> {
        self.next += 1;
        let value = self.row.try_get_by_index(self.next - 1);
        value.map_err(|_| Error::internal("a value that is not of the column's type"))
    }

    /// Adds the column to an error: that of the value that was taken last.
    pub fn locate(&self, error: Error) -> Error {
        let cause = match error {
            Error::Internal(cause) => cause.to_string(),
            error => error.to_string(),
        };
        let names = self.row.column_names();
        let column = self.next.checked_sub(1).and_then(|place| names.get(place));
        Error::internal(format!("{}: {cause}", column.map_or("", String::as_str)))
    }

    /// Skips so many values.
    pub fn skip(&mut self, count: usize) {
        self.next += count;
    }
}
