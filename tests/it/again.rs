//! Every test once more, on PostgreSQL, beside all others: tests begin in the order of their names, and none waits for it
//! but the last.

use std::env;
use std::io::{self, Write};
use std::process::{Command, Output};
use std::sync::{LazyLock, Mutex};
use std::thread::{self, JoinHandle};

use crate::backend::{KIND, Kind};
use crate::postgres;

/// Tests that have nothing to do with where the service keeps its data, or that are about the
/// SQLite file itself, or that go to PostgreSQL by themselves.
const ONCE: &[(&str, &str)] = &[
    ("tidy::", "reads the sources"),
    ("links::", "reads the documents"),
    ("alerts::", "reads files"),
    ("texts::", "reads files"),
    ("proxies::", "starts the program on a SQLite file"),
    ("reflection::", "is about the contract"),
    ("web::", "is decided before the store is asked"),
    ("compression::", "is decided before the store is asked"),
    ("floods::", "starts the program on a SQLite file"),
    ("claim_protocol::", "is about a model"),
    (
        "readme::",
        "what the documents run begins with a SQLite file",
    ),
    ("people::", "starts the program on a SQLite file"),
    ("program::", "starts the program on a SQLite file"),
    (
        "store::a_second_process_on_the_same_file_is_refused",
        "PostgreSQL welcomes it",
    ),
    ("door::", "is decided before the store is asked"),
    ("wal::", "is about SQLite"),
    ("backup::", "is about SQLite"),
    ("data_file::", "is about SQLite"),
    ("disk::", "is about SQLite"),
    ("again::", "begins this run"),
    ("yet_again::", "waits for this run"),
    ("postgres::", "is about the server of this run"),
    ("replicas::", "goes to PostgreSQL by itself"),
    ("migration::", "goes to both by itself"),
    ("plan::", "goes to PostgreSQL by itself"),
    ("database_outage::", "goes to PostgreSQL by itself"),
    ("failover::", "goes to PostgreSQL by itself"),
    ("recovery::", "goes to PostgreSQL by itself"),
    ("crash::postgresql::", "goes to PostgreSQL by itself"),
    ("clock::postgresql::", "goes to PostgreSQL by itself"),
    ("purge::", "goes to both by itself"),
    (
        "any_bytes::any_values_of_the_fields_have_the_same_answer_on_both_databases",
        "goes to both by itself",
    ),
];

/// Tests that run at once there: a store has up to eleven connections, and a replica one store.
const THREADS: &str = "6";

/// The run of the tests that [`ONCE`] does not name, in a process of its own; none where there is no PostgreSQL, or where
/// this is that run.
static RUN: LazyLock<Mutex<Option<JoinHandle<io::Result<Output>>>>> = LazyLock::new(|| {
    let server = match Kind::of_this_run() {
        Kind::Postgres => None,
        Kind::Sqlite => postgres::server(),
    };
    Mutex::new(server.map(|server| {
        let mut suite = Command::new(env::current_exe().expect("this program"));
        suite.env(KIND, "postgresql").env(postgres::URL, server);
        if postgres::ends_with_this_run() {
            suite.env(postgres::TEMPORARY, "yes");
        }
        suite.args(["--test-threads", THREADS]);
        for (tests, _) in ONCE {
            suite.args(["--skip", tests]);
        }
        thread::spawn(move || suite.output())
    }))
});

/// The first of all tests: the run goes on beside the others. The last, `yet_again`, waits for its end.
#[test]
fn the_run_on_postgresql_begins() {
    LazyLock::force(&RUN);
}

/// Waits until the run has ended, and says how.
pub fn ended() {
    let Some(run) = RUN.lock().expect("asked for once").take() else {
        return;
    };
    let ended = run.join().expect("no panic").expect("it runs");
    let said = String::from_utf8_lossy(&ended.stdout);
    let result = said.lines().find(|line| line.starts_with("test result: "));
    let result = result.unwrap_or("it did not come to its end");
    writeln!(io::stderr(), "on PostgreSQL: {result}").expect("standard error");
    assert!(
        ended.status.success(),
        "on PostgreSQL, by itself with {KIND}=postgresql:\n{said}\n{}",
        String::from_utf8_lossy(&ended.stderr)
    );
}
