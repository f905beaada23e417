//! Sets of rows on their way into tables: in as few statements as the database takes.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::domain::calendar::{Instant, from_micros};
use crate::store::bulk::rows::{Column, Rows, Table, execute_all};
use crate::store::entity::change_event::DATABASE_NOW;

/// How many rows may be written by statements that are sent to SQLite as one: those of one call.
/// They stay prepared as one too, for each combination of sizes that comes.
const CONCATENATED_ROWS_MAX: usize = 8;

/// Rows, and the table that they go to.
pub struct Write {
    rows: Rows,
    target: Target,
}

/// What becomes of rows.
struct Target {
    table: &'static Table,
    /// Which columns of rows that are there are written, and the column that has their version;
    /// none when the rows are new.
    change: Option<(&'static [Column], &'static str)>,
}

impl Write {
    /// New rows, as [`Table::new_rows`] has them. That a key exists is an error.
    pub fn new(table: &'static Table, rows: Rows) -> Self {
        let target = Target {
            table,
            change: None,
        };
        Self { rows, target }
    }

    /// Rows of which `columns` change, as [`Table::changed_rows`] has them. One whose `version` is
    /// not as expected does not count as written.
    pub fn change(
        table: &'static Table,
        columns: &'static [Column],
        version: &'static str,
        rows: Rows,
    ) -> Self {
        let target = Target {
            table,
            change: Some((columns, version)),
        };
        Self { rows, target }
    }

    /// Returns whether there are no rows.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }
}

/// What has become of rows.
pub struct Written {
    /// Whether every row was written: if not, none must stay.
    pub is_complete: bool,
    /// What the database's clock showed; none of one that goes by the machine's, and none where there
    /// was nothing to write.
    pub database_now: Option<Instant>,
}

/// Writes everything, in a transaction that is rolled back when it fails.
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
    fn sql(&self, backend: DbBackend, rows: &str) -> String {
        match self.change {
            None => self.table.insert_sql(backend, rows),
            Some((columns, version)) => self.table.update_sql(backend, columns, version, rows),
        }
    }
}

/// Statements as one, which SQLite carries out one after the other.
fn concatenated(statements: Vec<Statement>) -> Statement {
    let backend = DbBackend::Sqlite;
    let sql: Vec<&str> = statements.iter().map(|it| it.sql.as_str()).collect();
    let sql = sql.join("; ");
    let values = statements.into_iter().filter_map(|it| it.values);
    Statement::from_sql_and_values(backend, sql, values.flat_map(|it| it.0))
}

/// On PostgreSQL: one statement, of which each write is a part, counted; it also says what the
/// database's clock shows. In which order the parts are
/// carried out is not promised; all that depends on it is the order of locks, and what is caught in a
/// deadlock is repeated.
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
