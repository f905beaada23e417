//! The stand-in for a database that is spread over several servers: the tables of a PostgreSQL, partitioned by bucket. The
//! store takes each partition for a shard, and PostgreSQL leaves out the partitions that a statement does not name, as
//! Citus sends a statement to one server alone.

use std::env;

use care_invitation::store::schema;
use sea_orm::ConnectionTrait;

use crate::backend::connect;

/// Says, when it is set, that the tables of every PostgreSQL of this run are partitioned.
pub const SWITCH: &str = "TEST_PARTITIONS";

/// Number of partitions of each table, whose buckets leave the same remainder.
pub const COUNT: i16 = 8;

/// Puts partitioned tables in the place of the empty ones that the service has made.
const PARTITION: &str = "
    DO $$
    DECLARE
        name text;
        part int;
        buckets text;
    BEGIN
        FOREACH name IN ARRAY ARRAY['booking_request', 'notification', 'history', 'idempotency_key',
            'care_unit_settings', 'change_event']
        LOOP
            EXECUTE format('ALTER TABLE %I RENAME TO whole', name);
            EXECUTE format('CREATE TABLE %I (LIKE whole INCLUDING ALL) PARTITION BY LIST (bucket)', name);
            DROP TABLE whole;
            FOR part IN 0..PARTS - 1 LOOP
                SELECT string_agg(it::text, ', ') INTO buckets FROM generate_series(part, 63, PARTS) AS it;
                EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES IN (%s)', name || '_' || part, name, buckets);
            END LOOP;
        END LOOP;
    END $$";

/// Names a Citus, by a database on its coordinator, on which the tests run that go to PostgreSQL. `CREATE DATABASE` there makes a
/// database that all nodes have and know.
const CITUS: &str = "TEST_CITUS_URL";

/// Returns the address of the Citus of this run, if it has one.
pub fn citus() -> Option<String> {
    env::var(CITUS).ok()
}

/// Returns true when the tables of this run are spread.
pub fn are_wanted() -> bool {
    env::var_os(SWITCH).is_some() || citus().is_some()
}

/// Migrates an empty database, and spreads its tables as this run wants it.
pub async fn migrate_and_spread(url: &str) {
    if citus().is_none() {
        return migrate_and_partition(url).await;
    }
    schema::migrate(url).await.expect("migrated");
    let distributed = schema::distribute(url).await.expect("distributed");
    assert!(!distributed.is_empty());
}

/// Migrates an empty database, and partitions its tables.
pub async fn migrate_and_partition(url: &str) {
    schema::migrate(url).await.expect("migrated");
    let database = connect(url).await;
    let sql = PARTITION.replace("PARTS", &COUNT.to_string());
    let done = database.execute_unprepared(&sql).await;
    done.expect("the tables of the service, and nothing else");
}
