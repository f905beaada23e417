//! The settings: flags, each also an environment variable. The only file that reads the
//! environment.
//!
//! Values are taken as text and judged together, so that everything bad is said at once.

use std::ffi::OsString;
use std::net::SocketAddr;

use chrono::{DateTime, NaiveTime, Utc};
use clap::{Args, Parser, Subcommand};
use tracing::level_filters::LevelFilter;

/// The longest care guarantee that can be set, in days: ten years.
const GUARANTEE_DAYS_MAX: u32 = 3_650;

/// What the service was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where to listen; port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// Where the data is. Holds a password on some databases: never to be printed.
    pub database_url: DatabaseUrl,
    /// Where the sandbox clock starts; none means the real clock.
    pub sandbox_clock: Option<DateTime<Utc>>,
    /// The local time of day at which messages fall due, 06:00 to 22:00.
    pub send_clock: NaiveTime,
    /// Days from the decision on a referral to the end of the care guarantee, 1 to 3650.
    pub guarantee_days: u32,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// The least important lines to log.
    pub log_level: LevelFilter,
}

/// The address of a database, with what is secret in it.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(String);

impl DatabaseUrl {
    /// The address, secrets included.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DatabaseUrl")
    }
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// A JSON object a line.
    Json,
}

/// Why there is no [`Config`].
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
    /// Prints what is wrong, or the help that was asked for, and ends the process: with 0 after
    /// help, else with 2.
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
#[error("--{flag} (CARE_INVITATION_{}) {why}", flag.replace('-', "_").to_uppercase())]
pub struct BadSetting {
    /// The flag, without its dashes; the variable is named after it.
    pub flag: &'static str,
    /// What is wrong.
    pub why: String,
}

/// Care invitations (vårdinbjudan) for specialised outpatient care, as a gRPC service.
///
/// Registers booking requests, invites patients to choose a time, and
/// hands the messages that follow to those who deliver them, when they
/// are due. Each option can be given as an environment variable too.
#[derive(Debug, Parser)]
#[command(name = "care-invitation", version, verbatim_doc_comment)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the service; so does leaving the command out.
    Serve,
}

#[derive(Debug, Args)]
struct Settings {
    /// Where to listen. Port 0 picks a free one, which standard output names.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "ADDRESS:PORT",
        env = "CARE_INVITATION_LISTEN",
        default_value = "127.0.0.1:50051"
    )]
    listen: String,
    /// The database. A SQLite file that is missing is created.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "URL",
        env = "CARE_INVITATION_DATABASE_URL",
        default_value = "sqlite://care-invitation.db"
    )]
    database_url: String,
    /// For trying out, never for patients: the clock starts here, as in
    /// 2026-03-02T09:00:00Z, and stands still until it is moved through
    /// careinvitation.sandbox.v1.ClockService.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        verbatim_doc_comment,
        value_name = "RFC 3339",
        env = "CARE_INVITATION_SANDBOX_CLOCK"
    )]
    sandbox_clock: Option<String>,
    /// Time of day, in Sweden, at which messages fall due, from 06:00 to 22:00.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "HH:MM",
        env = "CARE_INVITATION_SEND_CLOCK",
        default_value = "09:00"
    )]
    send_clock: String,
    /// Days from the decision on a referral to the end of the care guarantee, 1 to 3650.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "DAYS",
        env = "CARE_INVITATION_GUARANTEE_DAYS",
        default_value = "90"
    )]
    guarantee_days: String,
    /// How to write the log, which goes to standard error: text or json.
    #[arg(
        long,
        global = true,
        hide_env_values = true,
        value_name = "FORMAT",
        env = "CARE_INVITATION_LOG_FORMAT",
        default_value = "text"
    )]
    log_format: String,
    /// What to log: off, error, warn, info, debug (a line for every call) or trace.
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
        let Cli { command, settings } = Cli::try_parse_from(line)?;
        match command {
            None | Some(Command::Serve) => settings.judge(),
        }
    }
}

impl Settings {
    fn judge(self) -> Result<Config, Error> {
        let mut bad = Vec::new();
        let listen = take(&mut bad, "listen", listen(&self.listen));
        let database_url = take(&mut bad, "database-url", database_url(self.database_url));
        let sandbox_clock = self.sandbox_clock.as_deref().map(sandbox_clock).transpose();
        let sandbox_clock = take(&mut bad, "sandbox-clock", sandbox_clock);
        let send_clock = take(&mut bad, "send-clock", send_clock(&self.send_clock));
        let guarantee_days = guarantee_days(&self.guarantee_days);
        let guarantee_days = take(&mut bad, "guarantee-days", guarantee_days);
        let log_format = take(&mut bad, "log-format", log_format(&self.log_format));
        let log_level = take(&mut bad, "log-level", log_level(&self.log_level));
        let judged = || {
            Some(Config {
                listen: listen?,
                database_url: database_url?,
                sandbox_clock: sandbox_clock?,
                send_clock: send_clock?,
                guarantee_days: guarantee_days?,
                log_format: log_format?,
                log_level: log_level?,
            })
        };
        judged().ok_or(Error::Settings(bad))
    }
}

/// The value, or a line among the bad ones.
fn take<T>(bad: &mut Vec<BadSetting>, flag: &'static str, judged: Result<T, String>) -> Option<T> {
    judged
        .map_err(|why| bad.push(BadSetting { flag, why }))
        .ok()
}

fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| {
        format!("must be an IP address and a port, such as 127.0.0.1:50051; it is {text:?}")
    })
}

/// The value stays out of the answer, for it may hold a password.
fn database_url(text: String) -> Result<DatabaseUrl, String> {
    if text.starts_with("sqlite:") {
        Ok(DatabaseUrl(text))
    } else {
        Err("must begin with sqlite:, as in sqlite://care-invitation.db".to_owned())
    }
}

fn sandbox_clock(text: &str) -> Result<DateTime<Utc>, String> {
    let at = DateTime::parse_from_rfc3339(text).map_err(|_| {
        format!("must be an instant of RFC 3339, such as 2026-03-02T09:00:00Z; it is {text:?}")
    })?;
    if at < DateTime::UNIX_EPOCH {
        return Err(format!("must not be before 1970; it is {text:?}"));
    }
    Ok(at.to_utc())
}

fn send_clock(text: &str) -> Result<NaiveTime, String> {
    let clock = NaiveTime::parse_from_str(text, "%H:%M").ok();
    clock
        .filter(|clock| text.len() == "HH:MM".len() && is_by_day(*clock))
        .ok_or_else(|| format!("must be HH:MM, from 06:00 to 22:00; it is {text:?}"))
}

fn is_by_day(clock: NaiveTime) -> bool {
    let first = NaiveTime::from_hms_opt(6, 0, 0).expect("06:00 is a time of day");
    let last = NaiveTime::from_hms_opt(22, 0, 0).expect("22:00 is a time of day");
    (first..=last).contains(&clock)
}

fn guarantee_days(text: &str) -> Result<u32, String> {
    let days = text.parse().ok();
    days.filter(|days| (1..=GUARANTEE_DAYS_MAX).contains(days))
        .ok_or_else(|| format!("must be a number from 1 to {GUARANTEE_DAYS_MAX}; it is {text:?}"))
}

fn log_format(text: &str) -> Result<LogFormat, String> {
    match text {
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(format!("must be text or json; it is {text:?}")),
    }
}

fn log_level(text: &str) -> Result<LevelFilter, String> {
    match text {
        "off" => Ok(LevelFilter::OFF),
        "error" => Ok(LevelFilter::ERROR),
        "warn" => Ok(LevelFilter::WARN),
        "info" => Ok(LevelFilter::INFO),
        "debug" => Ok(LevelFilter::DEBUG),
        "trace" => Ok(LevelFilter::TRACE),
        _ => Err(format!(
            "must be off, error, warn, info, debug or trace; it is {text:?}"
        )),
    }
}

#[cfg(test)]
mod tests;
