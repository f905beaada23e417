//! Rows in SQLite, by hand: one connection, prepared statements, settings as the service has them.

use std::path::Path;

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement, ToSql, params_from_iter};
use uuid::Uuid;

use super::{Cell, Contents, Key, Row, TABLES, Table, Type};
use crate::Outcome;
use crate::make::bucket_of;

impl ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Integer(number) => ToSqlOutput::Owned(Value::Integer(*number)),
            Self::Boolean(truth) => ToSqlOutput::Owned(Value::Integer((*truth).into())),
            Self::Text(text) => ToSqlOutput::Borrowed(ValueRef::Text(text.as_bytes())),
            Self::Bytes(bytes) => ToSqlOutput::Borrowed(ValueRef::Blob(bytes)),
            Self::Uuid(id) => ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes())),
        })
    }
}

/// Opens a database with the settings on which the service's durability and speed rest.
pub fn open(path: &Path) -> Outcome<Connection> {
    let connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -32768; \
         PRAGMA wal_autocheckpoint = 20000; \
         PRAGMA busy_timeout = 5000;",
    )?;
    Ok(connection)
}

/// What a database holds of these requests.
pub fn read(path: &Path, keys: &[Key]) -> Outcome<Contents> {
    let connection = open(path)?;
    let tables = [0, 1, 2].map(|place| table(&connection, place));
    let [requests, messages, history] = tables;
    let mut contents = Contents::of([requests?, messages?, history?]);
    for place in 0..TABLES.len() {
        let table = contents.tables[place].clone();
        let mut statement = connection.prepare(&table.select(["?1", "?2", "?3"]))?;
        for (unit, id) in keys {
            let mut rows = statement.query((bucket_of(unit), unit, id.as_bytes()))?;
            while let Some(row) = rows.next()? {
                let mut cells = Row::new();
                for (at, (_, of)) in table.columns.iter().enumerate() {
                    cells.push(cell(row.get_ref(at)?, *of)?);
                }
                contents.add(place, cells);
            }
        }
    }
    Ok(contents)
}

fn table(connection: &Connection, place: usize) -> Outcome<Table> {
    let sql = format!(
        "SELECT name, type, dflt_value FROM pragma_table_info('{}')",
        TABLES[place].0
    );
    let mut statement = connection.prepare(&sql)?;
    let mut columns = Vec::new();
    let mut rows = statement.query(())?;
    while let Some(row) = rows.next()? {
        let filled_in: Option<String> = row.get(2)?;
        let of: String = row.get(1)?;
        let of = match of.to_lowercase() {
            of if of.contains("uuid") => Type::Uuid,
            of if of.contains("bool") => Type::Boolean,
            of if of.contains("blob") => Type::Bytes,
            of if of.contains("text") => Type::Text,
            _ => Type::Long,
        };
        if filled_in.is_none() {
            columns.push((row.get(0)?, of));
        }
    }
    Ok(Table::new(place, columns))
}

fn cell(value: ValueRef<'_>, of: Type) -> Outcome<Cell> {
    Ok(match (value, of) {
        (ValueRef::Null, _) => Cell::Null,
        (ValueRef::Integer(number), Type::Boolean) => Cell::Boolean(number != 0),
        (ValueRef::Integer(number), _) => Cell::Integer(number),
        (ValueRef::Text(text), _) => Cell::Text(str::from_utf8(text)?.to_owned()),
        (ValueRef::Blob(bytes), Type::Uuid) => Cell::Uuid(Uuid::from_slice(bytes)?),
        (ValueRef::Blob(bytes), _) => Cell::Bytes(bytes.to_vec()),
        (ValueRef::Real(_), _) => return Err("no column holds fractions".into()),
    })
}

/// A statement that inserts a row of a table.
pub fn insert<'c>(connection: &'c Connection, table: &Table) -> Outcome<Statement<'c>> {
    let marks = vec!["?"; table.columns.len()].join(", ");
    let names = table.names(&table.all()).join(", ");
    let sql = format!("INSERT INTO {} ({names}) VALUES ({marks})", table.name);
    Ok(connection.prepare(&sql)?)
}

/// A statement that sets the columns at these places, and then takes the row's unique key.
pub fn update<'c>(
    connection: &'c Connection,
    table: &Table,
    set: &[usize],
) -> Outcome<Statement<'c>> {
    let set = table.names(set).join(" = ?, ");
    let of = table.names(&table.unique()).join(" = ? AND ");
    let sql = format!("UPDATE {} SET {set} = ? WHERE {of} = ?", table.name);
    Ok(connection.prepare(&sql)?)
}

/// Runs a statement with these cells; it must touch one row.
pub fn one<'a>(
    statement: &mut Statement<'_>,
    cells: impl Iterator<Item = &'a Cell>,
) -> Outcome<()> {
    match statement.execute(params_from_iter(cells))? {
        1 => Ok(()),
        other => Err(format!("a raw statement met {other} rows, not one").into()),
    }
}
