//! Bulk writes of several tables, in as few statements as the database takes.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::domain::calendar::{Instant, from_micros};
use crate::store::bulk::rows::{Column, Rows, Table, execute_all};

/// Present time of PostgreSQL's clock while a statement runs, in microseconds since 1970.
pub const DATABASE_NOW: &str = "(extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// Maximum rows that are written by statements which are sent to SQLite as one: those of a single call. They stay prepared
/// as one too, for each combination of sizes that comes.
const CONCATENATED_ROWS_MAX: usize = 8;

/// Rows to write, and their target.
pub struct Write {
    rows: Rows,
    target: Target,
}

/// The table and the kind of a write.
struct Target {
    table: &'static Table,
    /// Columns to update, and the column of the version; none for an insert.
    update: Option<(&'static [Column], &'static str)>,
}

impl Write {
    /// Returns the insert of rows with the columns of [`Table::new_rows`]. It is an error if a key exists.
    pub fn new(table: &'static Table, rows: Rows) -> Self {
        let target = Target {
            table,
            update: None,
        };
        Self { rows, target }
    }

    /// Returns the update of `columns` of rows with the columns of [`Table::changed_rows`]. A row whose `version` is not
    /// the expected one does not count as written.
    pub fn update(
        table: &'static Table,
        columns: &'static [Column],
        version: &'static str,
        rows: Rows,
    ) -> Self {
        let target = Target {
            table,
            update: Some((columns, version)),
        };
        Self { rows, target }
    }

    /// Returns true when there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

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
            let (written, database_now) = write_in_one_cte(connection, writes).await?;
            (written, Some(database_now))
        }
        backend => {
            let mut statements = Vec::new();
            for Write { rows, target } in writes {
                statements.extend(rows.statements(backend, |rows| target.sql(backend, rows)));
            }
            if expected <= CONCATENATED_ROWS_MAX {
                statements = vec![concatenated(statements)];
            }
            (execute_all(connection, statements).await?, None)
        }
    };
    Ok(Written {
        is_complete: written == expected as u64,
        database_now,
    })
}

impl Target {
    /// Returns the statement that writes the rows.
    fn sql(&self, backend: DbBackend, rows: &str) -> String {
        match self.update {
            None => self.table.insert_sql(backend, rows),
            Some((columns, version)) => self.table.update_sql(backend, columns, version, rows),
        }
    }
}

/// Joins statements to one, of which SQLite executes one after the other.
fn concatenated(statements: Vec<Statement>) -> Statement {
    let backend = DbBackend::Sqlite;
    let sql: Vec<&str> = statements.iter().map(|it| it.sql.as_str()).collect();
    let sql = sql.join("; ");
    let values = statements.into_iter().filter_map(|it| it.values);
    Statement::from_sql_and_values(backend, sql, values.flat_map(|it| it.0))
}

/// Writes on PostgreSQL, by one statement with a common table expression for each write. Returns the number of rows
/// written and the time on the database's clock. PostgreSQL does not promise an order of the parts. Only the order of
/// locks depends on it, and a batch that runs into a deadlock is tried again.
async fn write_in_one_cte(
    connection: &impl ConnectionTrait,
    writes: Vec<Write>,
) -> Result<(u64, Instant), DbErr> {
    let mut parts = Vec::new();
    let mut counts = Vec::new();
    let mut values = Vec::new();
    for (number, mut write) in writes.into_iter().enumerate() {
        let (rows, arrays) = write.rows.take(DbBackend::Postgres, values.len() + 1);
        let write = write.target.sql(DbBackend::Postgres, &rows);
        parts.push(format!("w{number} AS ({write} RETURNING 1)"));
        counts.push(format!("(SELECT count(*) FROM w{number})"));
        values.extend(arrays);
    }
    let sql = format!(
        "WITH {} SELECT {DATABASE_NOW} AS now, {} AS written",
        parts.join(", "),
        counts.join(" + ")
    );
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let row = connection.query_one_raw(statement).await?;
    let row = row.ok_or(DbErr::RecordNotFound(String::new()))?;
    let written: i64 = row.try_get("", "written")?;
    let now: i64 = row.try_get("", "now")?;
    Ok((written.unsigned_abs(), from_micros(now)))
}
