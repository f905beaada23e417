//! The PostgreSQL of a run: the one that is named, or a temporary one from the installed programs.
//!
//! Unlike that of the tests it is as durable as an operator's: fsync, synchronous commits and full
//! page writes are on.

use std::env;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use sea_orm::sqlx::{Connection, PgConnection, Row, query};

use crate::Outcome;
use crate::folder::FOLDER;

/// What a temporary server is told beside its defaults.
const TUNED: &str = "-c shared_buffers=256MB -c max_connections=200";

/// Runs a server until standard input ends, which it does with the process that holds its other
/// end. `$1` the programs, `$2` the port, `$3` the folder, `$4` settings, `$5` how it stops.
const RUN: &str = r#"
set -eu
cd "$3"
[ -d data ] || "$1/initdb" -D data -U postgres --auth=trust --encoding=UTF8 --no-locale >said 2>&1 ||
  { cat said >&2; exit 1; }
"$1/pg_ctl" -D data -l log -w -t 300 start >said 2>&1 \
  -o "-c listen_addresses=127.0.0.1 -p $2 -k '' $4" || { cat said log >&2; exit 1; }
echo started
cat >/dev/null
"$1/pg_ctl" -D data -m "$5" stop >said 2>&1
[ "$5" = fast ] || rm -rf data
"#;

/// Settings that say how durable and how large a server is.
const TELLING: &str = "SELECT name, current_setting(name) AS value FROM pg_settings WHERE name IN \
     ('fsync', 'synchronous_commit', 'full_page_writes', 'wal_sync_method', 'shared_buffers', \
      'max_wal_size', 'checkpoint_timeout', 'server_version') ORDER BY name";

/// A server. Clones are handles to the same, which ends with the last where it is a temporary one.
#[derive(Clone)]
pub struct Postgres {
    url: String,
    _running: Option<Arc<Running>>,
}

struct Running {
    child: Child,
    /// Where it is; deleted with it, unless it is kept.
    folder: PathBuf,
    _deleted: Option<tempfile::TempDir>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // The end of its input is what it waits for.
        drop(self.child.stdin.take());
        if self.child.wait().is_err() {
            eprintln!("a PostgreSQL is left in {}", self.folder.display());
        }
    }
}

impl Postgres {
    /// The server that `url` names, or a temporary one; none where nothing is installed. What a
    /// temporary one holds is deleted in the end, or kept for the next run that keeps it.
    pub fn of_this_run(url: Option<&str>, keep: bool) -> Outcome<Option<Self>> {
        if let Some(url) = url {
            return Ok(Some(Self {
                url: url.to_owned(),
                _running: None,
            }));
        }
        let start = |programs: PathBuf| start(&programs, keep);
        programs().map(start).transpose()
    }

    /// The address of the database to which one may always connect.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// The address of another database on it.
    pub fn url_of(&self, database: &str) -> String {
        let (address, options) = self.url.split_once('?').unwrap_or((&self.url, ""));
        let hosts = address.find("://").map_or(0, |at| at + 3);
        let end = address[hosts..].find('/').map(|at| hosts + at);
        let host = &address[..end.unwrap_or(address.len())];
        let mark = if options.is_empty() { "" } else { "?" };
        format!("{host}/{database}{mark}{options}")
    }

    /// Its version and the settings that matter, as they are in force.
    pub async fn describe(&self) -> Outcome<Vec<(String, String)>> {
        let mut connection = PgConnection::connect(&self.url).await?;
        let rows = query(TELLING).fetch_all(&mut connection).await?;
        let pair = |row: &sea_orm::sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
        rows.iter().map(pair).collect()
    }
}

/// The folder of the server's programs, the newest where there are several.
fn programs() -> Option<PathBuf> {
    let has_all = |it: &PathBuf| it.join("initdb").is_file() && it.join("pg_ctl").is_file();
    let path = env::var_os("PATH").unwrap_or_default();
    let mut versions: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.parse().ok()?;
            Some((number, entry.path().join("bin")))
        })
        .collect();
    versions.sort();
    let installed = versions.into_iter().rev().map(|(_, folder)| folder);
    installed.chain(env::split_paths(&path)).find(has_all)
}

fn start(programs: &Path, keep: bool) -> Outcome<Postgres> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let deleted = tempfile::Builder::new()
        .prefix("postgresql-")
        .tempdir_in(FOLDER)?;
    let (folder, deleted, stop) = match keep {
        true => (Path::new(FOLDER).join("postgresql"), None, "fast"),
        false => (deleted.path().to_owned(), Some(deleted), "immediate"),
    };
    fs::create_dir_all(&folder)?;
    let mut command = Command::new("sh");
    if String::from_utf8(Command::new("id").arg("-u").output()?.stdout)?.trim() == "0" {
        // The server refuses to be run by root.
        let given = Command::new("chown")
            .arg("postgres")
            .arg(&folder)
            .status()?;
        if !given.success() {
            return Err("there is no user postgres, and root may not run the server".into());
        }
        command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
            "sh",
        ]);
    }
    command
        .args(["-c", RUN, "sh"])
        .args([
            programs,
            Path::new(&port.to_string()),
            &folder,
            Path::new(TUNED),
            Path::new(stop),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        // Ctrl-C is for the measurements; the server ends after them.
        .process_group(0);
    let mut child = command.spawn()?;
    let mut said = String::new();
    let stdout = child.stdout.take().ok_or("standard output is piped")?;
    BufReader::new(stdout).read_line(&mut said)?;
    let running = Arc::new(Running {
        child,
        folder,
        _deleted: deleted,
    });
    match said.trim_end() {
        "started" => Ok(Postgres {
            url: format!("postgres://postgres@127.0.0.1:{port}/postgres"),
            _running: Some(running),
        }),
        _ => Err(
            "the temporary PostgreSQL did not start; as root, its user must reach target/".into(),
        ),
    }
}
