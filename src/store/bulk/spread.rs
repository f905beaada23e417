//! Bulk writes to several shards: each statement is about one of them and says so by naming its buckets.
//!
//! Updates of a shard go in one statement, a common table expression for each. Inserts are a statement for each table, because Citus
//! sends no statement with an insert in a common table expression to one shard alone. Few rows are inserted as a list of
//! values, which is planned quickest. More come from arrays, and then the statement returns something: without that Citus
//! copies the rows, and the error of a key that is taken has no code by which it is known.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::domain::calendar::Instant;
use crate::store::bulk::postgres::take;
use crate::store::bulk::write::Write;
use crate::store::bulk::{Reach, array};
use crate::store::database::probe::database_now;
use crate::store::placement::Shards;

/// Maximum rows that are inserted as a list of values: there is a text for each number of them.
const VALUES_MAX: usize = 8;

/// Executes the writes, shard by shard. Returns the number of rows written and the time on the database's clock.
pub async fn write(
    connection: &impl ConnectionTrait,
    shards: &Shards,
    writes: Vec<Write>,
) -> Result<(u64, Instant), DbErr> {
    let mut parts: BTreeMap<usize, Vec<Write>> = BTreeMap::new();
    let (placed, unplaced): (Vec<_>, Vec<_>) =
        writes.into_iter().partition(|it| it.rows.have_buckets());
    for write in placed {
        for (shard, part) in write.split(shards) {
            parts.entry(shard).or_default().push(part);
        }
    }
    let mut written = 0;
    // Rows of a table without buckets are only added.
    for insert in unplaced {
        written += execute_insert(connection, insert).await?;
    }
    for writes in parts.into_values() {
        let (inserts, updates): (Vec<_>, Vec<_>) = writes.into_iter().partition(Write::is_insert);
        for insert in inserts {
            written += execute_insert(connection, insert).await?;
        }
        if !updates.is_empty() {
            written += execute_updates(connection, updates).await?;
        }
    }
    Ok((written, database_now(connection).await?))
}

/// Inserts rows of a table, and returns the number of counted ones.
async fn execute_insert(
    connection: &impl ConnectionTrait,
    mut insert: Write,
) -> Result<u64, DbErr> {
    let backend = DbBackend::Postgres;
    let (into, on_conflict) = (insert.insert_into(), insert.on_conflict());
    let is_counted = insert.is_counted();
    let counted = |rows| if is_counted { rows } else { 0 };
    let count = insert.rows.len();
    if count > VALUES_MAX {
        let (rows, arrays) = take(&mut insert.rows, 1);
        let sql = format!("{into} SELECT * FROM {rows} AS r{on_conflict} RETURNING 1");
        let statement = Statement::from_sql_and_values(backend, sql, arrays);
        let written = connection.query_all_raw(statement).await?;
        return Ok(counted(written.len() as u64));
    }
    let values = std::mem::take(&mut insert.rows.values);
    let width = values.len() / count.max(1);
    let row = |row: usize| {
        let numbers = (1..=width).map(|column| format!("${}", row * width + column));
        format!("({})", numbers.collect::<Vec<_>>().join(","))
    };
    let rows: Vec<String> = (0..count).map(row).collect();
    let sql = format!("{into} VALUES {}{on_conflict}", rows.join(", "));
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let written = connection.execute_raw(statement).await?;
    Ok(counted(written.rows_affected()))
}

/// Updates rows of a shard by one statement, and returns the number of those that had the expected version.
async fn execute_updates(
    connection: &impl ConnectionTrait,
    updates: Vec<Write>,
) -> Result<u64, DbErr> {
    let backend = DbBackend::Postgres;
    let buckets: BTreeSet<i16> = updates.iter().flat_map(|it| it.rows.buckets()).collect();
    let mut values = vec![array(buckets)];
    let mut parts = Vec::new();
    let mut counts = Vec::new();
    for (number, mut update) in updates.into_iter().enumerate() {
        let (rows, arrays) = take(&mut update.rows, values.len() + 1);
        let sql = update.sql(backend, Reach::Shard, &rows);
        parts.push(format!("w{number} AS ({sql} RETURNING 1)"));
        counts.push(format!("(SELECT count(*) FROM w{number})"));
        values.extend(arrays);
    }
    let (parts, counts) = (parts.join(", "), counts.join(" + "));
    let sql = format!("WITH {parts} SELECT {counts} AS written");
    let statement = Statement::from_sql_and_values(backend, sql, values);
    let row = connection.query_one_raw(statement).await?;
    let row = row.ok_or(DbErr::RecordNotFound(String::new()))?;
    let written: i64 = row.try_get("", "written")?;
    Ok(written.unsigned_abs())
}
