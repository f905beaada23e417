//! Sets of rows handed to a statement as one parameter.
//!
//! A set travels as a JSON array of arrays, so that the text of a statement is the same however
//! many rows there are and its plan is kept; the database takes it apart as a table.

use sea_orm::{DbBackend, Statement, Value};

/// How a column travels and is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// True or false.
    Boolean,
    /// Text.
    Text,
    /// A UUID: 16 bytes.
    Uuid,
    /// Bytes: hexadecimal on the way.
    Bytes,
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
    /// The column in which PostgreSQL notes by its own clock when a row was last written, for other
    /// replicas to find.
    pub touched: Option<&'static str>,
}

/// `columns` of the set that the statement's parameter `$1` holds, as a sub-select.
pub fn rows(backend: DbBackend, columns: &[Column]) -> String {
    let fields: Vec<String> = columns
        .iter()
        .enumerate()
        .map(|(place, (name, kind))| format!("{} AS {name}", field(backend, place, *kind)))
        .collect();
    let source = match backend {
        DbBackend::Postgres => "json_array_elements($1::json) AS t(value)",
        _ => "json_each($1)",
    };
    format!("(SELECT {} FROM {source})", fields.join(", "))
}

fn field(backend: DbBackend, place: usize, kind: Kind) -> String {
    match (backend, kind) {
        (DbBackend::Postgres, Kind::Integer) => format!("(value->>{place})::bigint"),
        (DbBackend::Postgres, Kind::Boolean) => format!("(value->>{place})::boolean"),
        (DbBackend::Postgres, Kind::Text) => format!("value->>{place}"),
        (DbBackend::Postgres, Kind::Uuid) => format!("(value->>{place})::uuid"),
        (DbBackend::Postgres, Kind::Bytes) => format!("decode(value->>{place}, 'hex')"),
        (_, Kind::Integer | Kind::Boolean | Kind::Text) => format!("value->>{place}"),
        (_, Kind::Uuid | Kind::Bytes) => format!("unhex(value->>{place})"),
    }
}

/// A statement over the set `values`, with further parameters from `$2` on.
pub fn statement(
    backend: DbBackend,
    sql: String,
    values: &[serde_json::Value],
    further: impl IntoIterator<Item = Value>,
) -> Statement {
    let set = serde_json::to_string(values).expect("JSON values are JSON");
    let values = std::iter::once(Value::from(set)).chain(further);
    Statement::from_sql_and_values(backend, sql, values)
}

impl Table {
    /// Inserts a set of rows, each the key, the mutable and the fixed columns in this order; rows
    /// whose key exists are left out, so that the count tells.
    pub fn insert_sql(&self, backend: DbBackend) -> String {
        let columns = [self.key, self.mutable, self.fixed].concat();
        let names: Vec<&str> = columns.iter().map(|(name, _)| *name).collect();
        format!(
            "INSERT INTO {} ({}) SELECT * FROM {} AS r WHERE TRUE ON CONFLICT DO NOTHING",
            self.name,
            names.join(", "),
            rows(backend, &columns),
        )
    }

    /// Updates a set of rows, each the key, the mutable columns, and the version that the row is
    /// expected to have; others are left alone, so that the count tells.
    pub fn update_sql(&self, backend: DbBackend, version: &str) -> String {
        let expected: &[Column] = &[("expected", Kind::Integer)];
        let columns = [self.key, self.mutable, expected].concat();
        let touched = self.touched.filter(|_| backend == DbBackend::Postgres);
        let assignments: Vec<String> = self
            .mutable
            .iter()
            .map(|(name, _)| format!("{name} = r.{name}"))
            .chain(touched.map(|name| format!("{name} = DEFAULT")))
            .collect();
        let matches: Vec<String> = self
            .key
            .iter()
            .map(|(name, _)| format!("{}.{name} = r.{name}", self.name))
            .collect();
        format!(
            "UPDATE {table} SET {} FROM {} AS r WHERE {} AND {table}.{version} = r.expected",
            assignments.join(", "),
            rows(backend, &columns),
            matches.join(" AND "),
            table = self.name,
        )
    }
}

/// A UUID on its way.
pub fn uuid(id: uuid::Uuid) -> serde_json::Value {
    id.simple().to_string().into()
}

/// Bytes on their way.
pub fn bytes(bytes: &[u8]) -> serde_json::Value {
    bytes
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<String>()
        .into()
}
