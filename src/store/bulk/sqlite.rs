//! Bulk rows on SQLite, which has no arrays: each row is a list of parameters, and the rows are padded to one of a few
//! sizes, so that the statements stay prepared.

use sea_orm::sea_query::{ArrayType, Expr};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

use crate::store::bulk::Reach;
use crate::store::bulk::rows::{RowColumn, Rows};
use crate::store::bulk::write::Write;

/// Maximum rows of a chunk; smaller chunks have a power of two. Each chunk is a switch to another thread and back, which
/// costs more than padding does. Larger chunks take too much memory while they stay prepared.
pub const CHUNK_ROWS_MAX: usize = 256;
/// Maximum rows that are written by statements which are sent as one: those of a single call. They stay prepared as one
/// too, for each combination of sizes that comes.
const CONCATENATED_ROWS_MAX: usize = 8;

/// Value of all columns of a padding row.
const PADDING: Value = Value::BigInt(None);

/// Takes a chunk of rows as a padded list of values, which is padding alone when no rows are left.
pub fn take(rows: &mut Rows) -> (String, Vec<Value>) {
    let width = rows.columns.len();
    let filled = rows.len().min(CHUNK_ROWS_MAX);
    let padded = filled.next_power_of_two();
    let left = rows.values.split_off(filled * width);
    let mut chunk = std::mem::replace(&mut rows.values, left);
    chunk.resize(padded * width, PADDING);
    (values_list(rows, padded), chunk)
}

/// Returns the sub-select of so many rows, with a parameter for each value. Rows whose first column is null are padding.
fn values_list(rows: &Rows, count: usize) -> String {
    let names: Vec<String> = rows
        .names()
        .zip(1..)
        .map(|(name, number)| format!("column{number} AS {name}"))
        .collect();
    let row = format!(",({})", vec!["?"; names.len()].join(","));
    format!(
        "(SELECT {} FROM (VALUES {}) WHERE column1 IS NOT NULL)",
        names.join(", "),
        &row.repeat(count)[1..]
    )
}

/// Returns the condition that a row is none of these, as one parameter: a parameter for each value would need a statement
/// of its own for each number of rows, and SQLite has a limit on them.
pub fn exclusion(rows: &Rows) -> Expr {
    let name = |column: &RowColumn| match column.value_type {
        ArrayType::Uuid => format!("hex({})", column.name),
        _ => column.name.to_owned(),
    };
    let names: Vec<String> = rows.columns.iter().map(name).collect();
    let parts: Vec<String> = (0..names.len())
        .map(|it| format!("value ->> {it}"))
        .collect();
    let text = |value: &Value| match value {
        Value::Uuid(Some(id)) => id.simple().to_string().to_uppercase(),
        Value::String(Some(text)) => text.clone(),
        _ => unreachable!("keys are texts and ids"),
    };
    let keys = rows.values.chunks(names.len());
    let keys: Vec<Vec<String>> = keys.map(|key| key.iter().map(text).collect()).collect();
    let condition = format!(
        "({}) NOT IN (SELECT {} FROM json_each(?))",
        names.join(", "),
        parts.join(", ")
    );
    Expr::cust_with_values(condition, [serde_json::json!(keys).to_string()])
}

/// Executes the writes one after the other. Returns the number of counted rows.
pub async fn write(connection: &impl ConnectionTrait, writes: Vec<Write>) -> Result<u64, DbErr> {
    let (writes, uncounted): (Vec<_>, Vec<_>) = writes.into_iter().partition(Write::is_counted);
    let rows: usize = writes.iter().map(|write| write.rows.len()).sum();
    for statement in statements(uncounted) {
        connection.execute_raw(statement).await?;
    }
    let mut statements = statements(writes);
    if rows <= CONCATENATED_ROWS_MAX {
        statements = vec![concatenated(statements)];
    }
    let mut written = 0;
    for statement in statements {
        written += connection.execute_raw(statement).await?.rows_affected();
    }
    Ok(written)
}

/// Returns the statements of writes.
fn statements(writes: Vec<Write>) -> Vec<Statement> {
    let backend = DbBackend::Sqlite;
    let mut statements = Vec::new();
    for mut write in writes {
        while !write.rows.is_empty() {
            let (rows, values) = take(&mut write.rows);
            let sql = write.sql(backend, Reach::Whole, &rows);
            statements.push(Statement::from_sql_and_values(backend, sql, values));
        }
    }
    statements
}

/// Joins statements to one, of which SQLite executes one after the other.
fn concatenated(statements: Vec<Statement>) -> Statement {
    let sql: Vec<&str> = statements.iter().map(|it| it.sql.as_str()).collect();
    let sql = sql.join("; ");
    let values = statements.into_iter().filter_map(|it| it.values);
    Statement::from_sql_and_values(DbBackend::Sqlite, sql, values.flat_map(|it| it.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_chunks_of_a_few_sizes_on_sqlite() {
        for (count, sizes) in [
            (0, vec![]),
            (1, vec![1]),
            (7, vec![8]),
            (600, vec![256, 256, 128]),
        ] {
            let columns = ["a", "b"].map(|name| RowColumn::new(name, ArrayType::BigInt));
            let mut rows = Rows::new(columns.to_vec());
            for number in 0..count {
                rows.push([Value::from(number), Value::from(number)]);
            }
            let mut found = Vec::new();
            while !rows.is_empty() {
                let (sql, values) = take(&mut rows);
                assert_eq!(sql.matches('?').count(), values.len());
                found.push(values.len() / 2);
            }
            assert_eq!(found, sizes);
        }
    }
}
