//! The partitions of the access log on PostgreSQL: one for each month, in UTC, of either table.
//!
//! They are made by whoever migrates, a year ahead, since making one needs the rights of the owner. Rows of a month
//! without one go to the default partition, and are purged row by row.

use chrono::{DateTime, Datelike, Months, NaiveDate, NaiveTime, Utc};
use sea_orm::{ConnectionTrait, DatabaseTransaction, DbBackend, DbErr, Statement};

use crate::domain::calendar::Instant;
use crate::store::database::probe::ask;

/// Months for which there are partitions after the present one.
const MONTHS_AHEAD: u32 = 12;
/// Tables that are partitioned.
const TABLES: [&str; 2] = ["access_log", "access_log_patient"];
/// Time for which dropping a partition waits for its lock. All other users of the table wait behind it meanwhile.
const TABLE_LOCK_MAX: &str = "5s";

/// A month.
#[derive(Clone, Copy)]
struct Month(NaiveDate);

impl Month {
    fn of(at: Instant) -> Self {
        Self(
            at.date_naive()
                .with_day(1)
                .expect("every month has a first day"),
        )
    }

    fn after(self, months: u32) -> Self {
        Self(self.0 + Months::new(months))
    }

    /// Returns the instant at which it begins, in microseconds.
    fn begin(self) -> i64 {
        let begin: DateTime<Utc> = self.0.and_time(NaiveTime::MIN).and_utc();
        begin.timestamp_micros()
    }

    /// Returns the name of its partition.
    fn partition(self, table: &str) -> String {
        format!("{table}_{}", self.0.format("%Y_%m"))
    }

    /// Returns the month of a partition; none if the name is not one of ours.
    fn of_partition(table: &str, name: &str) -> Option<Self> {
        let month = name.strip_prefix(table)?.strip_prefix('_')?;
        let first = NaiveDate::parse_from_str(&format!("{month}_01"), "%Y_%m_%d").ok()?;
        (Self(first).partition(table) == name).then_some(Self(first))
    }
}

/// Makes the partitions of the present month and of those to come that are missing.
pub async fn make_missing(transaction: &DatabaseTransaction, now: Instant) -> Result<(), DbErr> {
    let first = Month::of(now);
    for month in (0..=MONTHS_AHEAD).map(|months| first.after(months)) {
        for table in TABLES {
            make(transaction, table, month).await?;
        }
    }
    Ok(())
}

/// Makes a partition, unless it is there, or the default partition has rows of its month, which stay there.
async fn make(transaction: &DatabaseTransaction, table: &str, month: Month) -> Result<(), DbErr> {
    let (name, from, to) = (
        month.partition(table),
        month.begin(),
        month.after(1).begin(),
    );
    let is_taken = format!(
        "SELECT to_regclass('{name}') IS NOT NULL OR EXISTS \
         (SELECT 1 FROM {table}_default WHERE recorded_at >= {from} AND recorded_at < {to})"
    );
    if ask(transaction, is_taken).await? {
        return Ok(());
    }
    let make =
        format!("CREATE TABLE {name} PARTITION OF {table} FOR VALUES FROM ({from}) TO ({to})");
    transaction.execute_unprepared(&make).await?;
    Ok(())
}

/// Drops the partitions whose months are over before this time, in microseconds. Returns the number of entries in them.
pub async fn drop_before(transaction: &DatabaseTransaction, before: i64) -> Result<u64, DbErr> {
    let limit = format!("SET LOCAL lock_timeout = '{TABLE_LOCK_MAX}'");
    transaction.execute_unprepared(&limit).await?;
    let mut entries = 0;
    for table in TABLES {
        for name in partitions(transaction, table).await? {
            let month = Month::of_partition(table, &name);
            if month.is_none_or(|it| it.after(1).begin() > before) {
                continue;
            }
            if table == TABLES[0] {
                entries += count(transaction, &name).await?;
            }
            let drop = format!("DROP TABLE {name}");
            transaction.execute_unprepared(&drop).await?;
        }
    }
    Ok(entries)
}

async fn partitions(transaction: &DatabaseTransaction, table: &str) -> Result<Vec<String>, DbErr> {
    let select = format!(
        "SELECT relname::text FROM pg_class JOIN pg_inherits ON inhrelid = oid \
         WHERE inhparent = '{table}'::regclass ORDER BY 1"
    );
    let statement = Statement::from_string(DbBackend::Postgres, select);
    let rows = transaction.query_all_raw(statement).await?;
    rows.iter().map(|row| row.try_get_by_index(0)).collect()
}

async fn count(transaction: &DatabaseTransaction, name: &str) -> Result<u64, DbErr> {
    let count: i64 = ask(transaction, format!("SELECT count(*) FROM {name}")).await?;
    Ok(u64::try_from(count).unwrap_or_default())
}
