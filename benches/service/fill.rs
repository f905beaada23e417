//! Large databases: the unit that the service itself has filled, copied to further units by the
//! database, with the indexes built afterwards.

use std::hash::{DefaultHasher, Hash, Hasher};

use chrono::Utc;
use sea_orm::DatabaseConnection;

use crate::database::{Database, Kind};
use crate::make::{bucket_of, unit};
use crate::rows::TABLES;
use crate::template::{self, REQUESTS};
use crate::{Bench, Outcome, server, sql};

/// A database with so many requests, kept from before or filled now.
pub async fn filled(bench: &Bench, kind: Kind, size: usize) -> Outcome<Database> {
    let postgres = bench.postgres.as_ref();
    let empty = Database::empty(kind, postgres).await?;
    server::migrate(&bench.settings, &empty.url()).await?;
    let name = name(&empty, size).await?;
    if bench.settings.keep
        && let Some(kept) = Database::kept(kind, postgres, &name).await?
    {
        return kept.copy().await;
    }
    template::fill(bench, &empty).await?;
    copy(&empty, units(size)).await?;
    match bench.settings.keep {
        true => empty.keep(&name).await?.copy().await,
        false => Ok(empty),
    }
}

/// How many units hold so many requests.
pub fn units(size: usize) -> u64 {
    size.div_ceil(REQUESTS).max(1) as u64
}

/// The ids of the requests, which are the same in every unit.
pub async fn ids(database: &Database) -> Outcome<Vec<String>> {
    let connection = sql::connect(&database.url()).await?;
    let id = match database.kind() {
        Kind::Sqlite => "lower(hex(id))",
        Kind::Postgresql => "id::text",
    };
    let unit = unit(0);
    let bucket = bucket_of(&unit);
    let sql = format!(
        "SELECT {id} FROM booking_request WHERE bucket = {bucket} AND care_unit = '{unit}' LIMIT {REQUESTS}"
    );
    let ids = sql::texts(&connection, &sql).await?;
    connection.close().await?;
    let parsed = |id: &String| Ok(uuid::Uuid::parse_str(id)?.to_string());
    ids.iter().map(parsed).collect()
}

/// The name under which it is kept: another when the schema is another, and every week, since what
/// is to come must not have come.
async fn name(empty: &Database, size: usize) -> Outcome<String> {
    let connection = sql::connect(&empty.url()).await?;
    let schema = match empty.kind() {
        Kind::Sqlite => "SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name",
        Kind::Postgresql => {
            "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public' UNION \
             SELECT concat_ws(' ', c.relname, c.reloptions, a.attname, a.atttypid::regtype) \
             FROM pg_attribute AS a JOIN pg_class AS c ON c.oid = a.attrelid \
             WHERE c.relnamespace = 'public'::regnamespace AND a.attnum > 0 ORDER BY 1"
        }
    };
    let mut hash = DefaultHasher::new();
    sql::texts(&connection, schema).await?.hash(&mut hash);
    connection.close().await?;
    let week = Utc::now().format("%G%V");
    Ok(format!("growth_{size}_{week}_{:016x}", hash.finish()))
}

/// Copies the requests of unit 0 to others, so that there are so many units.
pub async fn copy(database: &Database, units: u64) -> Outcome<()> {
    let connection = sql::connect(&database.url()).await?;
    let indexes = indexes(&connection, database.kind()).await?;
    if database.kind() == Kind::Sqlite {
        // Nobody needs what is half filled.
        sql::run(&connection, "PRAGMA synchronous = OFF").await?;
        sql::run(&connection, "PRAGMA cache_size = -262144").await?;
    }
    for (name, _) in indexes.iter().filter(|_| units > 1) {
        sql::run(&connection, &format!("DROP INDEX {name}")).await?;
    }
    let mut copies = Vec::new();
    for (table, _) in TABLES {
        copies.push(copy_of(&connection, database.kind(), table).await?);
    }
    for number in 1..units {
        let of_unit = |copy: &String| {
            let year = format!("{number:04}");
            let unit = unit(number);
            copy.replace("{unit}", &unit)
                .replace("{bucket}", &bucket_of(&unit).to_string())
                .replace("{year}", &year)
        };
        let copies: Vec<String> = copies.iter().map(of_unit).collect();
        sql::run(
            &connection,
            &format!("BEGIN; {}; COMMIT", copies.join("; ")),
        )
        .await?;
    }
    for (_, build) in indexes.iter().filter(|_| units > 1) {
        sql::run(&connection, build).await?;
    }
    let tidy: &[&str] = match database.kind() {
        // No statistics: the service never gathers them there.
        Kind::Sqlite => &["PRAGMA wal_checkpoint(TRUNCATE)"],
        Kind::Postgresql => &["VACUUM ANALYZE", "CHECKPOINT"],
    };
    for statement in tidy {
        sql::run(&connection, statement).await?;
    }
    connection.close().await?;
    if database.kind() == Kind::Sqlite {
        // What is still in memory alone would be written while calls are measured.
        std::fs::File::open(database.path())?.sync_all()?;
    }
    Ok(())
}

/// The indexes that are no keys of tables: their names, and the statements that build them.
async fn indexes(connection: &DatabaseConnection, kind: Kind) -> Outcome<Vec<(String, String)>> {
    // Those of the tables that are copied: others may be of partitions, and cannot be dropped by themselves.
    let tables: Vec<String> = TABLES.iter().map(|(it, _)| format!("'{it}'")).collect();
    let tables = tables.join(", ");
    let from = match kind {
        Kind::Sqlite => format!(
            "sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN ({tables})"
        ),
        Kind::Postgresql => format!(
            "pg_get_indexdef(indexrelid) FROM pg_index \
             WHERE NOT indisprimary AND indrelid::regclass::text IN ({tables})"
        ),
    };
    let builds = sql::texts(connection, &format!("SELECT {from}")).await?;
    let named = |build: String| {
        let mut words = build.split([' ', '"']).filter(|word| !word.is_empty());
        let name = words.find(|word| !["CREATE", "UNIQUE", "INDEX"].contains(word));
        let name = name.ok_or("an index has a name")?.to_owned();
        Ok((name, build))
    };
    builds.into_iter().map(named).collect()
}

/// The statement that copies a table's rows from unit 0 to another. Patients are others in every
/// unit: their year of birth is the unit's number, which nobody looks at any more.
async fn copy_of(connection: &DatabaseConnection, kind: Kind, table: &str) -> Outcome<String> {
    let columns = match kind {
        Kind::Sqlite => format!("SELECT name FROM pragma_table_info('{table}')"),
        Kind::Postgresql => format!(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = '{table}'::regclass \
             AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
        ),
    };
    let columns = sql::texts(connection, &columns).await?;
    let value = |column: &String| match column.as_str() {
        "bucket" => "{bucket}".to_owned(),
        "care_unit" => "'{unit}'".to_owned(),
        "personal_id" => "'{year}' || substr(personal_id, 5)".to_owned(),
        other => other.to_owned(),
    };
    let values: Vec<String> = columns.iter().map(value).collect();
    Ok(format!(
        "INSERT INTO {table} ({}) SELECT {} FROM {table} WHERE bucket = {} AND care_unit = '{}'",
        columns.join(", "),
        values.join(", "),
        bucket_of(&unit(0)),
        unit(0),
    ))
}
