//! The spread of the tables: whether they lie in one place, and which shard each bucket is in.

use sea_orm::sqlx::{self, PgConnection, Row};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};

use crate::store::bucket::BUCKETS;

/// The place where rows lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// One place, as on SQLite and on PostgreSQL by itself.
    Whole,
    /// Partitions by bucket, on one PostgreSQL: a stand-in for shards.
    Partitioned,
    /// Shards of Citus, on several servers.
    Citus,
}

/// Expression that is true when the tables are partitioned.
const IS_PARTITIONED: &str = "coalesce((SELECT relkind = 'p' FROM pg_catalog.pg_class \
     WHERE oid = to_regclass('booking_request')), false)";

/// Expression that is true when the database has the extension, whether or not it has spread the tables.
const HAS_CITUS: &str = "to_regclass('pg_catalog.pg_dist_partition') IS NOT NULL";

/// Query that yields a row when the extension has spread the tables.
const IS_DISTRIBUTED: &str = "SELECT 1 FROM pg_catalog.pg_dist_partition \
     WHERE logicalrelid = to_regclass('booking_request') AND partmethod = 'h'";

/// Returns how a PostgreSQL has spread the tables.
pub async fn detect_spread(connection: &mut PgConnection) -> Result<Spread, sqlx::Error> {
    let question = sqlx::AssertSqlSafe(format!("SELECT {IS_PARTITIONED}, {HAS_CITUS}"));
    let row = sqlx::raw_sql(question).fetch_one(&mut *connection).await?;
    let (is_partitioned, has_citus): (bool, bool) = (row.try_get(0)?, row.try_get(1)?);
    if is_partitioned {
        return Ok(Spread::Partitioned);
    }
    let distributed = match has_citus {
        true => {
            sqlx::raw_sql(IS_DISTRIBUTED)
                .fetch_optional(connection)
                .await?
        }
        false => None,
    };
    Ok(distributed.map_or(Spread::Whole, |_| Spread::Citus))
}

/// Returns the shard of each bucket, where rows are spread over several.
pub async fn shards(
    connection: &impl ConnectionTrait,
    spread: Spread,
) -> Result<Vec<(i16, i64)>, DbErr> {
    let sql = match spread {
        Spread::Whole => return Ok(Vec::new()),
        // The values of a partition stand in its bound.
        Spread::Partitioned => {
            "SELECT (regexp_matches(pg_get_expr(relpartbound, oid), '\\d+', 'g'))[1]::smallint, \
             oid::bigint FROM pg_class JOIN pg_inherits ON inhrelid = oid \
             WHERE inhparent = 'booking_request'::regclass"
                .to_owned()
        }
        Spread::Citus => format!(
            "SELECT b::smallint, get_shard_id_for_distribution_column('booking_request', b::smallint) \
             FROM generate_series(0, {BUCKETS} - 1) AS b"
        ),
    };
    let statement = Statement::from_string(DbBackend::Postgres, sql);
    let rows = connection.query_all_raw(statement).await?;
    let shard =
        |row: &sea_orm::QueryResult| Ok((row.try_get_by_index(0)?, row.try_get_by_index(1)?));
    rows.iter().map(shard).collect()
}
