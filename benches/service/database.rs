//! Databases for measurements: empty ones, and copies of filled ones. Each is deleted with its
//! handle.

use std::fs;
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use sea_orm::sqlx::{AssertSqlSafe, Connection, Executor, PgConnection, query};
use tempfile::TempDir;
use uuid::Uuid;

use crate::Outcome;
use crate::folder::FOLDER;
use crate::postgres::Postgres;

/// The kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Kind {
    /// A file.
    Sqlite,
    /// A database on a server.
    Postgresql,
}

impl Kind {
    /// What people call it.
    pub fn title(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::Postgresql => "PostgreSQL",
        }
    }
}

/// A database.
pub enum Database {
    /// A file in a folder of its own.
    File(TempDir),
    /// A file that stays.
    Kept(PathBuf),
    /// A database on a server.
    Area(Area),
}

impl Database {
    /// An empty one, which gets its schema from the first service that is started on it.
    pub async fn empty(kind: Kind, postgres: Option<&Postgres>) -> Outcome<Self> {
        match (kind, postgres) {
            (Kind::Sqlite, _) => Ok(Self::File(TempDir::new_in(FOLDER)?)),
            (Kind::Postgresql, Some(server)) => Ok(Self::Area(
                Area::create(server, "TEMPLATE template0").await?,
            )),
            (Kind::Postgresql, None) => Err("there is no PostgreSQL".into()),
        }
    }

    /// The one that was kept under this name, if there is one.
    pub async fn kept(
        kind: Kind,
        postgres: Option<&Postgres>,
        name: &str,
    ) -> Outcome<Option<Self>> {
        match (kind, postgres) {
            (Kind::Sqlite, _) => {
                let path = kept_path(name);
                Ok(path.exists().then_some(Self::Kept(path)))
            }
            (Kind::Postgresql, Some(server)) => {
                let mut connection = PgConnection::connect(&server.url()).await?;
                let sql = "SELECT 1 FROM pg_database WHERE datname = $1";
                let found = query(sql)
                    .bind(name)
                    .fetch_optional(&mut connection)
                    .await?;
                Ok(found.map(|_| Self::Area(Area::named(server, name.to_owned(), true))))
            }
            (Kind::Postgresql, None) => Ok(None),
        }
    }

    /// Keeps it under a name, for later runs.
    pub async fn keep(mut self, name: &str) -> Outcome<Self> {
        match &mut self {
            Self::File(_) => {
                let path = kept_path(name);
                fs::rename(self.path(), &path)?;
                return Ok(Self::Kept(path));
            }
            Self::Kept(_) => {}
            Self::Area(area) => {
                let rename = format!("ALTER DATABASE {} RENAME TO {name}", area.name);
                execute(&area.server.url(), rename).await?;
                area.name = name.to_owned();
                area.kept = true;
            }
        }
        Ok(self)
    }

    /// A copy, while nobody is connected to the original.
    pub async fn copy(&self) -> Outcome<Self> {
        match self {
            Self::File(_) | Self::Kept(_) => {
                let folder = TempDir::new_in(FOLDER)?;
                copy_files(&self.path(), &folder.path().join("bench.db"))?;
                Ok(Self::File(folder))
            }
            Self::Area(area) => {
                let how = format!("TEMPLATE {}", area.name);
                // Sooner done, where the server knows how.
                let sooner = format!("{how} STRATEGY file_copy");
                match Area::create(&area.server, &sooner).await {
                    Ok(copy) => Ok(Self::Area(copy)),
                    Err(_) => Ok(Self::Area(Area::create(&area.server, &how).await?)),
                }
            }
        }
    }

    /// The file of a SQLite database.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::File(folder) => folder.path().join("bench.db"),
            Self::Kept(path) => path.clone(),
            Self::Area(_) => unreachable!("only asked of files"),
        }
    }

    /// Its address, as the service and sqlx take it.
    pub fn url(&self) -> String {
        match self {
            Self::File(_) | Self::Kept(_) => format!("sqlite://{}", self.path().display()),
            Self::Area(area) => area.server.url_of(&area.name),
        }
    }

    /// Which kind it is.
    pub fn kind(&self) -> Kind {
        match self {
            Self::File(_) | Self::Kept(_) => Kind::Sqlite,
            Self::Area(_) => Kind::Postgresql,
        }
    }
}

fn kept_path(name: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{name}.db"))
}

/// Copies a SQLite database with what its log holds.
fn copy_files(from: &Path, to: &Path) -> Outcome<()> {
    fs::copy(from, to)?;
    let log = |path: &Path| PathBuf::from(format!("{}-wal", path.display()));
    if log(from).exists() {
        fs::copy(log(from), log(to))?;
    }
    // What is still in memory alone would be written while others are measured.
    fs::File::open(to)?.sync_all()?;
    Ok(())
}

/// A database on a server; deleted when dropped, unless it is kept.
pub struct Area {
    server: Postgres,
    name: String,
    kept: bool,
}

impl Area {
    async fn create(server: &Postgres, how: &str) -> Outcome<Self> {
        let name = format!("care_invitation_bench_{}", Uuid::new_v4().simple());
        let area = Self::named(server, name, false);
        let create = format!("CREATE DATABASE {} {how}", area.name);
        execute(&server.url(), create).await?;
        execute(&server.url(), "CHECKPOINT".into()).await?;
        Ok(area)
    }

    fn named(server: &Postgres, name: String, kept: bool) -> Self {
        Self {
            server: server.clone(),
            name,
            kept,
        }
    }
}

impl Drop for Area {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        let url = self.server.url();
        let delete = format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name);
        // Off the present runtime, where nothing can be waited for here.
        let deleted = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(execute(&url, delete))
        });
        if !matches!(deleted.join(), Ok(Ok(()))) {
            eprintln!("{} is left on the server", self.name);
        }
    }
}

/// Carries out one statement, over a connection of its own.
pub async fn execute(url: &str, statement: String) -> Outcome<()> {
    let mut connection = PgConnection::connect(url).await?;
    connection.execute(AssertSqlSafe(statement)).await?;
    connection.close().await?;
    Ok(())
}
