//! Rows on their way to the database.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::ArrayType;
use sea_orm::{ColumnTrait, EntityTrait, IdenStatic, ModelTrait, Value};

use crate::store::placement::Shards;

/// Name of the column that has the bucket of a row.
const BUCKET: &str = "bucket";

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

    /// Returns no rows, with the same columns.
    pub(super) fn emptied(&self) -> Self {
        Self::new(self.columns.clone())
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

    /// Splits rows by the shard that the bucket of each is in. The buckets stand in a column of that name.
    pub(super) fn split(self, shards: &Shards) -> BTreeMap<usize, Self> {
        let is_bucket = |column: &RowColumn| column.name == BUCKET;
        let bucket_place = self.columns.iter().position(is_bucket);
        let bucket_place = bucket_place.expect("rows that are split have their buckets");
        let width = self.columns.len();
        let mut parts: BTreeMap<usize, Self> = BTreeMap::new();
        let mut values = self.values.into_iter();
        loop {
            let row: Vec<Value> = values.by_ref().take(width).collect();
            let Some(bucket) = row.get(bucket_place) else {
                return parts;
            };
            let part = parts.entry(shards.of_bucket(bucket_of(bucket)));
            let part = part.or_insert_with(|| Self::new(self.columns.clone()));
            part.values.extend(row);
        }
    }

    /// Returns true when the rows have buckets.
    pub(super) fn have_buckets(&self) -> bool {
        self.columns.iter().any(|column| column.name == BUCKET)
    }

    /// Returns the buckets of the rows, each once.
    pub(super) fn buckets(&self) -> BTreeSet<i16> {
        let is_bucket = |column: &RowColumn| column.name == BUCKET;
        match self.columns.iter().position(is_bucket) {
            Some(place) => {
                let rows = self.values.chunks(self.columns.len());
                rows.map(|row| bucket_of(&row[place])).collect()
            }
            None => BTreeSet::new(),
        }
    }

    /// Returns the names of the columns.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.columns.iter().map(|column| column.name)
    }
}

/// Returns the bucket that a value is.
fn bucket_of(value: &Value) -> i16 {
    match value {
        Value::SmallInt(Some(bucket)) => *bucket,
        _ => unreachable!("a bucket is a small number"),
    }
}

/// Returns true for a null of any type.
pub(super) fn is_null(value: &Value) -> bool {
    *value == value.as_null()
}
