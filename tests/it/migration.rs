//! The schema on both databases: up, down and up again, by several at once, and refused when it is
//! not the one that is needed.

use std::error::Error;
use std::process::Stdio;

use care_invitation::domain::care_units::CareUnits;
use care_invitation::store::Store;
use care_invitation::store::error::OpenError;
use care_invitation::store::schema::{Migrator, Schema, distribute, migrate};
use sea_orm::{ConnectionTrait, DatabaseConnection, DbBackend, Statement};
use sea_orm_migration::MigratorTrait;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::Command;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::backend::{self, Area};
use crate::harness::within;
use crate::make::at;
use crate::purge::{book, insert, run};
use crate::store_fixtures::call;
use crate::{partitions, postgres};

const NAMES: [&str; 1] = ["m0001_first_schema"];

/// An empty database, deleted when dropped.
pub struct Empty {
    pub url: String,
    _place: (Option<TempDir>, Option<Area>),
}

impl Empty {
    pub fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self {
            url: format!(
                "sqlite://{}?mode=rwc",
                folder.path().join("test.db").display()
            ),
            _place: (Some(folder), None),
        }
    }

    /// None where there is no server, which is said.
    pub async fn postgres() -> Option<Self> {
        let area = Area::create(postgres::server()?).await;
        Some(Self {
            url: area.url(),
            _place: (None, Some(area)),
        })
    }

    /// One of each kind that there is.
    pub async fn each() -> impl Iterator<Item = Self> {
        [Some(Self::sqlite()), Self::postgres().await]
            .into_iter()
            .flatten()
    }

    pub async fn connect(&self) -> DatabaseConnection {
        backend::connect(&self.url).await
    }
}

/// The rows of a query as text.
pub async fn texts(connection: &DatabaseConnection, sql: &str) -> Vec<String> {
    let backend = connection.get_database_backend();
    let rows = connection.query_all_raw(Statement::from_string(backend, sql));
    let rows = rows.await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let text = |row: &sea_orm::QueryResult| row.try_get_by_index(0).expect("text");
    rows.iter().map(text).collect()
}

/// Everything that migrations make, described.
async fn schema(connection: &DatabaseConnection) -> Vec<String> {
    let queries: &[&str] = match connection.get_database_backend() {
        DbBackend::Postgres => &[
            "SELECT concat_ws(' ', table_name, ordinal_position, column_name, data_type, \
             is_nullable, column_default) FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name <> 'seaql_migrations' ORDER BY 1",
            "SELECT indexdef FROM pg_indexes \
             WHERE schemaname = 'public' AND tablename <> 'seaql_migrations' ORDER BY 1",
            "SELECT concat_ws(' ', relname, reloptions::text) FROM pg_class \
             WHERE reloptions IS NOT NULL AND relnamespace = 'public'::regnamespace ORDER BY 1",
        ],
        _ => &["SELECT concat_ws(' ', type, name, sql) FROM sqlite_master \
             WHERE name NOT LIKE '%seaql_migrations%' ORDER BY 1"],
    };
    let mut described = Vec::new();
    for query in queries {
        described.extend(texts(connection, query).await);
    }
    described
}

#[tokio::test]
async fn the_schema_goes_up_and_down_and_comes_back_the_same() {
    for database in Empty::each().await {
        let connection = database.connect().await;
        let mut steps = vec![schema(&connection).await];
        assert!(steps[0].is_empty());
        for _ in NAMES {
            Migrator::up(&connection, Some(1)).await.expect("up");
            steps.push(schema(&connection).await);
            assert_ne!(steps.first(), steps.last());
        }
        for step in steps.iter().rev().skip(1) {
            Migrator::down(&connection, Some(1)).await.expect("down");
            let seen = schema(&connection).await;
            // Columns keep their numbers on PostgreSQL, and SQLite quotes what it has renamed.
            let unquoted = |it: &Vec<String>| it.join("\n").replace('"', "").to_lowercase();
            if step.is_empty() {
                assert!(seen.is_empty(), "{seen:?}");
            } else {
                assert_eq!(seen.len(), step.len(), "{}", unquoted(&seen));
            }
        }
        Migrator::up(&connection, None).await.expect("up again");
        assert_eq!(steps.last(), Some(&schema(&connection).await));
    }
}

#[tokio::test]
async fn a_first_start_that_was_cut_off_leaves_nothing_behind() {
    for database in Empty::each().await {
        let connection = database.connect().await;
        let run = async |sql: &str| connection.execute_unprepared(sql).await.expect("done");
        // It comes as far as this table.
        run("CREATE TABLE history (in_the_way integer)").await;
        let failed = Migrator::up(&connection, None).await;
        assert!(failed.is_err());
        run("DROP TABLE history").await;
        assert!(schema(&connection).await.is_empty());
        Migrator::up(&connection, None).await.expect("up");
    }
}

#[tokio::test]
async fn what_was_there_before_a_migration_is_there_after_it() {
    for database in Empty::each().await {
        let url = database.url.replace("?mode=rwc", "");
        let store = Store::open(&url, Schema::Migrate).await.expect("opened");
        let request = insert(&store, call(), 0).await.expect("created");
        let before = store.get(&request).await.expect("read");
        store.close().await;
        drop(store);
        let again = migrate(&url).await.expect("migrated");
        assert!(again.is_empty(), "{again:?}");
        let store = Store::open(&url, Schema::Migrate).await.expect("opened");
        assert_eq!(store.get(&request).await.expect("read"), before);
        store.close().await;
    }
}

#[tokio::test]
async fn those_who_migrate_at_once_do_it_once() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let mut processes = JoinSet::new();
    for _ in 0..8 {
        let url = database.url.clone();
        processes.spawn(async move { migrate(&url).await.expect("migrated") });
    }
    let mut done = within(processes.join_all()).await;
    done.retain(|names| !names.is_empty());
    assert_eq!(done, [NAMES.map(str::to_owned)]);
    let locks = "SELECT 'held' FROM pg_locks WHERE locktype = 'advisory' \
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let connection = database.connect().await;
    assert!(texts(&connection, locks).await.is_empty());
}

#[tokio::test]
async fn waiting_for_another_who_migrates_is_said_and_so_is_what_a_start_has_applied() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let other = database.connect().await;
    let lock = "SELECT pg_advisory_lock(x'63617265696e7669'::bigint)";
    other.execute_unprepared(lock).await.expect("locked");
    let mut serve = Command::new(env!("CARGO_BIN_EXE_care-invitation"));
    serve
        .env_clear()
        .args(["serve", "--migrate", "--listen", "127.0.0.1:0"])
        .args(["--database-url", &database.url])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let mut serve = serve.spawn().expect("it starts");
    let log = serve.stderr.take().expect("it is piped");
    let mut log = BufReader::new(log).lines();
    let mut said = async |what: &str| {
        loop {
            let line = within(log.next_line()).await.expect("text");
            if line.expect("no end").contains(what) {
                return;
            }
        }
    };
    said("waiting for another process to finish migrating").await;
    other.close().await.expect("let go");
    for name in NAMES {
        said(name).await;
    }
}

#[tokio::test]
async fn an_older_schema_is_refused_with_the_command_to_run_and_left_alone() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let connection = database.connect().await;
    let before = schema(&connection).await;
    let refused = Store::open(&database.url, Schema::Require).await.err();
    let refused = refused.expect("refused");
    assert!(matches!(&refused, OpenError::SchemaOlder(names) if *names == NAMES.join(", ")));
    assert!(refused.to_string().contains("`care-invitation migrate`"));
    assert_eq!(schema(&connection).await, before);
    assert_eq!(migrate(&database.url).await.expect("migrated"), NAMES);
    let opened = Store::open(&database.url, Schema::Require).await;
    opened.expect("up to date").close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused_whatever_is_asked_for() {
    for database in Empty::each().await {
        migrate(&database.url).await.expect("migrated");
        let connection = database.connect().await;
        let newer = "INSERT INTO seaql_migrations (version, applied_at) VALUES ('m9999_later', 0)";
        connection.execute_unprepared(newer).await.expect("a row");
        drop(connection);
        for schema in [Schema::Require, Schema::Migrate] {
            let refused = Store::open(&database.url, schema).await.err();
            assert!(matches!(refused, Some(OpenError::SchemaNewer(name)) if name == "m9999_later"));
        }
    }
}

/// What the operations page says of a user who may not create tables is all that one needs.
#[tokio::test]
async fn a_user_who_may_not_create_tables_serves_and_purges_and_one_without_rights_is_told() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    migrate(&database.url).await.expect("migrated");
    let connection = database.connect().await;
    let role = format!("care_{}", Uuid::new_v4().simple());
    let execute = async |sql: String| {
        let done = connection.execute_unprepared(&sql).await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    };
    execute(format!("CREATE ROLE {role}")).await;
    let mark = if database.url.contains('?') { '&' } else { '?' };
    let url = format!("{}{mark}options[role]={role}", database.url);
    for schema in [Schema::Require, Schema::Migrate] {
        let refused = Store::open(&url, schema).await.err();
        let denied = "permission denied for table seaql_migrations";
        assert!(
            matches!(&refused, Some(OpenError::Denied(said)) if said == denied),
            "{refused:?}"
        );
    }
    for grant in grants() {
        execute(grant.replace("care_service", &role)).await;
    }
    let store = Store::open(&url, Schema::Require).await.expect("rights");
    let request = insert(&store, call(), 0).await.expect("created");
    book(&store, request.clone(), "2026-03-02T09:00:00Z").await;
    store.get(&request).await.expect("read");
    assert!(
        store
            .first_claimable(CareUnits::Every, at("2026-03-02T09:00:00Z"))
            .await
            .is_ok()
    );
    store.close().await;
    let (purged, _) = run(&url, Some("2026-03-10T00:00:00Z")).await;
    let purged = purged.expect("purged");
    assert_eq!((purged.requests, purged.notifications), (1, 1));
    assert!(0 < purged.history);
    execute(format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

/// The statements that the operations page gives such a user his rights with.
fn grants() -> impl Iterator<Item = &'static str> {
    let lines = include_str!("../../docs/operations.md").lines();
    lines.filter(|line| line.starts_with("GRANT "))
}

/// A change of a table waits for those who use it, but not for long: here for one who makes a table of the same name.
#[tokio::test]
async fn a_table_that_is_in_use_is_left_as_it_is() {
    let Some(database) = Empty::postgres().await else {
        return;
    };
    let connection = database.connect().await;
    let before = schema(&connection).await;
    let other = database.connect().await;
    let lock = "BEGIN; CREATE TABLE booking_request (in_the_way integer)";
    other.execute_unprepared(lock).await.expect("locked");
    let refused = within(migrate(&database.url)).await;
    assert!(matches!(refused, Err(OpenError::InUse)), "{refused:?}");
    assert_eq!(schema(&connection).await, before);
    other.execute_unprepared("ROLLBACK").await.expect("let go");
    assert_eq!(migrate(&database.url).await.expect("repeated"), NAMES);
}

#[tokio::test]
async fn no_password_is_printed_when_a_database_cannot_be_opened() {
    for url in [
        "postgres://care:s3cret@127.0.0.1:99999/care",
        "postgres://care:s3cret@127.0.0.1:1/care",
        "postgres://care:s3cret@127.0.0.1/care?sslmode=s3cret",
        "postgres://care:s3cret@[/care",
    ] {
        let refused = Store::open(url, Schema::Require).await.err();
        let refused = refused.expect("nobody is there");
        let causes = std::iter::successors(Some(&refused as &dyn Error), |&it| it.source());
        let causes: Vec<_> = causes.map(|it| format!("{it} {it:?}")).collect();
        assert!(!causes.join(" ").contains("s3cret"), "{causes:?}");
    }
}

#[tokio::test]
async fn a_database_without_the_extension_distributes_nothing_and_says_so() {
    for empty in Empty::each().await {
        if partitions::citus().is_some() && empty.url.starts_with("postgres") {
            continue;
        }
        migrate(&empty.url).await.expect("migrated");
        let refused = distribute(&empty.url).await;
        assert!(matches!(refused, Err(OpenError::NoCitus)));
        Store::open(&empty.url, Schema::Require)
            .await
            .expect("as it was");
    }
}

/// Only with `TEST_CITUS_URL`.
#[tokio::test]
async fn tables_are_distributed_once() {
    let (Some(_), Some(empty)) = (partitions::citus(), Empty::postgres().await) else {
        return;
    };
    migrate(&empty.url).await.expect("migrated");
    let store = Store::open(&empty.url, Schema::Require).await;
    assert_eq!(
        store.expect("open").nodes_away().await.expect("asked"),
        None
    );
    let distributed = distribute(&empty.url).await.expect("distributed");
    assert_eq!(distributed.len(), 10);
    assert!(distribute(&empty.url).await.expect("asked").is_empty());
    let store = Store::open(&empty.url, Schema::Require).await;
    let away = store.expect("open").nodes_away().await.expect("asked");
    assert_eq!(away.map(|it| it.len()), Some(0));
}
