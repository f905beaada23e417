//! Many rows as the parameters of one statement.
//!
//! On PostgreSQL rows are sent as an array for each column, so that the text of a statement is the same however many
//! rows there are. SQLite has no arrays: there each row is a list of parameters, and the rows are padded to one of a few
//! sizes, so that the statements stay prepared.

use std::fmt::Write;

use sea_orm::sea_query::ArrayType;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

/// Maximum rows of a chunk on SQLite; smaller chunks have a power of two. Each chunk is a switch to another thread and
/// back, which costs more than padding does. Larger chunks take too much memory while they stay prepared.
const CHUNK_ROWS_MAX: usize = 256;

/// The type of a column.
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
    /// Returns its type on PostgreSQL, the widest of those that columns have.
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

    /// Returns true when a column of this kind may hold the value.
    fn accepts(self, value: &Value) -> bool {
        matches!(self, Self::Optional(_)) || !is_null(value)
    }
}

/// A column of a table or of rows.
pub type Column = (&'static str, Kind);

/// A table, as far as bulk writes need to know it.
#[derive(Debug)]
pub struct Table {
    /// Name.
    pub name: &'static str,
    /// Columns of the primary key.
    pub key: &'static [Column],
    /// Columns that an update writes.
    pub mutable: &'static [Column],
    /// Columns that are written once.
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
    /// Returns no rows, with these columns.
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
        debug_assert!(cells.all(|((_, kind), value)| kind.accepts(value)));
    }

    /// Returns true when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.values.len() / self.columns.len()
    }

    /// Executes the statement that `sql` returns for the rows, which it gets as a sub-select in parentheses and must use
    /// exactly once. Returns the number of rows that were written.
    pub async fn execute(
        self,
        connection: &impl ConnectionTrait,
        sql: impl Fn(&str) -> String,
    ) -> Result<u64, DbErr> {
        let statements = self.statements(connection.get_database_backend(), sql);
        execute_all(connection, statements).await
    }

    /// Queries by the statement that `sql` returns for the rows, like [`Rows::execute`], and returns the result.
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

    /// Returns the statements that `sql` returns for the rows, one for each chunk.
    pub fn statements(
        mut self,
        backend: DbBackend,
        sql: impl Fn(&str) -> String,
    ) -> Vec<Statement> {
        let mut statements = Vec::new();
        while !self.is_empty() {
            let (rows, values) = self.take(backend, 1);
            statements.push(Statement::from_sql_and_values(backend, sql(&rows), values));
        }
        statements
    }

    /// Takes as many rows as go into one statement: all of them on PostgreSQL, a chunk on SQLite. Returns their text there
    /// and their parameters, the first of which has the number `first` on PostgreSQL.
    pub fn take(&mut self, backend: DbBackend, first: usize) -> (String, Vec<Value>) {
        match backend {
            DbBackend::Postgres => self.take_arrays(first),
            _ => self.take_chunk(),
        }
    }

    /// Takes all rows as one array for each column.
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

    /// Takes a chunk of rows as a padded list of values, which is padding alone when no rows are left.
    fn take_chunk(&mut self) -> (String, Vec<Value>) {
        let width = self.columns.len();
        let filled = self.len().min(CHUNK_ROWS_MAX);
        let rows = filled.next_power_of_two();
        let left = self.values.split_off(filled * width);
        let mut chunk = std::mem::replace(&mut self.values, left);
        chunk.resize(rows * width, PADDING);
        (values_list(&self.columns, rows), chunk)
    }

    /// Returns the sub-select of the rows on PostgreSQL, with a parameter for each column.
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

/// Returns a column as an array. One that may hold nulls is sent as an array literal of PostgreSQL, since [`Value`] has no
/// array with nulls in it. Nulls at its end are omitted: `unnest` adds them up to the length of its longest array, and the
/// arrays of the key have no nulls.
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

/// Returns true for a null of any type.
fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}

/// Returns a number as a bigint, and other values as they are.
fn as_bigint(value: Value) -> Value {
    match value {
        Value::SmallInt(number) => Value::BigInt(number.map(i64::from)),
        Value::Int(number) => Value::BigInt(number.map(i64::from)),
        other => other,
    }
}

/// Returns values as an array literal of PostgreSQL.
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

/// Value of all columns of a padding row.
const PADDING: Value = Value::BigInt(None);

/// Returns the sub-select of so many rows of these columns on SQLite, with a parameter for each value. Rows whose first
/// column is null are padding; that of a real row is never null.
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

/// Appends a value to an array literal.
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

/// Executes statements, and returns the number of rows that they have written.
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

/// Queries with two groups of rows in one statement, which `sql` returns for both and in which the first must come before
/// the second. One of them may be empty.
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
    /// Returns empty rows for an insert, with the key, the mutable and the fixed columns, in this order.
    pub fn new_rows(&self) -> Rows {
        Rows::new([self.key, self.mutable, self.fixed].concat())
    }

    /// Returns empty rows for an update of `columns`, with the key, these columns, and the version that the row is expected
    /// to have.
    pub fn changed_rows(&self, columns: &[Column]) -> Rows {
        let expected: &[Column] = &[("expected", Kind::Integer)];
        Rows::new([self.key, columns, expected].concat())
    }

    /// Returns the statement that inserts rows. It fails when a unique key exists; on SQLite the rows before that one then
    /// stay until the transaction is rolled back.
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

    /// Returns the statement that updates `columns` of the rows whose `version` is the expected one. It skips the others,
    /// so that the number of rows written shows a conflict. When it fails on SQLite, the rows before stay until the
    /// transaction is rolled back.
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

/// Returns the conflict clause that spares SQLite the statement journal, into which it copies each page before a statement
/// changes it to be able to undo that statement alone.
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

    fn sample(count: usize) -> Rows {
        let mut rows = Rows::new(COLUMNS.to_vec());
        for _ in 0..count {
            rows.push([
                r#"a,"\ö"#.into(),
                vec![7_u8, 255].into(),
                Value::BigInt(None),
                7_i16.into(),
                uuid::Uuid::nil().into(),
            ]);
        }
        rows
    }

    #[test]
    fn columns_are_arrays_on_postgresql() {
        let mut rows = sample(1);
        let last = [None, None, Some(1)].map(Value::BigInt);
        rows.push(last.into_iter().chain([8.into(), uuid::Uuid::nil().into()]));
        rows.push(std::iter::repeat_n(PADDING, 3).chain([9.into(), uuid::Uuid::nil().into()]));
        let (_, arrays) = rows.take(DbBackend::Postgres, 1);
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
    fn rows_are_chunks_of_a_few_sizes_on_sqlite() {
        for (rows, sizes) in [
            (0, vec![]),
            (1, vec![1]),
            (7, vec![8]),
            (600, vec![256, 256, 128]),
        ] {
            let chunks = sample(rows).statements(DbBackend::Sqlite, str::to_owned);
            let parameters = |it: &Statement| it.values.as_ref().map_or(0, |it| it.0.len());
            let found: Vec<usize> = chunks.iter().map(|it| parameters(it) / 5).collect();
            assert_eq!(found, sizes);
            for chunk in &chunks {
                assert_eq!(chunk.sql.matches('?').count(), parameters(chunk));
            }
        }
    }
}
