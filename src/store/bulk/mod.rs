//! Many rows in one statement, over any entity: as typed arrays on PostgreSQL, as padded lists of values on SQLite.
//!
//! [`write::Inserts`] and [`write::VersionedUpdates`] collect rows of a table by the columns of its entity; [`write_all`]
//! writes them in as few statements as the database takes. [`rows::Rows`] are rows with any columns, to query with.

mod postgres;
pub mod rows;
mod sqlite;
pub mod write;

use sea_orm::sea_query::{Expr, ExprTrait, SelectStatement};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use crate::domain::calendar::Instant;
use crate::store::bulk::rows::Rows;
use crate::store::bulk::write::Write;

/// Result of bulk writes.
pub struct Written {
    /// True when every row was written. If false, the transaction must be rolled back.
    pub is_complete: bool,
    /// Time on the database's clock; none on SQLite, which goes by the machine's, and none if there was nothing to write.
    pub database_now: Option<Instant>,
}

/// Executes all writes. The transaction must be rolled back when this fails.
pub async fn write_all(
    connection: &impl ConnectionTrait,
    mut writes: Vec<Write>,
) -> Result<Written, DbErr> {
    writes.retain(|write| !write.is_empty());
    let expected: usize = writes.iter().map(|write| write.rows.len()).sum();
    let (written, database_now) = match connection.get_database_backend() {
        _ if writes.is_empty() => (0, None),
        DbBackend::Postgres => {
            let (written, database_now) = postgres::write(connection, writes).await?;
            (written, Some(database_now))
        }
        _ => (sqlite::write(connection, writes).await?, None),
    };
    Ok(Written {
        is_complete: written == expected as u64,
        database_now,
    })
}

/// A query with rows whose text is made once, for both databases: every batch and every read of requests waits for it.
pub struct RowQuery {
    sqlite: String,
    postgres: String,
}

impl RowQuery {
    /// Returns a query without parameters of its own.
    pub fn new(select: &SelectStatement) -> Self {
        let text = |backend: DbBackend| {
            let Statement { sql, values, .. } = backend.build(select);
            debug_assert!(values.is_none_or(|it| it.0.is_empty()));
            sql
        };
        Self {
            sqlite: text(DbBackend::Sqlite),
            postgres: text(DbBackend::Postgres),
        }
    }
}

/// Queries with rows: with each table of `named`, which has the columns of the rows beside it. Queries once for each chunk
/// of rows on SQLite; some of the tables may be empty.
pub async fn query_with<const N: usize>(
    connection: &impl ConnectionTrait,
    named: [(&str, Rows); N],
    query: &RowQuery,
) -> Result<Vec<QueryResult>, DbErr> {
    let select = match connection.get_database_backend() {
        DbBackend::Postgres => &query.postgres,
        _ => &query.sqlite,
    };
    query_chunks(connection, named, select, &[]).await
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
