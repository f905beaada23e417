//! Rows as the service has written them, whatever their columns: read from a database that it has
//! filled, to be written again by hand.
//!
//! Columns that the database fills in by itself are left to it, as the service leaves them.

pub mod postgres;
pub mod sqlite;

use std::collections::HashMap;

use uuid::Uuid;

use crate::Outcome;
use crate::database::{Database, Kind};
use crate::make::bucket_of;

/// The tables of a request, in the order in which they are written, each with the columns that say
/// whose a row is.
pub const TABLES: [(&str, [&str; 2]); 3] = [
    ("booking_request", ["care_unit", "id"]),
    ("notification", ["care_unit", "booking_request"]),
    ("history", ["care_unit", "booking_request"]),
];
/// The place of the requests in [`TABLES`].
pub const REQUEST: usize = 0;
/// The place of the messages in [`TABLES`].
pub const MESSAGE: usize = 1;
/// The place of the history in [`TABLES`].
pub const HISTORY: usize = 2;

/// What a column holds, as PostgreSQL wants to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Type {
    /// `text`
    Text,
    /// `uuid`
    Uuid,
    /// `int2`
    Short,
    /// `int4`
    Int,
    /// `int8`
    Long,
    /// `bool`
    Boolean,
    /// `bytea`
    Bytes,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// None.
    Null,
    /// A whole number of any width.
    Integer(i64),
    /// True or false.
    Boolean(bool),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
    /// A UUID.
    Uuid(Uuid),
}

/// A row, in the order of its table's columns.
pub type Row = Vec<Cell>;

/// A table, by the columns that are written.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its name.
    pub name: &'static str,
    /// The columns.
    pub columns: Vec<(String, Type)>,
    /// Where the bucket of the care unit stands.
    bucket: usize,
    /// Where the request's key stands: the care unit and the id.
    pub key: [usize; 2],
}

impl Table {
    /// A table with these columns.
    pub fn new(place: usize, columns: Vec<(String, Type)>) -> Self {
        let (name, key) = TABLES[place];
        let mut table = Self {
            name,
            columns,
            bucket: 0,
            key: [0, 0],
        };
        table.bucket = table.place("bucket");
        table.key = key.map(|column| table.place(column));
        table
    }

    /// Where a column stands.
    pub fn place(&self, column: &str) -> usize {
        let found = self.columns.iter().position(|(name, _)| name == column);
        found.unwrap_or_else(|| panic!("{} has a column {column}", self.name))
    }

    /// Where the columns stand that make a row unique: the bucket, the request's key, and the number within.
    pub fn unique(&self) -> Vec<usize> {
        let ordinal = self.columns.iter().position(|(name, _)| name == "ordinal");
        let key = [self.bucket].into_iter().chain(self.key);
        key.chain(ordinal).collect()
    }

    /// The names of the columns at these places.
    pub fn names(&self, places: &[usize]) -> Vec<&str> {
        places
            .iter()
            .map(|&place| self.columns[place].0.as_str())
            .collect()
    }

    /// The statement that reads the rows of one request, in their order.
    pub fn select(&self, [bucket, unit, id]: [&str; 3]) -> String {
        let names = self.names(&self.all()).join(", ");
        let key = self.names(&self.key);
        let order = self.names(&self.unique()).join(", ");
        format!(
            "SELECT {names} FROM {} WHERE bucket = {bucket} AND {} = {unit} AND {} = {id} ORDER BY {order}",
            self.name, key[0], key[1],
        )
    }

    /// The row as one of another request.
    pub fn with_key(&self, row: &Row, (unit, id): &Key) -> Row {
        let mut row = row.clone();
        row[self.bucket] = Cell::Integer(i64::from(bucket_of(unit)));
        row[self.key[0]] = Cell::Text(unit.clone());
        row[self.key[1]] = Cell::Uuid(*id);
        row
    }

    /// Every place.
    pub fn all(&self) -> Vec<usize> {
        (0..self.columns.len()).collect()
    }
}

/// The rows of one request, by table.
pub type Bundle = [Vec<Row>; 3];

/// The key of a request.
pub type Key = (String, Uuid);

/// The key of the request that has this name.
pub fn key_of(name: &str) -> Outcome<Key> {
    let parts: Vec<&str> = name.split('/').collect();
    match parts[..] {
        [_, unit, _, id, ..] => Ok((unit.to_owned(), id.parse()?)),
        _ => Err("a request has a unit and an id".into()),
    }
}

/// What a database holds of these requests. Others may be at work on it.
pub async fn read(database: &Database, keys: &[Key]) -> Outcome<Contents> {
    match database.kind() {
        Kind::Sqlite => sqlite::read(&database.path(), keys),
        Kind::Postgresql => postgres::read(&database.url(), keys).await,
    }
}

/// What a database holds.
#[derive(Clone, Debug)]
pub struct Contents {
    /// The tables, in the order of [`TABLES`].
    pub tables: [Table; 3],
    /// The rows of each request.
    pub bundles: HashMap<Key, Bundle>,
}

impl Contents {
    /// Nothing yet, of these tables.
    pub fn of(tables: [Table; 3]) -> Self {
        Self {
            tables,
            bundles: HashMap::new(),
        }
    }

    /// Takes a row in.
    pub fn add(&mut self, table: usize, row: Row) {
        let [unit, id] = self.tables[table].key;
        if let (Cell::Text(unit), Cell::Uuid(id)) = (&row[unit], &row[id]) {
            let bundle = self.bundles.entry((unit.clone(), *id)).or_default();
            bundle[table].push(row);
        }
    }

    /// The same rows for another request: its id, and whatever must not be there twice, is new.
    pub fn fresh(&self, bundle: &Bundle) -> Bundle {
        let id = Uuid::now_v7();
        let of_table = |(place, rows): (usize, &Vec<Row>)| -> Vec<Row> {
            let own = self.tables[place].key[1];
            let fresh = |(column, cell): (usize, &Cell)| match cell {
                Cell::Uuid(_) if column == own => Cell::Uuid(id),
                // Ids of calls are made by callers, at random.
                Cell::Uuid(_) if place == HISTORY => Cell::Uuid(Uuid::new_v4()),
                Cell::Uuid(_) => Cell::Uuid(Uuid::now_v7()),
                Cell::Bytes(bytes) if place == REQUEST => Cell::Bytes(random_bytes(bytes.len())),
                other => other.clone(),
            };
            let fresh_row = |row: &Row| row.iter().enumerate().map(fresh).collect();
            rows.iter().map(fresh_row).collect()
        };
        let mut tables = bundle.iter().enumerate().map(of_table);
        std::array::from_fn(|_| tables.next().unwrap_or_default())
    }
}

/// So many random bytes.
fn random_bytes(count: usize) -> Vec<u8> {
    let ids = std::iter::repeat_with(|| Uuid::new_v4().into_bytes());
    ids.flatten().take(count).collect()
}
