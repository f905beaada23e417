//! What a run measures, where and for how long: the flags after `cargo bench --`.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

use crate::database::Kind;

/// Measures the service: real processes, real sockets, real clients, on SQLite and PostgreSQL.
///
/// Prints a table while it goes, and writes it with the machine and the versions
/// to `benches/results/`. Nothing is judged by its speed: a run fails when a call
/// fails, and never because one was slow.
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo bench --", verbatim_doc_comment)]
pub struct Settings {
    /// What to measure; everything when nothing is named.
    #[arg(value_enum)]
    pub scenarios: Vec<Scenario>,
    /// On which databases.
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "sqlite,postgresql"
    )]
    pub databases: Vec<Kind>,
    /// A PostgreSQL by a database on it to which one may connect to create others; without it a
    /// temporary server is started from the installed programs.
    #[arg(
        long,
        value_name = "URL",
        env = "BENCH_DATABASE_URL",
        hide_env_values = true
    )]
    pub postgresql: Option<String>,
    /// Another build of the service to measure.
    #[arg(long, value_name = "PATH")]
    pub server: Option<PathBuf>,
    /// How many seconds each measurement lasts, after one of warming up.
    #[arg(long, default_value_t = 3.0)]
    pub seconds: f64,
    /// How often each is repeated; the table shows medians, with the least and the most.
    #[arg(long, default_value_t = 3)]
    pub runs: usize,
    /// How many callers create at once.
    #[arg(long, default_value_t = 128)]
    pub callers: usize,
    /// How many invitations a batch of `create` has, 500 at most.
    #[arg(long, default_value_t = 500)]
    pub batch: u64,
    /// Numbers of callers for the curve of `create`; 0 leaves the curve out.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16,64,128,256")]
    pub curve: Vec<usize>,
    /// How many due messages `deliver`, `streams` and `replicas` hand over; the heap of `fair` has three times as many.
    #[arg(long, default_value_t = 100_000)]
    pub backlog: usize,
    /// How many messages fall due together in `nine`.
    #[arg(long, default_value_t = 150_000)]
    pub at_nine: usize,
    /// How many requests the databases of `growth` hold, the smallest first; that of `dashboards` the last.
    #[arg(long, value_delimiter = ',', default_value = "10000,100000")]
    pub sizes: Vec<usize>,
    /// Keep the filled databases of `growth` under `target/` and use those that are there.
    #[arg(long)]
    pub keep: bool,
    /// Where the results go; `-` writes none.
    #[arg(long, value_name = "FOLDER", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/results"), hide_default_value = true)]
    pub results: PathBuf,
    /// Said by `cargo bench`; without it nothing is measured, since `cargo test` may build and run
    /// this too.
    #[arg(long, hide = true)]
    pub bench: bool,
    /// Be the server with nothing behind it, which answers what this file holds.
    #[arg(long, hide = true)]
    pub wire: Option<PathBuf>,
}

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Invitations created by many callers at once, beside the raw database and the bare wire.
    Create,
    /// One caller who creates one invitation after the other.
    Single,
    /// A backlog of due messages, streamed and acknowledged.
    Deliver,
    /// The same while very many streams are open.
    Streams,
    /// Messages of one care unit beside a heap of another.
    Fair,
    /// Several servers over one PostgreSQL.
    Replicas,
    /// Very many messages that fall due in one minute, and what others notice of it.
    Nine,
    /// From the creation of an invitation that is due at once until its consumer has it.
    Due,
    /// More invitations than the service can bear.
    Overload,
    /// Pages and counts of worklists.
    Page,
    /// Dashboards that count worklists again and again, and what others notice of it.
    Dashboards,
    /// What grows with the number of requests: latencies, start, memory, idling.
    Growth,
    /// Reads and pages, each with its entry in the access log.
    #[value(name = "access_log")]
    AccessLog,
}

impl Scenario {
    /// Its name, on the command line and in file names.
    pub fn name(self) -> String {
        let value = self.to_possible_value().expect("none is hidden");
        value.get_name().to_owned()
    }
}

impl Settings {
    /// The scenarios to run, in their order.
    pub fn chosen(&self) -> Vec<Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(|it| self.scenarios.is_empty() || self.scenarios.contains(it))
            .collect()
    }
}
