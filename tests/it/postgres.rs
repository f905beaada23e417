//! The PostgreSQL of a run: the one that `TEST_CITUS_URL` or `TEST_DATABASE_URL` names, or else a temporary one from
//! the installed programs.

use std::env;
use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use crate::partitions;

/// Names the server, by a database on it to which the tests may connect to create others.
pub const URL: &str = "TEST_DATABASE_URL";

/// Says, when it is set, that the server which [`URL`] names ends with the run that has started this one.
pub const TEMPORARY: &str = "TEST_DATABASE_TEMPORARY";

/// Runs a server until standard input ends, which it does with the process that holds its other
/// end, however that goes. Nothing of it is to outlive the tests, so that nothing is synced.
const RUN: &str = r#"
set -eu
folder=$(mktemp -d -t care-invitation-pg.XXXXXX)
cd "$folder"
trap 'rm -rf "$folder"' EXIT
"$1/initdb" -D data -U postgres --auth=trust --encoding=UTF8 --no-locale --no-sync >log 2>&1 ||
  { cat log >&2; exit 1; }
"$1/pg_ctl" -D data -l log -w start >said 2>&1 \
  -o "-c listen_addresses=127.0.0.1 -p $2 -k '$folder' -F -c max_connections=800 -c full_page_writes=off" ||
  { cat said log >&2; exit 1; }
echo "$2"
cat >/dev/null
"$1/pg_ctl" -D data -m immediate stop >said 2>&1
"#;

/// The address of this run's server. With none the caller passes over what needs one, and that is
/// said aloud.
///
/// # Panics
///
/// In CI, where nothing is passed over.
pub fn server() -> Option<&'static str> {
    static SERVER: OnceLock<Option<String>> = OnceLock::new();
    let named = || partitions::citus().or_else(|| env::var(URL).ok());
    let server = SERVER.get_or_init(|| named().or_else(start));
    if server.is_none() {
        let missing =
            format!("no PostgreSQL: {URL} is not set, and its programs are not installed");
        assert!(env::var_os("CI").is_none(), "{missing}");
        // Past the test's captured output, which nobody sees when the test passes.
        let test = std::thread::current();
        let test = test.name().unwrap_or("a test").to_owned();
        writeln!(io::stderr(), "SKIPPED {test}: {missing}").expect("standard error");
    }
    server.as_deref()
}

/// Returns true when the server ends with this run, with all that is on it.
pub fn ends_with_this_run() -> bool {
    let is_named = partitions::citus().is_some() || env::var_os(URL).is_some();
    !is_named || env::var_os(TEMPORARY).is_some()
}

/// The address of another database on the same server.
pub fn url_of(server: &str, database: &str) -> String {
    let (address, options) = server.split_once('?').unwrap_or((server, ""));
    let hosts = address.find("://").expect("a scheme") + "://".len();
    let end = address[hosts..].find('/');
    let host = end.map_or(address, |end| &address[..hosts + end]);
    let url = format!("{host}/{database}");
    match options {
        "" => url,
        options => format!("{url}?{options}"),
    }
}

/// The folder of the server's programs, the newest where there are several.
pub fn programs() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = env::split_paths(&path).collect();
    if let Ok(versions) = std::fs::read_dir("/usr/lib/postgresql") {
        let versions = versions.flatten().map(|version| version.path());
        let mut versions: Vec<_> = versions.collect();
        versions.sort_by_key(|it| {
            it.file_name()
                .and_then(|it| it.to_str()?.parse::<u32>().ok())
        });
        folders.extend(versions.into_iter().rev().map(|it| it.join("bin")));
    }
    let mut folders = folders.into_iter();
    folders.find(|it| it.join("initdb").is_file() && it.join("pg_ctl").is_file())
}

/// A command as the user who may run a server: root may not, and becomes `postgres`.
pub fn as_server_user(program: impl Into<OsString>) -> Command {
    let user = Command::new("id").arg("-u").output().expect("id");
    let mut command;
    if user.stdout == b"0\n" {
        command = Command::new("setpriv");
        command.args([
            "--reuid=postgres",
            "--regid=postgres",
            "--init-groups",
            "--",
        ]);
        command.arg(program.into());
    } else {
        command = Command::new(program.into());
    }
    // The folder of the caller may be closed to that user.
    command.current_dir("/");
    command
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// Starts a temporary server; none where its programs are not installed. It ends with this
/// process.
fn start() -> Option<String> {
    /// Holds the server's standard input open.
    static RUNNING: OnceLock<Child> = OnceLock::new();
    let programs = programs()?;
    let mut command = as_server_user("sh");
    command.args(["-c", RUN, "sh"]);
    command.arg(programs).arg(free_port().to_string());
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    // Ctrl-C is for the tests; the server ends after them.
    let mut child = command.process_group(0).spawn().expect("sh");
    let stdout = child.stdout.take().expect("it is piped");
    let mut port = String::new();
    BufReader::new(stdout).read_line(&mut port).expect("text");
    assert!(!port.is_empty(), "the temporary PostgreSQL did not start");
    RUNNING.set(child).expect("one server a process");
    Some(format!(
        "postgres://postgres@127.0.0.1:{}/postgres",
        port.trim_end()
    ))
}

#[test]
fn the_address_of_a_database_is_its_servers_with_another_name() {
    for (server, expected) in [
        ("postgres://u:p@h:1/postgres", "postgres://u:p@h:1/it"),
        ("postgres://h", "postgres://h/it"),
        (
            "postgres://h/?sslmode=disable",
            "postgres://h/it?sslmode=disable",
        ),
        ("postgres://h/a?host=/run", "postgres://h/it?host=/run"),
    ] {
        assert_eq!(url_of(server, "it"), expected);
    }
}
