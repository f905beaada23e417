//! A database of its own for each test: a SQLite file, or one on the PostgreSQL of this run.

use std::env;
use std::fmt;
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::Duration;

use care_invitation::store::Store;
use care_invitation::store::schema::Schema;
use sea_orm::{
    ConnectOptions, ConnectionTrait, Database, DatabaseConnection, DbBackend, DbErr, Statement,
};
use tempfile::TempDir;
use tokio::time::sleep;
use uuid::Uuid;

use crate::{partitions, postgres};

/// Says on which kind of database the tests run that run on either; SQLite when it is not set.
pub const KIND: &str = "TEST_DATABASE";

/// How often a store is opened before that has failed.
const TRIES_MAX: usize = 10;
/// Pause between two looks at what is waited for.
const POLL: Duration = Duration::from_millis(10);

/// The kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// What this run is about.
    pub fn of_this_run() -> Self {
        match env::var(KIND).as_deref() {
            Err(_) | Ok("sqlite") => Self::Sqlite,
            Ok("postgresql") => Self::Postgres,
            Ok(other) => panic!("{KIND} is {other}, not sqlite or postgresql"),
        }
    }
}

/// A database and a store on it; the database goes with the last store.
pub struct Backend {
    pub store: Store,
    place: Arc<Place>,
}

impl Backend {
    /// An empty database of the kind that this run is about.
    pub async fn empty() -> Self {
        match Kind::of_this_run() {
            Kind::Sqlite => Self::sqlite().await,
            Kind::Postgres => Self::postgres().await.expect("this run has a server"),
        }
    }

    /// An empty SQLite file, whatever the run is about.
    pub async fn sqlite() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the test's database");
        Self::on(Arc::new(Place::File(folder))).await
    }

    /// An empty database on PostgreSQL, whatever the run is about; none where there is no server.
    pub async fn postgres() -> Option<Self> {
        let server = postgres::server()?;
        if !postgres::ends_with_this_run() {
            let area = Area::create(server).await;
            if partitions::are_wanted() {
                partitions::migrate_and_spread(&area.url()).await;
            }
            return Some(Self::on(Arc::new(Place::Server(area))).await);
        }
        let area = Area::cleared(server).await;
        let is_new = area.is_none();
        let mut area = match area {
            Some(area) => area,
            None => Area::create(server).await,
        };
        area.is_for_others = true;
        let url = area.url();
        if is_new && partitions::are_wanted() {
            partitions::migrate_and_spread(&url).await;
        }
        let backend = Self::on(Arc::new(Place::Server(area))).await;
        if is_new && SHAPE.get().is_none() {
            let shape = shape(&connect(&url).await).await.expect("its shape");
            SHAPE.get_or_init(|| shape);
        }
        Some(backend)
    }

    /// An empty database on PostgreSQL whose tables are not partitioned, whatever the run is about; none where there is no server.
    pub async fn in_one_place() -> Option<Self> {
        let area = Area::create(postgres::server()?).await;
        Some(Self::on(Arc::new(Place::Server(area))).await)
    }

    /// An empty database on PostgreSQL whose tables are partitioned, whatever the run is about; none where there is no server.
    pub async fn partitioned() -> Option<Self> {
        let area = Area::create(postgres::server()?).await;
        partitions::migrate_and_partition(&area.url()).await;
        Some(Self::on(Arc::new(Place::Server(area))).await)
    }

    /// Another store on the same database, as another process would have it.
    pub async fn again(&self) -> Self {
        Self::on(self.place.clone()).await
    }

    /// Another store on the same database, once whoever has it to himself has let go.
    pub async fn reopened(self) -> Self {
        let Self { store, place } = self;
        drop(store);
        Self::once_free(place).await
    }

    async fn once_free(place: Arc<Place>) -> Self {
        loop {
            if let Ok(store) = Store::open(&place.to_string(), Schema::Migrate).await {
                return Self { store, place };
            }
            tokio::task::yield_now().await;
        }
    }

    /// A store on the same database, and one on a copy of it, once whoever has it has let go.
    pub async fn with_copy(self) -> (Self, Self) {
        let Self { store, place } = self;
        drop(store);
        let copy = Arc::new(place.copy().await);
        (Self::once_free(place).await, Self::on(copy).await)
    }

    /// A store on the same database, after work that waits until whoever has it to himself has let go.
    pub async fn after(self, work: impl AsyncFnOnce(&str)) -> Self {
        let Self { store, place } = self;
        drop(store);
        work(&place.to_string()).await;
        Self::once_free(place).await
    }

    pub fn url(&self) -> String {
        self.place.to_string()
    }

    async fn on(place: Arc<Place>) -> Self {
        let mut tries = 0..TRIES_MAX;
        loop {
            tries.next();
            // On a machine that runs every test at once a server may be slower to answer than a
            // service waits for it.
            match Store::open(&place.to_string(), Schema::Migrate).await {
                Ok(store) => return Self { store, place },
                Err(error) => assert!(!tries.is_empty(), "no database: {error}"),
            }
        }
    }
}

/// Where a database is. Prints its address.
enum Place {
    File(TempDir),
    Server(Area),
}

impl Place {
    /// A copy, as a backup that has been restored.
    async fn copy(&self) -> Self {
        match self {
            Self::File(_) => {
                let copy = Self::File(tempfile::tempdir().expect("a folder for the copy"));
                let file = copy.to_string().replace("sqlite://", "");
                execute(&self.to_string(), &format!("VACUUM INTO '{file}'")).await;
                copy
            }
            Self::Server(area) => Self::Server(area.copy().await),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(folder) => {
                write!(out, "sqlite://{}", folder.path().join("test.db").display())
            }
            Self::Server(area) => out.write_str(&area.url()),
        }
    }
}

/// Databases whose test has ended. To make, fill and delete one takes ten times as long as most tests.
static USED: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// The shape of a database as the service makes it.
static SHAPE: OnceLock<String> = OnceLock::new();

/// All that a test may have changed beside the rows: tables, indexes, triggers, rights, settings.
const SHAPE_QUERY: &str = "
    SELECT concat_ws(' ',
        (SELECT string_agg(concat_ws(' ', c.relname, c.relkind, c.relacl, c.reloptions, a.attname,
                a.attnum, a.atttypid, a.attcollation, a.attnotnull, a.attisdropped, a.attidentity),
            ',' ORDER BY c.relname, a.attnum)
         FROM pg_class c LEFT JOIN pg_attribute a ON a.attrelid = c.oid
         WHERE c.relnamespace = 'public'::regnamespace),
        (SELECT string_agg(indexdef, ',' ORDER BY indexdef) FROM pg_indexes WHERE schemaname = 'public'),
        (SELECT string_agg(concat_ws(' ', conname, pg_get_constraintdef(oid)), ',' ORDER BY conname)
         FROM pg_constraint WHERE connamespace = 'public'::regnamespace),
        (SELECT string_agg(concat_ws(' ', tgrelid::regclass, tgname, tgenabled), ',' ORDER BY tgname)
         FROM pg_trigger WHERE NOT tgisinternal),
        (SELECT count(*) FROM pg_proc WHERE pronamespace = 'public'::regnamespace),
        (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_rewrite WHERE ev_class >= 16384),
        (SELECT string_agg(concat_ws(' ', datallowconn, datconnlimit, datacl), ',')
         FROM pg_database WHERE datname = current_database()),
        (SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
         WHERE datname = current_database())
    ) AS shape";

/// Ends the sessions of a test that has ended, and deletes its rows.
const CLEAR: &str = "
    DO $$
    DECLARE tables text; name text;
    BEGIN
        PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend';
        SELECT string_agg(quote_ident(relname), ', ') INTO tables FROM pg_class
            WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p')
                AND NOT relispartition AND relname <> 'seaql_migrations';
        IF EXISTS (SELECT FROM pg_class WHERE relname = 'booking_request' AND relkind = 'p') THEN
            -- There are too many partitions, with too many indexes, to make a new file for each.
            FOREACH name IN ARRAY string_to_array(tables, ', ') LOOP
                EXECUTE 'DELETE FROM ' || name;
            END LOOP;
        ELSE
            EXECUTE 'TRUNCATE ' || tables || ' RESTART IDENTITY';
        END IF;
    END $$";

/// The shape of a database.
async fn shape(database: &DatabaseConnection) -> Result<String, DbErr> {
    let backend = database.get_database_backend();
    let statement = sea_orm::Statement::from_string(backend, SHAPE_QUERY);
    let row = database.query_one_raw(statement).await?;
    row.expect("one row").try_get("", "shape")
}

/// A database on a server. When it is dropped it is left for another test, or deleted.
pub struct Area {
    server: &'static str,
    name: String,
    is_for_others: bool,
}

impl Area {
    /// An empty database.
    pub async fn create(server: &'static str) -> Self {
        let name = format!("care_invitation_test_{}", Uuid::new_v4().simple());
        execute(server, &format!("CREATE DATABASE {name}")).await;
        Self {
            server,
            name,
            is_for_others: false,
        }
    }

    /// A database that another test has left, without its rows; none where there is none. One in which
    /// more than rows was changed is deleted.
    async fn cleared(server: &'static str) -> Option<Self> {
        loop {
            let name = USED.lock().expect("no test panics in here").pop()?;
            let area = Self {
                server,
                name,
                is_for_others: false,
            };
            let cleared = async {
                let database = connect(&area.url()).await;
                database.execute_unprepared(CLEAR).await?;
                shape(&database).await
            };
            if cleared.await.ok().as_ref() == SHAPE.get() {
                return Some(area);
            }
        }
    }

    /// A copy, once nobody is connected any more.
    async fn copy(&self) -> Self {
        let name = format!("{}_copy", self.name);
        let statement = format!("CREATE DATABASE {name} TEMPLATE {}", self.name);
        let server = connect(self.server).await;
        while server.execute_unprepared(&statement).await.is_err() {
            sleep(Duration::from_millis(50)).await;
        }
        Self {
            server: self.server,
            name,
            is_for_others: false,
        }
    }

    pub fn url(&self) -> String {
        postgres::url_of(self.server, &self.name)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let (server, name) = (self.server, &self.name);
        if self.is_for_others {
            USED.lock()
                .expect("no test panics in here")
                .push(name.clone());
            return;
        }
        let delete = || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().expect("a runtime");
            let statement = format!("DROP DATABASE {name} WITH (FORCE)");
            runtime.block_on(execute(server, &statement));
        };
        // Off the test's own runtime, where nothing can be waited for here.
        let deleted = thread::scope(|scope| scope.spawn(delete).join());
        assert!(deleted.is_ok() || thread::panicking(), "{name} is left");
    }
}

/// Carries out a statement that is about whole databases.
async fn execute(server: &str, statement: &str) {
    let done = connect(server).await.execute_unprepared(statement).await;
    done.unwrap_or_else(|error| panic!("{statement}: {error}"));
}

/// One connection, closed when dropped.
pub async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.expect("a server")
}

/// Waits until somebody else on the database waits for a lock, as seen by a connection without a transaction.
pub async fn somebody_waits(database: &DatabaseConnection) {
    let waiting = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
    let waiting = Statement::from_string(DbBackend::Postgres, waiting);
    while database
        .query_one_raw(waiting.clone())
        .await
        .expect("asked")
        .is_none()
    {
        sleep(POLL).await;
    }
}
