//! A database of its own for each test: a SQLite file, or one on the PostgreSQL of this run.

use std::env;
use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use care_invitation::store::Store;
use care_invitation::store::schema::Schema;
use sea_orm::{ConnectOptions, ConnectionTrait, Database, DatabaseConnection};
use tempfile::TempDir;
use tokio::time::sleep;
use uuid::Uuid;

use crate::postgres;

/// Says on which kind of database the tests run that run on either; SQLite when it is not set.
pub const KIND: &str = "TEST_DATABASE";

/// How often a store is opened before that has failed.
const TRIES_MAX: usize = 10;

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
        let place = Place::Server(Area::create(server).await);
        Some(Self::on(Arc::new(place)).await)
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

/// A database on a server; deleted when dropped.
pub struct Area {
    server: &'static str,
    name: String,
}

impl Area {
    /// An empty database.
    pub async fn create(server: &'static str) -> Self {
        let name = format!("care_invitation_test_{}", Uuid::new_v4().simple());
        execute(server, &format!("CREATE DATABASE {name}")).await;
        Self { server, name }
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
        }
    }

    pub fn url(&self) -> String {
        postgres::url_of(self.server, &self.name)
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        let (server, name) = (self.server, &self.name);
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
async fn connect(url: &str) -> DatabaseConnection {
    let mut options = ConnectOptions::new(url);
    options.max_connections(1).sqlx_logging(false);
    Database::connect(options).await.expect("a server")
}
