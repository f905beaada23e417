//! Many rows in one statement, over any entity: as typed arrays on PostgreSQL, as padded lists of values on SQLite.
//!
//! [`write::Inserts`] and [`write::VersionedUpdates`] collect rows of a table by the columns of its entity; [`write_all`]
//! writes them in as few statements as the database takes. [`rows::Rows`] are rows with any columns, to query with.

mod postgres;
pub mod rows;
mod spread;
mod sqlite;
pub mod write;

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::sea_query::{ArrayType, Expr, ExprTrait, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use crate::domain::calendar::Instant;
use crate::store::bulk::rows::Rows;
use crate::store::bulk::write::Write;
use crate::store::placement::Shards;

/// Result of bulk writes.
pub struct Written {
    /// True when every row was written. If false, the transaction must be rolled back.
    pub is_complete: bool,
    /// Time on the database's clock; none on SQLite, which goes by the machine's, and none if there was nothing to write.
    pub database_now: Option<Instant>,
}

/// Executes all writes, those of each shard by themselves. The transaction must be rolled back when this fails.
pub async fn write_all(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    mut writes: Vec<Write>,
) -> Result<Written, DbErr> {
    writes.retain(|write| !write.is_empty());
    let counted = writes.iter().filter(|write| write.is_counted());
    let expected: usize = counted.map(|write| write.rows.len()).sum();
    let (written, database_now) = match connection.get_database_backend() {
        _ if writes.is_empty() => (0, None),
        DbBackend::Postgres => {
            let (written, database_now) = match shards.is_whole() {
                true => postgres::write(connection, writes).await?,
                false => spread::write(connection, shards, writes).await?,
            };
            (written, Some(database_now))
        }
        _ => (sqlite::write(connection, writes).await?, None),
    };
    Ok(Written {
        is_complete: written == expected as u64,
        database_now,
    })
}

/// The rows that a statement may be about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Rows of all buckets.
    Whole,
    /// Rows of the buckets that it names in its first parameter, which are of one shard.
    Shard,
}

impl Reach {
    /// Returns the condition that rows of a table are in the buckets which the statement names; none when it names none.
    pub fn of(self, table: &str) -> Option<Expr> {
        let condition = format!("{table}.bucket = ANY($1)");
        (self == Self::Shard).then(|| Expr::cust(condition))
    }
}

/// Returns the condition that rows of a table are in these buckets, for PostgreSQL. The statement goes to one shard alone, if
/// they are of one.
pub fn in_buckets(table: &str, buckets: Vec<i16>) -> Expr {
    Expr::cust_with_values(format!("{table}.bucket = ANY($1)"), [array(buckets)])
}

/// Returns buckets as a parameter.
fn array(buckets: impl IntoIterator<Item = i16>) -> Value {
    let buckets = buckets.into_iter().map(Value::from).collect();
    Value::Array(ArrayType::SmallInt, Some(Box::new(buckets)))
}

/// A query with rows whose text is made once, for both databases: every batch and every read of requests waits for it.
pub struct RowQuery {
    sqlite: String,
    postgres: String,
    /// Text of the query about one shard, on PostgreSQL.
    shard: String,
}

impl RowQuery {
    /// Returns a query without parameters of its own, whose text depends on its reach.
    pub fn new(select: impl Fn(Reach) -> SelectStatement) -> Self {
        let text = |backend: DbBackend, reach| {
            let Statement { sql, values, .. } = backend.build(&select(reach));
            debug_assert!(values.is_none_or(|it| it.0.is_empty()));
            sql
        };
        Self {
            sqlite: text(DbBackend::Sqlite, Reach::Whole),
            postgres: text(DbBackend::Postgres, Reach::Whole),
            shard: text(DbBackend::Postgres, Reach::Shard),
        }
    }
}

/// Queries with rows: with each table of `named`, which has the columns of the rows beside it. Queries once for each chunk
/// of rows on SQLite, and for each shard by itself where there are several; some of the tables may be empty.
pub async fn query_with<const N: usize>(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    named: [(&str, Rows); N],
    query: &RowQuery,
) -> Result<Vec<QueryResult>, DbErr> {
    let backend = connection.get_database_backend();
    let mut found = Vec::new();
    for named in split(named, shards) {
        let (select, own) = match backend {
            DbBackend::Postgres if shards.is_whole() => (&query.postgres, None),
            DbBackend::Postgres => {
                let buckets = named.iter().flat_map(|(_, rows)| rows.buckets());
                (&query.shard, Some(array(buckets.collect::<BTreeSet<_>>())))
            }
            _ => (&query.sqlite, None),
        };
        found.append(&mut query_chunks(connection, named, select, own.as_slice()).await?);
    }
    Ok(found)
}

/// Queries with rows like [`query_with`], and names no buckets: where there are several shards it is asked of all. For reads that
/// nobody waits for, and of rows that may be anywhere.
pub async fn query_all_with<const N: usize>(
    connection: &impl ConnectionTrait,
    named: [(&str, Rows); N],
    query: &RowQuery,
) -> Result<Vec<QueryResult>, DbErr> {
    query_with(connection, &Shards::default(), named, query).await
}

/// Queries with rows as [`query_with`] does, beside a query that has parameters of its own.
pub async fn query_beside<const N: usize>(
    connection: &impl ConnectionTrait,
    named: [(&str, Rows); N],
    select: &SelectStatement,
) -> Result<Vec<QueryResult>, DbErr> {
    let Statement { sql, values, .. } = connection.get_database_backend().build(select);
    let own = values.map_or_else(Vec::new, |it| it.0);
    query_chunks(connection, named, &sql, &own).await
}

/// Queries with each chunk of rows, beside a query with these parameters of its own.
async fn query_chunks<const N: usize>(
    connection: &impl ConnectionTrait,
    mut named: [(&str, Rows); N],
    select: &str,
    own: &[Value],
) -> Result<Vec<QueryResult>, DbErr> {
    let backend = connection.get_database_backend();
    let mut found = Vec::new();
    while named.iter().any(|(_, rows)| !rows.is_empty()) {
        let mut tables = Vec::with_capacity(N);
        let mut values = Vec::new();
        for (name, rows) in &mut named {
            let first = own.len() + values.len() + 1;
            let (rows, more) = take(rows, backend, first);
            tables.push(format!("{name} AS {rows}"));
            values.extend(more);
        }
        let sql = format!("WITH {} {select}", tables.join(", "));
        // SQLite numbers parameters by their places in the text.
        let (mut all, rest) = match backend {
            DbBackend::Postgres => (own.to_vec(), values),
            _ => (values, own.to_vec()),
        };
        all.extend(rest);
        let statement = Statement::from_sql_and_values(backend, sql, all);
        found.append(&mut connection.query_all_raw(statement).await?);
    }
    Ok(found)
}

/// Splits the rows of tables by shard.
fn split<'n, const N: usize>(
    named: [(&'n str, Rows); N],
    shards: &Shards,
) -> Vec<[(&'n str, Rows); N]> {
    if shards.is_whole() {
        return vec![named];
    }
    let mut parts: BTreeMap<usize, [(&'n str, Rows); N]> = BTreeMap::new();
    let empty = named.each_ref().map(|(name, rows)| (*name, rows.emptied()));
    for (place, (_, rows)) in named.into_iter().enumerate() {
        for (shard, rows) in rows.split(shards) {
            let of_shard = || empty.each_ref().map(|(name, rows)| (*name, rows.emptied()));
            parts.entry(shard).or_insert_with(of_shard)[place].1 = rows;
        }
    }
    parts.into_values().collect()
}

/// Maximum rows of [`membership`].
pub const MEMBERS_MAX: usize = sqlite::CHUNK_ROWS_MAX;

/// Returns the condition that a row of a table is one of these, at most [`MEMBERS_MAX`], by its columns of the same names.
pub fn membership(table: &str, mut rows: Rows, backend: DbBackend) -> Expr {
    let names: Vec<String> = rows.names().map(|it| format!("{table}.{it}")).collect();
    let names = names.join(", ");
    let (list, values) = take(&mut rows, backend, 1);
    debug_assert!(rows.is_empty(), "as many rows as go into one statement");
    Expr::cust_with_values(format!("({names}) IN {list}"), values)
}

/// Returns the condition that a row of a table is none of these, however many they are, by its columns of the same names.
pub fn exclusion(table: &str, rows: Rows, backend: DbBackend) -> Expr {
    match backend {
        DbBackend::Postgres => membership(table, rows, backend).not(),
        _ => sqlite::exclusion(&rows),
    }
}

/// Takes as many rows as go into one statement: all of them on PostgreSQL, a chunk on SQLite. Returns them as a sub-select
/// in parentheses, with its parameters, the first of which has the number `first` on PostgreSQL.
fn take(rows: &mut Rows, backend: DbBackend, first: usize) -> (String, Vec<Value>) {
    match backend {
        DbBackend::Postgres => postgres::take(rows, first),
        _ => sqlite::take(rows),
    }
}
