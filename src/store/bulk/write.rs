//! Rows of entities to write: inserts, and updates on condition that a row still has its version.

use sea_orm::{
    ActiveModelTrait, DbBackend, EntityTrait, IdenStatic, IntoActiveModel, Iterable, ModelTrait,
    PrimaryKeyToColumn, Value,
};

use crate::store::bulk::Reach;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::placement::Shards;

/// An entity whose rows are updated on condition that they still have the version with which they were read.
pub trait VersionedEntity: EntityTrait {
    /// Column of the version, a number.
    const VERSION: Self::Column;
    /// Columns that are written once.
    const FIXED: &'static [Self::Column];
    /// Columns that change most often, the version among them, and are in few indexes or none. SQLite writes an index
    /// again whenever one of its columns is assigned, even if the value is the same, so a row in which no others have
    /// changed is updated in these alone.
    const HOT: &'static [Self::Column];
}

/// New rows of a table.
pub struct Inserts<E: EntityTrait> {
    /// Columns that the rows set.
    columns: Vec<E::Column>,
    rows: Rows,
}

impl<E: EntityTrait> Default for Inserts<E> {
    fn default() -> Self {
        Self {
            columns: Vec::new(),
            rows: Rows::default(),
        }
    }
}

impl<E: EntityTrait> Inserts<E> {
    /// Adds a row. Columns that it does not set get the database's defaults; every row sets the same columns.
    pub fn push(&mut self, row: impl IntoActiveModel<E::ActiveModel>) {
        let mut row: E::ActiveModel = row.into_active_model();
        if self.columns.is_empty() {
            let set = key_first::<E>().filter(|column| !row.is_not_set(*column));
            self.columns = set.collect();
            self.rows = Rows::new(row_columns::<E>(&self.columns).collect());
        }
        self.rows.push(values::<E>(&mut row, &self.columns));
    }

    /// Returns the write of the rows. It is an error if a key exists.
    pub fn into_write(self) -> Write {
        let table = E::default().table_name();
        Write {
            rows: self.rows,
            target: Target::Insert { table },
        }
    }

    /// Returns the write of those of the rows whose keys do not exist.
    pub fn into_write_of_new(self) -> Write {
        let table = E::default().table_name();
        Write {
            rows: self.rows,
            target: Target::InsertNew { table },
        }
    }
}

/// Changed rows of a table.
pub struct VersionedUpdates<E: VersionedEntity>(Option<UpdateGroups<E>>);

/// Changed rows, by the columns in which they have changed.
struct UpdateGroups<E: VersionedEntity> {
    /// Rows changed in [`VersionedEntity::HOT`] alone.
    hot: UpdatesOf<E>,
    /// Rows changed in other columns too.
    whole: UpdatesOf<E>,
    /// Columns that an update may change and that are not hot.
    cold: Vec<E::Column>,
}

/// Updates of the same columns.
struct UpdatesOf<E: VersionedEntity> {
    columns: Vec<E::Column>,
    rows: Rows,
}

impl<E: VersionedEntity> Default for VersionedUpdates<E> {
    /// Returns no rows. Their columns are gathered with the first of them, since most batches change rows of few tables.
    fn default() -> Self {
        Self(None)
    }
}

impl<E> VersionedUpdates<E>
where
    E: VersionedEntity,
    E::Model: IntoActiveModel<E::ActiveModel>,
{
    /// Adds a row that was read as `before`, of which hot columns but the version need not be filled in, and is to be
    /// `after`. It is not written if it no longer has the version of `before`, and then does not count as written.
    pub fn push(&mut self, before: &E::Model, after: E::Model) {
        let groups = self.0.get_or_insert_with(UpdateGroups::new);
        let mut cold = groups.cold.iter();
        let is_hot = cold.all(|column| before.get(*column) == after.get(*column));
        let updates = match is_hot {
            true => &mut groups.hot,
            false => &mut groups.whole,
        };
        let mut after: E::ActiveModel = after.into_active_model();
        let values = values::<E>(&mut after, &updates.columns);
        updates.rows.push(values.chain([before.get(E::VERSION)]));
    }

    /// Returns the writes of the rows.
    pub fn into_writes(self) -> impl Iterator<Item = Write> {
        let groups = self.0.into_iter();
        let updates = groups.flat_map(|groups| [groups.whole, groups.hot]);
        updates.map(UpdatesOf::into_write)
    }
}

/// Name, in the rows of an update, of the version that each is expected to have.
const EXPECTED: &str = "expected";

impl<E: VersionedEntity> UpdateGroups<E> {
    fn new() -> Self {
        let is_cold = |column: &E::Column| !contains(E::HOT, *column);
        Self {
            hot: UpdatesOf::new(E::HOT.iter().copied()),
            whole: UpdatesOf::new(changeable::<E>()),
            cold: changeable::<E>().filter(is_cold).collect(),
        }
    }
}

impl<E: VersionedEntity> UpdatesOf<E> {
    /// Returns no updates of these columns, before which their rows have the key, and after which the expected version.
    fn new(changed: impl Iterator<Item = E::Column>) -> Self {
        let columns: Vec<E::Column> = key::<E>().chain(changed).collect();
        let expected = RowColumn {
            name: EXPECTED,
            ..RowColumn::of::<E>(E::VERSION)
        };
        let rows = Rows::new(row_columns::<E>(&columns).chain([expected]).collect());
        Self { columns, rows }
    }

    fn into_write(self) -> Write {
        let key: Vec<&str> = key::<E>().map(|column| column.as_str()).collect();
        let columns = self.columns.iter().skip(key.len());
        let target = Target::Update {
            table: E::default().table_name(),
            columns: columns.map(|column| column.as_str()).collect(),
            key,
            version: E::VERSION.as_str(),
        };
        Write {
            rows: self.rows,
            target,
        }
    }
}

fn row_columns<E: EntityTrait>(columns: &[E::Column]) -> impl Iterator<Item = RowColumn> {
    columns.iter().copied().map(RowColumn::of::<E>)
}

/// Takes the values of these columns, all of which are set.
fn values<E: EntityTrait>(
    row: &mut E::ActiveModel,
    columns: &[E::Column],
) -> impl Iterator<Item = Value> {
    columns.iter().map(|column| {
        let value = row.take(*column).into_value();
        value.expect("the rows of one write set the same columns")
    })
}

/// Returns the columns of the primary key, in its order.
fn key<E: EntityTrait>() -> impl Iterator<Item = E::Column> {
    E::PrimaryKey::iter().map(|key| key.into_column())
}

/// Returns all columns but those of the primary key.
fn beside_key<E: EntityTrait>() -> impl Iterator<Item = E::Column> {
    E::Column::iter().filter(|column| E::PrimaryKey::from_column(*column).is_none())
}

/// Returns all columns, those of the primary key first.
fn key_first<E: EntityTrait>() -> impl Iterator<Item = E::Column> {
    key::<E>().chain(beside_key::<E>())
}

/// Returns the columns that an update may change.
fn changeable<E: VersionedEntity>() -> impl Iterator<Item = E::Column> {
    beside_key::<E>().filter(|column| !contains(E::FIXED, *column))
}

fn contains<C: IdenStatic>(columns: &[C], column: C) -> bool {
    columns.iter().any(|it| it.as_str() == column.as_str())
}

/// Rows to write, and their target.
pub struct Write {
    pub(super) rows: Rows,
    target: Target,
}

/// Table of a write, and what happens to its rows.
#[derive(Clone)]
enum Target {
    Insert {
        table: &'static str,
    },
    /// Rows whose keys exist are skipped.
    InsertNew {
        table: &'static str,
    },
    Update {
        table: &'static str,
        key: Vec<&'static str>,
        columns: Vec<&'static str>,
        version: &'static str,
    },
}

impl Write {
    /// Returns true when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Splits the write by shard.
    pub(super) fn split(self, shards: &Shards) -> impl Iterator<Item = (usize, Self)> {
        let Self { rows, target } = self;
        let parts = rows.split(shards).into_iter();
        parts.map(move |(shard, rows)| {
            let target = target.clone();
            (shard, Self { rows, target })
        })
    }

    /// Returns true when it adds rows.
    pub(super) fn is_insert(&self) -> bool {
        match self.target {
            Target::Insert { .. } | Target::InsertNew { .. } => true,
            Target::Update { .. } => false,
        }
    }

    /// Returns true when a row that is not written shows a conflict.
    pub(super) fn is_counted(&self) -> bool {
        match self.target {
            Target::Insert { .. } | Target::Update { .. } => true,
            Target::InsertNew { .. } => false,
        }
    }

    /// Returns the end of a statement that adds rows.
    pub(super) fn on_conflict(&self) -> &'static str {
        match self.target {
            Target::Insert { .. } | Target::Update { .. } => "",
            Target::InsertNew { .. } => " ON CONFLICT DO NOTHING",
        }
    }

    /// Returns the beginning of the statement that adds rows: table and columns.
    pub(super) fn insert_into(&self) -> String {
        let names: Vec<&str> = self.rows.names().collect();
        match &self.target {
            Target::Insert { table }
            | Target::InsertNew { table }
            | Target::Update { table, .. } => {
                format!("INSERT INTO {table} ({})", names.join(", "))
            }
        }
    }

    /// Returns the bucket of the first row, which is its first column; none when there are no rows, or in a table without
    /// buckets.
    pub fn bucket(&self) -> Option<i16> {
        match self.rows.values.first()? {
            Value::SmallInt(bucket) => *bucket,
            _ => None,
        }
    }

    /// Returns the statement that writes `rows`, a sub-select of them. One about a shard names its buckets.
    ///
    /// An insert fails when a unique key exists. An update skips rows whose version is not the expected one, so that the
    /// number of rows written shows a conflict. When either fails on SQLite, the rows before stay until the transaction is
    /// rolled back.
    pub(super) fn sql(&self, backend: DbBackend, reach: Reach, rows: &str) -> String {
        // Spares SQLite the statement journal, into which it copies each page before a statement changes it, to be able
        // to undo that statement alone.
        let or_fail = match backend {
            DbBackend::Sqlite => "OR FAIL ",
            _ => "",
        };
        match &self.target {
            Target::Insert { table } => {
                let names: Vec<&str> = self.rows.names().collect();
                let names = names.join(", ");
                format!("INSERT {or_fail}INTO {table} ({names}) SELECT * FROM {rows} AS r")
            }
            // To SQLite an ON without a WHERE before it would be that of a join.
            Target::InsertNew { .. } => format!(
                "{} SELECT * FROM {rows} AS r WHERE true{}",
                self.insert_into(),
                self.on_conflict()
            ),
            Target::Update {
                table,
                key,
                columns,
                version,
            } => {
                let set: Vec<String> = columns.iter().map(|it| format!("{it} = r.{it}")).collect();
                let matches = key.iter().map(|it| format!("{table}.{it} = r.{it}"));
                let matches: Vec<String> = matches.collect();
                let named = match reach {
                    Reach::Whole => String::new(),
                    Reach::Shard => format!(" AND {table}.bucket = ANY($1)"),
                };
                format!(
                    "UPDATE {or_fail}{table} SET {} FROM {rows} AS r WHERE {} AND {table}.{version} = r.{EXPECTED}{named}",
                    set.join(", "),
                    matches.join(" AND "),
                )
            }
        }
    }
}
