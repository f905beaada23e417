//! Rows in PostgreSQL, by hand: sets as `UNNEST` of typed arrays in the binary format, with
//! statements that are prepared once a connection.

use sea_orm::sqlx::postgres::{PgArguments, PgRow};
use sea_orm::sqlx::query::Query;
use sea_orm::sqlx::{Connection, PgConnection, Postgres, Row as _, query};

use super::{Cell, Contents, Key, Row, TABLES, Table, Type};
use crate::Outcome;
use crate::make::bucket_of;

/// A statement with its values.
pub type Bound = Query<'static, Postgres, PgArguments>;

/// A text that lives as long as the process, which sqlx knows a prepared statement by.
pub fn text(sql: String) -> &'static str {
    Box::leak(sql.into_boxed_str())
}

/// What a database holds of these requests.
pub async fn read(url: &str, keys: &[Key]) -> Outcome<Contents> {
    let mut connection = PgConnection::connect(url).await?;
    let requests = table(&mut connection, 0).await?;
    let messages = table(&mut connection, 1).await?;
    let history = table(&mut connection, 2).await?;
    let mut contents = Contents::of([requests, messages, history]);
    for place in 0..TABLES.len() {
        let table = contents.tables[place].clone();
        let sql = text(table.select(["$1", "$2", "$3"]));
        for (unit, id) in keys {
            let rows = query(sql).bind(bucket_of(unit)).bind(unit).bind(id);
            for row in rows.fetch_all(&mut connection).await? {
                let mut cells = Row::new();
                for (at, (_, of)) in table.columns.iter().enumerate() {
                    cells.push(cell(&row, at, *of)?);
                }
                contents.add(place, cells);
            }
        }
    }
    Ok(contents)
}

async fn table(connection: &mut PgConnection, place: usize) -> Outcome<Table> {
    let sql = "SELECT attname::text, atttypid::regtype::text FROM pg_attribute \
         WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND NOT atthasdef \
         ORDER BY attnum";
    let rows = query(sql)
        .bind(TABLES[place].0)
        .fetch_all(connection)
        .await?;
    let column = |row: &PgRow| -> Outcome<(String, Type)> {
        let of: String = row.try_get(1)?;
        let of = match of.as_str() {
            "text" => Type::Text,
            "uuid" => Type::Uuid,
            "smallint" => Type::Short,
            "integer" => Type::Int,
            "bigint" => Type::Long,
            "boolean" => Type::Boolean,
            "bytea" => Type::Bytes,
            other => return Err(format!("no column is known to be {other}").into()),
        };
        Ok((row.try_get(0)?, of))
    };
    let columns: Outcome<Vec<_>> = rows.iter().map(column).collect();
    Ok(Table::new(place, columns?))
}

fn cell(row: &PgRow, place: usize, of: Type) -> Outcome<Cell> {
    let cell = match of {
        Type::Text => row.try_get::<Option<_>, _>(place)?.map(Cell::Text),
        Type::Uuid => row.try_get::<Option<_>, _>(place)?.map(Cell::Uuid),
        Type::Bytes => row.try_get::<Option<_>, _>(place)?.map(Cell::Bytes),
        Type::Boolean => row.try_get::<Option<_>, _>(place)?.map(Cell::Boolean),
        Type::Long => row.try_get::<Option<_>, _>(place)?.map(Cell::Integer),
        Type::Int => integer(row.try_get::<Option<i32>, _>(place)?),
        Type::Short => integer(row.try_get::<Option<i16>, _>(place)?),
    };
    Ok(cell.unwrap_or(Cell::Null))
}

fn integer(number: Option<impl Into<i64>>) -> Option<Cell> {
    number.map(|number| Cell::Integer(number.into()))
}

/// The name of a type in SQL.
fn name(of: Type) -> &'static str {
    match of {
        Type::Text => "text",
        Type::Uuid => "uuid",
        Type::Short => "int2",
        Type::Int => "int4",
        Type::Long => "int8",
        Type::Boolean => "bool",
        Type::Bytes => "bytea",
    }
}

fn arrays(table: &Table, places: &[usize]) -> String {
    let array =
        |(at, &place): (usize, &usize)| format!("${}::{}[]", at + 1, name(table.columns[place].1));
    let arrays: Vec<String> = places.iter().enumerate().map(array).collect();
    arrays.join(", ")
}

/// The statement that inserts a set of rows.
pub fn insert_set(table: &Table) -> &'static str {
    let names = table.names(&table.all()).join(", ");
    let arrays = arrays(table, &table.all());
    text(format!(
        "INSERT INTO {} ({names}) SELECT * FROM UNNEST({arrays})",
        table.name
    ))
}

/// The statement that inserts one row.
pub fn insert_one(table: &Table) -> &'static str {
    let names = table.names(&table.all()).join(", ");
    let marks: Vec<String> = (1..=table.columns.len())
        .map(|at| format!("${at}"))
        .collect();
    text(format!(
        "INSERT INTO {} ({names}) VALUES ({})",
        table.name,
        marks.join(", ")
    ))
}

/// The statement that sets the columns at these places in a set of rows, with the rows' unique key
/// behind them.
pub fn update_set(table: &Table, set: &[usize]) -> &'static str {
    let key = table.unique();
    let places = [set, &key].concat();
    let values: Vec<String> = (0..places.len()).map(|at| format!("v{at}")).collect();
    let assigned = table.names(set).into_iter().zip(&values);
    let assigned: Vec<String> = assigned
        .map(|(name, value)| format!("{name} = s.{value}"))
        .collect();
    let matched = table.names(&key).into_iter().zip(&values[set.len()..]);
    let matched: Vec<String> = matched
        .map(|(name, value)| format!("t.{name} = s.{value}"))
        .collect();
    text(format!(
        "UPDATE {} AS t SET {} FROM UNNEST({}) AS s({}) WHERE {}",
        table.name,
        assigned.join(", "),
        arrays(table, &places),
        values.join(", "),
        matched.join(" AND "),
    ))
}

/// A statement over a set, with the cells at these places as arrays.
pub fn bind_set(sql: &'static str, table: &Table, places: &[usize], rows: &[&Row]) -> Bound {
    let mut bound = query(sql);
    for &place in places {
        let cells = || rows.iter().map(|row| &row[place]);
        bound = match table.columns[place].1 {
            Type::Text => bound.bind(cells().map(as_text).collect::<Vec<_>>()),
            Type::Uuid => bound.bind(cells().map(as_uuid).collect::<Vec<_>>()),
            Type::Short => bound.bind(cells().map(as_number::<i16>).collect::<Vec<_>>()),
            Type::Int => bound.bind(cells().map(as_number::<i32>).collect::<Vec<_>>()),
            Type::Long => bound.bind(cells().map(as_number::<i64>).collect::<Vec<_>>()),
            Type::Boolean => bound.bind(cells().map(as_boolean).collect::<Vec<_>>()),
            Type::Bytes => bound.bind(cells().map(as_bytes).collect::<Vec<_>>()),
        };
    }
    bound
}

/// A statement over one row, with all its cells.
pub fn bind_one(sql: &'static str, table: &Table, row: &Row) -> Bound {
    let mut bound = query(sql);
    for ((_, of), cell) in table.columns.iter().zip(row) {
        bound = match of {
            Type::Text => bound.bind(as_text(cell)),
            Type::Uuid => bound.bind(as_uuid(cell)),
            Type::Short => bound.bind(as_number::<i16>(cell)),
            Type::Int => bound.bind(as_number::<i32>(cell)),
            Type::Long => bound.bind(as_number::<i64>(cell)),
            Type::Boolean => bound.bind(as_boolean(cell)),
            Type::Bytes => bound.bind(as_bytes(cell)),
        };
    }
    bound
}

fn as_text(cell: &Cell) -> Option<String> {
    match cell {
        Cell::Text(text) => Some(text.clone()),
        _ => None,
    }
}

fn as_uuid(cell: &Cell) -> Option<uuid::Uuid> {
    match cell {
        Cell::Uuid(id) => Some(*id),
        _ => None,
    }
}

fn as_number<N: TryFrom<i64>>(cell: &Cell) -> Option<N> {
    match cell {
        Cell::Integer(number) => N::try_from(*number).ok(),
        _ => None,
    }
}

fn as_boolean(cell: &Cell) -> Option<bool> {
    match cell {
        Cell::Boolean(truth) => Some(*truth),
        _ => None,
    }
}

fn as_bytes(cell: &Cell) -> Option<Vec<u8>> {
    match cell {
        Cell::Bytes(bytes) => Some(bytes.clone()),
        _ => None,
    }
}
