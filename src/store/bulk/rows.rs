//! Sets of rows handed to one statement.
//!
//! On PostgreSQL a set travels as an array for each column, so that the text of a statement is the
//! same however many rows there are. SQLite has no arrays: there it is a list of parameters for
//! each row, filled up with empty rows to one of a few sizes, so that their statements stay prepared.

use std::fmt::Write;

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

/// The most rows of a piece on SQLite; those of smaller ones are powers of two. Each piece is a
/// change of threads and back, which costs more than empty rows do. Larger pieces take too much room
/// as long as they stay prepared.
const CHUNK_ROWS_MAX: usize = 256;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// Text.
    Text,
    /// A UUID.
    Uuid,
    /// Bytes.
    Bytes,
    /// One of the others, or null.
    Optional(&'static Kind),
}

impl Kind {
    /// Its type on PostgreSQL, the widest of those that columns have.
    fn postgres_type(self) -> &'static str {
        match self {
            Self::Integer => "bigint",
            Self::Boolean => "boolean",
            Self::Text => "text",
            Self::Uuid => "uuid",
            Self::Bytes => "bytea",
            Self::Optional(kind) => kind.postgres_type(),
        }
    }

    /// Returns whether a column of this kind may hold the value.
    fn has_room_for(self, value: &Value) -> bool {
        matches!(self, Self::Optional(_)) || !is_null(value)
    }
}

/// A column of a table or of a set.
pub type Column = (&'static str, Kind);

/// A table, by what a set of its rows needs to be written.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The primary key.
    pub key: &'static [Column],
    /// The columns that an update writes.
    pub mutable: &'static [Column],
    /// The columns that are written once.
    pub fixed: &'static [Column],
}

/// Rows with the same columns, on their way to the database.
#[derive(Debug)]
pub struct Rows {
    columns: Vec<Column>,
    /// Row after row.
    values: Vec<Value>,
}

impl Rows {
    /// No rows yet.
    pub fn new(columns: Vec<Column>) -> Self {
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
        debug_assert!(cells.all(|((_, kind), value)| kind.has_room_for(value)));
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns how many rows there are.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns.len()
    }

    /// Carries out what `sql` says of the set, which it is given as a sub-select in brackets and
    /// names once. Counts the rows that were written.
    pub async fn execute(
        self,
        connection: &impl ConnectionTrait,
        sql: impl Fn(&str) -> String,
    ) -> Result<u64, DbErr> {
        let statements = self.statements(connection.get_database_backend(), sql);
        execute_all(connection, statements).await
    }

    /// As [`Rows::execute`], of what reads: the rows that it finds.
    pub async fn query(
        self,
        connection: &impl ConnectionTrait,
        sql: impl Fn(&str) -> String,
    ) -> Result<Vec<QueryResult>, DbErr> {
        let mut found = Vec::new();
        for statement in self.statements(connection.get_database_backend(), sql) {
            found.append(&mut connection.query_all_raw(statement).await?);
        }
        Ok(found)
    }

    /// Returns the statements that carry out what `sql` says of the set.
    pub fn statements(
        mut self,
        backend: DbBackend,
        sql: impl Fn(&str) -> String,
    ) -> Vec<Statement> {
        let mut statements = Vec::new();
        while !self.is_empty() {
            let (set, values) = self.take(backend, 1);
            statements.push(Statement::from_sql_and_values(backend, sql(&set), values));
        }
        statements
    }

    /// Takes as many rows as go into a statement: how they are written there, and the parameters,
    /// the first of which has this number where they have numbers. All rows where there are arrays.
    pub fn take(&mut self, backend: DbBackend, first: usize) -> (String, Vec<Value>) {
        match backend {
            DbBackend::Postgres => self.take_arrays(first),
            _ => self.take_chunk(),
        }
    }

    fn take_arrays(&mut self, first: usize) -> (String, Vec<Value>) {
        let text = self.unnest_sql(first);
        let mut columns = vec![Vec::new(); self.columns.len()];
        for (place, value) in std::mem::take(&mut self.values).into_iter().enumerate() {
            columns[place % self.columns.len()].push(value);
        }
        let columns = self.columns.iter().zip(columns);
        let arrays = columns.map(|((_, kind), values)| array(*kind, values));
        (text, arrays.collect())
    }

    /// Returns some rows as a list, filled up with empty ones; of empty ones alone when no rows are left.
    fn take_chunk(&mut self) -> (String, Vec<Value>) {
        let width = self.columns.len();
        let filled = self.len().min(CHUNK_ROWS_MAX);
        let rows = filled.next_power_of_two();
        let left = self.values.split_off(filled * width);
        let mut piece = std::mem::replace(&mut self.values, left);
        piece.resize(rows * width, PADDING);
        (values_list(&self.columns, rows), piece)
    }

    /// Returns the set on PostgreSQL, its columns being parameters.
    fn unnest_sql(&self, first: usize) -> String {
        let columns = self.columns.iter().zip(first..);
        let arrays: Vec<String> = columns
            .map(|((_, kind), number)| format!("${number}::{}[]", kind.postgres_type()))
            .collect();
        let names: Vec<&str> = self.columns.iter().map(|(name, _)| *name).collect();
        format!(
            "(SELECT * FROM unnest({}) AS t({}))",
            arrays.join(", "),
            names.join(", ")
        )
    }
}

/// Returns a column as an array. One that may hold nulls travels as PostgreSQL writes it, since [`Value`] has
/// no array with nulls in it. Nulls at its end are left out: `unnest` puts them back as far as the
/// longest of its arrays goes, which that of a key always is.
fn array(kind: Kind, mut values: Vec<Value>) -> Value {
    let kind = match kind {
        Kind::Integer => ArrayType::BigInt,
        Kind::Boolean => ArrayType::Bool,
        Kind::Text => ArrayType::String,
        Kind::Uuid => ArrayType::Uuid,
        Kind::Bytes => ArrayType::Bytes,
        Kind::Optional(_) => {
            let last = values.iter().rposition(|value| !is_null(value));
            let end = last.map_or(0, |last| last + 1);
            values.truncate(end);
            return Value::from(array_literal(&values));
        }
    };
    let values = values.into_iter().map(as_bigint).collect();
    Value::Array(kind, Some(Box::new(values)))
}

fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}

/// Returns a number as the widest of its kind.
fn as_bigint(value: Value) -> Value {
    match value {
        Value::SmallInt(number) => Value::BigInt(number.map(i64::from)),
        Value::Int(number) => Value::BigInt(number.map(i64::from)),
        other => other,
    }
}

fn array_literal(values: &[Value]) -> String {
    let mut array = String::from("{");
    for value in values {
        if array.len() > 1 {
            array.push(',');
        }
        push_element(&mut array, value);
    }
    array.push('}');
    array
}

/// What a row that fills a piece up is made of.
const PADDING: Value = Value::BigInt(None);

/// So many rows of these columns as parameters on SQLite. The first column of a row that is there is
/// never null.
fn values_list(columns: &[Column], rows: usize) -> String {
    let names: Vec<String> = columns
        .iter()
        .zip(1..)
        .map(|((name, _), number)| format!("column{number} AS {name}"))
        .collect();
    let row = format!(",({})", vec!["?"; columns.len()].join(","));
    format!(
        "(SELECT {} FROM (VALUES {}) WHERE column1 IS NOT NULL)",
        names.join(", "),
        &row.repeat(rows)[1..]
    )
}

fn push_element(array: &mut String, value: &Value) {
    let written = match value {
        Value::Bool(Some(value)) => write!(array, "{value}"),
        Value::SmallInt(Some(value)) => write!(array, "{value}"),
        Value::Int(Some(value)) => write!(array, "{value}"),
        Value::BigInt(Some(value)) => write!(array, "{value}"),
        Value::Uuid(Some(value)) => write!(array, "{}", value.simple()),
        Value::String(Some(value)) => {
            array.push('"');
            for character in value.chars() {
                if matches!(character, '"' | '\\') {
                    array.push('\\');
                }
                array.push(character);
            }
            array.push('"');
            Ok(())
        }
        Value::Bytes(Some(value)) => {
            array.push_str("\"\\\\x");
            let byte = |array: &mut String, byte| write!(array, "{byte:02x}");
            let written = value.iter().try_for_each(|it| byte(array, it));
            array.push('"');
            written
        }
        Value::Bool(None)
        | Value::SmallInt(None)
        | Value::Int(None)
        | Value::BigInt(None)
        | Value::Uuid(None)
        | Value::String(None)
        | Value::Bytes(None) => write!(array, "NULL"),
        other => unreachable!("no column holds {other:?}"),
    };
    written.expect("a string takes everything");
}

/// Carries statements out, and counts the rows that they have written.
pub async fn execute_all(
    connection: &impl ConnectionTrait,
    statements: Vec<Statement>,
) -> Result<u64, DbErr> {
    let mut written = 0;
    for statement in statements {
        written += connection.execute_raw(statement).await?.rows_affected();
    }
    Ok(written)
}

/// Asks about two sets in one statement, which `sql` makes of both and in which the first stands
/// before the second. One of them may be without rows.
pub async fn query_both(
    connection: &impl ConnectionTrait,
    mut first: Rows,
    mut second: Rows,
    sql: impl Fn(&str, &str) -> String,
) -> Result<Vec<QueryResult>, DbErr> {
    let backend = connection.get_database_backend();
    let mut found = Vec::new();
    while !first.is_empty() || !second.is_empty() {
        let (one, mut values) = first.take(backend, 1);
        let (other, more) = second.take(backend, values.len() + 1);
        values.extend(more);
        let statement = Statement::from_sql_and_values(backend, sql(&one, &other), values);
        found.append(&mut connection.query_all_raw(statement).await?);
    }
    Ok(found)
}

impl Table {
    /// Returns an empty set of new rows: each the key, the mutable and the fixed columns, in this order.
    pub fn new_rows(&self) -> Rows {
        Rows::new([self.key, self.mutable, self.fixed].concat())
    }

    /// Returns an empty set of rows of which `columns` change: each the key, these columns, and the version
    /// that the row is expected to have.
    pub fn changed_rows(&self, columns: &[Column]) -> Rows {
        let expected: &[Column] = &[("expected", Kind::Integer)];
        Rows::new([self.key, columns, expected].concat())
    }

    /// Inserts rows, of which no unique key may exist. What was inserted before one is met may stay.
    pub fn insert_sql(&self, backend: DbBackend, rows: &str) -> String {
        let columns = [self.key, self.mutable, self.fixed].concat();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        format!(
            "INSERT {}INTO {} ({}) SELECT * FROM {rows} AS r",
            or_fail(backend),
            self.name,
            names.join(", "),
        )
    }

    /// Updates `columns` of rows whose `version` is as expected; others are left alone, so that the
    /// count tells. When it fails, what was updated before may stay.
    pub fn update_sql(
        &self,
        backend: DbBackend,
        columns: &[Column],
        version: &str,
        rows: &str,
    ) -> String {
        let assignments: Vec<String> = columns
            .iter()
            .map(|(name, _)| format!("{name} = r.{name}"))
            .collect();
        let matches: Vec<String> = self
            .key
            .iter()
            .map(|(name, _)| format!("{}.{name} = r.{name}", self.name))
            .collect();
        format!(
            "UPDATE {}{table} SET {} FROM {rows} AS r WHERE {} AND {table}.{version} = r.expected",
            or_fail(backend),
            assignments.join(", "),
            matches.join(" AND "),
            table = self.name,
        )
    }
}

/// Spares SQLite to copy each page before a statement changes it, so that the statement alone could be
/// taken back.
fn or_fail(backend: DbBackend) -> &'static str {
    match backend {
        DbBackend::Sqlite => "OR FAIL ",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLUMNS: [Column; 5] = [
        ("a", Kind::Optional(&Kind::Text)),
        ("b", Kind::Optional(&Kind::Bytes)),
        ("c", Kind::Optional(&Kind::Integer)),
        ("d", Kind::Integer),
        ("e", Kind::Uuid),
    ];

    fn set(rows: usize) -> Rows {
        let mut set = Rows::new(COLUMNS.to_vec());
        for _ in 0..rows {
            set.push([
                r#"a,"\ö"#.into(),
                vec![7_u8, 255].into(),
                Value::BigInt(None),
                7_i16.into(),
                uuid::Uuid::nil().into(),
            ]);
        }
        set
    }

    #[test]
    fn columns_are_arrays_on_postgresql() {
        let mut set = set(1);
        let last = [None, None, Some(1)].map(Value::BigInt);
        set.push(last.into_iter().chain([8.into(), uuid::Uuid::nil().into()]));
        set.push(std::iter::repeat_n(PADDING, 3).chain([9.into(), uuid::Uuid::nil().into()]));
        let (_, arrays) = set.take(DbBackend::Postgres, 1);
        let array_literal = [r#"{"a,\"\\ö"}"#, r#"{"\\x07ff"}"#, "{NULL,1}"].map(Value::from);
        let numbers = [7_i64, 8, 9].map(Value::from).to_vec();
        let ids = vec![Value::from(uuid::Uuid::nil()); 3];
        let typed = [
            Value::Array(ArrayType::BigInt, Some(Box::new(numbers))),
            Value::Array(ArrayType::Uuid, Some(Box::new(ids))),
        ];
        assert_eq!(arrays, [&array_literal[..], &typed[..]].concat());
    }

    #[test]
    fn rows_are_pieces_of_a_few_sizes_on_sqlite() {
        for (rows, sizes) in [
            (0, vec![]),
            (1, vec![1]),
            (7, vec![8]),
            (600, vec![256, 256, 128]),
        ] {
            let pieces = set(rows).statements(DbBackend::Sqlite, str::to_owned);
            let parameters = |it: &Statement| it.values.as_ref().map_or(0, |it| it.0.len());
            let found: Vec<usize> = pieces.iter().map(|it| parameters(it) / 5).collect();
            assert_eq!(found, sizes);
            for piece in &pieces {
                assert_eq!(piece.sql.matches('?').count(), parameters(piece));
            }
        }
    }
}
