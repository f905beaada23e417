//! The settings: flags, each also an environment variable. The only file that reads the
//! environment.
//!
//! Values are taken as text and validated together, so that every bad one is reported at once.

mod calls;
pub mod client;
pub mod door;
pub mod pages;
mod purge;
pub mod rates;
pub mod sandbox;
pub mod streams;
pub mod traces;
mod value;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use calls::{HealthArgs, ImportFile, ListMessages, ListRequests, PlayYear, ShowArgs};
use chrono::{DateTime, NaiveDate, NaiveTime, Utc};
use clap::builder::FalseyValueParser;
use clap::{Arg, Args, CommandFactory, Parser, Subcommand};
use client::{Client, Output, OutputArgs};
use door::{Authentication, Door, DoorArgs};
use pages::Pages;
use purge::PurgeDates;
use rates::{Rates, RatesArgs};
use sandbox::{Sandbox, SandboxArgs};
use streams::{StreamArgs, Streams};
use traces::{Traces, TracesArgs};
use tracing::level_filters::LevelFilter;
use value::{
    database_url, drain_delay, guarantee_days, instant, known_head, listen, log_format, log_level,
    send_clock,
};

/// Settings of one run of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Command to run, with the settings that it alone has.
    pub command: Command,
    /// Address of the database. Holds a password on some databases: never to be printed.
    pub database_url: DatabaseUrl,
    /// Format of log lines.
    pub log_format: LogFormat,
    /// Least important level that is logged.
    pub log_level: LevelFilter,
}

/// Command of the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// The service.
    Serve(Box<Serve>),
    /// An update of the database's schema.
    Migrate(Migrate),
    /// A deletion of rows that are kept no longer.
    Purge(Purge),
    /// A mark on what may have been handed over in commits that were lost.
    AfterRestore(AfterRestore),
    /// A copy of a SQLite database, made or put back.
    Copy(DatabaseCopy),
    /// A verification of the access log.
    VerifyAccessLog(VerifyAccessLog),
    /// A check of what the service would start with.
    Check(Box<Serve>, Output),
    /// A call of a server.
    Client(Box<Client>),
    /// Pages about the program itself.
    Pages(Pages),
}

/// Use of a copy of a SQLite database, which is this file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DatabaseCopy {
    /// It is made.
    Backup(PathBuf),
    /// It is put in the place of the database.
    Restore(PathBuf),
}

/// Settings of an update of the schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Migrate {
    /// True if the tables are then distributed over the nodes of Citus.
    pub distribute: bool,
}

/// Settings of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serve {
    /// Address to listen on; port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// True if an older schema of a PostgreSQL is brought up to date first.
    pub migrate: bool,
    /// Clock of a sandbox; none means the real clock.
    pub sandbox: Option<Sandbox>,
    /// Local time of day at which notifications fall due, 06:00 to 22:00.
    pub send_clock: NaiveTime,
    /// Days from the decision on a referral to the end of the care guarantee, 1 to 365.
    pub guarantee_days: u32,
    /// Time for which a replica that was told to stop goes on serving while its health is NOT_SERVING.
    pub drain_delay: Duration,
    /// Terms of streams.
    pub streams: Streams,
    /// Address at which metrics are served; none to serve none.
    pub metrics_listen: Option<SocketAddr>,
    /// Export of traces; none to make none.
    pub traces: Option<Traces>,
    /// TLS and authentication.
    pub door: Door,
    /// Limits on what one subject may do.
    pub rates: Rates,
}

/// Dates before which a purge deletes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Purge {
    /// Date, in Sweden, before which settled requests must have been last changed.
    pub before: NaiveDate,
    /// Date before which the history of deleted requests is deleted too; none keeps it all.
    pub history_before: Option<NaiveDate>,
    /// Date before which entries of the access log are deleted too; none keeps them all.
    pub access_before: Option<NaiveDate>,
}

/// Entries of the access log to compare it with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyAccessLog {
    /// Heads of chains, as the log has shown them.
    pub heads: Vec<KnownHead>,
}

/// The time of which commits were lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AfterRestore {
    /// Time up to which the database has every commit.
    pub since: DateTime<Utc>,
}

/// A place in a chain of the access log, with its hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KnownHead {
    /// Chain, a UUID.
    pub chain: u128,
    /// Number in the chain, from 1.
    pub sequence: i64,
    /// SHA-256.
    pub hash: [u8; 32],
}

/// Address of a database, secrets included. `secrecy` would wipe it from memory, where the driver keeps a
/// copy all the same.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// Returns the address as it is, secrets included.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

/// Format of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// Text for people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Reason for which there is no [`Config`].
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The command line is not one of ours, or asks for help or the version.
    #[error(transparent)]
    Usage(#[from] clap::Error),
    /// Settings with values that cannot be used.
    #[error("settings that cannot be used:{}", .0.iter().map(|bad| format!("\n  {bad}")).collect::<String>())]
    Settings(Vec<BadSetting>),
}

impl Error {
    /// Prints the error, or the help that was asked for, and ends the process: with 0 after help, else
    /// with 2.
    pub fn exit(self) -> ! {
        match self {
            Self::Usage(usage) => usage.exit(),
            Self::Settings(_) => {
                eprintln!("care-invitation: {self}");
                std::process::exit(2)
            }
        }
    }
}

/// A setting with a value that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("--{flag}{} {why}", variable(flag))]
pub struct BadSetting {
    /// Flag, without its dashes; the variable is named after it, where there is one.
    pub flag: &'static str,
    /// Reason for which the value cannot be used.
    pub why: String,
}

/// Returns the variable of a flag, in brackets. The times of a purge and of a restore have none: they are
/// given anew each time.
fn variable(flag: &str) -> String {
    match flag {
        "before" | "history-before" | "access-before" | "since" | "head" | "until" => String::new(),
        flag => format!(
            " (CARE_INVITATION_{})",
            flag.replace('-', "_").to_uppercase()
        ),
    }
}

/// Returns the names of variables that look like settings and are none, as those with a letter too few.
pub fn unknown_variables() -> BTreeSet<String> {
    let line = Line::command();
    let commands = line.get_subcommands().chain([&line]);
    let arguments = commands.flat_map(clap::Command::get_arguments);
    let known: BTreeSet<&OsStr> = arguments.filter_map(Arg::get_env).collect();
    std::env::vars_os()
        .filter(|(name, _)| !known.contains(name.as_os_str()))
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| name.starts_with("CARE_INVITATION_"))
        .collect()
}

/// Care invitations (vårdinbjudan) for specialised outpatient care, as a gRPC service.
///
/// Registers booking requests, invites patients to choose a time, and
/// hands the notifications that follow to those who deliver them, when they
/// are due. Each option can be given as an environment variable too.
#[derive(Debug, Parser)]
#[command(name = "care-invitation", version, verbatim_doc_comment)]
struct Line {
    #[command(subcommand)]
    command: Option<CommandArgs>,
    #[command(flatten)]
    settings: Settings,
    #[command(flatten)]
    door: DoorArgs,
    #[command(flatten)]
    rates: RatesArgs,
}

#[derive(Debug, Subcommand)]
enum CommandArgs {
    /// Runs the service; so does leaving the command out.
    Serve,
    /// Brings the database's schema up to date and prints the migrations that were applied.
    Migrate(MigrateArgs),
    /// Deletes settled requests (booked, declined or cancelled) with their notifications,
    /// and nothing else unless told to. Nothing is ever deleted without this command.
    #[command(verbatim_doc_comment)]
    Purge(PurgeDates),
    /// Marks what may have been handed over although the database does not know it: run it once
    /// after a restore, or a failover that lost commits, and before consumers connect.
    #[command(verbatim_doc_comment)]
    AfterRestore(LostTime),
    /// Copies a SQLite database to a new file, also while the service runs, and verifies
    /// the copy. Prints the time at which it was begun, which after-restore is given later.
    #[command(verbatim_doc_comment)]
    Backup(FileArgs),
    /// Puts a backup in the place of a SQLite database, whose service is stopped, and
    /// keeps the old file beside it. Run after-restore next.
    #[command(verbatim_doc_comment)]
    Restore(FileArgs),
    /// Works on the access log.
    #[command(subcommand)]
    Audit(AuditArgs),
    /// Says what of settings, files, database and clock would keep the service from working, and
    /// what to do. Changes nothing. Ends with 1 when something would.
    #[command(verbatim_doc_comment)]
    Check(CheckArgs),
    /// Asks a server whether it is ready. Ends with 0 when it is, otherwise with 1.
    Health(HealthArgs),
    /// Lists the requests of worklists, or counts them all.
    Worklist(ListRequests),
    /// Shows a request, its messages as a timeline, and its history.
    Show(ShowArgs),
    /// Lists messages that wait: planned, due, leased and parked ones. Leases none.
    Due(ListMessages),
    /// Creates the requests of a file, and writes the lines that are refused into another. It can
    /// be run again: what was created is recognised. Ends with 8 when lines were refused.
    #[command(verbatim_doc_comment)]
    Import(ImportFile),
    /// Fills a sandbox with a clinic's year of invented patients, and lets it pass. Refuses any
    /// other server.
    #[command(verbatim_doc_comment)]
    Demo(PlayYear),
    /// Writes what a shell needs to complete commands and flags.
    Completions(pages::CompletionsArgs),
    /// Writes a man page for each command into a folder.
    Man(pages::ManArgs),
}

#[derive(Debug, Args)]
struct CheckArgs {
    /// Print JSON, an object a line, in place of a table.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
struct MigrateArgs {
    /// Distribute the tables over the nodes of Citus as well, those that are not yet. The
    /// database is the coordinator's, with the extension.
    #[arg(long, verbatim_doc_comment)]
    distribute: bool,
}

#[derive(Debug, Args)]
struct FileArgs {
    /// The file of the backup.
    file: PathBuf,
}

#[derive(Debug, Subcommand)]
enum AuditArgs {
    /// Walks the access log and says what was removed, altered or inserted. Ends with 3 when
    /// something was.
    #[command(verbatim_doc_comment)]
    Verify(KnownHeads),
}

#[derive(Debug, Args)]
struct KnownHeads {
    /// Compare it with an entry that the log of the service has shown as `access log`, as
    /// in CHAIN:SEQUENCE:HASH. May be given several times.
    #[arg(long, verbatim_doc_comment, value_name = "CHAIN:SEQUENCE:HASH")]
    head: Vec<String>,
}

#[derive(Debug, Args)]
struct LostTime {
    /// Mark what falls due from this time, since which commits may be missing, until now, as in
    /// 2026-03-02T09:00:00Z.
    #[arg(long, verbatim_doc_comment, value_name = "RFC 3339")]
    since: String,
}

#[derive(Debug, Args)]
struct Settings {
    /// Address to listen on. Port 0 picks a free one, which standard output names.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "ADDRESS:PORT",
        env = "CARE_INVITATION_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    listen: String,
    /// The database: a SQLite file, created when missing, or a PostgreSQL, as in
    /// postgres://user@host/database. The variable keeps a password out of sight.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "URL",
        env = "CARE_INVITATION_DATABASE_URL",
        default_value = "sqlite://care-invitation.db"
    )]
    database_url: String,
    /// Bring an older schema of a PostgreSQL up to date at the start, instead of
    /// refusing it. That of SQLite always is.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        env = "CARE_INVITATION_MIGRATE",
        value_parser = FalseyValueParser::new()
    )]
    migrate: bool,
    #[command(flatten)]
    sandbox: SandboxArgs,
    /// Time of day, in Sweden, at which notifications fall due, from 06:00 to 22:00.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "HH:MM",
        env = "CARE_INVITATION_SEND_CLOCK",
        default_value = "09:00"
    )]
    send_clock: String,
    /// Days from the decision on a referral to the end of the care guarantee, 1 to 365.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "DAYS",
        env = "CARE_INVITATION_GUARANTEE_DAYS",
        default_value = "90"
    )]
    guarantee_days: String,
    /// Seconds for which the service, told to stop, goes on serving while its health is
    /// NOT_SERVING, 0 to 300, so that a load balancer looks away first.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "SECONDS",
        env = "CARE_INVITATION_DRAIN_DELAY",
        default_value = "0"
    )]
    drain_delay: String,
    #[command(flatten)]
    streams: StreamArgs,
    /// Address at which metrics are served in the format of Prometheus, over plain HTTP at
    /// /metrics, as in 127.0.0.1:9464. Nothing of patients is in them. Without it none are.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "ADDRESS:PORT",
        env = "CARE_INVITATION_METRICS_LISTEN"
    )]
    metrics_listen: Option<String>,
    #[command(flatten)]
    traces: TracesArgs,
    /// Format of the log, which goes to standard error: text or json.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "FORMAT",
        env = "CARE_INVITATION_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: String,
    /// Level of the log: off, error, warn, info (a line for every call), debug or trace.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "LEVEL",
        env = "CARE_INVITATION_LOG_LEVEL",
        default_value = "info"
    )]
    log_level: String,
}

impl Config {
    /// Reads the settings from a command line, its program name included, and the environment.
    ///
    /// # Errors
    ///
    /// [`Error::Usage`] when there is no such flag or command; [`Error::Settings`] with every bad
    /// value.
    pub fn read(
        line: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> Result<Self, Error> {
        let Line {
            command,
            settings,
            door,
            rates,
        } = Line::try_parse_from(line)?;
        let mut bad = Vec::new();
        let database_url = database_url(&settings.database_url);
        let database_url = take(&mut bad, "database-url", database_url);
        let log_format = take(&mut bad, "log-format", log_format(&settings.log_format));
        let log_level = take(&mut bad, "log-level", log_level(&settings.log_level));
        let command = match command {
            None | Some(CommandArgs::Serve) => {
                let serve = settings.serve(&door, &rates, &mut bad);
                serve.map(|serve| Command::Serve(Box::new(serve)))
            }
            Some(CommandArgs::Migrate(MigrateArgs { distribute })) => {
                Some(Command::Migrate(Migrate { distribute }))
            }
            Some(CommandArgs::Purge(dates)) => dates.validate(&mut bad).map(Command::Purge),
            Some(CommandArgs::AfterRestore(lost)) => take(&mut bad, "since", instant(&lost.since))
                .map(|since| Command::AfterRestore(AfterRestore { since })),
            Some(CommandArgs::Backup(FileArgs { file })) => {
                Some(Command::Copy(DatabaseCopy::Backup(file)))
            }
            Some(CommandArgs::Restore(FileArgs { file })) => {
                Some(Command::Copy(DatabaseCopy::Restore(file)))
            }
            Some(CommandArgs::Audit(AuditArgs::Verify(known))) => {
                known.validate(&mut bad).map(Command::VerifyAccessLog)
            }
            Some(CommandArgs::Check(check)) => {
                let serve = settings.serve(&door, &rates, &mut bad);
                let output = OutputArgs::plain(check.json).output();
                serve.map(|serve| Command::Check(Box::new(serve), output))
            }
            Some(CommandArgs::Health(args)) => client(args.call(&mut bad)),
            Some(CommandArgs::Worklist(args)) => client(args.call(&mut bad)),
            Some(CommandArgs::Show(args)) => client(args.call(&mut bad)),
            Some(CommandArgs::Due(args)) => client(args.call(&mut bad)),
            Some(CommandArgs::Import(args)) => client(args.call(&mut bad)),
            Some(CommandArgs::Demo(args)) => client(args.call(&mut bad)),
            Some(CommandArgs::Completions(args)) => Some(Command::Pages(args.into())),
            Some(CommandArgs::Man(args)) => Some(Command::Pages(args.into())),
        };
        let config = || {
            Some(Self {
                command: command?,
                database_url: database_url?,
                log_format: log_format?,
                log_level: log_level?,
            })
        };
        let config = config().filter(|_| bad.is_empty());
        config.ok_or(Error::Settings(bad))
    }
}

impl Settings {
    /// Returns the settings of the service, which other commands do not validate.
    fn serve(
        &self,
        door: &DoorArgs,
        rates: &RatesArgs,
        bad: &mut Vec<BadSetting>,
    ) -> Option<Serve> {
        let listen = take(bad, "listen", listen(&self.listen));
        let sandbox = self.sandbox.validate(bad);
        let send_clock = take(bad, "send-clock", send_clock(&self.send_clock));
        let guarantee_days = guarantee_days(&self.guarantee_days);
        let guarantee_days = take(bad, "guarantee-days", guarantee_days);
        let drain_delay = take(bad, "drain-delay", drain_delay(&self.drain_delay));
        let streams = self.streams.validate(bad);
        let metrics_listen = self
            .metrics_listen
            .as_deref()
            .map(value::listen)
            .transpose();
        let metrics_listen = take(bad, "metrics-listen", metrics_listen);
        let traces = self.traces.validate(bad);
        let door = door.validate(listen, bad);
        let is_private = door
            .as_ref()
            .is_some_and(|door| door.authentication == Authentication::Open && !door.is_insecure);
        let rates = rates.validate(is_private, bad);
        Some(Serve {
            listen: listen?,
            migrate: self.migrate,
            sandbox: sandbox?,
            send_clock: send_clock?,
            guarantee_days: guarantee_days?,
            drain_delay: drain_delay?,
            streams: streams?,
            metrics_listen: metrics_listen?,
            traces: traces?,
            door: door?,
            rates: rates?,
        })
    }
}

impl KnownHeads {
    fn validate(&self, bad: &mut Vec<BadSetting>) -> Option<VerifyAccessLog> {
        let heads = self
            .head
            .iter()
            .map(|text| take(bad, "head", known_head(text)));
        // Every bad one is reported.
        let heads: Vec<Option<KnownHead>> = heads.collect();
        let heads: Option<Vec<KnownHead>> = heads.into_iter().collect();
        Some(VerifyAccessLog { heads: heads? })
    }
}

/// Returns the command for a call of a server.
fn client(call: Option<Client>) -> Option<Command> {
    call.map(|call| Command::Client(Box::new(call)))
}

/// Returns the value of a valid setting, and adds any other to the bad ones.
fn take<T>(bad: &mut Vec<BadSetting>, flag: &'static str, parsed: Result<T, String>) -> Option<T> {
    parsed
        .map_err(|why| bad.push(BadSetting { flag, why }))
        .ok()
}

#[cfg(test)]
mod tests;
